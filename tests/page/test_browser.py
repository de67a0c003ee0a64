"""page.html in a real browser: its numbers are Python's, touch, mouse and keyboard suffice, and nothing leaves it."""

import base64
import random
import socket
import unicodedata
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.page.conftest import Open
from tests.page.models import (
    CHARACTERS,
    CHINESE,
    LETTERS,
    MODELS,
    WRITTEN,
    divergence,
    exact_model,
    half,
    memory,
    probabilities,
    read,
    surprises,
    vocab_of,
)
from timemachine.config import Tokens, Train
from timemachine.corpus import normalise
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

TOLERANCE = 1e-9
READ = """([texts, most]) => texts.map(text => {
    const reading = new Reading(model), indices = model.indices(text), last = indices.length - 1;
    const forgetful = new Reading(model);
    reading.take(indices);
    reading.advance();
    forgetful.take(indices);
    forgetful.advance(); // what is known after the place is read again
    forgetful.forget(last >> 1);
    forgetful.advance();
    return {
        states: [...reading.states[last]],
        after: [...reading.next(last)],
        surprises: reading.surprises.slice(1),
        memory: [...reading.memory(last, most)],
        forgetful: { after: [...forgetful.next(last)], surprises: forgetful.surprises.slice(last >> 1) },
    };
})"""

DRAWN = """([alpha, count]) => {
    const reading = new Reading(model), counts = new Array(model.size).fill(0), random = uniform(7);
    reading.take(model.indices("it has"));
    reading.advance();
    const logits = model.logits(reading.states.at(-1));
    for (let i = 0; i < count; i++) counts[model.choice(logits, alpha, random)]++;
    return counts;
}"""


def prefixes(count: int) -> list[str]:
    """Return texts as someone may type them: letters, capitals, marks, line ends, accents, other scripts."""
    draw = random.Random(0)
    often = "abcdefghijklmnopqrstuvwxyz" * 2 + "      ABC" + "é.,\n'9\u2028😀ж\u0301"
    return ["".join(draw.choices(draw.choice([often, WRITTEN]), k=draw.randrange(61))) for _ in range(count)]


# The numbers


LARGE = ("512 units", "chinese")  # there fewer texts suffice


@pytest.mark.parametrize("name", MODELS)
def test_states_probabilities_surprise_memory_and_forgetting_are_pythons(name: str, open_page: Open) -> None:
    model, vocab, page = exact_model(**MODELS[name]), vocab_of(name), open_page(name)
    texts, most = prefixes(5 if name in LARGE else 20), 12
    for text, found in zip(texts, page.evaluate(READ, [texts, most]), strict=True):
        said = read(model, vocab, text)
        assert found["states"] == pytest.approx(said.states[-1].tolist(), abs=TOLERANCE)
        assert found["after"] == pytest.approx(said.after[-1].tolist(), abs=TOLERANCE)
        assert found["surprises"] == pytest.approx(said.bits[1:], abs=TOLERANCE)
        assert found["memory"] == pytest.approx(memory(model, vocab, text, most), abs=TOLERANCE)
        place = (len(said.characters) - 1) // 2
        without = read(model, vocab, text, place)
        assert found["forgetful"]["after"] == pytest.approx(without.after[-1].tolist(), abs=TOLERANCE)
        bits = without.bits[place:] if place else [None, *without.bits[1:]]
        assert found["forgetful"]["surprises"] == pytest.approx(bits, abs=TOLERANCE)


COMPOSING = "eqE \r\n\u0301\u0323\u0307\u0327ᄒ\u1161\u11ab\u212b\u1e9b\u2126\ufb01\u0958"


@pytest.mark.parametrize("kind", Tokens)
def test_a_text_is_normalised_as_python_does(kind: Tokens, open_page: Open) -> None:
    page = open_page("tanh")
    symbols = st.sampled_from(COMPOSING) | st.characters(exclude_categories=["Cs", "Cn"])

    @settings(max_examples=20)
    @given(st.lists(st.text(symbols), max_size=20))
    def agrees(texts: list[str]) -> None:
        found = page.evaluate("([kind, texts]) => texts.map(NORMALISE[kind])", [kind.name, texts])
        assert found == [normalise(text.encode(), kind) for text in texts]

    agrees()


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_what_is_drawn_has_the_distribution_of_p_to_the_alpha(alpha: float, open_page: Open) -> None:
    page, count = open_page("tanh"), 40_000
    drawn = page.evaluate(DRAWN, [alpha, count])
    P = torch.tensor(probabilities(exact_model(), LETTERS, "it has"), dtype=torch.float64)
    P = powered(P, LETTERS, alpha)
    errors = (count * P * (1 - P)).sqrt()
    assert drawn[LETTERS.unk] == 0
    assert ((torch.tensor(drawn) - count * P).abs() < 5 * errors + 1).all()


def powered(P: torch.Tensor, vocab: Vocab, alpha: float) -> torch.Tensor:
    """Return P^alpha, without <unk>, so scaled that the sum is 1."""
    powers = P**alpha
    powers[vocab.unk] = 0
    return powers / powers.sum()


def test_every_number_of_float16_is_read_as_numpy_does(open_page: Open) -> None:
    halves = np.arange(2**16, dtype=np.uint16).view("<f2")
    halves = halves[np.isfinite(halves)]
    found = open_page("tanh").evaluate("b => [...fromHalf(b)]", base64.b64encode(halves.tobytes()).decode())
    assert np.array_equal(found, halves.astype(float))


# What one sees


def box(page: "Page") -> Any:
    return page.get_by_role("textbox", name="Your text")


def typed(page: "Page", text: str) -> None:
    """Empty the box and type, a key after the other."""
    box(page).focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.type(text)
    settled(page)


def grey(page: "Page") -> str:
    return (page.text_content("#ghost") or "").removesuffix("\u200b")


def settled(page: "Page") -> None:
    """Wait until what follows an act has been drawn: a frame, what comes after it, and the measured memory."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(() => setTimeout(done))))")
    place = "at() === Number(strip.getAttribute('aria-valuenow')) - 1"
    page.wait_for_function(f"() => reading.known === reading.characters.length && {place}")


def chosen(page: "Page") -> int:
    """Return which character is marked, once what was done has been drawn."""
    settled(page)
    (place,) = page.evaluate("[...strip.children].flatMap((span, t) => span.matches('.at') ? [t] : [])")
    return int(place)


SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥"}
NAMES = {" ": "space", "\n": "line break"}


def sign(token: str) -> str:
    """Return what stands for a token: a sign, the number of what cannot be seen, a mark on a circle."""
    kind = unicodedata.category(token) if len(token) == 1 else ""
    unseen = f"U+{ord(token):04X}" if kind[:1] in ("C", "Z") and kind else f"◌{token}" if kind == "Mn" else token
    return SIGNS.get(token, unseen)


def percent(p: float) -> str:
    return f"{100 * p:.{3 if p < 0.001 else 1}f} %"


def short(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"


def signed(number: float) -> str:
    return f"{number:.2f}".removeprefix("-" if abs(number) < 0.005 else "").replace("-", "−")


def bar_rows(
    vocab: Vocab, P: torch.Tensor, rows: int, was: int | None = None, drawn: torch.Tensor | None = None
) -> list[tuple[str, str, str, float, float]]:
    """Return what bars show, what they say to who hears them, and their lengths in percent.

    They are the likeliest, but the last is the one in the text, `was`, if it is not among them.
    """
    order = P.argsort(descending=True).tolist()
    shown, said = order[:rows], []
    if was is not None and was not in shown:
        shown[-1] = was
    for character, likelier in zip(shown, order, strict=False):
        token, p = vocab.idx_to_token[character], float(P[character])
        place = f"{order.index(character) + 1}. " if character != likelier else ""
        chance = float(drawn[character]) if drawn is not None else 0.0
        written = f", written with {percent(chance)}" if drawn is not None else ""
        name = f"{NAMES.get(token, sign(token))}, {percent(p)}{written}{', in the text' * (character == was)}"
        said.append((f"{place}{sign(token)}", percent(p), name, 100 * p, 100 * chance))
    return said


def compare_bars(page: "Page", where: str, rows: list[tuple[str, str, str, float, float]]) -> None:
    """Compare bars with `bar_rows`."""
    found = page.eval_on_selector_all(
        f"{where} .bar",
        """rows => rows.map(row => [
            row.querySelector("b").textContent, row.querySelector("small").textContent, row.getAttribute("aria-label"),
            ...[...row.querySelectorAll("i")].map(bar => parseFloat(bar.style.width)),
        ])""",
    )
    assert [tuple(row[:3]) for row in found] == [row[:3] for row in rows]
    for place in (3, 4):
        assert [row[place] for row in found] == pytest.approx([row[place] for row in rows], abs=1e-3)


HEAT = """() => {
    const { width, height } = canvas, pen = Object.assign(made("canvas"), { width, height }).getContext("2d");
    pen.drawImage(canvas, 0, 0);
    const pixels = pen.getImageData(0, 0, width, height).data, H = model.numHiddens;
    const step = width / columnsOf(), rows = heightOfUnits() / H, found = [];
    const columns = Math.min(columnsOf(), reading.known - heatStart);
    for (let column = 0; column < columns; column++) {
        found.push([heatStart + column]);
        for (let row = 0; row < H; row++) {
            const pixel = 4 * (Math.floor((row + 0.5) * rows) * width + Math.floor((column + 0.5) * step));
            found.at(-1).push([...pixels.slice(pixel, pixel + 3)]);
        }
    }
    return found;
}"""
PAPER, WARM, COLD = torch.tensor([255, 255, 255]), torch.tensor([213, 94, 0]), torch.tensor([0, 100, 170])
MOST = {"hot": 0.75, "warm": 0.75, "cold": 0.65}  # page.css: how much of a colour is behind a text at most


def compare(
    page: "Page", model: RNNLMScratch, vocab: Vocab, text: str, t: int, start: int = 0, alpha: float = 2.0,
    unit: int | None = None, epoch: int = -1,
) -> None:  # fmt: skip
    """Compare every number that one sees, with the character at t chosen, with Python's."""
    settled(page)
    it, tokens = read(model, vocab, text, start), vocab.tokens_of(text)
    signs, T = [*map(sign, tokens)], len(it.characters)

    def says(element: str) -> str:
        return page.text_content(f"#{element}") or ""

    # the text
    first = max(1, start)
    bits = sum(it.bits[first:]) / (T - first)
    total = f"{bits:.3f} bits per character, perplexity {2**bits:.2f}, over {T - first} characters"
    assert says("total") == total
    was = int(it.characters[t])
    place = int((it.before[t] > it.before[t][was]).sum()) + 1
    what = "it" if tokens[t] in vocab.token_to_idx else "<unk>"
    given = f"the model gave {what} {percent(float(it.before[t][was]))}, place {place} of {len(vocab)}."
    inspected = f"“{signs[t]}”: {it.bits[t]:.2f} bits; {given}" if t else f"“{signs[0]}” is the first character"
    assert says("inspected").startswith(inspected)
    assert page.get_attribute("#strip", "aria-valuetext") == says("inspected")
    if t:
        compare_bars(page, "#expected", bar_rows(vocab, it.before[t], 6, was))
    most = 1.0 if model.hparams["activation"] == "tanh" else float(it.states.abs().max())
    for place, background in enumerate(page.evaluate("[...strip.children].map(span => span.dataset.background)")):
        if place < start:
            assert background == "none"
            continue
        h = float(it.states[place, unit]) if unit is not None else 0
        colour = "hot" if unit is None else "cold" if h < 0 else "warm"
        share = (it.bits[place] / 8 if place else 0) if unit is None else abs(h) / most
        assert background == f"rgb(var(--{colour}) / calc({min(1, share):.3f} * var(--most-{colour})))"

    # the states
    columns = page.evaluate(HEAT)
    order = page.evaluate("run.order")
    shown = it.states[columns[0][0] : columns[-1][0] + 1]
    most = 1.0 if model.hparams["activation"] == "tanh" else float(shown.abs().max())
    assert set(page.locator(".most").all_text_contents()) == {short(most)}
    if len(order) <= 320:  # a unit has a pixel or more
        for state, (_, *column) in zip(shown, columns, strict=True):
            h = (state[order, None] / most).clamp(-1, 1)
            colours = PAPER + h.abs() * (torch.where(h < 0, COLD, WARM) - PAPER)
            assert (colours - torch.tensor(column)).abs().max() < 1

    # one step of the recurrence
    with torch.no_grad():
        before = torch.zeros_like(it.states[0]) if t in (0, start) else it.states[t - 1]
        x = model.inputs(it.characters[None, t : t + 1])[0, 0]
        from_input = (x @ model.rnn.W_xh if x.is_floating_point() else model.rnn.W_xh[x]) + model.rnn.b_h
        past = before @ model.rnn.W_hh
    of_states = 1.0 if model.hparams["activation"] == "tanh" else float(torch.stack([before, it.states[t]]).abs().max())
    of_sums = float(torch.stack([past, from_input, past + from_input]).abs().max())
    captions = {
        "before": f"{'zero' if t in (0, start) else f'after “{signs[t - 1]}”'}±{short(of_states)}",
        "from-state": f"±{short(of_sums)}",
        "from-input": f"±{short(of_sums)}",
        "sum": f"±{short(of_sums)}",
        "state": f"after “{signs[t]}”±{short(of_states)}",
    }
    assert {name: page.text_content(f"#{name} + figcaption p") for name in captions} == captions
    assert says("x") == signs[t]
    units = page.evaluate("run.units")
    one = unit if unit is not None else units[0]["unit"] if units else order[0]
    sums = f"{signed(float(past[one]))} + {signed(float(from_input[one]))}".replace("+ −", "− ")
    step = f"{model.hparams['activation']}({sums})"
    said = f"Unit {one} was {signed(float(before[one]))} and is {step} = {signed(float(it.states[t, one]))}."
    assert says("one-unit") == said == page.get_attribute("#cell", "aria-label")

    # what comes next
    follows = int(it.characters[t + 1]) if t < T - 1 else None
    compare_bars(page, "#bars", bar_rows(vocab, it.after[t], 30, follows, powered(it.after[t], vocab, alpha)))
    parts = [row for power in (0.5, 1, 2, 8) for row in bar_rows(vocab, powered(it.after[t], vocab, power), 4)]
    compare_bars(page, "#alphas", parts)

    # memory
    back = memory(model, vocab, "".join(tokens[start : t + 1]), Train().data.num_steps + 8)
    back += [0.0] * (min(t, Train().data.num_steps + 8) + 1 - len(back))  # what is before a state of zero is forgotten
    titles = [f"{s} back: {changed:.3f} bits" for s, changed in reversed(list(enumerate(back)))]
    title = "titles => [...document.querySelectorAll('#memory > *')].map(bar => bar.title).join() === titles.join()"
    page.wait_for_function(title, arg=titles)
    reach = max(s for s, changed in enumerate(back) if changed >= 0.01 * back[0])
    said = f"Another character in the place of “{signs[t]}” changes the prediction by {back[0]:.2f} bits on average."
    farther = f" Farther than {reach} back it is below a hundredth of that." if reach < len(back) - 1 else ""
    assert says("memory-said") == said + farther
    assert says("memory-axis").startswith(f"0 to {max(*back, 0.1):.2f} bits")

    # the units' meanings
    correlations = page.evaluate("run.epochs.map(epoch => epoch.correlations)")[epoch]
    meanings = [f"{unit['meaning']} {signed(r)}" for unit, r in zip(units, correlations, strict=True)]
    assert page.locator("#meanings button").all_text_contents() == meanings


@pytest.mark.parametrize("name", ["tanh", "relu", "embedding", "characters"])
def test_every_number_that_one_sees_is_pythons(name: str, open_page: Open) -> None:
    model, vocab, page = exact_model(**MODELS[name]), vocab_of(name), open_page(name)
    text = "The Time,  Tr" if vocab is LETTERS else "“It has,” é\nHow far"
    tokens = vocab.tokens_of(text)
    typed(page, text)
    signs = "".join({" ": "␣\u200b", "\n": "↵\n"}.get(token, token) for token in tokens)
    assert page.text_content("#strip") == signs
    compare(page, model, vocab, text, len(tokens) - 1)
    page.locator("#strip").focus()
    page.keyboard.press("ArrowLeft")
    compare(page, model, vocab, text, len(tokens) - 2)
    page.keyboard.press("Home")
    compare(page, model, vocab, text, 0)


def test_the_slider_shows_all_of_it_at_another_epoch(open_page: Open) -> None:
    page, text = open_page("epochs"), "it has a time"
    typed(page, text)
    compare(page, exact_model(), LETTERS, text, 12)
    said = page.locator("#epoch-said")
    assert said.inner_text() == "after epoch 100: perplexity 6.25, in validation 7.50"
    page.get_by_label("Training").focus()
    for key, model, says in (
        ("Home", half(exact_model(seed=1)), "before it"),
        ("ArrowRight", half(exact_model(seed=2)), "after epoch 5: perplexity 15.25, in validation 16.50"),
        ("ArrowRight", exact_model(), "after epoch 100: perplexity 6.25, in validation 7.50"),
    ):
        page.keyboard.press(key)
        assert said.inner_text() == says == page.get_attribute("#epoch", "aria-valuetext")
        epoch = int(page.get_by_label("Training").input_value())
        compare(page, model, LETTERS, text, 12, epoch=epoch)
    assert open_page("tanh").locator("#training").is_hidden()


def test_a_unit_colours_the_text_and_the_recurrence_speaks_of_it(open_page: Open) -> None:
    page, text = open_page("epochs"), "it has a time"
    typed(page, text)
    order, (_, second, _) = page.evaluate("[run.order, run.units]")
    named = second["unit"]
    button = page.get_by_role("button", name=second["meaning"])
    button.click()
    compare(page, exact_model(), LETTERS, text, 12, unit=named)
    assert (button.get_attribute("aria-pressed"), button.get_attribute("title")) == ("true", f"unit {named}")
    page.locator("#unit").select_option("unit 20")
    compare(page, exact_model(), LETTERS, text, 12, unit=20)
    at = page.locator("#heat").bounding_box()
    assert at is not None
    page.mouse.click(at["x"] + 2.5 * at["width"] / (at["width"] // 11), at["y"] + 4 * 5 + 2)  # the sixth row
    compare(page, exact_model(), LETTERS, text, 2, unit=order[5])
    page.mouse.click(at["x"] + 4, at["y"] + at["height"] - 5)  # the first character beneath the map
    compare(page, exact_model(), LETTERS, text, 0, unit=order[5])
    button.click()
    compare(page, exact_model(), LETTERS, text, 0, unit=named)
    button.click()
    compare(page, exact_model(), LETTERS, text, 0)


def test_forgetting_sets_the_state_to_zero_and_says_what_that_changes(open_page: Open) -> None:
    model, page, text, t = exact_model(), open_page("epochs"), "it has a time", 7
    typed(page, text)
    page.locator("#strip span").nth(t).click()
    page.get_by_role("button", name="Forget everything before “a”").click()
    for place in (t, 12):
        compare(page, model, LETTERS, text, place, start=t)
        whole, without = read(model, LETTERS, text), read(model, LETTERS, text, t)
        changed = divergence(whole.after[place], without.after[place])
        cost, cost_with = (sum(it.bits[t:]) / 6 for it in (without, whole))
        assert page.text_content("#forgotten") == (
            f"Before “a” the state was set to zero. After “{sign(text[place])}” the prediction is {changed:.2f} bits "
            f"from what it was; the 6 characters from “a” on cost {cost:.2f} bits each, with their past "
            f"{cost_with:.2f}."
        )
        page.locator("#strip").press("End")
    page.get_by_label("Training").press("ArrowLeft")
    compare(page, half(exact_model(seed=2)), LETTERS, text, 12, start=t, epoch=1)
    page.get_by_label("Training").press("ArrowRight")
    page.get_by_role("button", name="Remember again").click()
    compare(page, model, LETTERS, text, 12)


def test_what_was_forgotten_is_remembered_where_the_text_before_it_changes(open_page: Open) -> None:
    model, page = exact_model(), open_page("tanh")
    for act in ("Control+Home", "Control+End"):
        typed(page, "it has a time")
        page.locator("#strip span").nth(7).click()
        page.get_by_role("button", name="Forget everything before “a”").click()
        box(page).press(act)
        page.keyboard.type("x")
        if act == "Control+Home":
            compare(page, model, LETTERS, "xit has a time", 0)
        else:
            compare(page, model, LETTERS, "it has a timex", 13, start=7)


def test_the_character_in_the_text_is_in_its_table_with_its_place(open_page: Open) -> None:
    page, model = open_page("tanh"), exact_model()
    places = {last: bar_rows(LETTERS, read(model, LETTERS, f"nih{last}").before[3], 28) for last in "abcdefghijklmno"}
    last, rows = next((last, rows) for last, rows in places.items() if rows[9][0] == last)
    typed(page, f"nih{last}")
    in_table = page.locator("#expected .bar").nth(5)
    assert in_table.inner_text().split() == ["10.", last, *rows[9][1].split()]
    assert "was" in (in_table.get_attribute("class") or "")


# Touch and mouse


def middle(page: "Page", element: str) -> tuple[float, float]:
    """Return where an element's middle is in the window, once it is in view."""
    page.locator(element).scroll_into_view_if_needed()
    at = page.locator(element).bounding_box()
    assert at is not None
    return at["x"] + at["width"] / 2, at["y"] + at["height"] / 2


def character(t: int) -> str:
    return f"#strip span:nth-child({t + 1})"


def column(page: "Page", t: int) -> tuple[float, float]:
    """Return where in the window the heat map has the sixth row's value after the character at t."""
    _, y = middle(page, "#heat")
    x, y = page.evaluate("""t => {
        const { left, top, width } = canvas.getBoundingClientRect();
        return [left + ((t - heatStart + 0.5) / columnsOf()) * width, top + (5.5 / model.numHiddens) * heightOfUnits()];
    }""", t)  # fmt: skip
    return x, y


PHONE = {"width": 390, "height": 700, "has_touch": True, "is_mobile": True}


def test_a_tap_chooses_a_character_and_it_stays_chosen(open_page: Open) -> None:
    page = open_page("tanh", **PHONE)
    box(page).fill("the time traveller")
    for t, where in ((4, character(4)), (1, None), (9, character(9)), (12, None)):
        x, y = middle(page, where) if where else column(page, t)
        page.touchscreen.tap(x, y)
        for _ in range(2):
            assert chosen(page) == t
        assert page.get_attribute("#strip", "aria-valuenow") == str(t + 1)
    assert page.locator("#unit").input_value() == "5"


def dragged(page: "Page", points: list[tuple[float, float]], after: Callable[[], None] = lambda: None) -> None:
    """Draw a finger over points; `after` each of them."""
    finger = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    send("touchStart", points[0])
    for point in points[1:]:
        send("touchMove", point)
        after()
    send("touchEnd")


def test_a_finger_moves_along_a_line_and_scrolls_the_page(open_page: Open) -> None:
    page = open_page("tanh", **PHONE)
    box(page).fill("the time traveller")
    for place in (lambda t: middle(page, character(t)), lambda t: column(page, t)):
        seen = list[int]()
        points = [place(t) for t in range(2, 10)]
        dragged(page, points, lambda seen=seen: seen.append(chosen(page)))  # type: ignore[misc]
        assert seen[2:] == [5, 6, 7, 8, 9]  # at first a finger may be going to scroll
        assert chosen(page) == 9
    for place in (lambda t: middle(page, character(t)), lambda t: column(page, t)):
        x, y = place(3)
        before = page.evaluate("scrollY")
        dragged(page, [(x, y - 20 * step) for step in range(8)])
        page.wait_for_function("before => scrollY > before", arg=before)
        assert chosen(page) == 9


def test_a_mouse_shows_what_it_is_over_and_chooses_by_a_click(open_page: Open) -> None:
    page = open_page("tanh")
    typed(page, "the time traveller")
    for t, where in ((6, character(6)), (3, None)):
        before = chosen(page)
        page.mouse.move(*(middle(page, where) if where else column(page, t)))
        assert chosen(page) == t
        page.mouse.move(1, 1)
        assert chosen(page) == before
        page.mouse.click(*(middle(page, where) if where else column(page, t)))
        page.mouse.move(1, 1)
        assert chosen(page) == t
    page.locator("#strip").press("End")
    x, y = column(page, 0)
    page.mouse.move(x, y + 100)
    for _ in range(3):
        assert chosen(page) == 0  # nothing jumps away from beneath the mouse
        page.mouse.move(x, y + 101)


def test_moving_over_the_text_tells_what_was_expected_there(open_page: Open) -> None:
    page, text = open_page("tanh"), "the time traveller"
    typed(page, text)
    page.locator("#strip").focus()
    for t in (16, 15, 14):
        page.keyboard.press("ArrowLeft")
        assert chosen(page) == t
    page.locator(character(6)).hover()
    compare(page, exact_model(), LETTERS, text, 6)


# Undo, and the box's end


def clicks(page: "Page", what: str) -> None:
    """Click a button, or the first bar."""
    button = (
        page.locator("#bars button:not(:disabled)").first if what == "a bar" else page.get_by_role("button", name=what)
    )
    button.click()
    settled(page)


@pytest.mark.parametrize(
    "acts",
    [["Write 200 more"] * 2, ["Take the grey text"] * 2, ["a bar"] * 2, ["Example: a letter", "Example: a search"]],
)
def test_what_clicks_write_can_be_undone_and_what_was_typed_before_them(acts: list[str], open_page: Open) -> None:
    page = open_page("tanh")
    typed(page, "it has")
    values = ["it has"]
    for what in acts:
        clicks(page, what)
        values.append(box(page).input_value())
    assert len(set(values)) == 3
    assert page.evaluate("document.activeElement !== box")
    for keys, order in (("Control+Z", (1, 0)), ("Control+Shift+Z", (1, 2)), ("Control+Z", (1, 0))):
        for place in order:
            page.keyboard.press(keys)
            settled(page)
            assert box(page).input_value() == values[place]
            assert page.evaluate("typed.join('') === model.normalise(box.value)")
    page.keyboard.press("Control+Z")
    assert len(box(page).input_value()) < len("it has")
    page.keyboard.press("Control+Shift+Z")
    assert box(page).input_value() == "it has"


def pasted(page: "Page", text: str) -> None:
    """Copy a text in another box, and paste it into this one."""
    page.evaluate("text => document.body.append(Object.assign(made('textarea'), { id: 'other', value: text }))", text)
    for keys, where in (("Control+A", "#other"), ("Control+C", "#other"), ("Control+V", "#text")):
        page.locator(where).focus()
        page.keyboard.press(keys)
    page.evaluate("find('other').remove()")


def test_what_the_box_leaves_out_is_said(open_page: Open) -> None:
    page, said = open_page("tanh"), "The box takes 2,000 characters: the last {} of what came in are left out"
    told = page.locator("#said")
    typed(page, "")
    pasted(page, "it has ")
    assert box(page).input_value() == "it has "
    settled(page)
    assert told.inner_text() == ""
    pasted(page, "abcdef" * 500)
    told.filter(has_text=said.format("1,007")).wait_for()
    assert box(page).input_value() == ("it has " + "abcdef" * 500)[:2000]
    page.keyboard.press("Backspace")
    assert told.inner_text() == ""
    page.keyboard.type("x")
    settled(page)
    assert told.inner_text() == ""
    for key in ("y", "Enter"):
        page.keyboard.press(key)
        told.filter(has_text=said.format("1")).wait_for()
        page.keyboard.press("Backspace")
        assert told.inner_text() == ""
        page.keyboard.type("x")
    settled(page)
    clicks(page, "a bar")
    assert told.inner_text() == f"{said.format('1')}."
    assert len(box(page).input_value()) == 2000


def test_the_end_of_the_box_cuts_no_character(open_page: Open) -> None:
    page = open_page("characters")
    page.evaluate("model.choice = () => model.index.get('😀')")
    box(page).fill("x" * 1995)
    page.wait_for_function("() => reading.known === 1995")
    assert grey(page) == "😀😀"
    clicks(page, "Write 200 more")
    assert box(page).input_value() == "x" * 1995 + "😀😀"
    assert page.text_content("#said") == "2 characters written at the end, α 2, seed 0."


# What is written


def test_by_default_it_draws_and_a_seed_reproduces_it(open_page: Open) -> None:
    page = open_page("tanh")

    def written() -> str:
        """Return what is written after the same text, once what is set is said."""
        typed(page, "it has")
        follows, alpha, seed = grey(page), page.text_content("#alpha-value"), page.get_by_label("seed").input_value()
        clicks(page, "Write 200 more")
        text = str(box(page).input_value())
        assert text.startswith(f"it has{follows}") and len(text) == 206
        assert page.text_content("#said") == f"200 characters written at the end, α {alpha}, seed {seed}."
        return text

    assert page.get_by_label("drawn from P").is_checked()
    assert page.get_by_label("α =").input_value() == page.text_content("#alpha-value") == "2"
    texts = [written()]
    page.get_by_label("seed").fill("3")
    texts.append(written())
    page.get_by_label("α =").press("ArrowRight")
    assert page.text_content("#alpha-value") == "2.1"
    settled(page)
    compare(page, exact_model(), LETTERS, texts[1], 205, alpha=2.1)
    texts.append(written())
    assert len(set(texts)) == 3
    page.get_by_label("α =").press("ArrowLeft")
    page.get_by_label("seed").fill("0")
    assert written() == texts[0]


REPEATS = "At the marked character the state is the same as {} before: from here the text repeats."


@pytest.mark.parametrize(("name", "text"), [("tanh", "it has"), ("embedding", "it has")])
def test_greedy_has_no_alpha_and_marks_where_the_text_repeats(name: str, text: str, open_page: Open) -> None:
    model, page = exact_model(**MODELS[name]), open_page("epochs" if name == "tanh" else name)
    typed(page, text)
    page.get_by_label("the likeliest (greedy)").click()
    settled(page)
    assert page.get_by_label("α =").is_disabled() and page.get_by_label("seed").is_disabled()
    whole = model.predict(text, 200, LETTERS)
    assert grey(page) == whole[len(text) : len(text) + 20]
    likeliest = torch.tensor(probabilities(model, LETTERS, text)).argmax()
    assert f"written with {percent(1)}" in (page.locator("#bars .bar").nth(0).get_attribute("aria-label") or "")
    assert page.locator("#bars .bar").nth(0).get_attribute("data-character") == str(int(likeliest))
    clicks(page, "Write 200 more")
    assert box(page).input_value() == whole
    assert LETTERS.tokens_of(whole) == whole
    states = read(model, LETTERS, whole).states
    same = ((states[:, None] - states).abs().amax(2) < 1e-6).tril(-1)
    same[:, : len(text) - 1] = False  # what one has typed is not what repeats
    place = next(t for t in range(len(text), len(whole)) if same[t].any())
    period = place - int(same[place].nonzero().max())
    repeats = REPEATS.format(f"{period} character{'s' * (period != 1)}")
    assert page.text_content("#said") == f"200 characters written at the end, each the likeliest. {repeats}"
    marked = "[...strip.children].flatMap((span, t) => span.matches('.repeats') && span.matches('.at') ? [t] : [])"
    assert page.evaluate(marked) == [place]
    if name == "tanh":
        page.get_by_label("Training").press("ArrowLeft")
        settled(page)
        assert (page.text_content("#said"), page.locator("#strip .repeats").count()) == ("", 0)
    page.get_by_label("drawn from P").click()
    assert page.get_by_label("α =").is_enabled() and page.get_by_label("seed").is_enabled()


def test_tab_takes_the_grey_text_and_escape_lets_tab_go(open_page: Open) -> None:
    page = open_page("tanh")
    typed(page, "it has")
    for _ in range(2):
        before, follows = box(page).input_value(), grey(page)
        assert len(follows) == 20
        page.keyboard.press("Tab")
        assert box(page).input_value() == before + follows
    page.keyboard.press("Control+Z")
    assert box(page).input_value() == before
    page.keyboard.press("Escape")
    assert not grey(page)
    assert box(page).input_value() == before
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "more"


def test_with_the_caret_inside_nothing_is_grey_and_a_bar_writes_there(open_page: Open) -> None:
    page, inside = open_page("tanh"), "The cursor is inside: text is written on at the end."
    typed(page, "it has")
    assert page.get_by_text(inside).is_hidden()
    for _ in range(3):
        page.keyboard.press("ArrowLeft")
    page.get_by_text(inside).wait_for()
    page.wait_for_function("() => chosen.place === 2")
    settled(page)
    assert grey(page) == ""
    assert page.text_content("#after") == "After “it␣”, inside the text"
    page.keyboard.press("Tab")
    assert (box(page).input_value(), page.evaluate("document.activeElement.id")) == ("it has", "more")
    clicks(page, "a bar")
    P = powered(torch.tensor(probabilities(exact_model(), LETTERS, "it ")), LETTERS, 1)
    value = f"it {LETTERS.idx_to_token[int(P.argmax())]}has"
    assert box(page).input_value() == value
    assert page.evaluate("box.selectionEnd") == 4
    clicks(page, "Write 200 more")
    assert box(page).input_value().startswith(value) and len(box(page).input_value()) == 207


@pytest.mark.parametrize("text", ["a", "it  "])
def test_a_caret_that_moves_within_what_is_read_as_one_is_inside_too(text: str, open_page: Open) -> None:
    page = open_page("tanh")
    typed(page, text)
    assert grey(page)
    page.keyboard.press("ArrowLeft")
    page.wait_for_function("() => find('ghost').textContent === '\u200b'")


def test_a_click_on_a_bar_or_enter_goes_on_from_there(open_page: Open) -> None:
    model, page, text = exact_model(), open_page("tanh"), "it has"
    typed(page, text)
    for rank, act in ((0, "click"), (2, "keys")):
        P = powered(torch.tensor(probabilities(model, LETTERS, text)), LETTERS, 1)
        text += LETTERS.idx_to_token[int(P.argsort(descending=True)[rank])]
        if act == "click":
            page.locator("#bars button:not(:disabled)").nth(rank).click()
        else:
            page.locator("#bars button[tabindex='0']").focus()
            page.keyboard.press("Home")
            for _ in range(rank):
                page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
        settled(page)
        assert box(page).input_value() == text


# Any text


TYPED = [
    "“It has,” he said:\n\nHow far?\n",
    "Größe, Ärger: fünf\nStraße",
    "Η μηχανή του χρόνου·",
    "时间机器，飞吧。\n一",
    "😀 👍🏽\nI have",
    "été, жар",  # of which the vocabulary has neither é nor ж, а, р
]


def test_any_text_can_be_typed_and_shows_what_python_says(open_page: Open) -> None:
    model, page = exact_model(**MODELS["characters"]), open_page("characters")
    page.get_by_label("the likeliest (greedy)").click()
    for text in TYPED:
        typed(page, text)  # Enter is a line break
        assert box(page).input_value() == text
        assert page.text_content("#strip") == text.replace(" ", "␣\u200b").replace("\n", "↵\n")
        bits = surprises(model, CHARACTERS, text)
        mean = sum(bits) / len(bits)
        said = f"{mean:.3f} bits per character, perplexity {2**mean:.2f}, over {len(bits)} characters"
        assert page.text_content("#total") == said
        page.keyboard.press("Tab")
        assert box(page).input_value() == model.predict(text, 20, CHARACTERS)


def test_what_the_vocabulary_lacks_is_marked_and_said(open_page: Open) -> None:
    page, text = open_page("characters"), "He été, жар: é"
    typed(page, text)
    said = "The vocabulary has no é ж а р: the model reads <unk>, and bits and P are those of <unk>."
    assert page.locator("#unknown").inner_text() == said
    assert page.locator("#strip .unknown").all_text_contents() == list("ééжарé")
    compare(page, exact_model(**MODELS["characters"]), CHARACTERS, text, len(text) - 1)
    typed(page, "He went")
    assert page.locator("#unknown").is_hidden()
    assert page.locator("#strip .unknown").count() == 0


def test_what_cannot_be_seen_is_shown_by_a_sign_or_a_number(open_page: Open) -> None:
    page = open_page("characters")
    box(page).fill("a\t\u00a0\u3000q\u0307👩\u200d🚀\u2028")
    settled(page)
    shown = ["a", "⇥", "U+00A0", "U+3000", "q", "◌\u0307", "👩", "U+200D", "🚀", "U+2028"]
    assert page.locator("#strip span").all_text_contents() == shown


@pytest.mark.parametrize("name", ["tanh", "characters"])
def test_the_caret_is_after_the_character_that_is_inspected(name: str, open_page: Open) -> None:
    page, vocab = open_page(name), vocab_of(name)
    text = "It é\u0301😀\n👩\u200d🚀e\u0301q\u0307\r\nᄒ\u1161\u11ab  x"
    box(page).fill(text)
    text = box(page).input_value()
    ends = [len(text[:end].encode("utf-16-le")) // 2 for end in range(1, len(text) + 1)]
    places = page.evaluate("ends => ends.map(end => (box.setSelectionRange(end, end), caret()))", ends)
    assert places == [len(vocab.tokens_of(text[:end])) - 1 for end in range(1, len(text) + 1)]
    assert page.evaluate("typed.join('')") == vocab.tokens_of(text)


def test_the_arrow_keys_go_over_characters_of_two_units(open_page: Open) -> None:
    page = open_page("characters")
    typed(page, "I😀g")
    for at in ("😀", "I"):
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("at => document.querySelector('#strip .at')?.textContent === at", arg=at)


def test_with_thousands_of_symbols_it_begins_with_its_own_and_shows_the_likeliest(open_page: Open) -> None:
    page, model = open_page("chinese"), exact_model(**MODELS["chinese"])
    begins = box(page).input_value()
    assert len(begins) == 20
    assert not CHINESE.unknown(begins)
    assert page.locator(".example:visible").count() == 0
    typed(page, "你好。\n")
    compare(page, model, CHINESE, "你好。\n", 3)
    second = bar_rows(CHINESE, read(model, CHINESE, "你好。\n").after[3], 30)[1][0]
    page.locator("#bars button").nth(1).click()
    assert box(page).input_value() == f"你好。\n{second}"


def test_a_long_text_is_read_in_slices_and_a_change_in_its_middle_too(open_page: Open) -> None:
    model, page = exact_model(**MODELS["512 units"]), open_page("512 units")
    text = "the time machine " * 110
    box(page).fill(text)
    page.wait_for_function("count => reading.known === count", arg=len(text))
    settled(page)
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    page.keyboard.type("q")
    changed = text[:-5] + "q" + text[-5:]
    page.wait_for_function("count => reading.known === count", arg=len(changed))
    settled(page)
    bits = surprises(model, LETTERS, changed)
    assert f"{sum(bits) / len(bits):.3f} bits per character" in (page.text_content("#total") or "")
    box(page).press("Control+End")
    clicks(page, "Write 200 more")
    assert len(box(page).input_value()) == 2000
    assert not grey(page)


def test_an_empty_box_is_said_and_the_words_are_explained(open_page: Open) -> None:
    page = open_page("tanh")
    empty = page.get_by_text("Nothing is typed: like generate.py, the model begins with this character.")
    assert empty.is_hidden()
    typed(page, "")
    assert (page.text_content("#strip"), empty.is_visible()) == ("␣\u200b", True)
    assert (
        page.text_content("#total") == "Type two characters: from the second one on the model had something to expect."
    )
    page.keyboard.type("e")
    assert empty.is_hidden()
    page.get_by_text("The words on this page").click()
    words = set(page.locator("dt:visible").all_inner_texts())
    assert {"bits", "perplexity", "hidden units", "r", "greedy"} <= words
    alpha = page.get_by_text("is each P to the power α, so scaled that the sum is 1")
    assert alpha.is_visible() and "generate.py draws other numbers" in alpha.inner_text()


# Windows, colours, paper


def visible_controls(page: "Page") -> list[str]:
    controls = page.locator("button, input, select, textarea, [tabindex='0']")
    return [str(control.get_attribute("id")) for control in controls.all() if control.is_visible()]


def test_a_long_text_leaves_the_states_on_the_first_screen(open_page: Open) -> None:
    page = open_page("epochs", width=1366, height=768)
    typed(page, "")
    page.keyboard.insert_text("the time traveller has " * 52)
    page.keyboard.type("and so")
    settled(page)
    assert page.evaluate("[scrollY, reading.known > 1200]") == [0, True]

    def all_seen() -> bool:
        """Return whether the map is in the window, and the chosen character in the strip and in the window."""
        edges = page.evaluate("""["#heat", "#strip", "#strip .at"].map(element => {
            const { top, bottom } = document.querySelector(element).getBoundingClientRect();
            return [top, bottom];
        })""")  # fmt: skip
        frames = ([0, 768], [0, 768], edges[1])
        return all(frame[0] <= top and bottom <= frame[1] for (top, bottom), frame in zip(edges, frames, strict=True))

    assert all_seen()
    page.locator("#strip").press("Home")
    settled(page)
    assert all_seen()
    box(page).focus()
    page.keyboard.press("Control+Home")
    page.keyboard.type("so ")
    settled(page)
    assert page.evaluate("scrollY") == 0
    assert all_seen()


@pytest.mark.parametrize(("width", "height"), [(1366, 768), (1280, 600), (1920, 1080)])
def test_what_stays_while_one_scrolls_lies_on_nothing(width: int, height: int, open_page: Open) -> None:
    page = open_page("epochs", width=width, height=height)
    for summary in page.locator("summary").all():
        summary.click()
    page.mouse.wheel(0, 9000)
    page.wait_for_function("() => scrollY > 0 && scrollY + innerHeight >= document.documentElement.scrollHeight - 1")
    ends = page.evaluate("document.querySelector('.cause').getBoundingClientRect().bottom")
    assert ends <= page.evaluate("document.querySelector('details').getBoundingClientRect().top")


def test_on_a_phone_the_text_stays_above_what_it_explains(open_page: Open) -> None:
    page = open_page("tanh", **PHONE)
    page.locator("#memory").scroll_into_view_if_needed()
    page.locator("#strip span").nth(3).tap()
    settled(page)
    assert (page.text_content("#memory-said") or "").startswith("Another character in the place of “␣”")
    top, bottom, height = page.evaluate(
        "[strip, find('memory')].map(it => it.getBoundingClientRect().top).concat(innerHeight)"
    )
    assert 0 <= top < bottom < height


@pytest.mark.parametrize("name", ["epochs", "chinese"])
def test_nothing_is_wider_than_a_phone(name: str, open_page: Open) -> None:
    page = open_page(name, width=360, height=640, has_touch=True, is_mobile=True)
    box(page).fill("thetimetraveller" * 20 + " and so on")
    page.locator("summary").first.tap()
    page.locator("summary").last.tap()
    settled(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate("strip.scrollWidth <= strip.clientWidth")


def test_a_phone_is_not_told_of_keys_and_needs_none(open_page: Open) -> None:
    page = open_page("tanh", **PHONE)
    texts = [opened.locator("body").inner_text() for opened in (page, open_page("tanh"))]
    for key in ("Tab", "Esc", "arrow keys", "Enter"):
        assert [key in text for text in texts] == [False, True]
    before, follows = box(page).input_value(), grey(page)
    page.get_by_role("button", name="Take the grey text").tap()
    assert box(page).input_value() == before + follows
    page.get_by_role("button", name="Example: a letter").tap()
    assert box(page).input_value().startswith("My dear friend,\n")


def test_without_javascript_there_is_no_dead_control(open_page: Open) -> None:
    page = open_page("tanh", java_script_enabled=False)
    assert visible_controls(page) == []
    assert page.locator("noscript p").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_forced_colours_keep_bars_and_surprise(scheme: str, open_page: Open) -> None:
    page = open_page("tanh", forced_colors="active", color_scheme=scheme)
    typed(page, "the time traveller")
    ((paper, _),) = channels(page, "body")
    for element in ("#bars i", "#expected i", "#memory i", character(17)):
        assert paper not in [behind for behind, _ in channels(page, element)]


def test_on_paper_there_are_the_colours_and_no_control(open_page: Open) -> None:
    page = open_page("epochs")
    typed(page, "the time traveller")
    page.emulate_media(media="print")
    exact = "element => getComputedStyle(document.querySelector(element)).printColorAdjust"
    for element in ("#bars i", "#expected i", "#memory i", character(17), ".scale"):
        assert page.evaluate(exact, element) == "exact"
    controls = [control for control in visible_controls(page) if control not in ("text", "strip")]
    bars = page.locator("#bars button:visible").count()
    assert len(controls) == bars  # which are read, too


Colour = tuple[float, ...]


def channels(page: "Page", elements: str) -> list[tuple[Colour, Colour]]:
    """Return of each element the colour behind it, over all that is behind it, and that of its text."""
    found = []
    for layers, text in page.eval_on_selector_all(
        elements,
        r"""elements => elements.map(element => {
            const layers = [], numbers = colour => colour.match(/[\d.]+/g).map(Number);
            for (let at = element; at; at = at.parentElement) layers.push(getComputedStyle(at).backgroundColor);
            return [layers.map(numbers), numbers(getComputedStyle(element).color)];
        })""",
    ):
        below: Colour = (255, 255, 255)
        for *colour, share in (layer if len(layer) == 4 else [*layer, 1] for layer in reversed(layers)):
            below = tuple(share * c + (1 - share) * b for c, b in zip(colour, below, strict=True))
        found.append((below, tuple(text)))
    return found


def contrast(colours: tuple[Colour, Colour]) -> float:
    """Return the contrast of two colours as WCAG 2 defines it."""

    def luminance(colour: Colour) -> float:
        red, green, blue = (c / 3294.6 if c <= 10.31 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    darker, lighter = sorted(map(luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


SHARES = r"[...strip.children].map(span => Number(span.style.background.match(/calc\(([\d.]+)/)[1]))"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_text_can_be_read_on_every_colour(scheme: str, open_page: Open) -> None:
    assert contrast(((0, 0, 0), (255, 255, 255))) == pytest.approx(21)
    page = open_page("characters", color_scheme=scheme)
    box(page).fill(WRITTEN)
    for unit in (None, "unit 3", "unit 17", "unit 20"):
        if unit:
            page.locator("#unit").select_option(unit)
        settled(page)
        shares = page.evaluate(SHARES)
        assert max(shares) > 0.9
        assert min(map(contrast, channels(page, "#strip span"))) >= 4.5


# What leaves it, and what comes in


REACHES_OUT = """async url => {
    const refused = [];
    document.addEventListener("securitypolicyviolation", event => refused.push(event.effectiveDirective));
    await fetch(url).catch(() => {});
    document.body.append(Object.assign(new Image(), { src: url }));
    document.body.append(Object.assign(document.createElement("script"), { textContent: "globalThis.ran = 1" }));
    await new Promise(done => setTimeout(done, 200));
    return [refused.sort(), globalThis.ran ?? 0];
}"""


def test_nothing_can_be_asked_of_the_network(browser: "Browser", pages: dict[str, Path]) -> None:
    page = browser.new_page()
    page.goto(pages["tanh"].as_uri())
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        outcome = page.evaluate(REACHES_OUT, f"http://127.0.0.1:{server.getsockname()[1]}/")
        with pytest.raises(TimeoutError):
            server.accept()
    page.close()
    assert outcome == [["connect-src", "img-src", "script-src-elem"], 0]


def test_it_works_in_the_sandbox_of_weights_and_biases(browser: "Browser", pages: dict[str, Path]) -> None:
    page, troubles = browser.new_page(), list[str]()
    page.on("console", lambda message: troubles.append(message.text))
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.set_content(
        f'<iframe sandbox="allow-scripts" width=900 height=900 srcdoc="{escape(pages["tanh"].read_text())}">'
    )
    text = page.frame_locator("iframe").get_by_role("textbox", name="Your text")
    page.frame_locator("iframe").get_by_label("the likeliest (greedy)").click()
    text.fill("it has")
    text.press("Tab")
    assert text.input_value() == exact_model().predict("it has", 20, LETTERS)
    page.close()
    assert not troubles
