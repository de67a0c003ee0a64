"""Several processes give the same run as one, started by Lightning or torchrun, also in a sweep."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.processes import running
from tests.support.programs import DEADLINE, Program, run_program
from tests.support.runs import rows
from timemachine.config import REPOSITORY
from timemachine.run.record import read_summary

# 50 steps. The last batch of an epoch has 3 windows, which processes share unequally. Some steps are clipped.
TRAINING = ["data=sample", "logger=csv", "trainer.max_epochs=5", "data.num_train=9219", "seed=1"]
TRAINING += ["model.hiddens=8", "model.lr=2", "trainer.gradient_clip_val=0.15"]
# In float32, rounding errors would grow to 1e-6 or more, depending on the processor.
TRAINING += ["trainer.precision=64-true"]
TRAIN = str(REPOSITORY / "train.py")


def assert_same_tables(folder: Path, alone: Path) -> None:
    """Compare losses, norms, clipping and perplexities to 1e-12."""
    for name in ("steps.csv", "metrics.csv"):
        ours, theirs = rows(folder / name), rows(alone / name)
        assert len(ours) == len(theirs) > 0
        for row, expected in zip(ours, theirs, strict=True):
            speed = {"chars_per_second": row["chars_per_second"]} if name == "metrics.csv" else {}
            assert row == pytest.approx(expected | speed, rel=1e-12, abs=1e-12)


def assert_same_run(folder: Path, alone: Path) -> None:
    """Compare the tables, the number of clipped steps and the weights to 1e-12."""
    assert_same_tables(folder, alone)
    assert 0 < read_summary(folder)["metrics"]["clipped_steps"] == read_summary(alone)["metrics"]["clipped_steps"] < 50
    weights, expected_weights = (
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (folder, alone)
    )
    for name, weight in expected_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run with one process."""
    folder = tmp_path_factory.mktemp("alone")
    done = run_program("train.py", *TRAINING, "hydra.run.dir=run", cwd=folder, HOME=str(folder))
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_lightning(program: Program, alone: Path, tmp_path: Path) -> None:
    done = program("train.py", *TRAINING, "trainer=ddp_cpu")
    assert done.returncode == 0, done.stderr  # gloo may report a peer that ended first
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\ncontinuation  ") == 1
    (folder,) = tmp_path.glob("outputs/*/*")  # one folder, with one copy of each file
    assert_same_run(folder, alone)


@pytest.mark.slow
def test_torchrun_idle_ranks(alone: Path, tmp_path: Path) -> None:
    """The last batch of the validation has 784 windows, not a multiple of three."""
    torchrun = str(Path(sys.executable).with_name("torchrun"))
    command = [torchrun, "--standalone", "--nproc_per_node=3", TRAIN, *TRAINING, "trainer=ddp_cpu"]
    command += ["trainer.devices=3", "hydra.run.dir=run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\ncontinuation  ") == 1
    assert_same_run(tmp_path / "run", alone)


@pytest.mark.slow
def test_noise_and_soft_targets(program: Program, tmp_path: Path) -> None:
    recipe = ["recipe=novel", "data=sample", "logger=csv", "model.hiddens=8", "trainer.precision=64-true"]
    recipe += ["trainer.max_epochs=2", "trainer.limit_train_batches=20", "trainer.check_val_every_n_epoch=1"]
    recipe += ["training.input_dropout=0.1", "training.output_dropout=0.2"]
    recipe += ["training.teacher=1", "training.teacher_networks=1"]
    for trainer in ("cpu", "ddp_cpu"):
        done = program("train.py", *recipe, f"trainer={trainer}", f"hydra.run.dir={trainer}")
        assert done.returncode == 0, done.stderr
    assert_same_tables(tmp_path / "ddp_cpu", tmp_path / "cpu")


@pytest.mark.slow
def test_jobs_of_a_sweep(program: Program, tmp_path: Path) -> None:
    """Each job has its own settings. Its second process must not evaluate the shuffled sweep again."""
    (tmp_path / "a text.txt").write_text("it has the time of a machine and more " * 600)
    (tmp_path / "files/callbacks").mkdir(parents=True)
    (tmp_path / "files/callbacks/mine.yaml").write_text("mine: {_target_: lightning.pytorch.callbacks.Timer}")
    sweep = ("-m", *TRAINING, "data=book", "data.corpus=a text.txt", "trainer.max_epochs=1")
    sweep += ('hydra.sweep.dir="it\'s a sweep"', "hydra.searchpath=[files]", "callbacks=mine")
    done = program("train.py", *sweep, "trainer=ddp_cpu,cpu", "model.lr=shuffle(1,2)")
    assert done.returncode == 0, done.stderr
    jobs = [tmp_path / "it's a sweep" / str(number) for number in range(4)]
    found: dict[float, list[Path]] = {}
    for job in jobs:
        found.setdefault(read_summary(job)["settings"]["model"]["lr"], []).append(job)
    assert found.keys() == {1.0, 2.0}
    for pair in found.values():  # two processes, and one
        assert_same_tables(*pair)
        assert all("mine" in read_summary(job)["settings"]["callbacks"] for job in pair)


@pytest.mark.slow
def test_a_process_that_dies(tmp_path: Path) -> None:
    """Only the job of the killed process fails."""
    jobs = ("trainer=ddp_cpu", "trainer.max_epochs=2000,1", "hydra.sweep.dir=sweep")
    with running(tmp_path, "-m", *TRAINING, *jobs) as sweep:
        sweep.wait_until((tmp_path / "sweep/0/metrics.csv").exists)
        second = next(number for number, line in sweep.processes().items() if "train_ddp_process_1" in line)
        os.kill(second, signal.SIGKILL)
        code, _, errors = sweep.ended()
    assert code == 1
    assert "\njob 0: failed: " in f"\n{errors}"
    assert [read_summary(tmp_path / "sweep" / job)["status"] for job in "01"] == ["failed", "completed"]
