"""Several processes are the same experiment as one, started by Lightning or torchrun."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.programs import DEADLINE, Program, assert_succeeded, run_program
from tests.support.runs import rows
from timemachine.config import REPOSITORY
from timemachine.run.record import read_summary

# 50 steps. The last batch of an epoch has 3 windows: processes share it unequally. Clipping acts in some steps.
TRAINING = ["data=sample", "logger=csv", "trainer.max_epochs=5", "data.num_train=9219", "seed=1"]
TRAINING += ["model.hiddens=8", "model.lr=2", "trainer.gradient_clip_val=0.15"]
# In float32 50 such steps make 1e-6 of a rounding, or more, as the processor will have it.
TRAINING += ["trainer.precision=64-true"]
TRAIN = str(REPOSITORY / "train.py")


def assert_same_tables(folder: Path, alone: Path) -> None:
    """Losses, norms, clipping and perplexities, to 1e-12."""
    for name in ("steps.csv", "metrics.csv"):
        ours, theirs = rows(folder / name), rows(alone / name)
        assert len(ours) == len(theirs) > 0
        for row, expected in zip(ours, theirs, strict=True):
            speed = {"chars_per_second": row["chars_per_second"]} if name == "metrics.csv" else {}
            assert row == pytest.approx(expected | speed, rel=1e-12, abs=1e-12)


def assert_same_run(folder: Path, alone: Path) -> None:
    """The tables, how often clipping acted, and the weights, to 1e-12."""
    assert_same_tables(folder, alone)
    assert 0 < read_summary(folder)["metrics"]["clipped_steps"] == read_summary(alone)["metrics"]["clipped_steps"] < 50
    weights, expected_weights = (
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (folder, alone)
    )
    for name, weight in expected_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    done = run_program("train.py", *TRAINING, "hydra.run.dir=run", cwd=folder, HOME=str(folder))
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_lightning(program: Program, alone: Path, tmp_path: Path) -> None:
    done = program("train.py", *TRAINING, "trainer=ddp_cpu")
    assert done.returncode == 0, done.stderr  # gloo may complain there of a peer that ended first
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\ncontinuation  ") == 1
    (folder,) = tmp_path.glob("outputs/*/*")  # one, and one of each file in it
    assert_same_run(folder, alone)


@pytest.mark.slow
def test_stopped_processes_resume_without_callbacks(program: Program, tmp_path: Path) -> None:
    """All of them: the first one rewrites summary.json while the other one starts."""
    stopping = ["callbacks=early_stopping", "callbacks.early_stopping.stopping_threshold=1000"]
    assert_succeeded(program("train.py", *TRAINING, *stopping, "trainer=ddp_cpu", "hydra.run.dir=run"))
    assert len(rows(tmp_path / "run/metrics.csv")) == 1
    assert_succeeded(program("train.py", "resume=run"))
    assert len(rows(tmp_path / "run/metrics.csv")) == 1
    assert_succeeded(program("train.py", "resume=run", "callbacks=none"))
    assert len(rows(tmp_path / "run/metrics.csv")) == 5


@pytest.mark.slow
def test_torchrun_idle_ranks(alone: Path, tmp_path: Path) -> None:
    """The validation's last batch is of 784 windows: not a multiple of three."""
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
    for name, trainer in (("alone", ("trainer=cpu",)), ("three", ("trainer=ddp_cpu", "trainer.devices=3"))):
        done = program("train.py", *recipe, *trainer, f"hydra.run.dir={name}")
        assert done.returncode == 0, done.stderr
    assert_same_tables(tmp_path / "three", tmp_path / "alone")


def test_sweep_of_several_processes(program: Program, tmp_path: Path) -> None:
    """Lightning would start each process with the command of the whole sweep."""
    sweep = ("-m", *TRAINING, "trainer=ddp_cpu,cpu", "trainer.max_epochs=1", "hydra.sweep.dir=sweep")
    done = program("train.py", *sweep)
    assert done.returncode == 1 and done.stderr.startswith("job 0: failed: trainer.strategy=ddp: "), done.stderr
    assert [read_summary(tmp_path / "sweep" / job)["status"] for job in "01"] == ["failed", "completed"]
