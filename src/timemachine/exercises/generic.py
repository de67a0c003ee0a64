"""A sweep that no module here is about: what varied, how the runs ended, and their curves."""

import math
from collections.abc import Iterable

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from timemachine.config import format_value
from timemachine.exercises import Findings
from timemachine.exercises.comparison import estimate
from timemachine.exercises.drawing import COLOURS, panels, plain_numbers
from timemachine.exercises.jobs import Job
from timemachine.runs.sweep import varied

LEFT_OUT = (
    "epoch", "step", "grad_norm", "grad_norm_clipped", "clip_fraction", "chars_per_second", "best_epoch",
    "clipped_steps", "num_steps_done", "largest_grad_norm", "lr",
)  # fmt: skip  # of the final numbers; they stay in summary.csv
VAL = "val/perplexity"
HIGHEST = 100.0  # what the figure shows for more
NAMED = 20  # lines with a name in the legend: 7 colours in 3 styles
LONGEST = 45  # characters of a name

Groups = dict[tuple[str, ...], list[Job]]  # values of what varied beside the seed -> its jobs


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each combination of settings, over seeds; of the jobs that left their settings."""
    names = [name for name in varied([job.settings for job in jobs]) if name != "seed"]
    groups: Groups = {}
    for job in jobs:
        if job.settings:
            groups.setdefault(tuple(format_value(job.settings.get(name)) for name in names), []).append(job)
    numbers = dict.fromkeys(name for job in jobs for name in job.metrics if name not in LEFT_OUT)
    named = sorted(groups, key=lambda key: _final(groups[key]))[:NAMED]
    others = f" Named are the {NAMED} rows that end lowest." if len(groups) > NAMED else ""
    return Findings(
        columns=[*names, "jobs", "completed", *numbers],
        rows=[[*key, _numbered(group), *_row(group, numbers)] for key, group in groups.items()],
        figures={"curves": _curves(groups, {key: _name(names, key, groups[key]) for key in named})},
        captions={
            "curves": "Validation perplexity over epochs, a line a run that ended; the seeds of a row are alike. "
            f"{HIGHEST:,.0f} stands for more, too.{others}"
        },
        notes=[
            "Of the completed runs: the mean over seeds and its 95 % interval by Student's t. A run's other numbers "
            "are in summary.csv."
        ],
    )


def _row(jobs: list[Job], numbers: Iterable[str]) -> Iterable[str]:
    completed = [job for job in jobs if job.status == "completed"]
    yield f"{len(completed)} of {len(jobs)}"
    for number in numbers:
        yield f"{estimate(job.metrics.get(number, math.nan) for job in completed)}"


def _final(jobs: list[Job]) -> float:
    """Return the mean final validation perplexity of the completed jobs, inf if there is none."""
    finals = [job.metrics.get(VAL, math.inf) for job in jobs if job.status == "completed"]
    return sum(finals) / len(finals) if finals else math.inf


def _numbered(jobs: list[Job]) -> str:
    return ", ".join(job.name for job in jobs)


def _name(names: list[str], key: tuple[str, ...], jobs: list[Job]) -> str:
    """Return the settings of a row under the last parts of their names; its jobs where that is too long or nothing."""
    settings = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in zip(names, key, strict=True))
    return settings if 0 < len(settings) <= LONGEST else f"job {_numbered(jobs)}"


def _curves(groups: Groups, labels: dict[tuple[str, ...], str]) -> Figure:
    figure, ((axes,),) = panels(width=9, height=4.5)
    places = {key: place for place, key in enumerate(labels)}
    handles = {}
    for key in reversed([*labels, *(key for key in groups if key not in labels)]):  # the named ones on top
        place = places.get(key)
        colour, style = ("lightgrey", "-") if place is None else (COLOURS[place % 7], ("-", "--", ":")[place // 7])
        for job in groups[key]:
            if points := _points(job):
                x, y = zip(*points, strict=True)
                (line,) = axes.plot(x, y, style, color=colour, linewidth=1.2, marker="." if len(points) < 3 else None)
                handles[key] = line
    axes.set(xlabel="epoch", ylabel="validation perplexity (log scale)")
    if handles:  # matplotlib refuses a log axis without a point
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if drawn := {label: handles[key] for key, label in labels.items() if key in handles}:
        figure.legend(list(drawn.values()), list(drawn), loc="outside right upper", fontsize="small")
    return figure


def _points(job: Job) -> list[tuple[float, float]]:
    """Return epochs and validation perplexities, where there is one; none of a run that may have been cut short."""
    if job.status not in ("completed", "diverged"):
        return []
    points = [(row["epoch"], min(row.get(VAL, math.nan), HIGHEST)) for row in job.epochs()]
    return [point for point in points if not any(map(math.isnan, point))]
