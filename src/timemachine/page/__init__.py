"""Build a run's page.html: one self-contained file that runs the model in a browser.

page.html is the template, page.css the style, model.js the forward pass, and page.js defines the order in which
everything is read and drawn. This module selects the data of the page, which includes no path of the machine, and
nothing about where the run was logged.
"""

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from timemachine.config import DATA, format_value
from timemachine.errors import SettingError

if TYPE_CHECKING:  # these import torch, which takes seconds
    from torch import Tensor

    from timemachine.language_model import RNNLMScratch
    from timemachine.vocab import Vocab

SCRIPTS: tuple[str, ...] = (
    "bpe", "model", "reading", "train", "state", "characters", "text", "strip", "map", "recurrence", "next", "memory",
    "play", "epochs", "training", "share", "page",
)  # fmt: skip
MAX_CHARACTERS = 10_000  # of the training text, which a page includes to train on
NOUN = '<span class="noun">character</span>'  # the page writes "token" instead if its model reads tokens
MAX_BYTES = 4_000_000  # bytes of the weights in a page
# Settings of `model.` that model.js can run.
SUPPORTED: dict[str, tuple[Any, ...]] = {"cell": ("rnn",), "activation": ("tanh", "relu"), "tie_weights": (False,)}
TABLE_SETTINGS = {  # settings in the table of the page; an empty tuple: all settings of the section
    "model": (),
    "data": tuple(DATA),
    "trainer": ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val"),
}


class Epoch(NamedTuple):
    """Weights after an epoch, by name, and its perplexities, NaN if not measured."""

    number: float  # inf if unknown, for the last epoch only
    weights: "dict[str, Tensor]"
    train: float
    val: float


def make_page(
    model: "RNNLMScratch", vocab: "Vocab", summary: dict[str, Any], epochs: Sequence[Epoch] = (), text: str = ""
) -> bytes:
    """Return the bytes of a model's page.html.

    `summary`: the run's summary.json. `epochs`: the epochs of the slider before the last one. `text`: the training
    text, whose first `MAX_CHARACTERS` characters the page includes. Raises the exceptions of `check_model`.
    """
    check_model(model)
    weights = _page_weights(dict(model.named_parameters()))
    metrics = {name: float(value) for name, value in summary["metrics"].items()}  # "nan" in summary.json

    number = metrics.get("epoch", math.inf)
    train, val = (metrics.get(f"{name}/perplexity", math.nan) for name in ("train", "val"))
    earlier = [
        Epoch(epoch.number, _page_weights(epoch.weights), epoch.train, epoch.val)
        for epoch in epochs
        if epoch.number < number
    ]
    shapes = _shapes(weights)
    earlier = [
        epoch for epoch in earlier if _shapes(epoch.weights) == shapes
    ]  # a damaged epochs.safetensors may have others

    def slider_entry(epoch: Epoch) -> dict[str, Any]:
        numbers = {"epoch": epoch.number, "train": epoch.train, "val": epoch.val}
        return {name: number if math.isfinite(number) else None for name, number in numbers.items()}

    run = {
        "table": _table(summary, metrics, weights),
        "tokens": vocab.idx_to_token,
        "kind": vocab.kind.name,
        "unk": vocab.unk,
        "activation": model.hparams["activation"],
        "hiddens": model.hparams["hiddens"],
        "window": summary["settings"]["data"]["num_steps"],
        "text": text[:MAX_CHARACTERS],
        "weights": _encode_weights(weights, "<f4"),
        "epochs": [
            *(slider_entry(epoch) | {"weights": _encode_weights(epoch.weights, "<f2")} for epoch in earlier),
            slider_entry(Epoch(number, weights, train, val)),
        ],
    }
    return fill(summary["corpus"]["title"], run)


def _shapes(weights: "dict[str, Tensor]") -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def check_model(model: "RNNLMScratch") -> None:
    """Raise SettingError if the page does not support the model's class or a setting, or its weights are too large."""
    from timemachine.kernels.language_model import replaced_methods

    network: dict[str, Any] = dict(model.hparams)
    for name, supported in SUPPORTED.items():
        if network.get(name) not in supported:
            instead = " or ".join(f"model.{name}={format_value(value)}" for value in supported)
            raise SettingError(
                f"model.{name}={format_value(network.get(name))}: not supported by the page; use {instead}"
            )
    if replaced := {*replaced_methods(model)} - {"loss", "nll"}:
        rule = f"has other methods than RNNLMScratch ({', '.join(sorted(replaced))}), which the page does not know"
        raise SettingError(f"model._target_={type(model).__name__}: {rule}")
    if (size := size_of(model)) > MAX_BYTES:
        rule = f"the weights take {size / 1e6:.1f} MB of the page, which has a limit of {MAX_BYTES / 1e6:.0f} MB"
        instead = "a smaller model.hiddens or data.vocab_size, or a larger data.min_count"
        raise SettingError(f"model.hiddens={network['hiddens']}: {rule}; use {instead}")


def size_of(model: "RNNLMScratch", num_epochs: int = 0) -> int:
    """Return the bytes of a model's weights in its page, in base64: float32, plus float16 for each of `num_epochs`."""
    return (4 + 2 * num_epochs) * sum(weight.numel() for weight in model.parameters()) * 4 // 3


def _table(summary: dict[str, Any], metrics: dict[str, float], weights: "dict[str, Tensor]") -> list[tuple[str, str]]:
    """Return the names and values in the table of the page: the run, its settings and its finite metrics."""
    settings, size = summary["settings"], sum(weight.numel() for weight in weights.values())
    table = [("text", summary["corpus"]["title"]), ("status", summary["status"])]
    table += [("weights", f"{size:,}"), ("seed", str(settings["seed"]))]
    for section, names in TABLE_SETTINGS.items():
        values = {name: value for name, value in settings.get(section, {}).items() if name != "_target_"}
        table += [(f"{section}.{name}", format_value(values[name])) for name in names or values if name in values]
    return table + [(name, f"{value:,.6g}") for name, value in metrics.items() if math.isfinite(value)]


def _page_weights(parameters: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return weights by their names in a page, in float32 on the CPU."""
    return {name.removeprefix("rnn."): weight.detach().cpu().float() for name, weight in parameters.items()}


def _encode_weights(weights: "dict[str, Tensor]", dtype: str) -> dict[str, str]:
    """Return weights in base64, after conversion to a NumPy dtype."""
    return {name: _base64(weight.numpy().astype(dtype).tobytes()) for name, weight in weights.items()}


def fill(title: str, run: dict[str, Any]) -> bytes:
    """Fill the template with the title and the run as JSON, escaped so that they cannot close an HTML element."""
    files = ("page.html", "page.css", *(f"{name}.js" for name in SCRIPTS))
    template, style, *scripts = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in files)
    script = "".join(scripts)
    parts = {
        "policy": f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(script)}; style-src {_hash(style)}",
        "title": html.escape(title),
        "style": style,
        "letter": "letter" if run["kind"] == "letters" else NOUN,
        "token": NOUN,
        # JSON in ASCII also escapes U+2028 and U+2029.
        "run": json.dumps(run, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        "script": script,
    }
    # In one pass, so that inserted text is not searched.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template).encode()


def _hash(content: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(content.encode()).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
