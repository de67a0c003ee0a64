"""Report of a sweep without an exercise: varied settings, final numbers and validation curves."""

import math
from operator import methodcaller
from statistics import fmean

from matplotlib.ticker import MaxNLocator

from timemachine.config import format_value
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import by_seed, estimate
from timemachine.exercises.drawing import COLOURS, panels, plain_numbers
from timemachine.exercises.groups import completed
from timemachine.run.jobs import Job, varied

LEFT_OUT = (
    "epoch", "step", "grad_norm", "grad_norm_clipped", "clip_fraction", "chars_per_second", "best_epoch",
    "clipped_steps", "num_steps_done", "largest_grad_norm", "lr",
)  # fmt: skip  # final numbers that only summary.csv has
VAL = "val/perplexity"
ANY_SETTINGS = True
HIGHEST = 100.0  # the figure clips perplexities to this value
NUM_NAMED = 20  # rows in the legend: 7 colours in 3 line styles
LONGEST = 45  # characters of a name in the legend

Groups = dict[tuple[str, ...], list[Job]]  # values of the settings that vary, except the seed -> their jobs


def findings(jobs: list[Job]) -> Findings:
    """Report one row per combination of settings, over seeds, from the jobs with recorded settings."""
    names = [name for name in varied([job.settings for job in jobs]) if name != "seed"]
    groups: Groups = {}
    for job in jobs:
        if job.settings:
            groups.setdefault(tuple(format_value(job.settings.get(name)) for name in names), []).append(job)
    numbers = dict.fromkeys(name for job in jobs for name in job.metrics if name not in LEFT_OUT)
    return Findings(
        columns=[*names, "jobs", "completed", *numbers],
        rows=[
            [*key, _numbered(group), f"{len(completed(group))} of {len(group)}"]
            + [f"{estimate(by_seed(completed(group), methodcaller('number', name)).values())}" for name in numbers]
            for key, group in groups.items()
        ],
        figures={"curves": _curves(names, groups)},
        notes=[
            "Mean over the seeds of the completed runs ± the half-width of its 95% interval by Student's t. A repeated "
            "seed counts once. summary.csv has all numbers of each run."
        ],
    )


def _final(jobs: list[Job]) -> float:
    """Return the mean final validation perplexity of the completed jobs, inf if none completed."""
    return fmean([job.metrics.get(VAL, math.inf) for job in completed(jobs)] or [math.inf])


def _numbered(jobs: list[Job]) -> str:
    return ", ".join(job.name for job in jobs)


def _name(names: list[str], key: tuple[str, ...], jobs: list[Job]) -> str:
    """Return a row's settings by the last parts of their names, or its job numbers if that is too long or empty."""
    settings = ", ".join(f"{name.rpartition('.')[2]}={value}" for name, value in zip(names, key, strict=True))
    return settings if 0 < len(settings) <= LONGEST else f"job {_numbered(jobs)}"


def _curves(names: list[str], groups: Groups) -> Picture:
    figure, ((axes,),) = panels(width=9, height=4.5)
    ordered = sorted(groups, key=lambda key: _final(groups[key]))
    handles = {}
    for place, key in reversed([*enumerate(ordered)]):  # draw the lowest curve on top
        colour, style = (COLOURS[place % 7], ("-", "--", ":")[place // 7]) if place < NUM_NAMED else ("lightgrey", "-")
        for job in groups[key]:
            if points := _points(job):
                (handles[key],) = axes.plot(*zip(*points, strict=True), style, color=colour, linewidth=1.2,
                                            marker="." if len(points) < 3 else None)  # fmt: skip
    axes.set(xlabel="epoch", ylabel="validation perplexity (log scale)")
    if handles:  # matplotlib rejects a log axis without data
        axes.set_yscale("log")
        plain_numbers(axes.yaxis)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if named := {_name(names, key, groups[key]): handles[key] for key in ordered[:NUM_NAMED] if key in handles}:
        figure.legend(list(named.values()), list(named), loc="outside right upper", fontsize="small")
    others = (
        f" The legend has the {NUM_NAMED} rows with the lowest final perplexity." if len(groups) > NUM_NAMED else ""
    )
    return figure, (
        "Validation perplexity over epochs, one line per run that ended; the seeds of a row share a style. "
        f"Values above {HIGHEST:,.0f} are drawn at {HIGHEST:,.0f}.{others}"
    )


def _points(job: Job) -> list[tuple[float, float]]:
    """Return (epoch, validation perplexity) of a job, empty unless the job has ended."""
    epochs = job.epochs() if job.has_ended else []
    return [(row["epoch"], min(row[VAL], HIGHEST)) for row in epochs if not math.isnan(row.get(VAL, math.nan))]
