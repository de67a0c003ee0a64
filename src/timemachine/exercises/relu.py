"""Exercise 10: replace tanh by ReLU. Do we still need to clip the gradient, and why?"""

import math
import re
import statistics
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.clipping import LR, TINY, UNIGRAM, diverged, draw_bound, epoch_of_divergence, label, radius
from timemachine.sweep import Job, mean_sd, read_rows

ACTIVATION, SIGMA = "model.activation", "model.sigma"
NAMES = {"tanh": "tanh", "relu": "ReLU"}
STOP = re.compile(r"diverged in epoch (\d+), step (\d+)")  # how the message of a run that was stopped begins


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
        self.dynamics = read_rows(job.folder / "dynamics.csv")
        self.dead = self.at(-1, "dead_share")
        self.diverged, self.all_dead = diverged(job), False
        if job.status != "diverged" and self.dead == 1:  # ends at the unigram's perplexity, on either side of it
            self.diverged, self.all_dead = False, True
        stopped = STOP.match(job.message)
        self.epoch = float(stopped[1]) if stopped else epoch_of_divergence(job) if self.diverged else math.nan
        self.step = float(stopped[2]) if stopped else math.nan

    @property
    def sound(self) -> bool:
        """Whether it has learnt something."""
        return not (self.diverged or self.all_dead)

    @property
    def first_norm(self) -> float:
        """Of the gradient at the initial weights, before clipping."""
        return self.steps[0]["grad_norm"] if self.steps else math.nan

    @property
    def steepest(self) -> float:
        """Largest change of the loss from a step to the next, in nats per unit length of the update between them."""
        return _largest(
            abs(after["loss"] - row["loss"]) / max(self.key.lr * row["grad_norm_clipped"], TINY)
            for row, after in pairwise(self.steps)
        )

    def at(self, row: int, name: str) -> float:
        """A number of the first (0) or last (-1) row of dynamics.csv."""
        return self.dynamics[row][name] if self.dynamics else math.nan


def findings(jobs: list[Job]) -> Findings:
    """A row for each activation, sigma, learning rate and radius, over seeds; of the jobs that have ended."""
    runs = [Run(job) for job in jobs if job.status in ("completed", "diverged")]
    runs.sort(key=lambda run: (run.key.activation != "tanh", *run.key[1:3], -(run.key.theta or math.inf)))
    groups: dict[Key, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.key, []).append(run)
    return Findings(
        number="10",
        question="Replace tanh with ReLU and repeat the experiments. Do we still need gradient clipping? Why?",
        setting="The book's run with tanh and with ReLU, with and without clipping, at its own learning rate and "
        "higher ones, from its own initial weights and wider ones.",
        columns=["activation", "σ", "η", "radius θ", "runs", "diverged", "at", "all units dead", "train", "validation",
                 "first norm", "largest norm", "ρ at the start", "ρ at the end", "largest |h|",
                 "dead or saturated at the end"],
        rows=[_row(key, group) for key, group in groups.items()],
        figures={"dynamics": _dynamics(groups), "bound": _bound(groups)},
        captions={
            "dynamics": "The recurrence over training, first seed: spectral radius of W_hh (dotted: 1, above which a "
            "linear recurrence grows), the largest activation, and the share of idle units: dead with ReLU, saturated "
            "with tanh. Dashed: without clipping. A cross ends a run that was stopped; 0 is drawn at 1e-9.",
            "bound": "How far a step's loss lies from that of the step before, against the length of the update "
            "between them, η‖g‖ after clipping, first seed. The chapter's bound, |Δf| ≤ Lη‖g‖, is a line of slope 1 "
            "here, and L its height. Neighbouring batches differ, which is the floor under all points.",
        },
        answer=" ".join(_answer(groups)),
        notes=[
            f"Diverged: the loss is not finite, or training perplexity ends above {UNIGRAM}, that of the frequencies "
            "of single characters. All units dead: the state is 0 at every position, and what remains are those "
            "frequencies. Perplexities are of the other runs, mean ± standard deviation over seeds; norms and places "
            "are from smallest to largest. ρ: spectral radius of W_hh. |h| and units are those of a fixed batch of "
            "validation windows; a ReLU unit is dead if it is 0 at every position there, a tanh unit saturated if |h| "
            "> 0.99 at every position."
        ],
    )  # fmt: skip


def _row(key: Key, runs: list[Run]) -> list[str]:
    sound = [run for run in runs if run.sound]
    idle = "saturated_share" if key.activation == "tanh" else "dead_share"
    shares = [share for run in runs if not math.isnan(share := run.at(-1, idle))]
    return [
        NAMES.get(key.activation, key.activation),
        f"{key.sigma:g}",
        f"{key.lr:g}",
        f"{key.theta:g}" if key.theta else "none",
        str(len(runs)),
        f"{sum(run.diverged for run in runs)} of {len(runs)}",
        _places(run for run in runs if run.diverged),
        f"{sum(run.all_dead for run in runs)} of {len(runs)}",
        mean_sd(run.job.metrics.get("train/perplexity", math.nan) for run in sound),
        mean_sd(run.job.metrics.get("val/perplexity", math.nan) for run in sound),
        _span(run.first_norm for run in runs),
        f"{_largest(row['grad_norm'] for run in runs for row in run.steps):.3g}",
        mean_sd(run.at(0, "spectral_radius") for run in runs),
        mean_sd(run.at(-1, "spectral_radius") for run in runs),
        f"{_largest(row['largest_activation'] for run in runs for row in run.dynamics):.3g}",
        f"{statistics.fmean(shares):.0%}" if shares else "–",
    ]


def _places(runs: Iterable[Run]) -> str:
    """Where runs diverged: epochs, and the steps of those that were stopped at one."""
    places = [(run.epoch, run.step) for run in runs]
    epochs, steps = _span(epoch for epoch, _ in places), _span(step for _, step in places)
    return ", ".join(f"{name} {span}" for name, span in (("epoch", epochs), ("step", steps)) if span != "–")


def _span(values: Iterable[float]) -> str:
    """From the smallest to the largest, or the one value, or a dash for none."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "–"
    return " to ".join(dict.fromkeys(f"{number:.3g}" for number in (min(numbers), max(numbers))))


def _largest(values: Iterable[float]) -> float:
    return max((value for value in values if not math.isnan(value)), default=math.nan)


def _telling(groups: dict[Key, list[Run]]) -> list[tuple[float, float]]:
    """Pairs of sigma and learning rate that a figure shows: the book's own end of both, and the other end of one."""
    sigmas, lrs = sorted({key.sigma for key in groups}), sorted({key.lr for key in groups})
    pairs = [(sigmas[0], lrs[0]), (sigmas[0], lrs[-1]), (sigmas[-1], lrs[0])] if groups else []
    return list(dict.fromkeys(pairs))


def _shown(groups: dict[Key, list[Run]], activation: str) -> dict[Key, Run]:
    """The first seed of each telling pair, without clipping and with the largest radius."""
    largest = max((key.theta for key in groups if key.theta), default=None)
    keys = [Key(activation, *pair, theta) for pair in _telling(groups) for theta in dict.fromkeys((None, largest))]
    return {key: groups[key][0] for key in keys if key in groups}


def _name(key: Key) -> str:
    return f"σ = {key.sigma:g}, η = {key.lr:g}, {label(key.theta)}"


def _activations(groups: dict[Key, list[Run]]) -> list[str]:
    return list(dict.fromkeys(key.activation for key in groups)) or ["relu"]


def _dynamics(groups: dict[Key, list[Run]]) -> Figure:
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


def _bound(groups: dict[Key, list[Run]]) -> Figure:
    activations = _activations(groups)
    figure = Figure(figsize=(9, 5.5), dpi=150, layout="constrained")
    (panels,) = figure.subplots(1, len(activations), squeeze=False, sharex=True, sharey=True)
    for axes, activation in zip(panels, activations, strict=True):
        draw_bound(axes, {_name(key): run.job for key, run in _shown(groups, activation).items()})
        axes.set(title=NAMES.get(activation, activation))
        axes.label_outer()
        if axes.lines:
            axes.legend(fontsize="small", markerscale=4, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.12))
    return figure


def _answer(groups: dict[Key, list[Run]]) -> Iterable[str]:
    runs = [run for group in groups.values() for run in group]
    if not any(run.key.activation == "relu" for run in runs):
        yield "No run with ReLU has ended yet."
        return
    yield from _verdict(runs)
    yield from _why(groups)
    yield from _counts(runs)
    yield from _limits(runs)


def _verdict(runs: list[Run]) -> Iterable[str]:
    """Pairs of runs that differ in clipping alone."""
    sentences, gains = [], {}
    for activation, name in reversed(NAMES.items()):
        twins: dict[tuple[float, float, int], dict[bool, bool]] = {}
        for run in runs:
            if run.key.activation == activation:
                place = run.key.sigma, run.key.lr, run.job.settings["seed"]
                twin = twins.setdefault(place, {})
                clipped = run.key.theta is not None
                twin[clipped] = run.sound or twin.get(clipped, False)
        pairs = [(twin[True], twin[False]) for twin in twins.values() if len(twin) == 2]
        if pairs:
            only_with, only_without = pairs.count((True, False)), pairs.count((False, True))
            gains[activation] = only_with - only_without
            sentences.append(
                f"of {len(pairs)} pairs of {name} runs that differ in clipping alone, {only_with} learn only with it, "
                f"{only_without} only without it, {pairs.count((True, True))} both ways and "
                f"{pairs.count((False, False))} neither way"
            )
    if "relu" in gains:
        yield "Yes, we still need clipping:" if gains["relu"] > 0 else "Clipping does not help in these runs:"
    if sentences:
        yield "; ".join(sentences) + "."


def _why(groups: dict[Key, list[Run]]) -> Iterable[str]:
    """The untrained models with the widest weights, and what the first step does with their gradient."""
    sigma = max(key.sigma for key in groups if key.activation == "relu")
    widest = {
        activation: [run for key, group in groups.items() if key[:2] == (activation, sigma) for run in group]
        for activation in NAMES
    }
    relu, tanh = widest["relu"], widest["tanh"]
    yield (
        f"ReLU has no ceiling, and where the spectral radius of W_hh is above 1 a state can grow by a factor at every "
        f"step, and with it the gradient on its way back. At σ = {sigma:g} that radius begins at "
        f"{_span(run.at(0, 'spectral_radius') for run in relu)}; before any training the largest activation is "
        f"{_span(run.at(0, 'largest_activation') for run in relu)} with ReLU"
        + (f" and {_span(run.at(0, 'largest_activation') for run in tanh)} with tanh" if tanh else "")
        + f", and the first gradient has a norm of {_span(run.first_norm for run in relu)}"
        + (f" against {_span(run.first_norm for run in tanh)}" if tanh else "")
        + "."
    )
    lr = min(run.key.lr for run in relu)
    free = [run.first_norm * lr for run in relu if run.key.lr == lr and not run.key.theta]
    radii = [run.key.theta for run in relu if run.key.theta]
    if free and radii:
        yield (
            f"At rate {lr:g} the first update without clipping is {_span(free)} long; with "
            f"radius {max(radii):g} it is at most {lr * max(radii):g}."
        )


def _counts(runs: list[Run]) -> Iterable[str]:
    """Of each activation, with and without clipping: how many runs end badly at each learning rate."""
    for activation, name in NAMES.items():
        mine = [run for run in runs if run.key.activation == activation]
        for theta in sorted({run.key.theta for run in mine}, key=lambda theta: theta or 0):
            parts = []
            for lr in sorted({run.key.lr for run in mine}):
                chosen = [run for run in mine if (run.key.theta, run.key.lr) == (theta, lr)]
                counts = ((sum(run.diverged for run in chosen), "diverge"),
                          (sum(run.all_dead for run in chosen), "end with all units dead"))  # fmt: skip
                if bad := " and ".join(f"{count} {what}" for count, what in counts if count):
                    parts.append(f"of {len(chosen)} at rate {lr:g}, {bad}")
            yield f"{name}, {label(theta)}: {'; '.join(parts) or 'every run learns'}."


def _limits(runs: list[Run]) -> Iterable[str]:
    """What clipping leaves as it is."""
    steepest = [
        f"{_largest(run.steepest for run in mine):.3g} with {name}"
        for activation, name in NAMES.items()
        if (mine := [run for run in runs if run.key.activation == activation and run.key.theta])
    ]
    if steepest:
        yield (
            f"Clipping bounds the length of an update and not the slope L: in clipped runs the loss still changes by "
            f"up to {' and '.join(steepest)}, in nats per unit length of the update."
        )
    dead: dict[float, list[float]] = {}
    for run in sorted(runs, key=lambda run: run.key.lr):
        if run.key.activation == "relu" and run.key.theta and not math.isnan(run.dead):
            dead.setdefault(run.key.lr, []).append(run.dead)
    shares = ", ".join(f"{statistics.fmean(values):.0%} at rate {lr:g}" for lr, values in dead.items())
    yield "Nor does it bring back a unit that is dead, since the gradient of that is zero" + (
        f": of the units of clipped ReLU runs, dead at the end are {shares}." if shares else "."
    )
