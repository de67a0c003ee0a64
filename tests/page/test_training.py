"""Training in the page: gradients and updates equal PyTorch's, and the panel shows the network that it trains."""

from typing import TYPE_CHECKING

import pytest
import torch

from tests.page.conftest import Open
from tests.page.models import LETTERS
from tests.page.screen import compare, numbers, settle
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


@pytest.mark.parametrize("radius", [0.1, None])
def test_updates_are_those_of_torch(radius: float | None, open_page: Open) -> None:
    """Compare 20 updates with SGD on the same windows, with and without clipping."""
    page = open_page("tanh")
    torch.manual_seed(0)
    model = RNNLMScratch(V, hiddens=H, sigma=0.3).double()
    with torch.no_grad():
        for bias in (model.rnn.b_h, model.b_q):
            bias.normal_(0, 0.3)
    weights = {name.removeprefix("rnn."): weight.flatten().tolist() for name, weight in model.named_parameters()}
    page.evaluate(TRAINER, [TEXT.tolist(), V, H, weights])
    optimizer = torch.optim.SGD(model.parameters(), lr=1)
    for step in range(20):
        starts = [(step * 8 + window) * 29 % (len(TEXT) - T) for window in range(8)]
        optimizer.zero_grad()
        windows_BT = torch.stack([TEXT[start : start + T + 1] for start in starts])
        loss = model.nll((windows_BT[:, :-1], windows_BT[:, 1:])).mean()
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


def model_of(page: "Page", vocab_size: int, hiddens: int) -> RNNLMScratch:
    """Return a model with the weights that the page shows."""
    model = RNNLMScratch(vocab_size, hiddens=hiddens).double()
    weights = page.evaluate(f"() => ({LISTS})({{ ...training.trainer.weights }})")
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.tensor(weights[name.removeprefix("rnn.")]).view(weight.shape))
    return model


def updates(page: "Page") -> str:
    return numbers(page.text_content("#trained") or "")[0]


def test_panel_shows_the_network_that_it_trains(open_page: Open) -> None:
    page, text = open_page("epochs"), "it has a time"
    page.get_by_role("textbox", name="Your text").fill(text)
    page.get_by_label("hidden units").select_option("16")
    page.get_by_role("button", name="One update").click()
    compare(page, model_of(page, 28, 16), LETTERS, text, len(text) - 1)
    first = page.text_content("#trained")
    page.get_by_role("button", name="Continue training").click()
    page.wait_for_function("() => training.updates > 20")
    page.get_by_role("button", name="Pause training").click()
    assert int(updates(page).replace(",", "")) > 20
    compare(page, model_of(page, 28, 16), LETTERS, text, len(text) - 1)
    page.get_by_role("button", name="Reset").click()
    assert updates(page) == "0"
    page.get_by_role("button", name="One update").click()
    assert page.text_content("#trained") == first  # the seed determines the weights and the windows
    page.get_by_role("button", name="Show the saved network").click()
    settle(page)
    assert page.evaluate("model.numHiddens") == 32


@pytest.mark.parametrize(("name", "noun", "phi"), [("relu", "character", "relu"), ("bpe", "token", "tanh")])
def test_words_are_those_of_the_shown_network(name: str, noun: str, phi: str, open_page: Open) -> None:
    page = open_page(name)
    words = "() => ['noun', 'phi'].map(word => [...document.querySelectorAll(`.${word}`)].map(it => it.textContent))"
    for button, expected in (("One update", ["character", "tanh"]), ("Show the saved network", [noun, phi])):
        page.get_by_role("button", name=button).click()
        assert [*map(set, page.evaluate(words))] == [{word} for word in expected]
        assert page.locator("body.tokens").count() == (expected[0] == "token")


def test_play_stops_at_other_weights(open_page: Open) -> None:
    page = open_page("tanh")
    page.get_by_role("button", name="One update").click()
    for change in (page.get_by_role("button", name="Reset").click, lambda: page.select_option("#hiddens", "16")):
        page.get_by_role("button", name="Play").click()
        assert page.evaluate("play.on")
        change()
        settle(page)
        assert page.evaluate("[play.on, play.blank]") == [False, False]


def test_training_on_pasted_text(open_page: Open) -> None:
    """The alphabet is the text's, and the box gets an example until it can be read."""
    page, pasted = open_page("tanh"), "Жена узнала, что муж был в связи. " * 9
    box = page.get_by_role("textbox", name="Your text")
    before = box.input_value()
    page.locator("#source").select_option("own")
    train = page.get_by_role("button", name="Train", exact=True)
    page.get_by_label("Paste a text").fill("жил")
    assert train.is_disabled()
    page.get_by_role("button", name="Reset").click()
    assert page.evaluate("model.tokens.includes('a')")  # the saved network is still shown
    page.get_by_label("Paste a text").fill(pasted)
    train.click()
    page.wait_for_function("() => training.updates > 3")
    page.get_by_role("button", name="Pause training").click()
    tokens = page.evaluate("model.tokens")
    assert set(tokens[1:]) == set(pasted) and page.locator("#strip .unknown").count() == 0
    assert page.text_content("#said")
    for button, key in (("Show the saved network", None), ("Continue training", "Control+z")):
        page.get_by_role("button", name=button).click()
        if key:
            page.keyboard.press(key)
        assert box.input_value() == before


def test_seeds_are_whole_numbers(open_page: Open) -> None:
    page = open_page("tanh")
    for field, found in (("#weights-seed", "seedOf(find('weights-seed'))"), ("#seed", "chosen.seed")):
        for typed, seed in (("7", 7), ("1.5", 7), ("-1", 7), ("4294967296", 7), ("", 7), ("4294967295", 2**32 - 1)):
            page.fill(field, typed)
            assert page.evaluate(found) == seed
            page.locator(field).blur()
            assert page.input_value(field) == str(seed)


def test_clipping_prevents_divergence(open_page: Open) -> None:
    page = open_page("tanh")
    page.get_by_label("learning rate").select_option("20")
    page.get_by_role("button", name="Train", exact=True).click()
    page.locator("#diverged").wait_for()
    assert page.locator("#or-clip").is_visible()
    page.get_by_label("clip the gradient").check()
    assert not page.locator("#or-clip").is_visible()
    page.get_by_role("button", name="Reset").click()
    page.evaluate("() => { while (training.updates < 200) trainOnce(); }")
    page.get_by_role("button", name="One update").click()
    assert not page.locator("#diverged").is_visible()


def test_text_on_a_phone_is_scrolled_to_its_end(open_page: Open) -> None:
    page = open_page("tanh", phone=True)
    page.get_by_role("textbox", name="Your text").fill("it has a time " * 20)
    settle(page)
    bottom = "element => element.getBoundingClientRect().bottom"
    assert page.locator("#ghost").evaluate(bottom) <= page.locator(".editor").evaluate(bottom)
