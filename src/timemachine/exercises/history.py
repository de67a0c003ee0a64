"""Exercises 1 and 2: how much of the past does the model use, and which hyperparameter governs that?

Measured: what the model needs, what one character does, how far back a gradient comes. All on the same target
characters whatever `data.num_steps` is up to 64: the first 2,000 of the validation part, but for the margin at its
border. All in float64, where a small effect does not drown in rounding.

M targets, B sequences, T time steps, V vocabulary, H hidden units, S numbers of a state. Steps back: the last character
before a target is 1 step back; what it leads to, from which the target is predicted, is 0 steps back.
"""

import copy
import math
import statistics
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import WARM_UP, score
from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import UNDECIDED, by_seed, difference, lowest
from timemachine.exercises.jobs import Job, grouped, mean_sd, span
from timemachine.exercises.stream import MARGIN
from timemachine.language_model import RNNLMScratch

NUM_TARGETS = 2000  # characters
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # characters of context
REPLACED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # steps back
FARTHEST = MARGIN  # steps back that a gradient is followed: every target has so many characters before it

NUM_STEPS = "data.num_steps"
BOOK = 32  # time steps
NEAR = 1.01  # a perplexity is as good as the best if it is not above this multiple of it
GRID = 1.5  # from 2 characters on, the next longer context that is measured is at most so many times as long
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))
TINY, HUGE = 1e-30, 1e12  # what is outside is not drawn

Groups = dict[int, list[Job]]


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return perplexity against context, influence and gradient against distance, in lists of equal length.

    Return nothing if the validation part is no longer than the margin.
    """
    val = data.splits["val"].starts
    targets = range(val.start + MARGIN, min(val.start + MARGIN + NUM_TARGETS, val.stop))
    if not targets:
        return {}
    double = copy.deepcopy(model).cpu().double()
    chars_N = data.chars_N.cpu().long()
    before_NS = stream_states(double, chars_N, targets)
    return {
        "characters": len(targets),
        "context": context(double, chars_N, targets),
        "influence": influence(double, chars_N, targets, before_NS),
        "gradient": gradient(double, chars_N, targets, before_NS),
    }


@torch.no_grad()
def context(model: RNNLMScratch, chars_N: Tensor, targets: range) -> dict[str, list[float]]:
    """Return the perplexity of the targets, each after no more than the c characters before it, read from a zero state.

    One pass serves all lengths c: a sequence begins at each character, and after c steps those that began c before
    a target are at their target.
    """
    lengths = [length for length in LENGTHS if length <= targets.start]
    begin = targets.start - lengths[-1]  # of the first sequence
    Y_M, ones_M = chars_N[targets.start : targets.stop], torch.ones(len(targets), dtype=torch.float64)
    state_BS, scores = None, []
    for length in range(1, lengths[-1] + 1):
        X_B1 = chars_N[begin + length - 1 : targets.stop - 1, None]
        logits_B1V, state_BS = model(X_B1, None if state_BS is None else state_BS[: len(X_B1)])  # one is past its end
        if length in lengths:
            scores.append(score(F.cross_entropy(logits_B1V[-len(targets) :, 0], Y_M, reduction="none"), ones_M))
    return {
        "length": list(lengths),
        "perplexity": [found.perplexity for found in scores],
        "standard_error": [found.standard_error for found in scores],
    }


@torch.no_grad()
def stream_states(model: RNNLMScratch, chars_N: Tensor, targets: range) -> Tensor:
    """Return the state before each character (N, S), in one stream from 512 characters before the first target.

    Rows of characters that the stream does not read are zero, and so is its first.
    """
    begin = max(0, targets.start - WARM_UP)
    state_1S, states = None, []
    for place in range(begin, targets.stop - 1):
        _, state_1S = model(chars_N[None, None, place], state_1S)
        states.append(state_1S)
    return F.pad(torch.cat(states), (0, 0, begin + 1, 0))


@torch.no_grad()
def influence(model: RNNLMScratch, chars_N: Tensor, targets: range, before_NS: Tensor) -> dict[str, list[float]]:
    """Return the mean KL divergence (nats) from the prediction of each target to that after one character was replaced.

    The other one is drawn from the text, the same for every model; it may be the same character. `before_NS`: the
    state before each character is read.
    """
    places_M = torch.arange(targets.start, targets.stop)
    draws = torch.randint(len(chars_N), (len(REPLACED), len(targets)), generator=torch.Generator().manual_seed(0))
    logits_M1V, _ = model(chars_N[places_M - 1, None], before_NS[places_M - 1])
    log_P_MV = F.log_softmax(logits_M1V[:, 0], 1)
    divergences = []
    for steps_back, draw_M in zip(REPLACED, draws, strict=True):
        X_MT = chars_N[places_M[:, None] - torch.arange(steps_back, 0, -1)]
        X_MT[:, 0] = chars_N[draw_M]
        logits_MTV, _ = model(X_MT, before_NS[places_M - steps_back])
        log_Q_MV = F.log_softmax(logits_MTV[:, -1], 1)
        log_ratio_MV = log_P_MV - log_Q_MV
        # Σ p (q/p - 1 + log p/q) is Σ p log p/q, of terms that are not negative: nothing cancels where P is close to Q.
        kl_M = (log_P_MV.exp() * ((-log_ratio_MV).expm1() + log_ratio_MV)).sum(1)
        divergences.append(kl_M.mean().item())
    return {"steps_back": list(REPLACED), "kl": divergences}


def gradient(model: RNNLMScratch, chars_N: Tensor, targets: range, before_NS: Tensor) -> dict[str, list[float]]:
    """Return the targets' mean norm of the gradient of a target's loss with respect to the state k steps back.

    At 0 steps back with respect to what the output layer reads: a recurrence's state, but a part of it with other
    cells. `before_NS`: the state before each character is read.
    """
    places_M = torch.arange(targets.start, targets.stop)
    states = [before_NS[places_M - FARTHEST].requires_grad_()]
    for steps_back in range(FARTHEST, 1, -1):
        _, state_MS = model(chars_N[places_M - steps_back, None], states[-1])
        states.append(state_MS)
    H_1MH, _ = model.rnn(model.inputs(chars_N[places_M - 1, None]), states[-1])
    logits_MV = model.output_layer(H_1MH)[:, 0]
    loss = F.cross_entropy(logits_MV, chars_N[places_M], reduction="sum")  # a row's gradient is its target's
    dH_1MH, *gradients = torch.autograd.grad(loss, [H_1MH, *reversed(states)])
    norms = [float(d.norm(dim=1).mean()) for d in (dH_1MH[0], *gradients)]
    return {"steps_back": list(range(FARTHEST + 1)), "norm": norms}


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each number of time steps, over seeds."""
    measured = [job for job in jobs if job.status == "completed" and job.probes.get("history")]
    groups: Groups = {key[0]: group for key, group in grouped(measured, NUM_STEPS).items()}
    groups = dict(sorted(groups.items()))
    counts = sorted({job.probes["history"]["characters"] for job in measured})
    answer, longer = _answer(groups)
    return Findings(
        number="1 and 2",
        question="Does the model use all past tokens up to the very first one? Which hyperparameter governs that?",
        setting="The book's run with windows of several lengths, `data.num_steps`, and its own 32 among them.",
        columns=["time steps", "runs", "stream, validation", "stream, rest", "characters needed"]
        + [f"KL, {k} back" for k in (1, 4, 8, 16, 32)]
        + [f"gradient, {k} back" for k in (8, 16, 32)],
        rows=[_row(num_steps, group) for num_steps, group in groups.items()],
        figures={
            "context": _context_figure(groups),
            "influence": _influence_figure(groups),
            "gradient": _gradient_figure(groups),
        },
        captions={
            "context": "Perplexity when no more than the last n characters are given, from a zero state. The dot is "
            "where n is the window that the model was trained on.",
            "influence": "What replacing one character does to the prediction: KL divergence, against how many steps "
            "back the character is. 1 is the last one before the target.",
            "gradient": "Norm of the gradient of one target's loss with respect to the state k steps before.",
        },
        answer=answer,
        longer=longer,
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
    """Return a cell as `mean_sd` does, for numbers that are not perplexities: a divergence or a ratio may be 1e-9."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return "–"
    mean = f"{statistics.fmean(finite):{form}}"
    return mean if len(finite) == 1 else f"{mean} ± {statistics.stdev(finite):{form}}"


def _curve(job: Job, part: str, x: str, y: str) -> dict[int, float]:
    """Return what the probe measured against x; summary.json has words for numbers that are not finite."""
    measured = job.probes["history"][part]
    return dict(zip(measured[x], map(float, measured[y]), strict=True))


def _at(job: Job, part: str, x: str, y: str, place: int) -> float:
    return _curve(job, part, x, y).get(place, math.nan)


def _needed(job: Job) -> float:
    """Return the shortest context whose perplexity is as good as the best, in characters."""
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
    """Return the mean over jobs at each place, where there is one."""
    curves = [_curve(job, part, x, y) for job in jobs]
    places = sorted({place for curve in curves for place in curve})
    means = {place: _mean(curve.get(place, math.nan) for curve in curves) for place in places}
    return {place: value for place, value in means.items() if not math.isnan(value)}


def _draw(axes: Axes, groups: Groups, part: str, x: str, y: str) -> dict[int, dict[int, float]]:
    """Draw a line for each group, and a legend; return the lines."""
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


def _context_figure(groups: Groups) -> Figure:
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


def _influence_figure(groups: Groups) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    _draw(axes, groups, "influence", "steps_back", "kl")
    axes.set(xlabel="steps back, characters", ylabel="KL divergence, nats (log scale)", yscale="log")
    return figure


def _gradient_figure(groups: Groups) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    _draw(axes, groups, "gradient", "steps_back", "norm")
    axes.set(xlabel="steps back k, characters", ylabel="mean ‖∂loss/∂H‖ (log scale)", yscale="log")
    return figure


def _answer(groups: Groups) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    needed = {num_steps: by_seed(jobs, _needed) for num_steps, jobs in groups.items()}
    needed = {num_steps: found for num_steps, found in needed.items() if all(map(math.isfinite, found.values()))}
    hard = (
        "While it trains none before its window, which begins with a zero state: `data.num_steps` governs that. When "
        "it reads on, in principle all of them, as a state is a function of every character before."
    )
    if not needed:
        return f"{hard} No run that has ended was measured, so how far the real horizon is cannot be said.", []
    means = {num_steps: statistics.fmean(found.values()) for num_steps, found in needed.items()}
    shown = BOOK if BOOK in needed else max(needed)
    jobs = groups[shown]
    context = _mean_curve(jobs, "context", "length", "perplexity")
    kl = _mean_curve(jobs, "influence", "steps_back", "kl")
    gradient = _mean_curve(jobs, "gradient", "steps_back", "norm")
    answer = (
        f"{hard} In practice few: trained on windows of {shown} characters the model is within {NEAR - 1:.0%} of its "
        f"best perplexity, {min(context.values()):.2f}, once it has been given {span(needed[shown].values())} "
        "characters."
    )
    longer = [
        f"**Context.** After 1 character it is at {context.get(1, math.nan):.2f}, after {max(context)} at "
        f"{context[max(context)]:.2f}."
    ]
    if {1, 8, 32} <= kl.keys():
        longer.append(
            f"**Influence.** Another character in place of the last one changes the prediction by {kl[1]:.2g} nats, 8 "
            f"steps back by {kl[8]:.2g}, 32 steps back by about {kl[32]:.0e}."
        )
    if {0, 8, 32} <= gradient.keys() and gradient[0] > 0:
        vanishes = "it vanishes" if gradient[32] < 0.1 * gradient[0] else "it does not vanish"
        longer.append(
            f"**Gradient.** It is {gradient[8] / gradient[0]:.2g} times as large 8 steps back as at the state that the "
            f"target is predicted from, and {gradient[32] / gradient[0]:.2g} times 32 steps back, a factor of "
            f"{(gradient[32] / gradient[0]) ** (1 / 32):.2f} a step: {vanishes}."
        )
    return answer, [*longer, *_longer_windows(groups, needed, means)]


def _longer_windows(groups: Groups, needed: dict[int, dict[int, float]], means: dict[int, float]) -> Iterable[str]:
    if len(needed) > 1:
        short, long = min(needed), max(needed)
        found = difference(needed[long], needed[short])
        verdict = found.verdict("shortens the real horizon", "lengthens the real horizon")
        verdict = f"has a horizon that {UNDECIDED}" if verdict == UNDECIDED else verdict
        yield (
            f"**Longer windows.** Characters needed: "
            f"{', '.join(f'{value:.1f} with {num_steps}' for num_steps, value in means.items())} time steps. A window "
            f"{long / short:g} times as long {verdict}, from {means[short]:.1f} to {means[long]:.1f} characters, where "
            f"the contexts measured are up to a factor {GRID:g} apart."
        )
    for num_steps in needed:
        context = _mean_curve(groups[num_steps], "context", "length", "perplexity")
        best = min(context, key=lambda length: context[length])
        at_best, at_end = (
            by_seed(groups[num_steps], lambda job, n=length: _at(job, "context", "length", "perplexity", n))  # type: ignore[misc]
            for length in (best, max(context))
        )
        if difference(at_end, at_best).apart and context[max(context)] > NEAR * context[best]:
            yield (
                f"More can even harm: with {num_steps} time steps perplexity is {context[best]:.2f} after {best} "
                f"characters and {context[max(context)]:.2f} after {max(context)}."
            )
    streams = {num_steps: by_seed(groups[num_steps], lambda job: job.stream("val")) for num_steps in needed}
    if best_windows := lowest(streams):
        names = " and ".join(map(str, best_windows))
        level = (
            f"perplexities are those of {names}, which {UNDECIDED}"
            if best_windows[1:]
            else f"perplexity is that of {names}"
        )
        yield f"**On the stream,** where alone windows can be compared, the lowest validation {level}."
