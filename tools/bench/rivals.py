"""Alternatives for the benchmarks: PyTorch's layers, the book's loop, a plain Lightning program.

T time steps, B batch, H hidden units, V vocabulary.
"""

from collections.abc import Callable
from time import perf_counter
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.page.conftest import CHROMIUM, launched
from tests.page.worker import Workers, network, text_of
from timemachine.clipping import clip_gradients
from timemachine.datamodule import Batch, TimeMachine
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from tools.bench.book_program import import_d2l

Step = Callable[[], Any]


def sgd_step(
    loss: Callable[[], Tensor], parameters: list[nn.Parameter], clip: Callable[..., Any] = clip_gradients
) -> Step:
    """Return a step of SGD with clipping."""
    optimizer = torch.optim.SGD(parameters, lr=1)

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(loss())
        clip(parameters, 1)
        optimizer.step()

    return step


def own_step(H: int, batch: Batch, backward: str = "auto", V: int = 28, **network: Any) -> Step:
    """Return a step of `FusedRNNLM`: gradients, clipping and update. backward="autograd" is the book's loop."""
    model = FusedRNNLM(V, hiddens=H, backward=backward, **network)
    model.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    return sgd_step(lambda: model.training_step(batch, 0), [*model.parameters()])


def compiled_loop_step(H: int, batch: Batch) -> Step:
    """Return a step of the book's loop under torch.compile. Raise torch's exception if there is no compiler."""
    model = RNNLMScratch(28, hiddens=H)
    step = sgd_step(torch.compile(lambda: model.nll(batch).mean()), [*model.parameters()])
    step()
    return step


def d2l_step(H: int, batch: Batch) -> Step:
    """Return a step of the classes of d2l 1.0.3. Raise ImportError if d2l is not installed."""
    d2l = import_d2l()
    model = d2l.RNNLMScratch(d2l.RNNScratch(num_inputs=28, num_hiddens=H), vocab_size=28, lr=1)
    model.plot = lambda *_, **__: None
    trainer = d2l.Trainer(max_epochs=1, gradient_clip_val=1)
    optimizer = model.configure_optimizers()

    def step() -> None:
        optimizer.zero_grad()
        loss = model.training_step(batch)
        with torch.no_grad():
            loss.backward()
            trainer.clip_gradients(1, model)
            optimizer.step()

    step()
    return step


def torch_step(
    H: int, batch: Batch, V: int = 28, embedding_dim: int | None = None, layer: Callable[..., nn.Module] = nn.RNN
) -> Step:
    """Return a step that uses a layer of torch.nn, nn.Linear, cross_entropy and clip_grad_norm_.

    `embedding_dim`: width of an nn.Embedding; None for one-hot inputs.
    """
    rnn, linear = layer(embedding_dim or V, H), nn.Linear(H, V)
    embedding = nn.Embedding(V, embedding_dim) if embedding_dim else lambda X_TB: F.one_hot(X_TB, V).float()
    parameters = [*rnn.parameters(), *linear.parameters()]
    for parameter in parameters:
        nn.init.normal_(parameter, std=0.01)
    if isinstance(embedding, nn.Embedding):
        parameters += embedding.parameters()
    X_TB, Y_TB = (part_BT.T for part_BT in batch)

    def loss() -> Tensor:
        H_TBH, _ = rnn(embedding(X_TB))
        return F.cross_entropy(linear(H_TBH).flatten(0, 1), Y_TB.flatten())

    return sgd_step(loss, parameters, nn.utils.clip_grad_norm_)


class PlainLightning(pl.LightningModule):
    """The book's model as a simple Lightning program: a Python loop, and one log call per step."""

    def __init__(self) -> None:
        super().__init__()
        self.model = RNNLMScratch(28)

    def loss(self, batch: Batch) -> Tensor:
        logits_BTV, _ = self.model(batch[0])
        return F.cross_entropy(logits_BTV.flatten(0, 1), batch[1].flatten())

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log("train/perplexity", loss.exp(), on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.log("val/perplexity", self.loss(batch).exp())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1)


def page_ms(data: TimeMachine, cores: int) -> float:
    """Train the book's network for 100 epochs in headless Chromium, as page.html does; return the milliseconds.

    They include the validations and the weights that the worker sends. Raise ImportError without playwright, OSError
    without Chromium.
    """
    from playwright.sync_api import sync_playwright

    if CHROMIUM is None:
        raise OSError("Chromium is not installed")
    with sync_playwright() as playwright:
        page = launched(playwright).new_page()
        page.set_default_timeout(600_000)
        workers, began = Workers(page), perf_counter()
        workers.start([network()], text_of(data), cores=cores)
        workers.run(100 * -(-len(data.splits["train"].starts) // data.batch_size))
        return 1e3 * (perf_counter() - began)


def item_by_item(data: TimeMachine, split: str) -> DataLoader[Any]:
    """Return a DataLoader that collates windows one at a time."""
    starts = data.splits[split].starts
    windows_NT = data.tokens_N.unfold(0, data.num_steps + 1, 1)[starts.start : starts.stop].long()
    return DataLoader(TensorDataset(windows_NT[:, :-1], windows_NT[:, 1:]), data.batch_size, shuffle=split == "train")
