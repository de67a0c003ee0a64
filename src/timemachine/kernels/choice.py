"""Which kernel computes the loss and its gradients: what `model.backward` names, and what its default, auto, means.

By sizes alone, so that the same command gives the same numbers; and without torch, whose import takes seconds.
"""

from functools import cache

from timemachine.config import require
from timemachine.kernels import build

# The sizes up to which `make bench` found the compiled kernel faster than bptt, on AVX2 and AVX-512.
WIDEST, LARGEST_VOCABULARY, ACTIVATIONS = 512, 256, ("tanh", "relu")
BUILD = "python -m timemachine.kernels.build"


def is_fastest(num_hiddens: int, vocab_size: int, activation: str) -> bool:
    """Return whether the compiled kernel is faster than bptt for a network of these sizes, on the CPU."""
    return num_hiddens <= WIDEST and vocab_size <= LARGEST_VOCABULARY and activation in ACTIVATIONS


def kernel_of(backward: str, num_hiddens: int, vocab_size: int, activation: str, is_on_cpu: bool = True) -> str:
    """Return fused or bptt: what `model.backward`, auto or one of them, comes to for such a network of the book's cell.

    `is_on_cpu`: and in 32 or 64 bits. It is bptt instead of fused if that is not compiled, as of an older model.
    """
    if backward == "auto":
        backward = "fused" if is_fastest(num_hiddens, vocab_size, activation) else "bptt"
    can_be_fused = is_on_cpu and activation in ACTIVATIONS and is_compiled()
    return "bptt" if backward == "fused" and not can_be_fused else backward


@cache
def is_compiled() -> bool:
    """Return whether the library is there, and built from the source beside it."""
    return build.is_current()


def refuse_fused(activation: str, is_on_cpu: bool = True) -> None:
    """Raise SettingError unless the fused kernel is compiled and computes such a network of the book's cell."""
    knows, rule = activation in ACTIVATIONS and is_on_cpu, "computes tanh or relu in 32 or 64 bits on the CPU"
    require(knows, "model.backward", "fused", rule, "bptt")
    rule = f"is not compiled; type {BUILD} where there is a C++ compiler"
    require(is_compiled(), "model.backward", "fused", rule, "bptt")


def what_is_missed() -> str:
    """Return a line that says what the library would gain and how to get it."""
    return f"the fused kernel is not compiled: with a C++ compiler, {BUILD} makes training about 3 times as fast"
