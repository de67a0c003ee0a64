import dataclasses
import inspect
import json
import math
import re
from typing import Any

import lightning.pytorch as pl
import pytest
from omegaconf import OmegaConf

from timemachine.cli.schema import checked, leaves, resolved
from timemachine.config import (
    MISSING,
    Activation,
    Data,
    Evaluate,
    Generate,
    Model,
    Train,
    Trainer,
    Training,
    allowed,
    example,
    to_dict,
)
from timemachine.errors import SettingError

Changes = dict[str, Any]


def settings_with(schema: type, changes: Changes) -> Any:
    cfg = OmegaConf.structured(schema)
    for setting, value in changes.items():
        OmegaConf.update(cfg, setting, value)
    return checked(cfg, schema)


def value_of(settings: Any, setting: str) -> Any:
    for name in setting.split("."):
        settings = getattr(settings, name)
    return settings


@pytest.mark.parametrize(
    ("schema", "changes"),
    [
        (Train, {}),
        (Train, {"model.hiddens": 1, "model.embedding_dim": 1, "model.sigma": 0.0, "model.lr": 1e-9}),
        (Train, {"data.batch_size": 1, "data.num_steps": 1, "data.num_train": 1, "data.num_val": 1}),
        (Train, {"data.num_train": None, "data.num_val": None}),
        (Train, {"trainer.gradient_clip_val": None}),
        (Train, {"trainer.gradient_clip_val": 0.0}),
        (Train, {"seed": 0}),
        (Train, {"seed": 2**32 - 1}),
        (Evaluate, {"run": "outputs/a", "data.corpus": ["time_machine", "sample"]}),
        (Generate, {"run": "outputs/a", "prefix": "", "num_preds": 0, "num_samples": 1, "alpha": 1e-9, "seed": 1}),
        (Generate, {"run": "outputs/a", "alpha": None}),
    ],
)
def test_settings_at_the_edge_of_the_rules_pass(schema: type, changes: Changes) -> None:
    settings = settings_with(schema, changes)
    assert type(settings) is schema
    assert {setting: value_of(settings, setting) for setting in changes} == changes


NEITHER_FINITE = [math.inf, -math.inf, math.nan]
BROKEN: dict[tuple[type, str], list[Any]] = {
    (Train, "model.hiddens"): [0, -1],
    (Train, "model.embedding_dim"): [0],
    (Train, "model.sigma"): [-0.01, *NEITHER_FINITE],
    (Train, "model.lr"): [0.0, -1.0, *NEITHER_FINITE],
    (Train, "data.batch_size"): [0],
    (Train, "data.num_steps"): [0, -32],
    (Train, "data.num_train"): [0],
    (Train, "data.num_val"): [0],
    (Train, "trainer.gradient_clip_val"): [-1.0, *NEITHER_FINITE],
    (Train, "seed"): [-1, 2**32],
    (Train, "training.teacher"): [-0.1, 100.1, *NEITHER_FINITE],
    (Train, "training.teacher_networks"): [-1, 101],
    (Train, "training.input_dropout"): [-0.1, 1.0, *NEITHER_FINITE],
    (Train, "training.output_dropout"): [-0.1, 1.0],
    (Train, "training.warm_up"): [-0.1, 1.0],
    (Evaluate, "adapt"): [0.0, -1.0, *NEITHER_FINITE],
    (Generate, "num_preds"): [-1, 10**11],
    (Generate, "num_samples"): [0, 10**11],
    (Generate, "alpha"): [0.0, -1.0, *NEITHER_FINITE],
    (Generate, "seed"): [-1, 2**32],
}


def test_a_product_of_rates_that_no_float32_holds_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"^model.input_lr_factor=1e\+23: times model.lr=1e\+23 is more than .*=1.0$"
    ):
        Model(lr=1e23, input_lr_factor=1e23)


def test_continuations_are_bounded_together() -> None:
    with pytest.raises(SettingError, match=r"^num_preds=1000000: makes more than .* with num_samples=11; type "):
        settings_with(Generate, {"run": "outputs/a", "num_preds": 10**6, "num_samples": 11})


@pytest.mark.parametrize(
    ("schema", "setting", "value"),
    [(schema, setting, value) for (schema, setting), values in BROKEN.items() for value in values],
)
def test_a_broken_rule_names_setting_and_value_and_a_value_that_works(schema: type, setting: str, value: Any) -> None:
    run = {} if schema is Train else {"run": "outputs/a"}
    with pytest.raises(SettingError) as error:
        settings_with(schema, {**run, setting: value})
    message = str(error.value)
    assert message.startswith(f"{setting}={value}: ")
    assert "\n" not in message
    advice = re.search(rf"type for example {re.escape(setting)}=(\S+)$", message)
    assert advice
    settings_with(schema, {**run, setting: float(advice[1]) if "." in advice[1] else int(advice[1])})


@pytest.mark.parametrize(
    ("changes", "typed"),
    [
        ({"data.num_train": None}, "data.num_train=null: it and data.num_val=5000"),
        ({"data.num_val": None}, "data.num_train=10000: it and data.num_val=null"),
    ],
)
def test_only_one_of_num_train_and_num_val_is_refused(changes: Changes, typed: str) -> None:
    with pytest.raises(SettingError, match=f"^{typed} .*type for example data.num_train=10000 data.num_val=5000$"):
        settings_with(Train, changes)


@pytest.mark.parametrize("schema", [Evaluate, Generate])
def test_a_missing_run_is_named(schema: type) -> None:
    with pytest.raises(SettingError, match=r"^run: is missing; type run=<"):
        settings_with(schema, {})


def test_trainer_takes_what_lightnings_trainer_takes() -> None:
    parameters = inspect.signature(pl.Trainer).parameters
    lightnings = {name: parameter.default for name, parameter in parameters.items()}
    for ours in ("logger", "callbacks", "default_root_dir"):
        del lightnings[ours]
    assert {field.name: field.default for field in dataclasses.fields(Trainer)} == lightnings


WHOLE = "a whole number from 1 to"


@pytest.mark.parametrize(
    ("schema", "name", "value", "shown", "rule", "instead"),
    [
        (Model, "activation", "gelu", "gelu", "one of tanh, relu", "relu"),
        (Model, "activation", ["tanh"], "[tanh]", "one of tanh, relu", "tanh"),
        (Model, "input", None, "null", "one of one_hot, embedding", "one_hot"),
        (Model, "hiddens", 1.5, "1.5", f"{WHOLE} 8,192", "32"),
        (Model, "hiddens", True, "true", f"{WHOLE} 8,192", "32"),
        (Model, "lr", "fast", "fast", "a positive number", "1.0"),
        (Model, "lr", None, "null", "a positive number", "1.0"),
        (Model, "sigma", -1, "-1", "a number from 0 to 10", "0.01"),
        (Data, "num_train", -5, "-5", f"{WHOLE} 2,147,483,647", "10000"),
        (Training, "carry_state", "no", "no", "true or false", "false"),
        (Training, "warm_up", 1, "1", "a number from 0 to 0.999", "0.0"),
    ],
)
def test_a_dataclass_is_as_strict_as_the_command_line(
    schema: type, name: str, value: Any, shown: str, rule: str, instead: str
) -> None:
    setting = f"{schema.__name__.lower()}.{name}"
    with pytest.raises(SettingError) as error:
        schema(**{name: value})
    assert str(error.value) == f"{setting}={shown}: must be {rule}; type for example {setting}={instead}"


def test_a_choice_may_be_its_name() -> None:
    by_name = Model(activation="relu", lr=2)  # type: ignore[arg-type]
    assert by_name == Model(activation=Activation.relu, lr=2.0)
    assert to_dict(by_name)["activation"] == "relu"


def test_each_field_has_a_value_to_suggest_that_is_allowed() -> None:
    for schema in (Train, Evaluate, Generate):
        for name, setting in leaves(schema):
            choices, suggested = allowed(setting), example(setting)
            assert suggested and suggested != MISSING
            if choices.startswith("one of "):
                assert suggested in choices.removeprefix("one of ").split(", ")
            elif "least" in setting.metadata:
                assert setting.metadata["least"] <= float(suggested) <= setting.metadata["most"], name


def test_no_setting_takes_a_name_that_the_schema_lacks() -> None:
    with pytest.raises(AttributeError):  # slots: `+model.hidens=64` cannot slip through
        Model().hidens = 64  # type: ignore[attr-defined]
    cfg = OmegaConf.structured(Train)
    OmegaConf.update(cfg, "model.hidens", 64, force_add=True)
    with pytest.raises(Exception, match="hidens"):
        checked(cfg, Train)


def test_plain_settings_are_json_with_choices_by_name() -> None:
    nested = resolved(OmegaConf.structured(Train))
    assert json.loads(json.dumps(nested)) == nested
    assert (nested["model"]["activation"], nested["model"]["input"]) == ("tanh", "one_hot")
    assert nested["trainer"].keys() == {field.name for field in dataclasses.fields(Trainer)}
