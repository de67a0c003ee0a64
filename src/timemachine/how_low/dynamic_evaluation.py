"""Dynamic evaluation with a kNN cache: a model that goes on learning from the text that it reads.

Each character is predicted before it is learnt from, so the perplexity is as honest as a fixed model's; but it is that
of a model that adapts, to be compared with others that do, such as PPM.

Dynamic evaluation: Krause, Kahembwe, Murray and Renals, "Dynamic evaluation of neural sequence models", 2018. Of their
refinements, steps scaled by each weight's root mean square gradient and a pull towards the first weights, neither paid
here, nor did other rates for the weights of the input or the output, steps after 16 characters, or more steps on what
was read before. Cache: Grave, Joulin and Usunier, "Improving neural language models with a continuous cache", 2017, but
with states of length 1, and a memory that begins with the training text, as in Khandelwal et al., "Generalization
through memorization: nearest neighbor language models", 2020; the states of several characters as one did not pay. The
constants were chosen on the novel's next 5 % and, by a model of the first half of the book's training characters, on
the second half.

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
from timemachine.how_low.ensemble import Ensemble, mean_probability
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import num_bytes
from timemachine.run.console import print_text
from timemachine.vocab import Vocab

RATE = 0.012  # of the steps
SEGMENT = 32  # characters between two steps
BLOCK = 256  # characters whose neighbours are searched at once
CACHE_SIZE = 2**18  # characters, at most
RECENT = 8192  # of them, the last of the stream, once more by themselves
SHARPNESS = 25.0  # θ of Grave, Joulin and Usunier
SMOOTHING = 0.2  # the model's share in a cache's distribution, which may give a character probability 0
EXPONENTS = 0.3, 0.4, 0.2  # to begin with: of the model, of the whole cache, of its recent part
EXPONENTS_RATE = 0.001  # of steps on the sum of 32 characters


def adaptive_nll(model: RNNLMScratch | Ensemble, tokens_N: Tensor, known: range, targets: range, rate: float) -> Tensor:
    """Return the targets' negative log-likelihoods (N,), float64, nats, under the model as it is when it reaches each.

    The text is read as one stream, warmed on the 512 characters before. After every 32 characters the weights take a
    step of plain gradient descent with the given rate on their mean negative log-likelihood. The prediction is a
    product of powers, normalised, of three distributions: the model's; that of the characters that followed the cached
    states h', weighted by exp(25 cos(h, h')), where each h is of the model as it was trained; and the same of the
    stream's last 8,192 characters alone. The last two are smoothed with 0.2 of the model's. The exponents, from 0 to
    1, learn as well.

    `known`: characters that are in the cache from the beginning, those of the training text; empty for another text.
    The cache holds the last 262,144 of them and the stream. The models of an ensemble learn each by itself. The model
    given is not changed.
    """
    if isinstance(model, Ensemble):
        return -mean_probability([-adaptive_nll(member, tokens_N, known, targets, rate) for member in model.models])
    stream = range(max(0, targets.start - 1 - WARM_UP), targets.stop - 1)  # the inputs
    cached_NV2 = _cache(model, tokens_N, range(known.start - 1, min(known.stop - 1, stream.start)), stream)
    model = copy.deepcopy(model)
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
            errors_LV = mixed_LV.exp() - F.one_hot(next_L, model.vocab_size)
            exponents_K = (exponents_K - EXPONENTS_RATE * torch.einsum("lv,lvk->k", errors_LV, log_p_LVK)).clamp(0, 1)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.sub_(rate * gradient)
        state = state.detach()
    return torch.cat(nlls)[-len(targets) :].double()


@torch.no_grad()
def _cache(model: RNNLMScratch, tokens_N: Tensor, known: range, stream: range) -> Tensor:
    """Return the distributions of the whole cache and of its recent part after each input of the stream (N, V, 2).

    `known`: inputs that are in the cache beforehand. Uniform where the cache is empty.
    """
    empty = [model.W_hq.new_empty(0, size) for size in model.W_hq.shape]
    cache = [empty, *_read(model, tokens_N, known[-CACHE_SIZE:])]
    states_MH, next_MV = (torch.cat(parts) for parts in zip(*cache, strict=True))
    found: list[Tensor] = []
    for states_LH, next_LV in _read(model, tokens_N, stream):
        length, before = len(states_LH), BLOCK * len(found)
        states_MH, next_MV = torch.cat([states_MH, states_LH]), torch.cat([next_MV, next_LV])
        states_MH, next_MV = states_MH[-CACHE_SIZE - length :], next_MV[-CACHE_SIZE - length :]
        similar_LM = (states_LH @ states_MH.T).sub_(1).mul_(SHARPNESS).exp_().tril_(len(states_MH) - length - 1)
        recent = min(before, RECENT) + length
        followed_LV2 = torch.stack([similar_LM @ next_MV, similar_LM[:, -recent:] @ next_MV[-recent:]], -1) + 1e-30
        found.append(followed_LV2 / followed_LV2.sum(1, keepdim=True))
    return torch.cat(found)


def _read(model: RNNLMScratch, tokens_N: Tensor, inputs: range) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield block by block the state after each input (L, H), of length 1, and the next character, one-hot (L, V)."""
    state = None
    for start in range(inputs.start, inputs.stop, BLOCK):
        stop = min(start + BLOCK, inputs.stop)
        H_L1H, state = model.hidden_states(tokens_N[None, start:stop].long(), state)
        next_LV = F.one_hot(tokens_N[start + 1 : stop + 1].long(), model.vocab_size)
        yield F.normalize(H_L1H[:, 0]), next_LV.to(H_L1H.dtype)


def evaluate_adapting(
    model: RNNLMScratch | Ensemble, vocab: Vocab, summary: dict[str, Any], corpus: Corpus, rate: float
) -> list[Row]:
    """Return a row for each held-out part of a text; each part begins with the model as it was trained.

    The cache begins with the training text if that comes before; for another text it is empty. Raises SettingError if
    the perplexity ends above that of guessing. The vocabulary has 256 symbols at most: the cache has a number for each
    of them for each of its characters.
    """
    corpus, tokens_N, splits = as_trained(summary, corpus, vocab)
    rows = []
    known = splits["train"].targets if "train" in splits else range(0)
    for part, split in splits.items():
        if part != "train":
            nll_N = adaptive_nll(model, tokens_N, known, split.targets, rate)
            if not nll_N.mean().exp() <= len(vocab):
                raise SettingError(f"adapt={rate:g}: the model diverges; type for example adapt={rate / 10:g}")
            size = num_bytes(tokens_N, split.targets, vocab)
            rows.append(Row(corpus.name, part, "model, adapting", score(nll_N), size))
    return rows


def print_adapting(rows: list[Row], rate: float) -> None:
    """Print the perplexities under dynamic evaluation, apart from those of the fixed model."""
    for row in rows:
        print_text(
            f"{row.text}, {row.part}, dynamic evaluation with a kNN cache, rate {rate:g}: "
            f"stream {row.stream}, {row.stream.bits:.3f} bits a character, {row.bits_per_byte:.3f} a byte"
        )
