"""The names of the launchers: whose they are, what they cost, and what a user sees who cannot have one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra_plugins import timemachine_slurm_launcher
from hydra_plugins.timemachine_slurm_launcher import SlurmLauncher
from omegaconf import OmegaConf

from tests.conftest import Program
from tests.support.programs import assert_succeeded
from timemachine.config import REPOSITORY
from timemachine.errors import SettingError

ORIGINAL = """
from dataclasses import dataclass
from hydra.core.config_store import ConfigStore

@dataclass
class JobLibLauncherConf:
    _target_: str = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"

ConfigStore.instance().store(group="hydra/launcher", name="joblib", node=JobLibLauncherConf)
print("registered")
"""


@pytest.mark.parametrize("ours_first", [True, False])
def test_joblib_is_ours_where_hydras_own_launcher_is_installed(
    ours_first: bool, program: Program, tmp_path: Path
) -> None:
    """Hydra imports plugins in the order of sys.path; both are there in this one."""
    package = tmp_path / "installed" / "hydra_plugins" / "hydra_joblib_launcher"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "config.py").write_text(ORIGINAL)
    order = [str(REPOSITORY / "src"), str(tmp_path / "installed")][:: 1 if ours_first else -1]
    show = ("--cfg", "hydra", "--package", "hydra.launcher")
    done = program("train.py", "hydra/launcher=joblib", *show, PYTHONPATH=os.pathsep.join(order))
    assert_succeeded(done)
    assert done.stdout.startswith("registered\n")
    assert "\n_target_: hydra_plugins.timemachine_joblib_launcher.JoblibLauncher\nn_jobs: -1\n" in done.stdout


def test_plugins_import_nothing_heavy() -> None:
    """Hydra imports them at every start."""
    names = ("joblib_launcher", "slurm_launcher", "search_sweeper")
    plugins = ", ".join(f"hydra_plugins.timemachine_{name}" for name in names)
    heavy = "{'joblib', 'submitit', 'optuna', 'torch', 'lightning', 'numpy', 'wandb'}"
    code = f"import sys, {plugins}; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_mistake_in_a_setting_is_one_line(program: Program) -> None:
    done = program("train.py", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=two", "data=sample")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("error: ")


def test_slurm_without_its_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timemachine_slurm_launcher, "find_spec", lambda name: None)
    with pytest.raises(SettingError) as caught:
        SlurmLauncher().setup(hydra_context=None, task_function=len, config=OmegaConf.create())  # type: ignore[arg-type]
    assert str(caught.value) == "hydra/launcher=slurm: is not installed; type pip install -e '.[slurm]'"


def test_a_sweep_on_a_cluster_needs_one(program: Program, tmp_path: Path) -> None:
    done = program("train.py", "-m", "hydra/launcher=slurm", "seed=0,1", "logger=csv", PATH="")
    assert done.returncode == 1
    assert done.stderr == "error: hydra/launcher: there is no Slurm here; type it where sbatch is, or leave it out\n"
    assert not (tmp_path / "sweeps").exists()
