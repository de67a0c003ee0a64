"""Exercise 4, continued: How low can you go while sticking with this simple architecture?

The probe scores the held-out text, read as one stream, under the model and under its baselines ("readers"). It writes
`reading.npz` to the run's folder: for val and test, the negative log-likelihood of each target under each reader
(`val/model`, …), and `val/since` (see `_since`). A run with `trainer.limit_test_batches=0` does not read the test
split, and has only the model's scores on val. The report sums the scores over blocks of text and keeps the sums in
arrays.npz.

Shapes: N targets, K blocks, S seeds.
"""

import copy
import json
import math
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
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
from timemachine.exercises.groups import grouped, markdown, missing
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job
from timemachine.texts import CATALOGUE

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
Recipe = list[Job]  # runs that differ in their seed only
ANY_SETTINGS = True

READERS = {
    "kneser_ney": "n-grams of one order",
    "mixture": "mixture of n-grams",
    "teacher": "teacher (mixture and networks)",
    "model": "one model",
    "teachers": "teachers as one",
    "models": "models as one",
    "networks": "networks alone",
    "ppmd": "PPMd",
}
AS_ONE = {"models": "model", "teachers": "teacher", "models_adapting": "model_adapting"}  # ensemble of all seeds
PAIRS = [("model", "mixture"), ("model", "teacher"), ("models", "mixture"), ("models", "teachers"),
         ("model_adapting", "mixture_adapting"), ("models_adapting", "mixture_adapting")]  # fmt: skip
PARTS = {
    ("novel", "val"): "next 5 %",
    ("novel", "test"): "last 5 %",
    ("book", "val"): "the book's validation text",
    ("book", "test"): "the rest after that",
}
CHANGES = {  # setting -> description of the change, including the changes made with it
    "training.carry_state": "state carried between windows; AdamW, warm-up and cosine schedule",
    "model.hiddens": "{:,} hidden units",
    "model.input_lr_factor": "the input's weights learn {:g} times as fast",
    "training.teacher": "n-grams generate {:g} times as much text; ReLU",
    "training.teacher_networks": "{:g} networks generate it with the n-grams",
}
KINDS = {  # kind of character -> range of `_since`, the distance to the last occurrence of its word
    "in a word never seen": (0, 0),
    "in one last seen over 10,000 characters ago": (10_001, math.inf),
    "in one seen 1,001 to 10,000 ago": (1_001, 10_000),
    "in one seen at most 1,000 ago": (1, 1_000),
}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Write `reading.npz`; return each reader's perplexity on each part, and the model's on the training text.

    The readers are the model; its teacher; the teacher's networks as an ensemble; the teacher's mixture of n-grams;
    Kneser-Ney n-grams of the order that is best on that part; and, if pyppmd is installed, PPMd, which adapts to the
    text that it reads.
    """
    model, tokens_N, text = model.cpu(), data.tokens_N.cpu(), data.corpus.characters
    known = data.splits["train"].targets
    train, is_path = text[: known.stop], model.trainer.limit_test_batches == 0
    arrays: dict[str, Any] = {}
    found = {"train": {"model": _perplexity(stream_nll(model, tokens_N, known).numpy())}}
    if not is_path:
        symbols = how_low.Symbols.of(data.vocab)
        counted, mixture = symbols.encode(text), how_low.Mixture(symbols)
        mixture.read(counted, range(known.stop), learn=True)
    for part in ("val",) if is_path else ("val", "test"):
        targets = range(max(data.splits[part].targets.start, max(how_low.ORDERS)), data.splits[part].targets.stop)
        if not targets:
            continue
        nlls = {"model": stream_nll(model, tokens_N, targets)}
        if not is_path:
            nlls["model_adapting"] = how_low.adaptive_nll(model, tokens_N, known, targets, how_low.RATE)
            of_orders = [
                how_low.kneser_ney(counted[: known.stop], counted, targets, order, len(symbols))
                for order in how_low.ORDERS
            ]
            nlls["kneser_ney"] = torch.from_numpy(min(of_orders, key=np.mean))
            for reader, learn in (("mixture", False), ("mixture_adapting", True)):
                log_p_NV = (copy.deepcopy(mixture) if learn else mixture).read(counted, targets, learn)
                nlls[reader] = torch.from_numpy(how_low.log_loss(log_p_NV, counted, targets))
            training = getattr(model, "training_settings", None)
            if training and (networks := how_low.networks_of(data, training.teacher_networks)):
                nlls["networks"] = stream_nll(networks, tokens_N, targets)
                nlls["teacher"] = how_low.teacher_nll(nlls["mixture"], nlls["networks"])
            arrays[f"{part}/since"] = _since(text, targets)
        found[part] = {reader: _perplexity(nll_N.numpy()) for reader, nll_N in nlls.items()}
        if not is_path and find_spec("pyppmd"):
            coded = symbols.as_read(train), symbols.as_read(text[targets.start : targets.stop])
            found[part]["ppmd"] = 2 ** (how_low.ppmd_bits(*coded) / len(targets))
        arrays |= {f"{part}/{reader}": nll_N.float().numpy() for reader, nll_N in nlls.items()}
    np.savez_compressed(Path(model.trainer.default_root_dir, "reading.npz"), **arrays)
    return found


def _perplexity(nll_N: Floats) -> float:
    return math.exp(nll_N.mean())


def _since(text: str, targets: range) -> Integers:
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
    """Scores of a recipe's readers on a part of a text, or on one kind of its characters.

    `sums`: reader -> sums of negative log-likelihoods over blocks, (S, K); S is 1 for an ensemble of seeds.
    `counts` (K,): number of characters. `key`: name in arrays.npz. `ppmd`: perplexity of PPMd.
    """

    text: str
    key: str
    sums: dict[str, Floats]
    counts: Floats
    ppmd: float

    def nats(self, reader: str, other: str = "") -> Estimate:
        """Return a reader's mean negative log-likelihood, or its difference to `other`'s, paired by job and block.

        The estimate is empty if a reader has no scores.
        """
        if not {reader, other or reader} <= self.sums.keys():
            return estimate([])
        sum_K = self.sums[reader].mean(0) - (self.sums[other].mean(0) if other else 0)
        mean = sum_K.sum() / self.counts.sum()  # blocks differ in length: linearise the ratio for the interval
        return estimate(mean + (sum_K - mean * self.counts) / self.counts.mean())

    def perplexity(self, reader: str) -> Estimate:
        """Return a reader's perplexity, with an interval from the delta method."""
        if reader == "ppmd":
            return Estimate(self.ppmd, math.nan, math.nan, int(self.ppmd > 0))
        nats = self.nats(reader)
        return Estimate(math.exp(nats.mean), math.exp(nats.mean) * nats.half, math.nan, nats.count)


def in_blocks(values: NDArray[Any]) -> Floats:
    """Return the sums (…, K) of values (…, N) over blocks of 100 characters.

    Blocks have 1,000 characters in a text of 100,000 or more, where differences drift along the text.
    """
    starts = np.arange(0, values.shape[-1], BLOCK if values.shape[-1] < 1000 * BLOCK else 10 * BLOCK)
    sums: Floats = np.add.reduceat(values.astype(float), starts, axis=-1)
    return sums


def _readings(recipe: Recipe, part: str) -> Iterator[Reading]:
    """Yield a recipe's scores on a part, then on each kind of its characters; nothing without scores of baselines."""
    left = []
    for job in recipe:
        if (path := job.folder / "reading.npz").is_file():
            with np.load(path, allow_pickle=False) as arrays:
                left.append({key.partition("/")[2]: arrays[key] for key in arrays if key.startswith(f"{part}/")})
    if not left or "mixture" not in left[0]:
        return
    since_N = left[0]["since"]
    nlls = {it: np.array([of[it] for of in left]) for it in left[0] if it.removesuffix("_adapting") in READERS}
    if len(left) > 1:
        for name, each in AS_ONE.items():
            if each in nlls:
                nlls[name] = np.log(len(left)) - np.logaddexp.reduce(-nlls[each], 0, keepdims=True, dtype=float)
    settings, book = recipe[0].settings, Path(str(recipe[0].settings["data.corpus"])).stem
    split = "novel" if settings["data.num_train"] is None else "book"
    text = f"{CATALOGUE[book].title if book in CATALOGUE else book}, {PARTS[split, part]}"
    ppmd = float(recipe[0].probes["reading"][part].get("ppmd", math.nan))
    for kind, (least, most) in {"": (-1, math.inf), **KINDS}.items():
        if (is_kind_N := (least <= since_N) & (since_N <= most)).any():
            sums = {name: in_blocks(nll_SN * is_kind_N) for name, nll_SN in nlls.items()}
            key = f"{book}/{split}/{part}" + (f"/{kind}" if kind else "")
            yield Reading(kind or text, key, sums, in_blocks(is_kind_N), ppmd)


def findings(jobs: list[Job]) -> Findings:
    """Report one row per change from the book's run to the novel's recipe, then compare recipes with baselines."""
    read = [job for job in jobs if job.status == "completed" and job.probes.get("reading")]
    of_texts = grouped(read, lambda job: str(job.settings["data.corpus"]), "data.num_train")
    tracks = {text: [*grouped(group, _all_but_the_seed).values()] for text, group in of_texts.items()}
    path = tracks.get((DEFAULT, None)) or next(iter(tracks.values()), [])
    readings, kinds = list[Reading](), list[Reading]()
    for (corpus, _), recipes in tracks.items():
        for part in ("val", "test") if corpus == DEFAULT else ("test",):  # only that novel was used for choices
            found = list(_readings(recipes[-1], part))
            readings += found[:1]
            kinds += found[1:] if found and not kinds and found[0].key.endswith("novel/test") else []
    differences: dict[Any, Estimate] = {(it.key, *pair): it.nats(*pair) for it in readings for pair in PAIRS}
    differences |= {row: compare(_val(path[row - 1]), _val(path[row])) for row in range(1, len(path))}
    claimed = holm(differences)

    def reported(key: Any, form: str) -> str:
        number = f"{differences[key]:{form}}"
        return number if claimed[key] or not differences[key].count else f"({number})"

    def cell(it: Reading, of: str | tuple[str, str]) -> str:
        return f"{it.perplexity(of)}" if isinstance(of, str) else reported((it.key, *of), "+.3f")

    def table(*columns: str | tuple[str, str]) -> str:
        return markdown(
            ["text", *map(_label, columns)], [[it.text, *(cell(it, of) for of in columns)] for it in readings]
        )

    finals = [it for it in readings if it.key.endswith("novel/test")]
    return Findings(
        answer=_answer(jobs, path, finals),
        setting="One recurrent layer with a linear output layer, trained on the first 90 % of the novel. The first row "
        "is the book's run, and each row adds one change to the row before (`conf/recipe/low_*.yaml`; the last row is "
        "`recipe=novel`). The changes were chosen on the next 5 % of the novel. The recipe was then run on the book's "
        "split (`recipe=book_split`) and on other novels, which were not used for any choice.",
        columns=["change", "training text", "next 5 %", "lower by"],
        rows=[
            [_change(recipe, path[row - 1] if row else None),
             f"{estimate(job.probes['reading']['train']['model'] for job in recipe)}",
             f"{estimate(_val(recipe).values())}", reported(row, ".2f") if row else ""]
            for row, recipe in enumerate(path)
        ],
        figures={"path": _path_figure(path, readings)}
        | ({"ends": _ends_figure(readings), "knows": _knows_figure(kinds)} if finals else {}),
        arrays={f"{it.key}/{name}": sum_SK.astype(np.float32)
                for it in [*readings, *kinds] for name, sum_SK in {**it.sums, "characters": it.counts}.items()},
        notes=[
            "Stream perplexity; ± is half of a 95 % interval, over seeds in the table above and over blocks of text in "
            "the tables below. The gain of a row depends on the rows before it: a change that fits the training text "
            "better helps only once another change prevents overfitting. Differences in brackets are not significant "
            "after Holm's correction.",
            "**One model** compared with others trained on the same characters. Its teacher, the mixture with "
            "networks, generated most of its training text. Differences are paired, in nats per character. The order "
            "of the n-grams is the best one on the scored text itself. Earlier rounds of this project read the novel's "
            "last 5 % and made choices on its next 5 %; both are part of the rest in the book's split.",
            table("kneser_ney", "mixture", "teacher", "model", *PAIRS[:2]),
            "**Ensembles** of all seeds' models, and of their teachers:",
            table("teachers", "models", *PAIRS[2:4]),
            "**Adaptive evaluation**, which learns from the text read so far: networks use dynamic evaluation with a "
            "kNN cache that starts from the training text (`how_low/dynamic_evaluation.py`); the mixture and PPMd "
            "update their counts:",
            table("ppmd", "mixture_adapting", "model_adapting", "models_adapting", *PAIRS[4:]),
        ],
    )  # fmt: skip


def _label(of: str | tuple[str, str]) -> str:
    return READERS[of.removesuffix("_adapting")] if isinstance(of, str) else " − ".join(map(_label, of))


def _all_but_the_seed(job: Job) -> str:
    settings = {name: value for name, value in job.settings.items() if name not in ("seed", "resume")}
    return json.dumps(settings, sort_keys=True, default=str)


def _val(recipe: Recipe) -> dict[int, float]:
    """Return the validation perplexity by seed."""
    return by_seed(recipe, lambda job: float(job.probes["reading"]["val"]["model"]))


def _change(recipe: Recipe, before: Recipe | None) -> str:
    """Describe the changes from the row before, as `name=value` where `CHANGES` has no description."""
    if before is None:
        return "the book's run, on 90 % of the novel"
    now, then = recipe[0].settings, before[0].settings
    changed = [name for name in now if now[name] != then.get(name) and name != "trainer.limit_test_batches"]
    words = [CHANGES[name].format(now[name]) for name in changed if name in CHANGES]
    return "; ".join(words or [f"{name}={now[name]}" for name in changed])


def _answer(jobs: list[Job], path: list[Recipe], finals: list[Reading]) -> str:
    more = finals[0].nats("model", "teacher") if finals else estimate([])
    needed = {"change of the book's run": path[1:], "run that reads the test text and has a teacher": more.count}
    if line := missing(jobs, needed):
        return line
    reached = [f"{it.perplexity('model').mean:.2f} on {it.text}" for it in finals]
    first, last = (estimate(_val(recipe).values()).mean for recipe in (path[0], path[-1]))
    return (
        f"One model with one recurrent layer reaches a perplexity of {', '.join(reached)}; on the novel's next 5 %, "
        f"which was used for all choices, the changes lowered the perplexity from {first:.2f} to {last:.2f}. The "
        f"model's teacher, n-grams mixed with small networks, has {finals[0].perplexity('teacher').mean:.2f} on "
        f"{finals[0].text}; the model's difference to it is {more:+.3f} nats per character."
    )


def _path_figure(path: list[Recipe], readings: list[Reading]) -> Picture:
    figure, ((axes,),) = panels(width=10, height=0.5 * len(path) + 1.5)
    axes.set_xscale("log")
    for row, recipe in enumerate(path):
        values = list(_val(recipe).values())
        axes.plot(values, [row] * len(values), "o", color=COLOURS[0], markerfacecolor="none")
        axes.annotate(f"{estimate(values).mean:.2f}", (max(values), row), (8, -3), textcoords="offset points",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    for it in readings:
        if it.key == f"{DEFAULT}/novel/val":
            for style, name in (("-", "kneser_ney"), ("--", "mixture"), (":", "teacher")):
                if name in it.sums:
                    axes.axvline(it.perplexity(name).mean, linestyle=style, color="black", label=READERS[name])
            axes.legend(loc="best")
    labels = [_change(recipe, before) for recipe, before in zip(path, [None, *path], strict=False)]
    axes.set_yticks(range(len(path)), [textwrap.fill(label, 40) for label in labels])
    axes.invert_yaxis()
    axes.set_xlabel("perplexity of the novel's next 5 %")
    plain_numbers(axes.xaxis, [3.5, 4, 5, 6, 7])
    return figure, "Stream perplexity of held-out text after each change. Points: seeds; numbers: means."


def _ends_figure(readings: list[Reading]) -> Picture:
    rows = [name for name in READERS if name not in ("networks", "ppmd")]
    figure, grid = panels(max(-(-len(readings) // 3), 1), 3, width=10, height=5, sharey=True)
    for axes, it in zip(grid.flat, readings, strict=False):
        for name in it.sums.keys() - {"networks"}:
            row, learns = rows.index(name.removesuffix("_adapting")), name.endswith("_adapting")
            x = it.perplexity(name).mean
            axes.plot(x, row, "o", color=COLOURS[0], markerfacecolor="none" if learns else None)
            axes.annotate(f"{x:.2f}", (x, row), (0, 6), textcoords="offset points", ha="center", fontsize="small")
        axes.set_title(it.text.replace(", ", ",\n", 1), fontsize="medium")
        axes.margins(0.15)
    for axes in grid.flat[len(readings) :]:
        axes.set_axis_off()
    grid[0, 0].set_yticks(range(len(rows)), [READERS[name] for name in rows])
    grid[0, 0].invert_yaxis()
    figure.supxlabel("perplexity; filled: fixed; hollow: adapting to the text that it reads")
    return figure, "Perplexity of held-out text. The teacher is the mixture with networks, without the model."


def _knows_figure(kinds: list[Reading]) -> Picture:
    figure, ((axes,),) = panels(width=9, height=3)
    for number, reader in enumerate(("teacher", "model")):
        found = [it.nats(reader, "mixture") for it in kinds]
        axes.errorbar([it.mean for it in found], np.arange(len(found)) + 0.2 * number, xerr=[it.half for it in found],
                      fmt="os"[number], color=COLOURS[number], capsize=3, label=READERS[reader])  # fmt: skip
    axes.set_yticks(range(len(kinds)), [f"{it.text} ({it.counts.sum():,.0f})" for it in kinds])
    axes.axvline(0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("nats per character vs. the mixture; below 0 is better than the mixture")
    figure.legend(loc="outside upper center", ncols=2)
    return figure, "The novel's last 5 %, by the distance to the previous occurrence of a character's word."
