"""An activation that a user may add."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import pytest
import torch.nn.functional as F

from timemachine.config import Activation as Name
from timemachine.rnn import ACTIVATIONS

_Added = Enum("_Added", ["gelu"])


@contextmanager
def without_slope() -> Iterator[None]:
    """Add `model.activation=gelu`, for which the kernels have no derivative."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ACTIVATIONS, "gelu", F.gelu)
        patch.setitem(Name._member_map_, "gelu", _Added["gelu"])
        yield
