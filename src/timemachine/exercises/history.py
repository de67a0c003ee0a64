"""Exercises 1 and 2: how much of the past does the model use, and which hyperparameter governs that?"""

import math
import statistics
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.sweep import Job, grouped, mean_sd

NUM_STEPS = "data.num_steps"
BOOK = 32  # time steps
NEAR = 1.01  # a perplexity is as good as the best if it is not above this multiple of it
GRID = 1.5  # from 2 characters on, the next longer context that is measured is at most so many times as long
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
TINY, HUGE = 1e-30, 1e12  # what is outside is not drawn

Groups = dict[int, list[Job]]


def findings(jobs: list[Job]) -> Findings:
    """A row for each number of time steps, over seeds."""
    measured = [job for job in jobs if job.status == "completed" and job.probes.get("history")]
    groups: Groups = {key[0]: group for key, group in grouped(measured, NUM_STEPS).items()}
    groups = dict(sorted(groups.items()))
    counts = sorted({job.probes["history"]["characters"] for job in measured})
    return Findings(
        number="1 and 2",
        question="Does the model use all past tokens up to the very first one? Which hyperparameter governs that?",
        setting="The book's run with windows of several lengths, `data.num_steps`, and its own 32 among them.",
        columns=["time steps", "runs", "stream, validation", "stream, rest", "characters needed"]
        + [f"KL, {k} back" for k in (1, 4, 8, 16, 32)]
        + [f"gradient, {k} back" for k in (8, 16, 32)],
        rows=[_row(num_steps, group) for num_steps, group in groups.items()],
        figures={"context": _context(groups), "influence": _influence(groups), "gradient": _gradient(groups)},
        captions={
            "context": "Perplexity when no more than the last n characters are given, from a zero state. The dot is "
            "where n is the window that the model was trained on.",
            "influence": "What replacing one character does to the prediction: KL divergence, against how many steps "
            "back the character is. 1 is the last one before the target.",
            "gradient": "Norm of the gradient of one target's loss with respect to the state k steps before.",
        },
        answer=" ".join(_answer(groups)),
        notes=[
            "Stream: perplexity of the text read once with its state carried, on the same characters for every row. "
            f"All else: on {' or '.join(f'{count:,}' for count in counts) or 'no'} characters of the validation part, "
            "the same for every row, in float64. Characters needed: the shortest of the measured contexts whose "
            f"perplexity lies within {NEAR - 1:.0%} of the best. KL, in nats: the character so many steps back is "
            "replaced by one drawn from the text. Gradient: the mean norm so many steps back, as a multiple of that "
            "at the state from which the target is predicted. Mean ± standard deviation over seeds; figures show "
            "means. Every run makes the same number of updates, from as many windows: a longer window is more "
            "characters in each."
        ],
    )


def _row(num_steps: int, jobs: list[Job]) -> list[str]:
    return [
        str(num_steps),
        str(len(jobs)),
        mean_sd(job.stream("val") for job in jobs),
        mean_sd(job.stream("test") for job in jobs),
        _cell(map(_needed, jobs), ".1f"),
        *(_cell((_at(job, "influence", "steps_back", "kl", k) for job in jobs), ".2g") for k in (1, 4, 8, 16, 32)),
        *(_cell((_gradient_ratio(job, k) for job in jobs), ".2g") for k in (8, 16, 32)),
    ]


def _cell(values: Iterable[float], form: str) -> str:
    """Like `mean_sd`, for numbers that are not perplexities: a divergence or a ratio may be 1e-9."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "–"
    mean = f"{statistics.fmean(finite):{form}}"
    return mean if len(finite) == 1 else f"{mean} ± {statistics.stdev(finite):{form}}"


def _curve(job: Job, part: str, x: str, y: str) -> dict[int, float]:
    """What the probe measured against x; summary.json has words for numbers that are not finite."""
    measured = job.probes["history"][part]
    return dict(zip(measured[x], map(float, measured[y]), strict=True))


def _at(job: Job, part: str, x: str, y: str, place: int) -> float:
    return _curve(job, part, x, y).get(place, math.nan)


def _needed(job: Job) -> float:
    """The shortest context whose perplexity is as good as the best, in characters."""
    curve = _curve(job, "context", "length", "perplexity")
    best = min(filter(math.isfinite, curve.values()), default=math.nan)
    return min((length for length, value in curve.items() if value <= NEAR * best), default=math.nan)


def _gradient_ratio(job: Job, steps_back: int) -> float:
    curve = _curve(job, "gradient", "steps_back", "norm")
    return curve.get(steps_back, math.nan) / curve[0] if curve[0] > 0 else math.nan


def _mean(values: Iterable[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return statistics.fmean(finite) if finite else math.nan


def _mean_curve(jobs: list[Job], part: str, x: str, y: str) -> dict[int, float]:
    """The mean over jobs at each place, where there is one."""
    curves = [_curve(job, part, x, y) for job in jobs]
    places = sorted({place for curve in curves for place in curve})
    means = {place: _mean(curve.get(place, math.nan) for curve in curves) for place in places}
    return {place: value for place, value in means.items() if not math.isnan(value)}


def _draw(axes: Axes, groups: Groups, part: str, x: str, y: str) -> dict[int, dict[int, float]]:
    """A line for each group, and a legend; returns the lines."""
    lines = {}
    for number, (num_steps, jobs) in enumerate(groups.items()):
        line = {a: b for a, b in _mean_curve(jobs, part, x, y).items() if TINY < b < HUGE}
        colour, style = COLOURS[number % len(COLOURS)], STYLES[number % len(STYLES)]
        axes.plot(list(line), list(line.values()), color=colour, linestyle=style, label=f"{num_steps} time steps")
        lines[num_steps] = line
    axes.grid(alpha=0.3)
    if groups:
        axes.legend()
    return lines


def _context(groups: Groups) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    lines = _draw(axes, groups, "context", "length", "perplexity")
    for number, (num_steps, line) in enumerate(lines.items()):
        if num_steps in line:
            axes.plot([num_steps], [line[num_steps]], "o", color=COLOURS[number % len(COLOURS)])
    axes.set_xscale("log", base=2)
    ticks = [2**power for power in range(10)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set(xlabel="characters of context n (log scale)", ylabel="perplexity")
    return figure


def _influence(groups: Groups) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    _draw(axes, groups, "influence", "steps_back", "kl")
    axes.set(xlabel="steps back, characters", ylabel="KL divergence, nats (log scale)", yscale="log")
    return figure


def _gradient(groups: Groups) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    _draw(axes, groups, "gradient", "steps_back", "norm")
    axes.set(xlabel="steps back k, characters", ylabel="mean ‖∂loss/∂H‖ (log scale)", yscale="log")
    return figure


def _answer(groups: Groups) -> Iterable[str]:
    needed = {num_steps: _mean(map(_needed, jobs)) for num_steps, jobs in groups.items()}
    needed = {num_steps: value for num_steps, value in needed.items() if math.isfinite(value)}
    yield (
        "Two horizons are hard. In training every window begins with a zero state, so neither a character nor a "
        "gradient from before it counts: `data.num_steps` is the hyperparameter, and the target at place t of a window "
        "has t characters before it. In decoding the state begins at the prefix. Between those a state is a function "
        "of every character since the zero state: carried on, it depends on the very first one, but by how much is "
        "another matter."
    )
    if not needed:
        yield "No run that has ended was measured, so how far the real horizon is cannot be said."
        return
    shown = BOOK if BOOK in needed else max(needed)
    jobs = groups[shown]
    context = _mean_curve(jobs, "context", "length", "perplexity")
    kl = _mean_curve(jobs, "influence", "steps_back", "kl")
    gradient = _mean_curve(jobs, "gradient", "steps_back", "norm")
    yield (
        f"The real horizon is what the model has learnt to use. Trained on windows of {shown} characters, it is within "
        f"{NEAR - 1:.0%} of its best perplexity, {min(context.values()):.2f}, once it has been given "
        f"{needed[shown]:.0f} characters; after 1 character it is at {context.get(1, math.nan):.2f}, after "
        f"{max(context)} at {context[max(context)]:.2f}."
    )
    if {1, 8, 32} <= kl.keys():
        yield (
            f"Another character in place of the last one changes the prediction by {kl[1]:.2g} nats, 8 steps back by "
            f"{kl[8]:.2g}, 32 steps back by {kl[32]:.2g}: {_trend(kl[1], kl[32])}."
        )
    if {0, 8, 32} <= gradient.keys() and gradient[0] > 0:
        yield (
            f"The gradient is {gradient[8] / gradient[0]:.2g} times as large 8 steps back as at the state that the "
            f"target is predicted from, and {gradient[32] / gradient[0]:.2g} times 32 steps back, a factor of "
            f"{(gradient[32] / gradient[0]) ** (1 / 32):.2f} a step: "
            f"{'it vanishes' if gradient[32] < 0.1 * gradient[0] else 'it does not vanish'}."
        )
    yield from _longer_windows(groups, needed)


def _trend(near: float, far: float) -> str:
    if not far < near:
        return "what is far counts as much as what is near"
    return "never nothing, but next to it" if 0 < far < near / 100 else "less, but not next to nothing"


def _longer_windows(groups: Groups, needed: dict[int, float]) -> Iterable[str]:
    if len(needed) < 2:
        return
    yield (
        "The characters needed by window: "
        + ", ".join(f"{value:.1f} with {num_steps} time steps" for num_steps, value in needed.items())
        + "."
    )
    longest = max(needed)
    enough = min((num_steps for num_steps, value in needed.items() if value <= num_steps), default=longest)
    if enough < longest:
        grows = needed[longest] > GRID * needed[enough]
        yield (
            f"From {enough} time steps on a window holds all that its model needs, and one of {longest} "
            f"{'lengthens' if grows else 'does not lengthen'} the real horizon ({needed[enough]:.1f} to "
            f"{needed[longest]:.1f} characters, where the contexts measured are up to a factor {GRID:g} apart and the "
            f"window is {longest / enough:g} times as long)."
        )
    for num_steps in needed:
        context = _mean_curve(groups[num_steps], "context", "length", "perplexity")
        if context[max(context)] > NEAR * min(context.values()):
            best = min(context, key=lambda length: context[length])
            yield (
                f"More can even harm: with {num_steps} time steps perplexity is {context[best]:.2f} after {best} "
                f"characters and {context[max(context)]:.2f} after {max(context)}."
            )
    stream = {num_steps: _mean(job.stream("val") for job in groups[num_steps]) for num_steps in needed}
    stream = {num_steps: value for num_steps, value in stream.items() if math.isfinite(value)}
    if stream:
        values = ", ".join(f"{value:.2f} with {num_steps}" for num_steps, value in stream.items())
        yield f"On the stream, where alone windows can be compared, validation perplexity is {values} time steps."
