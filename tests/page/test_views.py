"""Several networks on one text: their strips, maps and bars; a chosen unit; the recalled letter; the wall mode."""

from typing import TYPE_CHECKING

import pytest
import torch

from tests.page.conftest import Open
from tests.page.models import LETTERS, MODELS, as_read, exact_model, log_odds_of, read, states_of
from tests.page.screen import numbers, settle
from tests.page.test_training import open_link, train, trained_models, wait_until_paused

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


def bars_of(page: "Page", place: int = 0) -> list[float]:
    """Return the heights of the bars below the letters, in the unit that the page says."""
    shares = page.evaluate(f"[...views[{place}].strip.children].map(span => Number(span.dataset.gradient))")
    scale = float(numbers((page.text_content("#gradient-said") or "").partition("at most")[2])[0])
    return [scale * share for share in shares]


@pytest.mark.parametrize("name", ["tanh", "gru", "lstm", "deep"])
def test_bars_against_finite_differences(name: str, open_page: Open) -> None:
    """A bar is the steepest change of the log odds per change of a state: the norm of its differences."""
    page, model, text = open_page(name), exact_model(**MODELS[name]), "it has a time"
    page.get_by_role("textbox", name="Your text").fill(text)
    settle(page)
    X_T, found, step = as_read(LETTERS, text), bars_of(page), 1e-5
    with torch.no_grad():
        states = states_of(model, X_T[:-1])
        for s in (3, len(text) - 2):
            differences = []
            for change_1S in step * torch.eye(states[s].shape[-1], dtype=torch.float64)[:, None]:
                odds = []
                for state_1S in (states[s] + change_1S, states[s] - change_1S):
                    for x in X_T[s + 1 : -1]:
                        state_1S = model.rnn(model.inputs(x[None, None]), state_1S)[1]
                    odds.append(log_odds_of(model, state_1S, X_T[-1]))
                differences.append((odds[0] - odds[1]) / (2 * step))
            assert found[s] == pytest.approx(float(torch.stack(differences).norm()), rel=1e-4)


def test_recalled_letter(open_page: Open) -> None:
    """The experiment ends with the letter to recall chosen, and its block's first letter marked in each strip."""
    page = open_page("epochs")
    page.locator("#experiments button").last.click()
    page.wait_for_function("() => training.learners.every(({ latest }) => latest?.update > 1)")
    page.get_by_role("button", name="Pause").click()
    wait_until_paused(page)
    delay, t = page.evaluate("[training.settings.data.delay, at()]")
    text = page.evaluate("box.value")
    assert t == len(text) - 1 and text[t] == text[t - delay] != text[t - 1] == " "
    marked = "() => views.map(({ strip }) => [...strip.children].flatMap((it, t) => it.matches('.source') ? [t] : []))"
    assert page.evaluate(marked) == [[t - delay]] * 3
    assert all(max(bars_of(page, place)) > 0 for place in range(3))
    page.locator(".strip").first.press("ArrowLeft")
    settle(page)
    assert page.evaluate(marked) == [[]] * 3


def test_unit_colours_the_text(open_page: Open) -> None:
    """A unit is chosen by a click or a key; rows can be sorted; a link restores both."""
    page, text = open_page("tanh"), "it has a time"
    page.get_by_role("textbox", name="Your text").fill(text)
    settle(page)
    states_TH = read(exact_model(), LETTERS, text).states
    colours = "[...views[0].strip.children].map(it => it.dataset.background)"
    units = page.locator(".map").first

    def check(unit: int) -> None:
        settle(page)
        assert page.evaluate("views[0].unit") == unit
        for h, colour in zip(states_TH[:, unit].tolist(), page.evaluate(colours), strict=True):
            assert colour == f"rgb(var(--{'minus' if h < 0 else 'plus'}) / {abs(h) / 2:.3f})"
        assert f"{states_TH[page.evaluate('at()'), unit]:.2f}".replace("-", "−") in (
            units.get_attribute("aria-valuetext") or ""
        )

    surprise = page.evaluate(colours)
    units.press("ArrowDown")
    check(0)
    units.press("ArrowDown")
    units.press("ArrowDown")
    check(2)
    height = page.locator("canvas").first.bounding_box()
    assert height
    units.click(position={"x": 3, "y": height["height"] * 5.5 / 32})
    check(5)
    assert page.evaluate("at()") == 0
    page.locator("#sorted").check()
    settle(page)
    centred = states_TH - states_TH.mean(0)
    kept = 1 - states_TH.diff(dim=0).square().sum(0) / (2 * centred.square().sum(0))
    assert page.evaluate("views[0].order") == kept.argsort(descending=True).tolist()
    page.get_by_role("button", name="Copy a link").click()
    page.reload()
    check(5)
    assert page.locator("#sorted").is_checked()
    page.get_by_role("button", name="Show the surprise").click()
    settle(page)
    assert page.evaluate(colours) == surprise


@pytest.mark.parametrize("name", ["tanh", "gru", "lstm", "deep"])
def test_drawing_has_the_values_of_the_gates(name: str, open_page: Open) -> None:
    page, model, text = open_page(name), exact_model(**MODELS[name]), "it has a time"
    page.get_by_role("textbox", name="Your text").fill(text)
    settle(page)
    said = page.get_attribute("#drawing", "aria-label") or ""
    state_S, h = read(model, LETTERS, text).states[-1], model.W_hq.shape[0]
    model.requires_grad_(False)
    if name in ("tanh", "deep"):
        expected = [float(layer.abs().mean()) for layer in state_S.split(h)]
    else:
        before_S, x = read(model, LETTERS, text).states[-2], model.inputs(as_read(LETTERS, text)[-1:][None])[0, 0]
        cell, memory = model.rnn, before_S[h:]
        names = {"gru": "rz", "lstm": "fico"}[name]
        weights = {gate: [getattr(cell, f"{part}{gate}") for part in ("W_x", "W_h", "b_")] for gate in names}
        sums = {gate: x @ W_x + before_S[:h] @ W_h + b for gate, (W_x, W_h, b) in weights.items()}
        values = {gate: each.tanh() if gate == "c" else each.sigmoid() for gate, each in sums.items()}
        if name == "gru":
            inputs = x @ cell.W_xh + cell.b_h
            values["candidate"] = (inputs + values["r"] * (before_S @ cell.W_hh)).tanh()
        else:
            assert torch.allclose(values["f"] * memory + values["i"] * values["c"], state_S[h:])
        expected = [float(each.abs().mean()) for each in values.values()]
    assert [float(number) for number in numbers(said.partition(":")[2].partition(";")[0]) if "." in number] == [
        pytest.approx(value, abs=0.006) for value in expected
    ]


def test_wall_mode_fits_the_screen(open_page: Open) -> None:
    page = open_page("epochs")
    screen = page.viewport_size
    assert screen
    page.set_viewport_size({"width": 1920, "height": 1080})
    for place in range(6):
        page.evaluate("place => { setUp(run.experiments[place]); train(1); }", place)
        wait_until_paused(page)
        page.evaluate("() => document.activeElement.blur()")
        sizes = "() => [...document.querySelectorAll('.strip, .map, #curves')].map(it => getComputedStyle(it).fontSize)"
        page.keyboard.press("w")
        settle(page)
        bottoms = page.locator(".view:not([hidden]), #curves, #scores").evaluate_all(
            "all => all.map(it => it.getBoundingClientRect().bottom)"
        )
        assert max(bottoms) <= 1080 and min(bottoms) > 0, place
        assert all(float(size.removesuffix("px")) >= 26 for size in page.evaluate(sizes)[:2])
        page.keyboard.press("w")
    page.set_viewport_size({"width": 1024, "height": 768})  # of a projector: the line of the training is wrapped
    page.keyboard.press("w")
    longest = "update 100,000, epoch 1,000.0, 1,000.0 s, 10,000,000 characters/s"
    page.evaluate("text => { find('trained').textContent = text; }", longest)
    assert page.evaluate("() => find('trained').getBoundingClientRect().right") <= 1024
    page.keyboard.press("w")
    page.set_viewport_size(screen)


def test_continuation_of_each_network(open_page: Open) -> None:
    page = open_page("epochs")
    open_link(page, "networks=2&1.lr=9&data.batch_size=64&trained=40&network=1")
    wait_until_paused(page)
    one, other = page.locator(".view:not([hidden]) .continues").all_text_contents()
    assert (page.text_content("#ghost") or "").removesuffix("\u200b") in other and one != other
    train(page, 41)
    assert len(trained_models(page, len(LETTERS))) == 2
