"""Interrupted and resumed runs equal uninterrupted ones bit for bit, at any point of interruption."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.support.processes import running
from tests.support.programs import Program, assert_succeeded, call_program
from tests.support.runs import InterruptAt, Interruption, fit, rows, what_is_left
from timemachine.config import Train
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import Batch, TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.run.checkpoint import checkpoint_to_resume
from timemachine.run.record import EPOCH_WEIGHTS, EXPORT, Record, Role, read_summary
from timemachine.run.rows import EPOCH_COLUMNS

STEPS_AN_EPOCH, EPOCHS = 3, 4
KILLS = int(os.environ.get("KILLS", 3))  # `make torture`: 30


def train(folder: Path, interrupt_at: int | None = None, hiddens: int = 4, text: str = "sample", **chosen: Any) -> None:
    """Train 12 steps, resuming from the last checkpoint in the folder if there is one."""
    torch.manual_seed(0)
    data = TimeMachine(32, 4, 3 * 32 - 5, 40, corpus=find_corpus(text, []), seed=1)
    model, of_the_run = RNNLMScratch(len(data.vocab), hiddens=hiddens, lr=2), Train()
    of_the_run.model.hiddens = hiddens
    chosen = {"max_epochs": EPOCHS, "gradient_clip_val": 0.2} | chosen
    interruption = [] if interrupt_at is None else [InterruptAt(interrupt_at)]
    fit(folder, model, data, interruption, of_the_run, **chosen).test(model, data, verbose=False)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(folder)
    return folder


def interrupt_at(steps: list[int], whole: Path, folder: Path, **chosen: Any) -> None:
    """Interrupt a run at each of these steps, resume it, and compare it with the whole run."""
    for step in sorted(steps):
        with pytest.raises(Interruption):
            train(folder, step, **chosen)
    train(folder, **chosen)
    assert what_is_left(folder) == what_is_left(whole)
    assert (folder / EPOCH_WEIGHTS).read_bytes() == (whole / EPOCH_WEIGHTS).read_bytes()


@settings(max_examples=8)
@given(steps=st.lists(st.integers(0, STEPS_AN_EPOCH * EPOCHS - 1), min_size=1, max_size=3))
def test_interrupted_at_any_step(
    steps: list[int], uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    interrupt_at(steps, uninterrupted, tmp_path_factory.mktemp("interrupted"))


def test_interrupted_with_drawn_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("timemachine.datamodule.MAX_PERMUTED", 10)
    train(tmp_path / "whole")
    interrupt_at([STEPS_AN_EPOCH + 1], tmp_path / "whole", tmp_path / "interrupted")


def test_interrupted_with_max_steps(tmp_path: Path) -> None:
    max_steps = 3 * STEPS_AN_EPOCH - 2
    train(tmp_path / "whole", max_steps=max_steps)
    for step in (1, STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH):
        interrupt_at([step], tmp_path / "whole", tmp_path / f"interrupted at {step}", max_steps=max_steps)


def test_interrupted_after_early_validations(tmp_path: Path) -> None:
    """In the first epoch, the rows of validations are kept and the run restarts."""
    train(tmp_path / "whole", val_check_interval=1)
    with pytest.raises(Interruption):
        train(tmp_path / "run", 2, val_check_interval=1)
    assert [row["step"] for row in rows(tmp_path / "run/metrics.csv")] == [1, 2]
    train(tmp_path / "run", val_check_interval=1)
    assert what_is_left(tmp_path / "run") == what_is_left(tmp_path / "whole")


def test_a_number_of_steps_may_grow(uninterrupted: Path, tmp_path: Path) -> None:
    for max_steps in (STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH, -1):
        train(tmp_path / "run", max_steps=max_steps)
    assert what_is_left(tmp_path / "run") == what_is_left(uninterrupted)


def test_torn_row_in_moved_folder(uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        train(tmp_path / "here", 2 * STEPS_AN_EPOCH)
    for name in ("metrics.csv", "steps.csv"):
        with (tmp_path / "here" / name).open("a") as file:
            file.write("3,1")  # the start of 3,10,…
    (tmp_path / "here").rename(tmp_path / "there")
    train(tmp_path / "there")
    assert what_is_left(tmp_path / "there") == what_is_left(uninterrupted)


class OwnStep(RNNLMScratch):
    """Custom loss, optimizer and schedule, and a metric that is logged at each step."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.nll(batch).square().mean()
        self.log("own", loss.detach(), on_step=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.RMSprop(self.parameters(), 0.01, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def test_own_step_and_optimiser_resume(sample: Corpus, tmp_path: Path) -> None:
    for name, ends in (("whole", [3]), ("again", [1, 3])):
        for max_epochs in ends:
            torch.manual_seed(0)
            data = TimeMachine(64, 8, 310, 70, corpus=sample)
            fit(tmp_path / name, OwnStep(28, hiddens=4, sigma=0.1), data, max_epochs=max_epochs)
    steps = rows(tmp_path / "whole" / "steps.csv")
    assert [row["step"] for row in steps] == [*range(1, 16)]
    epochs = rows(tmp_path / "whole" / "metrics.csv")
    assert [row["lr"] for row in epochs] == [0.01, 0.005, 0.0025]
    assert [row["own"] for row in epochs] == [row["loss"] for row in steps[4::5]]
    assert what_is_left(tmp_path / "again") == what_is_left(tmp_path / "whole")


# Rejected resumes


def assert_refused(folder: Path, says: str, **chosen: Any) -> None:
    """Check that resuming fails with one line and changes no file."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SettingError) as refused:
        train(folder, **chosen)
    assert says in str(refused.value) and "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_another_experiment_is_refused(uninterrupted: Path, tmp_path: Path) -> None:
    assert_refused(uninterrupted, "model.hiddens=5: ", hiddens=5)
    other = tmp_path / "other.txt"
    for text in (find_corpus("sample", []).characters + " and more", "a text of a few letters " * 100):
        other.write_text(text)
        assert_refused(uninterrupted, "other.txt: ", text=str(other))


def test_lost_checkpoint_is_refused(tmp_path: Path) -> None:
    train(tmp_path, max_epochs=2)
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-3000])
    assert_refused(tmp_path, "last.ckpt is damaged: ")
    state = torch.load(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    del state["state_dict"]["W_hq"]
    torch.save(state, checkpoint)
    assert_refused(tmp_path, "last.ckpt is damaged: ")
    torch.save({"callbacks": {"Mine": {"best": np.float64(1)}}}, checkpoint)
    assert_refused(tmp_path, "state_dict")
    checkpoint.unlink()
    assert_refused(tmp_path, "checkpoints/last.ckpt")


def test_job_without_checkpoints_restarts(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch\n1\n2\n3\n")
    for name in ("model.safetensors", EPOCH_WEIGHTS):
        (tmp_path / name).touch()
    again = Record(tmp_path, {"resume": "sweep", "trainer": {"enable_checkpointing": False}}, Role(sweep="sweep"))
    nothing: Any = None  # unused if there is no checkpoint
    assert checkpoint_to_resume(again, nothing, nothing) is None
    assert [path.name for path in tmp_path.glob("*.*")] == ["summary.json"]


def test_ended_run_is_not_restarted(tmp_path: Path) -> None:
    """A run of one epoch that saved no checkpoint keeps its results."""
    row = dict.fromkeys(EPOCH_COLUMNS, "1")
    (tmp_path / "metrics.csv").write_text(f"{','.join(row)}\n{','.join(row.values())}\n")
    (tmp_path / EXPORT).touch()
    again = Record(tmp_path, {"resume": "run", "trainer": {"enable_checkpointing": False}}, Role())
    nothing: Any = None
    with pytest.raises(SettingError, match="init_from"):
        checkpoint_to_resume(again, nothing, nothing)
    assert {path.name for path in tmp_path.glob("*.*")} == {"metrics.csv", EXPORT}


# The program

RUN = ["data=sample", "data.num_train=2051", "data.num_val=300", "model.hiddens=8", "model.lr=2"]
RUN += ["trainer.max_epochs=30", "logger=csv"]
RUN += ["hydra.run.dir='the run'"]  # with a space, to test the commands of other processes


def kill_after(folder: Path, seconds: float, *arguments: str) -> None:
    """Kill train.py and its processes, `seconds` after it has written metrics.csv."""
    metrics = folder / "the run" / "metrics.csv"
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    with running(folder, *arguments) as run:
        run.wait_until(lambda: metrics.exists() and metrics.stat().st_mtime_ns != before)
        time.sleep(seconds)
        assert run.process.poll() is None  # the run must still be active
        os.killpg(run.process.pid, signal.SIGKILL)
        run.ended()


def assert_goes_on_to_the_same_end(program: Program, tmp_path: Path, *more: str, kills: int, longest: float) -> None:
    moments = random.Random(0)
    for number in range(kills):
        kill_after(tmp_path, moments.uniform(0, longest), *(["resume=the run"] if number else [*RUN, *more]))
    assert_succeeded(program("train.py", "resume=the run"))
    assert read_summary(tmp_path / "the run")["status"] == "completed"
    (tmp_path / "the run").rename(tmp_path / "killed")
    assert_succeeded(program("train.py", *RUN, *more))
    assert what_is_left(tmp_path / "killed") == what_is_left(tmp_path / "the run")


@pytest.mark.slow
@pytest.mark.torture
def test_killed_again_and_again(program: Program, tmp_path: Path) -> None:
    """With a hundred checkpoints per second, kills come within milliseconds of one."""
    assert_goes_on_to_the_same_end(program, tmp_path, f"trainer.max_epochs={40 * KILLS}", kills=KILLS, longest=0.4)


@pytest.mark.slow
def test_two_processes_killed(program: Program, tmp_path: Path) -> None:
    assert_goes_on_to_the_same_end(program, tmp_path, "trainer=ddp_cpu", "trainer.max_epochs=60", kills=1, longest=0.3)


@pytest.mark.parametrize("typed", [["hydra.run.dir=./run"], ["-m", "hydra.sweep.dir=sweep", "seed=0,1"]])
def test_folder_in_use_is_refused(typed: list[str], tmp_path: Path) -> None:
    """The folder is recognised under any spelling."""
    files = [tmp_path / name for name in ("run/metrics.csv", "sweep/0/summary.json")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    done = call_program("train.py", "data=sample", *typed)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: hydra.")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path not in files] == []
