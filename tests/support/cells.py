"""Two activations that a user might add."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import pytest
import torch.nn.functional as F

from timemachine.config import Activation as Name
from timemachine.rnn import ACTIVATIONS

_Added = Enum("_Added", ["gelu", "silu"])
ADDED = {"gelu": F.gelu, "silu": F.silu}


@contextmanager
def without_slope() -> Iterator[None]:
    """Add `model.activation=gelu` and `silu`, for which the kernels have no derivative."""
    with pytest.MonkeyPatch.context() as patch:
        for name, row in ADDED.items():
            patch.setitem(ACTIVATIONS, name, row)
            patch.setitem(Name._member_map_, name, _Added[name])
        yield
