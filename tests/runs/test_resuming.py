"""A run that was interrupted goes on, and ends as the one that never was: bit for bit, wherever it broke off."""

import csv
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.conftest import Program
from tests.proof.tally import Note, count
from tests.support.processes import running
from tests.support.runs import InterruptAt, Interruption, fit, rows, what_is_left
from timemachine.config import REPOSITORY, Train
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import Batch, TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.runs.record import Record
from timemachine.runs.resuming import last_checkpoint
from timemachine.runs.summaries import read_summary

STEPS_AN_EPOCH, EPOCHS = 3, 4
KILLS = int(os.environ.get("KILLS", 3))  # `make torture`: 30


def train(folder: Path, interrupt_at: int | None = None, hiddens: int = 4, text: str = "sample", **chosen: Any) -> None:
    """A run of 12 steps; from the last checkpoint in its folder, if there is one."""
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
    """Once, or again and again."""
    for step in sorted(steps):
        with pytest.raises(Interruption):
            train(folder, step, **chosen)
    train(folder, **chosen)
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
        interrupt_at([step], tmp_path / "whole", tmp_path / f"interrupted at {step}", max_steps=max_steps)


@pytest.mark.parametrize("name", ["val_check_interval", "accumulate_grad_batches"])
def test_several_validations_an_epoch_and_several_batches_a_step_go_on(name: str, tmp_path: Path) -> None:
    chosen: dict[str, Any] = {name: 2}
    train(tmp_path / "whole", **chosen)
    interrupt_at([1, 5], tmp_path / "whole", tmp_path / "interrupted", **chosen)


def test_a_number_of_steps_may_grow(uninterrupted: Path, tmp_path: Path) -> None:
    for max_steps in (STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH, -1):
        train(tmp_path / "run", max_steps=max_steps)
    assert what_is_left(tmp_path / "run") == what_is_left(uninterrupted)


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


def test_a_run_that_has_ended_is_only_tested_again(uninterrupted: Path) -> None:
    before = what_is_left(uninterrupted)
    train(uninterrupted)
    assert what_is_left(uninterrupted) == before


def test_rows_after_the_checkpoint_are_dropped_where_no_epoch_is_left(tmp_path: Path) -> None:
    with pytest.raises(Interruption):
        train(tmp_path / "run", 2 * STEPS_AN_EPOCH, val_check_interval=2)
    with (tmp_path / "run" / "steps.csv").open("a") as file:
        file.write("3,7,1,1,1\n")
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("3,7,,9,,,,,,\n")
    train(tmp_path / "run", max_epochs=2)
    train(tmp_path / "whole", max_epochs=2, val_check_interval=2)
    assert what_is_left(tmp_path / "run") == what_is_left(tmp_path / "whole")


def test_an_epoch_that_a_setting_cut_short_is_reported_and_not_done_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(tmp_path / "run", max_steps=STEPS_AN_EPOCH + 1)
    train(tmp_path / "run")
    assert "epoch 2 was cut short by trainer.max_steps, max_time or the like" in capsys.readouterr().err
    train(tmp_path / "run")
    assert capsys.readouterr().err == ""
    assert len(rows(tmp_path / "run" / "steps.csv")) == 3 + 1 + 3 + 3


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
    models = []
    for name, ends in (("whole", [3]), ("again", [1, 3])):
        for max_epochs in ends:
            torch.manual_seed(0)
            model = OwnStep(28, hiddens=4, sigma=0.1)
            fit(tmp_path / name, model, TimeMachine(64, 8, 310, 70, corpus=sample), max_epochs=max_epochs)
        models.append(model)
    steps = rows(tmp_path / "whole" / "steps.csv")
    assert [row["step"] for row in steps] == [*range(1, 16)]
    assert all(row["loss"] == row["own"] for row in steps)
    assert [row["lr"] for row in rows(tmp_path / "whole" / "metrics.csv")] == [0.005, 0.0025, 0.00125]
    assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in models), strict=True))
    assert what_is_left(tmp_path / "again") == what_is_left(tmp_path / "whole")


def test_a_resumed_run_takes_a_new_rate(sample: Corpus, tmp_path: Path) -> None:
    for max_epochs, lr in ((1, 0.5), (2, 0.25)):
        data = TimeMachine(64, 8, 310, 70, corpus=sample)
        fit(tmp_path, RNNLMScratch(28, hiddens=4, lr=lr), data, max_epochs=max_epochs)
    assert [row["lr"] for row in rows(tmp_path / "metrics.csv")] == [0.5, 0.25]


# What is refused


@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ({"hiddens": 5}, "model.hiddens=5: the run began with model.hiddens=4; type model.hiddens=4"),
        ({"text": "other.txt"}, "other.txt: is not the text that the run began with; type "),
        ({"max_epochs": 3}, "trainer.max_epochs=3: the run has 4 epochs already; type trainer.max_epochs=4 or more"),
        ({"max_steps": 11}, "trainer.max_steps=11: the run has 12 steps already; type trainer.max_steps=12 or more"),
    ],
)
def test_another_experiment_is_refused_and_changes_nothing(
    chosen: dict[str, Any], says: str, uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text(find_corpus("sample", []).characters.decode() + " and more")
    assert_refused(uninterrupted, says, **chosen)


def assert_refused(folder: Path, says: str, **chosen: Any) -> None:
    """In one line, and nothing is changed."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SettingError) as refused:
        train(folder, **chosen)
    assert says in str(refused.value) and "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_a_run_that_lost_its_checkpoint_is_refused_and_keeps_its_tables(tmp_path: Path) -> None:
    train(tmp_path / "run", max_epochs=2)
    checkpoint = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[:-3000])
    assert_refused(tmp_path / "run", "last.ckpt is damaged, or not a checkpoint")
    state = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    del state["state_dict"]["W_hq"]
    torch.save(state, checkpoint)
    assert_refused(tmp_path / "run", "last.ckpt is another model's")
    checkpoint.unlink()
    assert_refused(tmp_path / "run", "has trained, but has no checkpoints/last.ckpt; type another run")
    checkpoint.write_bytes(content)
    (tmp_path / "run" / "summary.json").write_text("{")
    with pytest.raises(SettingError, match=r"has no summary\.json of a run that trained; type another run$"):
        train(tmp_path / "run")


@pytest.mark.parametrize("in_sweep", [True, False])
def test_a_job_that_keeps_no_checkpoints_begins_anew(in_sweep: bool, tmp_path: Path) -> None:
    """Not a run that is resumed alone: what it has would be lost."""
    (tmp_path / "metrics.csv").write_text("epoch\n1\n2\n3\n")
    again = Record(tmp_path, {"resume": "sweep", "trainer": {"enable_checkpointing": False}}, in_sweep)
    if in_sweep:
        assert last_checkpoint(again) is None
    else:
        with pytest.raises(SettingError, match="has trained, but has no checkpoints"):
            last_checkpoint(again)
    assert (tmp_path / "metrics.csv").exists() != in_sweep


# The program

RUN = [
    "data=sample", "data.num_train=2051", "data.num_val=300", "model.hiddens=8", "model.lr=2", "trainer.max_epochs=30",
    "logger=csv", "hydra.run.dir=run", f"data.search_dirs=[{REPOSITORY}]",
]  # fmt: skip


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
    """The files that the program writes before it asks, too. What else is refused: above."""
    assert program("train.py", *RUN, "trainer.max_epochs=2").returncode == 0
    names = ("summary.json", ".hydra/overrides.yaml", "metrics.csv", "steps.csv")
    before = [(tmp_path / "run" / name).read_bytes() for name in names]
    for typed, says in (
        ("training.optimizer=adamw", "training.optimizer=adamw: the run began with training.optimizer=sgd; type "),
        ("hydra.run.dir=other", "hydra.run.dir=other: resume=run goes on in its own folder; type it without"),
        ("trainer.val_check_interval=1000", "trainer.val_check_interval=1000: Lightning refuses it: "),
        ("-m", "-m: resume=run is a single run; type it without -m"),
        ("exercise=clipping", "exercise=clipping: resume=run is a single run; type it without exercise=clipping"),
    ):
        done = program("train.py", "resume=run", typed)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ") and says in done.stderr and done.stderr.count("\n") == 1
        assert [(tmp_path / "run" / name).read_bytes() for name in names] == before


@pytest.mark.parametrize(
    "typed",
    [
        ["hydra.run.dir=run"],
        ["-m", "hydra.sweep.dir=run"],
        pytest.param(["++hydra.run.dir=./run"], marks=pytest.mark.slow),
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
def test_a_new_rate_is_used_and_kept(program: Program, tmp_path: Path) -> None:
    """In a folder with a space, by two processes: they start with what the first made of the arguments."""
    where = "hydra.run.dir='the run'"
    assert program("train.py", *RUN, where, "trainer=ddp_cpu", "trainer.max_epochs=2").returncode == 0
    for typed in (["trainer.max_epochs=3", "model.lr=0.5", "logger=wandb"], ["trainer.max_epochs=4", "logger=csv"]):
        done = program("train.py", "resume=the run", *typed)
        assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "the run")
    assert (summary["settings"]["model"]["lr"], summary["metrics"]["epoch"]) == (0.5, 4)
    with (tmp_path / "the run" / "steps.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4 * STEPS_AN_EPOCH
    state = torch.load(tmp_path / "the run/checkpoints/last.ckpt", weights_only=True)
    assert {group["lr"] for group in state["optimizer_states"][0]["param_groups"]} == {0.5}


@pytest.mark.slow
def test_a_job_of_a_sweep_goes_on_alone(program: Program, tmp_path: Path) -> None:
    sweep = ["-m", *RUN, "hydra.sweep.dir=sweep", "trainer.max_epochs=2", "model.lr=1,2"]
    assert program("train.py", *sweep).returncode == 0
    done = program("train.py", "resume=sweep/1", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    summary = read_summary(tmp_path / "sweep" / "1")
    assert (summary["settings"]["model"]["lr"], summary["metrics"]["epoch"]) == (2, 3)
