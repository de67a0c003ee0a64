import csv
import math
from pathlib import Path
from typing import Any

import lightning.fabric.loggers.tensorboard
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timemachine.runs.loggers import open_loggers
from timemachine.runs.metrics import RunLog
from timemachine.runs.validation import validate
from torch import Tensor

from timemachine.config import Logger, Train, Trainer
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import Batch, TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.runs.record import Record
from timemachine.training import steps
from timemachine.training.trainer import build_trainer


def rows(path: Path) -> list[dict[str, float]]:
    """Empty cells are left out."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def end_of_epoch(epoch: int, step: int, **metrics: float) -> dict[str, float]:
    return {"epoch": epoch, "step": step, "clip_fraction": 0.5, "train/perplexity": 10.0 - epoch} | metrics


def step(number: int, epoch: int, **logged: float) -> dict[str, float]:
    return {"epoch": epoch, "step": number, "loss": 3.0, "grad_norm": 2.0, "grad_norm_clipped": 1.0} | logged


def test_an_epoch_is_a_row_with_train_validation_and_test_side_by_side(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for epoch in (1, 2):
        log.log_row({"epoch": epoch, "step": 2 * epoch, "val/perplexity": 8.0})
        log.log_row(end_of_epoch(epoch, 2 * epoch))
    log.log_row({"epoch": 2, "step": 4, "test/perplexity": 8.5})
    log.on_test_end(None, None)  # type: ignore[arg-type]
    found = rows(tmp_path / "metrics.csv")
    first = end_of_epoch(1, 2) | {"val/perplexity": 8.0}
    assert found == [first, end_of_epoch(2, 4) | {"val/perplexity": 8.0, "test/perplexity": 8.5}]


def test_each_validation_is_a_row_and_an_epoch_without_one_repeats_none(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.log_row({"epoch": 1, "step": 2, "val/perplexity": 9.0})
    log.log_row({"epoch": 1, "step": 4, "val/perplexity": 8.0})
    log.log_row(end_of_epoch(1, 5))
    log.log_row(end_of_epoch(2, 10))
    log.log_row({"epoch": 3, "step": 12, "val/perplexity": 7.0})
    log.on_train_end(None, None)  # type: ignore[arg-type]
    found = [(row["epoch"], row["step"], row.get("val/perplexity")) for row in rows(tmp_path / "metrics.csv")]
    assert found == [(1, 2, 9), (1, 4, 8), (1, 5, None), (2, 10, None), (3, 12, 7)]


def test_a_new_name_becomes_a_column_of_either_file(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log.log_steps([step(1, 1), step(2, 1, lr=0.5)])
    log.log_steps([step(3, 1)])
    log.log_row(end_of_epoch(1, 3))
    log.log_row(end_of_epoch(2, 6, bits=2.5))
    assert [row.get("lr") for row in rows(tmp_path / "steps.csv")] == [None, 0.5, None]
    assert [row.get("bits") for row in rows(tmp_path / "metrics.csv")] == [None, 2.5]


def test_an_epoch_is_a_line_where_there_is_no_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for prints in (True, False):
        log = RunLog(tmp_path, prints_lines=prints)
        log.log_row({"epoch": 1, "step": 2, "val/perplexity": 8.0})
        log.log_row(end_of_epoch(1, 2))
        log.log_row(end_of_epoch(2, 4))
        lines = capsys.readouterr().out.splitlines()
        assert [line.split() for line in lines] == prints * [
            ["epoch", "1", "train", "9.000", "val", "8.000"],
            ["epoch", "2", "train", "8.000", "val", "nan"],
        ]


def test_lightning_fills_both_files(tmp_path: Path, sample: Corpus) -> None:
    settings = Train(trainer=Trainer(accelerator="cpu", devices=1, max_epochs=3, enable_progress_bar=False))
    settings.trainer.num_sanity_val_steps, settings.trainer.enable_checkpointing = 0, False
    settings.trainer.enable_model_summary, settings.trainer.gradient_clip_val = False, 0.05
    data = TimeMachine(64, 8, 100, 70, corpus=sample)
    trainer = build_trainer(settings, tmp_path, [RunLog(tmp_path)])
    trainer.fit(model := RNNLMScratch(len(data.vocab), hiddens=4), data)
    last = {name: float(value) for name, value in trainer.callback_metrics.items()}
    trainer.test(model, data, verbose=False)
    last |= {name: float(value) for name, value in trainer.callback_metrics.items()}

    epochs, steps = rows(tmp_path / "metrics.csv"), rows(tmp_path / "steps.csv")
    assert [(row["epoch"], row["step"]) for row in epochs] == [(1, 2), (2, 4), (3, 6)]
    assert [(row["epoch"], row["step"]) for row in steps] == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 5), (3, 6)]
    for epoch in epochs:
        own = [row for row in steps if row["epoch"] == epoch["epoch"]]
        for name in ("grad_norm", "grad_norm_clipped"):
            assert epoch[name] == pytest.approx(sum(row[name] for row in own) / len(own))
        assert epoch["clip_fraction"] == sum(row["grad_norm"] > 0.05 for row in own) / 2
    for name in ("train/perplexity", "val/perplexity", "test/perplexity"):
        assert epochs[-1][name] == pytest.approx(last[name])
    assert all("test/perplexity" not in row for row in epochs[:-1])


def fitted(folder: Path, sample: Corpus, model: RNNLMScratch | None = None, **chosen: Any) -> RNNLMScratch:
    """A run of two epochs of five steps, or one that goes on."""
    settings = Train(trainer=Trainer(accelerator="cpu", devices=1, gradient_clip_val=1.0, **{"max_epochs": 2} | chosen))
    data = TimeMachine(64, 8, 310, 70, corpus=sample)
    folder.mkdir(exist_ok=True)
    model = model or RNNLMScratch(28, hiddens=4, sigma=0.1)
    trainer, last = build_trainer(settings, folder, [RunLog(folder)], quiet=True), folder / "checkpoints" / "last.ckpt"
    if last.exists():
        validate(folder, trainer, model, data)
    trainer.fit(model, data, ckpt_path=last if last.exists() else None)
    return model


class OwnStep(RNNLMScratch):
    """A loss of one's own, an optimiser and a schedule of one's own, and what is logged of each step."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.nll(batch).square().mean()
        self.log("own", loss.detach(), on_step=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.RMSprop(self.parameters(), 0.01, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def test_a_training_step_and_an_optimiser_of_ones_own_train_are_logged_and_go_on(
    sample: Corpus, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    whole = fitted(tmp_path / "whole", sample, OwnStep(28, hiddens=4, sigma=0.1), max_epochs=3)
    steps, epochs = rows(tmp_path / "whole" / "steps.csv"), rows(tmp_path / "whole" / "metrics.csv")
    assert [row["step"] for row in steps] == [*range(1, 16)]
    assert all(row["loss"] == row["own"] and math.isfinite(row["loss"]) for row in steps)
    assert [row["lr"] for row in epochs] == [0.005, 0.0025, 0.00125]
    for max_epochs in (1, 3):
        torch.manual_seed(0)
        again = fitted(tmp_path / "again", sample, OwnStep(28, hiddens=4, sigma=0.1), max_epochs=max_epochs)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
    assert (tmp_path / "again" / "steps.csv").read_text() == (tmp_path / "whole" / "steps.csv").read_text()


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

    data = TimeMachine(64, 8, 310, 70, corpus=sample)
    settings = Train(trainer=Trainer(accelerator="cpu", devices=1, max_epochs=1, accumulate_grad_batches=3))
    trainer = build_trainer(settings, tmp_path, [RunLog(tmp_path), Reads()], quiet=True)
    trainer.fit(model, data)
    steps = rows(tmp_path / "steps.csv")
    expected = [sum(losses[:3]) / 3, sum(losses[3:]) / 2]
    assert [row["loss"] for row in steps] == pytest.approx(expected, rel=1e-6)
    assert [row["grad_norm"] for row in steps] == pytest.approx(norms, rel=1e-5)


def test_validation_in_mid_epoch_takes_no_time_from_the_speed(
    sample: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that shows a second more after each batch, and a thousand after each validation."""
    clock = [0.0]
    monkeypatch.setattr(steps, "perf_counter", lambda: clock[0])

    class Clock(Callback):
        def on_train_batch_start(self, *_: Any) -> None:
            clock[0] += 1

        def on_validation_batch_start(self, *_: Any) -> None:
            clock[0] += 1000

    data = TimeMachine(64, 8, 320, 70, corpus=sample)
    settings = Train(trainer=Trainer(accelerator="cpu", devices=1, max_epochs=2, val_check_interval=2))
    build_trainer(settings, tmp_path, [RunLog(tmp_path), Clock()], quiet=True).fit(RNNLMScratch(28, hiddens=4), data)
    ends = [row for row in rows(tmp_path / "metrics.csv") if "chars_per_second" in row]
    assert [row["chars_per_second"] for row in ends] == [320 * 8 / 5] * 2


def test_a_run_that_goes_on_at_another_rate_has_it(sample: Corpus, tmp_path: Path) -> None:
    fitted(tmp_path, sample, RNNLMScratch(28, hiddens=4, lr=0.5), max_epochs=1)
    fitted(tmp_path, sample, RNNLMScratch(28, hiddens=4, lr=0.25), max_epochs=2)
    assert [row["lr"] for row in rows(tmp_path / "metrics.csv")] == [0.5, 0.25]


@pytest.mark.parametrize(
    ("terminal", "asked", "prints"), [(True, None, False), (False, None, True), (True, False, True)]
)
def test_lines_are_printed_exactly_where_no_bar_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, asked: bool | None, prints: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    settings = Train(trainer=Trainer(enable_progress_bar=asked))
    with open_loggers(settings, Record(tmp_path, {}, False)) as (log,):
        assert isinstance(log, RunLog)
        assert log.prints_lines == prints


def test_without_tensorboard_one_line_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_TENSORBOARD_AVAILABLE", "_TENSORBOARDX_AVAILABLE"):
        monkeypatch.setattr(lightning.fabric.loggers.tensorboard, name, False)
    settings = Train(logger=Logger(tensorboard=True))
    opened = open_loggers(settings, Record(tmp_path, {}, False))
    with pytest.raises(SettingError, match=r"^logger=tensorboard: .*type pip install -e '.\[tensorboard\]'$"), opened:
        pass


def test_tensorboard_gets_the_numbers_of_metrics_and_steps(tmp_path: Path) -> None:
    settings = Train(logger=Logger(tensorboard=True), trainer=Trainer(max_epochs=2, enable_progress_bar=False))
    data = TimeMachine(batch_size=32, num_steps=4, num_train=64, num_val=32, corpus=find_corpus("sample", []))
    with open_loggers(settings, Record(tmp_path, {}, False)) as loggers:
        build_trainer(settings, tmp_path, loggers, quiet=True).fit(RNNLMScratch(28), data)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for file, names in (
        ("metrics.csv", ("train/perplexity", "val/perplexity", "clip_fraction")),
        ("steps.csv", ("loss", "grad_norm", "grad_norm_clipped")),
    ):
        for name in names:
            assert [event.value for event in events.Scalars(name)] == pytest.approx(
                [row[name] for row in rows(tmp_path / file)]
            )
