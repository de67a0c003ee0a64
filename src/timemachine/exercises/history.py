"""Exercises 1 and 2: how much of the past does the model use, and which hyperparameter governs that?

Measured: what one character does to the next prediction, and what the model needs to have read. All on the last 5,000
characters of the text, whatever was trained on, and in float64.

N characters of the text, M targets, B sequences, T time steps, K distances, V vocabulary, S numbers of a state. Steps
back: the last character before a target is 1 step back.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import BLOCK, WARM_UP
from timemachine.exercises import Findings
from timemachine.exercises.jobs import Job
from timemachine.language_model import RNNLMScratch

NUM_TARGETS = 5000  # characters
DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # steps back, and lengths of a context


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `tv`, the change of the next probabilities by a character so many steps back, and `perplexity` by context.

    `tv`: the total variation, its mean over targets; `blocks`: over each 100 of them. `perplexity`: of the targets
    after so many characters, and after all of the stream. Return nothing if no test part is left.
    """
    tests = data.splits["test"].targets
    targets = range(max(tests.start + DISTANCES[-1], tests.stop - NUM_TARGETS), tests.stop)
    if not targets:
        return {}
    double = copy.deepcopy(model).cpu().double()
    chars_N = data.chars_N.cpu().long()
    states_NS = stream_states(double, chars_N, targets)
    tv_KM = influence(double, chars_N, targets, states_NS)
    blocks = [[block_M.mean().item() for block_M in tv_M.split(BLOCK)] for tv_M in tv_KM]
    return {
        "characters": len(targets),
        "tv": dict(zip(map(str, DISTANCES), tv_KM.mean(1).tolist(), strict=True)),
        "perplexity": context(double, chars_N, targets, states_NS),
        "blocks": dict(zip(map(str, DISTANCES), blocks, strict=True)),
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
def influence(model: RNNLMScratch, chars_N: Tensor, targets: range, states_NS: Tensor) -> Tensor:
    """Return the total variation (K, M) between the probabilities of a target and those after one replaced character.

    The other character is drawn from the text's letters but the one it replaces, the same for every model. Total
    variation is half of Σ|p - q|: the largest change of the probability of any set of characters.
    """
    places_M = torch.arange(targets.start, targets.stop)
    counts_V = chars_N.bincount().double()
    generator = torch.Generator().manual_seed(0)
    logits_M1V, _ = model(chars_N[places_M - 1, None], states_NS[places_M - 1])
    P_MV = logits_M1V[:, 0].softmax(1)
    changes = []
    for steps_back in DISTANCES:
        X_MT = chars_N[places_M[:, None] - torch.arange(steps_back, 0, -1)]
        others_MV = counts_V.repeat(len(X_MT), 1).scatter(1, X_MT[:, :1], 0)
        X_MT[:, 0] = torch.multinomial(others_MV, 1, generator=generator)[:, 0]
        logits_MTV, _ = model(X_MT, states_NS[places_M - steps_back])
        changes.append((logits_MTV[:, -1].softmax(1) - P_MV).abs().sum(1) / 2)
    return torch.stack(changes)


@torch.no_grad()
def context(model: RNNLMScratch, chars_N: Tensor, targets: range, states_NS: Tensor) -> dict[str, float]:
    """Return the perplexity of the targets, each after no more than the c characters before it, read from a zero state.

    The last is that after `all` of the stream.
    """
    places_M = torch.arange(targets.start, targets.stop)
    found = {}
    for length in (*DISTANCES, "all"):
        X_MT = chars_N[places_M[:, None] - torch.arange(1 if length == "all" else length, 0, -1)]
        logits_MTV, _ = model(X_MT, states_NS[places_M - 1] if length == "all" else None)
        found[str(length)] = F.cross_entropy(logits_MTV[:, -1], chars_N[places_M]).exp().item()
    return found


def findings(jobs: list[Job]) -> Findings:
    """Report nothing yet."""
    return Findings(number="1 and 2", columns=["runs"], rows=[[str(len(jobs))]])
