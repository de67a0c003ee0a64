"""The settings of a resumed run, and the folders of runs."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from omegaconf import OmegaConf

from tests.support.jobs import leave_job
from timemachine.errors import SettingError
from timemachine.run.program import RESOLVERS, find_runs, newest_run, take_recorded

FUSED = "timemachine.kernels.language_model.FusedRNNLM"
DATA = {"_target_": "timemachine.datamodule.TimeMachine", "num_steps": 32, "seed": "${seed}"}


def composed() -> Any:
    trainer = {"_target_": "lightning.pytorch.Trainer", "max_epochs": 100, "devices": 1, "plugins": None}
    groups = {"model": {"_target_": FUSED, "hiddens": 32, "lr": 1.0}, "data": DATA, "trainer": trainer}
    cfg = OmegaConf.create({"seed": 0, "resume": "run", "init_from": None, "probes": []} | groups)
    OmegaConf.set_struct(cfg, True)
    return cfg


def recorded(**groups: Any) -> dict[str, Any]:
    settings = {"seed": 3, "init_from": None, "probes": ["stream"], "trainer": {"max_epochs": 7, "devices": 2}}
    model = {"_target_": FUSED, "hiddens": 8, "lr": 2.0}
    return settings | {"model": model, "data": DATA | {"num_steps": 16, "seed": 3}} | groups


def test_recorded_values_unless_typed() -> None:
    cfg = composed()
    cfg.model.lr = 0.5
    take_recorded(cfg, recorded(), ["model.lr=0.5", "logger=csv"])
    assert (cfg.seed, cfg.probes, cfg.model.hiddens, cfg.model.lr, cfg.data.num_steps) == (3, ["stream"], 8, 0.5, 16)
    assert (cfg.trainer.max_epochs, cfg.trainer.devices) == (7, 1)  # the devices are those of this machine


def test_only_plain_values_are_taken() -> None:
    """Neither classes nor interpolations, which could read the environment."""
    evil = {"_target_": "evil.Evil"}
    cfg = composed()
    trainer = {"_target_": "evil.Trainer", "plugins": [evil], "max_epochs": "${oc.env:HOME}"}
    take_recorded(cfg, recorded(trainer=trainer, model={"_target_": FUSED, "hiddens": 8, "lr": evil}), [])
    assert cfg.trainer == composed().trainer
    assert "evil" not in str(OmegaConf.to_container(cfg, resolve=True))
    with pytest.raises(SettingError):
        take_recorded(composed(), recorded(model=3), [])


def test_newest_run() -> None:
    assert newest_run() is None
    with pytest.raises(SettingError, match="run=latest"):
        find_runs("latest")
    for number, status in enumerate(("interrupted", "completed", "failed")):
        folder = leave_job(Path("outputs"), {}, status=status)
        (folder / "checkpoints").mkdir()
        os.utime(folder / "summary.json", (number, number))
    (folder / "checkpoints").rmdir()  # the last one failed before it was trained
    assert (newest_run(), newest_run(is_open=True)) == (Path("outputs/1"), Path("outputs/0"))
    assert find_runs("latest") == [Path("outputs/1")] and RESOLVERS["run_folder"]("latest", "new") == "outputs/0"
    assert RESOLVERS["run_folder"](None, "new") == "new" and RESOLVERS["run_folder"]("run", "new") == "run"


def test_processes_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each process would name it after its own start."""
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert RESOLVERS["run_folder"](None, "a") == RESOLVERS["run_folder"](None, "b") != "a"


def test_torchrun_without_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """Process ids repeat, so the folder also has the time at which torchrun was started."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    started = RESOLVERS["run_folder"](None, "a")
    assert started == RESOLVERS["run_folder"](None, "b") != "a"
    later = SimpleNamespace(create_time=lambda: psutil.Process(os.getppid()).create_time() + 60)
    monkeypatch.setattr("timemachine.run.program.psutil", SimpleNamespace(Process=lambda number: later))
    assert RESOLVERS["run_folder"](None, "a") != started
