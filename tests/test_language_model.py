"""The model, compared with NumPy code in float64 from the book's equations that uses nothing of the project."""

import contextlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.callbacks import ModelPruning
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from tests.support import runs
from timemachine.corpus import Corpus
from timemachine.datamodule import Batch, TimeMachine
from timemachine.errors import Diverged
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.run.load import load_model
from timemachine.vocab import Vocab

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
    ("batch_size", "sigma", "theta", "clips_by", "precision", "clipped_steps"),
    [
        (1024, 0.01, 1.0, "norm", "32-true", range(1)),  # the defaults
        (128, 0.01, 0.05, "norm", "32-true", range(20, 21)),
        (128, 0.01, 0.01, "value", "32-true", range(20, 21)),
        (128, 0.6, 1.0, "norm", "64-true", range(15, 21)),  # chaotic over 32 steps: the norm is 1000
    ],
)
def test_first_20_steps_against_numpy(
    model_class: type[RNNLMScratch],
    batch_size: int,
    sigma: float,
    theta: float,
    clips_by: str,
    precision: str,
    clipped_steps: range,
    sample: Corpus,
    tmp_path: Path,
) -> None:
    data = TimeMachine(batch_size, corpus=sample)
    torch.manual_seed(0)
    model = model_class(len(data.vocab), sigma=sigma)
    before = weights_of(model)
    clipping: dict[str, Any] = {"gradient_clip_val": theta, "gradient_clip_algorithm": clips_by}
    steps = fit(model, data, tmp_path, max_steps=20, limit_val_batches=0, precision=precision, **clipping)
    rows = runs.rows(tmp_path / "steps.csv")
    assert len(rows) == 20
    for (X_BT, Y_BT), after, row in zip(steps.batches, steps.weights, rows, strict=True):
        loss, gradients = loss_and_gradients(before, X_BT.numpy(), Y_BT.numpy())
        factor = min(1, theta / norm_of(gradients))
        clipped = {
            name: gradient.clip(-theta, theta) if clips_by == "value" else factor * gradient
            for name, gradient in gradients.items()
        }
        for name, gradient in clipped.items():
            expected = before[name] - gradient
            np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-6, err_msg=f"{name}, step {row['step']}")
        found = [row["loss"], row["grad_norm"], row["grad_norm_clipped"]]
        assert found == pytest.approx([loss, norm_of(gradients), norm_of(clipped)], rel=1e-5)
        before = after
    assert sum(row["grad_norm"] > row["grad_norm_clipped"] for row in rows) in clipped_steps


def test_shapes_and_initial_weights() -> None:
    torch.manual_seed(0)
    model = RNNLMScratch(28, hiddens=500, sigma=0.02)
    X_BT, H_TBH = torch.randint(28, (2, 5)), torch.randn(5, 2, 500)
    assert torch.equal(model.one_hot(X_BT), torch.eye(28)[X_BT.T])
    expected = torch.einsum("tbh,hv->btv", H_TBH, model.W_hq) + model.b_q
    torch.testing.assert_close(model.output_layer(H_TBH), expected)
    logits_BTV, H_BH = model(X_BT)
    assert (logits_BTV.shape, H_BH.shape) == ((2, 5, 28), (2, 500))
    assert (model.rnn.W_xh.shape, model.rnn.W_hh.shape) == ((28, 500), (500, 500))
    for weight in (model.rnn.W_xh, model.rnn.W_hh, model.W_hq):
        assert weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert abs(weight.mean().item()) < 5 * 0.02 / weight.numel() ** 0.5
    assert torch.equal(model.rnn.b_h, torch.zeros(500)) and torch.equal(model.b_q, torch.zeros(28))


@settings(max_examples=20)
@given(st.text("abc ", min_size=1, max_size=8), st.integers(0, 12), st.integers(0, 3))
def test_predict_is_the_arg_max(prefix: str, num_preds: int, seed: int) -> None:
    vocab = Vocab("abc ")
    torch.manual_seed(seed)
    model = RNNLMScratch(len(vocab), hiddens=8, sigma=1.0).double()
    with torch.no_grad():
        model.b_q[vocab.unk] = 100.0  # the likeliest of all, but never emitted
    text = prefix
    for _ in range(num_preds):
        logits_V = model(torch.tensor([vocab[list(text)]]))[0][0, -1]
        text += max("abc ", key=lambda character: logits_V[vocab[character]].item())
    assert model.predict(prefix, num_preds, vocab) == text


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


@pytest.mark.parametrize(("what", "algorithm"), [("nan", "norm"), ("inf", "value"), ("gradient", "norm")])
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


@pytest.mark.parametrize(("what", "validates"), [("nan", 1), ("gradient", 0)])
def test_diverging_on_a_gpu(what: str, validates: int, sample: Corpus, tmp_path: Path) -> None:
    """It is noticed at the end of the epoch, before a checkpoint is saved."""
    data, steps = few_windows(sample), Steps()
    model = SpoiltOnGPU(len(data.vocab))
    model.what = what
    with pytest.raises(Diverged, match="step 4"):
        fit(model, data, tmp_path, steps, max_epochs=9, gradient_clip_val=0.5, limit_val_batches=validates)
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
METHODS = ["one_hot", "inputs", "hidden_states", "output_layer", "forward", "loss", "nll", "mean_nll", "rnn.forward"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("of_the_instance", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_replaced_methods_train(
    method: str, of_the_instance: bool, sample: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a notebook, the book's `add_to_class` may replace a method after the model has been created."""
    data, calls = few_windows(sample), list[str]()
    model = RNNLMScratch(len(data.vocab), hiddens=4)
    part, name = (model.rnn, "forward") if "." in method else (model, method)
    original = getattr(part, name)

    def changed(*arguments: Any) -> Any:
        calls.append(method)
        return original(*arguments[not of_the_instance :])

    monkeypatch.setattr(part if of_the_instance else type(part), name, changed)
    LightningTrainer(max_epochs=1, limit_val_batches=0, **PLAIN).fit(model, data)
    assert len(calls) == 2


class Smoothed(RNNLMScratch):
    """A model whose loss is a mean, like in the book's classes."""

    def loss(self, Y_hat: Tensor, Y: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(Y_hat.flatten(0, 1), Y.flatten(), label_smoothing=0.1)


@pytest.mark.filterwarnings("ignore")
def test_mean_loss(sample: Corpus) -> None:
    data = TimeMachine(batch_size=48, num_steps=5, num_train=64, num_val=32, corpus=sample)
    model = Smoothed(len(data.vocab), hiddens=4, sigma=0.5, lr=1e-30)
    trainer = LightningTrainer(max_epochs=1, **PLAIN)
    trainer.fit(model, data)
    X_BT, Y_BT = next(iter(data.windows("train")))
    expected = model.loss(model(X_BT)[0], Y_BT).exp()
    assert trainer.callback_metrics["train/perplexity"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_class", [RNNLMScratch, FusedRNNLM])
def test_a_pruned_model(model_class: type[RNNLMScratch], sample: Corpus) -> None:
    """Half of W_xh is pruned after the first epoch. The other weights continue to learn."""
    W = []
    for max_epochs in (1, 6):
        torch.manual_seed(0)
        model = model_class(28, hiddens=4, sigma=0.3)
        halve = ModelPruning("l1_unstructured", [(model.rnn, "W_xh")], amount=0.5, apply_pruning=lambda at: at == 0)
        LightningTrainer(max_epochs=max_epochs, callbacks=[halve], **PLAIN).fit(model, few_windows(sample))
        W.append(model.rnn.W_xh.detach())
    kept = W[1] != 0
    assert kept.sum() == kept.numel() / 2 and not torch.allclose(W[1][kept], W[0][kept])


@pytest.mark.filterwarnings("ignore")
def test_prediction(sample: Corpus) -> None:
    """`Trainer.predict` returns logits. The model's own `predict` takes the book's arguments."""
    data, trainer = few_windows(sample), LightningTrainer(**PLAIN)
    model = RNNLMScratch(len(data.vocab), hiddens=4, sigma=0.5)
    batches = [*data.val_dataloader()]
    expected = [model(X_BT)[0].detach() for X_BT, _ in batches]
    torch.testing.assert_close(trainer.predict(model, data.val_dataloader()), expected)
    inputs: Any = DataLoader(batches[0][0], batch_size=len(batches[0][0]))
    torch.testing.assert_close(trainer.predict(model, inputs), expected[:1])
    vocab = data.vocab
    assert model.predict("ab", 9, vocab, None) == model.predict("ab", 9, vocab, "cpu") == model.predict("ab", 9, vocab)


# --- Sizes and reproducibility ---


def nll_of_the_split(model: RNNLMScratch, data: TimeMachine, split: str) -> float:
    """Return the mean over all positions of all windows, computed with NumPy in float64."""
    windows_NT = np.array([data.tokens_N[n : n + data.num_steps + 1].tolist() for n in data.splits[split].starts])
    return loss_and_gradients(weights_of(model), windows_NT[:, :-1], windows_NT[:, 1:])[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_distinct", [1, 2, 27, 255, 300])  # and <unk>: V is 2, 3, 28, 256, 301
@pytest.mark.parametrize(("num_steps", "batch_size", "num_val"), [(1, 1, 20), (1, 64, 1), (5, 1, 1), (5, 64, 20)])
def test_any_size_against_numpy(num_distinct: int, num_steps: int, batch_size: int, num_val: int) -> None:
    torch.manual_seed(0)
    drawn = np.random.default_rng(0).integers(num_distinct, size=120)
    characters = "".join(map(chr, [*range(num_distinct), *drawn]))
    corpus = Corpus("text", "A Text", "text", (), characters, "0")
    data = TimeMachine(batch_size, num_steps, num_train=65, num_val=num_val, corpus=corpus)
    model = FusedRNNLM(len(data.vocab), hiddens=3, sigma=0.5)
    before = nll_of_the_split(model, data, "train")
    trainer = LightningTrainer(max_epochs=1, gradient_clip_val=1, **PLAIN)
    trainer.fit(model, data)
    assert len(data.vocab) == num_distinct + 1
    assert trainer.global_step == math.ceil(65 / batch_size)
    found = {name: float(number) for name, number in trainer.callback_metrics.items()}
    assert found["val/perplexity"] == pytest.approx(math.exp(nll_of_the_split(model, data, "val")), rel=1e-5)
    if batch_size == 64:  # 64 windows before the first update, one after it
        assert found["train/perplexity"] == pytest.approx(math.exp(before), rel=0.05)


def test_training_is_reproducible(sample: Corpus, tmp_path: Path) -> None:
    """With two threads, all numbers are identical except for the speed."""
    torch.set_num_threads(2)
    for name in ("once", "again"):
        torch.manual_seed(0)
        runs.fit(tmp_path / name, FusedRNNLM(28), TimeMachine(corpus=sample), max_epochs=3)
    assert runs.what_is_left(tmp_path / "once") == runs.what_is_left(tmp_path / "again")
