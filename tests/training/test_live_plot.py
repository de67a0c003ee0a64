"""LivePlot: every epoch is in its curves, and one figure in a notebook is drawn again and again."""

from typing import Any

import IPython.display
import pytest
from IPython.core import getipython
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.training.lightning import silence
from timemachine.training.live_plot import LivePlot

PNG = b"\x89PNG"


class Handle:
    """What IPython gives for a figure that shall be drawn again."""

    def __init__(self) -> None:
        self.drawn: list[bytes] = []

    def update(self, image: Any) -> None:
        self.drawn.append(image.data)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Handle:
    handle = Handle()

    def display(image: Any, *, display_id: bool) -> Handle:
        assert display_id and not handle.drawn
        handle.update(image)
        return handle

    monkeypatch.setattr(getipython, "get_ipython", object)
    monkeypatch.setattr(IPython.display, "display", display)
    return handle


class Numbers(Callback):
    """Both perplexities of each epoch, read where it is certain that they are logged."""

    def __init__(self) -> None:
        self.val: list[float] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.val.append(float(trainer.callback_metrics["val/perplexity"]))


def fit(sample: Corpus, plot: LivePlot, epochs: int = 3) -> list[float]:
    silence()
    data, numbers = TimeMachine(32, 8, 64, 32, corpus=sample), Numbers()
    Trainer(
        max_epochs=epochs, callbacks=[plot, numbers], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    ).fit(RNNLMScratch(len(data.vocab), hiddens=8), data)  # fmt: skip
    return numbers.val


def test_curves_have_both_numbers_of_each_epoch(sample: Corpus, notebook: Handle) -> None:
    plot = LivePlot(seconds=0)
    val = fit(sample, plot)
    assert plot.curves["val"] == list(enumerate(val, 1))
    assert [epoch for epoch, _ in plot.curves["train"]] == [1, 2, 3]
    assert 20 < plot.curves["train"][-1][1] < plot.curves["train"][0][1]


@pytest.mark.parametrize(("seconds", "drawn"), [(0, 4), (1000, 2)])
def test_one_figure_grows_as_often_as_asked(seconds: float, drawn: int, sample: Corpus, notebook: Handle) -> None:
    """Before each epoch and at the end, or only the first time and at the end."""
    fit(sample, LivePlot(seconds))
    assert len(notebook.drawn) == len(set(notebook.drawn)) == drawn
    assert all(image.startswith(PNG) for image in notebook.drawn)


def test_a_program_that_is_no_notebook_has_the_bar_alone(sample: Corpus, capsys: pytest.CaptureFixture[str]) -> None:
    plot = LivePlot(seconds=0)
    fit(sample, plot)
    output = capsys.readouterr().out
    assert len(plot.curves["val"]) == 3 and "IPython" not in output
    assert "Epoch 3: 100%" in output and "Validation" not in output
