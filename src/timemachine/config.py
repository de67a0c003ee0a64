"""The valid values of settings, and the checks that raise a SettingError for any other.

conf/ has the defaults and a comment for each. `RNNLMScratch`, `TimeMachine`, evaluate.py and generate.py check their
arguments with the tables below. `TRAINER` has the numbers that Lightning's Trainer does not check itself.
"""

import math
import re
import sys
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from enum import StrEnum
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from timemachine.errors import SettingError

_PLACES = Path(__file__).parents[2], Path(sys.argv[0]).resolve().parent, Path.cwd()
# The folder of train.py and conf/: the source's, or after `pip install .` the program's or the notebook's.
REPOSITORY = next((folder for folder in _PLACES if (folder / "conf/train.yaml").is_file()), _PLACES[-1])
PREFIX = "it has"  # to continue, as in the book
MAX_FLOAT32 = 3e38  # bound of numbers that are converted to float32
MAX_COUNT = 2**31 - 1
MAX_HIDDENS = 8_192  # hidden units; the states of one batch then take a gigabyte
MAX_GENERATED = 10_000_000  # characters of all continuations together


class Tokens(StrEnum):
    """The tokens of a text: the letters a to z and space, all its characters, or byte-pair encoding."""

    letters = "letters"
    characters = "characters"
    bpe = "bpe"


@dataclass(frozen=True, slots=True)
class Number:
    """A number from `least` to `most`, `whole` or not; None is valid as well if `optional`."""

    least: float = 0
    most: float = MAX_FLOAT32
    whole: bool = False
    optional: bool = False

    def __str__(self) -> str:
        if self.most == MAX_FLOAT32:
            return "a positive number" if self.least else "a number, 0 or more"
        return f"a {'whole ' if self.whole else ''}number from {self.least} to {self.most:,}"


POSITIVE, NOT_NEGATIVE, COUNT = Number(1e-38), Number(), Number(1, MAX_COUNT, whole=True)
WINDOWS = replace(COUNT, optional=True)
Valid = Number | type[bool] | tuple[str, ...]  # a tuple: one of these names

MODEL: dict[str, Valid] = {
    "vocab_size": COUNT,
    "hiddens": Number(1, MAX_HIDDENS, whole=True),
    "layers": Number(1, 16, whole=True),
    "sigma": Number(0, 10),  # above 1 the first perplexities are worse than guessing
    "sigma_xh": Number(0, 10, optional=True),
    "sigma_hh": Number(0, 10, optional=True),
    "init_hh": ("gaussian", "orthogonal", "identity"),
    "forget_bias": Number(-10, 10),
    "lr": POSITIVE,
    "activation": ("tanh", "relu"),
    "input": ("one_hot", "embedding"),
    "embedding_dim": Number(1, MAX_HIDDENS, whole=True),
    "embedding_sigma": NOT_NEGATIVE,
    "tie_weights": bool,
    "input_lr_factor": NOT_NEGATIVE,
    "backward": ("auto", "fused", "bptt", "autograd"),
}
DATA: dict[str, Valid] = {
    "batch_size": COUNT,
    "num_steps": COUNT,
    "num_train": WINDOWS,
    "num_val": WINDOWS,
    "start": Number(0, MAX_COUNT, whole=True),
    "tokens": tuple(Tokens),
    "min_count": COUNT,
    "vocab_size": Number(256, 65_535, whole=True),
    "learn_on": ("text", "train"),
    "seed": Number(0, 2**32 - 1, whole=True),
}
GENERATE: dict[str, Valid] = {
    "num_preds": Number(0, 1_000_000, whole=True),
    "alpha": replace(POSITIVE, optional=True),
    "temperature": replace(POSITIVE, optional=True),
    "top_k": Number(1, MAX_COUNT, whole=True, optional=True),
    "top_p": Number(1e-6, 1, optional=True),
    "min_p": Number(0, 1, optional=True),
    "num_samples": Number(1, 10_000, whole=True),
    "seed": Number(0, 2**32 - 1, whole=True),
}
FRACTION = Number(0, 0.999)
REGULARIZED: dict[str, Valid] = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("constant", "cosine"),
    "warm_up": FRACTION,
    "carry_state": bool,
    "input_dropout": FRACTION,
    "output_dropout": FRACTION,
}
BATCHES = Number(0, MAX_COUNT)  # a number of batches, or a share of them
# Without a check, some of these would train something else.
TRAINER: dict[str, Valid] = {
    "max_epochs": Number(-1, MAX_COUNT, whole=True),
    "max_steps": Number(-1, MAX_COUNT, whole=True),
    "min_epochs": Number(0, MAX_COUNT, whole=True),
    "min_steps": Number(0, MAX_COUNT, whole=True),
    "num_nodes": COUNT,
    "num_sanity_val_steps": Number(-1, MAX_COUNT, whole=True),
    "accumulate_grad_batches": COUNT,
    "check_val_every_n_epoch": COUNT,
    "log_every_n_steps": COUNT,
    "val_check_interval": POSITIVE,
    "gradient_clip_val": NOT_NEGATIVE,
    "overfit_batches": BATCHES,
    **{f"limit_{split}_batches": BATCHES for split in ("train", "val", "test")},
}
EVALUATE: dict[str, Valid] = {"baselines": bool}


def check(arguments: MutableMapping[str, Any], valid: Mapping[str, Valid], prefix: str = "") -> None:
    """Check the arguments that the table names, and convert their numbers to Python's types, in place.

    A checkpoint with numbers of numpy's could not be loaded safely. `prefix`: of the settings' names, such as `model.`.
    Raises SettingError for a value that is not valid.
    """
    for name, kind in valid.items():
        if name in arguments:
            arguments[name] = _checked(prefix + name, arguments[name], kind)


def _checked(setting: str, value: Any, kind: Valid) -> Any:
    if isinstance(kind, tuple):
        require(isinstance(value, str) and value in kind, setting, value, f"must be one of {', '.join(kind)}")
        return str(value)  # a checkpoint could not be loaded with a member of an Enum
    if kind is bool:
        require(isinstance(value, bool), setting, value, "must be true or false")
        return value
    assert isinstance(kind, Number)
    if value is None and kind.optional:
        return None
    if isinstance(value, str) and re.fullmatch(r"[-+.\de]+", value):
        rule = f"must be {kind}, not a text; oc.decode converts one, as in ${{oc.decode:${{oc.env:NAME}}}}"
        raise SettingError(f"{setting}='{value}': {rule}")
    is_number = isinstance(value, Integral if kind.whole else Real) and not isinstance(value, bool)
    require(is_number and kind.least <= value <= kind.most, setting, value, f"must be {kind}")
    # A rate of 4 stays an int.
    return value if type(value) in (int, float) else int(value) if kind.whole else float(value)


def check_model_arguments(arguments: MutableMapping[str, Any]) -> None:
    """Check the arguments of `RNNLMScratch`, as `check` does, and those that depend on each other."""
    check(arguments, MODEL, "model.")
    factor, rate = arguments["input_lr_factor"], arguments["lr"]
    rule = f"times model.lr={rate} exceeds the range of float32"
    require(rate * factor <= MAX_FLOAT32, "model.input_lr_factor", factor, rule)
    for name, default in (("embedding_dim", 32), ("embedding_sigma", 1)):
        value, is_used = arguments[name], arguments["input"] == "embedding"
        rule = "only model.input=embedding has an embedding"
        require(is_used or value == default, f"model.{name}", value, rule, f"{value} model.input=embedding")
    is_drawn, rule = arguments["init_hh"] == "gaussian", "only model.init_hh=gaussian has a standard deviation"
    require(is_drawn or arguments["sigma_hh"] is None, "model.sigma_hh", arguments["sigma_hh"], rule, "null")
    if arguments["tie_weights"]:
        is_embedding = arguments["input"] == "embedding" and arguments["embedding_sigma"] > 0
        rule = "needs an embedding as wide as model.hiddens and a positive model.embedding_sigma"
        instead = f"true model.input=embedding model.embedding_dim={arguments['hiddens']} model.embedding_sigma=1"
        is_valid = is_embedding and arguments["embedding_dim"] == arguments["hiddens"]
        require(is_valid, "model.tie_weights", True, rule, instead)


def check_data_arguments(arguments: MutableMapping[str, Any]) -> None:
    """Check the arguments of `TimeMachine`, as `check` does, and those that depend on each other."""
    check(arguments, DATA, "data.")
    tokens, num_train, num_val = arguments["tokens"], arguments["num_train"], arguments["num_val"]
    of_one_kind = ("min_count", 1, "characters"), ("vocab_size", 1024, "bpe"), ("learn_on", "text", "bpe")
    for name, default, needed in of_one_kind:
        value, rule = arguments[name], f"only data.tokens={needed} supports it"
        require(value == default or tokens == needed, f"data.{name}", value, rule, f"{value} data.tokens={needed}")
    rule = f"must be null if data.num_val is, and a number if not (data.num_val={format_value(num_val)})"
    require((num_train is None) == (num_val is None), "data.num_train", num_train, rule, "10000 data.num_val=5000")


def windows_of(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of `data` that define the windows: not where the text lies, nor the seed or the class."""
    return {name: data[name] for name in DATA if name in data and name != "seed"}


def require(holds: bool, setting: str, value: object, rule: str, instead: object = None) -> None:
    """Raise SettingError, which may name a value to use instead, unless the rule holds for the setting's value."""
    if not holds:
        advice = "" if instead is None else f"; try {setting}={instead}"
        raise SettingError(f"{setting}={format_value(value)}: {rule}{advice}")


def format_value(value: object) -> str:
    """Return a value in command-line form."""
    if isinstance(value, list):
        return f"[{','.join(map(format_value, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def short(perplexity: float, decimals: int = 3) -> str:
    """Return the perplexity with `decimals`, a million or more in scientific notation, NaN as a dash."""
    if math.isnan(perplexity):
        return "–"
    return f"{perplexity:.{decimals}f}" if perplexity < 1e6 else f"{perplexity:.3g}"
