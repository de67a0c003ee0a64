"""From settings to Lightning's Trainer: what is built, and what is refused in one line."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.fabric.accelerators.mps import MPSAccelerator
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from timemachine.cli.schema import VERSION, checked
from timemachine.config import REPOSITORY, Train, Trainer, to_dict
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.runs.checkpoints import WholeCheckpoints
from timemachine.runs.record import Record
from timemachine.training.run_log import RunLog
from timemachine.training.trainer import build_trainer, lightning_may_refuse


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, gpus=0)


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int = 0, apple: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: apple)
    monkeypatch.setattr(MPSAccelerator, "is_available", lambda: apple)  # it keeps its first answer


def build(folder: Path, settings: Trainer, others: Sequence[Logger | Callback] = ()) -> LightningTrainer:
    run = Train(trainer=settings)
    return build_trainer(run, Record(folder, to_dict(run), in_sweep=False), others)


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
    trainer = build(tmp_path, settings.trainer)
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
    slurm = {"NTASKS": "2", "NTASKS_PER_NODE": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    started = [
        {f"SLURM_{name}": value for name, value in slurm.items()},
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


def test_settings_loggers_callbacks_and_folder_reach_the_trainer(tmp_path: Path) -> None:
    logger, callback = TensorBoardLogger(tmp_path), Callback()
    settings = Trainer(devices=1, max_epochs=3, gradient_clip_val=0.25, gradient_clip_algorithm="value")
    trainer = build(tmp_path, settings, [callback, logger])
    assert (trainer.max_epochs, trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (3, 0.25, "value")
    run_log, other = trainer.loggers
    assert isinstance(run_log, RunLog) and other is logger
    assert {run_log, callback} <= set(trainer.callbacks)  # type: ignore[attr-defined]
    assert trainer.default_root_dir == str(tmp_path)


@pytest.mark.parametrize("enabled", [True, False])
def test_best_and_last_checkpoint_lie_in_the_runs_folder(enabled: bool, tmp_path: Path) -> None:
    checkpoints = build(tmp_path, Trainer(devices=1, enable_checkpointing=enabled)).checkpoint_callbacks
    found = {(c.dirpath, c.filename, c.monitor) for c in checkpoints if isinstance(c, ModelCheckpoint)}
    folder = str(tmp_path / "checkpoints")
    assert found == ({(folder, "best", "val/perplexity"), (folder, "last", None)} if enabled else set())


@pytest.mark.parametrize("keeps_nothing", ["barebones", "fast_dev_run"])
def test_lightnings_ways_to_keep_nothing_have_nothing_of_ours(keeps_nothing: str, tmp_path: Path) -> None:
    settings = Trainer(devices=1)
    setattr(settings, keeps_nothing, True)
    trainer = build(tmp_path, settings, [Callback(), TensorBoardLogger(tmp_path)])
    assert not any(isinstance(it, TensorBoardLogger) for it in trainer.loggers)
    ours = ("timemachine", "lightning.pytorch.callbacks.callback")  # the latter is the one above
    assert not any(type(it).__module__.startswith(ours) for it in trainer.callbacks)  # type: ignore[attr-defined]


def test_a_profile_lies_in_the_runs_folder(sample: Corpus, tmp_path: Path) -> None:
    settings = Trainer(accelerator="cpu", devices=1, max_epochs=1, profiler="simple")
    model, data = RNNLMScratch(28, hiddens=4), TimeMachine(64, 8, 100, 70, corpus=sample)
    build(tmp_path, settings).fit(model, data)
    assert "run_training_batch" in (tmp_path / "fit-profile.txt").read_text()


@pytest.mark.parametrize(("is_lightnings", "raised"), [(True, SettingError), (False, ValueError)])
def test_what_lightning_refuses_as_the_fit_begins_is_one_line(
    is_lightnings: bool, raised: type[Exception], sample: Corpus, tmp_path: Path
) -> None:
    """But not a mistake in a callback, even one that names a setting."""

    class Mistaken(Callback):
        def on_train_start(self, *_: object) -> None:
            raise ValueError("devices")

    interval = 1000 if is_lightnings else 1.0
    settings = Trainer(accelerator="cpu", devices=1, max_epochs=1, val_check_interval=interval)
    trainer = build(tmp_path, settings, [] if is_lightnings else [Mistaken()])
    model, data = RNNLMScratch(28, hiddens=4), TimeMachine(64, 8, 100, 70, corpus=sample)
    with pytest.raises(raised) as error, lightning_may_refuse(Train(trainer=settings)):
        trainer.fit(model, data)
    says = "trainer.val_check_interval=1000: Lightning refuses it: " if is_lightnings else "devices"
    assert str(error.value).startswith(says) and "\n" not in str(error.value)
