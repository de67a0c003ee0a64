"""A second text to learn from, which the mixture of n-grams writes, alone or with networks.

A network learns a small text by heart long before it has learnt all that the text says about the next one. The mixture,
taught by the same characters, writes many more in its manner, and says of each place which characters could
have stood there: targets that are soft, in places that nobody has seen (knowledge distillation: Hinton, Vinyals and
Dean, 2015; on what the teacher generates: Kim and Rush, "Sequence-level knowledge distillation", 2016).

N characters, L of each of B streams, T that networks read at once, S symbols of the mixture, V vocabulary.
"""

import numpy as np
import torch
from torch import Tensor

from timemachine.errors import SettingError
from timemachine.evaluation.ensemble import Ensemble
from timemachine.evaluation.mixture import LOOKED_AT, Mixture, Singles
from timemachine.evaluation.ngrams import SYMBOLS
from timemachine.vocab import Vocab

STREAMS = 400  # texts that are written side by side, at most
LEAST = 1000  # characters of each, where that many are asked for
SHARE = 0.25  # of the networks in the probability of a character; on the novel's next 5 % 0.2 to 0.4 are alike


def written(
    train: bytes, num_chars: int, vocab: Vocab, seed: int, networks: Ensemble | None = None
) -> tuple[Tensor, Tensor]:
    """Return a text (N,), uint8, that goes on from places of the training text, and of each character the distribution
    that it was drawn from (N, V), float32.

    `num_chars`: N, at most; what does not fill the streams is left out. `networks`: they write with the mixture. The
    same seed writes the same text on the same machine: another one's arithmetic may draw another character somewhere,
    and then all that follow it in a stream. Raises SettingError if a network has diverged.
    """
    mixture, generator = Mixture(), np.random.default_rng(seed)
    mixture.read(train, range(len(train)), learn=True)
    streams = min(STREAMS, max(num_chars // LEAST, 1))
    length = num_chars // streams
    starts = generator.integers(len(train), size=streams).tolist()
    texts = [train[max(0, start - LOOKED_AT) : start] for start in starts]
    place_S = torch.tensor([vocab[chr(symbol)] for symbol in SYMBOLS])
    code_BL, p_BLS = np.empty((streams, length), np.int64), np.empty((streams, length, len(SYMBOLS)), np.float32)
    X_BT, states = torch.tensor([vocab[list(text.rjust(LOOKED_AT).decode("ascii"))] for text in texts]), None
    for place in range(length):
        p_BS = mixture.after(texts)
        if networks is not None:
            with torch.inference_mode():
                log_p_BTV, states = networks(X_BT, states)
            theirs_BS: Singles = log_p_BTV[:, -1, place_S].softmax(-1).numpy()
            if not np.isfinite(theirs_BS).all():
                rule = "a network diverged on this text; type training.teacher_networks=0"
                raise SettingError(f"training.teacher_networks={len(networks.models)}: {rule}")
            p_BS = (1 - SHARE) * p_BS + SHARE * theirs_BS
        below_BS = p_BS.cumsum(1) < generator.random((streams, 1), np.float32)
        code_B = below_BS.sum(1).clip(max=len(SYMBOLS) - 1)
        texts = [text[1 - LOOKED_AT :] + SYMBOLS[c : c + 1] for text, c in zip(texts, code_B.tolist(), strict=True)]
        X_BT, code_BL[:, place], p_BLS[:, place] = place_S[torch.from_numpy(code_B)][:, None], code_B, p_BS
    p_NV = torch.zeros(code_BL.size, len(vocab)).index_add_(1, place_S, torch.from_numpy(p_BLS).flatten(0, 1))
    return place_S[torch.from_numpy(code_BL).flatten()].to(torch.uint8), p_NV
