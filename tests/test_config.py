import dataclasses
import inspect
import math
import re
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest

from timemachine import config
from timemachine.config import Activation, Data, Evaluate, Generate, Model, Train, Trainer, Training
from timemachine.errors import SettingError

NO_NUMBERS = {"run", "corpus", "precision", "max_time", "deterministic", "plugins"}  # fields of type Any
NUMBERS = [
    (schema, setting)
    for schema in vars(config).values()
    if dataclasses.is_dataclass(schema)
    for setting in dataclasses.fields(schema)
    if re.search(r"\b(int|float)\b", str(setting.type)) or (setting.type is Any and setting.name not in NO_NUMBERS)
]


@pytest.mark.parametrize(("schema", "setting"), NUMBERS)
def test_numbers_out_of_bounds(schema: Any, setting: dataclasses.Field[Any]) -> None:
    least, most = setting.metadata["least"], setting.metadata["most"]
    below = [least - 1] if setting.type in (int, int | None) else [float(least - 1), math.nan, -math.inf]
    above = [most + 1, 10**23, 10**100] if isinstance(most, int) else [most * 1.01, 10**100, math.inf]
    needed = {"run": "a"} if schema in (Evaluate, Generate) else {}
    for value in [*below, *above]:
        with pytest.raises(SettingError, match=rf"^([a-z.]+\.)?{setting.name}={re.escape(str(value))}: [^\n]*$"):
            schema(**needed, **{setting.name: value})


@pytest.mark.parametrize(
    ("schema", "values", "named"),
    [
        (Model, {"activation": "gelu"}, "model.activation=gelu"),
        (Model, {"input": None}, "model.input=null"),
        (Model, {"hiddens": 1.5}, "model.hiddens=1.5"),
        (Model, {"hiddens": True}, "model.hiddens=true"),
        (Model, {"lr": "fast"}, "model.lr=fast"),
        (Model, {"lr": 1e23, "input_lr_factor": 1e23}, "model.input_lr_factor=1e+23"),  # the product overflows float32
        (Data, {"num_train": -5}, "data.num_train=-5"),
        (Training, {"carry_state": "no"}, "training.carry_state=no"),
        (Training, {"warm_up": 1}, "training.warm_up=1"),
        (Train, {"callbacks": {"mine": {"scheduling": {0: 1}}}}, "callbacks.mine={'scheduling': {0: 1}}"),
        (Train, {"logger": {"mine": {"limits": [math.inf]}}}, "logger.mine={'limits': [inf]}"),
        (Generate, {"run": "a", "num_preds": 10**6, "num_samples": 11}, "num_preds=1000000"),  # too long in total
    ],
)
def test_invalid_values(schema: type, values: dict[str, Any], named: str) -> None:
    """A dataclass is as strict as the command line."""
    with pytest.raises(SettingError, match=rf"^{re.escape(named)}: [^\n]*$"):
        schema(**values)


def test_trainer_has_lightnings_arguments() -> None:
    parameters = inspect.signature(pl.Trainer).parameters
    lightnings = {name: parameter.default for name, parameter in parameters.items()}
    for ours in ("logger", "callbacks", "default_root_dir"):
        del lightnings[ours]
    assert {field.name: field.default for field in dataclasses.fields(Trainer)} == lightnings


def test_names_and_numpy_numbers() -> None:
    """Choices may be strings, and NumPy numbers become Python numbers."""
    found = Model(activation="relu", hiddens=np.int64(16), lr=np.float32(0.5))  # type: ignore[arg-type]
    assert found == Model(activation=Activation.relu, hiddens=16, lr=0.5)
    assert (type(found.hiddens), type(found.lr)) == (int, float)
