"""Simulate a GPU on a machine without one: its tensors have no NumPy array until they are moved to the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn
from unittest.mock import patch

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

ROOT = torch.device("cpu")  # the very object that the simulated strategy returns


class OnGPU(Tensor):
    """A tensor that fails as CUDA's do. Results of operations are of this class, too."""

    def numpy(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    __array__ = numpy

    def cpu(self, *_: Any) -> Tensor:
        return self.as_subclass(Tensor)

    def __deepcopy__(self, memo: Any) -> Tensor:
        return self.clone()


@contextmanager
def on_a_gpu() -> Iterator[list[Tensor]]:
    """Let tensors of whole numbers that are moved to the Trainer's device be an `OnGPU`; yield these."""
    moved: list[Tensor] = []
    to = Tensor.to

    def to_device(self: Tensor, *arguments: Any, **named: Any) -> Tensor:
        result = to(self, *arguments, **named)
        if not any(argument is ROOT for argument in arguments) or result.is_floating_point():
            return result
        moved.append(result.as_subclass(OnGPU))
        return moved[-1]

    with patch.object(Tensor, "to", to_device), patch.object(SingleDeviceStrategy, "root_device", ROOT):
        yield moved
