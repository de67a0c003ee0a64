"""LivePlot: the curves have every epoch, and a notebook updates a single figure."""

from types import SimpleNamespace
from typing import Any

import IPython.display
import pytest
from IPython.core import getipython
from lightning.pytorch import Trainer

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.run.lightning import silence
from timemachine.run.live_plot import LivePlot


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Record the figures that a notebook displays."""
    images: list[bytes] = []
    handle = SimpleNamespace(update=lambda image: images.append(image.data))

    def display(image: Any, *, display_id: bool) -> SimpleNamespace:
        assert display_id and not images
        handle.update(image)
        return handle

    monkeypatch.setattr(getipython, "get_ipython", lambda: SimpleNamespace(kernel=None))
    monkeypatch.setattr(IPython.display, "display", display)
    return images


def fit(sample: Corpus, plot: LivePlot, max_epochs: int = 3, **chosen: Any) -> float:
    """Train and return the validation perplexity of the last epoch."""
    silence()
    data = TimeMachine(32, 8, 64, 32, corpus=sample)
    chosen |= {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_epochs=max_epochs, callbacks=[plot], enable_model_summary=False, num_sanity_val_steps=0, **chosen
    )
    trainer.fit(RNNLMScratch(len(data.vocab), hiddens=8), data)
    return float(trainer.callback_metrics["val/perplexity"])


@pytest.mark.parametrize(("seconds", "times"), [(0, 4), (1000, 2)])
def test_figure_is_redrawn_as_asked(seconds: float, times: int, sample: Corpus, drawn: list[bytes]) -> None:
    """The figure is drawn before each epoch and at the end, or only at the start and at the end."""
    plot = LivePlot(seconds)
    val = fit(sample, plot)
    assert [[epoch for epoch, _ in curve] for curve in plot.curves.values()] == [[1, 2, 3], [1, 2, 3]]
    assert plot.curves["val"][-1][1] == val
    assert len(drawn) == len(set(drawn)) == times
    assert all(image.startswith(b"\x89PNG") for image in drawn)
