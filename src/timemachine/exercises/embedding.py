"""Exercise 5: replace the one-hot encoding with learnable embeddings. Does it lead to better performance?"""

import math
from statistics import fmean

from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import by_seed, difference
from timemachine.exercises.drawing import draw_seeds
from timemachine.exercises.jobs import Job, grouped, mean_sd

INPUT, DIM, SIGMA = "model.input", "model.embedding_dim", "model.embedding_sigma"
FACTOR, LR = "model.input_lr_factor", "model.lr"
ONE_HOT = "one-hot"
PARTS = ("train", "val", "test")
SPEED = ": so far as these seeds tell, what one-hot inputs lack is speed of the weights that read them"
AFTER = {True: "", False: " from"}  # what follows a verdict
Tuned = dict[str, tuple[float, list[Job]]]  # way to read the input -> its best learning rate, and the runs at that rate


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each way to read the input, at the learning rate that is best for it on validation."""
    tuned = _tuned(jobs)
    answer, longer = _answer(tuned)
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
        answer=answer,
        longer=longer,
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
    """Return the best learning rate of each way, among those at which every seed ended with a number."""
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
        draw_seeds(axes, [job.stream("val") for job in group], place, "osD^"[number], color=COLOURS[number])
    axes.set_yticks(range(len(tuned)), [f"{way}, η = {lr:g}" for way, (lr, _) in tuned.items()])
    axes.invert_yaxis()
    axes.set(xlabel="stream perplexity, validation")
    axes.grid(alpha=0.3)
    return figure


def _answer(tuned: Tuned) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    values = {way: by_seed(group, lambda job: job.stream("val")) for way, (_, group) in tuned.items()}
    means = {way: fmean(found.values()) for way, found in values.items()}
    controls = [way for way in means if way.startswith(ONE_HOT) and way != ONE_HOT]
    wide = [way for way in means if way.endswith("N(0, 1)")]
    small = [way for way in means if way.startswith("embedding") and way not in wide]
    answer, longer = "", []
    if ONE_HOT in means and wide:
        best = min(wide, key=means.__getitem__)
        gain = difference(values[best], values[ONE_HOT])
        answer = (
            f"The best embedding ({best}), with a validation perplexity of {means[best]:.2f}, "
            f"{gain.verdict('is better than', 'is worse than')}{AFTER[gain.apart]} one-hot inputs with "
            f"{means[ONE_HOT]:.2f}, each at its own best rate."
        )
        longer.append(f"Embedding less one-hot inputs, paired by seed: {gain}.")
        if controls:
            control = min(controls, key=means.__getitem__)
            rest = difference(values[control], values[best])
            sped = difference(values[control], values[ONE_HOT]).verdict("so", "not so") == "so"
            why = (
                ": a faster input does not explain all of it" if rest.apart and rest.mean > 0 else SPEED if sped else ""
            )
            answer += (
                f" The control, {control}, with {means[control]:.2f}, "
                f"{rest.verdict('is better than', 'is worse than')}{AFTER[rest.apart]} that embedding{why}."
            )
            longer.append(f"Control less embedding, paired by seed: {rest}.")
    if small and ONE_HOT in means:
        verdicts = [
            f"{way} ({means[way]:.2f}) {found.verdict('is better', 'is worse')}"
            for way in small
            for found in [difference(values[way], values[ONE_HOT])]
        ]
        longer.append(f"Drawn small, against one-hot inputs: {'; '.join(verdicts)}.")
    unseen = {way: fmean(job.stream("test") for job in group) for way, (_, group) in tuned.items()}
    if shown := [way for way in (ONE_HOT, *controls, *wide) if way in unseen]:
        numbers = ", ".join(f"{way} {unseen[way]:.2f}" for way in shown)
        longer.append(f"On the rest of the novel, on which nothing was chosen: {numbers}.")
    return answer, longer
