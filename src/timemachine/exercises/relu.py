"""Exercise 10: replace tanh by ReLU. Do we still need to clip the gradient, and why?

Measured: the recurrence before training, in dynamics.csv of the run's folder, and at the end, with what the model
writes. B windows, T time steps, H hidden units.
"""

import math
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.exercises import Findings
from timemachine.exercises.clipping import LR, THETA, VAL, last
from timemachine.exercises.comparison import compare, estimate, holm
from timemachine.exercises.drawing import COLOURS, MARKERS, panels
from timemachine.exercises.jobs import Job, markdown, span
from timemachine.exercises.outcomes import letters_in_words, outcome
from timemachine.language_model import RNNLMScratch
from timemachine.runs.files import write_whole
from timemachine.runs.rows import read_numbers

WRITTEN, SHOWN = 1000, 100  # characters that a model writes, and that are kept


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `recurrence`, and how the model continues "it has": greedily, and by a sample from P.

    `period`: of the loop in which 1,000 greedy characters end, 0 if they end in none.
    """
    greedy, sample = (continue_text(model, data.vocab, "it has", WRITTEN, alpha)[0] for alpha in (None, 1.0))
    return recurrence(model, data) | {"period": period(greedy), "greedy": greedy[:SHOWN], "sample": sample[:SHOWN]}


def recurrence(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Measure the recurrence as it is on all of the validation text, in windows from a zero state.

    `spectral_radius`: ρ, the largest |eigenvalue| of W_hh. `growth`: the mean length of a window's last state, in
    multiples of that of its first. `dead_share`: of the hidden units, those that are exactly 0 at every position.
    """
    starts_B = torch.tensor(data.splits["val"].starts[:: data.num_steps])
    X_BT = data.chars_N.cpu()[starts_B[:, None] + torch.arange(data.num_steps)].long()
    rnn = model.rnn
    with torch.no_grad():
        H_TBH = rnn(model.inputs(X_BT.to(rnn.W_hh.device)))[0].double()
        lengths_T = H_TBH.norm(dim=2).mean(1)
        return {
            "spectral_radius": float(torch.linalg.eigvals(rnn.W_hh.cpu().double()).abs().max()),
            "growth": float(lengths_T[-1] / lengths_T[0]),
            "dead_share": float((H_TBH == 0).all(0).all(0).double().mean()),
        }


def period(text: str) -> int:
    """Return the length of the shortest part that a text ends with three times over, 0 if there is none."""
    lengths = range(1, len(text) // 3 + 1)
    return next((n for n in lengths if text[-3 * n : -n] == text[-2 * n :]), 0)


def callback(folder: Path) -> Callback:
    """Return the callback that writes dynamics.csv into the run's folder."""
    return Start(folder / "dynamics.csv")


class Start(Callback):
    """A table of one row: what `recurrence` returns before training. A run that diverges has it, too."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the table, unless the run goes on from a checkpoint."""
        assert isinstance(pl_module, RNNLMScratch)
        if trainer.is_global_zero and not trainer.global_step:
            row = recurrence(pl_module, trainer.datamodule)  # type: ignore[attr-defined]
            write_whole(self.path, f"{','.join(row)}\n{','.join(map(repr, row.values()))}\n".encode())


class Run:
    """A job, and what its folder says of its start; NaN where it left no number."""

    def __init__(self, job: Job) -> None:
        settings, own = job.settings, job.settings["model.sigma_hh"]
        self.job, self.outcome, self.seed = job, outcome(job), int(settings["seed"])
        self.name = {"tanh": "tanh", "relu": "ReLU"}[settings["model.activation"]]
        self.sigma, self.lr, self.theta = settings["model.sigma"] if own is None else own, settings[LR], settings[THETA]
        start = [*read_numbers(job.folder / "dynamics.csv"), dict[str, float]()][0]
        self.rho, self.growth = start.get("spectral_radius", math.nan), start.get("growth", math.nan)
        norms = [row["grad_norm"] for row in job.steps() if row["epoch"] == 1]
        self.steps, self.first_norm = len(norms), norms[0] if norms else math.nan
        self.early_norm = max(filter(math.isfinite, norms), default=math.nan)  # of the first epoch
        self.end = job.probes.get("dynamics", {}) if self.outcome == "learnt" else {}


KEPT = ("rho", "growth", "first_norm", "early_norm", "steps")  # of each run, in arrays.npz
Groups = dict[tuple[Any, ...], list[Run]]


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each activation and σ of W_hh, over rates and seeds; of the jobs that have ended."""
    runs = [Run(job) for job in jobs if job.status in ("completed", "diverged")]
    runs.sort(key=lambda run: (run.name, run.sigma, run.lr))
    thetas = sorted({run.theta for run in runs}, key=lambda theta: -(theta or math.inf))
    cells = _grouped(runs, "name", "sigma", "lr")
    gains = {(*cell, theta): compare(_last(group, theta), _last(group, None))
             for cell, group in cells.items() for theta in thetas if theta}  # fmt: skip
    claimed, book = holm(gains), ("ReLU", 0.01, 1.0, 1.0)
    shown = {key: f"**{gain:+.2f}**" if claimed[key] else f"{gain:+.2f}" for key, gain in gains.items()}
    table = [
        [name, f"{sigma:g}", *(span((getattr(run, it) for run in group), ".2g") for it in KEPT[:3]),
         *(_learnt(group, theta) for theta in thetas)]
        for (name, sigma), group in _grouped(runs, "name", "sigma").items()
    ]  # fmt: skip
    by_rate = [
        [name, f"{sigma:g}", f"{lr:g}", *(f"{estimate(_last(group, theta).values())}" for theta in thetas),
         *(shown[name, sigma, lr, theta] for theta in thetas if theta),
         *(f"{estimate(run.end[it] for run in group if run.end).mean:.2g}" for it in ("spectral_radius", "dead_share"))]
        for (name, sigma, lr), group in cells.items()
    ]  # fmt: skip
    texts = [
        [name, f"{sigma:g}", *(f"`{group[0].end[it]}`" for it in ("greedy", "sample"))]
        for (name, sigma), group in _grouped([it for it in runs if it.end and it.lr == 1], "name", "sigma").items()
    ]
    return Findings(
        number="10",
        question="Replace tanh with ReLU and repeat the experiments. Do we still need gradient clipping? Why?",
        answer=_answer(runs, gains[book].verdict(claimed[book], "lower", "higher")) if book in gains else "",
        setting="The book's run with tanh and with ReLU, without clipping and with two radii θ, then with recurrent "
        "weights W_hh from N(0, σ²) that are wider. Their spectral radius ρ says by how much they can enlarge a state "
        "in a step. Input and output weights begin as in the book.",
        columns=["", "σ of W_hh", "ρ at the start", "growth", "first gradient", *map(_with, thetas)],
        rows=table,
        figures={"outcome": _outcome(grid(runs), thetas), "why": _why(runs)},
        captions={
            "outcome": "Each ReLU run at the spectral radius of its initial recurrent weights.",
            "why": "Gradients without clipping at a rate of 1, a point a run.",
        },
        notes=[
            "Under a radius: runs that learnt, of all rates and seeds. Growth: how many times as long a state is at "
            "the end of a window as after its first character, before training. Learnt nothing: ends above "
            f"{letters_in_words(jobs, VAL)} on validation, what the letters' frequencies give. Diverged: not finite, "
            "or above guessing.",
            "Validation perplexity of runs that learnt, differences of pairs of these by seed (bold: passes Holm's "
            "correction), and their spectral radius and share of dead units at the end. A unit is dead if it is 0 at "
            "every position of the validation text.",
            markdown(["", "σ", "η", *map(_with, thetas), *(f"{_with(it)}, less none's" for it in thetas if it),
                      "ρ at the end", "dead"], by_rate),
            "**What they write** after \"it has\", at a rate of 1: the likeliest character each time, and a sample.",
            markdown(["", "σ", "greedy", "sample"], texts),
        ],
        arrays={"job": [run.job.name for run in runs]} | {it: [getattr(run, it) for run in runs] for it in KEPT},
    )  # fmt: skip


def _grouped(runs: list[Run], *names: str) -> Groups:
    groups: Groups = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run, name) for name in names), []).append(run)
    return groups


def grid(runs: list[Run]) -> list[Run]:
    """Return the ReLU runs at rates that were tried with several σ."""
    rates = {lr for (name, lr), group in _grouped(runs, "name", "lr").items()
             if name == "ReLU" and len({run.sigma for run in group}) > 1}  # fmt: skip
    return [run for run in runs if run.name == "ReLU" and run.lr in rates]


def _with(theta: float | None) -> str:
    return f"θ = {theta:g}" if theta else "no clipping"


def _learnt(runs: list[Run], theta: float | None) -> str:
    learnt = [run.outcome == "learnt" for run in runs if run.theta == theta]
    return f"{sum(learnt)} of {len(learnt)}"


def _last(runs: list[Run], theta: float | None) -> dict[int, float]:
    """Return the last validation perplexity of the runs that learnt with this radius, by seed."""
    return last(VAL, (run.job for run in runs if run.theta == theta))


def _answer(runs: list[Run], verdict: str) -> str:
    """Return the answer. `verdict`: on the difference that clipping makes at the book's settings."""
    book = [run for run in runs if run.name == "ReLU" and run.sigma == 0.01 and run.lr == 1]
    free, clipped = (estimate(_last(book, theta).values()) for theta in (None, 1.0))
    ordered = sorted((run.rho, run.outcome == "learnt") for run in grid(runs) if not run.theta)
    least = max((rho for rho, _ in takewhile(lambda item: item[1], ordered)), default=0.0)
    above = [run for run in grid(runs) if run.rho > least]
    no = f"Not at the book's settings, where ReLU ends at {free} without clipping and {clipped} with it ({verdict})."
    yes = (
        f" Yes where the spectral radius of the recurrent weights begins above {least:.2f}: of these runs "
        f"{_learnt(above, None)} learn without clipping and {_learnt(above, 1.0)} with the book's radius of 1."
    )
    return no + yes * bool(above)


KINDS = {"learnt": ("o", 0), "learnt nothing": ("s", 4), "diverged": ("x", 1)}  # marker, colour


def _outcome(runs: list[Run], thetas: list[float | None]) -> Figure:
    """Draw the outcome of each run at its ρ, a panel a rate and a line a radius."""
    rates = sorted({run.lr for run in runs})
    figure, (row,) = panels(1, max(len(rates), 1), 10, 3.2, sharex=True, sharey=True)
    for axes, lr in zip(row, rates, strict=False):
        for kind, (marker, colour) in KINDS.items():
            shown = [run for run in runs if run.outcome == kind and run.lr == lr]
            heights = [thetas.index(run.theta) + 0.1 * (run.seed % 5 - 2) for run in shown]
            axes.plot([run.rho for run in shown], heights, marker, color=COLOURS[colour], markersize=5,
                      markerfacecolor="none", label=kind)  # fmt: skip
        axes.set(title=f"η = {lr:g}", xlabel="spectral radius ρ of W_hh at the start")
    row[0].set_yticks(range(len(thetas)), [_with(theta) for theta in thetas])
    row[0].invert_yaxis()
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _why(runs: list[Run]) -> Figure:
    """Draw the first and the largest early gradient of runs without clipping against ρ."""
    figure, ((axes,),) = panels()
    axes.set(xlabel="spectral radius ρ of W_hh at the start", ylabel="norm of the gradient", yscale="log")
    norms = {"first_norm": "step 1", "early_norm": "largest finite one of steps 1 to 10"}
    for (name, what), colour, marker in zip(product(("ReLU", "tanh"), norms), COLOURS, MARKERS, strict=False):
        shown = [run for run in runs if run.name == name and not run.theta and run.lr == 1]
        axes.plot([run.rho for run in shown], [getattr(run, what) for run in shown], marker, color=colour, markersize=5,
                  markerfacecolor="none", label=f"{name}, {norms[what]}")  # fmt: skip
    axes.legend(loc="upper left")
    return figure
