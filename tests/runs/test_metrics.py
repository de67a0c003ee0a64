import csv
import math
from pathlib import Path

import lightning.fabric.loggers.tensorboard
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from timemachine.config import Logger, Train, Trainer
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.runs.loggers import open_loggers
from timemachine.runs.metrics import RunLog
from timemachine.runs.record import Record
from timemachine.training.trainer import build_trainer


def rows(path: Path) -> list[dict[str, float]]:
    """Empty cells are left out."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def step(number: int, epoch: int, norm: float = 2.0) -> dict[str, float]:
    return {"step": number, "loss": 3.0, "grad_norm": norm, "grad_norm_clipped": min(norm, 1.0), "epoch": epoch}


def hook(log: RunLog, name: str) -> None:
    """Call a callback's hook, of which RunLog reads no argument."""
    getattr(log, name)(None, None)


def log_epoch(log: RunLog, epoch: int, norms: tuple[float, ...] = (2.0, 0.5), val: float | None = 8.0) -> None:
    """An epoch of two steps as Lightning logs it, which counts from 0: validation, the steps, training."""
    last = 2 * epoch + 1
    hook(log, "on_train_epoch_start")
    if val is not None:
        log.log_metrics({"val/perplexity": val, "epoch": epoch}, last)
    log.log_steps([step(2 * epoch + index + 1, epoch, norm) for index, norm in enumerate(norms)], {})
    hook(log, "on_train_epoch_end")
    train = {"train/perplexity": 9.0 - epoch, "clip_fraction": 0.5, "chars_per_second": 1e6, "epoch": epoch}
    log.log_metrics(train, last)  # before the checkpoint
    log.log_metrics(train, last)  # by Lightning


def test_an_epoch_is_a_row_with_train_and_validation_side_by_side(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for epoch in range(2):
        log_epoch(log, epoch)
    first = {"epoch": 1, "step": 2, "train/perplexity": 9, "val/perplexity": 8, "grad_norm": 1.25}
    first |= {"grad_norm_clipped": 0.75, "clip_fraction": 0.5, "chars_per_second": 1e6}
    assert rows(tmp_path / "metrics.csv") == [first, first | {"epoch": 2, "step": 4, "train/perplexity": 8}]
    steps = rows(tmp_path / "steps.csv")
    assert [(row["epoch"], row["step"]) for row in steps] == [(1, 1), (1, 2), (2, 3), (2, 4)]
    assert [(row["grad_norm"], row["grad_norm_clipped"]) for row in steps] == [(2, 1), (0.5, 0.5)] * 2


def test_an_epoch_without_validation_repeats_none(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for epoch, val in enumerate([None, 8.0, None, 7.0]):
        log_epoch(log, epoch, val=val)
    assert [row.get("val/perplexity") for row in rows(tmp_path / "metrics.csv")] == [None, 8, None, 7]


def test_the_test_perplexity_stands_in_the_last_row(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    for epoch in range(3):
        log_epoch(log, epoch)
    before = rows(tmp_path / "metrics.csv")
    hook(log, "on_test_start")
    log.log_metrics({"test/perplexity": 8.5, "epoch": 3}, 6)
    assert rows(tmp_path / "metrics.csv") == [*before[:2], before[2] | {"test/perplexity": 8.5}]


def test_both_files_are_written_once_an_epoch(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log_epoch(log, 0)
    metrics, steps = ((tmp_path / name).read_text() for name in ("metrics.csv", "steps.csv"))
    log.log_steps([step(3, epoch=1)], {})
    assert (tmp_path / "steps.csv").read_text() == steps
    log_epoch(log, 1)
    assert (tmp_path / "metrics.csv").read_text().startswith(metrics)
    assert (tmp_path / "steps.csv").read_text().startswith(steps)


def test_the_steps_of_an_epoch_that_broke_off_are_kept(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log_epoch(log, 0)
    log.log_steps([step(3, epoch=1, norm=math.inf)], {})
    log.finalize("failed")
    log.finalize("failed")  # Lightning may call it twice
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == [1, 2, 3]
    assert rows(tmp_path / "steps.csv")[-1]["grad_norm"] == math.inf
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == [1]


def test_a_run_that_goes_on_in_its_folder_keeps_what_was_there(tmp_path: Path) -> None:
    log_epoch(RunLog(tmp_path), 0)
    again = RunLog(tmp_path)
    log_epoch(again, 1)
    hook(again, "on_test_start")
    again.log_metrics({"test/perplexity": 8.5, "epoch": 2}, 4)
    epochs = rows(tmp_path / "metrics.csv")
    assert [(row["epoch"], row.get("test/perplexity")) for row in epochs] == [(1, None), (2, 8.5)]
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == [1, 2, 3, 4]


def test_an_epoch_is_a_line_where_there_is_no_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = RunLog(tmp_path, prints_lines=True)
    log_epoch(log, 0)
    log_epoch(log, 1, val=None)
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["epoch", "1", "train", "9.000", "val", "8.000"]
    assert second.split() == ["epoch", "2", "train", "8.000", "val", "nan"]
    log_epoch(RunLog(tmp_path), 0)
    assert not capsys.readouterr().out


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


# --- Weights & Biases ---


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
