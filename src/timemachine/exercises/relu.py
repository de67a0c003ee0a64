"""Exercise 10: Replace tanh with ReLU and repeat the experiments. Do we still need gradient clipping? Why?"""

from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.config import require
from timemachine.exercises.comparison import estimate
from timemachine.exercises.drawing import panels
from timemachine.exercises.outcomes import LEARNS, counted, draw_shares, outcomes

RHO = "callbacks.spectral_radius.rho"
SETTINGS = ("model.activation", "model.lr", "trainer.gradient_clip_val", RHO)
SETUP = f"""
The recipe's run with another activation, with W_hh as in the recipe or scaled to a spectral radius ρ, the largest
|eigenvalue|, without clipping and with a radius θ. Each seed has a different excerpt, a rotation of the text. {LEARNS}
Median norm: of the largest gradients of the runs, before clipping (inf: not finite)."""
CAPTION = (
    "Share of the runs that learn, by the initial spectral radius of the recurrent weights; 0: the recipe's weights. "
    "Dashed: ρ = 1, above which a linear recurrence grows without bound."
)


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


def table(jobs: DataFrame) -> DataFrame:
    """Return how many runs learn, for each activation, initial spectral radius, rate and radius."""
    groups = _runs(jobs).groupby(["activation", "initial ρ", "η", "clipping"], sort=False)
    return DataFrame(
        {
            "learn": groups["learns"].agg(counted),
            "validation": groups["validation"].agg(estimate),
            "median norm": groups["norm"].median(),
        }
    ).sort_index(level=["activation", "initial ρ", "η"], sort_remaining=False)


def figure(jobs: DataFrame) -> Figure:
    """Draw the share of runs that learn against ρ: one panel per rate, one line per activation and radius."""
    runs = _runs(jobs)
    runs = runs.assign(line=runs["activation"] + ", " + runs["clipping"].replace("none", "no clipping"))
    rates = sorted(runs["η"].unique())
    fig, (row,) = panels(1, len(rates), 10, 3.6, sharey=True)
    for axes, lr in zip(row, rates, strict=True):
        axes.axvline(1, color="grey", linewidth=1, linestyle="--")
        draw_shares(axes, runs[runs["η"] == lr], "initial ρ", "line")
        axes.label_outer()
        axes.set(title=f"η = {lr:g}", xlabel="initial spectral radius ρ of $W_{hh}$", ylim=(-0.05, 1.05))
    fig.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig


def _runs(jobs: DataFrame) -> DataFrame:
    rho = jobs.get(RHO, 0.0)  # without this callback there is no such column
    return outcomes(jobs.assign(**{"activation": jobs["model.activation"], "initial ρ": rho})).fillna({"initial ρ": 0})
