"""Exercise 5: replace the one-hot encoding with learnable embeddings. Does it lead to better performance?"""

import math
from collections.abc import Iterable

from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.sweep import Job, grouped, mean_sd

INPUT, DIM, SIGMA = "model.input", "model.embedding_dim", "model.embedding_sigma"
FACTOR, LR = "model.input_lr_factor", "model.lr"
ONE_HOT = "one-hot"
PARTS = ("train", "val", "test")
Tuned = dict[str, tuple[float, list[Job]]]  # way to read the input -> its best learning rate, and the runs at that rate


def findings(jobs: list[Job]) -> Findings:
    """A row for each way to read the input, at the learning rate that is best for it on validation."""
    tuned = _tuned(jobs)
    return Findings(
        number="5",
        question="Replace the one-hot encoding with learnable embeddings. Does it lead to better performance?",
        setting="The book's run with one-hot inputs and with embeddings of several widths, their tables drawn from "
        "N(0, 1) and N(0, 0.01²); as a control, one-hot inputs whose W_xh learns faster. For each the learning rate "
        f"was chosen on validation, among {', '.join(f'{lr:g}' for lr in sorted({job.settings[LR] for job in jobs}))}.",
        columns=["input", "learning rate", "runs", "training text", "validation", "rest of the novel"],
        rows=[
            [way, f"{lr:g}", str(len(group)), *(mean_sd(job.stream(part) for job in group) for part in PARTS)]
            for way, (lr, group) in tuned.items()
        ],
        figures={"inputs": _figure(tuned)},
        captions={"inputs": "Stream perplexity on validation, a point a run, each at its own best learning rate."},
        answer=" ".join(_answer(tuned)),
        notes=[
            "Stream perplexity on the same characters for all. E W_xh, V rows of H numbers, is again a table of one "
            "row for each character: where the embedding is at least as wide as the vocabulary or the state, the same "
            "functions can be learnt. What differs is how fast: a step of W_xh moves E W_xh by E Eᵀ times what a step "
            "of the one-hot table would, and E Eᵀ is about D σ² on its diagonal, for D columns of variance σ²."
        ],
    )  # fmt: skip


def _way(job: Job) -> str:
    if job.settings[INPUT] == "one_hot":
        factor = job.settings.get(FACTOR, 1)
        return ONE_HOT if factor == 1 else f"{ONE_HOT}, input rate × {factor:g}"
    return f"embedding of {job.settings[DIM]}, N(0, {_squared(job.settings.get(SIGMA, 1))})"


def _squared(sigma: float) -> str:
    return "1" if sigma == 1 else f"{sigma:g}²"


def _tuned(jobs: list[Job]) -> Tuned:
    """The best learning rate of each way, among those at which every seed ended with a number."""
    ways: dict[str, dict[float, list[Job]]] = {}
    for (lr,), group in grouped(jobs, LR).items():
        for job in group:
            ways.setdefault(_way(job), {}).setdefault(lr, []).append(job)
    tuned: Tuned = {}
    for way, rates in ways.items():
        means = {lr: sum(job.stream("val") for job in group) / len(group) for lr, group in rates.items()}
        finite = [lr for lr, value in means.items() if math.isfinite(value)]
        if finite:
            best = min(finite, key=means.__getitem__)
            tuned[way] = best, rates[best]
    return tuned


def _figure(tuned: Tuned) -> Figure:
    figure = Figure(figsize=(8, 0.4 * len(tuned) + 1.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for place, (way, (_, group)) in enumerate(tuned.items()):
        number = 0 if way == ONE_HOT else 1 if way.startswith(ONE_HOT) else 2 if way.endswith("N(0, 1)") else 3
        axes.plot([job.stream("val") for job in group], [place] * len(group), "osD^"[number], color=COLOURS[number])
    axes.set_yticks(range(len(tuned)), [f"{way}, η = {lr:g}" for way, (lr, _) in tuned.items()])
    axes.invert_yaxis()
    axes.set(xlabel="stream perplexity, validation")
    axes.grid(alpha=0.3)
    return figure


def _answer(tuned: Tuned) -> Iterable[str]:
    means = {way: sum(job.stream("val") for job in group) / len(group) for way, (_, group) in tuned.items()}
    controls = {way: value for way, value in means.items() if way.startswith(ONE_HOT) and way != ONE_HOT}
    wide = {way: value for way, value in means.items() if way.endswith("N(0, 1)")}
    small = {way: value for way, value in means.items() if way.startswith("embedding") and way not in wide}
    if ONE_HOT in means and wide:
        best = min(wide, key=wide.__getitem__)
        change = "lower" if wide[best] < means[ONE_HOT] else "no lower"
        yield (
            f"An embedding drawn from N(0, 1) gives {change} validation perplexity: {wide[best]:.2f} ({best}) against "
            f"{means[ONE_HOT]:.2f} for one-hot inputs, each at its own best rate."
        )
        if controls:
            control = min(controls, key=controls.__getitem__)
            gap = controls[control] - wide[best]
            yield (
                f"But {control} gives {controls[control]:.2f}, {abs(gap):.2f} {'more' if gap > 0 else 'less'}: what "
                "one-hot inputs lacked is speed of the input weights, and most of the gain is that."
                if abs(gap) < means[ONE_HOT] - wide[best]
                else f"The control, {control}, gives {controls[control]:.2f}: a faster input rate does not explain it."
            )
    if small:
        worst = max(small, key=small.__getitem__)
        yield f"Drawn small, the embedding is slow to learn: {small[worst]:.2f} ({worst})."
