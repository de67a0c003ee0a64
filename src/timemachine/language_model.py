"""RNNLMScratch(LightningModule): the RNN with its output layer, and how it is trained.

B batch, T time steps, V vocabulary, D inputs of the RNN, H hidden units, S size of a state (H for an RNN).
"""

from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from timemachine.cells import build_cell, input_weights
from timemachine.clipping import clip_gradients, gradient_norm
from timemachine.config import check_model_arguments, require
from timemachine.datamodule import Batch, TimeMachine, targets_per_process
from timemachine.errors import Diverged
from timemachine.perplexity import Perplexity, in_evaluation_mode
from timemachine.vocab import Vocab


class RNNLMScratch(LightningModule):
    """Language model: O_t = H_t W_hq + b_q on top of `RNNScratch` (section 9.5 of the book).

    Parameters besides the cell's: `W_hq` (H, V) drawn from N(0, sigma²), `b_q` (V) zero, `embedding` (V, D) drawn from
    N(0, embedding_sigma²) or None. With `tie_weights` (Press and Wolf, 2017; Inan, Khosravi and Socher, 2017) W_hq is
    drawn from N(0, embedding_sigma²), and the cell reads its transpose, divided by embedding_sigma. conf/model/rnn.yaml
    says what each argument means. Raises SettingError for an invalid value. train.py trains the subclass `FusedRNNLM`
    of `kernels.language_model`: the same results, faster.
    """

    backwards: tuple[str, ...] = ("auto", "autograd")  # valid values of `backward`, the code of the gradients

    def __init__(
        self, vocab_size: int, hiddens: int = 32, sigma: float = 0.01, lr: float = 1.0, *, cell: str = "rnn",
        layers: int = 2, sigma_xh: float | None = None, sigma_hh: float | None = None, init_hh: str = "gaussian",
        forget_bias: float = 0.0, activation: str = "tanh", input: str = "one_hot", embedding_dim: int = 32,
        embedding_sigma: float = 1.0, tie_weights: bool = False, input_lr_factor: float = 1.0, backward: str = "auto",
    ) -> None:  # fmt: skip
        super().__init__()
        self.save_hyperparameters()  # also the arguments of subclasses
        check_model_arguments(self.hparams)
        rule = f"{type(self).__name__} supports only {' and '.join(self.backwards)}"
        require(backward in self.backwards, "model.backward", backward, rule, "auto")
        self.vocab_size, self.lr, self.input_lr_factor = vocab_size, float(lr), float(input_lr_factor)
        self.tie_weights, self.embedding_sigma = tie_weights, embedding_sigma
        self.embedding = None
        if input == "embedding" and not tie_weights:
            self.embedding = nn.Parameter(torch.randn(vocab_size, embedding_dim) * embedding_sigma)
        num_inputs = vocab_size if input == "one_hot" else embedding_dim
        others = {"layers": layers, "sigma_xh": sigma_xh, "sigma_hh": sigma_hh, "init_hh": init_hh,
                  "forget_bias": forget_bias, "activation": activation}  # fmt: skip
        self.rnn: Any = build_cell(cell, num_inputs, hiddens, sigma, **others)
        has_effect = input_lr_factor == 1 or bool(self.parameter_groups()[0]["params"])
        require(has_effect, "model.input_lr_factor", input_lr_factor, "the cell has no weight named W_x…", 1)
        output_sigma = embedding_sigma if tie_weights else sigma
        self.W_hq = nn.Parameter(torch.randn(hiddens, vocab_size) * output_sigma)
        self.b_q = nn.Parameter(torch.zeros(vocab_size))
        self.train_perplexity, self.val_perplexity, self.test_perplexity = Perplexity(), Perplexity(), Perplexity()
        self.grad_norm = self.grad_norm_clipped = torch.tensor(torch.nan, dtype=torch.float64)  # of the last step

    def one_hot(self, X_BT: Tensor) -> Tensor:
        """Return vectors (T, B, V) for indices (B, T), in the order in which the recurrence reads them."""
        return F.one_hot(X_BT.T, self.vocab_size).to(self.W_hq.dtype)

    def input_vectors(self) -> Tensor | None:
        """Return the vectors (V, D) that the cell reads for the tokens; None if they are one-hot."""
        return self.W_hq.T / self.embedding_sigma if self.tie_weights else self.embedding

    def inputs(self, X_BT: Tensor) -> Tensor:
        """Return the vectors (T, B, D) that the cell reads for indices (B, T): one-hot, or rows of `input_vectors`."""
        vectors_VD = self.input_vectors()
        return self.one_hot(X_BT) if vectors_VD is None else vectors_VD[X_BT.T]

    def hidden_states(self, X_BT: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return hidden states (T, B, H) and the state after the last step, from indices (B, T) and a state."""
        states: tuple[Tensor, Tensor] = self.rnn(self.inputs(X_BT), state_BS)
        return states

    def output_layer(self, H_TBH: Tensor) -> Tensor:
        """Return logits (B, T, V) for hidden states (T, B, H)."""
        return (H_TBH @ self.W_hq + self.b_q).transpose(0, 1)

    def forward(self, X_BT: Tensor, state_BS: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, V) and the state after the last step, from indices (B, T) and a state, zero if None."""
        H_TBH, state_BS = self.hidden_states(X_BT, state_BS)
        return self.output_layer(H_TBH), state_BS

    def loss(self, Y_hat: Tensor, Y: Tensor) -> Tensor:
        """Return the loss to minimise for targets Y (B, T) and logits Y_hat (B, T, V): of each target, or the mean.

        Here it is `cross_entropy`. An override does not change perplexities, which are of the likelihood.
        """
        return cross_entropy(Y_hat, Y)

    def nll(self, batch: Batch) -> Tensor:
        """Return the negative log-likelihood of each target (B, T), in nats; each window starts with a zero state."""
        X_BT, Y_BT = batch
        return cross_entropy(self(X_BT)[0], Y_BT)

    def mean_nll(self, batch: Batch, num_targets: float | None = None) -> tuple[Tensor, Tensor]:
        """Return the mean of `nll(batch)`, or of `loss` if it is replaced, and `nll(batch)` without gradients.

        `num_targets`: divisor of the sum, by default the number of targets in the batch. Overridden by `FusedRNNLM`.
        """
        X_BT, Y_BT = batch
        divisor = num_targets or Y_BT.numel()
        if getattr(self.loss, "__func__", None) is LOSS:
            nll_BT = self.nll(batch)
            return sum_over(nll_BT, divisor), nll_BT.detach()
        logits_BTV = self(X_BT)[0]
        loss_BT = self.loss(logits_BTV, Y_BT).expand(Y_BT.shape)
        return sum_over(loss_BT, divisor), cross_entropy(logits_BTV.detach(), Y_BT)

    @in_evaluation_mode
    def predict(self, prefix: str, num_preds: int, vocab: Vocab, device: torch.device | str | None = None) -> str:
        """Return the prefix and `num_preds` tokens, each the likeliest except `<unk>`; signature of section 9.5.5."""
        text = vocab.encode(prefix or " ").tolist()
        state, length = None, len(text)
        for step in range(length - 1 + num_preds):
            logits_11V, state = self(torch.tensor([[text[step]]], device=device or self.device), state)
            if step == len(text) - 1:  # the warm-up is over
                logits_11V[..., vocab.unk] = -torch.inf
                text.append(int(logits_11V.argmax()))
        return prefix + vocab.decode(text[length:])

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return parameter groups: the input weights, with `input_lr_factor` times the rate, and the others."""
        of_inputs = input_weights(self.rnn) + ([] if self.embedding is None else [self.embedding])
        others = [p for p in self.parameters() if not any(p is q for q in of_inputs)]
        return [{"params": of_inputs, "lr": self.lr * self.input_lr_factor}, {"params": others, "lr": self.lr}]

    def configure_optimizers(self) -> Optimizer:
        """Return the book's minibatch stochastic gradient descent."""
        return SGD(self.parameters(), self.lr) if self.input_lr_factor == 1 else SGD(self.parameter_groups())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the mean of `nll(batch)`; with several processes, a value that averages to it."""
        loss, nll_BT = self.mean_nll(batch, targets_per_process(self.trainer, batch, batch_idx))
        self.train_perplexity.update(nll_BT)
        return loss

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip with `clip_gradients` (or Lightning's "value") and keep both norms. Raise Diverged if not finite."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        by_value = gradient_clip_algorithm == "value"
        self.grad_norm = clip_gradients(parameters, None if by_value else gradient_clip_val)
        self.grad_norm_clipped = self.grad_norm.clamp(
            max=float(gradient_clip_val or torch.inf)
        )  # no hook follows clipping
        if by_value:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            self.grad_norm_clipped = gradient_norm(parameters)
        if self.device.type == "cpu" and not self.grad_norm.isfinite():  # a GPU would have to synchronize
            raise Diverged("the gradient", f"at step {self.global_step + 1}")

    def _check_weights_finite(self) -> None:
        """Raise Diverged if a weight is not finite, before a checkpoint of it is written."""
        if not all(p.isfinite().all() for p in self.parameters()):
            raise Diverged("a weight", f"at step {self.global_step}")

    def on_train_epoch_end(self) -> None:
        """Log the epoch's running training perplexity, if `training_step` has updated it."""
        self._check_weights_finite()
        if self.train_perplexity.update_called:
            self.log("train/perplexity", self.train_perplexity, prog_bar=True)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation perplexity."""
        self.val_perplexity.update(self.mean_nll(batch)[1], self._num_bytes(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the validation perplexity. Raise Diverged if the loss or a weight is not finite."""
        self._check_weights_finite()
        if not self.trainer.strategy.reduce(self.val_perplexity.nll.clone(), reduce_op="sum").isfinite():  # in place
            raise Diverged("the validation loss", f"at step {self.global_step}")
        self.log("val/perplexity", self.val_perplexity, prog_bar=True)
        self._log_bits_per_byte("val", self.val_perplexity)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the test perplexity, which Lightning logs at the end."""
        self.test_perplexity.update(self.mean_nll(batch)[1], self._num_bytes(batch))
        self.log("test/perplexity", self.test_perplexity)

    def on_test_epoch_end(self) -> None:
        """Log the bits per byte of the test."""
        self._log_bits_per_byte("test", self.test_perplexity)

    def _num_bytes(self, batch: Batch) -> Tensor | int:
        """Return the number of UTF-8 bytes of a batch's targets, 0 if the data are of another class."""
        data = getattr(self.trainer, "datamodule", None)
        return data.num_bytes(batch[1]) if isinstance(data, TimeMachine) else 0

    def _log_bits_per_byte(self, split: str, perplexity: Perplexity) -> None:
        """Log bits per byte, unless a subclass scores tokens without counting their bytes."""
        if (bits := perplexity.bits_per_byte()).isfinite():
            self.log(f"{split}/bits_per_byte", bits, sync_dist=True)

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """Return logits (B, T, V) for the inputs of a batch, or for indices (B, T)."""
        logits_BTV: Tensor = self(batch if isinstance(batch, Tensor) else batch[0])[0]
        return logits_BTV


LOSS = RNNLMScratch.loss  # to compare with: a subclass overrides it, the book's `add_to_class` replaces it


def cross_entropy(logits_BTV: Tensor, Y_BT: Tensor) -> Tensor:
    """Return the negative log-likelihood of each target (B, T), in nats."""
    logits_NV = logits_BTV.transpose(0, 1).flatten(0, 1)  # in memory order again, so nothing is copied
    return F.cross_entropy(logits_NV, Y_BT.T.flatten(), reduction="none").view(Y_BT.T.shape).T


def sum_over(loss_BT: Tensor, divisor: float) -> Tensor:
    """Return the sum of the losses divided by `divisor`, in at least 32 bits: 16 bits overflow at 65,504."""
    return loss_BT.sum(dtype=torch.promote_types(loss_BT.dtype, torch.float32)) / divisor
