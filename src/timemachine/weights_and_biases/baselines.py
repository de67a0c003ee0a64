"""The n-grams of a run's text, as runs of job type `baseline` in W&B: lines to compare curves with.

They are trained on the run's own training characters and read its validation and test characters as one stream. A
network's window perplexity lies a little above its stream perplexity, since each window begins with a zero state.
"""

import math
from typing import Any

from timemachine.corpus import find_corpus
from timemachine.evaluation.scores import splits_of
from timemachine.how_low import ORDERS, kneser_ney, laplace
from timemachine.weights_and_biases import CHANGES
from timemachine.weights_and_biases.server import online_run


def ngram_perplexities(summary: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return name -> `val/perplexity` and `test/perplexity` of letter frequencies and of the best Kneser-Ney n-gram.

    `summary`: a run's summary.json. The n-gram's order is the best one on validation; without validation windows there
    are the letters alone. Raise SettingError if the text is not found.
    """
    corpus = find_corpus(summary["corpus"]["source"], summary["settings"]["data"]["search_dirs"])
    targets = {name: split.targets for name, split in splits_of(summary, corpus).items()}
    text, train = corpus.characters, corpus.characters[: targets.pop("train").stop]
    models = {"letter frequencies": (laplace, 1)}
    if val := targets.get("val"):
        order = min(ORDERS, key=lambda order: kneser_ney(train, text, val, order).mean())
        models[f"Kneser-Ney {order}-gram"] = kneser_ney, order
    return {
        name: {f"{part}/perplexity": math.exp(model(train, text, read, order).mean()) for part, read in targets.items()}
        for name, (model, order) in models.items()
    }


def log_ngrams(summary: dict[str, Any], project: str, entity: str) -> list[str]:
    """Log a run of two points, the first and the last epoch, for each n-gram; return the runs' ids.

    The ids are made of text and windows, so that a second call makes no second run.
    """
    corpus, windows, ids = summary["corpus"], summary["settings"]["data"]["num_train"] or "all", []
    place = {"project": project, "entity": entity, "job_type": "baseline", "group": "n-grams"}
    for name, perplexities in ngram_perplexities(summary).items():
        ids.append(f"{name.split()[0].lower()}-{corpus['sha256'][:8]}-{windows}")
        title = f"{corpus['name']} {name}"
        with online_run(ids[-1], name=title, config={CHANGES: title}, **place) as run:
            run.define_metric("epoch", hidden=True)
            run.define_metric("val/*", step_metric="epoch")
            for epoch in (1, max(int(summary["metrics"].get("epoch", 1)), 2)):
                run.log(perplexities | {"epoch": epoch})
            run.summary.update(perplexities | {"status": "completed"})
    return ids
