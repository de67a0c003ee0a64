"""metrics.csv and steps.csv, and the metrics that Lightning's loggers receive."""

import math
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.runs import fit, rows
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.regularized.language_model import RegularizedRNNLM
from timemachine.run import recorder
from timemachine.run.progress import silence
from timemachine.run.recorder import Recorder
from timemachine.run.run import Run
from timemachine.run.summary import new_summary


def data_of(sample: Corpus, num_train: int = 310) -> TimeMachine:
    """Return data with five batches."""
    return TimeMachine(64, 8, num_train, 70, corpus=sample)


# Rows


def test_own_metrics_are_in_epochs(sample: Corpus, tmp_path: Path) -> None:
    """metrics.csv has the last value of a metric of each step, and the mean if Lightning computes it."""

    class Model(RNNLMScratch):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("both", float(batch_idx), on_step=True, on_epoch=True)
            return super().training_step(batch, batch_idx)

    class Logs(Callback):
        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            module.log("last", float(batch_idx))

        def on_validation_epoch_end(self, trainer: Any, module: Any) -> None:
            module.log("val/own", 1.0)

    fit(tmp_path, Model(28, hiddens=4), data_of(sample), [Logs()], max_epochs=2, val_check_interval=2)
    steps, epochs = rows(tmp_path / "steps.csv"), rows(tmp_path / "metrics.csv")
    mean = (0 * 64 + 1 * 64 + 2 * 64 + 3 * 64 + 4 * 54) / 310  # Lightning weights batches by their number of windows
    found = [(row["last"], row["both_step"], row.get("both_epoch"), row.get("val/own")) for row in epochs]
    first = [(1, 1, None, 1), (3, 3, None, 1), (4, 4, pytest.approx(mean), None)]
    assert found == [*first, *first[:2], (4, 4, pytest.approx(mean), 1)]  # the last step is validated
    assert steps[0].keys() == {"epoch", "step", "loss", "grad_norm", "grad_norm_clipped"}


class Clock(Callback):
    """A clock that advances by one second per batch and by a thousand per batch of the validation."""

    now = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        self.now += 1

    def on_validation_batch_start(self, *_: Any) -> None:
        self.now += 1000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(recorder, "perf_counter", lambda: clock.now)
    return clock


def test_speed_leaves_out_validation(sample: Corpus, tmp_path: Path, clock: Clock) -> None:
    model, data = RNNLMScratch(28, hiddens=4), data_of(sample, 320)
    fit(tmp_path, model, data, [clock], max_epochs=2, val_check_interval=2)
    ends = [row for row in rows(tmp_path / "metrics.csv") if "chars_per_second" in row]
    assert [row["chars_per_second"] for row in ends] == [320 * 8 / 5] * 2


# The final numbers

CURVES = [
    {"epoch": 1, "step": 2, "val/perplexity": 8.25, "val/bits_per_byte": 3.0},
    {"epoch": 2, "step": 3, "val/perplexity": 7.25, "val/bits_per_byte": 2.75},
    {"epoch": 3, "step": 4, "val/perplexity": 7.25, "val/bits_per_byte": 2.875, "test/perplexity": 8.5},
]
STEPS = [[1, 1, 2.5, 0.5, 0.5], [1, 2, 2.25, 1.25, 1.0], [2, 3, 1.75, 3.0, 1.0], [3, 4, 1.5, 0.25, 0.25]]
FINAL = {
    "epoch": 3, "step": 4, "val/perplexity": 7.25, "val/bits_per_byte": 2.875, "test/perplexity": 8.5,
    "best_val/perplexity": 7.25, "best_epoch": 2, "val/bits_per_byte_at_best_epoch": 2.75,
    "clipped_steps": 2, "num_steps_done": 4, "largest_grad_norm": 3.0,
}  # fmt: skip


def test_final_numbers_and_best_epoch(tmp_path: Path) -> None:
    """Of equal epochs the first one is the best, as in best.ckpt."""
    recorder = Recorder(Run(tmp_path, new_summary({}, [], "none")), {})
    recorder.run.curves = CURVES
    recorder.steps = [torch.tensor(STEPS, dtype=torch.float64)]
    assert recorder.final_numbers() == FINAL


@pytest.mark.parametrize(
    ("validations", "status", "has_learned"),
    [([27.0, 20.0], "completed", True), ([28.2, 28.1], "completed", False), ([28.1], "completed", False),
     ([28.1, 28.2], "diverged", False), ([500.0], "diverged", False), ([20.0, 1e9], "diverged", False)],
)  # fmt: skip
def test_outcome(validations: list[float], status: str, has_learned: bool, tmp_path: Path) -> None:
    recorder = Recorder(Run(tmp_path, new_summary({}, [], "none")), {})
    recorder.run.curves = [{"epoch": n, "step": n, "val/perplexity": value} for n, value in enumerate(validations, 1)]
    recorder.run.summary["metrics"] = recorder.final_numbers() | {"train/perplexity": 20.0}
    assert (recorder.outcome(28)[0], recorder.outcome(28)[1] is None) == (status, has_learned)


def test_outcome_of_an_own_metric_that_ends_as_nan(tmp_path: Path) -> None:
    """A search counts it as inf and continues."""
    recorder = Recorder(Run(tmp_path, new_summary({"optimized_metric": "score"}, [], "none")), {})
    recorder.run.curves = [{"epoch": 1, "step": 1, "score": 1.0}, {"epoch": 2, "step": 2, "score": math.nan}]
    recorder.run.summary["metrics"] = recorder.final_numbers()
    assert recorder.run.metrics["best_score"] == 1 and recorder.outcome(28)[0] == "diverged"


# Loggers


def test_tensorboard_gets_all_metrics(sample: Corpus, tmp_path: Path) -> None:
    """Of the steps it gets each n-th one."""
    logger = TensorBoardLogger(tmp_path, name="", version="tensorboard")
    fit(tmp_path, RNNLMScratch(28, hiddens=4), data_of(sample), logger=logger, max_epochs=4, log_every_n_steps=2)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    of_epoch = ("train/perplexity", "val/perplexity", "val/bits_per_byte", "clip_fraction", "chars_per_second", "lr")
    for file, names in (("metrics.csv", of_epoch), ("steps.csv", ("loss", "grad_norm", "grad_norm_clipped"))):
        written = [row for row in rows(tmp_path / file) if file == "metrics.csv" or row["step"] % 2 == 0]
        for name in names:
            found = [(event.step, event.value) for event in events.Scalars(name)]
            assert found == [(row["step"] - 1, pytest.approx(row[name])) for row in written]


# Without train.py


def test_a_plain_trainer(tmp_path: Path) -> None:
    """Its logger gets the arguments of both classes, and its checkpoint rebuilds both."""
    data = TimeMachine(batch_size=64, num_train=310, num_val=70, corpus="sample", tokens="characters")
    network: dict[str, Any] = {"hiddens": 6, "lr": 0.5, "input": "embedding", "embedding_dim": 5}
    model = RegularizedRNNLM(len(data.vocab), optimizer="adamw", input_dropout=0.1, **network)
    logger = CSVLogger(tmp_path, name="logs", version="")
    silence()
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", max_epochs=1, logger=logger, **quiet)
    trainer.fit(model, data)
    logged = yaml.safe_load((tmp_path / "logs/hparams.yaml").read_text())
    assert logged == dict(model.hparams) | {"data": dict(data.hparams)}
    (path,) = tmp_path.glob("logs/checkpoints/*.ckpt")
    rebuilt = RegularizedRNNLM.load_from_checkpoint(path, weights_only=True)
    assert rebuilt.hparams == model.hparams
    for name, weight in model.state_dict().items():
        assert torch.equal(rebuilt.state_dict()[name], weight)
    again = TimeMachine.load_from_checkpoint(path, weights_only=True)
    assert again.hparams == data.hparams and again.vocab.idx_to_token == data.vocab.idx_to_token
    assert torch.equal(again.tokens_N, data.tokens_N) and again.splits == data.splits
