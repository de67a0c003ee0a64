"""Launchers and sweepers that a machine lacks are one line; jobs of `submitit_local` are those of a plain sweep."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_said, assert_succeeded
from tests.support.runs import what_is_left

SMALL = ("data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=4", "trainer.max_epochs=1", "logger=csv")


@pytest.mark.parametrize(
    ("library", "typed", "line"),
    [
        ("hydra_submitit_launcher", "hydra/launcher=submitit_slurm", "hydra/launcher=submitit_slurm: {} '.[slurm]'"),
        ("hydra_optuna_sweeper", "hydra/sweeper=search", "hydra/sweeper=optuna: {} '.[search]'"),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(library: str, typed: str, line: str, program: Program) -> None:
    if find_spec(f"hydra_plugins.{library}"):
        pytest.skip("it is installed")
    done = program("train.py", "-m", typed)
    assert done.returncode == 1
    assert_said(done.stderr, "error: " + line.format("is not installed; type pip install -e"))


@pytest.mark.slow
def test_submitit_runs_jobs_on_this_machine(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    for folder, launcher in (("here", "basic"), ("local", "submitit_local")):
        done = program("train.py", "-m", f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}", *SMALL, "seed=0,1")
        assert_succeeded(done)
    for job in "01":
        assert what_is_left(tmp_path / "local" / job) == what_is_left(tmp_path / "here" / job)
