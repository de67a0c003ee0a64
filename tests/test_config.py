import dataclasses
import inspect
import json
import math
import operator
import re
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
from omegaconf import OmegaConf

from timemachine import config
from timemachine.cli.schema import resolved
from timemachine.config import Activation, Data, Evaluate, Generate, Model, Train, Trainer, Training, from_dict, to_dict
from timemachine.errors import SettingError

Changes = dict[str, Any]


def settings_with(schema: type, changes: Changes) -> Any:
    cfg = OmegaConf.structured(schema)
    for setting, value in changes.items():
        OmegaConf.update(cfg, setting, value)
    return from_dict(schema, resolved(cfg))


# Of the type Any, and no number.
NO_NUMBERS = {"run", "corpus", "precision", "max_time", "deterministic", "plugins"}
NUMBERS = [
    (schema, setting)
    for schema in vars(config).values()
    if dataclasses.is_dataclass(schema)
    for setting in dataclasses.fields(schema)
    if re.search(r"\b(int|float)\b", str(setting.type)) or (setting.type is Any and setting.name not in NO_NUMBERS)
]


@pytest.mark.parametrize(("schema", "setting"), NUMBERS)
def test_a_number_out_of_bounds_is_answered_with_its_name_and_one_that_works(
    schema: Any, setting: dataclasses.Field[Any]
) -> None:
    least, most = setting.metadata["least"], setting.metadata["most"]
    below = [least - 1] if setting.type in (int, int | None) else [float(least - 1), math.nan, -math.inf]
    above = [most + 1, 10**23, 10**100] if isinstance(most, int) else [most * 1.01, 10**100, math.inf]
    needed = {"run": "a"} if schema in (Evaluate, Generate) else {}
    for value in [*below, *above]:
        wrong = rf"^([a-z.]+\.)?{setting.name}={re.escape(str(value))}: must be "
        with pytest.raises(SettingError, match=wrong) as error:
            schema(**needed, **{setting.name: value})
        advice = re.search(rf"type for example \S*{setting.name}=(\S+)$", str(error.value))
        assert advice
        schema(**needed, **{setting.name: float(advice[1]) if "." in advice[1] else int(advice[1])})


@pytest.mark.parametrize(
    ("schema", "changes"),
    [
        (Train, {"model.hiddens": 1, "model.embedding_dim": 1, "model.sigma": 0.0, "model.lr": 1e-9}),
        (Train, {"data.batch_size": 1, "data.num_steps": 1, "data.num_train": 1, "data.num_val": 1}),
        (Train, {"data.num_train": None, "data.num_val": None, "trainer.gradient_clip_val": None}),
        (Evaluate, {"run": "outputs/a", "data.corpus": ["time_machine", "sample"]}),
        (Generate, {"run": "outputs/a", "prefix": "", "num_preds": 0, "num_samples": 1, "alpha": None}),
    ],
)
def test_settings_at_the_edge_of_the_rules_pass(schema: type, changes: Changes) -> None:
    settings = settings_with(schema, changes)
    assert type(settings) is schema
    assert {name: operator.attrgetter(name)(settings) for name in changes} == changes


def test_a_product_of_rates_that_no_float32_holds_is_refused() -> None:
    with pytest.raises(
        SettingError, match=r"^model.input_lr_factor=1e\+23: times model.lr=1e\+23 is more than .*=1.0$"
    ):
        Model(lr=1e23, input_lr_factor=1e23)


def test_continuations_are_bounded_together() -> None:
    with pytest.raises(SettingError, match=r"^num_preds=1000000: makes more than .* with num_samples=11; type "):
        settings_with(Generate, {"run": "outputs/a", "num_preds": 10**6, "num_samples": 11})


def test_trainer_takes_what_lightnings_trainer_takes() -> None:
    parameters = inspect.signature(pl.Trainer).parameters
    lightnings = {name: parameter.default for name, parameter in parameters.items()}
    for ours in ("logger", "callbacks", "default_root_dir"):
        del lightnings[ours]
    assert {field.name: field.default for field in dataclasses.fields(Trainer)} == lightnings


@pytest.mark.parametrize(
    ("schema", "name", "value", "shown", "rule", "instead"),
    [
        (Model, "activation", "gelu", "gelu", "one of tanh, relu", "relu"),
        (Model, "input", None, "null", "one of one_hot, embedding", "one_hot"),
        (Model, "hiddens", 1.5, "1.5", "a whole number from 1 to 8,192", "32"),
        (Model, "hiddens", True, "true", "a whole number from 1 to 8,192", "32"),
        (Model, "lr", "fast", "fast", "a positive number", "1.0"),
        (Data, "num_train", -5, "-5", "a whole number from 1 to 2,147,483,647", "10000"),
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


def test_a_number_of_numpys_is_a_number_of_pythons() -> None:
    by_numpy = Model(hiddens=np.int64(16), lr=np.float32(0.5), sigma=np.int64(1))  # type: ignore[arg-type]
    assert by_numpy == Model(hiddens=16, lr=0.5, sigma=1.0)
    assert [type(value) for value in (by_numpy.hiddens, by_numpy.lr, by_numpy.sigma)] == [int, float, float]


def test_no_setting_takes_a_name_that_the_schema_lacks() -> None:
    cfg = OmegaConf.structured(Train)
    OmegaConf.update(cfg, "model.hidens", 64, force_add=True)
    with pytest.raises(Exception, match="hidens"):
        from_dict(Train, resolved(cfg))


def test_plain_settings_are_json_with_choices_by_name() -> None:
    nested = resolved(OmegaConf.structured(Train))
    assert json.loads(json.dumps(nested)) == nested
    assert (nested["model"]["activation"], nested["model"]["input"]) == ("tanh", "one_hot")
    assert nested["trainer"].keys() == {field.name for field in dataclasses.fields(Trainer)}
