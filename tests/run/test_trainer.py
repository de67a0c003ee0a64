"""Building Lightning's Trainer from settings, and one-line errors for invalid settings."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.fabric.accelerators.mps import MPSAccelerator
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from timemachine.cli.schema import CONF, VERSION, resolved
from timemachine.config import Train, Trainer, from_dict, to_dict
from timemachine.errors import SettingError
from timemachine.run.checkpoint import WholeCheckpoints
from timemachine.run.record import Record, Role
from timemachine.run.trainer import build_trainer, errors_in_one_line


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int, apple: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: apple)  # its result is cached


def build(folder: Path, settings: Trainer, *typed: str) -> LightningTrainer:
    run = Train(trainer=settings)
    return build_trainer(run, Record(folder, to_dict(run), Role(), overrides=typed))


CHOICES = {  # devices per node, nodes, DDP: on a machine with two GPUs
    "auto": (CUDAAccelerator, 1, 1, False),
    "cpu": (CPUAccelerator, 1, 1, False),
    "gpu": (CUDAAccelerator, 1, 1, False),
    "ddp": (CUDAAccelerator, 2, 1, True),
    "ddp_cpu": (CPUAccelerator, 2, 1, True),
    "ddp_nodes": (CUDAAccelerator, 2, 2, True),
}


@pytest.mark.filterwarnings("ignore:GPU available but not used")
@pytest.mark.parametrize("choice", sorted(path.stem for path in (CONF / "trainer").glob("*.yaml")))
def test_each_choice_builds_its_trainer(choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=2)
    monkeypatch.setenv("NODE_RANK", "0")  # set by the launcher of several nodes
    with initialize_config_dir(str(CONF), **VERSION):
        settings = from_dict(Train, resolved(compose("train", [f"trainer={choice}"])))
    trainer = build(tmp_path, settings.trainer)
    accelerator, devices, nodes, ddp = CHOICES[choice]
    assert isinstance(trainer.accelerator, accelerator)
    assert isinstance(trainer.strategy, DDPStrategy if ddp else SingleDeviceStrategy)
    assert (trainer.num_devices, trainer.num_nodes, trainer.world_size) == (devices, nodes, devices * nodes)
    assert (trainer.max_epochs, trainer.gradient_clip_val) == (100, 1)


@pytest.mark.parametrize("accelerator", ["gpu", "gpux", "mps"])
def test_an_invalid_accelerator_is_one_line(accelerator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=0, apple=True)
    with pytest.raises(SettingError) as error:
        build(tmp_path, Trainer(accelerator=accelerator), f"trainer.accelerator={accelerator}")
    assert str(error.value).startswith(f"trainer.accelerator={accelerator}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("plugins", [None, LightningEnvironment(), [LightningEnvironment()]])
def test_plugins_keep_whole_checkpoints(plugins: object, tmp_path: Path) -> None:
    trainer = build(tmp_path, Trainer(devices=1, strategy="ddp", plugins=plugins))
    assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpoints)


def test_only_lightnings_misconfigurations_are_lines(tmp_path: Path) -> None:
    trainer = build(tmp_path, Trainer(devices=1))
    raised = {SystemExit(1): KeyboardInterrupt, ValueError("mine"): ValueError}
    for error, expected in {**raised, MisconfigurationException("a\nline"): SettingError}.items():
        with pytest.raises(expected) as caught, errors_in_one_line(trainer):
            raise error
    assert str(caught.value) == "a line"
