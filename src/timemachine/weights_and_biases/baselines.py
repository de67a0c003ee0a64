"""What n-grams make of a run's text, as runs of job type `baseline` in W&B: lines to compare curves with.

The n-grams are trained on the run's own training characters and read its validation and test characters as one stream.
A network's window perplexity lies a little above its stream perplexity, since each window begins with a zero state.
"""

import math
import tempfile
from typing import Any

import wandb

from timemachine.corpus import find_corpus
from timemachine.evaluation.scores import splits_of
from timemachine.how_low import ORDERS, kneser_ney, laplace, witten_bell
from timemachine.weights_and_biases.workspace import CHANGES

SMOOTHED = {"Witten-Bell": witten_bell, "Kneser-Ney": kneser_ney}
Marks = dict[str, dict[str, float]]  # name of a model -> metric -> perplexity


def marks(summary: dict[str, Any]) -> Marks:
    """Return the perplexities of the letters' frequencies, and of n-grams of the order that is best on validation.

    `summary`: a run's summary.json. Raises SettingError if its text is not to be found.
    """
    settings = summary["settings"]["data"]
    corpus = find_corpus(summary["corpus"]["source"], settings["search_dirs"])
    splits = {name: split.targets for name, split in splits_of(summary, corpus).items()}
    text = corpus.characters
    train = text[: splits["train"].stop]
    readers = {"letter frequencies": (laplace, 1)}
    if val := splits.get("val"):
        for name, smoothed in SMOOTHED.items():
            _, order = min((smoothed(train, text, val, order).mean(), order) for order in ORDERS)
            readers[f"{name} {order}-gram"] = smoothed, order
    return {
        name: {
            f"{part}/perplexity": math.exp(smoothed(train, text, splits[part], order).mean())
            for part in ("val", "test")
            if splits.get(part)
        }
        for name, (smoothed, order) in readers.items()
    }


def log_marks(summary: dict[str, Any], project: str, entity: str) -> list[str]:
    """Log a run of two points, the first and the last epoch, for each mark; return the runs' ids.

    The ids are made of text and windows, so that a second call makes no second run.
    """
    last = max(int(summary["metrics"].get("epoch", 1)), 2)
    ids = []
    for name, perplexities in marks(summary).items():
        windows = summary["settings"]["data"]["num_train"] or "all"
        ids.append(f"{name.split()[0].lower()}-{summary['corpus']['sha256'][:8]}-{windows}")
        title = f"{summary['corpus']['name']} {name}"
        with tempfile.TemporaryDirectory() as folder, wandb.init(
            dir=folder, project=project, entity=entity, id=ids[-1], name=title, job_type="baseline", group="n-grams",
            config={CHANGES: title}, notes=__doc__, reinit="create_new", mode="online",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, save_code=False),
        ) as run:  # fmt: skip
            run.define_metric("epoch", hidden=True)
            run.define_metric("val/*", step_metric="epoch")
            for epoch in (1, last):
                run.log(perplexities | {"epoch": epoch})
            run.summary.update(perplexities | {"status": "completed"})
    return ids
