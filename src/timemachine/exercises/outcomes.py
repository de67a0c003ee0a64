"""Outcome of a run: whether it learns, that is, predicts better than the book's trigrams."""

import math
from collections.abc import Iterable, Mapping

from matplotlib.axes import Axes

from timemachine.exercises.comparison import estimate
from timemachine.exercises.drawing import COLOURS, MARKERS
from timemachine.exercises.groups import grouped, reads_tokens
from timemachine.run.jobs import Job

LR, THETA = "model.lr", "trainer.gradient_clip_val"
VAL = "val/perplexity"


def definition(jobs: list[Job]) -> str:
    """Return the note on `validation` and on when a run learns."""
    bits, ngrams = "", "trigrams"
    if reads_tokens(jobs):
        bits, ngrams = ", and bits per byte,", "unigrams, bigrams and trigrams"
    return (
        f"Validation: window perplexity{bits} of the runs that learn, mean ± the half-width of its 95% interval. A run "
        f"learns if its last validation perplexity is below the perplexity of the book's {ngrams}, which are counted "
        "in the same training text and smoothed by Laplace's rule (`trigrams/val` in summary.csv)."
    )


def learns(job: Job) -> bool:
    """Return whether a run ended with a lower validation perplexity than the n-grams of `probes=[trigrams]`."""
    trigrams = float(job.probes.get("trigrams", {}).get("val", math.nan))
    return job.status == "completed" and job.number(VAL) < trigrams


def largest_norm(job: Job) -> float:
    """Return the largest norm of a gradient before clipping, inf if one was not finite."""
    norm = job.number("largest_grad_norm")
    return math.inf if math.isnan(norm) else norm


def counted(jobs: Iterable[Job]) -> str:
    """Return "n of m": how many of the runs learn."""
    found = [learns(job) for job in jobs]
    return f"{sum(found)} of {len(found)}"


def share(jobs: Iterable[Job]) -> float:
    """Return the share of the runs that learn, NaN without runs."""
    found = [learns(job) for job in jobs]
    return sum(found) / len(found) if found else math.nan


def validation(jobs: Iterable[Job]) -> str:
    """Return the mean validation perplexity of the runs that learn; of tokens, also in bits per byte."""
    found = [job for job in jobs if learns(job)]
    cells = [f"{estimate(job.number(VAL) for job in found)}"]
    if reads_tokens(found):
        cells.append(f"{estimate(job.number('val/bits_per_byte') for job in found):.3f}")
    return ", ".join(cells)


def by_radius(jobs: Iterable[Job]) -> dict[str, list[Job]]:
    """Return the jobs of each clipping radius by its name in reports, from no clipping to the smallest."""
    radii = sorted(grouped(jobs, THETA).items(), key=lambda item: -(item[0][0] or math.inf))
    return {f"θ = {theta:g}" if theta else "no clipping": group for (theta,), group in radii}


def draw_shares(axes: Axes, series: Mapping[str, list[Job]], by: str, connected_from: float = -math.inf) -> None:
    """Draw the share of runs that learn against the values of a setting: one line per label.

    Only values above `connected_from` are connected by a line.
    """
    for (label, jobs), colour, marker in zip(series.items(), COLOURS, MARKERS, strict=False):
        found = {value: share(group) for (value,), group in grouped(jobs, by).items()}
        axes.plot([*found], [*found.values()], marker, color=colour, label=label, markersize=5, markerfacecolor="none")
        connected = [value for value in found if value > connected_from]
        axes.plot(connected, [found[value] for value in connected], color=colour)
    axes.set_ylabel("share of runs that learn")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
