"""Exercise 9: run the code without clipping the gradient. What happens?"""

import math
from collections.abc import Iterable
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.sweep import Job, grouped, mean_sd

LR, THETA = "model.lr", "trainer.gradient_clip_val"
UNIGRAM = 16.7  # perplexity of the training text under the frequencies of its characters alone
TINY = 1e-9  # what a logarithmic axis shows for 0
SPIKE = 0.5  # nats that a step's loss lies above the mean of the ten before it


def findings(jobs: list[Job]) -> Findings:
    """A row for each learning rate and radius, over seeds."""
    jobs = sorted((job for job in jobs if job.metrics), key=lambda job: (job.settings[LR], -(radius(job) or math.inf)))
    groups = grouped(jobs, LR, THETA)
    rows = [_row(lr, theta, group) for (lr, theta), group in groups.items()]
    return Findings(
        number="9",
        question="What happens if you run the code without clipping the gradient?",
        setting="The book's run at learning rates from its own 1 upwards, without clipping and with three radii.",
        columns=["learning rate η", "radius θ", "runs", "diverged", "at epoch", "train", "validation", "spikes a run",
                 "largest norm", "steps clipped"],
        rows=rows,
        figures={"outcome": _outcome(groups), "norms": _norms(groups), "bound": _bound(groups)},
        captions={
            "outcome": "Validation perplexity at the end, a point a run; above the dashed line a run has diverged. "
            "1e12 stands for more, too.",
            "norms": "Norm of the gradient before clipping, over the steps of the first seed.",
            "bound": "How far a step's loss lies from that of the step before, against the length of the update "
            "between them, η‖g‖ after clipping. The chapter's bound, L times that length, is a line of slope 1 here.",
        },
        answer=" ".join(_answer(groups)),
        notes=[
            f"Diverged: the loss is not finite, or training perplexity has risen and ends above {UNIGRAM}, that of the "
            "frequencies of single characters. Perplexities are those of the runs that did not. A spike is a step "
            f"whose loss lies {SPIKE} nats above the mean of the ten before it. Mean ± standard deviation over seeds."
        ],
    )  # fmt: skip


def radius(job: Job) -> float:
    """θ, 0 without clipping."""
    return job.settings[THETA] or 0.0


def diverged(job: Job) -> bool:
    """Not finite, or at the end worse than the frequencies of single characters and than it was before."""
    train = job.metrics.get("train/perplexity", math.inf)
    best = min((row["train/perplexity"] for row in job.epochs()), default=0.0)
    return job.status == "diverged" or (not train <= UNIGRAM and not train <= 1.05 * best)


def _row(lr: float, theta: float | None, jobs: list[Job]) -> list[str]:
    sound = [job for job in jobs if not diverged(job)]
    clipped = [job.metrics["clipped_steps"] / job.metrics["num_steps_done"] for job in jobs]
    epochs = [epoch_of_divergence(job) for job in jobs if diverged(job)]
    return [
        f"{lr:g}",
        f"{theta:g}" if theta else "none",
        str(len(jobs)),
        f"{len(jobs) - len(sound)} of {len(jobs)}",
        " to ".join(f"{epoch:g}" for epoch in sorted({min(epochs), max(epochs)})) if epochs else "",
        mean_sd(job.metrics["train/perplexity"] for job in sound),
        mean_sd(job.metrics.get("val/perplexity", math.nan) for job in sound),
        f"{sum(map(_spikes, jobs)) / len(jobs):.1f}",
        f"{max(job.metrics['largest_grad_norm'] for job in jobs):.3g}",
        f"{sum(clipped) / len(clipped):.0%}",
    ]


def epoch_of_divergence(job: Job) -> float:
    """The epoch from which on training perplexity stays above that of single characters."""
    epochs = job.epochs()
    sound = [row["epoch"] for row in epochs if row["train/perplexity"] <= UNIGRAM]
    return 1 + max(sound, default=0)


def _spikes(job: Job) -> int:
    losses = [row["loss"] for row in job.steps()]
    return sum(not losses[i] <= sum(losses[i - 10 : i]) / 10 + SPIKE for i in range(10, len(losses)))


def label(theta: float | None) -> str:
    """What a figure calls a radius."""
    return f"radius {theta:g}" if theta else "no clipping"


def _thetas(groups: Iterable[tuple[float, float | None]]) -> list[float | None]:
    return sorted({theta for _, theta in groups}, key=lambda theta: -(theta or math.inf))


def _outcome(groups: dict[tuple[float, float | None], list[Job]]) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    lrs = sorted({lr for lr, _ in groups})
    thetas = _thetas(groups)
    for number, theta in enumerate(thetas):
        points = [(lrs.index(lr), job) for (lr, radius), jobs in groups.items() if radius == theta for job in jobs]
        x = [place + 0.15 * (number - (len(thetas) - 1) / 2) for place, _ in points]
        y = [min(job.metrics.get("val/perplexity", math.inf), 1e12) for _, job in points]
        axes.plot(x, y, "osD^v<>"[number % 7], color=COLOURS[number % 7], alpha=0.7, label=label(theta))
    axes.axhline(UNIGRAM, linestyle="--", color="grey", linewidth=1)
    axes.set(xlabel="learning rate η", ylabel="validation perplexity (log scale)", yscale="log")
    axes.set_xticks(range(len(lrs)), [f"{lr:g}" for lr in lrs])
    if groups:
        axes.legend()
    return figure


def _norms(groups: dict[tuple[float, float | None], list[Job]]) -> Figure:
    lrs = sorted({lr for lr, _ in groups})
    height = max(-(-len(lrs) // 3), 1)
    figure = Figure(figsize=(9, 2.6 * height), dpi=150, layout="constrained")
    grid = figure.subplots(height, 3, squeeze=False, sharex=True, sharey=True)
    for axes, lr in zip(grid.flat, lrs, strict=False):
        for number, theta in enumerate(_thetas(groups)):
            if (lr, theta) in groups:
                steps = groups[lr, theta][0].steps()
                x, y = [row["step"] for row in steps], [max(row["grad_norm"], TINY) for row in steps]
                axes.plot(x, y, color=COLOURS[number % 7], linewidth=0.6, label=label(theta))
        axes.set(title=f"η = {lr:g}", yscale="log", xlabel="step", ylabel="‖g‖ (log scale)")
        axes.label_outer()
    if groups:
        grid[0, 0].legend(fontsize="small")
    return figure


def _bound(groups: dict[tuple[float, float | None], list[Job]]) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    lrs = sorted({lr for lr, _ in groups})
    keys = [(lr, theta) for lr in dict.fromkeys((*lrs[:1], *lrs[-1:])) for theta in _thetas(groups)]
    draw_bound(
        axes, {f"η = {lr:g}, {label(theta)}": groups[lr, theta][0] for lr, theta in keys if (lr, theta) in groups}
    )
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small", markerscale=4)
    return figure


def draw_bound(axes: Axes, runs: dict[str, Job]) -> None:
    """The change of the loss from a step to the next against the length of the update between them, a colour a run."""
    for number, (name, job) in enumerate(runs.items()):
        steps = job.steps()
        lengths = [max(job.settings[LR] * row["grad_norm_clipped"], TINY) for row in steps[:-1]]
        changes = [max(abs(after["loss"] - row["loss"]), TINY) for row, after in pairwise(steps)]
        points = [point for point in zip(lengths, changes, strict=True) if all(map(math.isfinite, point))]
        if not points:  # matplotlib refuses a log axis for a line without a point
            continue
        x, y = zip(*points, strict=True)
        axes.plot(x, y, "." if number < 7 else "x", markersize=2, color=COLOURS[number % 7], label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="length of the update, η‖g‖ after clipping",
        ylabel="change of the loss, nats",
    )


def _answer(groups: dict[tuple[float, float | None], list[Job]]) -> Iterable[str]:
    lrs, thetas = sorted({lr for lr, _ in groups}), _thetas(groups)
    free, clipped = groups.get((1.0, None), []), groups.get((1.0, 1.0), [])
    if free and clipped:
        pairs = [(a, b) for a in free for b in clipped if a.settings["seed"] == b.settings["seed"]]
        same = sum(_numbers(a) == _numbers(b) for a, b in pairs)
        largest = max(job.metrics["largest_grad_norm"] for job in clipped)
        if same == len(pairs) and largest < 1:
            yield (
                "At the book's own rate nothing happens: the norm of the gradient stays below the radius of 1 "
                f"(largest {largest:.2f}), so clipping never acts, and without it {same} of {len(pairs)} runs are the "
                "same bit for bit."
            )
        else:
            yield f"At a rate of 1, {same} of {len(pairs)} runs are the same bit for bit with radius 1 and without."
    for theta in thetas:
        shares = []
        for lr in lrs:
            if (jobs := groups.get((lr, theta))) and any(map(diverged, jobs)):
                shares.append(f"{sum(map(diverged, jobs))} of {len(jobs)} at rate {lr:g}")
        what = f"With radius {theta:g}" if theta else "Without clipping"
        yield f"{what}, {'diverged: ' + ', '.join(shares) if shares else 'no run diverges at any rate'}."
    radii = sorted(filter(None, thetas))
    if len(radii) > 1:
        yield (
            "A step is at most ηθ long, so what counts is their product and not the radius alone: at rate "
            f"{lrs[-1]:g} radius {radii[-1]:g} allows steps of length {lrs[-1] * radii[-1]:g}, radius {radii[0]:g} of "
            f"{lrs[-1] * radii[0]:g}."
        )
    yield "Clipping bounds what a large gradient can do; a gradient that vanishes on its way back it leaves as it is."


def _numbers(job: Job) -> list[dict[str, float]]:
    """metrics.csv but for the clock's column."""
    return [
        {name: value for name, value in row.items() if name != "chars_per_second" and not math.isnan(value)}
        for row in job.epochs()
    ]
