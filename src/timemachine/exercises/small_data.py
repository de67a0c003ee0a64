"""Next edition, exercise 5: 10,000 windows and 100 epochs. What do the curves of training and validation show?"""

import math

from timemachine.exercises import Findings, Picture
from timemachine.exercises.drawing import lines, panels
from timemachine.exercises.groups import ended, missing, span
from timemachine.run.jobs import Job


def findings(jobs: list[Job]) -> Findings:
    """Report the lowest and the last validation perplexity."""
    runs = [job for job in ended(jobs) if "best_epoch" in job.metrics]
    return Findings(
        answer=_answer(jobs, runs),
        setting="Perplexities are window perplexities, as in the book. Each excerpt is a rotation of the text with "
        "different training and validation parts and a different seed; the tokens are learned from the whole text.",
        columns=[
            *("excerpt", "parameters", "per training token", "best epoch", "validation, best", "validation, last"),
            *("training, last", "bits per byte, best", "bits per byte, last"),
        ],
        rows=[
            [
                *(f"{job.settings['data.start']:,}", f"{job.parameters:,}", f"{_per_token(job):.0f}"),
                f"{job.number('best_epoch'):.0f}",
                *(f"{job.number(name):.1f}" for name in ("best_val/perplexity", "val/perplexity", "train/perplexity")),
                *(f"{job.number(name):.3f}" for name in ("best_val/bits_per_byte", "val/bits_per_byte")),
            ]
            for job in runs
        ],
        figures={"small_data": _figure(runs)},
    )


def _per_token(job: Job) -> float:
    """Return the number of parameters per training token."""
    return (job.parameters or 0) / float(job.settings["data.num_train"] + job.settings["data.num_steps"])


def _answer(jobs: list[Job], runs: list[Job]) -> str:
    if line := missing(jobs, {"runs": runs}):
        return line
    train, epoch = (
        span((job.number(name) for job in runs), form)
        for name, form in (("train/perplexity", ".1f"), ("best_epoch", ".0f"))
    )
    return (
        f"The model overfits: the training perplexity falls to {train}, while the validation perplexity rises again "
        f"after {epoch} epochs."
    )


def _figure(runs: list[Job]) -> Picture:
    figure, ((axes,),) = panels(width=8)
    axes.set(xlabel="epoch", ylabel="perplexity", yscale="log")
    series = {}
    for split, name in (("train", "training"), ("val", "validation")):
        for job in runs:
            rows = {row["epoch"]: row.get(f"{split}/perplexity", math.nan) for row in job.epochs()}
            series[f"{name}, from {job.settings['data.start']:,}"] = rows
    lines(axes, series, ",.1f")
    return figure, "Training and validation perplexity of each excerpt."
