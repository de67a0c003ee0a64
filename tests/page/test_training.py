"""Training in the page: gradients and updates equal PyTorch's."""

from typing import TYPE_CHECKING

import pytest
import torch

from tests.page.conftest import Open
from timemachine.clipping import clip_gradients
from timemachine.language_model import RNNLMScratch

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

V, H, T = 28, 16, 32
TEXT = torch.randint(V, (500,), generator=torch.Generator().manual_seed(0))
TRAINER = """([indices, V, H, weights]) => {
    window.trainer = new Trainer(indices, V, H, 0);
    for (const [name, weight] of Object.entries(weights)) trainer.weights[name].set(weight);
}"""
LISTS = "named => Object.fromEntries(Object.entries(named).map(([name, numbers]) => [name, [...numbers]]))"


def trainer_of(page: "Page", model: RNNLMScratch) -> None:
    """Make a trainer with the model's weights, on `TEXT`."""
    weights = {name.removeprefix("rnn."): weight.flatten().tolist() for name, weight in model.named_parameters()}
    page.evaluate(TRAINER, [TEXT.tolist(), V, H, weights])


def batch(starts: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    windows_BT = torch.stack([TEXT[start : start + T + 1] for start in starts])
    return windows_BT[:, :-1], windows_BT[:, 1:]


def network() -> RNNLMScratch:
    torch.manual_seed(0)
    model = RNNLMScratch(V, hiddens=H, sigma=0.3).double()
    with torch.no_grad():
        for bias in (model.rnn.b_h, model.b_q):
            bias.normal_(0, 0.3)
    return model


def test_gradients_are_those_of_torch(open_page: Open) -> None:
    page, model, starts = open_page("tanh"), network(), [0, 7, 467]
    trainer_of(page, model)
    loss = model.nll(batch(starts)).mean()
    loss.backward()
    assert page.evaluate("starts => trainer.backward(starts)", starts) == pytest.approx(loss.item())
    found = page.evaluate(f"() => ({LISTS})(trainer.gradients)")
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        assert found[name.removeprefix("rnn.")] == pytest.approx(weight.grad.flatten().tolist(), abs=1e-9)


@pytest.mark.parametrize("radius", [0.1, None])
def test_updates_are_those_of_torch(radius: float | None, open_page: Open) -> None:
    """Compare 20 updates with SGD on the same windows, with and without clipping."""
    page, model = open_page("tanh"), network()
    trainer_of(page, model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    for step in range(20):
        starts = [(step * 8 + window) * 29 % (len(TEXT) - T) for window in range(8)]
        optimizer.zero_grad()
        loss = model.nll(batch(starts)).mean()
        loss.backward()
        norm = clip_gradients(model.parameters(), radius)
        optimizer.step()
        step_of_page = "([starts, radius]) => trainer.descend(starts, 1, radius ?? Infinity)"
        assert page.evaluate(step_of_page, [starts, radius]) == pytest.approx(
            {"loss": loss.item(), "norm": norm.item()}
        )
    found = page.evaluate(f"() => ({LISTS})(trainer.weights)")
    for name, weight in model.named_parameters():
        assert found[name.removeprefix("rnn.")] == pytest.approx(weight.flatten().tolist(), abs=1e-9)
