"""A run's page.html: the model in a browser, in one file that asks for no other.

page.html is the template, page.css and page.js what one sees and does; model.js has the forward pass. What of the run
goes into the page is chosen here: no path of the machine, and nothing of where it was logged.
"""

import base64
import hashlib
import html
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.errors import SettingError
from timemachine.runs.tables import short

if TYPE_CHECKING:  # they import torch, which takes seconds
    from timemachine.language_model import RNNLMScratch
    from timemachine.vocab import Vocab

LARGEST = 4_000_000  # bytes of a page
ACTIVATIONS = ("tanh", "relu")  # those of model.js
SHOWN = {  # settings; null: all of a section
    "model": None,
    "data": ("batch_size", "num_steps", "num_train", "num_val"),
    "training": None,
    "trainer": ("max_epochs", "max_steps", "precision", "accumulate_grad_batches", "gradient_clip_val"),
}
METRICS = (
    "train/perplexity", "val/perplexity", "best_val/perplexity", "test/perplexity", "epoch", "step", "grad_norm",
    "clip_fraction", "largest_grad_norm", "chars_per_second",
)  # fmt: skip


def make_page(model: "RNNLMScratch", vocab: "Vocab", summary: dict[str, Any]) -> bytes:
    """Return page.html of a model. `summary`: that of its run, which may be a stranger's.

    Raises SettingError where a browser cannot run the model: another cell or activation, or more than `LARGEST` bytes.
    """
    settings: dict[str, Any] = dict(model.hparams)
    if settings["cell"] != "rnn":
        raise SettingError(f"model.cell={settings['cell']}: has no page in a browser; type model.cell=rnn")
    activation = settings["activation"]
    if activation not in ACTIVATIONS:
        instead = " or ".join(f"model.activation={name}" for name in ACTIVATIONS)
        raise SettingError(f"model.activation={activation}: has no page in a browser; type {instead}")
    weights = {name.removeprefix("rnn."): weight for name, weight in model.named_parameters()}
    numbers = sum(weight.numel() for weight in weights.values())
    _refuse_larger(4 * numbers * 4 // 3, settings["hiddens"])  # before it is made
    title = _text(_part(summary, "corpus").get("title", "a text"))
    run = {
        "about": _about(title, settings, numbers, _part(summary, "metrics")),
        "table": _table(title, summary),
        "tokens": vocab.idx_to_token,
        "unk": vocab.unk,
        "activation": activation,
        "hiddens": settings["hiddens"],
        "weights": {
            name: base64.b64encode(weight.detach().float().cpu().numpy().astype("<f4").tobytes()).decode()
            for name, weight in weights.items()
        },
    }
    page = _filled(title, run)
    _refuse_larger(len(page), settings["hiddens"])
    return page


def _filled(title: str, run: dict[str, Any]) -> bytes:
    """Return the template with the title and what the scripts know of the run, neither of which can end an element."""
    folder = Path(__file__).parent
    style, model, page = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "model.js", "page.js"))
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
    template = (folder / "page.html").read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], template).encode()


def _hash(content: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def _refuse_larger(size: int, hiddens: int) -> None:
    if size > LARGEST:
        rule = f"a page of {size / 1e6:.1f} MB, and {LARGEST / 1e6:.0f} are the most"
        raise SettingError(f"model.hiddens={hiddens}: makes {rule}; type model.hiddens=512 or fewer")


def _about(title: str, settings: dict[str, Any], numbers: int, metrics: dict[str, Any]) -> str:
    embeds = settings["input"] == "embedding"
    reads = f"embeddings of width {settings['embedding_dim']}" if embeds else "one-hot inputs"
    named = {"train": "in training", "val": "in validation", "test": "on the test text"}
    found = [
        f"{short(metrics[f'{split}/perplexity'])} {where}"
        for split, where in named.items()
        if _is_number(metrics.get(f"{split}/perplexity"))
    ]
    return (
        f"A recurrent network of {numbers:,} numbers that has read {title}: {settings['hiddens']} hidden units, "
        f"{settings['activation']}, {reads}"
        + (f"; perplexity {', '.join(found)}" if found else "")
        + ". It runs here, in your browser: nothing that you type leaves this page."
    )


def _table(title: str, summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values of what the page tells of the run."""
    rows, settings, metrics = [("text", title)], _part(summary, "settings"), _part(summary, "metrics")
    rows += [("seed", _text(settings["seed"]))] if "seed" in settings else []
    for section, names in SHOWN.items():
        values = _part(settings, section)
        rows += [(_text(f"{section}.{name}"), _text(values[name])) for name in names or values if name in values]
    for name in METRICS:
        if _is_number(metrics.get(name)):
            rows.append((name, f"{metrics[name]:,.6g}"))
    return rows


def _part(of: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an entry that should be a dict, or an empty one."""
    part = of.get(name)
    return part if isinstance(part, dict) else {}


def _text(value: object) -> str:
    """Return a value as it is shown: on one line, cut where it is long."""
    shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return " ".join(shown.encode(errors="replace").decode().split())[:200]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300  # no NaN either
