"""Plot the curves in a notebook while a model trains, as the book's `ProgressBoard` does."""

from io import BytesIO
from time import monotonic
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ProgressBar

COLOURS = {"train": "#0072B2", "val": "#D55E00"}


class LivePlot(ProgressBar):
    """Draws both perplexities over epochs: `Trainer(callbacks=[LivePlot()])`. Outside a notebook it draws nothing.

    `seconds`: minimum time between drawings; the last epoch is always drawn. `curves`: for `train` and `val`, a list of
    (epoch, perplexity) of the last fit. As a `ProgressBar` it replaces Lightning's bar, which uses Rich and fails on
    some hosted notebooks.
    """

    def __init__(self, seconds: float = 0.5) -> None:
        super().__init__()
        self.seconds = seconds
        self.on_train_start()

    def on_train_start(self, *_: Any) -> None:
        """Start a new figure."""
        self.curves: dict[str, list[tuple[int, float]]] = {name: [] for name in COLOURS}
        self._drawn = -self.seconds
        self._handle: Any = None

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Add the validation perplexity of the epoch in progress."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._add("val", trainer, trainer.current_epoch + 1)

    def on_train_epoch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        """Add the training perplexity of the previous epoch, which is logged after all its hooks."""
        if trainer.current_epoch:
            self._add("train", trainer, trainer.current_epoch)
        if monotonic() - self._drawn >= self.seconds:
            self._draw(trainer)

    def on_train_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Add and draw the last epoch."""
        self._add("train", trainer, trainer.current_epoch)
        self._draw(trainer)

    def _add(self, name: str, trainer: pl.Trainer, epoch: int) -> None:
        if (value := trainer.callback_metrics.get(f"{name}/perplexity")) is not None:
            self.curves[name].append((epoch, float(value)))

    def _draw(self, trainer: pl.Trainer) -> None:
        from IPython.core.getipython import get_ipython
        from IPython.display import Image, display
        from matplotlib.figure import Figure

        if not hasattr(get_ipython(), "kernel"):  # plain Python, or IPython in a terminal
            return
        figure = Figure(figsize=(5, 3), dpi=100, layout="constrained")
        axes: Any = figure.subplots()
        for name, curve in self.curves.items():
            label = f"{name} {curve[-1][1]:.2f}" if curve else name
            axes.plot(*zip(*curve, strict=True) if curve else ([], []), color=COLOURS[name], label=label)
        last = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None  # None: the axis ends at the last epoch
        axes.set(xlabel="epoch", ylabel="perplexity", xlim=(0, last), ylim=(0, None))
        axes.legend(loc="upper right")
        png = BytesIO()
        figure.savefig(png, format="png")
        image = Image(png.getvalue())  # type: ignore[no-untyped-call]
        if self._handle is None:
            self._handle = display(image, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(image)
        self._drawn = monotonic()
