import builtins
import csv
import getpass
import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
from lightning.pytorch.loggers import Logger, WandbLogger

from timemachine.config import Logger as LoggerSettings
from timemachine.config import Train, Trainer, Wandb, WandbMode
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.tracking import RunLog, build_loggers, finish_wandb
from timemachine.training import build_trainer


def rows(path: Path) -> list[dict[str, float]]:
    """Empty cells are left out."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


def step(number: int, epoch: int, norm: float = 2.0) -> tuple[dict[str, float], int]:
    return {"loss": 3.0, "grad_norm": norm, "grad_norm_clipped": min(norm, 1.0), "epoch": epoch}, number


def log_epoch(log: RunLog, epoch: int, norms: tuple[float, ...] = (2.0, 0.5), val: float | None = 8.0) -> None:
    """An epoch of two steps as Lightning logs it, which counts from 0: validation, the steps, training."""
    last = 2 * epoch + 1
    if val is not None:
        log.log_metrics({"val/perplexity": val, "epoch": epoch}, last)
    for index, norm in enumerate(norms):
        log.log_metrics(*step(2 * epoch + index + 1, epoch, norm))
    train = {"train/perplexity": 9.0 - epoch, "clip_fraction": 0.5, "chars_per_second": 1e6, "epoch": epoch}
    log.log_metrics(train, last)


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
    log.log_metrics({"test/perplexity": 8.5, "epoch": 3}, 6)
    assert rows(tmp_path / "metrics.csv") == [*before[:2], before[2] | {"test/perplexity": 8.5}]


def test_both_files_are_written_once_an_epoch(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log_epoch(log, 0)
    metrics, steps = ((tmp_path / name).read_text() for name in ("metrics.csv", "steps.csv"))
    log.log_metrics(*step(3, epoch=1))
    assert (tmp_path / "steps.csv").read_text() == steps
    log_epoch(log, 1)
    assert (tmp_path / "metrics.csv").read_text().startswith(metrics)
    assert (tmp_path / "steps.csv").read_text().startswith(steps)


def test_the_steps_of_an_epoch_that_broke_off_are_kept(tmp_path: Path) -> None:
    log = RunLog(tmp_path)
    log_epoch(log, 0)
    log.log_metrics(*step(3, epoch=1, norm=math.inf))
    log.finalize("failed")
    log.finalize("failed")  # Lightning may call it twice
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == [1, 2, 3]
    assert rows(tmp_path / "steps.csv")[-1]["grad_norm"] == math.inf
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == [1]


def test_a_run_that_goes_on_in_its_folder_keeps_what_was_there(tmp_path: Path) -> None:
    log_epoch(RunLog(tmp_path), 0)
    again = RunLog(tmp_path)
    log_epoch(again, 1)
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


@pytest.fixture
def asked_of_wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What `wandb.init` is called with, at a terminal where a prompt would be possible; nothing is started."""
    asked: dict[str, Any] = {}

    def fail(*arguments: object, **named: object) -> None:
        raise AssertionError("asks the user")

    for module, name in ((builtins, "input"), (getpass, "getpass")):
        monkeypatch.setattr(module, name, fail)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr(wandb, "init", lambda **named: asked.update(named))
    yield asked
    wandb.teardown()  # it remembers the environment of its first call


def loggers(folder: Path, choice: Wandb | None) -> list[Logger]:
    return build_loggers(
        Train(logger=LoggerSettings(wandb=choice)), folder, name="time_machine seed=1", group="a sweep"
    )


def start(built: list[Logger]) -> None:
    """Lightning does so at the first metric."""
    assert isinstance(built[-1], WandbLogger)
    _ = built[-1].experiment


def test_without_a_key_wandb_is_offline_and_asks_nothing(tmp_path: Path, asked_of_wandb: dict[str, Any]) -> None:
    start(loggers(tmp_path, Wandb()))
    assert asked_of_wandb["mode"] == "offline"
    assert asked_of_wandb["name"] == "time_machine seed=1"
    assert asked_of_wandb["group"] == "a sweep"
    assert asked_of_wandb["project"] == "timemachine"
    assert Path(asked_of_wandb["dir"]) == tmp_path


def test_with_a_key_wandb_is_online(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of_wandb: dict[str, Any]
) -> None:
    monkeypatch.setattr(wandb, "login", lambda **named: not named["prompt"])  # finds one, and may not ask for it
    start(loggers(tmp_path, Wandb()))
    assert asked_of_wandb["mode"] == "online"


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_mode_can_be_chosen(tmp_path: Path, asked_of_wandb: dict[str, Any], mode: str) -> None:
    start(loggers(tmp_path, Wandb(project="mine", entity="us", mode=WandbMode[mode])))
    assert [asked_of_wandb[name] for name in ("mode", "project", "entity")] == [mode, "mine", "us"]


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_wandbs_own_variable_is_heeded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of_wandb: dict[str, Any], mode: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    start(loggers(tmp_path, Wandb()))
    assert asked_of_wandb["mode"] == mode


@pytest.mark.parametrize("choice", [None, Wandb(mode=WandbMode.disabled)])
def test_without_wandb_the_files_are_written_all_the_same(
    tmp_path: Path, asked_of_wandb: dict[str, Any], choice: Wandb | None
) -> None:
    (log,) = loggers(tmp_path, choice)
    assert isinstance(log, RunLog)
    assert not asked_of_wandb


@pytest.mark.parametrize("offline", [True, False])
def test_a_run_of_wandb_is_ended_and_an_offline_one_says_how_to_upload_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], offline: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    finish_wandb()  # nothing to end
    ended: list[bool] = []
    run = SimpleNamespace(offline=offline, dir=str(tmp_path / "wandb/offline-run-1/files"))
    monkeypatch.setattr(wandb, "run", run)
    monkeypatch.setattr(wandb, "finish", lambda: ended.append(True))
    finish_wandb()
    assert ended == [True]
    assert ("wandb sync wandb/offline-run-1\n" in capsys.readouterr().out) == offline


@pytest.mark.parametrize("choice", [None, Wandb()])
def test_the_files_come_first(tmp_path: Path, asked_of_wandb: dict[str, Any], choice: Wandb | None) -> None:
    log = loggers(tmp_path, choice)[0]
    assert isinstance(log, RunLog)
    assert log.folder == tmp_path


@pytest.mark.parametrize(
    ("terminal", "asked", "prints"), [(True, None, False), (False, None, True), (True, False, True)]
)
def test_lines_are_printed_exactly_where_no_bar_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: bool, asked: bool | None, prints: bool
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    settings = Train(trainer=Trainer(enable_progress_bar=asked))
    (log,) = build_loggers(settings, tmp_path, "name", None)
    assert isinstance(log, RunLog)
    assert log.prints_lines == prints
