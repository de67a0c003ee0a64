"""Exercise 10: Replace tanh with ReLU and repeat the experiments. Do we still need gradient clipping? Why?"""

from itertools import product
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from timemachine.config import require
from timemachine.study.comparison import estimate
from timemachine.study.figures import panels
from timemachine.study.outcomes import LEARNS, counted, draw_runs, draw_shares, outcomes

INITIAL = "callbacks.recurrent_weights.initial"
SETTINGS = ("model.activation", "model.lr", "trainer.gradient_clip_val", INITIAL)
SETUP = f"""
The recipe's run with another activation, with W_hh as in the recipe, scaled to a spectral radius ρ, the largest
|eigenvalue|, or the identity, without clipping and with a radius θ. Each seed has a different excerpt, a rotation of
the text. {LEARNS} Median norm: of the largest gradients of the runs, before clipping (inf: not finite)."""
CAPTION = (
    "Share of the runs that learn, with 95% intervals, by the initial recurrent weights: the recipe's, scaled to a "
    "spectral radius ρ, or the identity, with ρ = 1. Runs that were never clipped are those without clipping, and are "
    "drawn once. With one kind of weights: the validation perplexity of each run."
)


class RecurrentWeights(Callback):
    """Sets the initial recurrent weights, W_hh.

    A number scales them to this spectral radius, the largest |eigenvalue|. "identity" replaces them by the identity
    matrix (Le, Jaitly and Hinton 2015, "A Simple Way to Initialize Recurrent Networks of Rectified Linear Units").
    None leaves them unchanged.
    """

    def __init__(self, initial: float | str | None) -> None:
        is_allowed = initial in (None, "identity") or isinstance(initial, int | float)
        require(is_allowed, INITIAL, initial, "is neither a spectral radius nor identity", "1.0")
        self.initial = initial

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Set W_hh, unless the run is resumed."""
        if self.initial is None or trainer.global_step:
            return
        cell = pl_module.hparams["cell"]
        require(cell == "rnn", "model.cell", cell, "has no single recurrent matrix to set", "rnn")
        W_hh = pl_module.rnn.W_hh
        with torch.no_grad():
            if isinstance(self.initial, str):  # "identity"
                torch.nn.init.eye_(W_hh)
            else:  # eigvals does not support half precision
                radius = float(torch.linalg.eigvals(W_hh.cpu().double()).abs().max())
                require(
                    radius > 0, "model.sigma", pl_module.hparams["sigma"], "gives no recurrent weights to scale", 0.01
                )
                W_hh *= self.initial / radius


def table(jobs: DataFrame) -> DataFrame:
    """Return how many runs learn, for each activation, initial spectral radius, rate and radius."""
    groups = _runs(jobs).groupby(["activation", "initial ρ", "η", "clipping"], sort=False)
    return DataFrame(
        {
            "beat n-grams": groups["learns"].agg(counted),
            "validation": groups["validation"].agg(estimate),
            "median norm": groups["norm"].median(),
        }
    ).sort_index(level=["activation", "initial ρ", "η"], sort_remaining=False)


def figure(jobs: DataFrame) -> Figure:
    """Draw the share of runs that learn by initial weights, or each run: one panel per activation and rate."""
    runs = _runs(jobs)
    names = {0: "recipe's"} | {radius: f"ρ = {radius:g}" for radius in sorted(runs["initial ρ"].unique()) if radius}
    weights = runs["initial ρ"].map(names).where(runs["identity"] == "", "identity")
    runs = runs.assign(weights=weights)
    places = [place for place in [*names.values(), "identity"] if place in {*weights}]
    activations, rates = (sorted(runs[name].unique()) for name in ("model.activation", "η"))
    fig, grid = panels(len(activations), len(rates), height=3.3 * len(activations), sharey=True)
    for axes, (activation, lr) in zip(grid.flat, product(activations, rates), strict=True):
        chosen = (runs["model.activation"] == activation) & (runs["η"] == lr)
        axes.set_title(f"{activation}, η = {lr:g}")
        if len(places) == 1:
            draw_runs(axes, runs[chosen])
            continue
        draw_shares(axes, runs[chosen], "weights", places)
        axes.set(xlabel="initial recurrent weights", ylim=(-0.05, 1.05))
        axes.label_outer()
    if len(places) > 1:
        handles, labels = grid.flat[0].get_legend_handles_labels()
        fig.legend(handles, labels, title="clipping", loc="outside upper center", ncols=4)
    return fig


def _runs(jobs: DataFrame) -> DataFrame:
    initial = jobs.get(INITIAL, Series(index=jobs.index, dtype=object))  # without the callback there is no such column
    identity = Series(np.where(initial == "identity", ", identity", ""), jobs.index)
    columns = {
        "identity": identity,
        "activation": jobs["model.activation"] + identity,
        "initial ρ": initial.map(lambda value: 1 if value == "identity" else value).astype(float).fillna(0),
    }
    return outcomes(jobs.assign(**columns))
