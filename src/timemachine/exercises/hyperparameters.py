"""Exercise 4: Adjust the hyperparameters. How low can you go while sticking with this simple architecture?"""

import math
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.study.comparison import against, compare, estimate, verdicts
from timemachine.study.drawing import MARKERS
from timemachine.study.figures import COLOURS, panels
from timemachine.study.stream import PARTS, scores

SETTINGS = ("model.hiddens", "data.num_steps", "model.lr")
SETUP = """
Each excerpt is a rotation of the text with a different seed. Every update reads equally many tokens. Each run is
measured after an eighth, a quarter, half and all of its updates. Perplexities are of the text read as one stream. The
table has the ten settings with the lowest validation perplexity, and the recipe's: 32 units, 32 time steps, a rate of 1
and 1,000 updates for letters, 128, 32, 4 and 490 for byte pairs. Differences are paired by excerpt. Holm's correction
is over all settings, not only those shown."""
CAPTION = (
    "Loss on the rest of the text minus the recipe's, at the learning rate of the best setting: means "
    "over excerpts with 95% intervals."
)
BITS, VERSUS = "rest, bits per byte", "rest vs. the recipe, nats"
FORMATS = {BITS: ".3f"}
KEY = ["units", "time steps", "rate", "updates"]
BASES = ((32, 32, 1.0, 1000), (128, 32, 4.0, 490))  # the recipes': all epochs
FRACTIONS = (8, 4, 2, 1)  # a run is measured after 1/8, 1/4, 1/2 and all of its updates
NUM_LOWEST = 10  # settings in the table, next to the recipe's
DIVERGED = 10.0  # nats per token; guessing has 3.3, and of 1,024 tokens 6.9


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the measurements that `Milestones` made during training."""
    (milestones,) = (each for each in model.trainer.callbacks if isinstance(each, Milestones))  # type: ignore[attr-defined]
    return milestones.nats


class Milestones(Callback):
    """Measures nats per token on each part after each fraction of the updates: `nats["500"]["val"]`."""

    def __init__(self) -> None:
        self.nats: dict[str, dict[str, float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements so far."""
        return {"nats": self.nats}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the measurements of an interrupted run."""
        self.nats = state_dict["nats"]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Measure the model if it has reached one of the fractions of its updates."""
        if trainer.global_step in {trainer.estimated_stepping_batches // fraction for fraction in FRACTIONS}:
            data = trainer.datamodule  # type: ignore[attr-defined]
            nats = {
                part: math.log(scores(pl_module, data.tokens_N, data.splits[part].targets, data.vocab)["perplexity"])
                for part in PARTS
                if data.splits[part].targets
            }
            self.nats[str(trainer.global_step)] = nats


callback = Milestones


def table(jobs: DataFrame) -> DataFrame:
    """Return the settings with the lowest validation perplexity and the recipe's, with the difference between them."""
    runs, base = _runs(jobs)
    groups = runs.groupby(KEY, sort=False)
    scores = {name: groups[name].agg(estimate) for name in (*PARTS.values(), BITS)}
    rows = DataFrame({"excerpts": groups.size()} | scores)
    gains = against(base, runs.pivot_table("test", "data.start", KEY))
    rows[[VERSUS, ""]] = DataFrame(verdicts(gains), index=[VERSUS, ""]).T
    is_base = rows.index.isin([base])
    return rows[is_base | ((~is_base).cumsum() <= NUM_LOWEST)]


def figure(jobs: DataFrame) -> Figure:
    """Draw the loss, minus the recipe's, by the number of updates: one panel per units, one line per window length."""
    runs, base = _runs(jobs)
    nats, updates = runs.pivot_table("test", "data.start", KEY), sorted(runs["updates"].unique())
    gains = {key: compare(nats[key], nats[base]) for key in nats if base in nats}  # the recipe's own is 0
    units, windows = (sorted(jobs[name].unique()) for name in ("model.hiddens", "data.num_steps"))
    rate = runs["rate"].head(1).max()  # of the best setting
    fig, (row,) = panels(1, len(units), height=3.8, sharey=True)
    for axes, number in zip(row, units, strict=True):
        axes.set(title=f"{number} units, η = {rate:g}", xlabel="updates", xscale="log")
        axes.axhline(0, color="grey", linewidth=1)
        for place, size in enumerate(windows):
            points = {count: gains[key] for count in updates if (key := (number, size, rate, count)) in gains}
            x = [count * 1.04 ** (place - (len(windows) - 1) / 2) for count in points]  # next to each other
            mean, half_width = ([getattr(one, name) for one in points.values()] for name in ("mean", "half_width"))
            axes.errorbar(x, mean, half_width, marker=MARKERS[place], color=COLOURS[place], markerfacecolor="none",
                          linewidth=1, label=f"{size} time steps")  # fmt: skip
        axes.set_xticks(updates, [f"{count:,}" for count in updates])
        axes.xaxis.minorticks_off()
    row[0].set_ylabel("nats per token vs. the recipe's settings")
    row[0].legend(loc="upper right", fontsize="small")
    return fig


def _runs(jobs: DataFrame) -> tuple[DataFrame, tuple[float, ...]]:
    """Return the scores of each run after each number of updates, best settings first, and the recipe's settings.

    `val`, `test`: nats per token.
    """
    updates = sorted({name.split("/")[1] for name in map(str, jobs) if name.startswith("hyperparameters/")})
    if not updates:
        raise KeyError("hyperparameters/…")
    # One nat is the same number of bits per byte throughout a run: 1 / ln 2 for letters, which are one byte each.
    scores = [f"{part}/{score}" for part in ("stream/test", "val") for score in ("bits_per_byte", "perplexity")]
    bits, perplexity, val_bits, val = (column for _, column in jobs.reindex(columns=scores).items())
    bits_per_nat = bits.fillna(val_bits) / np.log(perplexity.fillna(val))
    settings = jobs[[*SETTINGS, "data.start"]].set_axis([*KEY[:3], "data.start"], axis=1).assign(bits=bits_per_nat)
    runs = pd.concat(
        settings.assign(updates=int(count), **{part: jobs[f"hyperparameters/{count}/{part}"] for part in PARTS})
        for count in updates
    )
    runs = runs[(runs[[*PARTS]] < DIVERGED).all(axis=1)]
    runs = runs.assign(
        **{name: np.exp(runs[part]) for part, name in PARTS.items()}, **{BITS: runs["test"] * runs["bits"]}
    )
    runs["mean"] = runs.groupby(KEY)[PARTS["val"]].transform("mean")
    base = next((base for base in BASES if base in runs.set_index(KEY).index), BASES[0])
    return runs.sort_values(["mean", *KEY]), base
