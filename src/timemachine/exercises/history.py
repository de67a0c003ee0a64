"""Exercises 1 and 2: how much of the past does the model use, and which hyperparameter governs that?

Measured: what one character does to the next prediction, and how much the model needs to have read. All on the last
5,000 characters of the text, whatever was trained on, and in float64.

N characters of the text, M targets, T time steps, V vocabulary, S numbers of a state. Steps back: the last character
before a target is 1 step back.
"""

import copy
import itertools
import math
import statistics
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from numpy.typing import NDArray

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import BLOCK, WARM_UP
from timemachine.exercises import Findings
from timemachine.exercises.comparison import Estimate, compare, estimate, holm
from timemachine.exercises.drawing import lines, ordered_colours, panels
from timemachine.exercises.jobs import Cell, Job, grouped, markdown, rows, span
from timemachine.language_model import RNNLMScratch

NUM_TARGETS = 5000  # characters
DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # steps back, and lengths of a context


@torch.no_grad()
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `tv`, by steps back, and `perplexity`, by context in characters; nothing if there is no test part.

    `tv`: how much the next probabilities change if the character so many steps back is another one, drawn from the
    text, the same for every model. It is the total variation, half of Σ|p - q|, its mean over targets; `blocks` has the
    means over each 100 of them. `perplexity`: after no more than so many characters, read from a zero state, and after
    `all` of the stream.
    """
    stop = len(data.chars_N)
    first = max(data.splits["test"].targets.start, DISTANCES[-1], stop - NUM_TARGETS)
    if first >= stop:
        return {}
    model, chars_N = copy.deepcopy(model).cpu().double(), data.chars_N.cpu().long()
    generator = torch.Generator().manual_seed(0)
    begin, state_1S, states, logits = max(0, first - WARM_UP), None, [], []
    for place in range(begin, stop - 1):
        logits_11V, state_1S = model(chars_N[None, None, place], state_1S)
        states.append(state_1S)
        logits.append(logits_11V[0])
    before_NS = F.pad(torch.cat(states), (0, 0, begin + 1, 0))  # the state before each character
    places_M, logits_MV = torch.arange(first, stop), torch.cat(logits)[first - stop :]
    found: dict[str, Any] = {"characters": stop - first, "tv": {}, "perplexity": {}, "blocks": {}}
    for steps_back in DISTANCES:
        X_MT = chars_N[places_M[:, None] - torch.arange(steps_back, 0, -1)]
        fresh_MV = model(X_MT)[0][:, -1]
        others_MV = chars_N.bincount().double().repeat(len(X_MT), 1).scatter(1, X_MT[:, :1], 0)
        X_MT[:, 0] = torch.multinomial(others_MV, 1, generator=generator)[:, 0]
        replaced_MV = model(X_MT, before_NS[places_M - steps_back])[0][:, -1]
        tv_M = (replaced_MV.softmax(1) - logits_MV.softmax(1)).abs().sum(1) / 2
        found["tv"][str(steps_back)] = tv_M.mean().item()
        found["blocks"][str(steps_back)] = [block_M.mean().item() for block_M in tv_M.split(BLOCK)]
        found["perplexity"][str(steps_back)] = F.cross_entropy(fresh_MV, chars_N[places_M]).exp().item()
    found["perplexity"]["all"] = F.cross_entropy(logits_MV, chars_N[places_M]).exp().item()
    return found


# The report

WINDOW, TEXT, UPDATES = "data.num_steps", "data.num_train", "trainer.max_steps"
BOOK = 32  # time steps
NOTICED = 0.01  # the change of the next probabilities where the reach ends
NEAR = 1.01  # a perplexity is as good as the lowest if it is not above this multiple of it

Reaches = dict[str, dict[tuple[int, int], float]]  # how it was trained, in words -> (seed, window) -> characters


def findings(jobs: list[Job]) -> Findings:
    """Report the reach of each window, a column for each text and number of updates."""
    measured = [job for job in jobs if job.status == "completed" and job.probes.get("history")]
    measured.sort(key=lambda job: [job.settings[name] or math.inf for name in (TEXT, UPDATES, WINDOW)])
    reaches: Reaches = {}
    for job in measured:
        reaches.setdefault(_training(job), {})[job.settings["seed"], job.settings[WINDOW]] = reach(job)
    differences = _differences(reaches)
    claimed = holm(differences)
    evidence: dict[str, Cell] = {
        "perplexity": lambda group: f"{estimate(_contexts(job)['all'] for job in group):.2f}",
        "needed": lambda group: span(map(needed, group), "g"),
    }
    for steps_back in (1, 2, 4, 8, 16):
        evidence[f"{steps_back} back"] = partial(_change, steps_back)
    return Findings(
        number="1 and 2",
        question="Does the model use all past tokens up to the very first one? Which hyperparameter governs that?",
        answer=_answer(reaches, differences),
        setting="The book's model with windows of several lengths, on the book's part of the novel and on most of it. "
        "Every update has as many characters: the longer the windows, the fewer of them in a batch.",
        columns=["time steps", *reaches],
        rows=[
            [str(window), *(f"{_mean(found, window):.1f}" for found in reaches.values())]
            for window in sorted({job.settings[WINDOW] for job in measured})
        ],
        notes=[
            f"Reach, in characters: how far back another character changes the next probabilities by {NOTICED:.0%}, as "
            "a total variation; between two distances that were measured on a straight line of its logarithm. The "
            "other character is drawn from the text. All is measured on the novel's last characters, on which no run "
            "was trained, read as one stream. Intervals are over seeds.",
            markdown(
                ["what changes", "reach, characters", "verdict"],
                [[of, f"{it:+.1f}", it.verdict(claimed[of], "shorter", "longer")] for of, it in differences.items()],
            ),
            "Perplexity is that after all of the stream. Needed: the shortest context, read from a zero state, after "
            f"which it is within {NEAR - 1:.0%} of the lowest. Then the change of the next probabilities, in percent, "
            f"by a character so many steps back; its intervals are over places, blocks of {BLOCK} characters.",
            markdown(
                ["trained on", "time steps", *evidence],
                rows(measured, {"trained on": _training, "time steps": WINDOW}, evidence),
            ),
        ],
        figures={"influence": _figure(measured)},
        captions={"influence": "How much the next probabilities change, by how far back a character is another one."},
        arrays={
            "/".join(map(str, key)): np.float32(blocks(group))
            for key, group in grouped(measured, TEXT, UPDATES, WINDOW).items()
        },
    )


def _training(job: Job) -> str:
    text = "90 % of the text" if job.settings[TEXT] is None else f"{job.settings[TEXT]:,} characters"
    return f"{text}, {job.settings[UPDATES]:,} updates"


def reach(job: Job) -> float:
    """Return how far back a character changes the next probabilities by 1 %: from 1 to 64."""
    changes = [float(job.probes["history"]["tv"][str(steps_back)]) for steps_back in DISTANCES]
    most = np.maximum.accumulate(changes[::-1])[::-1]  # so far back or farther
    return float(np.interp(-math.log(NOTICED), -np.log(np.maximum(most, 1e-18)), DISTANCES))


def _contexts(job: Job) -> dict[str, float]:
    return {context: float(perplexity) for context, perplexity in job.probes["history"]["perplexity"].items()}


def needed(job: Job) -> float:
    """Return the shortest context after which the perplexity is as good as the lowest, in characters."""
    found = _contexts(job)
    return next((k for k in DISTANCES if found[str(k)] <= NEAR * min(found.values())), math.nan)


def blocks(jobs: list[Job]) -> NDArray[Any]:
    """Return the changes of the next probabilities by distance and block of places (K, blocks), means over seeds."""
    found = [[job.probes["history"]["blocks"][str(steps_back)] for steps_back in DISTANCES] for job in jobs]
    return np.asarray(np.mean(found, axis=0))


def _change(steps_back: int, jobs: list[Job]) -> str:
    return f"{estimate(100 * blocks(jobs)[DISTANCES.index(steps_back)]):.2f}"


def _mean(reaches: dict[tuple[int, int], float], window: int) -> Estimate:
    return estimate(found for (_, of), found in reaches.items() if of == window)


def _differences(reaches: Reaches) -> dict[str, Estimate]:
    """Return by how many characters the reach changes with the window, with the text and with the updates."""
    found = {}
    for name, ours in reaches.items():
        slopes = []
        for seed in {seed for seed, _ in ours}:
            windows = {math.log2(window): value for (of, window), value in ours.items() if of == seed}
            if len(windows) > 1:
                slopes.append(statistics.linear_regression([*windows], [*windows.values()]).slope)
        found[f"each doubling of the window, {name}"] = estimate(slopes)
    for one, other in itertools.combinations(reaches, 2):
        if set(one.split(", ")) & set(other.split(", ")):
            found[f"from {one} to {other}"] = compare(reaches[other], reaches[one])
    return found


def _answer(reaches: Reaches, differences: dict[str, Estimate]) -> str:
    principle = "In principle all, since its state is a function of every character that it has read"
    governs = "How far back training looks is `data.num_steps`, the length of a window"
    if not reaches:
        return f"{principle}. {governs}."
    name, found = next(iter(reaches.items()))
    windows = {window for _, window in found}
    window = BOOK if BOOK in windows else max(windows)
    return (
        f"{principle}; in practice few: trained on {name}, with windows of {window}, it changes the next probabilities "
        f"by less than {NOTICED:.0%} for another character more than {_mean(found, window):.1f} back. {governs}, and "
        f"each doubling of it changes that reach by {next(iter(differences.values())):+.1f} characters."
    )


def _figure(measured: list[Job]) -> Figure:
    """Draw total variation against distance, a panel for each text: the runs with the fewest updates."""
    texts = list(grouped(measured, TEXT).values())
    figure, grid = panels(columns=max(len(texts), 1), width=9, sharey=True)
    for axes, group in zip(grid[0], texts, strict=False):
        axes.set_yscale("log")
        drawn = grouped((job for job in group if _training(job) == _training(group[0])), WINDOW)
        curves = {
            f"window of {window}": dict(zip(map(float, DISTANCES[:9]), blocks(ours).mean(1), strict=False))
            for (window,), ours in drawn.items()
        }
        lines(axes, curves, colours=ordered_colours(len(curves)))
        axes.set(
            title=f"trained on {_training(group[0])}",
            xlabel="how far back a character is replaced",
            xticks=[1, 4, 8, 12, 16, 24],
        )
        axes.yaxis.set_major_formatter(lambda change, _: f"{100 * change:g} %")
    grid[0][0].set_ylabel("change of the next probabilities")
    return figure
