"""The probes: measurements of a trained model that `probes=[…]` adds to summary.json.

A probe is a module with `measure(model, data)`, which returns JSON-serialisable numbers, lists and dicts. A probe that
measures during training has `callback()`, which returns a Lightning callback.
"""

import importlib
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from timemachine.config import require
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch

PROBES = {  # name -> module of this package
    "stream": "stream",
    "trigrams": "trigrams",
    "ngrams": "ngrams",
    "history": "history",
    "samples": "sampling",
    "books": "books",
    "differences": "one_hot_is_embedding",
    "reading": "how_low",
    "hyperparameters": "hyperparameters",
    "cells": "cells",
    "recall": "recall",
}
# module -> setting -> supported values: probes that read the weights of the RNN, words and n-grams of letters, …
ONLY: dict[str, dict[str, tuple[str, ...]]] = {
    "one_hot_is_embedding": {"model.cell": ("rnn",)},
    "sampling": {"data.tokens": ("letters",)},
    "books": {"data.tokens": ("letters", "bpe")},  # vocabularies that encode any book
    "recall": {"data.corpus": ("recall", "recall_*"), "data.tokens": ("letters", "characters")},
}


def load_probes(names: Sequence[str], data: TimeMachine, model: Any) -> dict[str, Any]:
    """Return the module of each probe by name.

    Raises SettingError for a name that is not a probe, and for a probe that does not support this text or cell.
    """
    names = [names] if isinstance(names, str) else names
    require(isinstance(names, Sequence), "probes", names, "must be a list of probes", "[stream]")
    given = f"probes=[{','.join(map(str, names))}]"
    require(isinstance(model, RNNLMScratch) or not names, "probes", [*names], "need an RNNLMScratch", "[]")
    for name in names:
        require(name in PROBES, "probes", [*names], f"{name} must be one of {', '.join(PROBES)}")
        for setting, supported in ONLY.get(PROBES[name], {}).items():
            group, _, argument = setting.partition(".")
            value = str({"model": model, "data": data}[group].hparams.get(argument))
            if not any(fnmatchcase(value, pattern) for pattern in supported):
                raise SettingError(f"{given}: {name} requires {setting}={' or '.join(supported)}")
    return {name: importlib.import_module(f"timemachine.exercises.{PROBES[name]}") for name in names}
