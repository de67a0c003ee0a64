"""Dynamic evaluation with a kNN cache: a model that keeps learning from the text that it reads.

Each character is predicted before it is learned, so no prediction uses its own target. Since the model adapts, compare
it with other adapting models, such as PPM.

Dynamic evaluation: Krause, Kahembwe, Murray and Renals, "Dynamic evaluation of neural sequence models", 2018. Their
refinements, steps scaled by each weight's root mean square gradient and a pull towards the initial weights, did not
help here, and neither did other rates for the input or output weights, steps after 16 characters, or more steps on
earlier text. Cache: Grave, Joulin and Usunier, "Improving neural language models with a continuous cache", 2017, but
with states of length 1, and a memory that starts with the training text, as in Khandelwal et al., "Generalization
through memorization: nearest neighbor language models", 2020; keys from the states of several characters did not help.
The constants were chosen on the novel's next 5% and, with a model of the first half of the book's training characters,
on the second half.

N characters, L of them in a block or segment, M in the cache, V vocabulary, H hidden units, K distributions.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.evaluation.scores import WARM_UP, Row, as_trained, score
from timemachine.how_low.ensemble import Ensemble, log_mean_probability
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import num_bytes
from timemachine.run.console import print_text
from timemachine.vocab import Vocab

ADAPT_RATE = 0.012  # learning rate
SEGMENT = 32  # characters per step
BLOCK = 256  # characters per search for neighbours
CACHE_SIZE = 2**18  # characters at most
RECENT = 8192  # last characters of the stream, which form a separate distribution
SHARPNESS = 25.0  # θ of Grave, Joulin and Usunier
SMOOTHING = 0.2  # weight of the model in a cache's distribution, which on its own may contain zeros
EXPONENTS = 0.3, 0.4, 0.2  # initial values: the model, the whole cache, its recent part
EXPONENTS_RATE = 0.001  # learning rate on the sum over 32 characters


def adaptive_nll(model: RNNLMScratch | Ensemble, tokens_N: Tensor, known: range, targets: range, rate: float) -> Tensor:
    """Return the targets' negative log-likelihoods (N,), float64, nats, each after adapting to the text before.

    The text is read as one stream, after a warm-up on the 512 characters before it. After every 32 characters the
    weights take a step of plain gradient descent, with learning rate `rate`, on the mean negative log-likelihood of
    these characters. The prediction is a normalised product of powers of three distributions. The first is the model's.
    The second is over the characters that followed the cached states h', weighted by exp(25 cos(h, h')); these states
    are from the model before adaptation. The third uses only the stream's last 8,192 characters. The last two are
    smoothed with 0.2 of the first. The exponents, from 0 to 1, are learned as well.

    `known`: characters that the cache contains from the start: the training text, or none if another text is read. The
    cache holds the last 262,144 characters of `known` and the stream. The models of an ensemble adapt independently.
    The given model is not changed.
    """
    if isinstance(model, Ensemble):
        return -log_mean_probability([-adaptive_nll(it, tokens_N, known, targets, rate) for it in model.models])
    stream = range(max(0, targets.start - 1 - WARM_UP), targets.stop - 1)  # the inputs
    cached_NV2 = _cache(model, tokens_N, range(known.start - 1, min(known.stop - 1, stream.start)), stream)  # inputs
    model = copy.deepcopy(model)  # its weights change below
    parameters = list(model.parameters())
    state, nlls, exponents_K = None, [], model.W_hq.new_tensor(EXPONENTS)
    for start in range(0, len(stream), SEGMENT):
        inputs = stream[start : start + SEGMENT]
        next_L = tokens_N[inputs.start + 1 : inputs.stop + 1].long()
        H_L1H, state = model.hidden_states(tokens_N[None, inputs.start : inputs.stop].long(), state)
        log_p_LV = model.output_layer(H_L1H)[0].log_softmax(-1)
        gradients = torch.autograd.grad(F.nll_loss(log_p_LV, next_L), parameters)
        with torch.no_grad():
            smoothed_LV2 = torch.lerp(cached_NV2[start : start + SEGMENT], log_p_LV.exp()[..., None], SMOOTHING)
            log_p_LVK = torch.cat([log_p_LV[..., None], smoothed_LV2.log()], -1)
            mixed_LV = (log_p_LVK @ exponents_K).log_softmax(-1)
            nlls.append(F.nll_loss(mixed_LV, next_L, reduction="none"))
            # The derivative of the loss by exponent k is the mean of log p_k under the mixture, minus log p_k(target).
            errors_LV = mixed_LV.exp() - F.one_hot(next_L, model.vocab_size)
            exponents_K = (exponents_K - EXPONENTS_RATE * torch.einsum("lv,lvk->k", errors_LV, log_p_LVK)).clamp(0, 1)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(rate * gradient)
        state = state.detach()  # the weights have changed, so gradients end with the segment
    return torch.cat(nlls)[-len(targets) :].double()


@torch.no_grad()
def _cache(model: RNNLMScratch, tokens_N: Tensor, known: range, stream: range) -> Tensor:
    """Return the distributions of the whole cache and of its recent part after each input of the stream (N, V, 2).

    `known`: inputs that the cache contains from the start. The distribution of an empty cache is uniform.
    """
    empty = [model.W_hq.new_empty(0, size) for size in model.W_hq.shape]  # (0, H) and (0, V), if nothing is known
    cache = [empty, *_read(model, tokens_N, known[-CACHE_SIZE:])]
    states_MH, next_MV = (torch.cat(parts) for parts in zip(*cache, strict=True))
    found: list[Tensor] = []
    for states_LH, next_LV in _read(model, tokens_N, stream):
        length, before = len(states_LH), BLOCK * len(found)
        states_MH, next_MV = torch.cat([states_MH, states_LH]), torch.cat([next_MV, next_LV])
        states_MH, next_MV = states_MH[-CACHE_SIZE - length :], next_MV[-CACHE_SIZE - length :]
        # tril_: only earlier states, since the characters after the others are still to be predicted.
        similar_LM = (states_LH @ states_MH.T).sub_(1).mul_(SHARPNESS).exp_().tril_(len(states_MH) - length - 1)
        recent = min(before, RECENT) + length
        # 1e-30: an empty cache gives the uniform distribution, not 0 / 0.
        followed_LV2 = torch.stack([similar_LM @ next_MV, similar_LM[:, -recent:] @ next_MV[-recent:]], -1) + 1e-30
        found.append(followed_LV2 / followed_LV2.sum(1, keepdim=True))
    return torch.cat(found)


def _read(model: RNNLMScratch, tokens_N: Tensor, inputs: range) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield for each block the states after the inputs (L, H), of length 1, and the next characters, one-hot (L, V)."""
    state = None
    for start in range(inputs.start, inputs.stop, BLOCK):
        stop = min(start + BLOCK, inputs.stop)
        H_L1H, state = model.hidden_states(tokens_N[None, start:stop].long(), state)
        next_LV = F.one_hot(tokens_N[start + 1 : stop + 1].long(), model.vocab_size)
        yield F.normalize(H_L1H[:, 0]), next_LV.to(H_L1H.dtype)


def evaluate_adapting(
    model: RNNLMScratch | Ensemble, vocab: Vocab, summary: dict[str, Any], corpus: Corpus, rate: float
) -> list[Row]:
    """Return a row for each held-out part of a text; on each part the model adapts from the trained weights.

    The cache starts with the training text, or empty if another text is read. Raises SettingError if the perplexity is
    worse than guessing. The vocabulary has at most 256 symbols, as the cache holds V numbers per character.
    """
    corpus, tokens_N, splits = as_trained(summary, corpus, vocab)
    rows = []
    known = splits["train"].targets if "train" in splits else range(0)
    for part, split in splits.items():
        if part != "train":
            nll_N = adaptive_nll(model, tokens_N, known, split.targets, rate)
            if not nll_N.mean().exp() <= len(vocab):
                raise SettingError(f"adapt={rate:g}: the model diverges; try adapt={min(rate / 10, 0.01):g}")
            size = num_bytes(tokens_N, split.targets, vocab)
            rows.append(Row(corpus.name, part, "model, adapting", score(nll_N), size))
    return rows


def print_adapting(rows: list[Row], rate: float) -> None:
    """Print the perplexities of dynamic evaluation."""
    for row in rows:
        print_text(
            f"{row.text}, {row.part}, dynamic evaluation with a kNN cache, rate {rate:g}: "
            f"stream {row.stream}, {row.stream.bits:.3f} bits per character, {row.bits_per_byte:.3f} per byte"
        )
