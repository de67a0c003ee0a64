"""Exercise 9: What happens if you run the code without clipping the gradient?"""

import math
from itertools import takewhile
from statistics import fmean

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import Estimate, compare, estimate
from timemachine.exercises.drawing import COLOURS, MARKERS, label_ends, lines, panels, plain_numbers
from timemachine.exercises.groups import ended, grouped, markdown, missing
from timemachine.exercises.outcomes import LR, REST, THETA, VAL, counted, definition, last, learnt, radius_name
from timemachine.run.jobs import Job

NORM, ACTED, DONE = "largest_grad_norm", "clipped_steps", "num_steps_done"
REST_NAME = "rest of the text"
LOST = 20  # perplexity above which the figure shows diverged runs


class Radius:
    """The runs with one clipping radius θ; None is no clipping.

    `learns`: the highest rate up to which every run learns; `fails`: the next rate of the sweep; NaN if there is none.
    `best`: the runs at the rate up to `learns` with the lowest mean on validation. `acts`: whether any of their steps
    was clipped.
    """

    def __init__(self, theta: float | None, jobs: list[Job]) -> None:
        self.theta, self.jobs, self.name = theta, jobs, radius_name(theta)
        self.rates = {lr: runs for (lr,), runs in sorted(grouped(jobs, LR).items())}
        learning = dict(takewhile(lambda item: all(map(learnt, item[1])), self.rates.items()))
        self.learns = max(learning, default=math.nan)
        self.fails = next((lr for lr in self.rates if lr not in learning), math.nan)
        self.best = min(learning.values(), key=lambda runs: fmean(last(VAL, runs).values()), default=list[Job]())
        self.acts = any(job.number(ACTED) > 0 for job in self.best)


def findings(jobs: list[Job]) -> Findings:
    """Report one row per radius, over rates and seeds, from the jobs that have ended."""
    runs = sorted(ended(jobs), key=lambda job: (-(job.settings[THETA] or math.inf), job.settings[LR]))
    radii = [Radius(theta, of_theta) for (theta,), of_theta in grouped(runs, THETA).items()]
    free = Radius(None, [job for job in runs if not job.settings[THETA]])
    gains = {(radius, name): compare(last(name, radius.best), last(name, free.best))
             for radius in radii for name in (VAL, REST)}  # fmt: skip
    return Findings(
        answer=_answer(jobs, free, radii, gains),
        setting="The book's run at its learning rate of 1 and at higher rates, without clipping and with gradients "
        "clipped to a radius θ. A run is stopped once its validation perplexity exceeds 1,000.",
        columns=["", "every run learns up to η", "not every run at η", "best η", "validation", "vs. no clipping",
                 REST_NAME, "vs. no clipping"],
        rows=[
            [radius.name]
            + [_rate(lr, radius.theta) for lr in (radius.learns, radius.fails)]
            + [f"{radius.best[0].settings[LR]:g}" if radius.best else "–"]
            + [cell for name in (VAL, REST) for cell in
               (f"{estimate(last(name, radius.best).values())}", f"{gains[radius, name]:+.2f}" if radius.theta else "")]
            for radius in radii
        ],
        figures={"outcome": _outcome(radii)} | ({"norms": _norms(free, radii)} if free.jobs else {}),
        notes=[
            "Perplexities are window perplexities of the runs that learnt: mean over seeds ± half of the 95 % "
            f"interval. The best rate was chosen on validation, so compare radii on the {REST_NAME}. Differences are "
            f"paired by seed. {definition(runs)}",
            markdown(["", "η", "learnt", "validation", REST_NAME, "largest norm", "steps clipped"],
                     [[radius.name, f"{lr:g}", *_cells(runs)] for radius in radii for lr, runs in radius.rates.items()])
        ],
    )  # fmt: skip


def _rate(lr: float, theta: float | None) -> str:
    return "–" if math.isnan(lr) else f"{lr:g}" + (f" (ηθ = {lr * theta:.3g})" if theta else "")


def _cells(jobs: list[Job]) -> list[str]:
    """Return the cells of the long table for the runs of one radius and rate."""
    ends = [f"{estimate(last(name, jobs).values())}" for name in (VAL, REST)]
    clipped = estimate(job.number(ACTED) / job.number(DONE) for job in jobs).mean
    return [counted(jobs), *ends, f"{max(job.number(NORM) for job in jobs):.3g}", f"{clipped:.0%}"]


def _answer(jobs: list[Job], free: Radius, radii: list[Radius], gains: dict[tuple[Radius, str], Estimate]) -> str:
    slow = free.rates.get(1.0, [])
    lost = [lr for lr in free.rates if not any(learnt(job) for job in free.jobs if job.settings[LR] >= lr)]
    acting = sorted((radius for radius in radii if radius.acts), key=lambda radius: radius.learns)
    needed = {
        f"run with {LR}=1 and without clipping": slow,
        "rate at which every run learns without clipping": free.best,
        "rate at which no run learns without clipping": lost,
        "radius that clips and with which every run learns": acting,
    }
    return missing(jobs, needed) or (
        f"At a learning rate of 1 the norm of the gradient is at most {max(job.number(NORM) for job in slow):.2f}, so "
        f"clipping to a larger radius has no effect; without clipping every run learns up to a rate of {free.learns:g} "
        f"and no run at {lost[0]:g} or above, and with a radius of {acting[-1].theta:g} every run learns up to "
        f"{acting[-1].learns:g}. Compared with no clipping, each at its best rate, that radius changes the perplexity "
        f"of the rest of the text by {gains[acting[-1], REST]:+.2f}."
    )


def _outcome(radii: list[Radius]) -> Picture:
    """Draw validation perplexity against the rate and, for the radii that clip, against rate × radius."""
    figure, ((left, right),) = panels(1, 2, 10, 3.6, sharey=True)
    for axes, ticks in ((left, (1, 2, 4, 8, 16, 32)), (right, (0.1, 0.3, 1, 3, 10))):
        axes.set(xscale="log", yscale="log", ylim=(6.5, LOST * 2))
        plain_numbers(axes.xaxis, ticks)
        plain_numbers(axes.yaxis, (7, 8, 10, 14))
        axes.minorticks_off()
        axes.axhspan(LOST, LOST * 2, color="grey", alpha=0.15, linewidth=0)
        axes.text(0.02, 0.97, "diverged", transform=axes.transAxes, va="top", color="dimgrey")
        ends = []
        for place, (radius, colour, marker) in enumerate(zip(radii, COLOURS, MARKERS, strict=False)):
            factor = 1.015**place * (1.0 if axes is left else radius.theta or 0.0)
            lost = LOST * 1.1 * 1.13**place
            if axes is left or radius.acts:
                points = [(job.settings[LR] * factor, lost if job.status == "diverged" else job.number(VAL))
                          for job in radius.jobs]  # fmt: skip
                axes.plot(*zip(*points, strict=True), marker, color=colour, markersize=4, markerfacecolor="none")
                ends.append((*points[-1], radius.name, colour))
                for lr, runs in radius.rates.items():
                    if 0 < (count := sum(job.status == "diverged" for job in runs)) < len(runs):
                        axes.annotate(f"{count}", (lr * factor, lost), (0, 4), textcoords="offset points",
                                      ha="center", color=colour, fontsize="x-small")  # fmt: skip
        label_ends(axes, ends)
    left.set(xlabel="learning rate η", ylabel="validation perplexity at the end")
    right.set(xlabel="longest step that clipping allows, ηθ", title="radii that clip")
    return figure, (
        "One point per run; a number counts the diverged runs at a rate where some did not diverge. The same longest "
        "step, ηθ, is the limit for both radii that clip."
    )


def _norms(free: Radius, radii: list[Radius]) -> Picture:
    """Draw the gradient norms without clipping at the highest rate at which every run learns, and at the next rate."""
    rates = [lr for lr in (free.learns, free.fails) if not math.isnan(lr)]
    figure, (row,) = panels(1, len(rates), 10, 3.6, sharex=True, sharey=True)
    row[0].set(xscale="log", yscale="log", xlim=(0.5, 100), ylabel="mean ‖g‖ of an epoch, without clipping")
    plain_numbers(row[0].xaxis, (1, 10, 100))
    plain_numbers(row[0].yaxis, (0.1, 0.3, 1, 3))
    for axes, lr in zip(row, rates, strict=True):
        axes.set(title=f"η = {lr:g}", xlabel="epoch")
        lines(axes, {f"seed {job.settings['seed']}" + ", lost" * (job.status == "diverged"):
                     {epoch["epoch"]: epoch["grad_norm"] for epoch in job.epochs()}
                     for job in free.rates.get(lr, [])})  # fmt: skip
        for theta in (radius.theta for radius in radii if radius.theta):
            axes.axhline(theta, color="grey", linewidth=1, zorder=1)
            axes.text(0.53, theta, f"θ = {theta:g}", color="dimgrey", fontsize="small", va="bottom")
    return figure, "Norm of the gradient without clipping, and the radii above which clipping would act."
