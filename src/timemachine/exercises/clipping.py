"""Exercise 9: run the code without clipping the gradient. What happens?"""

import math
from collections.abc import Callable, Iterable
from itertools import takewhile

from matplotlib.figure import Figure

from timemachine.exercises import Findings
from timemachine.exercises.comparison import by_seed, compare, estimate, holm
from timemachine.exercises.drawing import COLOURS, MARKERS, label_ends, lines, panels, plain_numbers
from timemachine.exercises.jobs import Cell, Job, grouped, markdown, rows
from timemachine.exercises.outcomes import letters_in_words, outcome

LR, THETA = "model.lr", "trainer.gradient_clip_val"
VAL, REST, NORM = "val/perplexity", "test/perplexity", "largest_grad_norm"
LOST = 30  # perplexity from which on a figure has the runs that diverged
EACH: dict[str, Cell] = {
    "learnt": lambda jobs: f"{sum(map(learnt, jobs))} of {len(jobs)}",
    "diverged": lambda jobs: f"{sum(job.status == 'diverged' for job in jobs)}",
    "validation": lambda jobs: f"{estimate(last(VAL, jobs).values())}",
    "rest of the novel": lambda jobs: f"{estimate(last(REST, jobs).values())}",
    "largest norm": lambda jobs: f"{max(map(of(NORM), jobs)):.3g}",
    "steps clipped": lambda jobs: f"{estimate(map(clipped, jobs)).mean:.0%}",
}


def learnt(job: Job) -> bool:
    """Return whether a run has learnt something."""
    return outcome(job) == "learnt"


def of(name: str) -> Callable[[Job], float]:
    """Return what gives a last number of a job, NaN where it has none."""
    return lambda job: job.metrics.get(name, math.nan)


def last(name: str, jobs: Iterable[Job]) -> dict[int, float]:
    """Return a last number of the runs that learnt, by seed."""
    return by_seed(filter(learnt, jobs), of(name))


def clipped(job: Job) -> float:
    """Return the share of steps in which clipping acted."""
    return of("clipped_steps")(job) / of("num_steps_done")(job)


class Radius:
    """The runs of a radius θ, None without clipping.

    `learns`: the rate up to which every run learns; `fails`: the sweep's next one; NaN where there is none. `best`: the
    runs at the rate with the lowest mean on validation, up to `learns`. `acts`: whether any step of these was clipped.
    """

    def __init__(self, theta: float | None, jobs: list[Job]) -> None:
        self.theta, self.jobs = theta, jobs
        self.name = f"θ = {theta:g}" if theta else "no clipping"
        self.rates = {lr: runs for (lr,), runs in sorted(grouped(jobs, LR).items())}
        learning = dict(takewhile(lambda item: all(map(learnt, item[1])), self.rates.items()))
        self.learns, self.fails = [math.nan, *self.rates, math.nan][len(learning) :][:2]
        self.best: list[Job] = min(
            learning.values(), key=lambda runs: estimate(last(VAL, runs).values()).mean, default=[]
        )
        self.acts = theta is not None and any(clipped(job) > 0 for job in self.best)


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each radius, over rates and seeds; of the jobs that have ended."""
    jobs = [job for job in jobs if job.status in ("completed", "diverged")]
    jobs.sort(key=lambda job: (-(job.settings[THETA] or math.inf), job.settings[LR]))
    radii = {theta: Radius(theta, runs) for (theta,), runs in grouped(jobs, THETA).items()}
    return Findings(
        number="9",
        question="What happens if you run the code without clipping the gradient?",
        answer=_answer(radii),
        setting="The book's run at its own learning rate of 1 and at higher ones, without clipping and with three "
        "radii θ. A run whose validation perplexity passes 1,000 is stopped: it is lost.",
        columns=["", "every run learns up to η", "ηθ", "not every run at η", "ηθ there", "best rate", "validation",
                 "less none's", "rest of the novel", "less none's"],
        rows=[_row(radius, radii) for radius in radii.values()],
        figures={"outcome": _outcome(list(radii.values())), "norms": _norms(list(radii.values()))},
        captions={
            "outcome": "A point a run. Where clipping acts, the longest step, ηθ, decides whether runs learn.",
            "norms": "The norm of the gradient before clipping, an epoch's mean, of the first seed; dashed: the radii.",
        },
        notes=[
            "Perplexities are of windows and of runs that learnt: the mean over seeds and half of its 95 % interval. "
            "The best rate has the lowest mean on validation, so the rest of the novel is what to judge it by; "
            "differences are paired by seed. Learnt: ends below "
            f"{letters_in_words(jobs, VAL)} on validation, what the letters' frequencies give. Diverged: ends above "
            "that of guessing, or not finite.",
            markdown(["radius θ", "η", *EACH], rows(jobs, {"radius θ": THETA, "η": LR}, EACH)),
        ],
    )  # fmt: skip


def _row(radius: Radius, radii: dict[float | None, Radius]) -> list[str]:
    row = [radius.name]
    for lr in (radius.learns, radius.fails):
        row += [f"{lr:g}", f"{lr * radius.theta:.3g}" if radius.theta else ""]
    row.append(f"{radius.best[0].settings[LR]:g}" if radius.best else "–")
    for name in (VAL, REST):
        gain = compare(last(name, radius.best), last(name, radii[None].best if None in radii else []))
        row += [f"{estimate(last(name, radius.best).values())}", f"{gain:+.2f}" if radius.theta else ""]
    return row


def _answer(radii: dict[float | None, Radius]) -> str:
    """Return the answer; "" where a part of the grid that it needs has not been run."""
    free, book = radii.get(None), radii.get(1.0)
    if free is None or book is None or 1.0 not in free.rates or 1.0 not in book.rates:
        return ""
    without, with_it = (by_seed(it.rates[1.0], lambda job: hash(_numbers(job))) for it in (free, book))
    same = sum(without[seed] == with_it.get(seed) for seed in without)
    answer = (
        "At the book's settings nothing happens: the norm of the gradient stays below the radius of 1 (largest "
        f"{max(map(of(NORM), free.rates[1.0])):.2f}), and {same} of {len(without)} runs are the same bit for bit."
    )
    acting = [radius for radius in radii.values() if radius.acts]
    lost = [lr for lr in free.rates if not any(learnt(job) for job in free.jobs if job.settings[LR] >= lr)]
    if acting and lost and free.best:
        widest = max(acting, key=lambda radius: radius.learns)
        gains = {radius.theta: compare(last(REST, radius.best), last(REST, free.best)) for radius in acting}
        verdict = gains[widest.theta].verdict(holm(gains)[widest.theta], "lower", "higher")
        answer += (
            f" Without clipping every run learns up to a rate of {free.learns:g} and none from {lost[0]:g} on, while a "
            f"radius of {widest.theta:g} lets all learn up to {widest.learns:g}; but best against best, the perplexity "
            f"of the rest of the novel differs by {gains[widest.theta]:+.2f} ({verdict})."
        )
    return answer


def _numbers(job: Job) -> tuple[tuple[str, float], ...]:
    return tuple((name, number) for name, number in job.metrics.items() if name != "chars_per_second")


def _outcome(radii: list[Radius]) -> Figure:
    """Draw validation perplexity against the rate and, where clipping acts, its product with the radius."""
    figure, ((left, right),) = panels(1, 2, 10, 4.2, sharey=True)
    for axes, ticks in ((left, (1, 2, 4, 8, 16, 32)), (right, (0.1, 0.3, 1, 3, 10))):
        axes.set(xscale="log", yscale="log", ylim=(6.5, LOST * 2))
        plain_numbers(axes.xaxis, ticks)
        plain_numbers(axes.yaxis, (7, 8, 10, 14, 20))
        axes.axhspan(LOST, LOST * 2, color="grey", alpha=0.15, linewidth=0)
        axes.text(0.02, 0.97, "diverged", transform=axes.transAxes, va="top", color="dimgrey")
        ends = []
        for number, (radius, colour, marker) in enumerate(zip(radii, COLOURS, MARKERS, strict=False)):
            factor = 1.015**number * (1.0 if axes is left else (radius.theta or 0.0) * radius.acts)
            lost = LOST * 1.1 * 1.16**number
            points = [(job.settings[LR] * factor, lost if job.status == "diverged" else of(VAL)(job))
                      for job in radius.jobs if factor]  # fmt: skip
            if points:
                axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=4, markerfacecolor="none")
                ends.append((*points[-1], radius.name, colour))
        label_ends(axes, ends)
    left.set(xlabel="learning rate η", ylabel="validation perplexity at the end")
    right.set(xlabel="longest step that clipping allows, ηθ")
    return figure


def _norms(radii: list[Radius]) -> Figure:
    """Draw the gradient's norm over epochs, at rates below and above those from which on runs diverge."""
    ends = [lr for radius in (*radii[:1], *radii[-1:]) for lr in (radius.learns, radius.fails) if not math.isnan(lr)]
    curves = {lr: {radius.name: {row["epoch"]: row["grad_norm"] for job in radius.rates.get(lr, [])[:1]
                                 for row in job.epochs()} for radius in radii} for lr in ends}  # fmt: skip
    norms = [norm for of_rate in curves.values() for curve in of_rate.values() for norm in curve.values()]
    figure, grid = panels(2, 2, 9, 5.2, sharex=True, sharey=True)
    grid[0, 0].set(yscale="log", xlim=(0, 100), ylim=(0.05, 2 * max(filter(math.isfinite, norms), default=1.0)))
    for axes, lr in zip(grid.flat, curves, strict=False):
        axes.set(title=f"η = {lr:g}", xlabel="epoch", ylabel="mean ‖g‖ (log scale)")
        lines(axes, curves[lr])
        for radius, colour in zip(radii, COLOURS, strict=False):
            if radius.theta:
                axes.axhline(radius.theta, color=colour, linestyle="--", linewidth=1, zorder=1)
                axes.text(1, radius.theta, f"radius {radius.theta:g}", color=colour, fontsize="small", va="bottom")
        axes.label_outer()
    return figure
