"""Exercise 4: Adjust the hyperparameters. How low can you go while sticking with this simple architecture?

Each run is measured after an eighth, a quarter, half and all of its updates.
"""

import math
from typing import Any, NamedTuple

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from timemachine.datamodule import TimeMachine
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import against, estimate, excerpts, perplexity, verdicts
from timemachine.exercises.drawing import lines, panels, plain_numbers
from timemachine.exercises.groups import NEXT_EDITION_EPOCHS, grouped, markdown, missing, reads_tokens, unit
from timemachine.exercises.stream import PARTS, parallel_nll, parts
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job

TITLE_OF_TOKENS = "Next edition, exercise 2: Adjust the hyperparameters. How low can you go, also in bits per byte?"
FRACTIONS = (8, 4, 2, 1)  # a run is measured after 1/8, 1/4, 1/2 and all of its updates
FACTORS = {"model.hiddens": "units", "data.num_steps": "time steps", "model.lr": "rate"}
NUM_LOWEST = 10  # settings in the main table, next to the book's
LITTLE = 0.9  # ratio of two perplexities
DIVERGED = 10.0  # nats per character or token; guessing has 3.3, and of 1,024 tokens 6.9


class Setting(NamedTuple):
    """The adjusted hyperparameters. One run gives several settings, with different numbers of updates."""

    hiddens: int
    num_steps: int
    lr: float
    updates: int

    def __str__(self) -> str:
        return f"{self.hiddens} units, {self.num_steps} time steps, a rate of {self.lr:g} and {self.updates:,} updates"


BOOK = Setting(32, 32, 1.0, 1000)  # 100 epochs of 10 updates
NEXT_EDITION = Setting(128, 32, 4.0, 800)  # 10 epochs of 80 updates; a sweep may have fewer
Nats = dict[Setting, dict[str, dict[int, float]]]  # part, or bits per byte of the rest -> excerpt -> number


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, dict[str, float]]:
    """Return the measurements that `Milestones` made during training."""
    (milestones,) = (it for it in model.trainer.callbacks if isinstance(it, Milestones))  # type: ignore[attr-defined]
    return milestones.nats


class Milestones(Callback):
    """Measures nats per character on each part after each fraction of the updates: `nats["500"]["val"]`."""

    def __init__(self) -> None:
        self.nats: dict[str, dict[str, float]] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the measurements so far, for the checkpoint."""
        return {"nats": self.nats}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the measurements of an interrupted run."""
        self.nats = state_dict["nats"]

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Measure the model if it has reached one of the fractions of its updates."""
        if trainer.global_step in {trainer.estimated_stepping_batches // fraction for fraction in FRACTIONS}:
            data = trainer.datamodule  # type: ignore[attr-defined]
            targets = parts(data)
            nlls = {part: parallel_nll(pl_module, data.tokens_N, targets[part]) for part in PARTS}
            self.nats[str(trainer.global_step)] = {part: float(nll_N.mean()) for part, nll_N in nlls.items()}


callback = Milestones


def findings(jobs: list[Job]) -> Findings:
    """Report the settings with the lowest validation perplexity, and their perplexity on the rest of the text."""
    nats = _measured(jobs)
    units = {"bits": "rest, bits per byte"} if reads_tokens(jobs) else {}
    book, shorter = BOOK, ""
    if reads_tokens(jobs):
        book = Setting(*NEXT_EDITION[:3], updates=max((it.updates for it in nats), default=0))
        epochs = NEXT_EDITION_EPOCHS * book.updates / NEXT_EDITION.updates
        shorter = f"{epochs:g} of its {NEXT_EDITION_EPOCHS} epochs"
    cut = f", with smaller batches and {shorter}," if shorter else ""
    gains = against(book, {it: of_parts["test"] for it, of_parts in nats.items()})
    cells = verdicts(gains)
    table = {
        it: [*(f"{value:,g}" for value in it), str(len(of_parts["val"]))]
        + [f"{perplexity(of_parts[part])}" for part in PARTS]
        + [f"{estimate(of_parts[bits].values()):.3f}" for bits in units]
        + cells.get(it, ["", ""])
        for it, of_parts in nats.items()
    }
    shown = {*[it for it in nats if it != book][:NUM_LOWEST], book}
    is_cut = len(nats) > NUM_LOWEST + 1
    columns = [*FACTORS.values(), "updates", "excerpts", *PARTS.values(), *units.values()]
    columns += ["rest vs. the book's, nats", ""]
    lower = [it for it in gains if cells[it][1] == "lower"]
    return Findings(
        answer=_answer(jobs, nats, book, cells),
        setting="Each excerpt is a rotation of the text with a different seed. Every update reads 20,000 "
        f"{unit(jobs)}s. Each run is measured after an eighth, a quarter, half and all of its updates. Perplexities "
        f"are of the text read as one stream. The book's settings{cut} are {book}.",
        columns=columns,
        rows=[row for it, row in table.items() if it in shown],
        notes=[
            "Rows are sorted by validation. Differences are paired by excerpt. Holm's correction applies to the last "
            f"column, over all {len(gains)} settings, not to the ± intervals. Of them {len(lower)} "
            f"{'is' if len(lower) == 1 else 'are'} significantly lower than the book's on the rest of the text."
            f"{' All settings:' if is_cut else ''}",
            *([markdown(columns, [*table.values()])] if is_cut else []),
        ],
        figures={"settings": _figure(nats, book)} if gains else {},
    )


def _measured(jobs: list[Job]) -> Nats:
    found: Nats = {}
    measured = [job for job in jobs if job.probes.get("hyperparameters")]
    for (hiddens, num_steps, lr), group in grouped(measured, *FACTORS).items():
        for start, job in excerpts(group).items():
            bits_per_nat = job.stream("test", "bits_per_byte") / math.log(job.stream("test"))
            for updates, of_parts in job.probes["hyperparameters"].items():
                values = {part: float(of_parts[part]) for part in PARTS}
                if all(value < DIVERGED for value in values.values()):  # false for NaN, too
                    of_setting = found.setdefault(Setting(hiddens, num_steps, lr, int(updates)), {})
                    for part, value in (values | {"bits": values["test"] * bits_per_nat}).items():
                        of_setting.setdefault(part, {})[start] = value
    return dict(sorted(found.items(), key=lambda item: perplexity(item[1]["val"]).mean))


def _answer(jobs: list[Job], nats: Nats, book: Setting, cells: dict[Setting, list[str]]) -> str:
    if line := missing(jobs, {f"run with {book}": book in nats, "run with other settings": cells}):
        return line
    chosen = next(it for it in nats if it in cells)
    after, before = (perplexity(nats[it]["test"]).mean for it in (chosen, book))
    low = "Not significantly lower"
    if cells[chosen][1] == "lower":
        low = "A little lower" if after > LITTLE * before else "Lower"
    if reads_tokens(jobs):
        after, before = (estimate(nats[it]["bits"].values()).mean for it in (chosen, book))
        return (
            f"{low} with {chosen.num_steps} time steps than with the recipe's {book.num_steps} after "
            f"{chosen.updates:,} updates: {after:.2f} bits per byte on the rest of the text, against {before:.2f}."
        )
    instead = f"instead of {book.num_steps} and {book.updates:,}"
    return (
        f"{low}: on the rest of the text the perplexity {'falls' if after < before else 'rises'} from {before:.2f} to "
        f"{after:.2f}, with {chosen.num_steps} time steps and {chosen.updates:,} updates {instead}."
    )


def _figure(nats: Nats, book: Setting) -> Picture:
    """Draw the perplexity of both parts against the number of updates: a panel per part and number of time steps."""
    windows = sorted({it.num_steps for it in nats})
    figure, grid = panels(len(PARTS), len(windows), width=11, height=6.5, sharex=True, sharey=True)
    updates = sorted({it.updates for it in nats})
    for row, (part, title) in zip(grid, PARTS.items(), strict=True):
        for axes, num_steps in zip(row, windows, strict=True):
            axes.set(title=f"{title}, {num_steps} time steps", xscale="log", yscale="log")
            series: dict[str, dict[float, float]] = {}
            for it in sorted(it for it in nats if it.num_steps == num_steps):
                name = f"{it.hiddens} units, η = {it.lr:g}"
                series.setdefault(name, {})[it.updates] = perplexity(nats[it][part]).mean
            lines(axes, series, marker=".")
            axes.hlines(perplexity(nats[book][part]).mean, updates[0], updates[-1], "grey", "--", linewidth=1)
            axes.set_xticks(updates, [f"{it:,}" for it in updates])
            axes.xaxis.minorticks_off()
            plain_numbers(axes.yaxis)
    for axes in grid[-1]:
        axes.set_xlabel("updates")
    for axes in grid[:, 0]:
        axes.set_ylabel("perplexity")
    return figure, "Mean perplexity over excerpts against the number of updates. Dashed: the book's settings."
