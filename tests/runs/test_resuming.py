"""A run that was interrupted goes on, and ends as the one that never was: bit for bit, wherever it broke off."""

import csv
import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from timemachine.runs.metrics import RunLog
from timemachine.runs.validation import validate

from tests.conftest import Program
from tests.proof.tally import Note, count
from tests.support.processes import running
from tests.support.runs import what_is_left
from timemachine.cli.arguments import checked_arguments
from timemachine.config import REPOSITORY, Train, Trainer
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.runs.resuming import begin_anew
from timemachine.runs.summaries import read_summary
from timemachine.training.trainer import build_trainer

STEPS_AN_EPOCH, EPOCHS = 3, 4
KILLS = int(os.environ.get("KILLS", 3))  # `make torture`: 30


class Interruption(Exception):
    """What ends a run in the middle."""


class InterruptAt(Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *arguments: Any) -> None:
        if trainer.global_step == self.step:
            raise Interruption


def train(folder: Path, interrupt_at: int | None = None, corpus: Corpus | None = None, max_steps: int = -1) -> None:
    """A run of 12 steps; from the last checkpoint in its folder, if there is one."""
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    data = TimeMachine(32, 4, 3 * 32 - 5, 40, corpus=corpus or find_corpus("sample", []), seed=1)
    model = RNNLMScratch(len(data.vocab), hiddens=4, lr=2)
    chosen = Trainer(max_epochs=EPOCHS, gradient_clip_val=0.2, devices=1, accelerator="cpu", num_sanity_val_steps=0)
    chosen.enable_model_summary, chosen.max_steps = False, max_steps
    trainer = build_trainer(Train(trainer=chosen), folder, [RunLog(folder)], quiet=True)
    if interrupt_at is not None:
        vars(trainer)["callbacks"].append(InterruptAt(interrupt_at))
    last = folder / "checkpoints" / "last.ckpt"
    if not last.exists():
        begin_anew(folder)
    else:
        validate(folder, trainer, model, data)
    trainer.fit(model, data, ckpt_path=last if last.exists() else None)
    trainer.test(model, data, verbose=False)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("uninterrupted")
    train(folder)
    return folder


def interrupt_at(steps: list[int], whole: Path, folder: Path, max_steps: int = -1) -> None:
    """Once, or again and again."""
    for step in sorted(steps):
        with pytest.raises(Interruption):
            train(folder, step, max_steps=max_steps)
    train(folder, max_steps=max_steps)
    assert what_is_left(folder) == what_is_left(whole)


@settings(max_examples=8)
@given(steps=st.lists(st.integers(0, STEPS_AN_EPOCH * EPOCHS - 1), min_size=1, max_size=3))
def test_interrupted_at_any_step(
    steps: list[int], uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    interrupt_at(steps, uninterrupted, tmp_path_factory.mktemp("interrupted"))


@pytest.mark.parametrize("max_steps", [3 * STEPS_AN_EPOCH, 3 * STEPS_AN_EPOCH - 2, STEPS_AN_EPOCH * EPOCHS + 1])
def test_interrupted_at_any_step_of_a_number(max_steps: int, tmp_path: Path) -> None:
    """They end with an epoch, in the middle of one, and after the last."""
    train(tmp_path / "whole", max_steps=max_steps)
    for step in (1, STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH):
        interrupt_at([step], tmp_path / "whole", tmp_path / f"interrupted at {step}", max_steps)


def test_a_number_of_steps_may_grow(uninterrupted: Path, tmp_path: Path) -> None:
    for max_steps in (STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH, -1):
        train(tmp_path, max_steps=max_steps)
    assert what_is_left(tmp_path) == what_is_left(uninterrupted)


def test_a_row_that_was_cut_short_is_written_anew(uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        train(tmp_path, 2 * STEPS_AN_EPOCH)
    for name in ("metrics.csv", "steps.csv"):
        with (tmp_path / name).open("a") as file:
            file.write("3,1")  # of 3,10,…
    train(tmp_path)
    assert what_is_left(tmp_path) == what_is_left(uninterrupted)


def test_a_folder_may_be_moved(uninterrupted: Path, tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        train(tmp_path / "here", 3 * STEPS_AN_EPOCH)
    (tmp_path / "here").rename(tmp_path / "there")
    train(tmp_path / "there")
    assert what_is_left(tmp_path / "there") == what_is_left(uninterrupted)


@pytest.mark.parametrize("prefix", ["local://", ""])
def test_no_path_in_a_checkpoint_is_heeded(prefix: str, uninterrupted: Path, tmp_path: Path) -> None:
    """Lightning deletes the best checkpoint when a better one comes."""
    run, victim = tmp_path / "run", tmp_path / "victim"
    victim.mkdir()
    with pytest.raises(Interruption):
        train(run, 2 * STEPS_AN_EPOCH)
    last = run / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    path = f"{prefix}{victim}" if prefix else f"{run}/checkpoints/../../victim"
    for callback in state["callbacks"].values():
        callback |= {name: path for name in callback if name.endswith("_path")}
        callback["best_k_models"] = {path: callback["best_model_score"]}
    torch.save(state, last)
    train(run)
    assert victim.exists()
    assert what_is_left(run) == what_is_left(uninterrupted)


def assert_refused(folder: Path, says: str) -> None:
    """In one line that is not too long, and nothing is changed."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SettingError, match=says) as refused:
        train(folder)
    message = str(refused.value)
    assert message.startswith("resume=") and message.endswith("; type another run")
    assert "\n" not in message and len(message) < 400
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("lacks", ["TimeMachine", "loops", "W_hq"])
def test_a_checkpoint_of_another_program_is_refused(lacks: str, uninterrupted: Path, tmp_path: Path) -> None:
    shutil.copytree(uninterrupted, tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    state = torch.load(last, weights_only=True)
    for part in (state, state["state_dict"]):
        part.pop(lacks, None)
    torch.save(state, last)
    assert_refused(tmp_path / "run", "is damaged")


@pytest.mark.parametrize("name", ["metrics.csv", "steps.csv"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: text.replace("grad_norm,", "grad_nrom,", 1),
        lambda text: text.replace("epoch,step", "epoch,epoch", 1),
        lambda text: text.replace("\n2,", "\n2,x", 1),
        lambda text: text.replace("1", "\0", 1),
        lambda text: text.replace(".", "l", 1),
        lambda text: text[: text[:-1].rindex("\n") + 1],
    ],
)
def test_a_damaged_table_is_refused(
    damage: Callable[[str], str], name: str, uninterrupted: Path, tmp_path: Path
) -> None:
    """Before the run goes on, and not at its end."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    table = tmp_path / "run" / name
    table.write_text(damage(table.read_text()))
    assert_refused(tmp_path / "run", f"{name} is damaged")


def test_a_run_that_has_ended_is_only_tested_again(uninterrupted: Path) -> None:
    before = what_is_left(uninterrupted)
    train(uninterrupted)
    assert what_is_left(uninterrupted) == before


def test_an_epoch_that_a_setting_cut_short_is_not_done_again_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path, max_steps=STEPS_AN_EPOCH + 1)
    train(tmp_path)
    assert "epoch 2 was cut short by trainer.max_steps, max_time or the like" in capsys.readouterr().err
    train(tmp_path)
    assert capsys.readouterr().err == ""
    assert (tmp_path / "steps.csv").read_text().count("\n") == 1 + 3 + 1 + 3 + 3


# The program

RUN = [
    "data=sample",
    "data.num_train=2051",
    "data.num_val=300",
    "model.hiddens=8",
    "trainer.max_epochs=30",
    "logger=csv",
]
RUN += ["model.lr=2", "hydra.run.dir=run", f"data.search_dirs=[{REPOSITORY}]"]


def kill_after(folder: Path, seconds: float, *arguments: str) -> None:
    """SIGKILL to train.py and its processes, so long after it has written to metrics.csv."""
    metrics = folder / "run" / "metrics.csv"
    before = metrics.stat().st_mtime_ns if metrics.exists() else 0
    with running(folder, *arguments) as run:
        run.wait_until(lambda: metrics.exists() and metrics.stat().st_mtime_ns != before)
        time.sleep(seconds)
        assert run.process.poll() is None  # or nothing was killed
        os.killpg(run.process.pid, signal.SIGKILL)
        run.ended()


def assert_goes_on_to_the_same_end(program: Program, tmp_path: Path, *more: str, kills: int, longest: float) -> None:
    moments = random.Random(0)
    for number in range(kills):
        kill_after(tmp_path, moments.uniform(0, longest), *(["resume=run"] if number else [*RUN, *more]))
    done = program("train.py", "resume=run")
    assert done.returncode == 0, done.stderr
    assert read_summary(tmp_path / "run")["status"] == "completed"
    (tmp_path / "run").rename(tmp_path / "killed")
    assert program("train.py", *RUN, *more).returncode == 0
    assert what_is_left(tmp_path / "killed") == what_is_left(tmp_path / "run")


@pytest.mark.slow
def test_killed_once(program: Program, tmp_path: Path) -> None:
    assert_goes_on_to_the_same_end(program, tmp_path, "trainer.max_epochs=100", kills=1, longest=0.3)


@pytest.mark.slow
@pytest.mark.torture
def test_killed_again_and_again(program: Program, tmp_path: Path, record_property: Note) -> None:
    """Within milliseconds of a checkpoint, too: there are a hundred a second."""
    count(record_property, "kills of a run", KILLS)
    assert_goes_on_to_the_same_end(program, tmp_path, f"trainer.max_epochs={40 * KILLS}", kills=KILLS, longest=0.4)


@pytest.mark.slow
def test_two_processes_killed(program: Program, tmp_path: Path) -> None:
    assert_goes_on_to_the_same_end(program, tmp_path, "trainer=ddp_cpu", "trainer.max_epochs=200", kills=2, longest=0.3)


@pytest.mark.slow
def test_what_cannot_go_on_is_one_line_and_changes_nothing(program: Program, tmp_path: Path) -> None:
    assert program("train.py", *RUN, "trainer.max_epochs=2").returncode == 0
    files = [tmp_path / "run" / name for name in ("summary.json", ".hydra/overrides.yaml", "metrics.csv", "steps.csv")]
    summary = files[0]
    before = [path.read_bytes() for path in files]
    (tmp_path / "other.txt").write_text(find_corpus("sample", []).characters.decode() + " and more")
    for typed, says in (
        (["model.hiddens=9"], "model.hiddens=9: the run began with model.hiddens=8; type model.hiddens=8"),
        (["data.num_steps=9"], "data.num_steps=9: the run began with data.num_steps=32; type data.num_steps=32"),
        (
            ["training.teacher=1", "training.carry_state=true"],
            "training.teacher=1.0: the run began with training.teacher=0.0; type training.teacher=0.0",
        ),
        (
            ["training.optimizer=adamw"],
            "training.optimizer=adamw: the run began with training.optimizer=sgd; type training.optimizer=sgd",
        ),
        (["seed=1"], "seed=1: the run began with seed=0; type seed=0"),
        (["hydra.run.dir=other"], "hydra.run.dir=other: resume=run goes on in its own folder; type it without"),
        (["trainer.max_epochs=1"], "trainer.max_epochs=1: the run has 2 epochs already; type trainer.max_epochs=2 or"),
        (["trainer.val_check_interval=1000"], "trainer.val_check_interval=1000: Lightning refuses it: "),
        (["data.corpus=other.txt"], "is not the text that the run began with; type the path of that one"),
        (["-m"], "-m: resume=run is a single run; type it without -m"),
        (["exercise=clipping"], "exercise=clipping: resume=run is a single run; type it without exercise=clipping"),
    ):
        done = program("train.py", "resume=run", *typed)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1
        assert [path.read_bytes() for path in files] == before
    checkpoint = tmp_path / "run/checkpoints/last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-3000])
    assert (
        "resume=run: run/checkpoints/last.ckpt is damaged, or no checkpoint: "
        in program("train.py", "resume=run").stderr
    )
    checkpoint.unlink()
    done = program("train.py", "resume=run")
    assert "resume=run: has trained, but has no checkpoints/last.ckpt; type another run" in done.stderr
    assert [path.read_bytes() for path in files] == before
    checkpoint.write_bytes((tmp_path / "run/checkpoints/best.ckpt").read_bytes())
    summary.write_text("{")
    done = program("train.py", "resume=run")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1) and done.stderr.startswith("error: resume=run: ")


def test_a_folder_that_hydra_cannot_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a${x}b" / ".hydra").mkdir(parents=True)
    (tmp_path / "a${x}b" / ".hydra" / "overrides.yaml").write_text("[]")
    with pytest.raises(SettingError, match=r"^resume=.*/a\$\{x\}b: Hydra reads no path with \$\{; rename it and type "):
        checked_arguments([f"resume={tmp_path}/a${{x}}b"], Train)


@pytest.mark.parametrize(
    "typed",
    [
        ["hydra.run.dir=run"],
        pytest.param(["hydra.run.dir='run'"], marks=pytest.mark.slow),
        pytest.param(["++hydra.run.dir=./run"], marks=pytest.mark.slow),
        pytest.param(["hydra.run.dir=run", "hydra.job.num=0"], marks=pytest.mark.slow),
        ["-m", "hydra.sweep.dir=run"],
        pytest.param(["-m", "hydra.sweep.subdir=run"], marks=pytest.mark.slow),
        pytest.param(["-m", "hydra.sweep.dir=sweep", "seed=0,1"], marks=pytest.mark.slow),
    ],
)
def test_a_new_run_does_not_mix_with_an_old_one(typed: list[str], program: Program, tmp_path: Path) -> None:
    """However the folder is spelt."""
    files = [tmp_path / folder / "summary.json" for folder in ("run", "sweep/0")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    done = program("train.py", "data=sample", *typed)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: hydra.") and "; type " in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path not in files] == []


@pytest.mark.slow
def test_a_new_rate_is_heeded_and_kept(program: Program, tmp_path: Path) -> None:
    """In a folder with a space, by two processes: they start with what the first made of the arguments."""
    where = "hydra.run.dir='the run'"
    assert program("train.py", *RUN, where, "trainer=ddp_cpu", "trainer.max_epochs=2").returncode == 0
    done = program("train.py", "resume=the run", "trainer.max_epochs=3", "model.lr=0.5", "logger=wandb")
    assert done.returncode == 0, done.stderr
    done = program("train.py", "resume=the run", "trainer.max_epochs=4", "logger=csv")
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "the run")
    assert (summary["settings"]["model"]["lr"], summary["metrics"]["epoch"]) == (0.5, 4)
    with (tmp_path / "the run" / "steps.csv").open(newline="") as file:
        steps = list(csv.DictReader(file))
    state = torch.load(tmp_path / "the run/checkpoints/last.ckpt", weights_only=True)
    assert len(steps) == 4 * STEPS_AN_EPOCH
    assert {group["lr"] for group in state["optimizer_states"][0]["param_groups"]} == {0.5}


@pytest.mark.slow
def test_later_values_win_and_the_run_grows(program: Program, tmp_path: Path) -> None:
    assert program("train.py", *RUN, "trainer.max_epochs=2").returncode == 0
    assert program("train.py", "resume=run", "trainer.max_epochs=4").returncode == 0
    (tmp_path / "run").rename(tmp_path / "grown")
    assert program("train.py", *RUN, "trainer.max_epochs=4").returncode == 0
    assert what_is_left(tmp_path / "grown") == what_is_left(tmp_path / "run")
    assert read_summary(tmp_path / "grown")["settings"]["model"]["hiddens"] == 8


@pytest.mark.slow
def test_a_job_of_a_sweep_goes_on_alone(program: Program, tmp_path: Path) -> None:
    sweep = ["-m", *RUN, "hydra.sweep.dir=sweep", "trainer.max_epochs=2", "model.lr=1,2"]
    assert program("train.py", *sweep).returncode == 0
    done = program("train.py", "resume=sweep/1", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "sweep" / "1")
    assert (summary["settings"]["model"]["lr"], summary["metrics"]["epoch"]) == (2, 3)
