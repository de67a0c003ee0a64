from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from timemachine.cli.schema import CONF, VERSION, resolved
from timemachine.config import Evaluate, Generate, Train, Trainer, from_dict, to_dict
from timemachine.how_low import teacher
from timemachine.run.record import flat
from timemachine.weights_and_biases import LOGGER

EXERCISES = sorted(file.stem for file in CONF.glob("exercise/*.yaml"))


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), **VERSION):
        yield


@cache
def composed(*typed: str) -> dict[str, Any]:
    """Return train.py's settings by dotted name, with Hydra's sweep as `params` and `mode`."""
    cfg = compose("train", list(typed), return_hydra_config=True)
    hydra = cfg.hydra
    with open_dict(cfg):
        del cfg["hydra"]
    sweep = {"mode": hydra.mode, "params": dict(hydra.sweeper.params or {})}
    return flat(to_dict(from_dict(Train, resolved(cfg)))) | sweep


def test_defaults() -> None:
    trainer = Trainer(
        devices=1, max_epochs=100, gradient_clip_val=1.0, num_sanity_val_steps=0, enable_model_summary=False
    )
    train = from_dict(Train, resolved(compose("train")))
    assert train == Train(trainer=trainer, logger=train.logger) and train.logger["wandb"]["_target_"] == LOGGER
    assert from_dict(Evaluate, resolved(compose("evaluate", ["run=outputs/a"]))) == Evaluate(run="outputs/a")
    assert from_dict(Generate, resolved(compose("generate", ["run=outputs/a"]))) == Generate(run="outputs/a")


def test_no_search_varies_num_steps() -> None:
    """Searches minimise the perplexity on windows, which falls with num_steps."""
    searches = [*CONF.glob("hydra/sweeper/*.yaml"), CONF / "wandb_sweep.yaml"]
    assert len(searches) > 2
    for search in searches:
        varied = (yaml.safe_load(search.read_text()) or {}).items()
        assert not any("data.num_steps" in names for key, names in varied if key in ("params", "parameters"))


# Other groups: test_matrix.py and run/test_trainer.py


@pytest.mark.parametrize("scale", ["full", "smoke"])
@pytest.mark.parametrize("exercise", EXERCISES)
def test_exercises_are_valid(exercise: str, scale: str) -> None:
    assert composed(f"exercise={exercise}", f"scale={scale}")


def test_path_of_how_low() -> None:
    names = composed("exercise=how_low")["params"]["recipe"]
    recipes = [composed(f"recipe={name.strip()}") for name in names.split(",")]
    *path, _ = recipes  # the last recipe has the book's split
    changed = {name for name, value in composed().items() if path[0][name] != value}
    assert not [name for name in changed if name.startswith(("model.", "training."))]
    assert {recipe["data.num_train"] for recipe in path} == {None}
    assert [recipe["trainer.limit_test_batches"] for recipe in path] == [0] * (len(path) - 1) + [None]
    for recipe in recipes:
        assert recipe["trainer.max_epochs"] % recipe["trainer.check_val_every_n_epoch"] == 0


def test_teaching_networks_match_their_recipe() -> None:
    step, book = composed("recipe=low_4_input_rate", "model.activation=relu"), composed()
    network = {f"model.{name}": value for name, value in teacher.NETWORK.items()}
    training = {f"training.{name}": value for name, value in to_dict(teacher.TRAINING).items()}
    sizes = {"data.batch_size": teacher.BATCH_SIZE, "data.num_steps": teacher.NUM_STEPS}
    lengths = {"trainer.max_epochs": teacher.EPOCHS, "trainer.gradient_clip_val": teacher.RADIUS}
    assert step == book | network | training | sizes | lengths | {
        name: step[name] for name in ("data.num_train", "data.num_val", "trainer.limit_test_batches")
    }
