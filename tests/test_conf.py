import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from timemachine.config import REPOSITORY, Activation, Evaluate, Generate, Input, Train, Wandb, WandbMode, checked

CONF = REPOSITORY / "conf"
CHOICES = sorted((file.parent.relative_to(CONF).as_posix(), file.stem) for file in CONF.glob("**/*/*.yaml"))


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def test_the_groups_are_those_of_the_house_plan() -> None:
    choices = {group: {choice for other, choice in CHOICES if other == group} for group, _ in CHOICES}
    assert choices.keys() >= {"trainer", "data", "logger", "exercise"}
    assert choices["trainer"] >= {"auto", "cpu", "gpu", "ddp", "ddp_cpu", "ddp_nodes"}
    assert choices["data"] >= {"book", "full", "sample"}
    assert choices["logger"] >= {"wandb", "csv"}
    assert "none" in choices["exercise"]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_passes_the_rules(group: str, choice: str) -> None:
    cfg = compose("train", [f"{group}={choice}"])
    assert isinstance(checked(cfg, Train), Train)


@pytest.mark.parametrize(
    ("name", "schema", "overrides"),
    [("train", Train, []), ("evaluate", Evaluate, ["run=outputs/a"]), ("generate", Generate, ["run=outputs/a"])],
)
def test_every_program_composes_and_passes_the_rules(name: str, schema: type[Any], overrides: list[str]) -> None:
    assert type(checked(compose(name, overrides), schema)) is schema


def test_the_default_is_the_books_run() -> None:
    book = checked(compose("train"), Train)
    model, data, trainer = book.model, book.data, book.trainer
    assert (model.hiddens, model.sigma, model.lr) == (32, 0.01, 1)
    assert (model.activation, model.input) == (Activation.tanh, Input.one_hot)
    assert (data.corpus, data.batch_size, data.num_steps) == ("time_machine", 1024, 32)
    assert (data.num_train, data.num_val) == (10_000, 5_000)
    assert (trainer.max_epochs, trainer.gradient_clip_val, trainer.gradient_clip_algorithm) == (100, 1, None)
    assert data.search_dirs == ["../shared/corpora"]
    assert book.logger.wandb and book.logger.wandb.mode is WandbMode.auto


def test_generate_continues_the_books_prefix_greedily() -> None:
    settings = checked(compose("generate", ["run=outputs/a"]), Generate)
    assert (settings.prefix, settings.num_preds, settings.alpha) == ("it has", 20, None)


WITHOUT_WANDB: dict[str, Any] = {
    f"logger.wandb.{field.name}": None for field in dataclasses.fields(Wandb) if field.default is not None
}


@pytest.mark.parametrize(
    ("override", "changes"),
    [
        ("data=full", {"data.num_train": None, "data.num_val": None}),
        ("data=sample", {"data.corpus": "sample"}),
        ("logger=csv", WITHOUT_WANDB),
        ("logger=tensorboard", WITHOUT_WANDB | {"logger.tensorboard": True}),
        ("trainer=cpu", {"trainer.accelerator": "cpu"}),
        ("trainer=gpu", {"trainer.accelerator": "gpu"}),
        ("trainer=ddp", {"trainer.devices": "auto", "trainer.strategy": "ddp"}),
        ("trainer=ddp_cpu", {"trainer.accelerator": "cpu", "trainer.devices": 2, "trainer.strategy": "ddp"}),
        ("trainer=ddp_nodes", {"trainer.num_nodes": 2, "trainer.devices": "auto", "trainer.strategy": "ddp"}),
    ],
)
def test_a_choice_changes_what_it_is_for_and_nothing_else(override: str, changes: dict[str, Any]) -> None:
    before, after = flat(compose("train")), flat(compose("train", [override]))
    changed = {name: after.get(name) for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == changes


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "trainer"])
def test_one_value_beats_a_choice(choice: str) -> None:
    cfg = compose("train", ["trainer.max_epochs=3", "model.hiddens=64", f"trainer={choice}"])
    assert (cfg.trainer.max_epochs, cfg.model.hiddens, cfg.trainer.gradient_clip_val) == (3, 64, 1)


def flat(cfg: DictConfig, prefix: str = "") -> dict[str, Any]:
    names: dict[str, Any] = {}
    for name, value in cfg.items():
        path = prefix + str(name)
        names |= flat(value, f"{path}.") if isinstance(value, DictConfig) else {path: value}
    return names
