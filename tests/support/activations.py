"""GELU and SiLU as someone would add them: a row with φ alone, and a name."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum

import pytest
import torch.nn.functional as F

from timemachine.config import Activation as Name
from timemachine.kernels.activations import ACTIVATIONS, Activation

_Added = Enum("_Added", ["gelu", "silu"])
ADDED = {"gelu": Activation(F.gelu), "silu": Activation(F.silu)}


@contextmanager
def without_slope() -> Iterator[None]:
    """Make them known: `model.activation=gelu` and `silu`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, row in ADDED.items():
            patch.setitem(ACTIVATIONS, name, row)
            patch.setitem(Name._member_map_, name, _Added[name])
        yield
