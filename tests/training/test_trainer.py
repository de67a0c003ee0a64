from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.fabric.accelerators.mps import MPSAccelerator
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from timemachine.runs.metrics import RunLog

from timemachine.cli.schema import VERSION, checked
from timemachine.config import REPOSITORY, Train, Trainer
from timemachine.errors import SettingError
from timemachine.runs.checkpoints import WholeCheckpoints
from timemachine.training.trainer import build_trainer


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=0)


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int = 0, apple: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: apple)  # it keeps its first answer


def build(folder: Path, settings: Trainer) -> LightningTrainer:
    return build_trainer(Train(trainer=settings), folder, [RunLog(folder)])


CHOICES = {  # processes a machine, machines, DDP: on a machine with two GPUs
    "auto": (CUDAAccelerator, 1, 1, False),
    "cpu": (CPUAccelerator, 1, 1, False),
    "gpu": (CUDAAccelerator, 1, 1, False),
    "ddp": (CUDAAccelerator, 2, 1, True),
    "ddp_cpu": (CPUAccelerator, 2, 1, True),
    "ddp_nodes": (CUDAAccelerator, 2, 2, True),
}


def test_each_choice_is_tried_below() -> None:
    assert {path.stem for path in (REPOSITORY / "conf/trainer").glob("*.yaml")} == CHOICES.keys()


@pytest.mark.filterwarnings("ignore:GPU available but not used")
@pytest.mark.parametrize("choice", CHOICES)
def test_each_choice_builds_its_trainer(choice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=2)
    monkeypatch.setenv("NODE_RANK", "0")  # as whoever starts several machines says
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION):
        settings = checked(compose("train", [f"trainer={choice}"]), Train)
    trainer = build_trainer(settings, tmp_path, [RunLog(tmp_path)])
    accelerator, devices, nodes, ddp = CHOICES[choice]
    assert isinstance(trainer.accelerator, accelerator)
    assert isinstance(trainer.strategy, DDPStrategy if ddp else SingleDeviceStrategy)
    assert (trainer.num_devices, trainer.num_nodes, trainer.world_size) == (devices, nodes, devices * nodes)
    assert (trainer.max_epochs, trainer.gradient_clip_val) == (100, 1)


@pytest.mark.filterwarnings("ignore:GPU available but not used")
@pytest.mark.parametrize("apple", [True, False])
def test_auto_is_the_cpu_where_there_is_no_cuda(apple: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, apple=apple)
    assert isinstance(build(tmp_path, Trainer(devices=1)).accelerator, CPUAccelerator)


@pytest.mark.parametrize(
    ("accelerator", "apple", "answer"),
    [
        ("gpu", False, "this machine has none; type trainer.accelerator=auto (or cpu)"),
        ("cuda", False, "this machine has none; type trainer.accelerator=auto (or cpu)"),
        ("gpux", False, "unknown; type trainer.accelerator=auto (auto, cpu, cuda, gpu, tpu)"),
        ("gpu", True, "Apple's GPU has no float64; type trainer.accelerator=cpu"),
        ("mps", True, "Apple's GPU has no float64; type trainer.accelerator=cpu"),
    ],
)
def test_an_accelerator_that_cannot_be_is_one_line(
    accelerator: str, apple: bool, answer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, apple=apple)
    with pytest.raises(SettingError) as error:
        build(tmp_path, Trainer(accelerator=accelerator))
    assert str(error.value) == f"trainer.accelerator={accelerator}: {answer}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("devices", 0),
        ("devices", "x"),
        ("strategy", "ddpp"),
        ("precision", "7"),
        ("max_epochs", -2),
        ("limit_train_batches", "a"),
        ("gradient_clip_algorithm", "x"),
    ],
)
def test_what_lightning_refuses_is_one_line_that_names_the_setting(name: str, value: object, tmp_path: Path) -> None:
    settings = Trainer(devices=1)
    setattr(settings, name, value)
    with pytest.raises(SettingError) as error:
        build(tmp_path, settings)
    assert f"trainer.{name}={value}" in str(error.value)
    assert "\n" not in str(error.value)


def test_machines_that_nothing_starts_are_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = Trainer(accelerator="cpu", devices=1, num_nodes=2)
    with pytest.raises(SettingError, match=r"^trainer.num_nodes=2: .* type srun python train.py trainer=ddp_nodes "):
        build(tmp_path, two)
    started = [
        {
            "SLURM_NTASKS": "2",
            "SLURM_NTASKS_PER_NODE": "1",
            "SLURM_PROCID": "0",
            "SLURM_LOCALID": "0",
            "SLURM_NODEID": "0",
        },
        {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "2", "RANK": "0", "GROUP_RANK": "0", "LOCAL_RANK": "0"},
        {"NODE_RANK": "0"},
    ]
    for by in started:
        with monkeypatch.context() as environment:
            for name, value in by.items():
                environment.setenv(name, value)
            assert build(tmp_path, two).num_nodes == 2


@pytest.mark.parametrize("plugins", [None, LightningEnvironment(), [LightningEnvironment()], []])
def test_checkpoints_survive_a_kill_whatever_plugins_are_typed(plugins: object, tmp_path: Path) -> None:
    trainer = build(tmp_path, Trainer(devices=1, strategy="ddp", plugins=plugins))
    assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpoints)


def test_settings_loggers_and_folder_reach_the_trainer(tmp_path: Path) -> None:
    log, loggers = RunLog(tmp_path), [TensorBoardLogger(tmp_path)]
    settings = Trainer(devices=1, max_epochs=3, gradient_clip_val=0.25, gradient_clip_algorithm="value")
    trainer = build_trainer(Train(trainer=settings), tmp_path, [log, *loggers])
    assert (trainer.max_epochs, trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (3, 0.25, "value")
    assert trainer.loggers[1:] == loggers and log in trainer.callbacks  # type: ignore[attr-defined]
    assert trainer.default_root_dir == str(tmp_path)


@pytest.mark.parametrize("enabled", [True, False])
def test_best_and_last_checkpoint_lie_in_the_runs_folder(enabled: bool, tmp_path: Path) -> None:
    checkpoints = build(tmp_path, Trainer(devices=1, enable_checkpointing=enabled)).checkpoint_callbacks
    found = {(c.dirpath, c.filename, c.monitor) for c in checkpoints if isinstance(c, ModelCheckpoint)}
    folder = str(tmp_path / "checkpoints")
    assert found == ({(folder, "best", "val/perplexity"), (folder, "last", None)} if enabled else set())


@pytest.mark.parametrize("asked", [True, False, None])
def test_the_progress_bar_is_there_where_it_is_asked_for(asked: bool | None, tmp_path: Path) -> None:
    trainer = build(tmp_path, Trainer(devices=1, enable_progress_bar=asked))
    assert isinstance(trainer.progress_bar_callback, ProgressBar) is (asked is True)  # no terminal here


def test_barebones_runs_without_anything_of_ours(tmp_path: Path) -> None:
    trainer = build(tmp_path, Trainer(devices=1, barebones=True))
    assert trainer.loggers == []
    assert trainer.checkpoint_callbacks == []
