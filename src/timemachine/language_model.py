"""RNNLMScratch(LightningModule): the RNN with its output layer, and how it is trained.

B batch, T time steps, V vocabulary, D inputs of the RNN, H hidden units.
"""

import math
from pathlib import Path
from time import perf_counter
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.optim import Optimizer

from timemachine.bptt import recurrence_nll
from timemachine.checkpoint import FORMAT, Refused, read_checkpoint, read_safetensors, write_safetensors
from timemachine.clipping import clip_gradients, gradient_norm
from timemachine.config import Model, Schedule, SettingError, Training, UserError
from timemachine.config import Optimizer as Name
from timemachine.datamodule import Batch
from timemachine.optimization import optimizer, set_rates
from timemachine.perplexity import Perplexity
from timemachine.rnn import RNNScratch
from timemachine.vocab import Vocab


class Diverged(UserError):
    """A loss, gradient or weight is not finite; the update that it would have spoilt is not done."""


class RNNLMScratch(LightningModule):
    """Character-level language model: O_t = H_t W_hq + b_q on top of `RNNScratch` (section 9.5 of the book).

    Parameters beside the RNN's: `W_hq` (H, V) drawn from N(0, sigma²), `b_q` (V) zero, and with `input="embedding"` a
    table `embedding` (V, D) drawn from N(0, embedding_sigma²), 1 like torch's. `lr` is the rate of SGD, the book's η,
    `input_lr_factor` times that the rate of `W_xh` and the table. `backward`: bptt, gradients by hand (`bptt`,
    `cross_entropy`), or autograd, PyTorch's of the readable loop.
    """

    def __init__(
        self,
        vocab_size: int,
        hiddens: int = 32,
        sigma: float = 0.01,
        lr: float = 1.0,
        activation: str = "tanh",
        input: str = "one_hot",
        embedding_dim: int = 32,
        embedding_sigma: float = 1.0,
        input_lr_factor: float = 1.0,
        backward: str = "bptt",
        training: Training | None = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(ignore="training", logger=False)
        self.how = Training() if training is None else training
        self.vocab_size, self.lr, self.input_lr_factor = vocab_size, lr, input_lr_factor
        table_VD = torch.randn(vocab_size, embedding_dim) * embedding_sigma if input == "embedding" else None
        self.embedding = None if table_VD is None else nn.Parameter(table_VD)
        num_inputs = vocab_size if self.embedding is None else embedding_dim
        self.rnn = RNNScratch(num_inputs, hiddens, sigma, activation, backward)
        self.W_hq = nn.Parameter(torch.randn(hiddens, vocab_size) * sigma)
        self.b_q = nn.Parameter(torch.zeros(vocab_size))
        self.train_perplexity, self.val_perplexity, self.test_perplexity = Perplexity(), Perplexity(), Perplexity()
        self._noise = torch.Generator()
        self._state_BH: Tensor | None = None  # after the last batch, where windows are consecutive
        self._loss = torch.tensor(math.nan)  # of the step under way
        self._steps: list[
            tuple[int, Tensor]
        ] = []  # number; (loss, norm, norm after clipping); since the last epoch's end
        self._last_finite_norm = math.nan
        self._sound = torch.tensor(True)  # no step so far was not finite
        self._num_chars, self._epoch_began, self._batch_ended = 0, 0.0, 0.0

    @classmethod
    def from_run(cls, run: str, setting: str = "run") -> tuple["RNNLMScratch", Vocab]:
        """The model of a run as its last epoch left it, ready to predict, and its vocabulary.

        `run`: its folder, or what it exported; `setting`: what a user typed it for. Raises SettingError where there is
        none that can be read. Nothing in a file is executed.
        """
        path = Path(run)
        is_export = path.is_file() and path.suffix == ".safetensors"
        if not is_export and not (path := path / "checkpoints" / "last.ckpt").is_file():
            instead = f"type {setting}=<the folder that train.py printed at its end>"
            raise SettingError(f"{setting}={run}: has no checkpoints/last.ckpt; {instead}")
        try:
            if is_export:
                weights, about = read_safetensors(path)
            else:
                checkpoint = read_checkpoint(path)
                weights, about = checkpoint["state_dict"], checkpoint | checkpoint["TimeMachine"]
            model, vocab = cls(**_checked(about["hyper_parameters"])), Vocab.checked(about["tokens"])
            model.load_state_dict(weights)
            if not all(weight.isfinite().all() for weight in model.parameters()):
                raise Refused("has weights that are not finite")
            if model.vocab_size != len(vocab):
                raise Refused(f"has {len(vocab)} characters and weights for {model.vocab_size}")
        except Exception as error:  # what a stranger wrote raises anything
            reason = str(error) if isinstance(error, Refused) else f"is no checkpoint of this program: {error}"
            raise SettingError(f"{setting}={run}: {path} {' '.join(reason.split())[:150]}; type another run") from error
        return model.eval(), vocab

    def export(self, path: Path, vocab: Vocab, summary: dict[str, Any]) -> None:
        """Write what `from_run` reads, and any program that knows safetensors. `summary`: the run's. Raises OSError."""
        known = {name: summary[name] for name in ("settings", "corpus", "metrics", "versions", "git")}
        about = {"hyper_parameters": dict(self.hparams), "tokens": vocab.idx_to_token, "summary": known}
        write_safetensors(path, self.state_dict(), about)

    def one_hot(self, X_BT: Tensor) -> Tensor:
        """Indices (B, T) to vectors (T, B, V), in the order in which the recurrence reads them."""
        return F.one_hot(X_BT.T, self.vocab_size).to(self.W_hq.dtype)

    def output_layer(self, H_TBH: Tensor) -> Tensor:
        """Hidden states (T, B, H) to logits (B, T, V)."""
        return (H_TBH @ self.W_hq + self.b_q).transpose(0, 1)

    def forward(self, X_BT: Tensor, H_BH: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Indices (B, T) and a state (B, H), zero if None, to logits (B, T, V) and the state after the last step."""
        H_TBH, H_BH = self.rnn(self._inputs(X_BT), H_BH)
        return self.output_layer(H_TBH), H_BH

    def _inputs(self, X_BT: Tensor) -> Tensor:
        """Of the RNN: indices (T, B), or their embeddings (T, B, D)."""
        return X_BT.T if self.embedding is None else self.embedding[X_BT.T]

    def nll(self, batch: Batch) -> Tensor:
        """Negative log-likelihood of each target (B, T), in nats; the state is zero at the start of each window."""
        X_BT, Y_BT = batch
        if torch.is_grad_enabled() and self.rnn.backward_by == "bptt":
            rnn, inputs = self.rnn, self._inputs(X_BT)
            weights = rnn.W_xh, rnn.W_hh, rnn.b_h, self.W_hq, self.b_q
            return recurrence_nll(inputs, *weights, Y_BT.T, activation=rnn.activation).T
        H_TBH, _ = self.rnn(self._inputs(X_BT))
        logits_NV = (H_TBH @ self.W_hq + self.b_q).flatten(0, 1)
        return F.cross_entropy(logits_NV, Y_BT.T.flatten(), reduction="none").view(Y_BT.T.shape).T

    @torch.no_grad()
    def predict(self, prefix: str, num_preds: int, vocab: Vocab) -> str:
        """The prefix and the `num_preds` characters that follow it, each the likeliest one that is not `<unk>`.

        Every character of the prefix, or of a space if it is empty, but the last warms up the state (the book's
        `predict`, section 9.5.5).
        """
        H_BH, inputs, outputs = None, vocab[list(prefix or " ")], list[int]()
        warm_up = len(inputs) - 1
        for step in range(warm_up + num_preds):
            X_BT = torch.tensor([[inputs[step]]], device=self.device)
            logits_BTV, H_BH = self(X_BT, H_BH)
            if step >= warm_up:
                logits_BTV[..., vocab.unk] = -math.inf
                outputs.append(int(logits_BTV.argmax()))
                inputs.append(outputs[-1])
        return prefix + "".join(vocab.to_tokens(outputs))

    def configure_optimizers(self) -> Optimizer:
        """The book's minibatch stochastic gradient descent, or what the settings say."""
        of_input = [self.rnn.W_xh] if self.embedding is None else [self.rnn.W_xh, self.embedding]
        if self.input_lr_factor == 1 and self.how.optimizer is Name.sgd:
            return optimizer([(list(self.parameters()), self.lr)], self.how.optimizer)
        others = [p for p in self.parameters() if not any(p is q for q in of_input)]
        return optimizer([(of_input, self.lr * self.input_lr_factor), (others, self.lr)], self.how.optimizer)

    def on_train_epoch_start(self) -> None:
        """Start the clock of `chars_per_second`; noise is that of the epoch, whatever was before."""
        self._noise.manual_seed((torch.initial_seed() * 1_000_003 + self.current_epoch) % 2**63)
        self._state_BH = None
        self._num_chars, self._epoch_began = 0, perf_counter()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the step's rates."""
        if self.how.warm_up or self.how.schedule is Schedule.cosine:
            steps = self.trainer.estimated_stepping_batches
            set_rates(self.trainer.optimizers[0], self.global_step, steps, self.how)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Mean cross-entropy of the batch; in several processes a number whose mean over them is that."""
        world_size, loader = self.trainer.world_size, self.trainer.train_dataloader
        if world_size == 1:
            loss_BT, nll_BT = self.losses(batch)
            loss = loss_BT.mean()
        else:  # shares of a batch may differ in size
            assert loader is not None
            size = loader.global_size(batch_idx)
            loss_BT, nll_BT = self.losses(batch, slice(self.global_rank, size, world_size))
            loss = loss_BT.sum() * world_size / (size * nll_BT.shape[1])
        self.train_perplexity.update(nll_BT.detach())
        self._num_chars += nll_BT.numel() * world_size
        self._loss = loss.detach()
        return loss

    def losses(self, batch: tuple[Tensor, ...], mine: slice | None = None) -> tuple[Tensor, Tensor]:
        """What is minimised in training, and the negative log-likelihood, of each target (B, T), in nats.

        `batch`: inputs and targets (B, T), and where n-grams teach what they expect (B, T, V). `mine`: which windows of
        the batch of all processes these are, so that noise does not depend on their number; None: all.
        """
        how, (X_BT, Y_BT, *expected_BTV) = self.how, batch
        if not (how.carry_state or how.output_dropout):
            nll_BT = self.nll((X_BT, Y_BT))
            return nll_BT, nll_BT
        H_TBH, H_BH = self.rnn(self._inputs(X_BT), self._state_BH)
        if how.carry_state:
            self._state_BH = H_BH.detach()
        if how.output_dropout:
            mine = slice(0, len(X_BT), 1) if mine is None else mine
            kept_BH = torch.rand(mine.stop, H_BH.shape[1], generator=self._noise)[mine] >= how.output_dropout
            H_TBH = H_TBH * kept_BH.to(H_TBH.device) / (1 - how.output_dropout)
        log_p_BTV = F.log_softmax(self.output_layer(H_TBH), -1)
        nll_BT = -log_p_BTV.gather(-1, Y_BT[..., None])[..., 0]
        if not how.teacher:
            return nll_BT, nll_BT
        return (1 - how.teacher) * nll_BT - how.teacher * (expected_BTV[0] * log_p_BTV).sum(-1), nll_BT

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: int | float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip by `clip_gradients` (or Lightning's "value"), note the norms, stop where an update would not be finite.

        Lightning calls this between the gradients and the update, after unscaling and after DDP's all-reduce.
        """
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if gradient_clip_algorithm == "value":
            norm = gradient_norm(parameters)
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
            clipped = gradient_norm(parameters)
        else:
            norm = clip_gradients(parameters, gradient_clip_val)
            clipped = norm.clamp(max=gradient_clip_val) if gradient_clip_val else norm
        self._steps.append((self.global_step + 1, torch.stack([self._loss.double(), norm, clipped])))
        self._refuse_unless_finite(parameters, norm)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Stop the clock of `chars_per_second`: validation does not count."""
        self._batch_ended = perf_counter()

    def on_train_epoch_end(self) -> None:
        """Log the epoch's running training perplexity, the share of clipped steps, the speed, and each step's norms."""
        steps = self._log_steps()
        self._stop_if_diverged(steps)
        row = {
            "train/perplexity": float(self.train_perplexity.compute()),
            "clip_fraction": sum(norm > clipped for _, _, norm, clipped in steps) / max(len(steps), 1),
            "chars_per_second": self._num_chars / max(self._batch_ended - self._epoch_began, 1e-9),
            "epoch": self.current_epoch,
        }
        for logger in self.trainer.loggers:  # not by self.log, which writes after the checkpoint
            logger.log_metrics(row, step=self.global_step - 1)
        self.log("train/perplexity", self.train_perplexity, prog_bar=True, logger=False)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the validation perplexity."""
        self.val_perplexity.update(self.nll(batch))

    def on_validation_epoch_end(self) -> None:
        """Log the validation perplexity; stop before a checkpoint of weights that are not finite or predict nothing."""
        if not all(p.isfinite().all() for p in self.parameters()):
            self._stop_after_its_last_step("a weight")
        if not self.trainer.strategy.reduce(self.val_perplexity.nll.clone(), reduce_op="sum").isfinite():
            self._stop_after_its_last_step("the validation loss")
        self.log("val/perplexity", self.val_perplexity, prog_bar=True)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the test perplexity."""
        self.test_perplexity.update(self.nll(batch))

    def on_test_epoch_end(self) -> None:
        """Log the test perplexity."""
        self.log("test/perplexity", self.test_perplexity)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The rates are those of the settings; what an optimiser remembers of the gradients is the checkpoint's.

        Raises SettingError where the settings end the run before it broke off, or name another optimiser.
        """
        done, asked = checkpoint["epoch"] + 1, self.trainer.max_epochs
        if asked is not None and 0 <= asked < done:
            instead = f"type trainer.max_epochs={done} or more"
            raise SettingError(f"trainer.max_epochs={asked}: the run has {done} epochs already; {instead}")
        (before,) = checkpoint["optimizer_states"]
        then, now = Name.adamw if before["state"] else Name.sgd, self.how.optimizer
        if then is not now:
            setting = f"training.optimizer={then.name}"
            raise SettingError(f"training.optimizer={now.name}: the run began with {setting}; type {setting}")
        checkpoint["optimizer_states"] = [self.configure_optimizers().state_dict() | {"state": before["state"]}]

    def refuse_another(self, began: "RNNLMScratch") -> None:
        """Raise SettingError where a run that goes on began with another network."""
        for name in ("hiddens", "activation", "input", "embedding_dim", "sigma", "embedding_sigma"):
            if (then := began.hparams[name]) != (now := self.hparams[name]):
                setting = f"model.{name}={then}"
                raise SettingError(f"model.{name}={now}: the run began with {setting}; type {setting}")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Name the format, so that a later version can tell what it reads."""
        checkpoint["format"] = FORMAT

    def _refuse_unless_finite(self, parameters: list[nn.Parameter], norm: Tensor) -> None:
        """Stop before an update that is not finite.

        On a GPU, where to look is to wait, it and all that follow in the epoch do nothing, and the epoch's end stops.
        """
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None  # it skips such a step by itself
        sound = self._loss.isfinite() if scaled else self._loss.isfinite() & norm.isfinite()
        if not self.waits_for_the_device:
            if not sound:
                self._stop_if_diverged(self._log_steps())
            return
        self._sound = sound & self._sound.to(sound.device)
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad = torch.where(self._sound, parameter.grad, 0.0)

    @property
    def waits_for_the_device(self) -> bool:
        """Whether reading a number makes the program wait for the steps that are queued."""
        return self.device.type != "cpu"

    def _stop_if_diverged(self, steps: list[tuple[int, float, float, float]]) -> None:
        """Raise Diverged for the first of the steps, as `_log_steps` gives them, that is not finite."""
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        for number, loss, norm, _ in steps:
            if not math.isfinite(loss):
                self._diverged(number, "the loss")
            if math.isfinite(norm):
                self._last_finite_norm = norm
            elif not scaled:
                self._diverged(number, "the gradient")

    def _stop_after_its_last_step(self, what: str) -> NoReturn:
        self._stop_if_diverged(self._log_steps())
        self._diverged(self.global_step, what)

    def _diverged(self, step: int, what: str) -> NoReturn:
        epoch, theta = self.current_epoch, self.trainer.gradient_clip_val
        remains = f"the checkpoint of epoch {epoch} remains" if epoch else "there is no checkpoint yet"
        raise Diverged(
            f"diverged in epoch {epoch + 1}, step {step}: {what} is not finite (last finite gradient norm "
            f"{self._last_finite_norm:.4g}); {remains}. Type trainer.gradient_clip_val={theta / 10 if theta else 1:g} "
            f"(now {theta or 'none'}), or a smaller model.lr (now {self.lr:g})"
        )

    def _log_steps(self) -> list[tuple[int, float, float, float]]:
        """Give each logger the steps since the last call; returns them: (number, loss, norm, norm after clipping)."""
        if not self._steps:
            return []
        numbers, rows = zip(*self._steps, strict=True)
        self._steps.clear()
        losses_N, norms_N, clipped_N = torch.stack(rows, 1)
        losses_N = self.trainer.strategy.reduce(losses_N, reduce_op="mean")
        steps = list(zip(numbers, losses_N.tolist(), norms_N.tolist(), clipped_N.tolist(), strict=True))
        for number, loss, norm, clipped in steps:
            row = {"loss": loss, "grad_norm": norm, "grad_norm_clipped": clipped, "epoch": self.current_epoch}
            for logger in self.trainer.loggers:
                logger.log_metrics(row, step=number)
        return steps


def _checked(hyper_parameters: dict[str, Any]) -> dict[str, Any]:
    """The constructor's arguments, if each is what `model.*` may be. Raises SettingError or OmegaConf's errors."""
    rest = {name: value for name, value in hyper_parameters.items() if name != "vocab_size"}
    OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Model), rest))
    if not 1 < hyper_parameters["vocab_size"] <= 256:
        raise Refused(f"has a vocabulary of {hyper_parameters['vocab_size']}")
    return hyper_parameters
