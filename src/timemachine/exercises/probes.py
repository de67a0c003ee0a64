"""The probes: measurements of a trained model that `probes=[…]` adds to summary.json.

A probe is a module with `measure(model, data)`, which returns JSON-serialisable numbers, lists and dicts. A probe that
measures during training has `callback()`, which returns a Lightning callback.
"""

import importlib
from difflib import get_close_matches
from typing import Any

from timemachine.config import format_value
from timemachine.corpus import LARGE, Corpus
from timemachine.errors import SettingError

PROBES = {  # name -> module of this package
    "stream": "stream",
    "trigrams": "trigrams",
    "ngrams": "ngrams",
    "history": "history",
    "samples": "sampling",
    "books": "books",
    "weights": "one_hot_is_embedding",
    "reading": "how_low",
    "hyperparameters": "hyperparameters",
}
ONLY = {  # module -> required setting: these probes read the RNN's weights, or words and n-grams of lower-case letters
    "one_hot_is_embedding": ("model.cell", ("rnn",)),
    "sampling": ("data.tokens", ("letters",)),
    "how_low": ("data.tokens", ("letters",)),
    "books": ("data.tokens", ("letters", "bpe")),  # vocabularies that encode any book
}


def check(names: list[str], corpus: Corpus, cell: str = "rnn") -> None:
    """Raise SettingError for a name that is not a probe, and a probe that does not support this text or cell."""
    given = f"probes=[{','.join(names)}]"
    for name in names:
        if name not in PROBES:
            nearest = (get_close_matches(name, PROBES, 1) or list(PROBES))[0]
            raise SettingError(f"{given}: {name} not found; use probes=[{nearest}] ({', '.join(PROBES)})")
        setting, supported = ONLY.get(PROBES[name], ("", ()))
        if setting and {"model.cell": cell, "data.tokens": corpus.tokens.name}[setting] not in supported:
            requires = f"{name} requires {setting}={' or '.join(supported)}"
            raise SettingError(f"{given}: {requires}; use another probe, or {setting}={supported[0]}")
    if corpus.is_large:  # probes read the whole text
        rule = f"not supported for texts above {LARGE >> 20} MB (data.corpus={format_value(corpus.source)})"
        raise SettingError(f"{given}: {rule}; use probes=[]")


def load(names: list[str]) -> dict[str, Any]:
    """Return the module of each probe by name."""
    return {name: importlib.import_module(f"timemachine.exercises.{PROBES[name]}") for name in names}
