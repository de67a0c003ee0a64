"""A sweep of no exercise: the settings that vary, how the runs ended, and their curves."""

import math
from operator import methodcaller
from statistics import fmean

from matplotlib.ticker import MaxNLocator

from timemachine.config import format_value
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import by_seed, estimate
from timemachine.exercises.drawing import COLOURS, panels, plain_numbers
from timemachine.exercises.groups import ended
from timemachine.run.jobs import Job, varied

LEFT_OUT = (
    "epoch", "step", "grad_norm", "grad_norm_clipped", "clip_fraction", "chars_per_second", "best_epoch",
    "clipped_steps", "num_steps_done", "largest_grad_norm", "lr",
)  # fmt: skip  # of the final numbers; they stay in summary.csv
VAL = "val/perplexity"
ANY_SETTINGS = True
HIGHEST = 100.0  # the figure shows higher values as this
NAMED = 20  # lines with a name in the legend: 7 colours in 3 styles
LONGEST = 45  # characters of a name

Groups = dict[tuple[str, ...], list[Job]]  # values of the settings that vary, except the seed -> their jobs


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each combination of settings, over seeds; of the jobs that left their settings."""
    names = [name for name in varied([job.settings for job in jobs]) if name != "seed"]
    groups: Groups = {}
    for job in jobs:
        if job.settings:
            groups.setdefault(tuple(format_value(job.settings.get(name)) for name in names), []).append(job)
    numbers = dict.fromkeys(name for job in jobs for name in job.metrics if name not in LEFT_OUT)
    return Findings(
        columns=[*names, "jobs", "completed", *numbers],
        rows=[
            [*key, _numbered(group), f"{len(_completed(group))} of {len(group)}"]
            + [f"{estimate(by_seed(_completed(group), methodcaller('number', name)).values())}" for name in numbers]
            for key, group in groups.items()
        ],
        figures={"curves": _curves(names, groups)},
        notes=[
            "Of the completed runs: the mean over seeds, of which one that comes twice counts once, and its 95 % "
            "interval by Student's t. A run's other numbers are in summary.csv."
        ],
    )


def _completed(jobs: list[Job]) -> list[Job]:
    return [job for job in jobs if job.status == "completed"]


def _final(jobs: list[Job]) -> float:
    """Return the mean final validation perplexity of the completed jobs, inf if there is none."""
    return fmean([job.metrics.get(VAL, math.inf) for job in _completed(jobs)] or [math.inf])


def _numbered(jobs: list[Job]) -> str:
    return ", ".join(job.name for job in jobs)


def _name(names: list[str], key: tuple[str, ...], jobs: list[Job]) -> str:
    """Return the settings of a row under the last parts of their names; its jobs where that is too long or nothing."""
    settings = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in zip(names, key, strict=True))
    return settings if 0 < len(settings) <= LONGEST else f"job {_numbered(jobs)}"


def _curves(names: list[str], groups: Groups) -> Picture:
    figure, ((axes,),) = panels(width=9, height=4.5)
    ordered = sorted(groups, key=lambda key: _final(groups[key]))
    handles = {}
    for place, key in reversed([*enumerate(ordered)]):  # the lowest on top
        colour, style = (COLOURS[place % 7], ("-", "--", ":")[place // 7]) if place < NAMED else ("lightgrey", "-")
        for job in groups[key]:
            if points := _points(job):
                (handles[key],) = axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=1.2,
                                            marker="." if len(points) < 3 else None)  # fmt: skip
    axes.set(xlabel="epoch", ylabel="validation perplexity (log scale)")
    if handles:  # matplotlib refuses a log axis without a point
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if named := {_name(names, key, groups[key]): handles[key] for key in ordered[:NAMED] if key in handles}:
        figure.legend(list(named.values()), list(named), loc="outside right upper", fontsize="small")
    others = f" Named are the {NAMED} rows that end lowest." if len(groups) > NAMED else ""
    return figure, (
        "Validation perplexity over epochs, a line a run that ended; the seeds of a row are alike. "
        f"{HIGHEST:,.0f} stands for more, too.{others}"
    )


def _points(job: Job) -> list[tuple[float, float]]:
    """Return epochs and validation perplexities, where there is one; none of a run that may have been cut short."""
    epochs = job.epochs() if ended([job]) else []
    return [(row["epoch"], min(row[VAL], HIGHEST)) for row in epochs if not math.isnan(row.get(VAL, math.nan))]
