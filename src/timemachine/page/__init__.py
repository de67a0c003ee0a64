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

from timemachine.config import Data, format_value, to_dict, windows_of
from timemachine.errors import SettingError

if TYPE_CHECKING:  # these import torch, which takes seconds
    from torch import Tensor

    from timemachine.language_model import RNNLMScratch
    from timemachine.vocab import Vocab

SCRIPTS: tuple[str, ...] = (
    "bpe", "model", "reading", "characters", "text", "strip", "units", "recurrence", "next", "memory", "play", "page",
)  # fmt: skip
MAX_BYTES = 4_000_000  # bytes of the weights in a page
# Settings of `model.` that model.js can run.
KNOWN: dict[str, tuple[Any, ...]] = {"cell": ("rnn",), "activation": ("tanh", "relu"), "tie_weights": (False,)}
SHOWN = {  # settings in the table of the page; an empty tuple: all settings of the section
    "model": (),
    "data": tuple(windows_of(to_dict(Data()))),
    "training": (),
    "trainer": ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val"),
}


class Epoch(NamedTuple):
    """Weights of an epoch in half precision, and its perplexities, NaN if not measured."""

    number: int
    weights: "dict[str, Tensor]"
    train: float
    val: float


def make_page(
    model: "RNNLMScratch", vocab: "Vocab", summary: dict[str, Any], epochs: Sequence[Epoch] = (), text: str = ""
) -> bytes:
    """Return the bytes of a model's page.html.

    `summary`: the run's summary.json. `epochs`: the epochs of the slider before the last one. `text`: the beginning of
    the training text, by which units are named. Raises the exceptions of `check_model`.
    """
    check_model(model)
    network: dict[str, Any] = dict(model.hparams)
    weights = _weights_of(dict(model.named_parameters()))
    size = sum(weight.numel() for weight in weights.values())
    title, settings = summary["corpus"]["title"], summary["settings"]
    metrics = {name: float(value) for name, value in summary["metrics"].items()}  # "nan" in summary.json
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    table = [("text", title), ("status", summary["status"]), ("weights", f"{size:,}"), ("seed", str(settings["seed"]))]
    for section, names in SHOWN.items():
        values = settings[section]
        table += [(f"{section}.{name}", format_value(values[name])) for name in names or values]
    run = {
        "table": table + [(name, f"{value:,.6g}") for name, value in metrics.items()],
        "tokens": vocab.idx_to_token,
        "kind": vocab.kind.name,
        "unk": vocab.unk,
        "activation": network["activation"],
        "hiddens": network["hiddens"],
        "window": settings["data"]["num_steps"],
        "weights": _sent(weights, "<f4"),
        **_learnt(weights, network, vocab, metrics, epochs, text),
    }
    return fill(title, run)


def check_model(model: "RNNLMScratch") -> None:
    """Raise SettingError if the page does not support the cell or the activation, or if the weights are too large."""
    network: dict[str, Any] = dict(model.hparams)
    for name, known in KNOWN.items():
        if network[name] not in known:
            instead = " or ".join(f"model.{name}={format_value(value)}" for value in known)
            raise SettingError(f"model.{name}={format_value(network[name])}: not supported by the page; use {instead}")
    if (size := size_of(model)) > MAX_BYTES:
        rule = f"the weights take {size / 1e6:.1f} MB of the page, which has a limit of {MAX_BYTES / 1e6:.0f} MB"
        instead = "a smaller model.hiddens or data.vocab_size, or a larger data.min_count"
        raise SettingError(f"model.hiddens={network['hiddens']}: {rule}; use {instead}")


def size_of(model: "RNNLMScratch", num_epochs: int = 0) -> int:
    """Return the bytes of a model's weights in its page, in base64: float32, plus float16 for each of `num_epochs`."""
    return (4 + 2 * num_epochs) * sum(weight.numel() for weight in model.parameters()) * 4 // 3


def _learnt(
    weights: "dict[str, Tensor]", network: dict[str, Any], vocab: "Vocab", metrics: dict[str, float],
    epochs: Sequence[Epoch], text: str,
) -> dict[str, Any]:  # fmt: skip
    """Return the named units, the order of all units, and the epochs of the slider, including the last one."""
    from timemachine.page.units import Units  # deferred: imports torch, which takes seconds

    units = Units(weights, network["activation"], text, vocab) if text else None

    def entry(epoch: int | None, train: float, val: float, weights: "dict[str, Tensor]") -> dict[str, Any]:
        numbers = {name: it if math.isfinite(it) else None for name, it in (("train", train), ("val", val))}
        return {"epoch": epoch, **numbers, "correlations": units.correlations(weights) if units else []}

    last = int(metrics["epoch"]) if "epoch" in metrics else None
    entries = list[dict[str, Any]]()
    for epoch in epochs:
        if last is None or epoch.number < last:
            then = _weights_of(epoch.weights)
            entries.append(entry(epoch.number, epoch.train, epoch.val, then) | {"weights": _sent(then, "<f2")})
    train, val = (metrics.get(f"{split}/perplexity", math.nan) for split in ("train", "val"))
    return {
        "order": units.order if units else [*range(network["hiddens"])],
        "units": [{"unit": it.unit, "meaning": it.meaning, "order": it.order} for it in units.named] if units else [],
        "epochs": [*entries, entry(last, train, val, weights)],
    }


def _weights_of(parameters: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return weights by their names in a page, in float32 on the CPU."""
    return {name.removeprefix("rnn."): weight.detach().cpu().float() for name, weight in parameters.items()}


def _sent(weights: "dict[str, Tensor]", dtype: str) -> dict[str, str]:
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
        "title": html.escape(f"{title}: a model to type into"),
        "style": style,
        "phi": run["activation"],
        "letter": {"bpe": "token", "letters": "letter"}.get(run["kind"], "character"),
        "token": "token" if run["kind"] == "bpe" else "character",
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
