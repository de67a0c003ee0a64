import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import open_dict

from timemachine.cli.help import described
from timemachine.cli.schema import CONF, VERSION, checked, leaves
from timemachine.config import REPOSITORY, Evaluate, Generate, Logger, Train, Trainer, Wandb, plain
from timemachine.exercises.probes import PROBES
from timemachine.how_low import teacher
from timemachine.runs.sweep import flat

CHOICES = sorted((file.parent.relative_to(CONF).as_posix(), file.stem) for file in CONF.glob("**/*/*.yaml"))
COMPOSED = yaml.safe_load((REPOSITORY / "tests/composed.yaml").read_text())


@pytest.fixture(autouse=True)
def _conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), **VERSION):
        yield


@cache
def composed(*typed: str) -> dict[str, Any]:
    """The settings of train.py by their dotted names, and what Hydra sweeps over as `params` and `mode`."""
    cfg = compose("train", list(typed), return_hydra_config=True)
    hydra = cfg.hydra
    with open_dict(cfg):
        del cfg["hydra"]
    sweep = {"mode": hydra.mode, "params": dict(hydra.sweeper.params or {})}
    return flat(plain(checked(cfg, Train))) | sweep


# Defaults


def test_the_default_is_the_books_run_and_the_schemas_but_for_the_trainer() -> None:
    trainer = Trainer(
        devices=1, max_epochs=100, gradient_clip_val=1.0, num_sanity_val_steps=0, enable_model_summary=False
    )
    train = checked(compose("train"), Train)
    assert train == Train(trainer=trainer, logger=Logger(wandb=Wandb()))
    assert checked(compose("evaluate", ["run=outputs/a"]), Evaluate) == Evaluate(run="outputs/a")
    assert checked(compose("generate", ["run=outputs/a"]), Generate) == Generate(run="outputs/a")
    book = composed()
    assert [book[f"model.{name}"] for name in ("cell", "hiddens", "sigma", "lr")] == ["rnn", 32, 0.01, 1]
    assert (book["model.activation"], book["model.input"], book["logger.wandb.mode"]) == ("tanh", "one_hot", "auto")
    assert [book[f"data.{name}"] for name in ("corpus", "batch_size", "num_steps")] == ["time_machine", 1024, 32]
    assert (book["data.num_train"], book["data.num_val"], book["data.search_dirs"]) == (
        10_000, 5_000, ["../shared/corpora"],
    )  # fmt: skip
    assert (book["trainer.max_epochs"], book["trainer.gradient_clip_val"]) == (100, 1)
    assert book["trainer.gradient_clip_algorithm"] is None


def test_generate_continues_the_books_prefix_greedily() -> None:
    settings = checked(compose("generate", ["run=outputs/a"]), Generate)
    assert (settings.prefix, settings.num_preds, settings.alpha) == ("it has", 20, None)


@pytest.mark.parametrize(
    ("file", "schema", "prefix"),
    [
        ("train", Train, ""),
        ("data/book", Train, "data."),
        ("logger/wandb", Train, "logger."),
        ("evaluate", Evaluate, ""),
        ("generate", Generate, ""),
    ],
)
def test_comments_are_the_meanings_of_the_schema(file: str, schema: type, prefix: str) -> None:
    fields, section, found = dict(leaves(schema)), "", 0
    for line in (CONF / f"{file}.yaml").read_text().splitlines():
        match = re.fullmatch(r"( *)(\w+):([^#]*)(?:# (.*))?", line)
        if match and not match[3].strip():
            section = f"{match[2]}."
        elif match:
            name = prefix + (section if match[1] else "") + match[2]
            if name in fields:
                assert match[4] in (fields[name].metadata["meaning"], described(fields[name])), name
                found += 1
    assert found >= 5 or file == "evaluate"


def test_all_measurements_are_named() -> None:
    (meaning,) = (field.metadata["meaning"] for name, field in leaves(Train) if name == "probes")
    assert meaning == f"measured at the end: {', '.join(PROBES)}"


# Choices


def test_the_groups_are_those_of_the_house_plan() -> None:
    choices = {group: {choice for other, choice in CHOICES if other == group} for group, _ in CHOICES}
    assert choices.keys() >= {"trainer", "data", "logger", "exercise"}
    assert choices["trainer"] >= {"auto", "cpu", "gpu", "ddp", "ddp_cpu", "ddp_nodes"}
    assert choices["data"] >= {"book", "full", "sample"}
    assert choices["logger"] >= {"wandb", "csv"}
    assert choices["scale"] == {"full", "smoke"}
    assert choices["recipe"] >= {"none", "novel", "book_split"}
    assert "none" in choices["exercise"]


@pytest.mark.parametrize(("group", "choice"), CHOICES)
def test_every_choice_composes_and_passes_the_rules(group: str, choice: str) -> None:
    assert composed(*(["scale=smoke", f"exercise={choice}"] if group == "smoke" else [f"{group}={choice}"]))


@pytest.mark.parametrize(("choice", "changes"), COMPOSED.items())
def test_a_choice_changes_what_it_is_for_and_nothing_else(choice: str, changes: dict[str, Any]) -> None:
    before, after = composed(), composed(choice)
    assert {name: value for name, value in after.items() if before.get(name, "absent") != value} == changes
    without_wandb = (
        {name for name in before if name.startswith("logger.wandb.")} if "logger.wandb" in changes else set()
    )
    assert before.keys() - after.keys() == without_wandb


def test_each_choice_has_its_expectation() -> None:
    expected = {choice for group, choice in CHOICES if group in ("trainer", "data", "logger", "recipe")}
    assert {choice.partition("=")[2] for choice in COMPOSED} == {c for c in expected if not c.startswith("low_")}


def test_the_recipes_are_where_the_steps_of_how_low_lead() -> None:
    last = composed("recipe=low_12_networks")
    wider = {"model.hiddens": 1024, "model.sigma": 0.014, "model.lr": 0.0018, "trainer.max_epochs": 4}
    last |= {"trainer.limit_test_batches": None}
    assert composed("recipe=novel") == last | wider
    on_the_book = {"data.num_train": 10_000, "data.num_val": 5_000}
    more = {"training.teacher": 100, "trainer.max_epochs": 2}
    assert composed("recipe=book_split") == last | on_the_book | more


def test_the_networks_that_teach_are_trained_as_the_step_before_noise() -> None:
    step, book = composed("recipe=low_7_relu"), composed()
    network = {f"model.{name}": value for name, value in teacher.NETWORK.items()}
    training = {f"training.{name}": value for name, value in plain(teacher.TRAINING).items()}
    sizes = {"data.batch_size": teacher.BATCH_SIZE, "data.num_steps": teacher.NUM_STEPS}
    lengths = {"trainer.max_epochs": teacher.EPOCHS, "trainer.gradient_clip_val": teacher.RADIUS}
    assert step == book | network | training | sizes | lengths | {
        name: step[name] for name in ("data.num_train", "data.num_val", "trainer.limit_test_batches")
    }


@pytest.mark.parametrize("choice", [choice for group, choice in CHOICES if group == "trainer"])
def test_one_value_beats_a_choice(choice: str) -> None:
    cfg = compose("train", ["trainer.max_epochs=3", "model.hiddens=64", f"trainer={choice}"])
    assert (cfg.trainer.max_epochs, cfg.model.hiddens, cfg.trainer.gradient_clip_val) == (3, 64, 1)


# Exercises


@pytest.mark.parametrize("exercise", [choice for group, choice in CHOICES if group == "exercise" and choice != "none"])
def test_a_smoke_is_the_exercise_with_a_small_grid_and_few_epochs(exercise: str) -> None:
    file = CONF / "smoke" / f"{exercise}.yaml"
    small = yaml.safe_load(file.read_text()) if file.exists() else {}
    sweeper = small.get("hydra", {}).get("sweeper", {})
    few = {"max_epochs": 12} | small.get("trainer", {})
    full, smoke = (f"exercise={exercise}",), ("scale=smoke", f"exercise={exercise}")
    grid = {name: str(values) for name, values in sweeper.get("params", {}).items()}
    expected = composed(*full) | {f"trainer.{name}": value for name, value in few.items()}
    assert composed(*smoke) == expected | {"params": expected["params"] | grid}


def test_a_smoke_of_no_exercise_is_a_short_run() -> None:
    assert composed("scale=smoke") == composed() | {"trainer.max_epochs": 12}
    typed = ["exercise=clipping", "scale=smoke", "trainer.max_epochs=3"]
    assert composed(*typed)["trainer.max_epochs"] == 3
