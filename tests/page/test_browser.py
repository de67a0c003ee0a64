"""page.html in headless Chromium: numbers equal torch's, keyboard and touch work, and no request is sent."""

import random
from typing import TYPE_CHECKING, Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.page.conftest import Open
from tests.page.models import (
    BPE,
    LETTERS,
    MODELS,
    WRITTEN,
    as_read,
    exact_model,
    gradients,
    half,
    powered,
    read,
    vocab_of,
)
from tests.page.screen import NUM_BARS, compare, numbers, settle, sign, tokens_of
from timemachine.config import Tokens
from timemachine.texts.normalisation import normalise

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

TOLERANCE = 1e-9
NUM_GHOST = 30  # tokens of the grey text
READ = """texts => texts.map(text => {
    const reading = new Reading(model);
    reading.take(text);
    reading.advance();
    const last = reading.known - 1;
    return {
        states: [...reading.states[last]],
        after: [...reading.next(last)],
        surprises: reading.surprises.slice(1),
        gradients: [...reading.gradients(last)],
    };
})"""
DRAWN = """([alpha, count]) => {
    const reading = new Reading(model), counts = new Array(model.size).fill(0), random = uniform(7);
    reading.take("it has");
    reading.advance();
    const chances = model.chances(reading.states.at(-1), alpha);
    for (let i = 0; i < count; i++) counts[sample(chances, random)]++;
    return counts;
}"""


# The numbers of the model


def prefixes(count: int) -> list[str]:
    """Return texts that a user may type: empty, letters, capitals, marks, line ends, accents, other scripts."""
    draw = random.Random(0)
    often = "abcdefghijklmnopqrstuvwxyz" * 2 + "      ABC" + "é.,\n'9\u2028😀ж\u0301"
    texts = ("".join(draw.choices(draw.choice([often, WRITTEN]), k=draw.randrange(61))) for _ in range(count))
    return ["", *texts]


@pytest.mark.parametrize("name", MODELS)
def test_numbers_are_those_of_torch(name: str, open_page: Open) -> None:
    model, vocab, page = exact_model(**MODELS[name]), vocab_of(name), open_page(name)
    texts = prefixes(3 if name in ("512 units", "chinese") else 12)
    for text, found in zip(texts, page.evaluate(READ, texts), strict=True):
        said = read(model, vocab, text)
        assert found["states"] == pytest.approx(said.states[-1].tolist(), abs=TOLERANCE)
        assert found["after"] == pytest.approx(said.after[-1].tolist(), abs=TOLERANCE)
        assert found["surprises"] == pytest.approx(said.bits[1:], abs=TOLERANCE)
        norms = gradients(model, said.characters).flip(0).tolist()
        assert found["gradients"] == pytest.approx(norms, abs=TOLERANCE)


COMPOSING = "eqE \r\n\u0301\u0323\u0307\u0327ᄒ\u1161\u11ab\u212b\u1e9b\u2126\ufb01\u0958"


def test_normalised_text_is_that_of_python(open_page: Open) -> None:
    page = open_page("tanh")
    symbols = st.sampled_from(COMPOSING) | st.characters(exclude_categories=["Cs", "Cn"])

    @settings(max_examples=20)
    @given(st.lists(st.text(symbols), max_size=20))
    @example(["\ufeffa\ufeffb"])  # Python removes byte order marks
    def agrees(texts: list[str]) -> None:
        for kind in Tokens:
            found = page.evaluate("([kind, texts]) => texts.map(NORMALISE[kind])", [kind.name, texts])
            assert found == [normalise(text.encode(), kind) for text in texts]

    agrees()


SPACES = " \t\n\r\x1c\x85\u00a0\u2028\u3000\ufeff"  # only JavaScript counts the last one as white space
TRICKY = (
    "",
    " ",
    "It's said that they'll, I'VE  the  the\r\nthe\t\t the\r\r the ",
    "“It’s 12½ ²³ Ⅷ 一二 ٣4th” _it_ __ ... ",
    "😀😁👍🏽👩\u200d🚀 时间机器，飞吧。\u3000一",
    "q\u0307 e\u0301 é \u0301 कुकु 각각",
)


def test_tokens_are_those_of_python(open_page: Open) -> None:
    page = open_page("bpe")
    symbols = st.sampled_from(f"{SPACES}'\"_it has'll½😀") | st.characters(exclude_categories=["Cs", "Cn"])

    @settings(max_examples=20)
    @given(st.lists(st.text(symbols), max_size=20), st.lists(st.integers(0, BPE.unk - 1)))
    @example([*TRICKY], [])
    def agrees(texts: list[str], indices: list[int]) -> None:
        found = page.evaluate("texts => texts.map(text => model.indices(model.read(text)))", texts)
        assert found == [as_read(BPE, text).tolist() for text in texts]
        decoded = page.evaluate("indices => model.textOf(indices.map(index => model.tokens[index]))", indices)
        assert decoded == BPE.decode(indices)

    agrees()


@pytest.mark.parametrize("alpha", [0.5, 4.0])
def test_samples_have_the_scaled_distribution(alpha: float, open_page: Open) -> None:
    page, count = open_page("tanh"), 40_000
    drawn = page.evaluate(DRAWN, [alpha, count])
    P = powered(read(exact_model(), LETTERS, "it has").after[-1], LETTERS, alpha)
    errors = (count * P * (1 - P)).sqrt()
    assert drawn[LETTERS.unk] == 0
    assert ((torch.tensor(drawn) - count * P).abs() < 5 * errors + 1).all()


# The numbers on the page


def box(page: "Page") -> Any:
    return page.get_by_role("textbox", name="Your text")


def value(page: "Page") -> str:
    return str(box(page).input_value())


def type_text(page: "Page", text: str) -> None:
    """Clear the box and type the text one key at a time."""
    box(page).focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.type(text)
    settle(page)


def click(page: "Page", button: str) -> None:
    page.get_by_role("button", name=button).click()
    settle(page)


def grey(page: "Page") -> str:
    return (page.text_content("#ghost") or "").removesuffix("\u200b")


def selected(page: "Page") -> int:
    settle(page)
    (place,) = page.evaluate("[...views[0].strip.children].flatMap((span, t) => span.matches('.at') ? [t] : [])")
    return int(place)


TEXTS = {"characters": "“It has,” é\nHow far", "chinese": "你好。\n", "bpe": "“It's said,”\n  they’ll go 😀"}


@pytest.mark.parametrize(
    "name", ["relu", "embedding", "gru", "lstm", "deep", "deep relu", "characters", "chinese", "bpe"]
)
def test_shown_numbers_are_those_of_torch(name: str, open_page: Open) -> None:
    model, vocab, page = exact_model(**MODELS[name]), vocab_of(name), open_page(name)
    text = TEXTS.get(name, "The Time,  Tr")
    tokens = tokens_of(vocab, text)
    type_text(page, text)
    compare(page, model, vocab, text, len(tokens) - 1)
    page.locator(".strip").first.press("ArrowLeft")
    compare(page, model, vocab, text, len(tokens) - 2)
    page.keyboard.press("Home")
    compare(page, model, vocab, text, 0)


def test_epoch_slider(open_page: Open) -> None:
    page, text = open_page("epochs"), "it has a time"
    type_text(page, text)
    compare(page, exact_model(), LETTERS, text, 12)
    page.get_by_label("Saved epochs").focus()
    for key, model, said in (
        ("Home", half(exact_model(seed=1)), []),
        ("ArrowRight", half(exact_model(seed=2)), ["5", "15.25", "16.50"]),
        ("ArrowRight", exact_model(), ["100", "6.25", "7.50"]),
    ):
        page.keyboard.press(key)
        assert numbers(page.text_content("#epoch-said") or "") == said
        assert page.get_attribute("#epoch", "aria-valuetext") == page.text_content("#epoch-said")
        compare(page, model, LETTERS, text, 12)


def test_link_restores_the_state(open_page: Open) -> None:
    page, text = open_page("epochs"), "ä time & a half"
    type_text(page, text)
    page.get_by_label("Saved epochs").press("ArrowLeft")
    page.locator(".strip").first.press("Home")
    page.keyboard.press("ArrowRight")
    page.get_by_label("seed", exact=True).fill("3")
    page.get_by_label("α =").press("ArrowRight")
    settle(page)
    follows = grey(page)
    click(page, "Copy a link")
    link = page.url
    open_page("tanh")
    page.goto(link)
    assert value(page) == text
    assert (selected(page), page.evaluate("run.epochs[chosen.epoch].epoch")) == (1, 5)
    assert grey(page) == follows
    open_page("epochs").get_by_label("the likeliest (greedy)").click()
    settle(page)
    greedy = grey(page)
    click(page, "Copy a link")
    page.reload()
    settle(page)
    assert page.evaluate("chosen.alpha") is None and grey(page) == greedy


def test_saved_epochs_are_shown_once(open_page: Open) -> None:
    page = open_page("tanh")
    page.emulate_media(reduced_motion="no-preference")
    for use in (None, lambda: page.keyboard.press("Shift"), lambda: page.goto(f"{page.url}#text=time")):
        open_page("epochs")
        page.wait_for_function("() => chosen.epoch === 0")
        if use:
            use()
            assert page.evaluate("chosen.epoch") == 2
        page.wait_for_function("() => chosen.epoch === 2")
    page.emulate_media(reduced_motion="reduce")


def test_parts_of_the_plain_recurrence(open_page: Open) -> None:
    for name, is_plain in (("relu", True), ("gru", False), ("lstm", False), ("deep", False)):
        assert open_page(name).locator("#plain").is_visible() is is_plain


def test_bars_write_their_character(open_page: Open) -> None:
    page, text = open_page("tanh"), "it has a time"
    type_text(page, text)
    row = page.locator(".view.network-0 .bars button:enabled").nth(1)
    character = LETTERS.idx_to_token[int(row.get_attribute("value") or "")]
    row.press("Enter")
    assert value(page) == text + character
    assert page.evaluate("document.activeElement.matches('.bar')")
    assert page.locator(".view.network-0 .bars button").count() == NUM_BARS


# Play


@pytest.mark.parametrize("name", ["epochs", "lstm", "bpe"])
def test_play_reads_token_by_token(name: str, open_page: Open) -> None:
    """While playing or paused, the page draws nothing after the current position."""
    model, page = exact_model(**MODELS.get(name, {})), open_page(name)
    vocab = MODELS.get(name, {}).get("vocab", LETTERS)
    text = TEXTS.get(name, "it has a time and")
    last = len(tokens_of(vocab, text)) - 1
    type_text(page, text)
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("Space")
    page.wait_for_function("() => at() === 2")
    page.keyboard.press("Space")
    t = selected(page)
    assert 2 <= t < last and value(page) == text
    compare(page, model, vocab, text, t, blank=True)
    click(page, "One step forward")
    if t + 1 < last:
        compare(page, model, vocab, text, t + 1, blank=True)
    click(page, "One step back")
    compare(page, model, vocab, text, t, blank=True)
    page.evaluate("choose(last() - 1)")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => at() === last() && !play.on")
    compare(page, model, vocab, text, last)


# Touch


def test_tapping_selects_a_character(open_page: Open) -> None:
    page = open_page("tanh", phone=True)
    box(page).fill("the time traveller")
    page.locator(".view.network-0 .strip span").nth(4).tap()
    assert selected(page) == 4
    page.locator("canvas").first.scroll_into_view_if_needed()
    heat_map_at = """t => {
        const [view] = views, { left, top, width } = view.canvas.getBoundingClientRect();
        return [left + ((t - view.heatStart + 0.5) / columnsOf(view)) * width, top + 0.1];
    }"""
    page.touchscreen.tap(*page.evaluate(heat_map_at, 1))
    assert selected(page) == 1
    before, follows = value(page), grey(page)
    page.get_by_role("button", name="Take the grey text").tap()
    assert value(page) == before + follows


# Generated text


def test_a_seed_reproduces_the_text(open_page: Open) -> None:
    page = open_page("tanh")

    def written() -> str:
        type_text(page, "it has")
        follows = grey(page)
        click(page, "Write 200 more")
        assert value(page).startswith(f"it has{follows}") and len(value(page)) == 206
        assert numbers(page.text_content("#said") or "") == ["200"]
        return value(page)

    texts = [written()]
    page.get_by_label("seed", exact=True).fill("3")
    texts.append(written())
    page.get_by_label("α =").press("ArrowRight")
    compare(page, exact_model(), LETTERS, texts[1], 205, alpha=2.1)
    texts.append(written())
    assert len(set(texts)) == 3
    page.get_by_label("α =").press("ArrowLeft")
    page.get_by_label("seed", exact=True).fill("0")
    assert written() == texts[0]


@pytest.mark.parametrize("name", ["epochs", "embedding", "gru", "lstm", "deep"])
def test_greedy_text(name: str, open_page: Open) -> None:
    model, page = exact_model(**MODELS.get(name, {})), open_page(name)
    text = "it has"
    type_text(page, text)
    page.get_by_label("the likeliest (greedy)").click()
    settle(page)
    assert page.get_by_label("α =").is_disabled() and page.get_by_label("seed", exact=True).is_disabled()
    whole = model.predict(text, 200, LETTERS)
    assert grey(page) == whole[len(text) : len(text) + NUM_GHOST]
    click(page, "Write 200 more")
    assert value(page) == whole


# Any text

TYPED = (
    "“It has,” he said:\n\nGröße, 时间机器，飞吧。\n一",
    "😀 👍🏽\na\t\u00a0\u3000q\u0307👩\u200d🚀\u2028",
    "été, жар",  # not in the vocabulary
    "<b>It has</b><img src=x onerror=alert(1)>",
)


@pytest.mark.parametrize("name", ["characters", "bpe"])
def test_any_text_can_be_typed(name: str, open_page: Open) -> None:
    model, vocab, page = exact_model(**MODELS[name]), vocab_of(name), open_page(name)
    page.get_by_label("the likeliest (greedy)").click()
    for text in TYPED:
        type_text(page, text)  # Enter inserts a line break
        assert value(page) == text
        tokens = tokens_of(vocab, text)
        shown = [sign(token) + ("\n" if "\n" in token else "") for token in tokens]
        letters = page.locator(".view.network-0 .strip span").all_text_contents()
        assert [letter.replace("\u200b", "") for letter in letters] == shown
        lacking = [token for token in tokens if token not in vocab.token_to_idx]
        assert page.locator(".view.network-0 .strip .unknown").all_text_contents() == lacking
        for token in lacking:
            assert token in (page.text_content("#unread") or "")
        follows = model.predict(text, NUM_GHOST, vocab)
        assert text + grey(page) == follows
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")  # leaves the box
        assert value(page) == follows


def test_bars_write_whole_characters(open_page: Open) -> None:
    """A bar is enabled at the end of the text, unless its token is <unk> or a part of a character."""
    page, text = open_page("bpe"), "“It has, 😀 😁👍🏽 — πάντα\nthe ½"
    type_text(page, text)
    for t in (3, len(tokens_of(BPE, text)) - 1):
        page.evaluate("choose", t)
        settle(page)
        for index, disabled in page.eval_on_selector_all(
            ".view.network-0 .bars button", "rows => rows.map(row => [row.value, row.disabled])"
        ):
            token = BPE.idx_to_token[int(index)]
            is_partial = any("\udc80" <= character <= "\udcff" for character in token)
            assert disabled is (t == 3 or int(index) == BPE.unk or is_partial)
