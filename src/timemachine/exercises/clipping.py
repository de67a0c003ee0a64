"""Exercise 9: What happens if you run the code without clipping the gradient?"""

import math
from itertools import pairwise

from timemachine.exercises import Findings, Picture
from timemachine.exercises.drawing import COLOURS, panels
from timemachine.exercises.groups import (
    book_rate,
    ended,
    epochs_of_tokens,
    grouped,
    markdown,
    missing,
    reads_tokens,
    run_description,
    span,
)
from timemachine.exercises.outcomes import (
    LR,
    THETA,
    by_radius,
    counted,
    definition,
    draw_shares,
    largest_norm,
    share,
    validation,
)
from timemachine.run.jobs import Job

TITLE_OF_TOKENS = "Next edition, exercise 3: What happens if you run the code without clipping the gradient?"
STEPS = (0.0, 1.0, 2.0, 2.5, 3.0, 3.5, 4.0, math.inf)  # bounds of the bins of longest steps
STOPPED = " A run is stopped once its validation perplexity exceeds 1,000."
STEPS_OF_TOKENS = (0.0, 4.0, 8.0, 16.0, 32.0, 64.0, math.inf)


def findings(jobs: list[Job]) -> Findings:
    """Report the share of runs that learn, per radius and rate, and against the longest step taken."""
    runs = sorted(ended(jobs), key=lambda job: job.settings[LR])
    has_rates = len(grouped(runs, LR)) > 1
    return Findings(
        answer=_answer(jobs, runs),
        setting=f"{run_description(jobs)} at {'several learning rates' if has_rates else 'its learning rate'} η, "
        "without clipping and with gradients clipped to a radius θ. Each seed has a different excerpt: the text is "
        f"rotated, so the training text differs.{'' if reads_tokens(runs) else STOPPED}",
        columns=["", "η", "learn", "validation", "largest norm", "runs clipped"],
        rows=[
            [
                *(radius, f"{lr:g}", counted(group), validation(group)),
                *(f"{max(map(largest_norm, group)):.3g}", f"{sum(map(_is_clipped, group))}"),
            ]
            for radius, of_radius in by_radius(runs).items()
            for (lr,), group in grouped(of_radius, LR).items()
        ],
        notes=[
            definition(jobs),
            "The longest step of a run is η times the largest norm of a gradient after clipping:",
            markdown(
                ["longest step", *by_radius(runs)],
                [
                    [f"{low:g} to {high:g}" if math.isfinite(high) else f"above {low:g}"]
                    + [counted(by_radius(found).get(radius, [])) for radius in by_radius(runs)]
                    for (low, high), found in _bins(runs).items()
                ],
            ),
        ],
        figures={"outcome": _outcome(runs)} if has_rates else {},
    )


def longest_step(job: Job) -> float:
    """Return the rate times the largest norm of a gradient after clipping."""
    return float(job.settings[LR] * min(largest_norm(job), job.settings[THETA] or math.inf))


def _is_clipped(job: Job) -> bool:
    return largest_norm(job) > (job.settings[THETA] or math.inf)


def _bins(runs: list[Job]) -> dict[tuple[float, float], list[Job]]:
    """Return the runs by the bounds of their longest step, without empty bins."""
    bounds = STEPS_OF_TOKENS if reads_tokens(runs) else STEPS
    bins = {(low, high): [job for job in runs if low < longest_step(job) <= high] for low, high in pairwise(bounds)}
    return {bounds: found for bounds, found in bins.items() if found}


def _answer(jobs: list[Job], runs: list[Job]) -> str:
    """Return the answer for the book's rate, and for higher rates."""
    groups = grouped(runs, THETA, lambda job: job.settings[LR] > book_rate(jobs))
    slow = {theta: group for (theta, is_fast), group in groups.items() if not is_fast}
    fast = {theta: group for (theta, is_fast), group in groups.items() if is_fast}
    if line := missing(jobs, {f"run with {LR}={book_rate(jobs):g} and without clipping": slow.get(None)}):
        return line
    if None not in fast:
        radii = sorted(filter(None, slow), reverse=True)
        clipped = [f"; with a radius of {theta:g}, {counted(slow[theta])}" for theta in radii]
        when = f"after {epochs_of_tokens(jobs)}" if reads_tokens(jobs) else "at the book's rate"
        return f"Without clipping {counted(slow[None])} runs beat the book's n-grams {when}{''.join(clipped)}."
    num_runs = len(slow[None])
    learn = f"nothing: all {num_runs} runs learn" if share(slow[None]) == 1 else f"{counted(slow[None])} runs learn"
    rates = span(job.settings[LR] for job in fast[None])
    fail = {theta: f"{100 * (1 - share(group)):.0f}%" for theta, group in fast.items()}
    clipped = [f", {fail[theta]} with a radius of {theta:g}" for theta in sorted(filter(None, fast), reverse=True)]
    return f"At the book's rate {learn}. At rates of {rates}, {fail[None]} fail without clipping{''.join(clipped)}."


def _outcome(runs: list[Job]) -> Picture:
    """Draw the share of runs that learn against the rate, and against the longest step."""
    figure, ((left, right),) = panels(1, 2, 10, 3.6, sharey=True)
    draw_shares(left, by_radius(runs), LR, connected_from=book_rate(runs))
    left.set(xlabel="learning rate η", ylim=(0, 1.1))
    left.legend()
    bins = _bins(runs)
    right.bar(range(len(bins)), [*map(share, bins.values())], width=0.9, color=COLOURS[5])
    right.grid(visible=False)
    for place, found in enumerate(bins.values()):
        right.annotate(counted(found), (place, share(found)), (0, 3), textcoords="offset points", ha="center",
                       fontsize="x-small")  # fmt: skip
    names = [f"{low:g}–{high:g}" if math.isfinite(high) else f"> {low:g}" for low, high in bins]
    right.set_xticks(range(len(bins)), names)
    right.set(xlabel="longest step of a run: η × largest norm after clipping")
    return figure, "Share of the runs that learn, by rate and radius, and by the longest step of a run (all radii)."
