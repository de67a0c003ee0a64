"""Exercise 10: replace tanh by ReLU. Do we still need to clip the gradient, and why?

Measured: the recurrence over training, in dynamics.csv of the run's folder, a row an epoch. B windows, T time steps, H
hidden units.
"""

import csv
import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.errors import Diverged
from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import letters, letters_in_words, outcome
from timemachine.exercises.clipping import LR, TINY, draw_bound, epoch_of_divergence, label, radius
from timemachine.exercises.drawing import draw_slope
from timemachine.exercises.jobs import Job, mean_sd, span
from timemachine.language_model import RNNLMScratch
from timemachine.runs.files import write_whole
from timemachine.runs.rows import read_numbers

SATURATED = 0.99  # |h| from which on tanh passes on less than 2 % of a gradient
COLUMNS = ("epoch", "spectral_radius", "largest_activation", "dead_share", "saturated_share")

ACTIVATION, SIGMA = "model.activation", "model.sigma"
VAL = "val/perplexity"
NAMES = {"tanh": "tanh", "relu": "ReLU"}
ONLY_WITH, ONLY_WITHOUT = "learn only with it", "only without it"
# Whether the run with clipping learns, and the one without -> what the pair is called.
KINDS = {
    (True, False): ONLY_WITH,
    (False, True): ONLY_WITHOUT,
    (True, True): "both ways",
    (False, False): "neither way",
}
STOP = re.compile(r"diverged in epoch (\d+), step (\d+)")  # how the message of a run that was stopped begins


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Measure the model as it is on all of the validation text, in windows from a zero state; NaN where undefined.

    `spectral_radius`: largest |eigenvalue| of W_hh. `largest_activation`: largest |h|. `dead_share`: of the hidden
    units, those that are exactly 0 at every position. `saturated_share`: those with |h| > 0.99 at every position, of
    tanh only.
    """
    rnn = model.rnn
    with torch.no_grad():
        H_TBH, _ = rnn(model.inputs(_windows(data).to(rnn.W_hh.device)))
        size_NH = H_TBH.flatten(0, 1).abs()
        largest = float(size_NH.max())  # NaN where any is
        dead = float((size_NH == 0).all(0).float().mean())
        saturated = float((size_NH > SATURATED).all(0).float().mean())
    known = not math.isnan(largest)
    return {
        "spectral_radius": spectral_radius(rnn.W_hh),
        "largest_activation": largest,
        "dead_share": dead if known else math.nan,
        "saturated_share": saturated if known and rnn.activation == "tanh" else math.nan,
    }


def spectral_radius(W_HH: Tensor) -> float:
    """Return the largest |eigenvalue|; NaN if an entry is not finite, which `eigvals` refuses."""
    W_HH = W_HH.detach().cpu().double()
    return float(torch.linalg.eigvals(W_HH).abs().max()) if W_HH.isfinite().all() else math.nan


def _windows(data: TimeMachine) -> Tensor:
    """Return the inputs (B, T), int64, of validation windows end to end, without a rest of fewer than T."""
    starts_B = torch.tensor(data.splits["val"].starts[:: data.num_steps])
    return data.chars_N.cpu()[starts_B[:, None] + torch.arange(data.num_steps)].long()


def callback(folder: Path) -> Callback:
    """Return the callback that writes dynamics.csv into the run's folder."""
    return Dynamics(folder / "dynamics.csv")


class Dynamics(Callback):
    """A table of what `measure` returns before training (epoch 0) and after each epoch.

    A run that diverges has a last row under the epoch that broke off: the weights before the update that was refused.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last_epoch = -1  # written
        self._before: list[str] = []  # lines of a run that goes on

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on where the checkpoint was saved: drop what came after it, or was cut short."""
        self._last_epoch = checkpoint["epoch"] + 1
        rows = self.path.read_text(encoding="utf-8").splitlines(keepends=True) if self.path.exists() else []
        before = [row for row in rows[1:] if row.endswith("\n") and int(row.split(",")[0]) <= self._last_epoch]
        self._before = rows[:1] + before

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin the table with the initial weights, or where it goes on."""
        if not trainer.is_global_zero:
            return
        write_whole(self.path, "".join(self._before).encode())
        if self._last_epoch < 0:
            self._write(trainer, pl_module, 0)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row."""
        self._write(trainer, pl_module, trainer.current_epoch + 1)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Add the row of the epoch in which training diverged."""
        if isinstance(exception, Diverged):
            self._write(trainer, pl_module, trainer.current_epoch + 1)

    def _write(self, trainer: pl.Trainer, model: pl.LightningModule, epoch: int) -> None:
        if not trainer.is_global_zero or epoch == self._last_epoch:
            return
        assert isinstance(model, RNNLMScratch)
        self._last_epoch = epoch
        row = {"epoch": epoch, **measure(model, trainer.datamodule)}  # type: ignore[attr-defined]
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)


class Key(NamedTuple):
    """What the runs of a row share. `theta`: radius, None without clipping."""

    activation: str
    sigma: float
    lr: float
    theta: float | None


class Run:
    """A job, its tables read once, and the numbers taken from them; not a number where it left none."""

    def __init__(self, job: Job) -> None:
        settings = job.settings
        self.job = job
        self.key = Key(settings[ACTIVATION], settings[SIGMA], settings[LR], radius(job) or None)
        self.steps = job.steps()
        self.dynamics = read_numbers(job.folder / "dynamics.csv")
        self.dead = self.at(-1, "dead_share")
        self.all_dead = self.dead == 1
        self.outcome = "learnt nothing" if self.all_dead and job.status != "diverged" else outcome(job)
        stopped = STOP.match(job.message)
        self.epoch = (
            float(stopped[1]) if stopped else epoch_of_divergence(job) if self.outcome != "learnt" else math.nan
        )
        self.step = float(stopped[2]) if stopped else math.nan

    @property
    def sound(self) -> bool:
        """Return whether it has learnt something."""
        return self.outcome == "learnt"

    @property
    def first_norm(self) -> float:
        """Return the gradient's norm at the initial weights, before clipping."""
        return self.steps[0]["grad_norm"] if self.steps else math.nan

    @property
    def steepest(self) -> float:
        """Return the largest change of the loss in a step, in nats per unit length of the update."""
        return _largest(
            abs(after["loss"] - row["loss"]) / max(self.key.lr * row["grad_norm_clipped"], TINY)
            for row, after in pairwise(self.steps)
        )

    def at(self, row: int, name: str) -> float:
        """Return a number of the first (0) or last (-1) row of dynamics.csv."""
        return self.dynamics[row][name] if self.dynamics else math.nan


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each activation, sigma, learning rate and radius, over seeds; of the jobs that have ended."""
    runs = [Run(job) for job in jobs if job.status in ("completed", "diverged")]
    runs.sort(key=lambda run: (run.key.activation != "tanh", *run.key[1:3], -(run.key.theta or math.inf)))
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.key, []).append(run)
    answer, longer = _answer(runs)
    return Findings(
        number="10",
        question="Replace tanh with ReLU and repeat the experiments. Do we still need gradient clipping? Why?",
        setting="The book's run with tanh and with ReLU, with and without clipping, at its own learning rate and "
        "higher ones, from its own initial weights and wider ones.",
        columns=["activation", "σ", "η", "radius θ", "runs", "learnt", "learnt nothing", "diverged", "at", "train",
                 "validation", "first norm", "largest norm", "ρ at the start", "ρ at the end", "largest |h|",
                 "dead or saturated at the end"],
        rows=[_row(key, group) for key, group in groups.items()],
        figures={"dynamics": _dynamics_figure(groups), "bound": _bound_figure(groups)},
        captions={
            "dynamics": "The recurrence over training, first seed: spectral radius of W_hh (dotted: 1, above which a "
            "linear recurrence grows), the largest activation, and the share of idle units: dead with ReLU, saturated "
            "with tanh. Dashed: without clipping, hidden where it is the same as with. A cross ends a run that was "
            "stopped.",
            "bound": "How far a step's loss lies from that of the step before, against the length of the update "
            "between them, η‖g‖ after clipping, first seed. The chapter's bound, |Δf| ≤ Lη‖g‖, is a line of slope 1 "
            "here, and L its height; the dashed one is that of L = 1. Neighbouring "
            "batches differ, which scatters the points.",
        },
        answer=answer,
        longer=longer,
        notes=[
            "Diverged: not finite, or a final validation perplexity above that of guessing. Learnt nothing: ends above "
            f"{letters_in_words(jobs, 'train/perplexity')} on the training or "
            f"{letters_in_words(jobs, 'val/perplexity')} on the validation windows, "
            "what the frequencies of the letters give; a model whose units are all dead is left with these. "
            "Perplexities are of the runs that learnt, mean ± standard deviation over seeds; norms and places "
            "are from smallest to largest. ρ: spectral radius of W_hh. |h| and units are those of all of the "
            "validation text, in windows; a ReLU unit is dead if it is 0 at every position there, a tanh unit "
            "saturated if |h| > 0.99 at every position. The largest |h| is that of the ends of epochs. At epoch 1: "
            "training perplexity was never below that of the frequencies of the letters."
        ],
    )  # fmt: skip


def _row(key: Key, runs: list[Run]) -> list[str]:
    sound, kinds = [run for run in runs if run.sound], Counter(run.outcome for run in runs)
    idle = "saturated_share" if key.activation == "tanh" else "dead_share"
    shares = [share for run in runs if not math.isnan(share := run.at(-1, idle))]
    return [
        NAMES.get(key.activation, key.activation),
        f"{key.sigma:g}",
        f"{key.lr:g}",
        f"{key.theta:g}" if key.theta else "none",
        str(len(runs)),
        *(str(kinds[kind]) for kind in ("learnt", "learnt nothing", "diverged")),
        _places(run for run in runs if run.outcome == "diverged"),
        mean_sd(run.job.metrics.get("train/perplexity", math.nan) for run in sound),
        mean_sd(run.job.metrics.get("val/perplexity", math.nan) for run in sound),
        span(run.first_norm for run in runs),
        f"{_largest(row['grad_norm'] for run in runs for row in run.steps):.3g}",
        mean_sd(run.at(0, "spectral_radius") for run in runs),
        mean_sd(run.at(-1, "spectral_radius") for run in runs),
        f"{_largest(row['largest_activation'] for run in runs for row in run.dynamics):.3g}",
        f"{statistics.fmean(shares):.0%}" if shares else "–",
    ]


def _places(runs: Iterable[Run]) -> str:
    """Return where runs diverged: epochs, and the steps of those that were stopped at one."""
    places = [(run.epoch, run.step) for run in runs]
    epochs, steps = span(epoch for epoch, _ in places), span(step for _, step in places)
    return ", ".join(f"{name} {found}" for name, found in (("epoch", epochs), ("step", steps)) if found != "–")


def _largest(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _telling(groups: dict[Key, list[Run]]) -> list[tuple[float, float]]:
    """Return pairs of sigma and learning rate for a figure: the book's own end of both, and the other end of one."""
    sigmas, lrs = sorted({key.sigma for key in groups}), sorted({key.lr for key in groups})
    pairs = [(sigmas[0], lrs[0]), (sigmas[0], lrs[-1]), (sigmas[-1], lrs[0])] if groups else []
    return list(dict.fromkeys(pairs))


def _shown(groups: dict[Key, list[Run]], activation: str) -> dict[Key, Run]:
    """Return the first seed of each telling pair, without clipping and with the largest radius."""
    largest = max((key.theta for key in groups if key.theta), default=None)
    keys = [Key(activation, *pair, theta) for pair in _telling(groups) for theta in dict.fromkeys((None, largest))]
    return {key: groups[key][0] for key in keys if key in groups}


def _name(key: Key) -> str:
    return f"σ = {key.sigma:g}, η = {key.lr:g}, {label(key.theta)}"


def _activations(groups: dict[Key, list[Run]]) -> list[str]:
    return list(dict.fromkeys(key.activation for key in groups)) or ["relu"]


def _dynamics_figure(groups: dict[Key, list[Run]]) -> Figure:
    activations, pairs = _activations(groups), _telling(groups)
    figure = Figure(figsize=(9, 8.5), dpi=150, layout="constrained")
    grid = figure.subplots(3, len(activations), squeeze=False, sharex=True, sharey="row")
    handles = {}
    for column, activation in enumerate(activations):
        idle = "saturated_share" if activation == "tanh" else "dead_share"
        for axes, name in zip(grid[:, column], ("spectral_radius", "largest_activation", idle), strict=True):
            for key, run in _shown(groups, activation).items():
                least = -math.inf if name == idle else TINY  # on a log axis
                points = [(row["epoch"], max(row[name], least)) for row in run.dynamics if math.isfinite(row[name])]
                if not points:  # matplotlib refuses a log axis for a line without a point
                    continue
                x, y = zip(*points, strict=True)
                colour = COLOURS[pairs.index((key.sigma, key.lr))]
                (handles[_name(key)],) = axes.plot(x, y, "-" if key.theta else "--", color=colour, linewidth=1.2)
                if STOP.match(run.job.message):
                    axes.plot(x[-1:], y[-1:], "x", color=colour)
        grid[0, column].set(yscale="log")
        grid[1, column].set(yscale="log")
        grid[0, column].axhline(1, color="grey", linewidth=1, linestyle=":")
        grid[0, column].set(title=NAMES.get(activation, activation))
        grid[2, column].set(xlabel="epoch", ylim=(-0.05, 1.05))
    grid[0, 0].set(ylabel="spectral radius (log scale)")
    grid[1, 0].set(ylabel="largest |h| (log scale)")
    grid[2, 0].set(ylabel="share of units idle")
    if handles:
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize="small")
    return figure


def _bound_figure(groups: dict[Key, list[Run]]) -> Figure:
    activations = _activations(groups)
    figure = Figure(figsize=(9, 5.5), dpi=150, layout="constrained")
    (panels,) = figure.subplots(1, len(activations), squeeze=False, sharex=True, sharey=True)
    for axes, activation in zip(panels, activations, strict=True):
        draw_bound(axes, {_name(key): run.job for key, run in _shown(groups, activation).items()})
        axes.set(title=NAMES.get(activation, activation))
        axes.label_outer()
    for axes in panels:
        if axes.lines:
            draw_slope(axes)
            axes.legend(fontsize="small", markerscale=2, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return figure


def _answer(runs: list[Run]) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    relu = [run for run in runs if run.key.activation == "relu"]
    if not relu:
        return "No run with ReLU has ended yet.", []
    pairs = {name: _pairs(runs, activation) for activation, name in NAMES.items()}
    kinds = {name: Counter(found.values()) for name, found in pairs.items()}
    wide = sorted({sigma for (sigma, *_), kind in pairs["ReLU"].items() if kind == ONLY_WITH})
    book = min(run.key.sigma for run in relu)
    needed = kinds["ReLU"][ONLY_WITH] > kinds["ReLU"][ONLY_WITHOUT]
    yes = "Not in these runs" if not needed else "Yes" if book in wide else "Yes, where the initial weights are wide"
    where = f", all of them at σ = {' and '.join(f'{sigma:g}' for sigma in wide)}" if wide else ""
    where = where if len({run.key.sigma for run in relu}) > 1 else ""
    free = [run for run in relu if run.key.sigma == book and not run.key.theta]
    stopped = sum(run.job.status == "diverged" for run in free)
    answer = f"{yes}: {_counted('ReLU', kinds['ReLU'], where)} " + (
        f"At the smallest σ, {book:g}, {stopped or 'none'} of {len(free)} ReLU runs without clipping "
        f"{'diverges' if stopped == 1 else 'diverge'}{_hardly(free)}."
        if free
        else ""
    )
    longer = [_counted("tanh", kinds["tanh"], "").capitalize() if kinds["tanh"] else "", _why(runs), *_limits(runs)]
    return answer.strip(), [text for text in longer if text]


def _hardly(runs: list[Run]) -> str:
    """Return runs that count as learnt and end near what the letters' frequencies give."""
    ends = {run: run.job.metrics.get(VAL, 0.0) for run in runs if run.sound}
    near = {run: value for run, value in ends.items() if value > 0.8 * letters(run.job).get(VAL, math.inf)}
    if not near:
        return ""
    rates = " and ".join(f"{lr:g}" for lr in sorted({run.key.lr for run in near}))
    alone = letters_in_words([run.job for run in near], VAL)
    ends_at = f"end at {span(near.values())}, where letters alone give {alone}"
    return f", but {len(near)} of them, at rate {rates}, {ends_at}"


def _pairs(runs: list[Run], activation: str) -> dict[tuple[float, float, int], str]:
    """Return σ, η and seed -> which of the two runs that differ in clipping alone learns."""
    twins: dict[tuple[float, float, int], dict[bool, bool]] = {}
    for run in runs:
        if run.key.activation == activation:
            twin = twins.setdefault((run.key.sigma, run.key.lr, run.job.settings["seed"]), {})
            twin[run.key.theta is not None] = run.sound or twin.get(run.key.theta is not None, False)
    return {place: KINDS[twin[True], twin[False]] for place, twin in twins.items() if len(twin) == 2}


def _counted(name: str, kinds: Counter[str], where: str) -> str:
    if not kinds:
        return f"no two {name} runs differ in clipping alone."
    counts = ", ".join(f"{kinds[kind]} {kind}{where if kind == ONLY_WITH else ''}" for kind in KINDS.values())
    return f"of {kinds.total()} pairs of {name} runs that differ in clipping alone {counts}."


def _dead(runs: Iterable[Run]) -> str:
    shares = [run.dead for run in runs]
    return f"{statistics.fmean(shares):.0%}" if shares else "–"


def _why(runs: list[Run]) -> str:
    """Return the untrained models with the widest weights, and what the first step does with their gradient."""
    sigma = max(run.key.sigma for run in runs if run.key.activation == "relu")
    relu, tanh = ([r for r in runs if r.key[:2] == (name, sigma)] for name in ("relu", "tanh"))
    beside = f" (tanh: {span(run.first_norm for run in tanh)})" if tanh else ""
    return (
        "**Why.** ReLU has no ceiling: where the spectral radius ρ of W_hh is above 1 the state can grow at every "
        f"step, and with it the gradient on its way back. At σ = {sigma:g} ρ begins at "
        f"{span(run.at(0, 'spectral_radius') for run in relu)}, the largest activation before training is "
        f"{span(run.at(0, 'largest_activation') for run in relu)}, and the first gradient has a norm of "
        f"{span(run.first_norm for run in relu)}{beside}. A step without clipping is η times as long as that; with "
        "radius θ it is at most ηθ."
    )


def _limits(runs: list[Run]) -> Iterable[str]:
    """Return what clipping leaves as it is, and what was seen of units that are dead."""
    clipped = [run for run in runs if run.key.theta]
    if steepest := [
        f"{_largest(run.steepest for run in found):.3g} with {name}"
        for activation, name in NAMES.items()
        if (found := [run for run in clipped if run.key.activation == activation])
    ]:
        yield (
            "**What clipping leaves.** It bounds the length of an update, and not the slope L: in clipped runs the "
            f"loss still changes by up to {' and '.join(steepest)}, in nats per unit length of the update."
        )
    relu = [run for run in clipped if run.key.activation == "relu" and not math.isnan(run.dead)]
    if relu:
        rates, sigmas = (sorted({getattr(run.key, name) for run in relu}) for name in ("lr", "sigma"))
        shares = "; ".join(
            f"at rate {lr:g} "
            + ", ".join(
                f"{_dead(run for run in relu if run.key[1:3] == (sigma, lr))} with σ = {sigma:g}" for sigma in sigmas
            )
            for lr in rates
        )
        woken = sum(run.dead < _largest(row["dead_share"] for row in run.dynamics) for run in relu)
        yield (
            f"**Dead units.** Of the units of clipped ReLU runs, dead at the end are {shares}. In {woken} of these "
            f"{len(relu)} runs the share has been larger before: such a unit gets no gradient where it is 0, but it "
            "need not be 0 on the training text, and the weights of others go on changing what it reads."
        )
