"""Every choice in conf/ composes and builds its objects, with the defaults of the classes."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.utils import instantiate
from lightning.pytorch import Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from omegaconf import DictConfig, OmegaConf, open_dict

from timemachine.config import REPOSITORY
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.regularized.language_model import RegularizedRNNLM
from timemachine.regularized.teacher import TaughtTimeMachine
from timemachine.run import program  # noqa: F401  registers the resolvers of conf/
from timemachine.run.checkpoints import AtomicCheckpointIO

CONF = REPOSITORY / "conf"


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield
    HydraConfig.instance().cfg = None


def choices(group: str) -> list[str]:
    """Return the names of a group's files."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def composed(*typed: str) -> tuple[DictConfig, Any]:
    """Return train.py's settings, all of them resolved, and those of Hydra."""
    cfg = compose("train", [*typed, "hydra.runtime.output_dir=run"], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    hydra = cfg.hydra
    with open_dict(cfg):
        del cfg["hydra"]
    OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    OmegaConf.resolve(cfg)
    return cfg, hydra


def arguments(target: Any) -> dict[str, Any]:
    """Return the arguments of a class with their defaults."""
    signature = inspect.signature(target.__init__).parameters.values()
    return {each.name: each.default for each in signature if each.default is not inspect.Parameter.empty}


def written(file: str) -> dict[str, Any]:
    """Return the values in a file of conf/."""
    values = yaml.safe_load((CONF / f"{file}.yaml").read_text(encoding="utf-8"))
    return {name: value for name, value in values.items() if name not in ("_target_", "defaults")}


def test_every_argument_of_the_trainer() -> None:
    """With Lightning's default, apart from one that is documented there."""
    ours = written("trainer/default")
    assert "Checkpoint" in ours.pop("plugins")[0]["_target_"] and ours.pop("_convert_") == "all"
    theirs = arguments(Trainer)
    built_by_us = ("logger", "callbacks", "default_root_dir", "plugins")
    assert ours == {name: value for name, value in theirs.items() if name not in built_by_us}


@pytest.mark.parametrize(
    ("file", "target", "elsewhere"),
    [
        ("model/rnn", RNNLMScratch, {}),
        ("model/regularized", RegularizedRNNLM, {}),
        ("data/book", TimeMachine, {"search_dirs": ["../shared/corpora"], "seed": "${seed}"}),
        ("data/taught", TaughtTimeMachine, {}),
    ],
)
def test_every_argument_of_our_classes(file: str, target: Any, elsewhere: dict[str, Any]) -> None:
    """With the default of the class. `elsewhere`: a list for a tuple, and the seed of the run. `text`: for Python."""
    assert written(file) | {"text": None} == {"text": None} | arguments(target) | elsewhere


@pytest.mark.parametrize("choice", choices("callbacks"))
def test_each_callback_is_built(choice: str) -> None:
    cfg, _ = composed(f"callbacks=[{choice}]")
    callbacks = [instantiate(entry) for entry in cfg.callbacks.values()]
    assert all(isinstance(callback, Callback) for callback in callbacks) and bool(callbacks) == (choice != "none")


CHOICES: dict[str, tuple[Any, int, int, bool]] = {  # devices per node, nodes, DDP: on a machine with two GPUs
    "auto": (CUDAAccelerator, 1, 1, False),
    "cpu": (CPUAccelerator, 1, 1, False),
    "ddp": (CUDAAccelerator, 2, 1, True),
    "ddp_cpu": (CPUAccelerator, 2, 1, True),
    "ddp_nodes": (CUDAAccelerator, 2, 2, True),
    "default": (CUDAAccelerator, 2, 1, True),  # as Lightning chooses
    "gpu": (CUDAAccelerator, 1, 1, False),
}


@pytest.mark.filterwarnings("ignore:GPU available but not used")
@pytest.mark.parametrize("choice", choices("trainer"))
def test_each_trainer_is_built(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("NODE_RANK", "0")  # set by the launcher of several nodes
    cfg, _ = composed(f"trainer={choice}")
    trainer: Trainer = instantiate(cfg.trainer, logger=False)
    accelerator, devices, nodes, ddp = CHOICES[choice]
    assert isinstance(trainer.accelerator, accelerator)
    assert isinstance(trainer.strategy, DDPStrategy if ddp else SingleDeviceStrategy)
    assert (trainer.num_devices, trainer.num_nodes, trainer.world_size) == (devices, nodes, devices * nodes)
    assert (trainer.max_epochs, trainer.gradient_clip_val) == (100, 1)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)


@pytest.mark.parametrize("typed", [f"{group}={name}" for group in ("debug", "experiment") for name in choices(group)])
def test_overlays_change_the_run(typed: str) -> None:
    (cfg, _), (book, _) = composed(typed), composed()
    assert cfg.trainer != book.trainer and cfg.trainer.keys() == book.trainer.keys()


EXERCISES = [("none", name) for name in choices("exercise")]
EXERCISES += [("next_edition", name) for name in choices("grid/full/next_edition")]


SCALES = [("full", *it) for it in EXERCISES] + [("smoke", *it) for it in EXERCISES if it[0] != "none"]


@pytest.mark.parametrize(("scale", "recipe", "exercise"), SCALES)  # tests/exercises runs the others
def test_exercises_compose(scale: str, recipe: str, exercise: str) -> None:
    """And so does the last job of each."""
    typed = {"recipe": recipe, "exercise": exercise, "scale": scale}
    _, hydra = composed(*(f"{name}={value}" for name, value in typed.items()))
    params = {name: f"{name}={values}" for name, values in (hydra.sweeper.params or {}).items()}
    assert bool(params) == (hydra.mode is not None) == (exercise != "none")
    ((*_, job),) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides([*params.values()]), None)
    composed(*(f"{name}={value}" for name, value in typed.items() if name not in params), *job)
