"""What a run logs: into both tables, to those that take rows, to Lightning's other loggers, and into the bar."""

import re
from pathlib import Path
from typing import Any

import lightning.fabric.loggers.tensorboard
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.programs import assert_succeeded, call_program
from tests.support.runs import fit, rows
from timemachine.config import Train, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError, UserError
from timemachine.language_model import RNNLMScratch
from timemachine.runs.record import Record
from timemachine.runs.rows import Row
from timemachine.training import run_log
from timemachine.training.run_log import TakesRows
from timemachine.training.trainer import open_loggers

NAME = "lightning.pytorch.loggers.TensorBoardLogger"
TENSORBOARD = {"tensorboard": {"_target_": NAME, "name": "", "version": "tensorboard"}}


class Taker(Callback):
    """Keeps the rows that it is given."""

    def __init__(self) -> None:
        self.steps: list[Row] = []
        self.rows: dict[tuple[int, int], Row] = {}

    def log_steps(self, rows: list[Row]) -> None:
        self.steps += rows

    def log_row(self, row: Row) -> None:
        self.rows.setdefault((row["epoch"], row["step"]), {}).update(row)


class Gives(Callback):
    """Gives the loggers a number at an epoch's end, as LearningRateMonitor does."""

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"own": trainer.current_epoch}, step=trainer.global_step)


class Logs(Callback):
    """Logs a number in a hook by `self.log`: the batch's, or 1."""

    def __init__(self, hook: str, name: str) -> None:
        def log(trainer: Any, module: Any, *batch: Any) -> None:
            module.log(name, float(batch[-1]) if batch else 1.0)

        setattr(self, hook, log)


def data_of(sample: Corpus, num_train: int = 310) -> TimeMachine:
    """Five batches."""
    return TimeMachine(64, 8, num_train, 70, corpus=sample)


def test_an_epoch_is_a_row_with_train_validation_and_test_side_by_side(sample: Corpus, tmp_path: Path) -> None:
    model, data, taker = RNNLMScratch(28, hiddens=4), data_of(sample, 100), Taker()
    assert isinstance(taker, TakesRows)
    trainer = fit(tmp_path, model, data, [taker, Gives()], max_epochs=3)
    expected = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.test(model, data, verbose=False)
    expected |= {name: float(value) for name, value in trainer.callback_metrics.items()}

    epochs, steps = rows(tmp_path / "metrics.csv"), rows(tmp_path / "steps.csv")
    assert [(row["epoch"], row["step"]) for row in epochs] == [(1, 2), (2, 4), (3, 6)]
    assert [(row["epoch"], row["step"]) for row in steps] == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6)]
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        assert epochs[-1][name] == pytest.approx(expected[name])
    assert all("test/perplexity" not in row for row in epochs[:-1])
    assert [row["own"] for row in epochs] == [0, 1, 2]
    assert steps == taker.steps and epochs == list(taker.rows.values())


def test_a_step_of_several_batches_has_their_mean_loss_and_the_norm_of_its_gradient(
    sample: Corpus, tmp_path: Path
) -> None:
    """Lightning divides each loss by the number of batches, in an epoch's last step too, which has fewer."""
    torch.manual_seed(0)
    model = RNNLMScratch(28, hiddens=4, sigma=0.1, backward="autograd")
    losses, norms = [], []

    class Reads(Callback):
        def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
            norms.append(torch.nn.utils.get_total_norm([p.grad for p in module.parameters()]).item())

        def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
            with torch.no_grad():
                losses.append(module.nll(batch).mean().item())

    fit(tmp_path, model, data_of(sample), [Reads()], max_epochs=1, accumulate_grad_batches=3)
    steps = rows(tmp_path / "steps.csv")
    assert [row["loss"] for row in steps] == pytest.approx([sum(losses[:3]) / 3, sum(losses[3:]) / 2], rel=1e-6)
    assert [row["grad_norm"] for row in steps] == pytest.approx(norms, rel=1e-5)


def test_what_is_logged_as_a_batch_ends_is_in_the_row_of_its_step(sample: Corpus, tmp_path: Path) -> None:
    class Model(RNNLMScratch):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("model", float(batch_idx), on_step=True)

    model, logs = Model(28, hiddens=4), Logs("on_train_batch_end", "own")
    fit(tmp_path, model, data_of(sample), [logs], max_epochs=2, accumulate_grad_batches=2, val_check_interval=2)
    steps = rows(tmp_path / "steps.csv")
    assert [(row["own"], row["model"]) for row in steps] == [(1, 1), (3, 3), (4, 4)] * 2


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        ("on_train_batch_end", "grad_norm_clipped"),
        ("on_train_epoch_end", "lr"),
        ("on_train_epoch_end", "val/perplexity"),
        ("on_validation_epoch_end", "clip_fraction"),
        ("on_test_epoch_end", "test/perplexity"),
    ],
)
def test_a_name_of_the_runs_own_numbers_is_refused(hook: str, name: str, sample: Corpus, tmp_path: Path) -> None:
    model, data = RNNLMScratch(28, hiddens=4), data_of(sample)
    with pytest.raises(UserError, match=rf'^self.log\("{name}", …\): .*; type another name, such as "own/{name}"$'):
        fit(tmp_path, model, data, [Logs(hook, name)], max_epochs=1).test(model, data, verbose=False)


def test_epoch_and_step_of_a_row_are_the_runs(sample: Corpus, tmp_path: Path) -> None:
    """By `self.log("step", …)` Lightning's users choose the axis of TensorBoard."""
    for max_epochs in (1, 3):  # the second one goes on
        logs = [Logs(f"on_train_{hook}_end", name) for hook in ("batch", "epoch") for name in ("epoch", "step")]
        fit(tmp_path, RNNLMScratch(28, hiddens=4), data_of(sample), logs, max_epochs=max_epochs)
    assert [(row["epoch"], row["step"]) for row in rows(tmp_path / "metrics.csv")] == [(1, 5), (2, 10), (3, 15)]
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == [*range(1, 16)]


def test_validation_in_mid_epoch_takes_no_time_from_the_speed(
    sample: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that shows a second more after each batch, and a thousand after each validation."""
    clock = [0.0]
    monkeypatch.setattr(run_log, "perf_counter", lambda: clock[0])

    class Clock(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            clock[0] += 1

        def on_validation_batch_start(self, *_: Any) -> None:
            clock[0] += 1000

    model, data = RNNLMScratch(28, hiddens=4), data_of(sample, 320)
    fit(tmp_path, model, data, [Clock()], max_epochs=2, val_check_interval=2)
    ends = [row for row in rows(tmp_path / "metrics.csv") if "chars_per_second" in row]
    assert [row["chars_per_second"] for row in ends] == [320 * 8 / 5] * 2


def test_without_tensorboard_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(lightning.fabric.loggers.tensorboard, name, False)
    opened = open_loggers(Train(logger=TENSORBOARD), Record(tmp_path, {}, False))
    with pytest.raises(SettingError, match=r"^logger.tensorboard: .*`tensorboard`.*[Tt]ry `pip install"), opened:
        pass


def test_tensorboard_gets_the_numbers_of_metrics_and_steps(sample: Corpus, tmp_path: Path) -> None:
    settings = Train(logger=TENSORBOARD)
    with open_loggers(settings, Record(tmp_path, to_dict(settings), False)) as loggers:
        fit(tmp_path, RNNLMScratch(28, hiddens=4), data_of(sample), loggers, settings, max_epochs=2)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for file, name in (("metrics.csv", "train/perplexity"), ("metrics.csv", "val/perplexity"), ("steps.csv", "loss")):
        found = [(event.step, event.value) for event in events.Scalars(name)]
        assert found == [(row["step"] - 1, pytest.approx(row[name])) for row in rows(tmp_path / file)]


def test_the_progress_bar_takes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    shown = ("trainer.enable_progress_bar=true", "trainer.max_epochs=1", "trainer.limit_test_batches=0")
    done = call_program("train.py", "data=sample", "model.hiddens=4", "logger=csv", f"hydra.run.dir={tmp_path}", *shown)
    assert_succeeded(done)
    (bar,) = (line for line in done.stdout.splitlines() if line.startswith("Epoch"))
    assert len(bar) <= 80
    assert re.search(r"^Epoch 1/1 +[━╸╺]+ 10/10 (.*[\d.]+it/s )?train: [\d.]+ val: [\d.]+ *$", bar)
