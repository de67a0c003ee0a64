"""Dynamic evaluation: a model that goes on learning from the text that it reads, and looks up what it has read.

Each character is predicted before it is learnt from, so the perplexity is as honest as a fixed model's; but it is that
of another thing, a model that adapts, and compares with others that do, such as PPM.

Learning: Krause, Kahembwe, Murray and Renals, "Dynamic evaluation of neural sequence models", 2018. Of their
refinements, steps scaled by each weight's root mean square gradient and a pull towards the first weights, neither paid
here, nor did other rates for the weights of the input or the output, or steps after 16 characters. Looking up: Grave,
Joulin and Usunier, "Improving neural language models with a continuous cache", 2017, with states of length 1; a share
that grows with the similarity did not pay. The constants were chosen on the novel's next 5 %.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from timemachine.corpus import Corpus
from timemachine.errors import SettingError
from timemachine.evaluation.ensemble import Ensemble, mean_probability
from timemachine.evaluation.scores import WARM_UP, Score, score, splits_of
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

SEGMENT = 32  # characters between two steps
REACH = 8192  # characters that are remembered, a multiple of SEGMENT
SHARE = 0.06  # of what followed similar states, in what the model says
SHARPNESS = 25.0  # θ of Grave et al.


def adaptive_nll(model: RNNLMScratch | Ensemble, chars_N: Tensor, targets: range, rate: float) -> Tensor:
    """Return the targets' negative log-likelihoods (N,), float64, nats, under the model as it is when it reaches each.

    It is read as one stream, warmed on the 512 characters before. After every 32 characters the weights take a step of
    plain gradient descent with the given rate on their mean negative log-likelihood, and the states are remembered: of
    what is said of a character, 0.06 is what followed remembered states h', weighted by exp(25 cos(h, h')). The models
    of an ensemble learn each by itself. The model given is not changed.
    """
    if isinstance(model, Ensemble):
        return -mean_probability([-adaptive_nll(member, chars_N, targets, rate) for member in model.models])
    model = copy.deepcopy(model)
    weights = list(model.parameters())
    state, nlls = None, []
    states_MH, next_MV = (model.W_hq.new_zeros(REACH, size) for size in model.W_hq.shape)  # what is remembered, a ring
    for number, start in enumerate(range(max(0, targets.start - 1 - WARM_UP), targets.stop - 1, SEGMENT)):
        stop = min(start + SEGMENT, targets.stop - 1)
        H_L1H, state = model.rnn(model.inputs(chars_N[None, start:stop].long()), state)
        log_p_LV = model.output_layer(H_L1H)[0].log_softmax(-1)
        next_LV = F.one_hot(chars_N[start + 1 : stop + 1].long(), model.vocab_size).to(log_p_LV.dtype)
        nll_L = -(log_p_LV * next_LV).sum(1)
        gradients = torch.autograd.grad(nll_L.mean(), weights)
        with torch.no_grad():
            states_LH = F.normalize(H_L1H[:, 0])
            if known := min(number * SEGMENT, REACH):
                looked_up_LV = (SHARPNESS * states_LH @ states_MH[:known].T).softmax(1) @ next_MV[:known]
                nll_L = -torch.lerp(nll_L.neg().exp(), (looked_up_LV * next_LV).sum(1), SHARE).log()
            nlls.append(nll_L.detach())
            place = number * SEGMENT % REACH
            states_MH[place : place + len(states_LH)], next_MV[place : place + len(states_LH)] = states_LH, next_LV
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(rate * gradient)
        state = state.detach()
    return torch.cat(nlls)[-len(targets) :].double()


def evaluate_adapting(
    model: RNNLMScratch | Ensemble, vocab: Vocab, summary: dict[str, Any], corpus: Corpus, rate: float
) -> dict[str, Score]:
    """Return the score of each held-out part of a text; each part begins with the model as it was trained.

    Raises SettingError if learning at this rate ends worse than guessing.
    """
    chars_N = vocab.encode(corpus.characters)
    scores = {}
    for part, split in splits_of(summary, corpus).items():
        if part != "train":
            nll_N = adaptive_nll(model, chars_N, split.targets, rate)
            if not nll_N.mean().exp() <= len(vocab):
                raise SettingError(f"adapt={rate:g}: the model diverges; type for example adapt={rate / 10:g}")
            scores[part] = score(nll_N, torch.ones_like(nll_N))
    return scores
