"""How much of the past a model uses: what it needs, what one character does, how far back a gradient comes.

All on the same target characters whatever `data.num_steps` is up to 64: the first 2,000 of the validation part, but for
the margin at its border. All in float64, where a small effect does not drown in rounding.

M targets, B sequences, T time steps, V vocabulary, H hidden units. Steps back: the last character before a target is 1
step back; the state that it leads to, from which the target is predicted, is 0 steps back.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.evaluation import WARM_UP, score
from timemachine.language_model import RNNLMScratch
from timemachine.probes.stream import MARGIN

NUM_TARGETS = 2000  # characters
LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)  # characters of context
REPLACED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)  # steps back
FARTHEST = MARGIN  # steps back that a gradient is followed: every target has so many characters before it


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Perplexity against context, influence against distance, gradient against distance; lists of equal length.

    Nothing where the validation part is no longer than the margin.
    """
    val = data.splits["val"].starts
    targets = range(val.start + MARGIN, min(val.start + MARGIN + NUM_TARGETS, val.stop))
    if not targets:
        return {}
    double = copy.deepcopy(model).cpu().double()
    double.rnn.backward_by = "autograd"  # there the last state is also the one that the logits come from
    chars_N = data.chars_N.cpu().long()
    before_NH = stream_states(double, chars_N, targets)
    return {
        "characters": len(targets),
        "context": context(double, chars_N, targets),
        "influence": influence(double, chars_N, targets, before_NH),
        "gradient": gradient(double, chars_N, targets, before_NH),
    }


@torch.no_grad()
def context(model: RNNLMScratch, chars_N: Tensor, targets: range) -> dict[str, list[float]]:
    """Perplexity of the targets, each after no more than the c characters before it, read from a zero state.

    One pass serves all lengths c: a sequence begins at each character, and after c steps those that began c before
    a target are at their target.
    """
    lengths = [length for length in LENGTHS if length <= targets.start]
    begin = targets.start - lengths[-1]  # of the first sequence
    Y_M, ones_M = chars_N[targets.start : targets.stop], torch.ones(len(targets), dtype=torch.float64)
    H_BH, scores = None, []
    for length in range(1, lengths[-1] + 1):
        X_B1 = chars_N[begin + length - 1 : targets.stop - 1, None]
        logits_B1V, H_BH = model(X_B1, H_BH if H_BH is None else H_BH[: len(X_B1)])  # the last one is past the targets
        if length in lengths:
            scores.append(score(F.cross_entropy(logits_B1V[-len(targets) :, 0], Y_M, reduction="none"), ones_M))
    return {
        "length": list(lengths),
        "perplexity": [found.perplexity for found in scores],
        "standard_error": [found.standard_error for found in scores],
    }


@torch.no_grad()
def stream_states(model: RNNLMScratch, chars_N: Tensor, targets: range) -> Tensor:
    """The state before each character is read, in one stream from 512 characters before the first target (N, H).

    Rows of characters that the stream does not read are zero, and so is its first.
    """
    begin = max(0, targets.start - WARM_UP)
    before_NH = torch.zeros(targets.stop, model.rnn.num_hiddens, dtype=torch.float64)
    H_1H = before_NH[begin, None]
    for place in range(begin, targets.stop - 1):
        _, H_1H = model(chars_N[None, None, place], H_1H)
        before_NH[place + 1] = H_1H[0]
    return before_NH


@torch.no_grad()
def influence(model: RNNLMScratch, chars_N: Tensor, targets: range, before_NH: Tensor) -> dict[str, list[float]]:
    """Mean KL divergence (nats) from the prediction of each target to that after one character was replaced.

    The other one is drawn from the text, the same for every model; it may be the same character. `before_NH`: the
    state before each character is read.
    """
    places_M = torch.arange(targets.start, targets.stop)
    draws = torch.randint(len(chars_N), (len(REPLACED), len(targets)), generator=torch.Generator().manual_seed(0))
    log_P_MV = F.log_softmax(model.output_layer(before_NH[None, places_M])[:, 0], 1)
    divergences = []
    for steps_back, draw_M in zip(REPLACED, draws, strict=True):
        X_MT = chars_N[places_M[:, None] - torch.arange(steps_back, 0, -1)]
        X_MT[:, 0] = chars_N[draw_M]
        logits_MTV, _ = model(X_MT, before_NH[places_M - steps_back])
        log_Q_MV = F.log_softmax(logits_MTV[:, -1], 1)
        log_ratio_MV = log_P_MV - log_Q_MV
        # Σ p (q/p - 1 + log p/q) is Σ p log p/q, of terms that are not negative: nothing cancels where P is close to Q.
        kl_M = (log_P_MV.exp() * ((-log_ratio_MV).expm1() + log_ratio_MV)).sum(1)
        divergences.append(kl_M.mean().item())
    return {"steps_back": list(REPLACED), "kl": divergences}


def gradient(model: RNNLMScratch, chars_N: Tensor, targets: range, before_NH: Tensor) -> dict[str, list[float]]:
    """Mean over the targets of the norm of ∂loss/∂H, the loss that of one target, H the state so many steps back.

    `before_NH`: the state before each character is read.
    """
    places_M = torch.arange(targets.start, targets.stop)
    states = [before_NH[places_M - FARTHEST].requires_grad_()]
    for steps_back in range(FARTHEST, 0, -1):
        logits_M1V, H_MH = model(chars_N[places_M - steps_back, None], states[-1])
        states.append(H_MH)
    loss = F.cross_entropy(logits_M1V[:, 0], chars_N[places_M], reduction="sum")  # a row's gradient is its target's
    gradients = torch.autograd.grad(loss, states)
    norms = [float(dH_MH.norm(dim=1).mean()) for dH_MH in reversed(gradients)]
    return {"steps_back": list(range(FARTHEST + 1)), "norm": norms}
