"""Exercise 4, continued: How low can you go while sticking with this simple architecture?

The probe scores the held-out text, read as one stream, under the run's model and its baselines. It writes
`reading.npz` to the run's folder: for val and test, the negative log-likelihood of each target under each of these
models (`val/model`, `val/mixture`, …), and `val/since` (see `_since`). A run with `trainer.limit_test_batches=0` does
not read the test split, and has only its own model's scores on val. The report is written from the sums of these scores
over blocks of text, which arrays.npz keeps, and from summary.csv.

Shapes: N targets, K blocks, S seeds.
"""

import copy
import json
import math
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from timemachine import how_low
from timemachine.corpus import DEFAULT
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import BLOCK, stream_nll
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import Estimate, by_seed, compare, estimate, holm
from timemachine.exercises.drawing import COLOURS, panels, plain_numbers
from timemachine.exercises.groups import completed, grouped, markdown, missing
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job
from timemachine.texts import CATALOGUE

Floats = NDArray[np.float64]
Recipe = list[Job]  # runs that differ in their seed only
ANY_SETTINGS = True

MODELS = {  # name in reading.npz -> label
    "kneser_ney": "n-grams of one order",
    "mixture": "mixture of n-grams",
    "networks": "networks alone",
    "teacher": "teacher (mixture and networks)",
    "model": "one model",
    "teachers": "ensemble of teachers",
    "models": "ensemble of models",
}
ENSEMBLES = {"models": "model", "teachers": "teacher", "models_adapting": "model_adapting"}  # of all seeds
PAIRS: dict[str, list[tuple[str, str]]] = {  # name of a table -> pairs of models to compare
    "fixed": [("model", "mixture"), ("model", "teacher")],
    "ensembles": [("models", "mixture"), ("models", "teachers")],
    "adapting": [("model_adapting", "mixture_adapting"), ("models_adapting", "mixture_adapting")],
}
PARTS = {
    ("novel", "val"): "next 5% (validation)",
    ("novel", "test"): "last 5%",
    ("book", "val"): "the book's split, validation",
    ("book", "test"): "the book's split, rest of the novel",
}
STEPS = {  # setting -> description of the step that changes it; a table lists all its changes
    "training.carry_state": "state carried between windows; AdamW, warm-up and cosine schedule",
    "model.hiddens": "{:,} hidden units",
    "model.input_lr_factor": "the input's weights learn {:g} times as fast",
    "training.teacher": "n-grams generate {:g} times as much text; ReLU",
    "training.teacher_networks": "{:g} networks generate text with the n-grams",
}
KINDS = {  # kind of character -> range of `_since`, the distance to the last occurrence of its word
    "word never seen before": (0, 0),
    "word last seen more than 10,000 characters ago": (10_001, math.inf),
    "word last seen 1,001 to 10,000 characters ago": (1_001, 10_000),
    "word last seen at most 1,000 characters ago": (1, 1_000),
}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Write `reading.npz`; return each model's perplexity on each part, and the run's on the training text.

    The models are the run's; its teacher; the teacher's networks as an ensemble; the teacher's mixture of n-grams; and
    Kneser-Ney n-grams of the order that is best on that part.
    """
    model, tokens_N, text = model.cpu(), data.tokens_N.cpu(), data.corpus.characters
    known = data.splits["train"].targets
    is_intermediate_step = model.trainer.limit_test_batches == 0  # a step before the last
    arrays: dict[str, Any] = {}
    found = {"train": {"model": _perplexity(stream_nll(model, tokens_N, known).numpy())}}
    if not is_intermediate_step:
        symbols = how_low.Symbols.of(data.vocab)
        counted, mixture = symbols.encode(text), how_low.Mixture(symbols)
        mixture.read(counted, range(known.stop), learn=True)
    for part in ("val",) if is_intermediate_step else ("val", "test"):
        # The longest n-grams need this many characters before a target, and all models have the same targets.
        targets = range(max(data.splits[part].targets.start, max(how_low.ORDERS) - 1), data.splits[part].targets.stop)
        if not targets:
            continue
        nlls = {"model": stream_nll(model, tokens_N, targets)}
        if not is_intermediate_step:
            nlls["model_adapting"] = how_low.adaptive_nll(model, tokens_N, known, targets, how_low.ADAPT_RATE)
            train, size = counted[: known.stop], len(symbols)
            of_orders = [how_low.kneser_ney(train, counted, targets, order, size) for order in how_low.ORDERS]
            nlls["kneser_ney"] = torch.from_numpy(min(of_orders, key=np.mean))
            for name, learn in (("mixture", False), ("mixture_adapting", True)):
                log_p_NV = (copy.deepcopy(mixture) if learn else mixture).read(counted, targets, learn)
                nlls[name] = torch.from_numpy(how_low.log_loss(log_p_NV, counted, targets))
            training = getattr(model, "training_settings", None)
            if training and (networks := how_low.networks_of(data, training.teacher_networks)):
                nlls["networks"] = stream_nll(networks, tokens_N, targets)
                nlls["teacher"] = how_low.teacher_nll(nlls["mixture"], nlls["networks"])
            arrays[f"{part}/since"] = _since(text, targets)
        found[part] = {name: _perplexity(nll_N.numpy()) for name, nll_N in nlls.items()}
        arrays |= {f"{part}/{name}": nll_N.float().numpy() for name, nll_N in nlls.items()}
    np.savez_compressed(Path(model.trainer.default_root_dir, "reading.npz"), **arrays)
    return found


def _perplexity(nll_N: Floats) -> float:
    return math.exp(nll_N.mean())


def _since(text: str, targets: range) -> NDArray[np.int64]:
    """Return the distance from each target's word to its previous occurrence; 0 for a new word, -1 between words.

    Distances are in characters, from start to start. The character after a word counts as part of it.
    """
    since_N = np.full(len(text) + 1, -1)
    last: dict[str, int] = {}
    for word in re.finditer(r"[^\W\d_]+", text):
        start, stop = word.span()
        since_N[start : stop + 1] = start - last.get(word.group(), start)
        last[word.group()] = start
    return since_N[targets.start : targets.stop]


@dataclass(frozen=True, slots=True)
class Reading:
    """Scores of a recipe's model and its baselines on a part of a text, or on one kind of its characters.

    `sums`: model -> sums of negative log-likelihoods over blocks, (S, K), where S is 1 for an ensemble; and
    `characters` (K,), their number.
    """

    text: str
    sums: dict[str, Floats]

    def nats(self, model: str, other: str = "") -> Estimate:
        """Return a model's mean negative log-likelihood, or its difference from `other`'s, paired by seed and block.

        The estimate is empty if a model has no scores.
        """
        if not {model, other or model} <= self.sums.keys():
            return estimate([])
        count_K = self.sums["characters"]
        sum_K = self.sums[model].mean(0) - (self.sums[other].mean(0) if other else 0)
        mean = sum_K.sum() / count_K.sum()  # blocks differ in length: linearise the ratio for the interval
        return estimate(mean + (sum_K - mean * count_K) / count_K.mean())

    def perplexity(self, model: str) -> Estimate:
        """Return a model's perplexity, with an interval from the delta method."""
        nats = self.nats(model)
        return Estimate(math.exp(nats.mean), math.exp(nats.mean) * nats.half_width, math.nan, nats.count)


def in_blocks(values: NDArray[Any]) -> Floats:
    """Return the sums (…, K) of values (…, N) over blocks of 100 characters.

    Blocks have 1,000 characters in a text of 100,000 or more, where differences drift along the text.
    """
    starts = np.arange(0, values.shape[-1], BLOCK if values.shape[-1] < 1000 * BLOCK else 10 * BLOCK)
    sums: Floats = np.add.reduceat(values.astype(float), starts, axis=-1)
    return sums


def block_sums(jobs: list[Job]) -> dict[str, Floats]:
    """Return the sums of all readings, by `<text>/<split>/<part>/<model>` or `<text>/<split>/<part>/<kind>/<model>`.

    They come from the last recipe of each text and split, if it was scored with its baselines. Of other novels only
    test is included, since their val was not used for choices either.
    """
    found: dict[str, Floats] = {}
    for (corpus, num_train), recipes in _recipes(jobs).items():
        for part in ("val", "test") if corpus == DEFAULT else ("test",):
            key = f"{Path(corpus).stem}/{'novel' if num_train is None else 'book'}/{part}"
            runs = [scores for job in recipes[-1] if "mixture" in (scores := _scores(job, part))]
            if not runs:
                continue
            since_N = runs[0]["since"]
            nlls = {name: np.array([scores[name] for scores in runs]) for name in runs[0] if name != "since"}
            if len(runs) > 1:
                for name, each in ENSEMBLES.items():
                    if each in nlls:
                        nlls[name] = np.log(len(runs)) - np.logaddexp.reduce(-nlls[each], 0, keepdims=True, dtype=float)
            nlls["characters"] = np.ones(len(since_N))
            kinds = KINDS if key == f"{DEFAULT}/novel/test" else {}
            for kind, (least, most) in {"": (-1, math.inf), **kinds}.items():
                is_kind_N = (least <= since_N) & (since_N <= most)
                if is_kind_N.any():
                    place = f"{key}/{kind}".rstrip("/")
                    found |= {f"{place}/{name}": in_blocks(nll_SN * is_kind_N) for name, nll_SN in nlls.items()}
    return found


def _scores(job: Job, part: str) -> dict[str, NDArray[Any]]:
    """Return the arrays (N,) of a part in a job's reading.npz, empty if there are none."""
    path = job.folder / "reading.npz"
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as arrays:
        return {name.partition("/")[2]: arrays[name] for name in arrays if name.startswith(f"{part}/")}


def _recipes(jobs: list[Job]) -> dict[Any, list[Recipe]]:
    """Return the recipes of each text and split, in the order of the jobs."""
    scored = [job for job in completed(jobs) if job.probes.get("reading")]
    by_text = grouped(scored, "data.corpus", "data.num_train")
    return {text: [*grouped(group, _all_but_the_seed).values()] for text, group in by_text.items()}


def _all_but_the_seed(job: Job) -> str:
    settings = {name: value for name, value in job.settings.items() if name not in ("seed", "resume")}
    return json.dumps(settings, sort_keys=True, default=str)


def _readings(arrays: dict[str, Floats]) -> dict[str, Reading]:
    """Return the readings of `block_sums` by the names of their arrays, without the model."""
    found: dict[str, Reading] = {}
    for name, sum_SK in arrays.items():
        key, _, model = name.rpartition("/")
        book, split, part, *kind = key.split("/")
        title = CATALOGUE[book].title if book in CATALOGUE else book
        text = kind[0] if kind else f"{title}, {PARTS[split, part]}"
        found.setdefault(key, Reading(text, {})).sums[model] = sum_SK
    return found


def findings(jobs: list[Job]) -> Findings:
    """Report one row per step from the book's run to the novel's recipe, then compare recipes with baselines."""
    arrays = block_sums(jobs)
    every = _readings(arrays)
    readings = {key: reading for key, reading in every.items() if reading.text not in KINDS}
    kinds = [reading for reading in every.values() if reading.text in KINDS]
    recipes = _recipes(jobs)
    path = recipes.get((DEFAULT, None)) or next(iter(recipes.values()), [])
    changes = [_changes(recipe, before) for recipe, before in zip(path, path[:1] + path, strict=False)]
    steps = ["the book's run, on 90% of the novel", *map(_step, changes[1:])][: len(path)]
    lowered = _bracketed({row: compare(_val(path[row - 1]), _val(path[row])) for row in range(1, len(path))}, ".2f")
    pairs = [pair for of_table in PAIRS.values() for pair in of_table]
    differences = _bracketed(
        {(key, pair): reading.nats(*pair) for key, reading in readings.items() for pair in pairs}, "+.3f"
    )

    def table(name: str, models: list[str]) -> str:
        rows = [
            [reading.text, *(f"{reading.perplexity(model)}" for model in models),
             *(differences[key, pair] for pair in PAIRS[name])]
            for key, reading in readings.items()
        ]  # fmt: skip
        columns = ["text", *map(_label, models), *(" − ".join(map(_label, pair)) for pair in PAIRS[name])]
        return markdown(columns, rows)

    return Findings(
        answer=_answer(jobs, path, readings.get(f"{DEFAULT}/novel/test")),
        setting="One recurrent layer with a linear output layer, trained on the first 90% of the novel. The first row "
        "is the book's run, and each row adds one step to the row before (`conf/recipe/low_*.yaml`; the last row is "
        "`recipe=novel`). A step may change several settings, because the learning rate, the initial weights and the "
        "number of epochs were adjusted with it. The steps were chosen on the next 5% of the novel. On the book's "
        "split other settings were used (`recipe=book_split`: 512 units, 100 times as much generated text, 2 epochs). "
        "The amount of generated text and the number of epochs were chosen on the last 1,000 of its training "
        "characters. The other novels were not used for any choice.",
        columns=["step", "training text", "next 5%", "lower by"],
        rows=[
            [steps[row], f"{estimate(job.probes['reading']['train']['model'] for job in recipe)}",
             f"{estimate(_val(recipe).values())}", lowered.get(row, "")]
            for row, recipe in enumerate(path)
        ],
        figures={"path": _path_figure(path, steps, readings)} | ({"knows": _knows_figure(kinds)} if kinds else {}),
        arrays={name: sum_SK.astype(np.float32) for name, sum_SK in arrays.items()},
        notes=[
            "Stream perplexity; ± is the half-width of a 95% interval, over seeds in the table above and over blocks "
            "of text in the tables below, where it does not contain the variation between seeds. The gain of a step "
            "depends on the steps before it: one that fits the training text better helps only once another reduces "
            "overfitting. Differences in brackets are not significant after Holm's correction, for which the steps are "
            "one family and all differences in the tables below another.",
            "**Settings** changed by each step:",
            markdown(["step", "settings"], [[*row] for row in zip(steps, map(_listed, changes), strict=True)]),
            "**One model** compared with others trained on the same characters. Its teacher, the mixture with "
            "networks, generated most of its training text. Differences are paired, in nats per character. The order "
            "of the n-grams is the best one on the scored text itself. Earlier rounds of this project read the novel's "
            "last 5% and made choices on its next 5%; both are part of the rest in the book's split.",
            table("fixed", ["kneser_ney", "networks", "mixture", "teacher", "model"]),
            "**Ensembles** of all seeds' models, and of their teachers:",
            table("ensembles", ["teachers", "models"]),
            "**Adaptive evaluation**, which learns from the text read so far: networks use dynamic evaluation with a "
            "kNN cache that starts from the training text (`how_low/dynamic_evaluation.py`); the mixture updates its "
            "counts:",
            table("adapting", ["mixture_adapting", "model_adapting", "models_adapting"]),
        ],
    )  # fmt: skip


def _bracketed(differences: dict[Any, Estimate], form: str) -> dict[Any, str]:
    """Return a family of differences as text, in brackets if not significant after Holm's correction."""
    claimed = holm(differences)
    return {
        key: f"{it:{form}}" if claimed[key] or not it.count else f"({it:{form}})" for key, it in differences.items()
    }


def _label(model: str) -> str:
    return MODELS[model.removesuffix("_adapting")]


def _val(recipe: Recipe) -> dict[int, float]:
    """Return the validation perplexity by seed."""
    return by_seed(recipe, lambda job: float(job.probes["reading"]["val"]["model"]))


def _changes(recipe: Recipe, before: Recipe) -> dict[str, Any]:
    """Return the settings that differ from the row before, with their new values."""
    now, then = recipe[0].settings, before[0].settings
    return {name: now[name] for name in now if now[name] != then.get(name) and name != "trainer.limit_test_batches"}


def _step(changes: dict[str, Any]) -> str:
    """Describe a step by its main changes, or by all if `STEPS` has none of them."""
    return "; ".join(STEPS[name].format(changes[name]) for name in changes if name in STEPS) or _listed(changes)


def _listed(changes: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in changes.items())


def _answer(jobs: list[Job], path: list[Recipe], last: Reading | None) -> str:
    if line := missing(jobs, {"step after the book's run": path[1:], "run of recipe=novel": last}):
        return line
    assert last
    return (
        f"Trained on most of the novel and {path[-1][0].settings['training.teacher']:g} times as much text generated "
        f"from it by n-grams and networks, a single ReLU layer reaches a perplexity of "
        f"{last.perplexity('model').mean:.2f} on the novel's last 5%, the mixture of n-grams "
        f"{last.perplexity('mixture').mean:.2f}."
    )


def _path_figure(path: list[Recipe], steps: list[str], readings: dict[str, Reading]) -> Picture:
    figure, ((axes,),) = panels(width=9, height=0.5 * len(path) + 1.5)
    axes.set_xscale("log")
    for row, recipe in enumerate(path):
        values = list(_val(recipe).values())
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markerfacecolor="none")
        axes.annotate(f"{estimate(values).mean:.2f}", (1, row), (4, 0), va="center", textcoords="offset points",
                      xycoords=("axes fraction", "data"), annotation_clip=False)  # fmt: skip
    if baselines := readings.get(f"{DEFAULT}/novel/val"):
        for style, model in (("-", "kneser_ney"), ("--", "mixture"), (":", "teacher")):
            if model in baselines.sums:
                x = baselines.perplexity(model).mean
                axes.axvline(x, linestyle=style, color="black", label=MODELS[model])
        axes.legend(loc="lower right")
    axes.set_yticks(range(len(path)), [textwrap.fill(step, 36) for step in steps])
    axes.invert_yaxis()
    axes.set_xlabel("perplexity of the novel's next 5% (validation)")
    plain_numbers(axes.xaxis, [3.5, 4, 5, 6, 7])
    return figure, "Stream perplexity of validation text after each step. Points: seeds; numbers: means."


def _knows_figure(kinds: list[Reading]) -> Picture:
    figure, ((axes,),) = panels(width=9, height=3.5)
    for number, model in enumerate(("teacher", "model")):
        differences = [kind.nats(model, "mixture") for kind in kinds]
        axes.errorbar(
            [difference.mean for difference in differences], np.arange(len(kinds)) + 0.2 * number,
            xerr=[difference.half_width for difference in differences], fmt="os"[number], color=COLOURS[number],
            capsize=3, label=MODELS[model],
        )  # fmt: skip
    labels = [f"{kind.text} (n\u00a0=\u00a0{kind.sums['characters'].sum():,.0f})" for kind in kinds]
    axes.set_yticks(range(len(kinds)), [textwrap.fill(label, 34) for label in labels])
    axes.axvline(0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("difference from the mixture, nats per character (below 0: better than the mixture)")
    figure.legend(loc="outside upper center", ncols=2)
    return (
        figure,
        "Characters of the novel's last 5% by the distance to their word's previous occurrence; n: their number.",
    )
