"""An activation that a user may add."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch.nn.functional as F

from timemachine.config import MODEL
from timemachine.rnn import ACTIVATIONS


@contextmanager
def without_slope() -> Iterator[None]:
    """Add `model.activation=gelu`, for which the kernels have no derivative."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ACTIVATIONS, "gelu", F.gelu)
        patch.setitem(MODEL, "activation", ("tanh", "relu", "gelu"))
        yield
