"""page.html in a real browser: its numbers are Python's, the keyboard suffices, and nothing leaves it."""

import random
import socket
import statistics
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    exact_model,
    gradient_norms,
    probabilities,
    surprises,
    vocab_of,
)
from timemachine.config import Tokens
from timemachine.corpus import normalise

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser

TOLERANCE = 1e-5
READ = """texts => texts.map(text => {
    const reading = new Reading(model);
    reading.take(model.indices(text));
    reading.advance();
    const last = reading.characters.length - 1;
    return {
        expected: [...reading.expected(last)],
        surprises: reading.surprises.slice(1),
        norms: [...reading.influence(last)],
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


@pytest.mark.parametrize("name", MODELS)
def test_probabilities_surprise_and_gradients_are_pythons(name: str, open_page: Open) -> None:
    model, vocab, page = exact_model(**MODELS[name]), vocab_of(name), open_page(name)
    texts = prefixes(50)
    for text, found in zip(texts, page.evaluate(READ, texts), strict=True):
        assert found["expected"] == pytest.approx(probabilities(model, vocab, text), abs=TOLERANCE)
        assert found["surprises"] == pytest.approx(surprises(model, vocab, text), abs=TOLERANCE)
        assert found["norms"] == pytest.approx(gradient_norms(model, vocab, text), abs=TOLERANCE)


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
    P = torch.tensor(probabilities(exact_model(), LETTERS, "it has"), dtype=torch.float64) ** alpha
    P[LETTERS.unk] = 0
    P = P / P.sum()
    errors = (count * P * (1 - P)).sqrt()
    assert drawn[LETTERS.unk] == 0
    assert ((torch.tensor(drawn) - count * P).abs() < 5 * errors + 1).all()


# What one does


def box(page: "Page") -> Any:
    return page.get_by_role("textbox", name="Your text")


def typed(page: "Page", text: str) -> None:
    """Empty the box and type, a key after the other."""
    box(page).focus()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.type(text)


def grey(page: "Page") -> str:
    return (page.text_content("#ghost") or "").removesuffix("\u200b")


def settled(page: "Page") -> None:
    """Wait until what follows a key has been drawn: a frame, and what comes after it."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(() => setTimeout(done))))")


@pytest.mark.parametrize("name", ["tanh", "embedding"])
def test_typing_shows_what_python_says(name: str, open_page: Open) -> None:
    model, page = exact_model(**MODELS[name]), open_page(name)
    typed(page, "The Time,  T")
    settled(page)
    read = "the time t"
    assert page.text_content("#strip") == read.replace(" ", "␣\u200b")
    bits = statistics.fmean(surprises(model, LETTERS, read))
    said = f"{bits:.3f} bits per character, perplexity {2**bits:.2f}, over 9 characters"
    assert page.text_content("#total") == said
    assert grey(page) == model.predict(read, 20, LETTERS)[len(read) :]
    likeliest = sorted(probabilities(model, LETTERS, read), reverse=True)
    bars = page.locator("#bars button small").all_text_contents()
    assert [float(bar.rstrip(" %")) for bar in bars[:6]] == pytest.approx([100 * p for p in likeliest[:6]], abs=0.06)
    (norm, place) = max((norm, t) for t, norm in enumerate(gradient_norms(model, LETTERS, read)))
    mattered = f"“{read[place].replace(' ', '␣')}” {len(read) - 1 - place} back ({norm:.2g}"
    assert mattered[:-1] in (page.text_content("#inspected") or "")


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
    for text in TYPED:
        typed(page, text)  # Enter is a line break
        settled(page)
        assert box(page).input_value() == text
        assert page.text_content("#strip") == text.replace(" ", "␣\u200b").replace("\n", "↵\n")
        bits = statistics.fmean(surprises(model, CHARACTERS, text))
        said = f"{bits:.3f} bits per character, perplexity {2**bits:.2f}, over {len(text) - 1} characters"
        assert page.text_content("#total") == said
        likeliest = sorted(probabilities(model, CHARACTERS, text), reverse=True)
        bars = page.locator("#bars button small").all_text_contents()
        assert [float(bar.rstrip(" %")) for bar in bars[:6]] == pytest.approx(
            [100 * p for p in likeliest[:6]], abs=0.06
        )
        page.keyboard.press("Tab")
        assert box(page).input_value() == model.predict(text, 20, CHARACTERS)


def test_what_the_vocabulary_lacks_is_marked_and_said(open_page: Open) -> None:
    page, text = open_page("characters"), "He été, жар: é"
    typed(page, text)
    settled(page)
    said = "The vocabulary has no é ж а р: the model reads <unk>, and bits and P are those of <unk>."
    assert page.locator("#unknown").inner_text() == said
    assert page.locator("#strip .unknown").all_text_contents() == list("ééжарé")
    inspected = page.text_content("#inspected") or ""
    bits = surprises(exact_model(**MODELS["characters"]), CHARACTERS, text)[-1]
    assert inspected.startswith(f"“é”: {bits:.2f} bits; the model gave <unk> ")
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
    for end in range(1, len(text) + 1):
        at = page.evaluate(
            "end => (box.setSelectionRange(end, end), caret())", len(text[:end].encode("utf-16-le")) // 2
        )
        assert at == len(vocab.tokens_of(text[:end])) - 1
    assert page.evaluate("typed.join('')") == vocab.tokens_of(text)


def test_the_arrow_keys_go_over_characters_of_two_units(open_page: Open) -> None:
    page = open_page("characters")
    typed(page, "I😀g")
    for at in ("😀", "I"):
        page.keyboard.press("ArrowLeft")
        page.wait_for_function("at => document.querySelector('#strip .at')?.textContent === at", arg=at)


def test_the_end_of_the_box_cuts_no_character(open_page: Open) -> None:
    page = open_page("characters")
    page.evaluate("model.choice = () => model.index.get('😀')")
    box(page).fill("x" * 1995)
    page.wait_for_function("() => reading.known === 1995")
    assert grey(page) == "😀😀"
    page.get_by_role("button", name="Write 200 more").click()
    assert box(page).input_value() == "x" * 1995 + "😀😀"
    assert page.text_content("#said") == "2 characters written, each the likeliest."


def test_with_thousands_of_symbols_it_begins_with_its_own_and_shows_the_likeliest(open_page: Open) -> None:
    page, model = open_page("chinese"), exact_model(**MODELS["chinese"])
    begins = box(page).input_value()
    assert len(begins) == 20
    assert not CHINESE.unknown(begins)
    assert page.locator(".example:visible").count() == 0
    typed(page, "你好。\n")
    settled(page)
    P = probabilities(model, CHINESE, "你好。\n")
    likeliest = sorted(range(len(P)), key=lambda index: -P[index])[:30]
    signs = page.locator("#bars b").all_text_contents()
    assert signs == [CHINESE.idx_to_token[index].replace("\n", "↵") for index in likeliest]
    assert page.locator("#expected .bar").count() == 5
    page.locator("#bars button").nth(1).click()
    assert box(page).input_value() == "你好。\n" + CHINESE.idx_to_token[likeliest[1]]


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


def test_a_click_on_a_bar_or_enter_goes_on_from_there(open_page: Open) -> None:
    model, page = exact_model(), open_page("tanh")
    typed(page, "it has")
    text = "it has"
    page.keyboard.press("Escape")
    for rank, act in ((0, "click"), (2, "keys")):
        P = probabilities(model, LETTERS, text)
        P[LETTERS.unk] = 0
        text += LETTERS.idx_to_token[sorted(range(len(P)), key=lambda index: -P[index])[rank]]
        if act == "click":
            page.locator("#bars button:not(:disabled)").nth(rank).click()
        else:
            page.locator("#bars button[tabindex='0']").focus()
            page.keyboard.press("Home")
            for _ in range(rank):
                page.keyboard.press("ArrowDown")
            page.keyboard.press("Enter")
        assert box(page).input_value() == text


def test_alpha_and_seed_decide_what_is_written_and_reproduce_it(open_page: Open) -> None:
    def written(alpha_keys: int, seed: int) -> str:
        page = open_page("tanh")
        typed(page, "it has")
        if alpha_keys:
            page.locator("#alpha").focus()
            for _ in range(alpha_keys):
                page.keyboard.press("ArrowRight")
        page.get_by_label("seed").fill(str(seed))
        page.get_by_role("button", name="Write 200 more").press("Enter")
        return str(box(page).input_value())

    assert written(0, 0) == exact_model().predict("it has", 200, LETTERS)
    drawn = written(5, 3)
    assert len(drawn) == 206
    assert drawn == written(5, 3)
    assert written(5, 4) != drawn != written(6, 3)


def test_moving_over_the_text_tells_what_was_expected_there(open_page: Open) -> None:
    model, page, read = exact_model(), open_page("tanh"), "the time traveller"
    typed(page, read)
    bits = surprises(model, LETTERS, read)

    def said() -> str:
        settled(page)
        return page.text_content("#inspected") or ""

    page.locator("#strip").focus()
    for t in (16, 15, 14):
        page.keyboard.press("ArrowLeft")
        assert said().startswith(f"“{read[t]}”: {bits[t - 1]:.2f} bits")
    page.locator("#strip span").nth(6).hover()
    assert said().startswith(f"“m”: {bits[5]:.2f} bits")


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
    bits = statistics.fmean(surprises(model, LETTERS, changed))
    assert f"{bits:.3f} bits per character" in (page.text_content("#total") or "")
    box(page).press("Control+End")
    page.get_by_role("button", name="Write 200 more").click()
    assert len(box(page).input_value()) == 2000
    assert not grey(page)


def test_taking_the_grey_text_needs_no_keyboard(open_page: Open) -> None:
    page = open_page("tanh", width=390, has_touch=True)
    before, follows = box(page).input_value(), grey(page)
    page.get_by_role("button", name="Take the grey text").tap()
    assert box(page).input_value() == before + follows
    page.get_by_role("button", name="Example: a letter").tap()
    assert box(page).input_value().startswith("My dear friend,\n")


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
    text.fill("it has")
    text.press("Tab")
    assert text.input_value() == exact_model().predict("it has", 20, LETTERS)
    page.close()
    assert not troubles
