"""A run's page.html: the model in a browser, in one file that asks for no other.

page.html is the template, page.css the style, page.js what one does with it, model.js the forward pass. What goes into
the page is chosen here: no path of the machine, and nothing of where the run was logged.
"""

import base64
import hashlib
import html
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.config import format_value
from timemachine.errors import SettingError
from timemachine.runs.tables import short

if TYPE_CHECKING:  # they import torch, which takes seconds
    from timemachine.language_model import RNNLMScratch
    from timemachine.vocab import Vocab

LARGEST = 4_000_000  # bytes of the weights in a page
KNOWN = {"cell": ("rnn",), "activation": ("tanh", "relu")}  # settings of `model.` that model.js can run
SHOWN = {  # settings; none named: all of a section
    "model": (),
    "data": ("batch_size", "num_steps", "num_train", "num_val", "start", "tokens", "min_count"),
    "training": (),
    "trainer": ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val"),
}


def make_page(model: "RNNLMScratch", vocab: "Vocab", summary: dict[str, Any]) -> bytes:
    """Return page.html of a model; `summary`: its run's.

    Raises SettingError if a browser cannot run the model: another cell or activation, or more than `LARGEST` bytes.
    """
    network: dict[str, Any] = dict(model.hparams)
    for name, known in KNOWN.items():
        if network[name] not in known:
            instead = " or ".join(f"model.{name}={value}" for value in known)
            raise SettingError(f"model.{name}={network[name]}: has no page in a browser; type {instead}")
    weights = {name.removeprefix("rnn."): weight for name, weight in model.named_parameters()}
    num_weights = sum(weight.numel() for weight in weights.values())
    size = 4 * num_weights * 4 // 3  # float32 in base64
    if size > LARGEST:
        rule = f"a page of {size / 1e6:.1f} MB is too large, {LARGEST / 1e6:.0f} MB at most"
        # H(H + b) + c numbers
        H, b = network["hiddens"], 1 + weights["W_xh"].shape[0] + len(vocab)
        c = num_weights - H * (H + b)
        most = (math.isqrt(b * b + 4 * (LARGEST * 3 // 16 - c)) - b) // 2
        instead = f"model.hiddens={most} or fewer" if most > 0 else "a larger data.min_count"
        raise SettingError(f"model.hiddens={H}: {rule}; type {instead}")
    title, settings = summary["corpus"]["title"], summary["settings"]
    metrics = {name: float(value) for name, value in summary["metrics"].items()}  # "nan" in summary.json
    metrics = {name: value for name, value in metrics.items() if math.isfinite(value)}
    table = [("text", title), ("seed", str(settings["seed"]))]
    for section, names in SHOWN.items():
        values = settings[section]
        table += [(f"{section}.{name}", format_value(values[name])) for name in names or values]
    run = {
        "about": _about(title, network, num_weights, metrics),
        "table": table + [(name, f"{value:,.6g}") for name, value in metrics.items()],
        "tokens": vocab.idx_to_token,
        "kind": vocab.kind.name,
        "unk": vocab.unk,
        "activation": network["activation"],
        "hiddens": network["hiddens"],
        "weights": {name: _base64(weight.detach().float().cpu().numpy().astype("<f4").tobytes())
                    for name, weight in weights.items()},
    }  # fmt: skip
    return _filled(title, run)


def _about(title: str, network: dict[str, Any], num_weights: int, metrics: dict[str, float]) -> str:
    embeds = network["input"] == "embedding"
    reads = f"embeddings of width {network['embedding_dim']}" if embeds else "one-hot inputs"
    where = {"train": "in training", "val": "in validation", "test": "on the test text"}
    splits = [split for split in where if f"{split}/perplexity" in metrics]
    found = ", ".join(f"{short(metrics[f'{split}/perplexity'])} {where[split]}" for split in splits)
    return (
        f"A recurrent network of {num_weights:,} numbers that has read {title}: {network['hiddens']} hidden units, "
        f"{network['activation']}, {reads}{f'; perplexity {found}' if found else ''}. "
        "It runs here, in your browser: nothing that you type leaves this page."
    )


def _filled(title: str, run: dict[str, Any]) -> bytes:
    """Return the template with the title and the run as JSON, both escaped so that neither can end an element."""
    files = ("page.html", "page.css", "model.js", "page.js")
    template, style, model, page = (Path(__file__).with_name(name).read_text(encoding="utf-8") for name in files)
    script = model + page
    parts = {
        "policy": f"default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"script-src {_hash(script)}; style-src {_hash(style)}",
        "title": html.escape(f"{title}: a model to type into"),
        "style": style,
        # JSON in ASCII, so that U+2028 and the like are escaped as well.
        "run": json.dumps(run, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"),
        "script": script,
    }
    # In one pass: what is put in is not searched.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template).encode()


def _hash(content: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(content.encode()).digest())}'"


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
