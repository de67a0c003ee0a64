"""The model, compared with NumPy code in float64 from the book's equations that uses nothing of the project."""

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from tests.support import runs
from timemachine.corpus import Corpus
from timemachine.datamodule import Batch, TimeMachine
from timemachine.errors import Diverged
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.run.weights import load_model

Array = NDArray[Any]
Weights = dict[str, Array]


def loss_and_gradients(W: Weights, X_BT: Array, Y_BT: Array) -> tuple[float, Weights]:
    """Return loss and gradients, with handwritten backpropagation through time: sections 9.4 and 9.7 of the book."""
    (B, T), (num_hiddens, vocab_size) = X_BT.shape, W["W_hq"].shape
    X_TBV, Y_TBV = np.eye(vocab_size)[X_BT.T], np.eye(vocab_size)[Y_BT.T]

    H_TBH = np.zeros((T + 1, B, num_hiddens))  # H_TBH[t] is the state before step t
    for t in range(T):
        H_TBH[t + 1] = np.tanh(X_TBV[t] @ W["rnn.W_xh"] + H_TBH[t] @ W["rnn.W_hh"] + W["rnn.b_h"])
    before_TBH, H_TBH = H_TBH[:-1], H_TBH[1:]
    O_TBV = H_TBH @ W["W_hq"] + W["b_q"]
    O_TBV -= O_TBV.max(2, keepdims=True)
    log_P_TBV = O_TBV - np.log(np.exp(O_TBV).sum(2, keepdims=True))

    dO_TBV = (np.exp(log_P_TBV) - Y_TBV) / (B * T)
    dA_TBH = np.zeros((T + 1, B, num_hiddens))  # gradient of the argument of φ; zero after the last step
    for t in reversed(range(T)):
        dH_BH = dO_TBV[t] @ W["W_hq"].T + dA_TBH[t + 1] @ W["rnn.W_hh"].T
        dA_TBH[t] = dH_BH * (1 - H_TBH[t] ** 2)
    dA_TBH = dA_TBH[:-1]
    return -(Y_TBV * log_P_TBV).sum() / (B * T), {
        "rnn.W_xh": np.tensordot(X_TBV, dA_TBH, ((0, 1), (0, 1))),
        "rnn.W_hh": np.tensordot(before_TBH, dA_TBH, ((0, 1), (0, 1))),
        "rnn.b_h": dA_TBH.sum((0, 1)),
        "W_hq": np.tensordot(H_TBH, dO_TBV, ((0, 1), (0, 1))),
        "b_q": dO_TBV.sum((0, 1)),
    }


def norm_of(gradients: Weights) -> float:
    return math.sqrt(sum((gradient**2).sum() for gradient in gradients.values()))


def weights_of(model: torch.nn.Module) -> Weights:
    return {name: p.detach().double().numpy().copy() for name, p in model.named_parameters()}


class Steps(Callback):
    """Record the batch of each step, and the weights after it."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.weights: list[Weights] = []

    def on_train_batch_end(
        self, trainer: LightningTrainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.batches.append(batch)
        self.weights.append(weights_of(pl_module))


def fit(model: RNNLMScratch, data: TimeMachine, folder: Path, steps: Steps | None = None, **arguments: Any) -> Steps:
    steps = steps or Steps()
    runs.fit(folder, model, data, [steps], **arguments)
    return steps


@pytest.mark.parametrize("model_class", [RNNLMScratch, FusedRNNLM])
@pytest.mark.parametrize(
    ("batch_size", "sigma", "theta", "trainer"),
    [
        (1024, 0.01, 1.0, {}),  # the defaults
        (128, 0.01, 0.01, {"gradient_clip_algorithm": "value"}),
        (128, 0.6, 1.0, {"precision": "64-true"}),  # chaotic over 32 steps: the norm is 1000
    ],
)
def test_first_20_steps_against_numpy(
    model_class: type[RNNLMScratch], batch_size: int, sigma: float, theta: float, trainer: Any, sample: Corpus,
    tmp_path: Path,
) -> None:  # fmt: skip
    data = TimeMachine(batch_size, corpus=sample)
    torch.manual_seed(0)
    model = model_class(len(data.vocab), sigma=sigma)
    before = weights_of(model)
    steps = fit(model, data, tmp_path, max_steps=20, limit_val_batches=0, gradient_clip_val=theta, **trainer)
    rows = runs.rows(tmp_path / "steps.csv")
    assert len(rows) == 20
    for (X_BT, Y_BT), after, row in zip(steps.batches, steps.weights, rows, strict=True):
        loss, gradients = loss_and_gradients(before, X_BT.numpy(), Y_BT.numpy())
        factor = min(1, theta / norm_of(gradients))
        clipped = {
            name: gradient.clip(-theta, theta) if "gradient_clip_algorithm" in trainer else factor * gradient
            for name, gradient in gradients.items()
        }
        for name, gradient in clipped.items():
            expected = before[name] - gradient
            np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-6, err_msg=f"{name}, step {row['step']}")
        found = [row["loss"], row["grad_norm"], row["grad_norm_clipped"]]
        assert found == pytest.approx([loss, norm_of(gradients), norm_of(clipped)], rel=1e-5)
        before = after


def few_windows(sample: Corpus) -> TimeMachine:
    """Return data with two steps per epoch."""
    return TimeMachine(batch_size=32, num_steps=5, num_train=64, num_val=32, corpus=sample)


class Spoilt(RNNLMScratch):
    """A model whose loss, or only the gradient of the loss, is not finite at the fourth step."""

    what, after = "", 3

    def nll(self, batch: Batch) -> Tensor:
        nll_BT = super().nll(batch)
        if not self.training or self.global_step != self.after:
            return nll_BT
        # sqrt(0) is finite, its derivative is not.
        return nll_BT + (0 * self.b_q.sum()).sqrt() if self.what == "gradient" else nll_BT * float(self.what)


@pytest.mark.parametrize(("what", "algorithm"), [("inf", "value"), ("gradient", "norm")])
def test_diverging_before_the_update(what: str, algorithm: str, sample: Corpus, tmp_path: Path) -> None:
    data, steps = few_windows(sample), Steps()
    model = Spoilt(len(data.vocab))
    model.what = what
    with pytest.raises(Diverged, match="step 4"):
        fit(model, data, tmp_path, steps, max_epochs=9, gradient_clip_val=0.5, gradient_clip_algorithm=algorithm)
    assert len(steps.weights) == 3
    np.testing.assert_equal(weights_of(model), steps.weights[-1])
    # The checkpoint of the previous epoch remains.
    np.testing.assert_equal(weights_of(load_model(tmp_path, Spoilt)[0]), steps.weights[1])


class SpoiltOnGPU(Spoilt):
    """Simulate a GPU, where steps do not wait for the check. The third step, the first of epoch 2, diverges."""

    after = 2

    def configure_gradient_clipping(self, *arguments: Any, **named: Any) -> None:
        with contextlib.suppress(Diverged):
            super().configure_gradient_clipping(*arguments, **named)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 0.01)


def test_diverging_on_a_gpu(sample: Corpus, tmp_path: Path) -> None:
    """It is noticed at the end of the epoch, before a checkpoint is saved."""
    data, steps = few_windows(sample), Steps()
    model = SpoiltOnGPU(len(data.vocab))
    model.what = "gradient"
    with pytest.raises(Diverged, match="step 4"):
        fit(model, data, tmp_path, steps, max_epochs=9, gradient_clip_val=0.5, limit_val_batches=0)
    assert len(steps.weights) == 4
    np.testing.assert_equal(weights_of(load_model(tmp_path, SpoiltOnGPU)[0]), steps.weights[1])


def test_diverging_weights_are_not_saved(sample: Corpus, tmp_path: Path) -> None:
    data = few_windows(sample)
    model = RNNLMScratch(len(data.vocab), sigma=9, lr=1e38, activation="relu")
    with pytest.raises(Diverged, match="step 1"):
        fit(model, data, tmp_path, max_epochs=1, limit_train_batches=1)
    assert not list(tmp_path.rglob("*.ckpt"))


# --- From Python ---

PLAIN: dict[str, Any] = {
    "accelerator": "cpu", "num_sanity_val_steps": 0, "logger": False, "enable_checkpointing": False,
    "enable_progress_bar": False, "enable_model_summary": False,
}  # fmt: skip


class Doubled(RNNLMScratch):
    """A model whose loss is a scalar, as in the book's classes, and not a likelihood."""

    def loss(self, Y_hat: Tensor, Y: Tensor) -> Tensor:
        return 2 * super().loss(Y_hat, Y).mean()


class Bytes(TimeMachine):
    """Data with a custom DataLoader, which serves the stored tokens unchanged, in one byte each."""

    def train_dataloader(self) -> Any:
        windows_NT = self.tokens_N.unfold(0, self.num_steps + 1, 1)[:64]
        return DataLoader(TensorDataset(windows_NT[:, :-1], windows_NT[:, 1:]), batch_size=48)


@pytest.mark.filterwarnings("ignore")
def test_own_loss_and_own_loader(sample: Corpus) -> None:
    """The loss is minimised; perplexities are of the likelihood."""
    data = Bytes(batch_size=48, num_steps=5, num_train=64, num_val=32, corpus=sample)
    model = Doubled(len(data.vocab), hiddens=4, sigma=0.5, lr=1e-30)
    trainer = LightningTrainer(max_epochs=1, **PLAIN)
    trainer.fit(model, data)
    for split in ("train", "val"):
        batch = next(iter(data.windows(split)))
        expected = model.nll(batch).mean().exp().item()
        assert trainer.callback_metrics[f"{split}/perplexity"].item() == pytest.approx(expected, rel=1e-5)
    loss, nll_BT = model.mean_nll(batch)
    assert loss.item() == pytest.approx(2 * nll_BT.mean().item(), rel=1e-5) and loss.requires_grad


@pytest.mark.filterwarnings("ignore")
def test_trainer_predicts(sample: Corpus) -> None:
    data = few_windows(sample)
    predicted: Any = LightningTrainer(**PLAIN).predict(RNNLMScratch(len(data.vocab)), data)
    assert predicted[0].shape[1:] == (5, len(data.vocab))


# --- Sizes and reproducibility ---


def test_training_is_reproducible(sample: Corpus, tmp_path: Path) -> None:
    """With two threads, all numbers are identical except for the speed."""
    torch.set_num_threads(2)
    for name in ("once", "again"):
        torch.manual_seed(0)
        runs.fit(tmp_path / name, FusedRNNLM(28), TimeMachine(corpus=sample), max_epochs=3)
    assert runs.tables_and_weights(tmp_path / "once") == runs.tables_and_weights(tmp_path / "again")
