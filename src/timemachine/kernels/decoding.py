"""A time step of decoding in numpy: its calls take a third of the time of torch's, which matters for small models.

B samples at a time, V vocabulary, D inputs of the RNN, H hidden units. A token takes a look-up and one product of the
state with [W_hh W_hq], which gives the logits and the state's contribution to the next state. Does not import torch
for an export, since this would take most of the time of generate.py.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from timemachine.sampling import Floats, Indices
from timemachine.vocab import Vocab

if TYPE_CHECKING:
    from torch import Tensor

    from timemachine.language_model import RNNLMScratch

Array = NDArray[np.floating[Any]]


class RNNWeights(NamedTuple):
    """Weights of the book's model."""

    W_xh: Array
    W_hh: Array
    b_h: Array
    W_hq: Array
    b_q: Array


class NumpyDecoder:
    """A `sampling.Step` of the book's model. A state is W_hhᵀ h, (H) or (H, B); logits are contiguous along V.

    `vectors_VD`: input vectors of the tokens, None if they are one-hot. `apply_`: φ in place.
    """

    def __init__(
        self, weights: RNNWeights, vectors_VD: Array | None, apply_: Callable[[Array], object], vocab: Vocab
    ) -> None:
        W_xh, W_hh, b_h, W_hq, b_q = weights
        inputs_VH = (W_xh if vectors_VD is None else vectors_VD @ W_xh) + b_h
        self.inputs_HV = inputs_VH.T.astype(np.float32)
        # [W_hh W_hq]ᵀ as one matrix: one product per token instead of two.
        self.bothT = np.concatenate([W_hh, W_hq], 1).T.astype(np.float32)
        self.b_q = b_q.astype(np.float32)
        self.b_q[vocab.unk] = -np.inf  # <unk> stands for unknown characters: there is nothing to print
        self.num_hiddens, self.apply_ = len(b_h), apply_

    def __call__(self, from_state: Floats | None, tokens: int | Indices) -> tuple[Floats, Floats]:
        """Return the next state and the logits."""
        Z = self.inputs_HV[:, tokens] + (np.float32(0) if from_state is None else from_state)
        self.apply_(Z)
        product = self.bothT @ Z
        return product[: self.num_hiddens], (product[self.num_hiddens :].T + self.b_q).T


def numpy_decoder(model: "RNNLMScratch", vocab: Vocab) -> NumpyDecoder:
    """Return the time step of a model in memory, whose hooks may compute its weights."""
    import torch

    from timemachine.kernels.activations import BY_HAND

    def as_array(x: "Tensor") -> Array:
        array: Array = x.detach().cpu().to(torch.promote_types(x.dtype, torch.float32)).numpy()
        return array

    rnn, vectors_VD = model.rnn, model.input_vectors()
    weights = RNNWeights(*map(as_array, (rnn.W_xh, rnn.W_hh, rnn.b_h, model.W_hq, model.b_q)))
    vectors = None if vectors_VD is None else as_array(vectors_VD)
    return NumpyDecoder(weights, vectors, BY_HAND[rnn.activation].apply_to_array_, vocab)
