"""Exercise 9: run the code without clipping the gradient. What happens?"""

import math
from collections.abc import Iterable
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import letters
from timemachine.exercises.drawing import draw_slope
from timemachine.exercises.jobs import Job, grouped, mean_sd, span

LR, THETA = "model.lr", "trainer.gradient_clip_val"
TINY = 1e-9  # what a logarithmic axis shows for 0
Groups = dict[tuple[float, float | None], list[Job]]  # η and θ -> jobs
SPIKE = 0.5  # nats that a step's loss lies above the mean of the ten before it


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each learning rate and radius, over seeds."""
    jobs = sorted((job for job in jobs if job.metrics), key=lambda job: (job.settings[LR], -(radius(job) or math.inf)))
    groups = grouped(jobs, LR, THETA)
    rows = [_row(lr, theta, group) for (lr, theta), group in groups.items()]
    answer, longer = _answer(groups)
    return Findings(
        number="9",
        question="What happens if you run the code without clipping the gradient?",
        setting="The book's run at learning rates from its own 1 upwards, without clipping and with three radii.",
        columns=["learning rate η", "radius θ", "runs", "diverged", "at epoch", "train", "validation", "spikes a run",
                 "largest norm", "steps clipped"],
        rows=rows,
        figures={"outcome": _outcome(groups), "norms": _norms(groups), "bound": _bound(groups)},
        captions={
            "outcome": "Validation perplexity at the end, a point a run; the dashed line is what the "
            "frequencies of the letters give. 1e12 stands for more, too.",
            "norms": "Norm of the gradient before clipping, over the steps of the first seed.",
            "bound": "How far a step's loss lies from that of the step before, against the length of the update "
            "between them, η‖g‖ after clipping. The chapter's bound, L times that length, is a line of slope 1 "
            "here; the dashed one is that of L = 1. A radius that never acts has its points on those without clipping.",
        },
        answer=answer,
        longer=longer,
        notes=[
            "Diverged: the loss is not finite, or the final validation perplexity above that of guessing. At epoch: "
            "from which on training perplexity stays above that of the letters' frequencies; 1 if it was never below. "
            f"Perplexities are those of the runs that did not diverge. A spike is a step whose loss lies {SPIKE} nats "
            "above the mean of the ten before it. Mean ± standard deviation over seeds."
        ],
    )  # fmt: skip


def radius(job: Job) -> float:
    """Return θ, 0 without clipping."""
    return job.settings[THETA] or 0.0


def diverged(job: Job) -> bool:
    """Return whether it is not finite, or ends with a validation perplexity above that of guessing."""
    return job.status == "diverged"


def _row(lr: float, theta: float | None, jobs: list[Job]) -> list[str]:
    sound = [job for job in jobs if not diverged(job)]
    clipped = [job.metrics["clipped_steps"] / job.metrics["num_steps_done"] for job in jobs]
    epochs = [epoch_of_divergence(job) for job in jobs if diverged(job)]
    return [
        f"{lr:g}",
        f"{theta:g}" if theta else "none",
        str(len(jobs)),
        f"{len(jobs) - len(sound)} of {len(jobs)}",
        span(epochs) if epochs else "",
        mean_sd(job.metrics["train/perplexity"] for job in sound),
        mean_sd(job.metrics.get("val/perplexity", math.nan) for job in sound),
        f"{sum(map(_spikes, jobs)) / len(jobs):.1f}",
        f"{max(job.metrics['largest_grad_norm'] for job in jobs):.3g}",
        f"{sum(clipped) / len(clipped):.0%}",
    ]


def epoch_of_divergence(job: Job) -> float:
    """Return the epoch from which on training perplexity stays above that of single characters."""
    epochs = job.epochs()
    sound = [row["epoch"] for row in epochs if row["train/perplexity"] <= letters(job)["train/perplexity"]]
    return 1 + max(sound, default=0)


def _spikes(job: Job) -> int:
    losses = [row["loss"] for row in job.steps()]
    return sum(not losses[i] <= sum(losses[i - 10 : i]) / 10 + SPIKE for i in range(10, len(losses)))


def label(theta: float | None) -> str:
    """Return what a figure calls a radius."""
    return f"radius {theta:g}" if theta else "no clipping"


def _thetas(groups: Iterable[tuple[float, float | None]]) -> list[float | None]:
    return sorted({theta for _, theta in groups}, key=lambda theta: -(theta or math.inf))


def _outcome(groups: Groups) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    lrs = sorted({lr for lr, _ in groups})
    thetas = _thetas(groups)
    for number, theta in enumerate(thetas):
        points = [(lrs.index(lr), job) for (lr, radius), jobs in groups.items() if radius == theta for job in jobs]
        x = [place + 0.18 * (number - (len(thetas) - 1) / 2) + 0.03 * (job.settings.get("seed", 0) % 5 - 2)
             for place, job in points]  # fmt: skip
        y = [min(job.metrics.get("val/perplexity", math.inf), 1e12) for _, job in points]
        axes.plot(x, y, "osD^v<>"[number % 7], color=COLOURS[number % 7], markersize=4, markerfacecolor="none",
                  label=label(theta))  # fmt: skip
    for perplexity in {letters(job)["val/perplexity"] for jobs in groups.values() for job in jobs if job.letters}:
        axes.axhline(perplexity, linestyle="--", color="grey", linewidth=1)
    axes.set(xlabel="learning rate η", ylabel="validation perplexity (log scale)", yscale="log")
    axes.set_xticks(range(len(lrs)), [f"{lr:g}" for lr in lrs])
    if groups:
        axes.legend()
    return figure


def _norms(groups: Groups) -> Figure:
    lrs = sorted({lr for lr, _ in groups})
    height = max(-(-len(lrs) // 3), 1)
    figure = Figure(figsize=(9, 2.6 * height), dpi=150, layout="constrained")
    grid = figure.subplots(height, 3, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[len(lrs) :]:
        axes.set_visible(False)
    for axes, lr in zip(grid.flat, lrs, strict=False):
        for number, theta in enumerate(_thetas(groups)):
            if (lr, theta) in groups:
                steps = groups[lr, theta][0].steps()
                x, y = [row["step"] for row in steps], [max(row["grad_norm"], TINY) for row in steps]
                wide = {"linewidth": 2.5, "alpha": 0.4} if theta is None else {"linewidth": 0.7}  # under what is alike
                axes.plot(x, y, color=COLOURS[number % 7], label=label(theta), **wide)
        axes.set(title=f"η = {lr:g}", yscale="log", xlabel="step", ylabel="‖g‖ (log scale)")
        axes.label_outer()
    if groups:
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    return figure


def _bound(groups: Groups) -> Figure:
    lrs = sorted({lr for lr, _ in groups})
    shown = list(dict.fromkeys((*lrs[:1], *lrs[-1:]))) or [1.0]
    figure = Figure(figsize=(9, 4), dpi=150, layout="constrained")
    (panels,) = figure.subplots(1, len(shown), squeeze=False, sharex=True, sharey=True)
    for axes, lr in zip(panels, shown, strict=True):
        draw_bound(axes, {label(theta): groups[lr, theta][0] for theta in _thetas(groups) if (lr, theta) in groups})
        axes.set(title=f"η = {lr:g}")
        axes.label_outer()
    for axes in panels:
        if axes.lines:
            draw_slope(axes)
            axes.legend(fontsize="small", markerscale=2)
    return figure


def draw_bound(axes: Axes, runs: dict[str, Job]) -> None:
    """Draw the change of the loss from a step to the next against the update's length, a colour and a sign a run.

    The first lies below and is larger, since runs without clipping and with a wide radius may be the same.
    """
    for number, (name, job) in enumerate(runs.items()):
        steps = job.steps()
        lengths = [max(job.settings[LR] * row["grad_norm_clipped"], TINY) for row in steps[:-1]]
        changes = [max(abs(after["loss"] - row["loss"]), TINY) for row, after in pairwise(steps)]
        points = [point for point in zip(lengths, changes, strict=True) if all(map(math.isfinite, point))]
        if not points:  # matplotlib refuses a log axis for a line without a point
            continue
        x, y = zip(*points, strict=True)
        sign, colour = "osD^v<>"[number % 7], COLOURS[number % 7]
        axes.plot(x, y, sign, markersize=2 if number else 4, color=colour, label=name, markeredgewidth=0,
                  alpha=0.7 if number else 0.35)  # fmt: skip
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="length of the update, η‖g‖ after clipping",
        ylabel="change of the loss, nats",
    )


def _answer(groups: Groups) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    lrs, thetas = sorted({lr for lr, _ in groups}), _thetas(groups)
    longer = []
    for theta in thetas:
        counts = {lr: [diverged(job) for job in groups[lr, theta]] for lr in lrs if (lr, theta) in groups}
        bad = ", ".join(f"{sum(found)} of {len(found)} at rate {lr:g}" for lr, found in counts.items() if any(found))
        what = f"With radius {theta:g}" if theta else "Without clipping"
        longer.append(f"{what} {f'diverge {bad}' if bad else 'no run diverges at any rate'}.")
    answer = f"{_at_the_books_rate(groups)} {longer[0]}" if longer else ""
    radii = sorted(filter(None, thetas))
    if len(radii) > 1:
        longer.append(
            f"A step is at most ηθ long: at rate {lrs[-1]:g} at most {lrs[-1] * radii[-1]:g} with radius {radii[-1]:g} "
            f"and {lrs[-1] * radii[0]:g} with radius {radii[0]:g}."
        )
    longer.append("Clipping bounds what a large gradient can do. A gradient that vanishes on its way back it leaves.")
    return answer.strip(), longer[1:]


def _at_the_books_rate(groups: Groups) -> str:
    free, clipped = groups.get((1.0, None), []), groups.get((1.0, 1.0), [])
    pairs = [(a, b) for a in free for b in clipped if a.settings["seed"] == b.settings["seed"]]
    if not pairs:
        return ""
    same = sum(_numbers(a) == _numbers(b) for a, b in pairs)
    largest = max(job.metrics["largest_grad_norm"] for job in clipped)
    if same < len(pairs) or largest >= 1:
        return f"At a rate of 1, {same} of {len(pairs)} runs are the same bit for bit with radius 1 and without."
    return (
        f"At the book's own rate nothing happens: the norm of the gradient stays below the radius of 1 (largest "
        f"{largest:.2f}), so that {same} of {len(pairs)} runs are the same bit for bit with radius 1 and without."
    )


def _numbers(job: Job) -> list[dict[str, float]]:
    """Return metrics.csv but for the clock's column."""
    return [
        {name: value for name, value in row.items() if name != "chars_per_second" and not math.isnan(value)}
        for row in job.epochs()
    ]
