"""Exercise 4: Adjust the hyperparameters. How low can you go while sticking with this simple architecture?

Each run is measured after an eighth, a quarter, half and all of its updates.
"""

import math
from pathlib import Path
from statistics import correlation
from typing import Any, NamedTuple

import lightning.pytorch as pl
import numpy as np
from lightning.pytorch.callbacks import Callback

from timemachine.datamodule import TimeMachine
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import Estimate, compare, estimate, holm, paired
from timemachine.exercises.drawing import heat_map, panels, points_by_seed
from timemachine.exercises.groups import missing, unique
from timemachine.exercises.stream import PARTS, parts, stream_nll
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job

SHARES = (8, 4, 2, 1)  # a run is measured after 1/8, 1/4, 1/2 and all of its updates
FACTORS = {"model.hiddens": "units", "data.num_steps": "time steps", "model.lr": "rate"}
NUM_SHOWN = 10  # settings in the table
CORRECTED = "Holm's correction applies to the last column, not to the ± intervals."
DIVERGED = 10.0  # nats per character; guessing has 3.3


class Setting(NamedTuple):
    """The adjusted hyperparameters. One run gives several settings, with different numbers of updates."""

    hiddens: int
    num_steps: int
    lr: float
    updates: int

    def __str__(self) -> str:
        return f"{self.hiddens} units, {self.num_steps} time steps, a rate of {self.lr:g} and {self.updates:,} updates"


BOOK = Setting(32, 32, 1.0, 1000)  # 100 epochs with the book's batch of 1,024 windows; a sweep's batch may differ
Nats = dict[Setting, dict[str, dict[int, float]]]  # part -> seed -> nats per character, lowest on validation first


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the measurements that `Milestones` made during training."""
    (milestones,) = (it for it in model.trainer.callbacks if isinstance(it, Milestones))  # type: ignore[attr-defined]
    return milestones.nats


def callback(folder: Path) -> Callback:
    """Return the callback that measures during training."""
    return Milestones()


class Milestones(Callback):
    """Measures nats per character on each part after each share of the updates: `nats["500"]["val"]`."""

    def __init__(self) -> None:
        self.nats: dict[str, dict[str, float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements so far, for the checkpoint."""
        return {"nats": self.nats}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the measurements of an interrupted run."""
        self.nats = state_dict["nats"]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Measure the model if it has reached one of the shares of its updates."""
        if trainer.global_step in {trainer.estimated_stepping_batches // share for share in SHARES}:
            data = trainer.datamodule  # type: ignore[attr-defined]
            targets = {part: parts(data)[part] for part in PARTS}
            nlls = {part: stream_nll(pl_module, data.tokens_N, targets[part]) for part in PARTS}
            self.nats[str(trainer.global_step)] = {part: float(nll_N.mean()) for part, nll_N in nlls.items()}


def findings(jobs: list[Job]) -> Findings:
    """Report the settings with the lowest validation perplexity, and their perplexity on the rest of the text."""
    nats = _measured(jobs)
    runs = {it[:3]: it for it in reversed(nats)}  # each at its best number of updates
    leading = [it for it in nats if it == runs[it[:3]]]
    shown = list(dict.fromkeys([*leading[:NUM_SHOWN], *(it for it in nats if it == BOOK)]))
    gains = {it: compare(nats[it]["test"], nats[BOOK]["test"]) for it in shown if BOOK in nats and it != BOOK}
    claimed = holm(gains)
    verdicts = {it: gain.verdict(claimed[it], "lower", "higher") for it, gain in gains.items() if gain.count > 1}
    return Findings(
        answer=_answer(jobs, nats),
        setting="Perplexities are of the text read as one stream. A row shows the number of updates with the lowest "
        "validation perplexity for its settings; rows are sorted by that perplexity. The book's row is the one with "
        f"{BOOK}, here with this sweep's batch size.",
        columns=[*FACTORS.values(), "updates", "runs", *PARTS.values(), "rest vs. the book's, nats", ""],
        rows=[
            [*(f"{value:g}" for value in it), str(len(nats[it]["val"]))]
            + [f"{_perplexity(nats[it][part])}" for part in PARTS]
            + [f"{gains[it]:+.3f}" if it in gains else "", verdicts.get(it, "")]
            for it in shown
        ],
        notes=[CORRECTED] if verdicts else [_agreement(nats)] if len(nats) > 3 else [],
        figures={"settings": _gains(nats, shown) if verdicts else _map(nats, leading)},
    )


def _measured(jobs: list[Job]) -> Nats:
    found: Nats = {}
    measured = [job for job in jobs if job.probes.get("hyperparameters")]
    for job in unique(measured, lambda job: tuple(job.settings[name] for name in (*FACTORS, "seed"))).values():
        for updates, of_parts in job.probes["hyperparameters"].items():
            values = {part: float(of_parts[part]) for part in PARTS}
            if all(value < DIVERGED for value in values.values()):  # false for NaN, too
                hiddens, num_steps, lr = (job.settings[name] for name in FACTORS)
                setting = Setting(hiddens, num_steps, lr, int(updates))
                for part, of_seeds in found.setdefault(setting, {part: {} for part in PARTS}).items():
                    of_seeds[job.settings["seed"]] = values[part]
    return {it: found[it] for it in sorted(found, key=lambda it: _perplexity(found[it]["val"]).mean)}


def _perplexity(values: dict[int, float]) -> Estimate:
    return estimate(map(math.exp, values.values()))


def _answer(jobs: list[Job], nats: Nats) -> str:
    chosen = next(iter(nats), BOOK)
    val, rest, book_val, book_rest = (
        _perplexity(nats.get(it, {}).get(part, {})).mean for it in (chosen, BOOK) for part in PARTS
    )
    return missing(jobs, {f"run with {BOOK}": BOOK in nats}) or (
        f"Validation chooses {chosen}, with a perplexity of {val:.2f} instead of {book_val:.2f} for the book's "
        f"settings ({BOOK}); on the rest of the text, which was not used for this choice, the perplexities are "
        f"{rest:.2f} and {book_rest:.2f}, a difference of "
        f"{compare(nats[chosen]['test'], nats[BOOK]['test']):+.3f} nats per character."
    )


def _agreement(nats: Nats) -> str:
    """Return the rank correlation of validation and rest, and the setting that is lowest on the rest."""
    val, rest = ([_perplexity(found[part]).mean for found in nats.values()] for part in PARTS)
    low, tenth = list(nats)[rest.index(min(rest))], max(len(val) // 10, 3)  # two ranks always correlate by 1 or -1
    every, leading = (correlation(*np.argsort(np.argsort([val[:n], rest[:n]])).tolist()) for n in (len(val), tenth))
    return (
        f"The rank correlation of validation and rest is {every:.2f} over all {len(val)} settings and {leading:.2f} "
        f"over the {tenth} with the lowest validation perplexity. The lowest perplexity on the rest is {min(rest):.2f} "
        f"({_perplexity(nats[low]['val']):.2f} on validation), with {low}."
    )


def _map(nats: Nats, leading: list[Setting]) -> Picture:
    hiddens, num_steps, rates = (sorted({it[place] for it in leading}) for place in range(3))
    ticks = [f"{it:g}" for it in num_steps], [f"{it:g}" for it in rates]
    figure, grid = panels(len(PARTS), max(len(hiddens), 1), width=9, height=5, sharex=True, sharey=True)
    for row, (part, title) in zip(grid, PARTS.items(), strict=True):
        found: dict[Any, float] = {it[:3]: _perplexity(nats[it][part]).mean for it in leading}
        low, high = np.quantile([*found.values()] or [0, 1], (0, 0.8))
        for axes, units in zip(row, hiddens, strict=False):
            values = [[found.get((units, steps, lr), math.nan) for lr in rates] for steps in num_steps]
            ours = [it for it in leading if it.hiddens == units and it[:3] in (leading[0][:3], BOOK[:3])]
            framed = [(num_steps.index(it.num_steps), rates.index(it.lr)) for it in ours]
            heat_map(axes, values, *ticks, outlined=framed, vmin=low, vmax=high)
            for it, (y, x) in zip(ours, framed, strict=True):
                word = "chosen" if it == leading[0] else "the book's"
                axes.text(x, y + 0.45, word, ha="center", va="bottom", fontsize="x-small")
            axes.set(title=f"{title}, {units} units", xlabel="learning rate", ylabel="time steps")
            axes.label_outer()
    return figure, "Perplexity of each run, the book's included, at its best number of updates on validation."


def _gains(nats: Nats, shown: list[Setting]) -> Picture:
    figure, ((axes,),) = panels(width=9, height=4)
    shown = [it for it in shown if it != BOOK]
    series = {name: [paired(nats[it][part], nats[BOOK][part]) for it in shown] for part, name in PARTS.items()}
    points_by_seed(axes, [str(it).replace(" and ", ", ").replace(", ", "\n") for it in shown], series)
    axes.axhline(0, color="grey", linewidth=1)
    axes.set(ylabel="nats per character vs. the book's")
    return figure, "Difference from the book's settings, paired by seed. Points: seeds; bars: means."
