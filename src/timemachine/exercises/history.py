"""Exercises 1 and 2: Does the model use all past tokens up to the very first one? Which hyperparameter governs that?

Shapes: N tokens of the text, M targets, T time steps, V vocabulary, S numbers of a state. The token just before a
target is 1 step back.
"""

import copy
import math
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from pandas import DataFrame
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import WARM_UP
from timemachine.language_model import RNNLMScratch
from timemachine.study.comparison import estimate
from timemachine.study.drawing import ordered_colours
from timemachine.study.figures import panels

NUM_TARGETS = 5000
DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # steps back, and lengths of a context
CHANGES = [f"history/tv/{steps_back}" for steps_back in DISTANCES]
PERPLEXITIES = [f"history/perplexity/{length}" for length in DISTANCES]
WHOLE = "history/perplexity/all"
NOTICED = 0.01  # total variation that defines the reach
NEAR = 1.01  # ratio to the perplexity after the whole text that defines how many tokens suffice
DRAWN = 9  # distances in the figure

SETTINGS = ("data.num_steps", "data.num_train", "trainer.max_steps")
SETUP = f"""
Windows of several lengths; the batch size is set so that every update reads the same number of tokens (of a letter
model: characters). Excerpts are rotations of the text with different seeds. All numbers are of the last {NUM_TARGETS:,}
tokens, which no run was trained on, read as one stream. Reach: the distance at which replacing a token by another,
drawn from the text, changes the next probabilities by a total variation of 1%, interpolated. Tokens that suffice: if
each run reads that many from a zero state, its perplexity is at most 1% higher. ± is the half-width of the 95%
interval.
"""
CAPTION = (
    "Above: change of the next probabilities by the distance of the replaced token. Below: perplexity by the number of "
    "tokens read from a zero state."
)
FORMATS = {"reach": ".1f"}


@torch.no_grad()
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `tv` by steps back and `perplexity` by length of context, in float64; {} without a test part.

    `tv`: total variation, half of Σ|p - q|, between the next probabilities p and those after a replacement of the
    token this many steps back, q, averaged over targets. Replacements are drawn from the text and are the same for
    every model. `perplexity`: of the targets, if the model reads a context of this length from a zero state, or, for
    `all`, the whole stream.
    """
    stop = len(data.tokens_N)
    first = max(data.splits["test"].targets.start, DISTANCES[-1], stop - NUM_TARGETS)
    if first >= stop:
        return {}
    model, tokens_N = copy.deepcopy(model).cpu().double(), data.tokens_N
    generator = torch.Generator().manual_seed(0)
    begin, state_1S, states, logits = max(0, first - WARM_UP), None, [], []
    for place in range(begin, stop - 1):
        logits_11V, state_1S = model(tokens_N[None, None, place], state_1S)
        states.append(state_1S)
        logits.append(logits_11V[0])
    before_NS = F.pad(torch.cat(states), (0, 0, begin + 1, 0))  # the state before each token
    places_M, logits_MV = torch.arange(first, stop), torch.cat(logits)[first - stop :]
    measured: dict[str, Any] = {"tv": {}, "perplexity": {}}
    for steps_back in DISTANCES:
        X_MT = tokens_N[places_M[:, None] - torch.arange(steps_back, 0, -1)]
        fresh_MV = _last_logits(model, X_MT)
        others_MV = tokens_N.bincount().double().repeat(len(X_MT), 1).scatter(1, X_MT[:, :1], 0)
        X_MT[:, 0] = torch.multinomial(others_MV, 1, generator=generator)[:, 0]
        replaced_MV = _last_logits(model, X_MT, before_NS[places_M - steps_back])
        tv_M = (replaced_MV.softmax(1) - logits_MV.softmax(1)).abs().sum(1) / 2
        measured["tv"][str(steps_back)] = tv_M.mean().item()
        measured["perplexity"][str(steps_back)] = F.cross_entropy(fresh_MV, tokens_N[places_M]).exp().item()
    measured["perplexity"]["all"] = F.cross_entropy(logits_MV, tokens_N[places_M]).exp().item()
    return measured


def _last_logits(model: RNNLMScratch, X_MT: Tensor, state_MS: Tensor | None = None) -> Tensor:
    """Return the logits after the last token of each window (M, V).

    Of 500 windows at a time, and of no other token: all states of 5,000 windows would take gigabytes.
    """
    parts = [slice(start, start + 500) for start in range(0, len(X_MT), 500)]
    states = [None if state_MS is None else state_MS[part] for part in parts]
    last_MH = [model.hidden_states(X_MT[part], state)[0][-1] for part, state in zip(parts, states, strict=True)]
    return model.output_layer(torch.cat(last_MH)[None])[:, 0]


def table(jobs: DataFrame) -> DataFrame:
    """Return the reach, the perplexity and how many tokens suffice, for each training and number of time steps."""
    runs = _runs(jobs)
    by = [runs["training"], runs["time steps"]]
    is_near = runs[PERPLEXITIES].le(NEAR * runs[WHOLE], axis=0).groupby(by, sort=False).all()
    lengths = is_near.set_axis(DISTANCES, axis=1).idxmax(axis=1)
    return DataFrame(
        {
            "reach": runs.groupby(by, sort=False)["reach"].agg(estimate),
            "perplexity": runs.groupby(by, sort=False)[WHOLE].agg(estimate),
            "tokens that suffice": lengths.where(is_near.any(axis=1)),
        }
    )


def figure(jobs: DataFrame) -> Figure:
    """Draw the influence of a token by its distance, and perplexity by length of context; one column per training."""
    trainings = _runs(jobs).groupby("training", sort=False)
    fig, grid = panels(2, len(trainings), height=7, sharex=True, sharey="row")
    for (influence, context), (training, group) in zip(grid.T, trainings, strict=True):
        windows = group.groupby("time steps")
        for number, (window, runs) in enumerate(windows):
            style = {"color": ordered_colours(len(windows))[number], "linestyle": ("--", "-")[number % 2]}
            ratios = runs[PERPLEXITIES].div(runs[WHOLE], axis=0).mean()
            influence.plot(DISTANCES[:DRAWN], 100 * runs[CHANGES].mean()[:DRAWN], label=f"windows of {window}", **style)
            context.plot(DISTANCES[:DRAWN], ratios[:DRAWN], **style)
        for axes, level, text in ((influence, 1, "the reach"), (context, NEAR, "1% above the whole text")):
            axes.axhline(level, color="grey", linewidth=1)
            axes.text(24, level, text, ha="right", va="bottom", fontsize="small", color="dimgrey")
        influence.set(title=training, yscale="log")
        influence.yaxis.set_major_formatter("{x:g}")
        context.set(xlabel="tokens back, or read from a zero state", ylim=(0.98, 1.3), xticks=[1, 4, 8, 12, 16, 24])
    fig.legend(*grid[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=5)
    grid[0][0].set_ylabel("change of the next probabilities, %")
    grid[1][0].set_ylabel("perplexity / that after the whole text")
    return fig


def _runs(jobs: DataFrame) -> DataFrame:
    """Return the measured runs, sorted, with their training, time steps and reach."""
    runs = jobs[jobs[WHOLE].notna() & (jobs["status"] == "completed")].sort_values(
        ["data.num_train", "step", "data.num_steps"]
    )
    texts = ["90% of the text" if pd.isna(count) else f"{count:,.0f} tokens" for count in runs["data.num_train"]]
    trainings = [f"{text}, {updates:,.0f} updates" for text, updates in zip(texts, runs["step"], strict=True)]
    columns: dict[str, Any] = {"training": trainings, "time steps": runs["data.num_steps"], "reach": reaches(runs)}
    return runs.assign(**columns)


def reaches(runs: DataFrame) -> list[float]:
    """Return how many steps back, from 1 to 64, the replacement of a token changes the next probabilities by 1%.

    Interpolates linearly in the logarithm of the change.
    """
    changes = runs[CHANGES].to_numpy(float)
    most = np.maximum.accumulate(changes[:, ::-1], axis=1)[:, ::-1]  # at this distance or farther back
    return [np.interp(-math.log(NOTICED), -np.log(np.maximum(row, 1e-18)), DISTANCES) for row in most]
