"""Several processes give the same run as one, started by Lightning or torchrun."""

from pathlib import Path

import pytest
import torch

from tests.support.programs import DDP, Program, assert_succeeded, call_program
from tests.support.runs import rows, summary
from timemachine.config import REPOSITORY

# 50 steps. The last batch of an epoch has 3 windows, which processes share unequally. Some steps are clipped.
TRAINING = ["data.corpus=sample", "trainer.max_epochs=5", "data.num_train=9219", "seed=1"]
TRAINING += ["model.hiddens=8", "model.lr=2", "trainer.gradient_clip_val=0.15"]
# In float32, rounding errors would grow to 1e-6 or more, depending on the processor.
TRAINING += ["trainer.precision=64-true"]


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
    assert 0 < summary(folder)["metrics"]["clipped_steps"] == summary(alone)["metrics"]["clipped_steps"] < 50
    weights, expected_weights = (
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for run in (folder, alone)
    )
    for name, weight in expected_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert_succeeded(call_program("train.py", *TRAINING, f"hydra.run.dir={folder}"))
    return folder


def test_lightning(program: Program, alone: Path, tmp_path: Path) -> None:
    done = program("train.py", *TRAINING, *DDP)
    assert done.returncode == 0, done.stderr  # gloo may report a peer that ended first
    assert "Traceback" not in done.stderr
    assert done.stdout.count("\ncontinuation  ") == 1
    (folder,) = tmp_path.glob("outputs/*/*")  # one folder, with one copy of each file
    assert_same_run(folder, alone)


@pytest.mark.slow
def test_torchrun_idle_ranks(program: Program, alone: Path, tmp_path: Path) -> None:
    """The last batch of the validation has 784 windows, not a multiple of three. All processes share a folder."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=3", str(REPOSITORY / "train.py"))
    done = program(*torchrun, *TRAINING, *DDP, "trainer.devices=3")
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("outputs/*")
    assert done.stdout.count("\ncontinuation  ") == 1
    assert_same_run(folder, alone)


@pytest.mark.slow
def test_dropout_and_carried_state(program: Program, tmp_path: Path) -> None:
    recipe = ["recipe=novel", "data.corpus=sample", "model.hiddens=8", "trainer.precision=64-true"]
    recipe += ["trainer.max_epochs=2", "trainer.limit_train_batches=20", "trainer.check_val_every_n_epoch=1"]
    recipe += ["model.input_dropout=0.1", "model.output_dropout=0.2"]
    for folder, trainer, started in (("one", ["trainer=cpu"], call_program), ("two", DDP, program)):
        done = started("train.py", *recipe, *trainer, f"hydra.run.dir={folder}")
        assert done.returncode == 0, done.stderr
    assert_same_tables(tmp_path / "two", tmp_path / "one")
