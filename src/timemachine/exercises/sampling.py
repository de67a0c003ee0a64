"""Exercise 8: draw the next character instead of taking the likeliest, from P or from P^alpha. What happens?"""

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.sweep import Job, mean_sd

REAL = "real text"
GREEDY_AT = 24.0  # where the axis of alpha, which ends at 8, has greedy decoding: alpha without bound
Decoding = float | str | None  # alpha; None: greedy; REAL
Rows = dict[Decoding, list[dict[str, Any]]]  # a row a job


def findings(jobs: list[Job]) -> Findings:
    """A row for each way of decoding, over seeds, and one for real text."""
    measured = [job.probes["samples"] for job in jobs if job.probes.get("samples")]
    rows: Rows = {}
    for samples in measured:
        for row in [*samples["rows"], samples["real"] | {"alpha": REAL}]:
            rows.setdefault(row["alpha"], []).append(row)
    first = measured[0] if measured else {}
    return Findings(
        number="8",
        question="Draw the next character instead of taking the likeliest: from P(x_t | x_<t), and, to favour likely "
        "characters, from P(x_t | x_<t)^α with α > 1. What happens?",
        setting="The book's run, and what each model writes at its end"
        + (
            f": {first['length']} characters after each of {len(first['prefixes'])} prefixes, once greedily and "
            f"{first['num_samples']} times for each α; beside it as much real text, in pieces of the "
            "validation part that overlap."
            if first
            else "."
        ),
        columns=["decoding", "runs", "repeated 8-grams, %", "distinct words", "words of the novel, %",
                 "log-likelihood, nats a character"],
        rows=[_row(alpha, ours) for alpha, ours in rows.items()],
        figures={"repetition": _repetition(rows), "likelihood": _likelihood(rows)},
        captions={
            "repetition": "Repetition and words against α, greedy decoding at the right end. Mean and standard "
            "deviation over seeds; the dashed line is real text.",
            "likelihood": "Mean log-likelihood of a character of the text under the model that wrote it; the dashed "
            "line is real text.",
        },
        answer=" ".join(_answer(rows, measured)),
        notes=[
            "Repeated 8-grams: 1 − distinct / all within a text. Distinct words: in one text. Words of the novel: "
            "share of the words that occur anywhere in it, so that real text has 100 % by definition. Log-likelihood: "
            "under the model itself (α = 1), whatever the text was drawn from. Mean ± standard deviation over seeds.",
            *_side_by_side(first),
            *_loops(measured),
        ],
    )  # fmt: skip


def _name(alpha: Decoding) -> str:
    if alpha is None:
        return "greedy"
    return alpha if isinstance(alpha, str) else "P" if alpha == 1 else f"P^{alpha:g}"


def _values(rows: list[dict[str, Any]], measure: str, factor: float = 1) -> list[float]:
    """Of each job; summary.json writes a number that is not finite as a text."""
    return [factor * float(row[measure]) for row in rows]


def _row(alpha: Decoding, rows: list[dict[str, Any]]) -> list[str]:
    return [
        _name(alpha),
        str(len(rows)),
        mean_sd(_values(rows, "repeated", 100)),
        mean_sd(_values(rows, "distinct_words")),
        mean_sd(_values(rows, "known_words", 100)),
        mean_sd(_values(rows, "log_likelihood")),
    ]


def _mean(rows: list[dict[str, Any]], measure: str, factor: float = 1) -> float:
    """Over the jobs where it is finite."""
    finite = list(filter(math.isfinite, _values(rows, measure, factor)))
    return statistics.fmean(finite) if finite else math.nan


def _repetition(rows: Rows) -> Figure:
    figure = Figure(figsize=(9, 3.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    _against_alpha(left, rows, "repeated", 100, COLOURS[0], "repeated 8-grams, %")
    _against_alpha(right, rows, "known_words", 100, COLOURS[1], "words that occur in the novel, %")
    return figure


def _likelihood(rows: Rows) -> Figure:
    figure = Figure(figsize=(6, 3.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    _against_alpha(axes, rows, "log_likelihood", 1, COLOURS[2], "mean log-likelihood, nats a character")
    return figure


def _against_alpha(axes: Axes, rows: Rows, measure: str, factor: float, colour: str, label: str) -> None:
    """Means with standard deviations at each alpha, joined; greedy decoding apart; real text as a line."""
    drawn = sorted((alpha, ours) for alpha, ours in rows.items() if isinstance(alpha, float | int))
    for places, style in (([*drawn], "o-"), ([(GREEDY_AT, rows[None])] if None in rows else [], "D")):
        points = [(place, list(filter(math.isfinite, _values(ours, measure, factor)))) for place, ours in places]
        points = [(place, values) for place, values in points if values]
        if points:
            means = [statistics.fmean(values) for _, values in points]
            deviations = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
            axes.errorbar([place for place, _ in points], means, deviations, fmt=style, color=colour, capsize=3)
    real = _mean(rows.get(REAL, []), measure, factor)
    if math.isfinite(real):
        axes.axhline(real, linestyle="--", color="black", linewidth=1)
        axes.text(0.42, real, REAL, va="bottom")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="α (log scale)", ylabel=label, xlim=(0.4, GREEDY_AT * 1.4))
    ticks = [*(alpha for alpha, _ in drawn), GREEDY_AT]
    axes.set_xticks(ticks, [*(f"{alpha:g}" for alpha, _ in drawn), "greedy"])
    axes.minorticks_off()
    axes.margins(y=0.12)
    axes.grid(alpha=0.3)


def _side_by_side(samples: dict[str, Any]) -> Iterable[str]:
    """The first job's texts, a block a prefix; real text has a beginning of its own."""
    if not samples:
        return
    rows = [*samples["rows"], samples["real"] | {"alpha": REAL}]
    blocks = []
    for number, prefix in enumerate(samples["prefixes"]):
        lines = [f"{_name(row['alpha']):9} | {row['shown'][number]}" for row in rows]
        blocks.append("\n".join([f"{'prefix':9} | {prefix}", *lines]))
    yield "The beginnings of the first run's texts, a block a prefix; real text goes on from a beginning of its own:"
    yield "```text\n" + "\n\n".join(blocks) + "\n```"


def _loops(measured: list[dict[str, Any]]) -> Iterable[str]:
    """The cycles of greedy decoding, a row a prefix and a column a run."""
    if measured:
        head = ["prefix", *(f"run {number + 1}" for number in range(len(measured)))]
        lines = [head, ["---"] * len(head)]
        for number, prefix in enumerate(measured[0]["prefixes"]):
            lines.append([f"`{prefix}`", *(_loop(samples["loops"][number]) for samples in measured)])
        yield "What greedy decoding repeats in the end, and after how many characters it first does so:"
        yield "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _loop(loop: dict[str, Any]) -> str:
    return "no loop" if loop["cycle"] is None else f"`{_turned(loop['cycle'])}` after {loop['start']}"


def _turned(cycle: str) -> str:
    """The cycle from the start of a word on: of all its rotations after a space the first in the alphabet."""
    starts = [i for i in range(len(cycle)) if cycle[i - 1] == " "] or range(len(cycle))
    return min(cycle[i:] + cycle[:i] for i in starts)


def _answer(rows: Rows, measured: list[dict[str, Any]]) -> Iterable[str]:
    if not measured:
        yield "No run has ended yet."
        return
    yield from _what_happens(rows)
    yield from _why_greedy_loops(measured)
    yield from _not_from_texts(measured)


def _what_happens(rows: Rows) -> Iterable[str]:
    alphas = sorted(alpha for alpha in rows if isinstance(alpha, float | int))
    kept: list[Decoding] = [*(alpha for alpha in alphas if alpha in (alphas[0], 1, alphas[-1])), None, REAL]
    parts, nearest = [], {}
    for measure, factor, what, form, unit in (
        ("repeated", 100, "repeated 8-grams", ".1f", " %"),
        ("known_words", 100, "words of the novel", ".0f", " %"),
        ("distinct_words", 1, "distinct words", ".0f", ""),
        ("log_likelihood", 1, "log-likelihood of a character", ".2f", " nats"),
    ):
        means = {key: _mean(ours, measure, factor) for key, ours in rows.items()}
        shown = (format(means[key], form) if math.isfinite(means[key]) else "–" for key in kept)
        parts.append(f"{what} {', '.join(shown)}{unit}")
        if near := _best(alphas, {alpha: -abs(means[alpha] - means[REAL]) for alpha in alphas}):
            nearest[what] = _name(near)
    yield f"For {', '.join(map(_name, kept))}, in this order: {'; '.join(parts)}."
    if nearest:
        yield f"Nearest to real text: {', '.join(f'{name} ({what})' for what, name in nearest.items())}."
    if len(set(nearest.values())) > 1:
        yield "So no one α is right in everything."
    likelihoods = {key: _mean(rows[key], "log_likelihood") for key in [*alphas, None]}
    likeliest = _best(alphas, likelihoods)
    if likeliest and likelihoods[likeliest] > likelihoods[None]:
        yield (
            f"Greedy text is not the likeliest: that of {_name(likeliest)} is likelier, as the likeliest character now "
            "can lead to where all that follow are unlikely."
        )


def _best(alphas: list[float], values: Mapping[Any, float]) -> float | None:
    """The alpha with the largest value of those that are finite."""
    return max(
        (alpha for alpha in alphas if math.isfinite(values[alpha])), key=lambda alpha: values[alpha], default=None
    )


def _why_greedy_loops(measured: list[dict[str, Any]]) -> Iterable[str]:
    loops = [loop for samples in measured for loop in samples["loops"]]
    found = [loop for loop in loops if loop["cycle"] is not None]
    where = ""
    if found:
        cycle, times = Counter(_turned(loop["cycle"]) for loop in found).most_common(1)[0]
        start = statistics.median(loop["start"] for loop in found)
        where = f", in the median after {start:.0f} characters, most often (in {times}) in `{cycle}`"
    yield (
        f"{len(found)} of {len(loops)} greedy texts end in a loop{where}: without a draw the next character is a "
        "function of the state, and the state depends on little more than the last few characters, so that once these "
        "come again, all that followed them does."
    )


def _not_from_texts(measured: list[dict[str, Any]]) -> Iterable[str]:
    first = measured[0]["sharpening"]
    lengths = range(1, 1 + len(first["distances"]))
    means = [
        statistics.fmean(float(samples["sharpening"]["distances"][length - 1]) for samples in measured)
        for length in lengths
    ]
    alpha, by_character, by_text = (float(first[name]) for name in ("alpha", "by_character", "by_text"))
    yield (
        "Sharpening each character is not sampling from P(text)^α: the first divides by the sum of P^α over the next "
        "character, which depends on the characters before it, the second once by the sum over all texts, so that only "
        "the second favours a beginning for how surely it goes on."
    )
    if all(map(math.isfinite, [*means, by_character, by_text])):
        yield (
            f'Over all continuations of "{first["prefix"]}" with α = {alpha:g} the total variation distance of the two '
            f"is {', '.join(f'{mean:.3f}' for mean in means)} for {lengths[0]} to {lengths[-1]} characters; in the "
            f"first run `{first['text']}` has probability {by_character:.3f} by the character and {by_text:.3f} by the "
            "text."
        )
