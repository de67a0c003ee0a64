"""Launchers and sweepers that a machine lacks are one line; jobs of `submitit_local` are those of a plain sweep."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_said, assert_succeeded
from tests.support.runs import what_is_left
from timemachine.cli.messages import how_to_install

SMALL = ("data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=4", "trainer.max_epochs=1", "logger=csv")


@pytest.mark.parametrize(("name", "extra"), [("submitit_slurm", "slurm"), ("optuna", "search")])
def test_what_is_not_installed_is_named_with_its_extra(name: str, extra: str) -> None:
    assert how_to_install(name) == f"is not installed; type pip install -e '.[{extra}]'"


def test_a_search_without_its_library_is_one_line(program: Program) -> None:
    if find_spec("hydra_plugins.hydra_optuna_sweeper"):
        pytest.skip("Hydra's Optuna sweeper is installed")
    done = program("train.py", "-m", "hydra/sweeper=search")
    assert_said(done.stderr, f"error: hydra/sweeper=optuna: {how_to_install('optuna')}")
    assert done.returncode == 1


@pytest.mark.slow
def test_submitit_runs_jobs_on_this_machine(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    for folder, launcher in (("here", "basic"), ("local", "submitit_local")):
        done = program("train.py", "-m", f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}", *SMALL, "seed=0,1")
        assert_succeeded(done)
    for job in "01":
        assert what_is_left(tmp_path / "local" / job) == what_is_left(tmp_path / "here" / job)
