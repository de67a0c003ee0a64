"""A time step of decoding in numpy: its calls take a third of the time of torch's, which matters for small models.

B samples at a time, V vocabulary, H hidden units. A token takes a look-up and one product of the state with
[W_hh W_hq], which gives the logits and the state's contribution to the next state.
"""

import numpy as np
import torch

from timemachine.decoding import Floats, Indices
from timemachine.kernels.activations import BY_HAND
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab


class NumpyStep:
    """A `decoding.Step` of the book's model. A state is W_hhᵀ h, (H) or (H, B); logits are contiguous along V."""

    def __init__(self, model: RNNLMScratch, vocab: Vocab) -> None:
        rnn = model.rnn
        with torch.no_grad():
            vectors_VD = model.input_vectors()
            inputs_VH = (rnn.W_xh if vectors_VD is None else vectors_VD @ rnn.W_xh) + rnn.b_h
            both = torch.cat([rnn.W_hh, model.W_hq], 1)
            self.inputs_HV, self.bothT, b_q = (x.float().cpu().numpy() for x in (inputs_VH.T, both.T, model.b_q))
        self.both_tensor = torch.from_numpy(self.bothT)
        self.b_q = b_q.copy()
        self.b_q[vocab.unk] = -np.inf  # <unk> stands for unknown characters: there is nothing to print
        self.num_hiddens = rnn.num_hiddens
        self.apply_ = BY_HAND[rnn.activation].apply_to_array_

    def __call__(self, from_state: Floats | None, tokens: int | Indices) -> tuple[Floats, Floats]:
        """Return the next state and the logits."""
        Z = self.inputs_HV[:, tokens] + (np.float32(0) if from_state is None else from_state)
        self.apply_(Z)
        # With several samples torch computes the product: numpy would use all cores, not torch's number of threads.
        product = self.bothT @ Z if Z.ndim == 1 else torch.mm(self.both_tensor, torch.from_numpy(Z)).numpy()
        return product[: self.num_hiddens], (product[self.num_hiddens :].T + self.b_q).T
