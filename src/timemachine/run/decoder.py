"""Decode with an export, model.safetensors, without the imports of torch and Lightning, which take seconds."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from string import ascii_letters
from typing import Any

import numpy as np
from safetensors import safe_open

from timemachine.config import PREFIX, Tokens, require
from timemachine.kernels.decoding import Array, NumpyDecoder, RNNWeights
from timemachine.run.files import weights_in
from timemachine.run.run import load_run
from timemachine.run.summary import TRUSTED_CLASSES
from timemachine.sampling import Step
from timemachine.vocab import Vocab

PRECISIONS = {np.dtype(np.float32), np.dtype(np.float64)}
IN_PLACE: dict[str, Callable[[Array], object]] = {  # in place, with the values of `kernels.activations`
    "tanh": lambda Z: np.tanh(Z, out=Z),
    "relu": lambda Z: np.maximum(Z, 0, out=Z),
}


def readable_prefix(typed: str, vocab: Vocab) -> str:
    """Return a typed prefix as a model reads it; print to stderr which characters it reads as spaces or `<unk>`.

    The default prefix becomes empty if the vocabulary lacks its letters. Raises SettingError for a prefix without a
    letter, if the model reads letters only.
    """
    prefix = vocab.tokens_of(typed)
    if vocab.kind is Tokens.letters and typed:
        require(bool(prefix.strip(" ")), "prefix", typed, "contains no letter from A to Z", f"'{PREFIX}'")
        lost = dict.fromkeys(each for each in typed if each not in ascii_letters and not each.isspace())
        if lost:
            print(f"prefix: the model reads {' '.join(map(repr, lost))} as spaces", file=sys.stderr)
    if unknown := vocab.unknown(prefix):
        print(f"prefix: the vocabulary lacks {' '.join(map(repr, unknown))}, read as <unk>", file=sys.stderr)
        prefix = "" if typed == PREFIX else prefix
    return prefix


def load_decoder(run: Path, model_class: type | None = None) -> tuple[Step, Vocab]:
    """Return a decoding step and the vocabulary of a run. `model_class`: the class of the run if it is a user's.

    Raises SettingError if the run cannot be read.
    """
    if model_class is None and (loaded := load_numpy_decoder(run)):
        return loaded
    from timemachine.decoding import make_decoder  # deferred: import torch and Lightning
    from timemachine.run.weights import load_model

    model, vocab = load_model(run, model_class)
    return make_decoder(model, vocab), vocab


def load_numpy_decoder(run: Path) -> tuple[Step, Vocab] | None:
    """Return a decoding step and the vocabulary of a run's export, or None where `load.load_model` is needed.

    That is for a checkpoint, a stale export, a class or a cell without a step in NumPy, weights of 16 bits, and
    anything damaged, which `load_model` reports.
    """
    export, last_checkpoint = weights_in(run)
    path = export if run.is_dir() else run
    try:
        with safe_open(path, framework="np") as file:
            about = {name: json.loads(value) for name, value in file.metadata().items()}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        vocab, arguments = Vocab(about["tokens"], Tokens(about["kind"])), about["hyper_parameters"]
        is_supported = (
            about["class"] in TRUSTED_CLASSES and arguments["cell"] == "rnn" and arguments["activation"] in IN_PLACE
        )
        is_current = not last_checkpoint.exists() or _is_of_the_end(run, about["summary"]["metrics"])
        if not (is_supported and is_current and {weight.dtype for weight in weights.values()} <= PRECISIONS):
            return None
        vectors_VD = weights.get("embedding")
        if arguments["tie_weights"]:
            vectors_VD = weights["W_hq"].T / arguments["embedding_sigma"]
        named = RNNWeights(*(weights[name] for name in ("rnn.W_xh", "rnn.W_hh", "rnn.b_h", "W_hq", "b_q")))
        return NumpyDecoder(named, vectors_VD, IN_PLACE[arguments["activation"]], vocab), vocab
    # Not an error here: `load_model` reads the same file, and its message names the reason.
    except Exception:  # damaged bytes, or another program's file, raise anything
        return None


def _is_of_the_end(folder: Path, metrics: dict[str, Any]) -> bool:
    """Return whether the run has ended with this export: a run that was resumed and killed has an older one."""
    run = load_run(folder)
    return run.has_ended and run.metrics.get("step") == metrics["step"]
