"""Exercise 10: Replace tanh with ReLU and repeat the experiments. Do we still need gradient clipping? Why?"""

from statistics import median
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from timemachine.config import require
from timemachine.exercises import Findings, Picture
from timemachine.exercises.drawing import panels
from timemachine.exercises.groups import (
    book_rate,
    ended,
    epochs_of_tokens,
    grouped,
    missing,
    reads_tokens,
    run_description,
    span,
)
from timemachine.exercises.outcomes import (
    LR,
    by_radius,
    counted,
    definition,
    draw_shares,
    largest_norm,
    share,
    validation,
)
from timemachine.run.jobs import Job

TITLE_OF_TOKENS = "Next edition, exercise 4: Replace tanh with ReLU. Do you still need gradient clipping? Why?"
ACTIVATION, RHO = "model.activation", "callbacks.spectral_radius.rho"
NAMES = {"tanh": "tanh", "relu": "ReLU"}
UNCLIPPED, CLIPPED = "no clipping", "θ = 1"


class SpectralRadius(Callback):
    """Scales the initial W_hh to a spectral radius `rho`, the largest |eigenvalue|; None leaves it unchanged."""

    def __init__(self, rho: float | None) -> None:
        self.rho = rho

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Scale W_hh, unless the run is resumed."""
        if self.rho is not None and not trainer.global_step:
            cell = pl_module.hparams["cell"]
            require(cell == "rnn", "model.cell", cell, "has no single recurrent matrix to scale", "rnn")
            W_hh = pl_module.rnn.W_hh
            with torch.no_grad():  # eigvals does not support half precision
                W_hh *= self.rho / float(torch.linalg.eigvals(W_hh.cpu().double()).abs().max())


def findings(jobs: list[Job]) -> Findings:
    """Report how many runs learn, one row per activation, initial spectral radius and rate."""
    runs = sorted(ended(jobs), key=lambda job: (job.settings[ACTIVATION], _rho(job), job.settings[LR]))
    radii = [*by_radius(runs)]
    is_scaled = any(map(_rho, runs))
    scaled = " and with W_hh scaled to a spectral radius ρ, the largest |eigenvalue|," if is_scaled else ","
    return Findings(
        answer=_answer(jobs, runs),
        setting=f"{run_description(jobs)} with another activation, with the book's initial recurrent weights{scaled} "
        "without clipping and with a radius θ. Each seed has a different excerpt: the text is rotated, so the training "
        "text differs.",
        columns=["", "initial ρ", "η", *(f"learn, {radius}" for radius in radii),
                 *(f"validation, {radius}" for radius in radii), "largest norm, median"],
        rows=[
            [NAMES[name], "as in the book" if rho is None else f"{rho:g}", f"{lr:g}"]
            + [count(by_radius(group).get(radius, [])) for count in (counted, validation) for radius in radii]
            + [f"{median(map(largest_norm, by_radius(group).get(UNCLIPPED, group))):.3g}"]
            for (name, rho, lr), group in grouped(runs, ACTIVATION, RHO, LR).items()
        ],
        notes=[
            f"{definition(jobs)} Largest norm: of a gradient before clipping, in runs without clipping (inf: not "
            "finite)."
        ],
        figures={"outcome": _outcome(runs)} if is_scaled else {},
    )  # fmt: skip


def _rho(job: Job) -> float:
    return float(job.settings.get(RHO) or 0)


def _answer(jobs: list[Job], runs: list[Job]) -> str:
    relu = [job for job in runs if job.settings[ACTIVATION] == "relu" and job.settings[LR] == book_rate(jobs)]
    book = [job for job in relu if not _rho(job)]
    scaled = [job for job in relu if _rho(job)]
    needed = {f"ReLU run with the book's weights and rate and {radius}": by_radius(book).get(radius)
              for radius in (UNCLIPPED, CLIPPED)}  # fmt: skip
    if line := missing(jobs, needed):
        return line
    is_needed = "Not at the book's settings" if share(by_radius(book)[UNCLIPPED]) == 1 else "Yes"
    without, clipped = (by_radius(scaled or book).get(radius, []) for radius in (UNCLIPPED, CLIPPED))
    where, why = "at the book's settings", ""
    if scaled:
        where = f"if the recurrent weights start larger (spectral radius {span(map(_rho, scaled))}),"
        if share(without) < share(clipped):
            why = ", probably because ReLU states can grow without bound"
    if reads_tokens(jobs):
        where += f", after {epochs_of_tokens(jobs)},"
    return f"{is_needed}; {where} {counted(without)} runs learn without clipping and {counted(clipped)} with it{why}."


def _outcome(runs: list[Job]) -> Picture:
    """Draw the share of runs that learn against ρ: one panel per rate, one line per activation and radius."""
    rates = {lr: group for (lr,), group in sorted(grouped(runs, LR).items())}
    figure, (row,) = panels(1, len(rates), 10, 3.6, sharey=True)
    for axes, (lr, group) in zip(row, rates.items(), strict=True):
        axes.axvline(1, color="grey", linewidth=1, linestyle="--")
        scaled = grouped(filter(_rho, group), ACTIVATION)
        series = {f"{NAMES[name]}, {radius}": of_radius
                  for (name,), ours in scaled.items() for radius, of_radius in by_radius(ours).items()}  # fmt: skip
        draw_shares(axes, series, RHO)
        axes.label_outer()
        axes.set(title=f"η = {lr:g}", xlabel="initial spectral radius ρ of $W_{hh}$")
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure, (
        "Share of the runs that learn, by the initial spectral radius of the scaled recurrent weights. Dashed: ρ = 1, "
        "above which a linear recurrence grows without bound."
    )
