"""Exercise 4 once more: how low can you go with one recurrent layer, if its training may be anything?

Measured: how the model reads what is held out, character by character, for comparisons that sums do not allow. A run
leaves `reading.npz` in its folder: for the splits val and test the negative log-likelihood of each target, read as one
stream, of the model as it is (`val`, `test`), of one that goes on learning (`val_adaptive`, `test_adaptive`), of the
Kneser-Ney n-grams of the same training characters, of the order that is best there (`val_kneser_ney`, …), and of the
mixture of n-grams, as it is and learning (`val_mixture`, `val_mixture_adaptive`, …); and where each target stands
(`val_place`, `val_since`, …; see `_where`). A run with `trainer.limit_test_batches=0` does not look at the test split,
and leaves what the model as it is makes of val.
"""

import copy
import csv
import json
import math
import re
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from timemachine.config import REPOSITORY
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import Score, paired, score, stream_nll
from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import UNDECIDED, Difference
from timemachine.exercises.drawing import draw_seeds
from timemachine.exercises.jobs import Job, markdown, mean_sd
from timemachine.how_low import ORDERS, Mixture, adaptive_nll, kneser_ney, log_loss, mean_probability
from timemachine.language_model import RNNLMScratch

RATE = 0.012  # of dynamic evaluation: the best of four on the texts that its constants were chosen on
TRIED = REPOSITORY / "sweeps/reference/how_low/tried.csv"
KNOWS = (
    "What the networks, their seeds read as one, know less than the mixture on the novel's last 5 %, by kind of "
    "character, with twice the standard error: below 0 the networks are ahead."
)
Integers = NDArray[np.int64]
Recipe = list[Job]  # the same run with several seeds
PARTS = {
    ("novel", "val"): "novel, next 5 %",
    ("novel", "test"): "novel, last 5 %",
    ("book", "val"): "book split, 10,032 to 15,031",
    ("book", "test"): "the rest, 15,032 to the end",
}
# On The Time Machine, which the number of targets tells: what evaluate.py baselines=true says.
PPMD = {
    ("novel", "val", 8_671): 3.60,
    ("novel", "test", 8_672): 3.67,
    ("book", "val", 5_000): 4.20,
    ("book", "test", 158_396): 3.99,
}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Write `reading.npz`; return perplexity and standard error of each text's reading, the training text's too."""
    model, chars_N, text = model.cpu(), data.chars_N.cpu(), data.corpus.characters
    train = text[: data.splits["train"].targets.stop]
    is_path = model.trainer.limit_test_batches == 0
    known = data.splits["train"].targets
    nlls, where = {}, {}
    mixture = Mixture()
    if not is_path:
        mixture.read(train, range(len(train)), learn=True)
    for name in ("val",) if is_path else ("val", "test"):
        targets = range(max(data.splits[name].targets.start, max(ORDERS)), data.splits[name].targets.stop)
        if targets:
            nlls[name] = stream_nll(model, chars_N, targets)
        if targets and not is_path:
            nlls[f"{name}_adaptive"] = adaptive_nll(model, chars_N, known, targets, RATE)
            orders = (torch.from_numpy(kneser_ney(train, text, targets, order)) for order in ORDERS)
            nlls[f"{name}_kneser_ney"] = min(orders, key=lambda nll_N: float(nll_N.mean()))
            for reader, learn in (("mixture", False), ("mixture_adaptive", True)):
                reads = copy.deepcopy(mixture) if learn else mixture
                log_p_NV = reads.read(text, targets, learn)
                nlls[f"{name}_{reader}"] = torch.from_numpy(log_loss(log_p_NV, text, targets))
            where[f"{name}_place"], where[f"{name}_since"] = _where(text, targets)
    folder = Path(model.trainer.default_root_dir)
    arrays: dict[str, Any] = {key: nll_N.float().numpy() for key, nll_N in nlls.items()} | where
    np.savez_compressed(folder / "reading.npz", **arrays)
    nlls["train"] = stream_nll(model, chars_N, known)
    scores = {name: score(nll_N, torch.ones_like(nll_N)) for name, nll_N in nlls.items()}
    return {name: {"perplexity": s.perplexity, "standard_error": s.standard_error} for name, s in scores.items()}


def _where(text: bytes, targets: range) -> tuple[Integers, Integers]:
    """Return two numbers for each target: how many letters of its word come before it, -1 for a space; and how many
    characters ago its word began the last time, 0 if never. A space belongs to the word that it ends.
    """
    place_N, since_N = np.full((2, len(text) + 1), -1)
    last: dict[bytes, int] = {}
    for word in re.finditer(rb"[a-z]+", text):
        start, stop = word.span()
        place_N[start:stop] = np.arange(stop - start)
        since_N[start : stop + 1] = start - last.get(word.group(), start)
        last[word.group()] = start
    return place_N[targets.start : targets.stop], since_N[targets.start : targets.stop]


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
    unseen = [end for end in ends if (end.track, end.part) == ("novel", "test")]
    return Findings(
        number="4, continued",
        question="How low can you go while sticking with this simple architecture?",
        setting="One recurrent layer with a linear output layer, trained on the first 90 % of the novel: the book's "
        "run, and then one change a row, each on top of the row before. These choices were made on the next 5 %.",
        columns=["change", "runs", "training text", "next 5 %", "gained"],
        rows=[_row(recipe, before) for recipe, before in zip(path, [None, *path], strict=False)],
        figures={"path": _path_figure(path, ends), "ends": _ends_figure(ends)}
        | ({"knows": _knows_figure(unseen[0])} if unseen else {}),
        captions={
            "path": "Stream perplexity on the next 5 % of the novel after each change, a point a seed; dashed the "
            "n-grams of the same training text, one order alone and all of them mixed.",
            "ends": "What the recipes reach on held-out text, their seeds read as one, beside the n-grams: as they "
            "are, and when both go on learning from what they have read.",
        }
        | ({"knows": KNOWS} if unseen else {}),
        answer=answer,
        longer=longer,
        notes=[
            "Stream perplexity of fixed models: mean ± standard deviation over seeds; `gained`, how much lower than in "
            "the row before. A row's gain depends on the rows before it: what makes a network fit its text better pays "
            "only once something keeps it from overfitting.",
            "**What the recipes reach.** The last row for the novel; for the book's split one of its own: how much "
            "is written and for how long it learns were chosen on the last 1,000 of its 10,032 training characters "
            "(`recipe=book_split data.num_train=9000 data.num_val=1000`), the other settings are those of the row "
            "before the last. One model: mean ± standard deviation over seeds; every other ± is a standard error "
            "over blocks of 100 characters. Differences are what it has more than the mixture, in nats a character, "
            "from paired blocks. Kneser-Ney has the order that is best on the very characters. The numbers of PPMd are "
            "those of `python evaluate.py run=… baselines=true`. Of the rows above only the last one's runs read "
            "the novel's last 5 %; earlier rounds of this project have read it too, and it is a part of what the "
            "runs on the book's split read as the rest. So are the next 5 %, on which choices were made.",
            "As they are:",
            markdown(_FIXED_COLUMNS, [end.fixed_row() for end in ends]),
            "Dynamic evaluation with a kNN cache, which begins with the training text "
            "(`how_low/dynamic_evaluation.py` says how, and on which texts its constants were chosen):",
            markdown(_ADAPTING_COLUMNS, [end.adapting_row() for end in ends]),
            *(note for end in unseen for note in _knows(end)),
            *_tried(),
        ],
    )  # fmt: skip


def _recipes(jobs: list[Job]) -> list[Recipe]:
    """Return the jobs that differ in nothing but their seed, in the order in which they come."""
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
    """Return the settings that differ from those of the row before."""
    if before is None:
        return "to begin with"
    now, then = recipe[0].settings, before[0].settings
    changed = (name for name in now if now[name] != then[name] and name != "trainer.limit_test_batches")
    return ", ".join(f"`{name}={_plain(now[name])}`" for name in changed)


def _plain(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def _row(recipe: Recipe, before: Recipe | None) -> list[str]:
    gained = "" if before is None else f"{_mean(before, 'val') - _mean(recipe, 'val'):.2f}"
    train = mean_sd(float(job.probes["reading"]["train"]["perplexity"]) for job in recipe)
    return [_change(recipe, before), str(len(recipe)), train, mean_sd(_of(recipe, "val")), gained]


_FIXED_COLUMNS = ["text", "one model", "one − mixture", "seeds as one", "seeds − mixture", "Kneser-Ney", "mixture"]
_ADAPTING_COLUMNS = ["text", "one model", "one − mixture", "seeds as one", "seeds − mixture", "mixture", "PPMd"]


@dataclass(frozen=True, slots=True)
class _End:
    """What a recipe reaches on a part of a text.

    `nlls`: name in `reading.npz` without the part -> negative log-likelihoods (N,), of the seeds read as one where they
    are the networks'; `mean_nlls`: those of `fixed` and `adaptive`, the mean of the seeds' instead. `single`: the same
    names -> each seed's perplexity. `place`, `since`: see `_where`.
    """

    track: str
    part: str
    single: dict[str, list[float]]
    nlls: dict[str, Tensor]
    mean_nlls: dict[str, Tensor]
    place: Integers
    since: Integers

    @property
    def text(self) -> str:
        return PARTS[self.track, self.part]

    @property
    def ppmd(self) -> float | None:
        return PPMD.get((self.track, self.part, len(self.nlls["fixed"])))

    def score(self, name: str) -> Score:
        return score(self.nlls[name], torch.ones_like(self.nlls[name]))

    def difference(self, name: str, other: str) -> Difference:
        """Return what the seeds as one have more than another reader."""
        return Difference(*paired(self.nlls[name], self.nlls[other]))

    def _against(self, name: str, other: str) -> list[str]:
        """Return one model, and the seeds as one, each with its difference from the mixture."""
        single = Difference(*paired(self.mean_nlls[name], self.nlls[other]))
        differences = [f"{d.mean:+.3f} ± {d.error:.3f}" for d in (single, self.difference(name, other))]
        return [mean_sd(self.single[name]), differences[0], _pm(self.score(name)), differences[1]]

    def fixed_row(self) -> list[str]:
        marks = [_pm(self.score("kneser_ney")), _pm(self.score("mixture"))]
        return [self.text, *self._against("fixed", "mixture"), *marks]

    def adapting_row(self) -> list[str]:
        marks = [_pm(self.score("mixture_adaptive")), f"{self.ppmd:.2f}" if self.ppmd else "–"]
        return [self.text, *self._against("adaptive", "mixture_adaptive"), *marks]


def _end(track: str, part: str, recipe: Recipe) -> _End | None:
    """Return what a recipe reaches on a part of a text; None if the runs have left nothing of that part."""
    files = [job.folder / "reading.npz" for job in recipe]
    readings = [_arrays(file) for file in files if file.is_file()]
    if not readings or f"{part}_mixture" not in readings[0]:
        return None
    seeds = {"fixed": part, "adaptive": f"{part}_adaptive"}
    each = {name: [torch.from_numpy(reading[key]).double() for reading in readings] for name, key in seeds.items()}
    as_one = {name: -mean_probability([-nll_N for nll_N in nlls]) for name, nlls in each.items()}
    others = {
        name: torch.from_numpy(readings[0][f"{part}_{name}"]).double()
        for name in ("kneser_ney", "mixture", "mixture_adaptive")
    }
    return _End(
        track,
        part,
        {name: [nll_N.mean().exp().item() for nll_N in nlls] for name, nlls in each.items()},
        as_one | others,
        {name: torch.stack(nlls).mean(0) for name, nlls in each.items()},
        readings[0][f"{part}_place"],
        readings[0][f"{part}_since"],
    )


def _arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of a file; nothing in it is executed."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def _kinds(end: _End) -> dict[str, "np.ndarray[Any, np.dtype[np.bool_]]"]:
    """Return kinds of characters: which of the targets (N,) are of each."""
    place_N, since_N = end.place, end.since
    return {
        "first letter of a word": place_N == 0,
        "second and third letter": (place_N == 1) | (place_N == 2),
        "later letters": place_N > 2,
        "the space after a word": place_N == -1,
        "of a word never seen": since_N == 0,
        "of one more than 10,000 characters ago": since_N > 10_000,
        "of one 1,001 to 10,000 ago": (since_N > 1_000) & (since_N <= 10_000),
        "of one at most 1,000 ago": (since_N > 0) & (since_N <= 1_000),
    }


def _by_kind(end: _End) -> dict[str, tuple[int, float, float, Difference]]:
    """Return for each kind its number of characters, the nats a character of both, and their difference."""
    found = {}
    for kind, is_kind_N in _kinds(end).items():
        if is_kind_N.any():
            mine_N, theirs_N, of_N = end.nlls["fixed"], end.nlls["mixture"], torch.from_numpy(is_kind_N)
            difference = Difference(*paired(mine_N, theirs_N, of_N))
            found[kind] = int(of_N.sum()), mine_N[of_N].mean().item(), theirs_N[of_N].mean().item(), difference
    return found


def _knows(end: _End) -> list[str]:
    rows = [
        [kind, f"{number:,}", f"{mine:.3f}", f"{theirs:.3f}", f"{d.mean:+.3f} ± {d.error:.3f}",
         f"{d.mean * number / len(end.place):+.4f}"]
        for kind, (number, mine, theirs, d) in _by_kind(end).items()
    ]  # fmt: skip
    columns = ["character", "number", "networks", "mixture", "difference", "of the whole"]
    return [
        f"**What the networks do not know.** {end.text}, in nats a character, the seeds read as one, beside the "
        "mixture, both as they are: by place in the word, and by how long ago its word began the last time. `of the "
        "whole`: the part of the difference over all characters that is theirs; each of the two lists adds up to it.",
        markdown(columns, rows),
    ]


def _pm(found: Score) -> str:
    return f"{found.perplexity:.2f} ± {found.standard_error:.2f}"


def _tried() -> list[str]:
    """Return what was changed in a recipe and did not pay, as it was measured while the program had it."""
    if not TRIED.is_file():
        return []
    with TRIED.open(newline="", encoding="utf-8") as file:
        columns, *rows = csv.reader(file)
    return [
        "**What did not pay.** One change each to what was the recipe before n-grams wrote a text; differences are "
        "between equal seeds. At commit 7596b7b `python train.py -m recipe=low_9_teacher seed=0,1 'probes=[stream]'` "
        "and what the row says gives its numbers; a row that names another commit changes the recipe of that one. "
        "Early stopping has no place where the rate falls to nothing at the end: the number of epochs was chosen.",
        markdown(columns, rows),
    ]


def _path_figure(path: list[Recipe], ends: list[_End]) -> Figure:
    figure = Figure(figsize=(12, 0.45 * len(path) + 1.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for place, recipe in enumerate(path):
        draw_seeds(axes, _of(recipe, "val"), place, "o", color=COLOURS[0])
    for end in ends:
        if (end.track, end.part) == ("novel", "val"):
            for number, (name, label) in enumerate((("kneser_ney", "Kneser-Ney"), ("mixture", "the mixture")), 1):
                axes.axvline(end.score(name).perplexity, ls="--", color=COLOURS[number], label=label)
            axes.legend()
    labels = [_change(recipe, last).replace("`", "") for recipe, last in zip(path, [None, *path], strict=False)]
    axes.set_yticks(range(len(path)), [textwrap.fill(label, 70) for label in labels])
    axes.invert_yaxis()
    axes.set(xlabel="stream perplexity, next 5 % (log scale)", xscale="log")
    axes.set_xticks([3.5, 4, 5, 6, 7, 8, 10], ["3.5", "4", "5", "6", "7", "8", "10"], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    return figure


def _ends_figure(ends: list[_End]) -> Figure:
    figure = Figure(figsize=(10, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    bars = {
        "kneser_ney": "Kneser-Ney",
        "mixture": "mixture",
        "fixed": "networks",
        "mixture_adaptive": "mixture, adapting",
        "adaptive": "networks, adapting",
    }
    for place, end in enumerate(ends):
        for number, (name, label) in enumerate(bars.items()):
            found, x = end.score(name), place + 0.17 * (number - 2)
            axes.bar(x, found.perplexity, 0.15, yerr=found.standard_error, color=COLOURS[number], capsize=3,
                     label=None if place else label)  # fmt: skip
            axes.text(x, 0.1, f"{found.perplexity:.2f}", rotation=90, ha="center", va="bottom", color="white")
    axes.set_xticks(range(len(ends)), [end.text.replace(", ", ",\n") for end in ends])
    axes.set(ylabel="stream perplexity")
    if ends:
        axes.legend(ncols=2)
    return figure


def _knows_figure(end: _End) -> Figure:
    figure = Figure(figsize=(8, 4), dpi=150, layout="constrained")
    axes, kinds = figure.subplots(), _by_kind(end)
    means = [difference.mean for *_, difference in kinds.values()]
    errors = [2 * difference.error for *_, difference in kinds.values()]
    axes.barh(range(len(kinds)), means, xerr=errors, color=COLOURS[0], capsize=3)
    axes.set_yticks(range(len(kinds)), [f"{kind} ({number:,})" for kind, (number, *_) in kinds.items()])
    axes.axvline(0, color="black", lw=1)
    axes.invert_yaxis()
    axes.set(xlabel="networks − mixture, nats a character")
    axes.grid(axis="x", alpha=0.3)
    return figure


def _answer(path: list[Recipe], ends: list[_End]) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    if not path:
        return "", []
    lead = f"On the novel's next 5 % the path leads from {_mean(path[0], 'val'):.2f} to {_mean(path[-1], 'val'):.2f}"
    answer = f"{lead}, without a second layer, a gate or another text."
    if unseen := [end for end in ends if (end.track, end.part) == ("novel", "test")] or ends[:1]:
        answer += f" {_reach(unseen[0])}"
    return answer, [f"{_reach(end)} {_adapting(end)}" for end in ends]


def _reach(end: _End) -> str:
    single = end.single["fixed"]
    who = f"{len(single)} seeds read as one have" if len(single) > 1 else "one model has"
    alone = f" (one alone {mean_sd(single)})" if len(single) > 1 else ""
    verdicts = [_verdict(end, "fixed", name, label) for name, label in
                (("kneser_ney", "Kneser-Ney's"), ("mixture", "the mixture's"))]  # fmt: skip
    return f"On {end.text}, {who} {end.score('fixed').perplexity:.2f}{alone}, {' and '.join(verdicts)}."


def _verdict(end: _End, name: str, other: str, label: str) -> str:
    found = end.difference(name, other)
    where = found.verdict("below", "above")
    where = f"{UNDECIDED} from" if where == UNDECIDED else where
    by = f"by {abs(found.mean):.3f} ± {found.error:.3f} nats"
    return f"{where} {label} {end.score(other).perplexity:.2f} ({by})"


def _adapting(end: _End) -> str:
    who, have = ("they", "they have") if len(end.single["fixed"]) > 1 else ("it", "it has")
    where = f"; PPMd has {end.ppmd:.2f}" if end.ppmd else ""
    verdict = _verdict(end, "adaptive", "mixture_adaptive", "the mixture's")
    perplexity = f"{end.score('adaptive').perplexity:.2f}"
    return f"If {who} may go on learning from what {have} read: {perplexity}, {verdict}{where}."
