"""Continuing a text: warm-up, then the likeliest character each time, or one drawn from P^alpha.

S samples at once, L characters, V vocabulary, H hidden units.
"""

import math

import torch
from torch import Tensor

from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab


@torch.inference_mode()
def continue_text(
    model: RNNLMScratch,
    vocab: Vocab,
    prefix: str,
    num_preds: int,
    alpha: float | None = None,
    num_samples: int = 1,
    seed: int = 0,
) -> list[str]:
    """The prefix, continued by `num_preds` characters, `num_samples` times.

    `alpha` None takes the arg-max, so that all samples are the same text (`RNNLMScratch.predict`). A number draws each
    character from P(x_t | x_<t)^alpha, normalised: 1 is the model itself, more is sharper. `<unk>` is never emitted. An
    empty prefix starts from a space.
    """
    generator = torch.Generator(device=model.device).manual_seed(seed)
    prefix_1L = torch.tensor([vocab[list(prefix or " ")]], device=model.device)
    logits_1LV, H_1H = model(prefix_1L)
    logits_SV = logits_1LV[:, -1].expand(num_samples, -1)
    H_SH = H_1H.expand(num_samples, -1)
    chosen = []
    for _ in range(num_preds):
        next_S1 = _choose(logits_SV, vocab.unk, alpha, generator)
        chosen.append(next_S1)
        logits_S1V, H_SH = model(next_S1, H_SH)
        logits_SV = logits_S1V[:, -1]
    continuations = torch.cat(chosen, 1).tolist() if chosen else [[]] * num_samples
    return [prefix + "".join(vocab.to_tokens(indices)) for indices in continuations]


def _choose(logits_SV: Tensor, unk: int, alpha: float | None, generator: torch.Generator) -> Tensor:
    logits_SV = logits_SV.index_fill(1, torch.tensor([unk], device=logits_SV.device), -math.inf)
    if alpha is None:
        return logits_SV.argmax(1, keepdim=True)
    # The largest logit is subtracted before the multiplication, so that a large alpha does not overflow.
    sharpened_SV = alpha * (logits_SV - logits_SV.max(1, keepdim=True).values)
    return torch.multinomial(sharpened_SV.softmax(1), 1, generator=generator)
