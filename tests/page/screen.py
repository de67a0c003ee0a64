"""Compare the numbers on page.html with torch."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.page.models import Read, as_read, gradients, outputs_of, powered, read
from timemachine.config import Tokens
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAPER, PLUS, MINUS = torch.tensor([255, 255, 255]), torch.tensor([118, 42, 131]), torch.tensor([27, 120, 55])
HEAT = """place => {
    const { canvas, heatStart, reading } = views[place], { width, height } = canvas;
    const pen = Object.assign(create("canvas"), { width, height }).getContext("2d");
    pen.drawImage(canvas, 0, 0);
    const pixels = pen.getImageData(0, 0, width, height).data;
    return Array.from({ length: Math.min(width, reading.known - heatStart) }, (_, column) => [
        heatStart + column,
        ...Array.from({ length: height }, (_, row) => {
            const pixel = 4 * (row * width + column);
            return [...pixels.slice(pixel, pixel + 3)];
        }),
    ]);
}"""
BARS = """rows => rows.map(row => [
    row.querySelector("b").textContent, row.querySelector("small").textContent,
    ...[...row.querySelectorAll("i")].map(bar => parseFloat(bar.style.width)),
])"""
NUM_BARS, NUM_SEVERAL = 8, 5  # of one network, of each of several
SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥"}
Bar = tuple[str, str, float, float]  # token, probability in words, two lengths in percent


@dataclass(frozen=True)
class Shown:
    """A page and its expected content: this text, with the character at t selected."""

    page: "Page"
    model: RNNLMScratch
    vocab: Vocab
    text: str
    t: int
    alpha: float = 2.0
    blank: bool = False  # nothing is drawn after t, as in Play
    place: int = 0  # of its view, the number of the network

    @cached_property
    def read(self) -> Read:
        return read(self.model, self.vocab, self.text)

    @cached_property
    def tokens(self) -> list[str]:
        return tokens_of(self.vocab, self.text)

    @property
    def hiddens(self) -> Tensor:
        """Return the hidden units that the map shows: (T, S), without an LSTM's memory."""
        is_lstm = self.model.hparams["cell"] == "lstm"
        return outputs_of(self.model, self.read.states) if is_lstm else self.read.states

    def scale(self, states: Tensor) -> float:
        """Return the value that gets the strongest colour: 1 unless units are ReLUs."""
        is_relu = self.model.hparams["activation"] == "relu" and "rnn" in self.model.hparams["cell"]
        return float(states.abs().max()) if is_relu else 1.0

    def says(self, element: str) -> str:
        return self.page.locator(f".view.network-{self.place} {element}").text_content() or ""

    def of_letters(self, name: str) -> list[str]:
        """Return a value that each letter of the strip has in its `dataset`."""
        spans = f"(name) => [...views[{self.place}].strip.children].map(span => span.dataset[name])"
        values: list[str] = self.page.evaluate(spans, name)
        return values


def compare(*arguments: Any, **options: Any) -> None:
    """Compare every number on a page with torch. The arguments are those of `Shown`."""
    shown = Shown(*arguments, **options)
    settle(shown.page)
    compare_text(shown)
    compare_heat_map(shown)
    compare_next(shown)


def compare_text(shown: Shown) -> None:
    """Compare the surprise of the text and of the selected character, and the background of each character."""
    it, t = shown.read, shown.t
    count = len(shown.tokens) - 1
    bits = sum(it.bits[1:]) / count
    total = [f"{bits:.3f}", f"{2**bits:.2f}", str(count)]
    if shown.vocab.kind is Tokens.bpe:
        total.append(f"{bits * count / int(shown.vocab.bytes_V[it.characters[1:]].sum()):.3f}")
    assert numbers(shown.says(".total")) == total, (shown.says(".total"), total)
    strip = shown.page.locator(f".view.network-{shown.place} .strip")
    assert strip.get_attribute("aria-valuetext") == shown.says(".inspected")
    if t:
        P, character = it.before[t], int(it.characters[t])
        rank = int(P.gt(P[character]).sum()) + 1
        said = shown.says(".inspected").rpartition("”")[2]
        probability = percent(float(P[character])).removesuffix("%").removeprefix("< ")
        assert numbers(said) == [f"{it.bits[t]:.2f}", probability, str(rank), str(len(shown.vocab))]
        assert ("<unk>" in said) is (shown.tokens[t] not in shown.vocab.token_to_idx)
        compare_gradient(shown)
    backgrounds = shown.of_letters("background")
    end = t + 1 if shown.blank else len(shown.tokens)
    assert set(backgrounds[end:]) <= {"none"}
    for place in range(end):
        share = it.bits[place] / 8 if place else 0
        assert backgrounds[place] == f"rgb(var(--hot) / calc({min(1, share):.3f} * var(--most-hot)))"


def compare_gradient(shown: Shown) -> None:
    """Compare the bars below the letters with the gradient of the selected character's log odds.

    All views have the same scale, 1, 2 or 5 times a power of ten, which the page says.
    """
    norms = gradients(shown.model, shown.read.characters[: shown.t + 1])
    (scale,) = re.findall(r"at most (\S+) bits", shown.page.text_content("#gradient-said") or "")
    found = [float(share) for share in shown.of_letters("gradient")]
    assert found[: shown.t] == pytest.approx((norms / float(scale)).tolist(), abs=1e-9)
    assert not any(found[shown.t :])
    assert scale.strip("0.")[0] in "125" and max(found) <= 1


def compare_heat_map(shown: Shown) -> None:
    """Compare the colour of each unit after each character."""
    columns = shown.page.evaluate(HEAT, shown.place)
    states = shown.hiddens[columns[0][0] : columns[-1][0] + 1]
    most = shown.scale(states[: shown.t + 1 - columns[0][0]] if shown.blank else states)
    assert float(shown.says(".most")) == float(f"{most:.2g}")  # small ReLUs: 0.0000067 in JavaScript, 6.7e-06 in Python
    for state, (place, *column) in zip(states, columns, strict=True):
        if shown.blank and place > shown.t:
            assert not any(map(any, column))
            continue
        h = (state[:, None] / (most or 1)).clamp(-1, 1)  # 0 if all ReLUs have died
        colours = PAPER + h.abs() * (torch.where(h < 0, MINUS, PLUS) - PAPER)
        assert (colours - torch.tensor(column)).abs().max() < 1


def compare_next(shown: Shown) -> None:
    """Compare the probabilities of the next character, and of writing it."""
    it, t, vocab = shown.read, shown.t, shown.vocab
    follows = int(it.characters[t + 1]) if t < len(shown.tokens) - 1 else None
    written = powered(it.after[t], vocab, shown.alpha)
    number = NUM_BARS if shown.page.locator(".view:not([hidden])").count() == 1 else NUM_SEVERAL
    compare_bars(shown, bars(vocab, it.after[t], follows, written, number))


def bars(vocab: Vocab, P: Tensor, follows: int | None, written: Tensor, number: int) -> list[Bar]:
    """Return bars of the likeliest tokens. A less likely next token of the text, `follows`, is the last."""
    order = P.argsort(descending=True).tolist()
    shown = order[:number]
    if follows is not None and follows not in shown:
        shown[-1] = follows
    longest = max(float(P.max()), float(written.max()))
    rows = []
    for index, likelier in zip(shown, order, strict=False):
        rank = f"{order.index(index) + 1}. " if index == follows != likelier else ""
        p, chance = float(P[index]), float(written[index])
        rows.append((f"{rank}{sign(vocab.idx_to_token[index])}", percent(p), 100 * p / longest, 100 * chance / longest))
    return rows


def compare_bars(shown: Shown, expected: list[Bar]) -> None:
    found = shown.page.eval_on_selector_all(f".view.network-{shown.place} .bar:not([hidden])", BARS)
    assert [tuple(row[:2]) for row in found] == [row[:2] for row in expected]
    lengths = [length for row in expected for length in row[2:]]
    assert [length for row in found for length in row[2:]] == pytest.approx(lengths, abs=1e-3)


def settle(page: "Page") -> None:
    """Wait until the page has been drawn: one frame and the two timers after it."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(() => setTimeout(done))))")
    place = "at() === Number(views[0].strip.getAttribute('aria-valuenow')) - 1"
    page.wait_for_function(f"() => views.every((view) => view.reading.isComplete) && {place}")


def numbers(text: str) -> list[str]:
    """Return the numbers in a text, so that tests do not depend on its wording."""
    return re.findall(r"−?\d+(?:,\d{3})*(?:\.\d+)?", text.replace("− ", "−"))


def tokens_of(vocab: Vocab, text: str) -> list[str]:
    """Return the tokens of a text. Characters that are not in the vocabulary are kept."""
    return list(vocab.to_tokens(as_read(vocab, text))) if vocab.kind is Tokens.bpe else [*vocab.tokens_of(text)]


def sign(token: str) -> str:
    """Return the symbols that the page displays for a token."""
    unseen = "".join(
        f"\\x{ord(character) - 0xDC00:02x}"
        if "\udc80" <= character <= "\udcff"
        else f"U+{ord(character):04X}"
        if unicodedata.category(character)[0] in "CZ" and character not in SIGNS
        else SIGNS.get(character, character)
        for character in token
    )
    return f"◌{unseen}" if unicodedata.category(token[0]) == "Mn" else unseen


def percent(p: float) -> str:
    return "< 0.001%" if p < 5e-6 else f"{100 * p:.{3 if p < 0.001 else 1}f}%"
