"""TaughtTimeMachine: a text, and more text in its style that the mixture of n-grams generates.

A network overfits a small text long before it has learned everything in it that helps to predict new text. The mixture,
trained on the same characters, generates many more in their style, together with the distribution that each character
was drawn from: soft targets, in contexts that the text lacks (knowledge distillation: Hinton, Vinyals and Dean, 2015;
on text that the teacher generates: Kim and Rush, "Sequence-level knowledge distillation", 2016).

N characters, B streams of L characters, S symbols of the mixture, V vocabulary.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from timemachine.config import TAUGHT, check
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.regularized.mixture import MAX_CONTEXT, Mixture
from timemachine.regularized.symbols import Symbols, check_size
from timemachine.vocab import Vocab

MAX_STREAMS = 400  # texts generated in parallel
MIN_LENGTH = 1000  # characters per stream, if enough are requested


class TaughtTimeMachine(TimeMachine):
    """`TimeMachine` whose training text is followed by text from the mixture of n-grams, for `RegularizedRNNLM`.

    `teacher`: the length of the generated text, as a multiple of the training text; 0 is the training text alone.
    `data`: the arguments of `TimeMachine`. The splits contain the real text only. Raises SettingError for an invalid
    number, and if there is a teacher and the vocabulary has more than 256 symbols.
    """

    def __init__(self, *, teacher: float = 10.0, **data: Any) -> None:
        super().__init__(**data)
        check(self.hparams, TAUGHT, "data.")
        self.teacher = teacher
        if teacher:
            check_size(self.vocab, f"data.teacher={teacher:g}", "data.teacher=0")

    def train_dataloader(self) -> Any:
        """Return the training batches of the model. Raise SettingError if it does not read consecutive windows."""
        if self.teacher and not getattr(getattr(self.trainer, "lightning_module", None), "carry_state", False):
            reason = "needs consecutive windows; use model=regularized model.carry_state=true, or data.teacher=0"
            raise SettingError(f"data.teacher={self.teacher:g}: {reason}")
        return super().train_dataloader()

    def taught_text(self) -> tuple[Tensor, Tensor]:
        """Return the training characters followed by the generated ones (N,), and a target distribution of each (N, V).

        The training text keeps its own characters as targets; only the generated text has soft ones.
        """
        tokens_N = self.tokens_N[: self.splits["train"].targets.stop]
        train = self.corpus.characters[: len(tokens_N)]
        generated_N, soft_NV = generate_text(train, round(self.teacher * len(tokens_N)), self.vocab, self.seed)
        target_NV = torch.cat([F.one_hot(tokens_N.long(), len(self.vocab)), soft_NV])
        return torch.cat([tokens_N, generated_N]), target_NV


def generate_text(train: str, num_chars: int, vocab: Vocab, seed: int) -> tuple[Tensor, Tensor]:
    """Generate a text (N,), uint8, that continues the training text from random places; return it and the distributions
    (N, V), float32, that its characters were drawn from. The text may have any symbol of the vocabulary, even `<unk>`.

    `num_chars`: upper bound of N, which is rounded down to fill all streams. The same seed gives the same text on the
    same machine. On another machine, different rounding may change a character and then the rest of its stream.
    """
    symbols = Symbols.of(vocab)
    mixture, generator = Mixture(symbols), np.random.default_rng(seed)
    mixture.learn(symbols.encode(train))
    streams = min(MAX_STREAMS, max(num_chars // MIN_LENGTH, 1))
    length = num_chars // streams
    starts = generator.integers(len(train), size=streams).tolist()
    texts = [symbols.encode(train[max(0, start - MAX_CONTEXT) : start]) for start in starts]
    index_S = torch.tensor(vocab[symbols.tokens])  # from the mixture's symbols to the vocabulary's indices
    index_BL, p_BLV = torch.empty(streams, length, dtype=torch.uint8), torch.zeros(streams, length, len(vocab))
    for place in range(length):
        p_BS = mixture.next_probabilities(texts)
        below_BS = p_BS.cumsum(1) < generator.random((streams, 1), np.float32)
        symbol_B = below_BS.sum(1).clip(max=len(symbols) - 1)  # the sum of p may be rounded to less than 1
        texts = [text[1 - MAX_CONTEXT :] + bytes([s]) for text, s in zip(texts, symbol_B.tolist(), strict=True)]
        index_BL[:, place] = index_S[torch.from_numpy(symbol_B)]
        p_BLV[:, place].index_add_(1, index_S, torch.from_numpy(p_BS).float())
    return index_BL.flatten(), p_BLV.flatten(0, 1)
