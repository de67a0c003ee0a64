"""Exercises 1 and 2: Does the model use all past tokens up to the very first one? Which hyperparameter governs that?

The probe measures how much a single past character changes the next probabilities, and the perplexity by length of
context, both on the last 5,000 characters of the text and in float64.

Shapes: N characters of the text, M targets, T time steps, V vocabulary, S numbers of a state. The character just before
a target is 1 step back.
"""

import copy
import itertools
import math
import statistics
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import BLOCK, WARM_UP
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import UNDECIDED, Estimate, estimate, verdicts
from timemachine.exercises.drawing import ordered_colours, panels
from timemachine.exercises.groups import completed, grouped, markdown, missing, reads_tokens, span, unique, unit
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import num_bytes
from timemachine.run.jobs import Job

TITLE_OF_TOKENS = (
    "Next edition, exercise 1: Does the model use tokens before its window? Which hyperparameter bounds its history?"
)
NUM_TARGETS = 5000  # characters
DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # steps back, and lengths of a context


@torch.no_grad()
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `tv` and `blocks` by steps back, and `perplexity` by length of context; {} without a test part.

    `tv`: total variation, half of Σ|p - q|, between the next probabilities p and those after a replacement of the
    character this many steps back, q, averaged over targets. `blocks`: the same, averaged over each 100 targets.
    Replacements are drawn from the text and are the same for every model. `perplexity`: of the targets, if the model
    reads a context of this length from a zero state, or, for `all`, the whole stream.
    """
    stop = len(data.tokens_N)
    first = max(data.splits["test"].targets.start, DISTANCES[-1], stop - NUM_TARGETS)
    if first >= stop:
        return {}
    model, tokens_N = copy.deepcopy(model).cpu().double(), data.tokens_N.cpu().long()
    generator = torch.Generator().manual_seed(0)
    begin, state_1S, states, logits = max(0, first - WARM_UP), None, [], []
    for place in range(begin, stop - 1):
        logits_11V, state_1S = model(tokens_N[None, None, place], state_1S)
        states.append(state_1S)
        logits.append(logits_11V[0])
    before_NS = F.pad(torch.cat(states), (0, 0, begin + 1, 0))  # the state before each character
    places_M, logits_MV = torch.arange(first, stop), torch.cat(logits)[first - stop :]
    size = num_bytes(data.tokens_N, range(first, stop), data.vocab)
    found: dict[str, Any] = {"characters": stop - first, "bytes": size, "tv": {}, "perplexity": {}, "blocks": {}}
    for steps_back in DISTANCES:
        X_MT = tokens_N[places_M[:, None] - torch.arange(steps_back, 0, -1)]
        fresh_MV = _last_logits(model, X_MT)
        others_MV = tokens_N.bincount().double().repeat(len(X_MT), 1).scatter(1, X_MT[:, :1], 0)
        X_MT[:, 0] = torch.multinomial(others_MV, 1, generator=generator)[:, 0]
        replaced_MV = _last_logits(model, X_MT, before_NS[places_M - steps_back])
        tv_M = (replaced_MV.softmax(1) - logits_MV.softmax(1)).abs().sum(1) / 2
        found["tv"][str(steps_back)] = tv_M.mean().item()
        found["blocks"][str(steps_back)] = [block_M.mean().item() for block_M in torch.split(tv_M, BLOCK)]
        found["perplexity"][str(steps_back)] = F.cross_entropy(fresh_MV, tokens_N[places_M]).exp().item()
    found["perplexity"]["all"] = F.cross_entropy(logits_MV, tokens_N[places_M]).exp().item()
    return found


def _last_logits(model: RNNLMScratch, X_MT: Tensor, state_MS: Tensor | None = None) -> Tensor:
    """Return the logits after the last character of each window (M, V).

    Logits of all characters would not fit in memory.
    """
    H_TMH, _ = model.hidden_states(X_MT, state_MS)
    return model.output_layer(H_TMH[-1:])[:, 0]


# The report

WINDOW, TEXT, UPDATES = "data.num_steps", "data.num_train", "trainer.max_steps"
BOOK = 32  # time steps
NOTICED = 0.01  # total variation that defines the reach
NEAR = 1.01  # perplexity, as a multiple of that after reading the whole text, that defines how many characters suffice

Reaches = dict[str, dict[tuple[int, int], float]]  # description of the training -> (seed, window) -> characters


def findings(jobs: list[Job]) -> Findings:
    """Report the reach by window, one column per training text and number of updates."""
    measured = [job for job in completed(jobs) if job.probes.get("history")]
    measured.sort(key=lambda job: [job.settings[name] or math.inf for name in (TEXT, WINDOW)])
    reaches: Reaches = {
        name: {
            key: reach(job)
            for key, job in unique(group, lambda job: (job.settings["seed"], job.settings[WINDOW])).items()
        }
        for (name,), group in grouped(measured, _training).items()
    }
    doublings = {f"a doubling of the window, {name}": _per_doubling(found) for name, found in reaches.items()}
    between_trainings = {
        f"from {one} to {other}": _between(reaches[one], reaches[other])
        for one, other in itertools.combinations(reaches, 2)
    }
    verdict_of = verdicts(doublings | between_trainings, "shorter", "longer", "+.2f")
    is_clear = all(verdict_of[change][1] != UNDECIDED for change in doublings)
    symbol = unit(jobs)  # "character" or "token"
    return Findings(
        answer=_answer(jobs, measured, reaches, is_clear),
        setting="The book's model with windows of several lengths. The batch size is set so that every update reads "
        f"the same number of {symbol}s.",
        columns=["time steps", *reaches],
        rows=[
            [str(window), *(f"{_mean(found, window):.1f}" for found in reaches.values())]
            for window in sorted({job.settings[WINDOW] for job in measured})
        ],
        notes=[
            f"Reach: the distance in {symbol}s at which replacing a {symbol} by another one, drawn from the text, "
            "changes the next probabilities by a total variation of 1%. It is interpolated between the measured "
            f"distances, linearly in the logarithm of the change. Changes are measured on the last {symbol}s of the "
            "text, which no run was trained on, read as one stream. Each excerpt is a rotation of the text with a "
            "different seed. Intervals are over excerpts; texts and numbers of updates are compared at equal excerpts, "
            "averaged over the windows.",
            markdown(
                ["change", f"reach, {symbol}s", "verdict"],
                [[change, *verdict] for change, verdict in verdict_of.items()],
            ),
            f"{'Perplexity and bits per byte' if reads_tokens(jobs) else 'Perplexity'} of the same {symbol}s, read as "
            f"one stream, and in brackets how many {symbol}s suffice: if each run reads this number of {symbol}s from "
            f"a zero state, its perplexity is at most 1% higher (measured: {', '.join(map(str, DISTANCES))}):",
            markdown(
                ["time steps", *reaches],
                [
                    [str(window)]
                    + [f"{_perplexity(ours)} ({_enough(ours)})" for ours in grouped(group, _training).values()]
                    for (window,), group in sorted(grouped(measured, WINDOW).items())
                ],
            ),
        ],
        figures={"influence": _figure(measured)},
        arrays={
            "/".join(map(str, key)): np.float32(blocks(group))
            for key, group in grouped(measured, TEXT, UPDATES, WINDOW).items()
        },
    )


def _training(job: Job) -> str:
    text = "90% of the text" if job.settings[TEXT] is None else f"{job.settings[TEXT]:,} {unit([job])}s"
    return f"{text}, {job.settings[UPDATES]:,} updates"


def reach(job: Job) -> float:
    """Return how many steps back, from 1 to 64, the replacement of a character changes the next probabilities by 1%."""
    changes = [float(job.probes["history"]["tv"][str(steps_back)]) for steps_back in DISTANCES]
    most = np.maximum.accumulate(changes[::-1])[::-1]  # at this distance or farther back
    return float(np.interp(-math.log(NOTICED), -np.log(np.maximum(most, 1e-18)), DISTANCES))


def blocks(jobs: list[Job]) -> NDArray[Any]:
    """Return the change of the next probabilities by distance and block of targets (K, blocks), averaged over seeds."""
    found = [[job.probes["history"]["blocks"][str(steps_back)] for steps_back in DISTANCES] for job in jobs]
    return np.asarray(np.mean(found, axis=0))


def _perplexity(jobs: list[Job]) -> str:
    found = [job.probes["history"] for job in jobs]
    mean = f"{estimate(run['perplexity']['all'] for run in found)}"
    if not reads_tokens(jobs):
        return mean
    bits = (math.log2(run["perplexity"]["all"]) * run["characters"] / run["bytes"] for run in found)
    return f"{mean}, {estimate(bits):.3f}"


def _enough(jobs: list[Job]) -> int:
    """Return the fewest characters after which, from a zero state, all runs are within 1% of reading everything."""
    found = [job.probes["history"]["perplexity"] for job in jobs]
    enough = (k for k in DISTANCES if all(run[str(k)] <= NEAR * run["all"] for run in found))
    return next(enough, DISTANCES[-1])


def _mean(found: dict[tuple[int, int], float], window: int) -> Estimate:
    return estimate(characters for (_, trained_on), characters in found.items() if trained_on == window)


def _per_doubling(found: dict[tuple[int, int], float]) -> Estimate:
    """Return the change of the reach per doubling of the window, in characters: a least-squares slope per seed."""
    slopes = []
    for seed in {seed for seed, _ in found}:
        ours = {math.log2(window): characters for (other, window), characters in found.items() if other == seed}
        slopes.append(statistics.linear_regression([*ours], [*ours.values()]).slope if len(ours) > 1 else math.nan)
    return estimate(slopes)


def _between(one: dict[tuple[int, int], float], other: dict[tuple[int, int], float]) -> Estimate:
    """Return the difference of two reaches in characters: averaged over windows for each seed, then over seeds."""
    by_seed: dict[int, list[float]] = {}
    for seed, window in one.keys() & other.keys():
        by_seed.setdefault(seed, []).append(other[seed, window] - one[seed, window])
    return estimate(map(statistics.fmean, by_seed.values()))


def _answer(jobs: list[Job], measured: list[Job], reaches: Reaches, is_clear: bool) -> str:
    book = [job for job in measured if job.settings[WINDOW] == BOOK and _training(job) == next(iter(reaches))]
    windows = sorted({job.settings[WINDOW] for job in measured})
    needed = {f"run with {WINDOW}={BOOK}": book, f"several values of {WINDOW}": len(windows) > 1}
    if line := missing(jobs, needed):
        return line
    longer = (100 * (_mean(found, windows[-1]).mean / _mean(found, windows[0]).mean - 1) for found in reaches.values())
    effect, doubt = "lengthens the memory, but slowly", ""
    if not is_clear:
        effect, doubt = "may lengthen the memory", ", not significantly"
    how = " through its state, but" if reads_tokens(jobs) else ""
    return (
        f"In principle all,{how} in practice few: a model that reads only the last {_enough(book)} {unit(jobs)}s "
        "is at most 1% worse than one that reads everything. Training on longer windows (`num_steps`) "
        f"{effect}: windows {windows[-1] // windows[0]} times as long extend it by "
        f"{span(longer, '.0f')}% on average{doubt}."
    )


def _figure(measured: list[Job]) -> Picture:
    """Draw the influence of a character by its distance, and perplexity by length of context; one column per text."""
    texts = list(grouped(measured, TEXT).values())
    figure, grid = panels(2, max(len(texts), 1), width=9, height=7, sharex=True, sharey="row")
    for (influence, context), group in zip(grid.T, texts, strict=False):
        influence.set_yscale("log")
        drawn = grouped(group, WINDOW)
        for number, ((window,), ours) in enumerate(drawn.items()):
            style = {"color": ordered_colours(len(drawn))[number], "linestyle": ("--", "-")[number % 2]}
            influence.plot(DISTANCES[:9], blocks(ours).mean(1)[:9], label=f"window of {window}", **style)
            context.plot(DISTANCES[:9], [_relative(ours, k) for k in DISTANCES[:9]], **style)
        influence.axhline(NOTICED, color="grey", linewidth=1)
        influence.text(24, NOTICED, "1%: the reach", ha="right", va="bottom", fontsize="small", color="dimgrey")
        influence.set(title=_training(group[0]))
        influence.yaxis.set_major_formatter(
            lambda change, _: f"{np.format_float_positional(100 * change, precision=8, trim='-')}%"
        )
        context.set(xlabel=f"{unit(group)}s back, or read from a zero state", ylim=(0.98, 1.3))
        context.axhline(NEAR, color="grey", linewidth=1)
        context.set_xticks([1, 4, 8, 12, 16, 24])
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    grid[0][0].set_ylabel("change of the next probabilities")
    grid[1][0].set_ylabel("perplexity / that after the whole text")
    return figure, (
        f"Above: change of the next probabilities by the distance of the replaced {unit(measured)}. Below: perplexity "
        f"by the number of {unit(measured)}s read from a zero state."
    )


def _relative(jobs: list[Job], k: int) -> float:
    """Return the perplexity after k characters, divided by that after the whole text, averaged over runs."""
    found = [job.probes["history"]["perplexity"] for job in jobs]
    return statistics.fmean(run[str(k)] / run["all"] for run in found)
