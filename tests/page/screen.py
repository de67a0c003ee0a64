"""Compare the numbers on page.html with torch."""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor

from tests.page.models import DATA, Read, as_read, divergence, gradients, memory, powered, read
from timemachine.config import Tokens
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

if TYPE_CHECKING:
    from playwright.sync_api import Page

BACK = DATA["num_steps"] + 8  # number of characters in the memory chart
PAPER, PLUS, MINUS = torch.tensor([255, 255, 255]), torch.tensor([118, 42, 131]), torch.tensor([27, 120, 55])
HEAT = """() => {
    const { width, height } = canvas, pen = Object.assign(create("canvas"), { width, height }).getContext("2d");
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
BARS = """rows => rows.map(row => [
    row.querySelector("b").textContent, row.querySelector("small").textContent,
    ...[...row.querySelectorAll("i")].map(bar => parseFloat(bar.style.width)),
])"""
SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥"}
Bar = tuple[str, str, float, float]  # token, probability in words, two lengths in percent


@dataclass(frozen=True)
class Shown:
    """A page and its expected content: this text, read from `start` on, with the character at t selected."""

    page: "Page"
    model: RNNLMScratch
    vocab: Vocab
    text: str
    t: int
    start: int = 0
    alpha: float = 2.0
    unit: int | None = None
    blank: bool = False  # nothing is drawn after t, as in Play

    @cached_property
    def read(self) -> Read:
        return read(self.model, self.vocab, self.text, self.start)

    @cached_property
    def tokens(self) -> list[str]:
        return tokens_of(self.vocab, self.text)

    @property
    def before(self) -> Tensor:
        """Return the state before the selected character: (H)."""
        return torch.zeros_like(self.read.states[0]) if self.t in (0, self.start) else self.read.states[self.t - 1]

    def scale(self, *vectors: Tensor) -> float:
        """Return the value that gets the strongest colour: 1 for tanh."""
        return 1.0 if self.model.hparams["activation"] == "tanh" else float(torch.stack(vectors).abs().max())

    def says(self, element: str) -> str:
        return self.page.text_content(element) or ""


def compare(*arguments: Any, **options: Any) -> None:
    """Compare every number on a page with torch. The arguments are those of `Shown`."""
    shown = Shown(*arguments, **options)
    settle(shown.page)
    compare_text(shown)
    compare_heat_map(shown)
    compare_recurrence(shown)
    compare_next(shown)
    compare_memory(shown)


def compare_text(shown: Shown) -> None:
    """Compare the surprise of the text and of the selected character, and the background of each character."""
    it, t, first = shown.read, shown.t, max(1, shown.start)
    count = len(shown.tokens) - first
    bits = sum(it.bits[first:]) / count
    total = [f"{bits:.3f}", f"{2**bits:,.2f}", str(count)]
    if shown.vocab.kind is Tokens.bpe:
        total.append(f"{bits * count / int(shown.vocab.bytes_V[it.characters[first:]].sum()):.3f}")
    assert numbers(shown.says("#total")) == total
    assert shown.page.get_attribute("#strip", "aria-valuetext") == shown.says("#inspected")
    if t:
        P, character = it.before[t], int(it.characters[t])
        rank = int(P.gt(P[character]).sum()) + 1
        said = shown.says("#inspected").rpartition("”")[2]
        probability = percent(float(P[character])).removesuffix("%").removeprefix("< ")
        assert numbers(said) == [f"{it.bits[t]:.2f}", probability, str(rank), str(len(shown.vocab))]
        assert ("<unk>" in said) is (shown.tokens[t] not in shown.vocab.token_to_idx)
        compare_gradient(shown)
        compare_bars(shown.page, "#expected", bars(shown.vocab, P, 6, character))
    backgrounds = shown.page.evaluate("[...strip.children].map(span => span.dataset.background)")
    assert backgrounds[: shown.start] == ["none"] * shown.start
    most = shown.scale(*it.states)
    end = t + 1 if shown.blank else len(shown.tokens)
    assert set(backgrounds[end:]) <= {"none"}
    for place in range(shown.start, end):
        h = float(it.states[place, shown.unit]) if shown.unit is not None else 0
        colour = "hot" if shown.unit is None else "minus" if h < 0 else "plus"
        share = (it.bits[place] / 8 if place else 0) if shown.unit is None else abs(h) / most
        assert backgrounds[place] == f"rgb(var(--{colour}) / calc({min(1, share):.3f} * var(--most-{colour})))"


def compare_gradient(shown: Shown) -> None:
    """Compare the gradient of the selected character's loss with respect to each earlier state."""
    norms = gradients(shown.model, shown.read.characters[: shown.t + 1], shown.start)
    found = shown.page.evaluate("[...strip.children].map(span => Number(span.dataset.gradient))")
    shares = (norms / norms.max()).tolist() if len(norms) else []
    assert found[shown.start : shown.t] == pytest.approx(shares)
    assert not any(found[: shown.start] + found[shown.t :])


def compare_heat_map(shown: Shown) -> None:
    """Compare the colour of each unit after each character, where a unit is at least one pixel high."""
    columns = shown.page.evaluate(HEAT)
    states = shown.read.states[columns[0][0] : columns[-1][0] + 1]
    most = shown.scale(*states)
    assert set(shown.page.locator(".most").all_text_contents()) == {short(most)}
    if shown.model.rnn.num_hiddens > shown.page.evaluate("heightOfUnits()"):
        return
    for state, (place, *column) in zip(states, columns, strict=True):
        if shown.blank and place > shown.t:
            assert not any(map(any, column))
            continue
        h = (state[:, None] / most).clamp(-1, 1)
        if shown.unit is not None:
            h[torch.arange(len(h)) != shown.unit] *= 0.2
        colours = PAPER + h.abs() * (torch.where(h < 0, MINUS, PLUS) - PAPER)
        assert (colours - torch.tensor(column)).abs().max() < 1


@torch.no_grad()
def compare_recurrence(shown: Shown) -> None:
    """Compare the common scale of the vectors of one step, and the values of one unit."""
    it, model, t, before = shown.read, shown.model, shown.t, shown.before
    x = model.inputs(it.characters[None, t : t + 1])[0, 0]
    from_input = (x @ model.rnn.W_xh if x.is_floating_point() else model.rnn.W_xh[x]) + model.rnn.b_h
    past = before @ model.rnn.W_hh
    vectors = torch.stack([before, past, from_input, past + from_input, it.states[t]])
    most = max(float(vectors.abs().max()), 1.0 if model.hparams["activation"] == "tanh" else 0.0)
    assert set(shown.page.locator(".most-of-step").all_text_contents()) == {short(most)}
    assert shown.says("#x") == sign(shown.tokens[t])
    unit = shown.unit or 0
    values = [signed(float(vector[unit])) for vector in (before, past, from_input, it.states[t])]
    assert numbers(shown.says("#one-unit")) == [str(unit), *values]
    assert shown.page.get_attribute("#cell", "aria-label") == shown.says("#one-unit")


def compare_next(shown: Shown) -> None:
    """Compare the probabilities of the next character, and of writing it."""
    it, t, vocab = shown.read, shown.t, shown.vocab
    follows = int(it.characters[t + 1]) if t < len(shown.tokens) - 1 else None
    written = powered(it.after[t], vocab, shown.alpha)
    compare_bars(shown.page, "#bars", bars(vocab, it.after[t], 30, follows, written))


def compare_memory(shown: Shown) -> None:
    """Compare the effect of each earlier character on the prediction."""
    read_on = shown.read.characters[shown.start : shown.t + 1]
    back = memory(shown.model, shown.vocab, read_on, BACK)
    back += [0.0] * (min(shown.t, BACK) + 1 - len(back))  # characters before the state was set to zero have no effect
    expected = [[str(s), f"{bits:.3f}"] for s, bits in reversed(list(enumerate(back)))]
    shown.page.wait_for_function("() => !find('memory').matches('.measuring')")
    titles = shown.page.eval_on_selector_all("#memory > *", "bars => bars.map(bar => bar.title)")
    assert [numbers(title.rpartition("”")[2]) for title in titles] == expected
    reach = max(s for s, bits in enumerate(back) if bits >= 0.01 * back[0])
    said = numbers(shown.says("#memory-said").rpartition("”")[2])
    assert said == [f"{back[0]:.2f}", *([str(reach)] if 0 < reach < len(back) - 1 else [])]
    assert numbers(shown.says("#memory-axis"))[:2] == ["0", f"{max(*back, 0.1):.2f}"]


def compare_forgetting(shown: Shown) -> None:
    """Compare the change of the prediction, and of the later bits, after the state was set to zero."""
    whole, without, start = read(shown.model, shown.vocab, shown.text), shown.read, shown.start
    changed = divergence(whole.after[shown.t], without.after[shown.t])
    count = len(shown.tokens) - start
    costs = [sum(it.bits[start:]) / count for it in (without, whole)]
    said = [f"{changed:.2f}"] if changed >= 0.005 else []
    said += [str(count), *(f"{cost:.2f}" for cost in costs[: 1 if abs(costs[0] - costs[1]) < 0.005 else 2])]
    assert numbers(shown.says("#forgotten")) == said


def bars(vocab: Vocab, P: Tensor, count: int, follows: int | None = None, written: Tensor | None = None) -> list[Bar]:
    """Return bars of the likeliest tokens. A less likely next token of the text, `follows`, is the sixth."""
    order = P.argsort(descending=True).tolist()
    shown = [*order]
    if follows in order[6:]:
        shown.remove(follows)
        shown.insert(5, follows)
    rows = []
    for character, likelier in zip(shown[:count], order, strict=False):
        rank = f"{order.index(character) + 1}. " if character == follows != likelier else ""
        p, chance = float(P[character]), float(written[character]) if written is not None else 0.0
        rows.append((f"{rank}{sign(vocab.idx_to_token[character])}", percent(p), 100 * p, 100 * chance))
    longest = max(length for row in rows for length in row[2:])
    return [(token, said, 100 * p / longest, 100 * chance / longest) for token, said, p, chance in rows]


def compare_bars(page: "Page", where: str, expected: list[Bar]) -> None:
    found = page.eval_on_selector_all(f"{where} .bar", BARS)
    assert [tuple(row[:2]) for row in found] == [row[:2] for row in expected]
    lengths = [length for row in expected for length in row[2:]]
    assert [length for row in found for length in row[2:]] == pytest.approx(lengths, abs=1e-3)


def settle(page: "Page") -> None:
    """Wait until the page has been drawn: one frame and the two timers after it."""
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => setTimeout(() => setTimeout(done))))")
    place = "at() === Number(strip.getAttribute('aria-valuenow')) - 1"
    page.wait_for_function(f"() => reading.known === reading.indices.length && {place}")


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


def short(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"


def signed(number: float) -> str:
    return f"{number:.2f}".removeprefix("-" if abs(number) < 0.005 else "").replace("-", "−")
