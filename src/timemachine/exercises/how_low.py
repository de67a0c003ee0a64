"""Exercise 4 once more: how low can you go with one recurrent layer, if its training may be anything?

Measured: how the model reads what is held out, character by character, for comparisons that sums do not allow. A run
leaves `reading.npz` in its folder: for the splits val and test the negative log-likelihood of each target, read as one
stream, of the model as it is (`val`, `test`), of one that goes on learning (`val_adaptive`, `test_adaptive`), and of
the n-grams of the same training characters, of the order that is best there (`val_witten_bell`, …).
"""

import csv
import json
import math
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from timemachine.config import REPOSITORY
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.adapting import adaptive_nll
from timemachine.evaluation.ensemble import mean_probability
from timemachine.evaluation.ngrams import kneser_ney, witten_bell
from timemachine.evaluation.scores import ORDERS, Score, paired, score, stream_nll
from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import UNDECIDED, Difference
from timemachine.exercises.drawing import draw_seeds
from timemachine.language_model import RNNLMScratch
from timemachine.runs.sweep import Job
from timemachine.runs.tables import markdown, mean_sd

RATE = 0.005  # of dynamic evaluation: the best of five on the novel's validation text
TRIED = REPOSITORY / "sweeps/reference/how_low/tried.csv"  # on recipe=low_9_teacher, one change a row
Recipe = list[Job]  # the same run with several seeds
PARTS = {
    ("novel", "val"): "novel, next 5 %",
    ("novel", "test"): "novel, last 5 %",
    ("book", "val"): "book split, 10,032 to 15,031",
    ("book", "test"): "the rest, 15,032 to the end",
}
NGRAMS = {"witten_bell": "Witten-Bell", "kneser_ney": "Kneser-Ney"}
# On The Time Machine, which the number of targets tells: what evaluate.py baselines=true says.
PPMD = {
    ("novel", "val", 8_671): 3.60,
    ("novel", "test", 8_672): 3.67,
    ("book", "val", 5_000): 4.20,
    ("book", "test", 158_396): 3.99,
}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Write `reading.npz`; return perplexity and standard error of each of its arrays, and of the training text."""
    model, chars_N, text = model.cpu(), data.chars_N.cpu(), data.corpus.characters
    train = text[: data.splits["train"].targets.stop]
    arrays = {}
    for name in ("val", "test"):
        targets = range(max(data.splits[name].targets.start, max(ORDERS)), data.splits[name].targets.stop)
        if targets:
            arrays[name] = stream_nll(model, chars_N, targets)
            arrays[f"{name}_adaptive"] = adaptive_nll(model, chars_N, targets, RATE)
            for smoothed in (witten_bell, kneser_ney):
                orders = (torch.from_numpy(smoothed(train, text, targets, order)) for order in ORDERS)
                arrays[f"{name}_{smoothed.__name__}"] = min(orders, key=lambda nll_N: float(nll_N.mean()))
    folder = Path(model.trainer.default_root_dir)
    as_numpy: dict[str, Any] = {key: nll_N.float().numpy() for key, nll_N in arrays.items()}
    np.savez_compressed(folder / "reading.npz", **as_numpy)
    arrays["train"] = stream_nll(model, chars_N, data.splits["train"].targets)
    scores = {name: score(nll_N, torch.ones_like(nll_N)) for name, nll_N in arrays.items()}
    return {name: {"perplexity": s.perplexity, "standard_error": s.standard_error} for name, s in scores.items()}


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each change on the way to the recipe for the novel, then what the recipes reach."""
    sound = [job for job in jobs if job.status == "completed" and job.probes.get("reading")]
    recipes = _recipes(sound)
    tracks = {
        "novel": [recipe for recipe in recipes if recipe[0].settings["data.num_train"] is None],
        "book": [recipe for recipe in recipes if recipe[0].settings["data.num_train"] is not None],
    }
    ends = [end for track, part in PARTS if tracks[track] and (end := _end(track, part, tracks[track][-1]))]
    path = tracks["novel"]
    answer, longer = _answer(path, ends)
    return Findings(
        number="4, continued",
        question="How low can you go while sticking with this simple architecture?",
        setting="One recurrent layer with a linear output layer, trained on the first 90 % of the novel: the book's "
        "run, and then one change a row, each on top of the row before. These choices were made on the next 5 %.",
        columns=["change", "runs", "training text", "next 5 %", "gained"],
        rows=[_row(recipe, before) for recipe, before in zip(path, [None, *path], strict=False)],
        figures={"path": _path_figure(path), "ends": _ends_figure(ends)},
        captions={
            "path": "Stream perplexity on the next 5 % of the novel after each change, a point a seed; dashed the "
            "n-grams of the same training text.",
            "ends": "What the recipes reach on held-out text, beside the n-grams: one model, its seeds read as one, "
            "and those when they go on learning from what they have read.",
        },
        answer=answer,
        longer=longer,
        notes=[
            "Stream perplexity of fixed models: mean ± standard deviation over seeds; `gained`, how much lower than in "
            "the row before. A row's gain depends on the rows before it: what makes a network fit its text better pays "
            "only once something keeps it from learning that by heart.",
            "**What the recipes reach.** The last row for the novel; for the book's split its own recipe, chosen on "
            "the last 1,000 of its 10,032 training characters (`recipe=book_split data.num_train=9000 "
            "data.num_val=1000`). One model: mean ± standard deviation over seeds; every other ± is a standard error "
            "over blocks of 100 characters. Differences are in nats a character, from paired blocks; the n-grams have "
            "the order that is best on the very characters. A fixed model and one that adapts are two things: compare "
            "the first with n-grams, the second with PPM. The numbers of PPMd are those of `python evaluate.py run=… "
            "baselines=true`.",
            markdown(_END_COLUMNS, [end.row() for end in ends]),
            *_tried(),
        ],
    )  # fmt: skip


def _recipes(jobs: list[Job]) -> list[Recipe]:
    """The jobs that differ in nothing but their seed, in the order in which they come."""
    recipes: dict[str, Recipe] = {}
    for job in jobs:
        same = {name: value for name, value in job.settings.items() if name not in ("seed", "resume")}
        recipes.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(job)
    return list(recipes.values())


def _of(recipe: Recipe, name: str) -> list[float]:
    return [float(job.probes["reading"].get(name, {}).get("perplexity", math.nan)) for job in recipe]


def _mean(recipe: Recipe, name: str) -> float:
    return math.fsum(_of(recipe, name)) / len(recipe)


def _change(recipe: Recipe, before: Recipe | None) -> str:
    """The settings that differ from those of the row before."""
    if before is None:
        return "to begin with"
    now, then = recipe[0].settings, before[0].settings
    return ", ".join(f"`{name}={_plain(value)}`" for name, value in now.items() if value != then[name])


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _row(recipe: Recipe, before: Recipe | None) -> list[str]:
    gained = "" if before is None else f"{_mean(before, 'val') - _mean(recipe, 'val'):.2f}"
    train = mean_sd(float(job.probes["reading"]["train"]["perplexity"]) for job in recipe)
    return [_change(recipe, before), str(len(recipe)), train, mean_sd(_of(recipe, "val")), gained]


_END_COLUMNS = ["text", "one model", "seeds as one", "− Witten-Bell", "− Kneser-Ney", "Witten-Bell", "Kneser-Ney",
                "seeds as one, adapting", "PPMd"]  # fmt: skip


@dataclass(frozen=True, slots=True)
class _End:
    """What a recipe reaches on a part of a text: one model, and the NLLs (N,) of seeds read as one and of n-grams."""

    track: str
    part: str
    single: list[float]
    fixed: Tensor
    adapting: Tensor
    ngrams: dict[str, Tensor]

    @property
    def text(self) -> str:
        return PARTS[self.track, self.part]

    @property
    def ppmd(self) -> float | None:
        return PPMD.get((self.track, self.part, len(self.fixed)))

    def score(self, of: Tensor) -> Score:
        return score(of, torch.ones_like(of))

    def row(self) -> list[str]:
        """Return perplexities, and paired differences in nats a character."""
        differences = [paired(self.fixed, nll_N) for nll_N in self.ngrams.values()]
        return [
            self.text,
            mean_sd(self.single),
            _pm(self.score(self.fixed)),
            *(f"{mean:+.3f} ± {error:.3f} nats" for mean, error in differences),
            *(_pm(self.score(nll_N)) for nll_N in self.ngrams.values()),
            _pm(self.score(self.adapting)),
            f"{self.ppmd:.2f}" if self.ppmd else "–",
        ]


def _end(track: str, part: str, recipe: Recipe) -> _End | None:
    """None where the runs have left nothing of that part."""
    recipe = [job for job in recipe if (job.folder / "reading.npz").is_file()]
    readings = [np.load(job.folder / "reading.npz") for job in recipe]
    if not readings or part not in readings[0]:
        return None

    def as_one(name: str) -> Tensor:
        return -mean_probability([-torch.from_numpy(reading[name]).double() for reading in readings])

    ngrams = {name: torch.from_numpy(readings[0][f"{part}_{name}"]).double() for name in NGRAMS}
    return _End(track, part, _of(recipe, part), as_one(part), as_one(f"{part}_adaptive"), ngrams)


def _pm(found: Score) -> str:
    return f"{found.perplexity:.2f} ± {found.standard_error:.2f}"


def _tried() -> list[str]:
    """What was changed in a recipe and did not pay, as it was measured while the program had it."""
    if not TRIED.is_file():
        return []
    with TRIED.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    return [
        "**What did not pay.** One change each to `recipe=low_9_teacher`; differences are between equal seeds. What "
        "the program has no setting for any more it had last at commit 7596b7b: there `python train.py -m "
        "recipe=low_9_teacher seed=0,1 'probes=[stream]'` and what the row says gives its numbers. Early stopping has "
        "no place where the rate falls to nothing at the end: the number of epochs was chosen.",
        markdown(columns, rows),
    ]


def _path_figure(path: list[Recipe]) -> Figure:
    figure = Figure(figsize=(12, 0.45 * len(path) + 1.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for place, recipe in enumerate(path):
        draw_seeds(axes, _of(recipe, "val"), place, "o", color=COLOURS[0])
    if path:
        for number, (name, label) in enumerate(NGRAMS.items(), 1):
            axes.axvline(_of(path[-1], f"val_{name}")[0], ls="--", color=COLOURS[number], label=label)
        axes.legend()
    labels = [_change(recipe, last).replace("`", "") for recipe, last in zip(path, [None, *path], strict=False)]
    axes.set_yticks(range(len(path)), [textwrap.fill(label, 70) for label in labels])
    axes.invert_yaxis()
    axes.set(xlabel="stream perplexity, next 5 % (log scale)", xscale="log")
    axes.set_xticks([4, 5, 6, 7, 8, 10], ["4", "5", "6", "7", "8", "10"], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    return figure


def _ends_figure(ends: list[_End]) -> Figure:
    figure = Figure(figsize=(8, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for place, end in enumerate(ends):
        bars = {
            "Witten-Bell": end.score(end.ngrams["witten_bell"]),
            "Kneser-Ney": end.score(end.ngrams["kneser_ney"]),
            "seeds as one": end.score(end.fixed),
            "seeds as one, adapting": end.score(end.adapting),
        }
        for number, (label, found) in enumerate(bars.items()):
            x = place + 0.2 * (number - 1.5)
            axes.bar(x, found.perplexity, 0.18, yerr=found.standard_error, color=COLOURS[number], capsize=3,
                     label=label if not place else None)  # fmt: skip
            axes.text(x, 0.1, f"{found.perplexity:.2f}", rotation=90, ha="center", va="bottom", color="white")
        axes.plot([place - 0.4, place + 0.4], [end.single[0]] * 2, color="black", lw=1,
                  label=None if place else "one model")  # fmt: skip
    axes.set_xticks(range(len(ends)), [end.text.replace(", ", ",\n") for end in ends])
    axes.set(ylabel="stream perplexity")
    if ends:
        axes.legend(ncols=2)
    return figure


def _answer(path: list[Recipe], ends: list[_End]) -> tuple[str, list[str]]:
    """The answer, and what else was found."""
    if not path or not ends:
        return "", []
    first = ends[0]
    answer = (
        f"On the novel's next 5 % the path leads from {_mean(path[0], 'val'):.2f} to {_mean(path[-1], 'val'):.2f}, "
        f"without a second layer, a gate or another text. {_reach(first)}"
    )
    return answer, [f"{_reach(end)} {_adapting(end)}" for end in ends]


def _reach(end: _End) -> str:
    several = len(end.single) > 1
    who = f"{len(end.single)} seeds read as one have" if several else "one model has"
    alone = f" (one alone {mean_sd(end.single)})" if several else ""
    verdicts = []
    for name, nll_N in end.ngrams.items():
        found = Difference(*paired(end.fixed, nll_N))
        where = found.verdict("below", "above")
        where = f"{UNDECIDED} from" if where == UNDECIDED else where
        verdicts.append(
            f"{where} {NGRAMS[name]}'s {end.score(nll_N).perplexity:.2f} (by {abs(found.mean):.3f} ± {found.error:.3f} "
            "nats)"
        )
    return f"On {end.text}, {who} {end.score(end.fixed).perplexity:.2f}{alone}, {' and '.join(verdicts)}."


def _adapting(end: _End) -> str:
    who, have = ("they", "they have") if len(end.single) > 1 else ("it", "it has")
    where = f", where PPMd has {end.ppmd:.2f}" if end.ppmd else ""
    perplexity = end.score(end.adapting).perplexity
    return f"If {who} may go on learning from what {have} read: {perplexity:.2f}{where}."
