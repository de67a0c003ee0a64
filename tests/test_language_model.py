"""The model in a Trainer: divergence, user-defined losses and data, reproducibility.

test_reference_loop.py compares the numbers of a training with a plain loop, test_cells.py the cells with PyTorch's.
"""

import contextlib
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
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


def weights_of(model: torch.nn.Module) -> dict[str, NDArray[Any]]:
    return {name: p.detach().numpy().copy() for name, p in model.named_parameters()}


class Weights(Callback):
    def __init__(self) -> None:
        self.after: list[dict[str, NDArray[Any]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *arguments: Any) -> None:
        self.after.append(weights_of(pl_module))


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
    data, weights = few_windows(sample), Weights()
    model = Spoilt(len(data.vocab))
    model.what = what
    with pytest.raises(Diverged, match="step 4"):
        runs.fit(
            tmp_path, model, data, [weights], max_epochs=9, gradient_clip_val=0.5, gradient_clip_algorithm=algorithm
        )
    assert len(weights.after) == 3
    np.testing.assert_equal(weights_of(model), weights.after[-1])
    # The checkpoint of the previous epoch remains.
    np.testing.assert_equal(weights_of(load_model(tmp_path, Spoilt)[0]), weights.after[1])


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
    data, weights = few_windows(sample), Weights()
    model = SpoiltOnGPU(len(data.vocab))
    model.what = "gradient"
    with pytest.raises(Diverged, match="step 4"):
        runs.fit(tmp_path, model, data, [weights], max_epochs=9, gradient_clip_val=0.5, limit_val_batches=0)
    assert len(weights.after) == 4
    np.testing.assert_equal(weights_of(load_model(tmp_path, SpoiltOnGPU)[0]), weights.after[1])


def test_diverging_weights_are_not_saved(sample: Corpus, tmp_path: Path) -> None:
    data = few_windows(sample)
    model = RNNLMScratch(len(data.vocab), sigma=9, lr=1e38, activation="relu")
    with pytest.raises(Diverged, match="step 1"):
        runs.fit(tmp_path, model, data, max_epochs=1, limit_train_batches=1)
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
    trainer = pl.Trainer(max_epochs=1, **PLAIN)
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
    predicted: Any = pl.Trainer(**PLAIN).predict(RNNLMScratch(len(data.vocab)), data)
    assert predicted[0].shape[1:] == (5, len(data.vocab))


# --- Sizes and reproducibility ---


def test_training_is_reproducible(sample: Corpus, tmp_path: Path) -> None:
    """With two threads, all numbers are identical except for the speed."""
    torch.set_num_threads(2)
    for name in ("once", "again"):
        torch.manual_seed(0)
        runs.fit(tmp_path / name, FusedRNNLM(28), TimeMachine(corpus=sample), max_epochs=3)
    assert runs.tables_and_weights(tmp_path / "once") == runs.tables_and_weights(tmp_path / "again")
