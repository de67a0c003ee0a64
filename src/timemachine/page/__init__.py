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
import shlex
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
    "random", "bpe", "model", "cells", "reading", "state", "characters", "text", "views", "strip", "map", "next",
    "play", "epochs", "experiments", "team", "training", "curves", "drawing", "share", "tour", "page",
)  # fmt: skip
WORKER = ("random", "worker")
# Settings of the page's networks and data that differ from the book's, and results on The Time Machine: `found`, and
# `python`, the validation perplexities of train.py.
EXPERIMENTS = json.loads(Path(__file__).with_name("experiments.json").read_text(encoding="utf-8"))
MAX_CHARACTERS = 175_000  # of the text, which a page includes to train on; The Time Machine has fewer
NOUN = '<span class="noun">character</span>'  # the page writes "token" instead if its model reads tokens
MAX_BYTES = 4_000_000  # bytes of the weights in a page
# Settings of `model.` that model.js can run.
SUPPORTED: dict[str, tuple[Any, ...]] = {
    "cell": ("rnn", "deep_rnn", "gru", "lstm"),
    "activation": ("tanh", "relu"),
    "tie_weights": (False,),
}
TABLE_SETTINGS = {  # settings in the table of the page; an empty tuple: all settings of the section
    "model": (),
    "data": tuple(DATA),
    "trainer": ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val"),
}
NEEDED: dict[str, set[str]] = {  # settings that only some cells, inputs or tokens have
    "_target_": set(), "layers": {"deep_rnn"}, "activation": {"rnn", "deep_rnn"}, "forget_bias": {"lstm"},
    "embedding_dim": {"embedding"}, "embedding_sigma": {"embedding"},
    "vocab_size": {"bpe"}, "learn_on": {"bpe"}, "min_count": {"characters"},
}  # fmt: skip


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

    `summary`: the run's summary.json. `epochs`: the epochs of the slider before the last one. `text`: of the run; the
    page includes its first `MAX_CHARACTERS`. Raises the exceptions of `check_model`.
    """
    check_model(model)
    weights = _page_weights(dict(model.named_parameters()))
    metrics = {name: float(value) for name, value in summary["metrics"].items()}  # "nan" in summary.json
    data, title = summary["settings"]["data"], summary["corpus"]["title"]

    def slider_entry(epoch: Epoch) -> dict[str, Any]:
        numbers = {"epoch": epoch.number, "train": epoch.train, "val": epoch.val}
        return {name: number if math.isfinite(number) else None for name, number in numbers.items()}

    train, val = (metrics.get(f"{name}/perplexity", math.nan) for name in ("train", "val"))
    last = Epoch(metrics.get("epoch", math.inf), weights, train, val)
    earlier = [epoch._replace(weights=_page_weights(epoch.weights)) for epoch in epochs if epoch.number < last.number]
    run = {
        "title": title,
        "table": _table(summary, metrics, weights),
        "tokens": vocab.idx_to_token,
        "kind": vocab.kind.name,
        "unk": vocab.unk,
        "cell": model.hparams["cell"],
        "activation": model.hparams["activation"],
        "hiddens": model.hparams["hiddens"],
        "window": data["num_steps"],
        "split": [data["num_train"], data["num_val"]],
        "overrides": _overrides(data),
        "text": text[:MAX_CHARACTERS],
        "weights": _encode_weights(weights, "<f4"),
        "epochs": [
            *(slider_entry(epoch) | {"weights": _encode_weights(epoch.weights, "<f2")} for epoch in earlier),
            slider_entry(last),
        ],
    }
    return fill(title, run)


def _overrides(data: dict[str, Any]) -> list[str]:
    """Return the settings of train.py for the text of the page, quoted for a shell and without a path."""
    corpus = data["corpus"] if re.fullmatch(r"\w+", str(data["corpus"])) else "…"
    tokens = "letters" if data["tokens"] == "letters" else "characters"  # the networks of the page read no byte pairs
    changed = {"corpus": (corpus, "time_machine"), "start": (data["start"], 0), "tokens": (tokens, "letters")}
    return [shlex.quote(f"data.{name}={value}") for name, (value, default) in changed.items() if value != default]


def _on_another_text(experiment: dict[str, Any]) -> dict[str, Any]:
    """Return an experiment without its results on The Time Machine."""
    is_recall = experiment.get("data", {}).get("text") == "recall"  # on generated letters
    return {name: value for name, value in experiment.items() if is_recall or name not in ("found", "python")}


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
    """Return the names and values in the table of the page: the run, the settings that apply to it, finite metrics."""
    settings, size = summary["settings"], sum(weight.numel() for weight in weights.values())
    table = [("text", summary["corpus"]["title"]), ("status", summary["status"])]
    table += [("weights", f"{size:,}"), ("seed", str(settings["seed"]))]
    used = {settings["model"].get("cell"), settings["model"].get("input"), settings["data"].get("tokens")}
    for section, names in TABLE_SETTINGS.items():
        values = {name: value for name, value in settings.get(section, {}).items() if value not in (None, -1)}
        apply = [name for name in names or values if name in values and used & NEEDED.get(name, used)]
        table += [(f"{section}.{name}", format_value(values[name])) for name in apply]
    return table + [(name, f"{value:,.6g}") for name, value in metrics.items() if math.isfinite(value)]


def _page_weights(parameters: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return weights by their names in a page, in float32 on the CPU."""
    return {name.removeprefix("rnn."): weight.detach().cpu().float() for name, weight in parameters.items()}


def _encode_weights(weights: "dict[str, Tensor]", dtype: str) -> dict[str, str]:
    """Return weights in base64, after conversion to a NumPy dtype."""
    return {name: _base64(weight.numpy().astype(dtype).tobytes()) for name, weight in weights.items()}


def fill(title: str, run: dict[str, Any]) -> bytes:
    """Fill the template with the title and the run as JSON, escaped so that they cannot close an HTML element."""
    folder = Path(__file__).parent
    run = run | {"experiments": [*map(_on_another_text, EXPERIMENTS)] if run["overrides"] else EXPERIMENTS}
    template, style = ((folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css"))
    script, worker = (
        "".join(_compact((folder / f"{name}.js").read_text(encoding="utf-8")) for name in names)
        for names in (SCRIPTS, WORKER)
    )
    parts = {
        # The worker, a Blob, has the same policy, in which it compiles the kernel.
        "policy": f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; worker-src blob:; "
        f"script-src {_hash(script)} 'wasm-unsafe-eval'; style-src {_hash(style)}",
        "title": html.escape(title),
        "style": style,
        "letter": "letter" if run["kind"] == "letters" else NOUN,
        "token": NOUN,
        # JSON in ASCII also escapes U+2028 and U+2029.
        "run": json.dumps(run, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        "kernel": _base64((folder / "kernel.wasm").read_bytes()),
        "worker": worker,
        "script": script,
    }
    # In one pass, so that inserted text is not searched.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template).encode()


def _compact(script: str) -> str:
    """Return a script without indentation, empty lines, and comments that are whole lines: a fifth of the page's."""
    return re.sub(r"^\s*(//.*\n)?", "", re.sub(r"^ */\*\*.*?\*/\n", "", script, flags=re.M | re.S), flags=re.M)


def _hash(content: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(content.encode()).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
