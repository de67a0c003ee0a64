"""conf/ has the defaults of the classes, and its choices compose."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf, open_dict

from timemachine.config import REPOSITORY
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.regularized.language_model import RegularizedRNNLM
from timemachine.run.program import VERSION_BASE  # and the resolvers of conf/

CONF = REPOSITORY / "conf"


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        yield
    HydraConfig.instance().cfg = None


def choices(group: str) -> list[str]:
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
    signature = inspect.signature(target.__init__).parameters.values()
    return {each.name: each.default for each in signature if each.default is not inspect.Parameter.empty}


def written(file: str) -> dict[str, Any]:
    values = yaml.safe_load((CONF / f"{file}.yaml").read_text(encoding="utf-8"))
    return {name: value for name, value in values.items() if name not in ("_target_", "defaults")}


def test_every_argument_of_the_trainer() -> None:
    """With Lightning's default, apart from those that are documented there."""
    ours, theirs = written("trainer/default"), arguments(Trainer)
    assert ours.pop("_convert_") == "all" and not {"logger", "callbacks", "default_root_dir"} & ours.keys()
    others = {name for name in ours if ours[name] != theirs[name]}
    assert others == {"accelerator", "devices", "plugins"}
    assert theirs.keys() - ours.keys() == {"logger", "callbacks", "default_root_dir"}


@pytest.mark.parametrize(
    ("file", "target", "elsewhere"),
    [
        ("model/rnn", RNNLMScratch, {}),
        ("model/regularized", RegularizedRNNLM, {}),
        ("data/book", TimeMachine, {"search_dirs": ["../shared/corpora"], "seed": "${seed}"}),
    ],
)
def test_every_argument_of_our_classes(file: str, target: Any, elsewhere: dict[str, Any]) -> None:
    """With the default of the class. `elsewhere`: a list for a tuple, and the seed of the run. `text`: for Python."""
    assert written(file) | {"text": None} == {"text": None} | arguments(target) | elsewhere


OTHER_CHOICES = [f"{group}={name}" for group in ("trainer", "debug", "experiment") for name in choices(group)]


@pytest.mark.parametrize("typed", [*OTHER_CHOICES, "callbacks=none"])
def test_other_choices_compose(typed: str) -> None:
    """No argument of the Trainer is added or misspelled. test_matrix.py trains with the choices of other groups."""
    assert composed(typed)[0].trainer.keys() == composed()[0].trainer.keys()


@pytest.mark.parametrize("exercise", choices("exercise"))
def test_exercises_compose(exercise: str) -> None:
    """And so does the last job of each; tests/exercises runs small versions."""
    _, hydra = composed(f"exercise={exercise}")
    params = {name: f"{name}={values}" for name, values in (hydra.sweeper.params or {}).items()}
    assert bool(params) == (exercise != "none")
    ((*_, job),) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides([*params.values()]), None)
    composed(f"exercise={exercise}", *job)
