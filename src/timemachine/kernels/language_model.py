"""FusedRNNLM: a faster RNNLMScratch with the same results, which train.py trains and load_run returns.

T time steps, B batch, H hidden units, S size of a state.
"""

from typing import Any

import torch
from torch import Tensor, nn

from timemachine import kernels
from timemachine.cells import StackedRNNScratch
from timemachine.config import require
from timemachine.datamodule import Batch
from timemachine.kernels import fused
from timemachine.kernels.activations import BY_HAND
from timemachine.kernels.bptt import recurrence
from timemachine.kernels.cells import GATES, fused_cell, has_parameters, layers_of, recurrent_weights
from timemachine.kernels.decoding import numpy_decoder
from timemachine.language_model import RNNLMScratch
from timemachine.rnn import RNNScratch
from timemachine.sampling import Step
from timemachine.vocab import Vocab


class FusedRNNLM(RNNLMScratch):
    """`RNNLMScratch` whose loss comes from the fused kernel and whose hidden states, for the RNN, come from `bptt`.

    `backward`: auto uses the fastest code. The kernels read the weights and call neither methods nor forward hooks of
    the model and its cell: if one of these methods is replaced, the loop of `RNNLMScratch` runs instead, but hooks are
    not called. Raises SettingError for a `backward` that does not support the cell or the activation.
    """

    backwards = ("auto", "fused", "bptt", "autograd")
    replaced: list[str] | None = None  # `replaced_methods` during a fit, which asks for them once

    def __init__(
        self, vocab_size: int, hiddens: int = 32, sigma: float = 0.01, lr: float = 1.0, **network: Any
    ) -> None:
        super().__init__(vocab_size, hiddens, sigma, lr, **network)
        asked, cell, activation = (self.hparams[name] for name in ("backward", "cell", "activation"))
        is_supported = {"bptt": self._has_bptt(), "fused": fused_cell(self.rnn) is not None}.get(asked, True)
        with_activation = f" model.activation={activation}" if cell in ("rnn", "deep_rnn") else ""
        rule = f"not supported with model.cell={cell}{with_activation}"
        require(is_supported, "model.backward", asked, rule, "auto")

    def kernel(self, with_states: bool = False) -> str:
        """Return the code that computes the loss and its gradients on the weights' current device.

        fused: both in one C++ call, if compiled; no hidden states (`with_states`). bptt: the recurrence differentiated
        by hand, the rest by PyTorch, for `RNNScratch`. autograd: the methods of `RNNLMScratch`. It is used for other
        cells and activations; under autocast, since the kernels do not support its precision; under torch.compile; if
        a hook computes a weight, as in pruning; and if a method is replaced that the kernels do not call.
        """
        # Asked in each step, not once: a device or an autocast context may change between two calls.
        asked, (hiddens, vocab_size) = self.hparams["backward"], self.W_hq.shape
        are_parameters = has_parameters(self.rnn) and type(self.W_hq) is type(self.b_q) is nn.Parameter
        if asked == "autograd" or not are_parameters or torch.compiler.is_compiling() or self._replaced():
            return "autograd"
        if torch.is_autocast_enabled(self.W_hq.device.type):
            return "autograd"
        wants_fused = asked == "fused" or (asked == "auto" and kernels.is_fastest(hiddens, vocab_size))
        can_be_fused = fused_cell(self.rnn) and fused.supports(self.W_hq) and kernels.is_compiled()
        if wants_fused and can_be_fused and not with_states:
            return "fused"
        return "bptt" if self._has_bptt() else "autograd"

    def _has_bptt(self) -> bool:
        return type(self.rnn) is RNNScratch and self.rnn.activation in BY_HAND

    def lacks_kernel(self) -> bool:
        """Return whether compiling the fused kernel would make the training faster."""
        is_wanted = self.hparams["backward"] == "auto" and kernels.is_fastest(self.hparams["hiddens"], self.vocab_size)
        can_be_fused = fused_cell(self.rnn) and fused.supports(self.W_hq) and not replaced_methods(self)
        return is_wanted and bool(can_be_fused) and not kernels.is_compiled()

    def on_fit_start(self) -> None:
        """Let the C library keep the memory that a step frees. Raise SettingError for a precision without a kernel."""
        super().on_fit_start()
        asked, precision = self.hparams["backward"], str(self.trainer.precision)
        is_supported = asked in ("auto", "autograd") or "mixed" not in precision
        require(is_supported, "model.backward", asked, f"not supported with trainer.precision={precision}", "auto")
        kernels.keep_freed_memory()
        self.replaced = replaced_methods(self)

    def on_fit_end(self) -> None:
        """Look for replaced methods again in each call."""
        super().on_fit_end()
        self.replaced = None

    def _replaced(self) -> list[str]:
        return replaced_methods(self) if self.replaced is None else self.replaced

    def on_train_start(self) -> None:
        """Note the kernel, which depends on the device and the precision."""
        super().on_train_start()
        with self.trainer.precision_plugin.forward_context():
            self.trained_with = self.kernel()

    def hidden_states(self, X_BT: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return hidden states (T, B, H) and the state after the last step, from indices (B, T) and a state."""
        if self.kernel(with_states=True) == "autograd":
            return super().hidden_states(X_BT, state_BS)
        # One product per symbol instead of one per window and step.
        rnn, vectors_VD = self.rnn, self.input_vectors()
        W_xh = rnn.W_xh if vectors_VD is None else vectors_VD @ rnn.W_xh  # rows, which an index looks up
        return recurrence(X_BT.T, W_xh, rnn.W_hh, rnn.b_h, state_BS, rnn.activation)

    def mean_nll(self, batch: Batch, num_targets: float | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean of `nll(batch)`, and `nll(batch)` without gradients.

        Raises SettingError in training with `backward="fused"` if that kernel cannot run.
        """
        X_BT, Y_BT = batch
        if self.kernel() == "fused":
            weights = fused.Weights(*recurrent_weights(self.rnn, self.input_vectors()), self.W_hq, self.b_q)
            mean, nll_TB = fused.loss(X_BT.T, weights, Y_BT.T, str(fused_cell(self.rnn)), num_targets)
            return mean, nll_TB.T
        if self.hparams["backward"] == "fused" and torch.is_grad_enabled():
            require(fused.supports(self.W_hq), "model.backward", "fused", "supports 32 or 64 bits on the CPU", "auto")
            instead = f"auto, or {kernels.BUILD} with a C++ compiler"
            require(kernels.is_compiled(), "model.backward", "fused", "is not compiled", instead)
            replaced = ", ".join(replaced_methods(self))
            require(not replaced, "model.backward", "fused", f"would not call {replaced} of this class", "auto")
        return super().mean_nll(batch, num_targets)

    def decoding_step(self, vocab: Vocab) -> Step | None:
        """Return a time step in NumPy, faster for small models; None if it would compute something else."""
        is_by_hand = self._has_bptt() and not replaced_methods(self)
        return numpy_decoder(self, vocab) if is_by_hand else None


METHODS = "one_hot", "inputs", "hidden_states", "output_layer", "forward", "loss", "nll"  # which kernels do not call
# Where these methods are defined: compared by name, since an assignment may come before the import of this module.
LESSON = RNNLMScratch.__module__
ORIGINAL = {name: {(LESSON, f"RNNLMScratch.{name}"), (__name__, f"FusedRNNLM.{name}")} for name in METHODS}
OF_CELLS = {cell: (cell.__module__, f"{cell.__qualname__}.forward") for cell in (*GATES, StackedRNNScratch)}


def replaced_methods(model: Any) -> list[str]:
    """Return the methods that compute something else than the lesson's: of a subclass, or assigned to a class or model.

    Assigning to a class is the book's way, `d2l.add_to_class`. With several processes Lightning assigns a model its own
    `forward`, which is the same function.
    """
    cells = {model.rnn, *layers_of(model.rnn)}  # a cell without layers is its only layer
    replaced = [
        name
        for name, places in ORIGINAL.items()
        if _place(getattr(RNNLMScratch, name)) not in places or _place(getattr(model, name)) not in places
    ]
    return replaced + ["rnn" for cell in cells if _place(cell.forward) != OF_CELLS.get(type(cell))]


def _place(method: Any) -> tuple[Any, Any]:
    return getattr(method, "__module__", None), getattr(method, "__qualname__", None)
