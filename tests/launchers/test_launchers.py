"""Launchers and sweepers that a machine lacks are one line; jobs of `submitit_local` are those of a plain sweep."""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.support.programs import assert_said, assert_succeeded
from tests.support.runs import what_is_left
from timemachine.cli.launchers import how_to_install

SMALL = ("data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=4", "trainer.max_epochs=1", "logger=csv")


def test_what_is_not_installed_is_named_with_its_extra(program: Program) -> None:
    for name, extra in {"submitit_slurm": "slurm", "submitit_local": "slurm", "optuna": "search"}.items():
        assert how_to_install(name) == f"is not installed; type pip install -e '.[{extra}]'"
    assert how_to_install("jobib") is None
    try:
        distribution("hydra-optuna-sweeper")
    except PackageNotFoundError:
        for name in ("optuna", "search"):
            done = program("train.py", "-m", f"hydra/sweeper={name}")
            assert_said(done.stderr, f"error: hydra/sweeper=optuna: {how_to_install('optuna')}")
            assert done.returncode == 1


def test_a_sweep_on_a_cluster_needs_one(program: Program) -> None:
    pytest.importorskip("submitit")
    done = program("train.py", "-m", "hydra/launcher=submitit_slurm", "seed=0,1", "logger=csv", PATH="")
    assert done.returncode == 1
    assert_said(done.stderr, 'error: Could not detect "srun", are you indeed on a slurm cluster?')


@pytest.mark.slow
def test_submitit_runs_jobs_on_this_machine(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    for folder, launcher in (("here", "basic"), ("local", "submitit_local")):
        done = program("train.py", "-m", f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}", *SMALL, "seed=0,1")
        assert_succeeded(done)
    for job in "01":
        assert what_is_left(tmp_path / "local" / job) == what_is_left(tmp_path / "here" / job)
