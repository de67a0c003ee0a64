"""Continue a text with a model: a time step of any model, for `sampling.decode`.

B samples at a time, S size of a state, V vocabulary.
"""

from typing import Any

import numpy as np
import torch

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.perplexity import in_evaluation_mode
from timemachine.sampling import EVERYTHING, Floats, Indices, Step, Truncation, decode
from timemachine.vocab import Vocab


def known_prefix(text: str, data: TimeMachine) -> str:
    """Return a prefix, or as many characters of the validation text if the vocabulary lacks one of its characters."""
    first = data.splits["val"].starts.start
    return data.corpus.characters[first : first + len(text)] if data.vocab.unknown(text) else text


@in_evaluation_mode
def continue_text(
    model: RNNLMScratch,
    vocab: Vocab,
    prefix: str,
    num_preds: int,
    alpha: float | None = None,
    num_samples: int = 1,
    seed: int = 0,
    truncation: Truncation = EVERYTHING,
) -> list[str]:
    """Return the prefix continued by `num_preds` tokens, `num_samples` times; see `sampling.decode`.

    Greedy decoding of a prefix, with `alpha` None, is `RNNLMScratch.predict`.
    """
    return decode(make_decoder(model, vocab), vocab, prefix, num_preds, alpha, num_samples, seed, truncation)


def make_decoder(model: Any, vocab: Vocab) -> Step:
    """Return a time step of the model that never predicts `<unk>`: its `decoding_step` if it has one."""
    faster: Step | None = model.decoding_step(vocab) if hasattr(model, "decoding_step") else None
    return faster or TorchDecoder(model, vocab)


class TorchDecoder:
    """One time step of a model with any cell."""

    def __init__(self, model: RNNLMScratch, vocab: Vocab) -> None:
        self.model, self.unk = model, vocab.unk

    @torch.no_grad()
    def __call__(self, state: Floats | None, tokens: int | Indices) -> tuple[Floats, Floats]:
        """Return the next state and the logits, in float32."""
        X_B1 = torch.as_tensor(tokens, device=self.model.device).reshape(-1, 1)
        state_BS = None if state is None else torch.from_numpy(state.T).reshape(len(X_B1), -1).to(self.model.W_hq)
        logits_B1V, state_BS = self.model(X_B1, state_BS)
        logits_B1V[..., self.unk] = -torch.inf
        shape = (-1, *np.shape(tokens))
        state, logits = (x.T.reshape(shape).float().cpu().numpy() for x in (state_BS, logits_B1V[:, 0]))
        return state, logits
