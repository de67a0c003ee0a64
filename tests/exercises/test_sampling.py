"""Generated text: measures on handwritten texts, and sharpening compared with brute force."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import sampling
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

VOCAB = Vocab("ab ")


@pytest.fixture
def model() -> RNNLMScratch:
    """Return a model with random weights, large enough for its predictions to depend on earlier characters."""
    torch.manual_seed(3)
    return RNNLMScratch(len(VOCAB), hiddens=8, sigma=1.0).eval()


def next_probabilities(model: RNNLMScratch, text: str) -> dict[str, float]:
    """Return the probabilities of the next character, including `<unk>`, from one pass over the text."""
    with torch.no_grad():
        P_V = model(torch.tensor([VOCAB[list(text)]]))[0][0, -1].double().softmax(0)
    return dict(zip(VOCAB.idx_to_token, P_V.tolist(), strict=True))


@given(st.text("ab", min_size=8, max_size=60))
def test_repeated_share_of_8_grams(text: str) -> None:
    again = [text[i : i + 8] in text[: i + 7] for i in range(len(text) - 7)]
    assert sampling.repeated_share(text) == pytest.approx(sum(again) / len(again))


@pytest.mark.parametrize(
    ("text", "repetition"),
    [
        ("it was" + "the " * 10, (6, 4)),
        ("a" * 20, (0, 1)),
        ("abcdefghijklmnopqabab", None),
        ("", None),
    ],
)
def test_where_repetition_starts(text: str, repetition: tuple[int, int] | None) -> None:
    assert sampling.repetition(text) == repetition


@pytest.mark.parametrize("cycle", ["the this ", "this the ", "e this th"])
def test_cycles_start_at_a_word(cycle: str) -> None:
    assert sampling.turned(cycle) == "the this "
    assert sampling.turned("aba") == "aab" and sampling.turned("") == ""


def test_measures_of_texts_made_by_hand(model: RNNLMScratch) -> None:
    texts = ["ab a ba bb a", "ab bb  b bb "]
    slow = [sum(math.log(next_probabilities(model, text[:t])[text[t]]) for t in range(2, 12)) / 10 for text in texts]
    measured = sampling.measures(model, VOCAB, texts, 2, {"a", "ba"})
    assert measured.pop("log_likelihood") == pytest.approx(slow, abs=1e-5)
    assert measured == {"repeated": [0, 0], "known_words": [2 / 3, 0]}


def test_loop_is_that_of_greedy_decoding() -> None:
    """The number of characters needed to stay in the loop is found by trying each length."""
    torch.manual_seed(2)
    model = RNNLMScratch(len(VOCAB), hiddens=8, sigma=0.8).eval()
    cycle, numbers = sampling.loop(model, VOCAB, "ab")
    text, begin = model.predict("ab", sampling.LOOP_SEARCH, VOCAB), 2 + int(numbers["start"])
    assert text[begin:] == (cycle * sampling.LOOP_SEARCH)[: len(text) - begin]
    assert len(cycle) == numbers["period"] > 1
    assert text[begin - 1] != cycle[-1] or not numbers["start"]
    assert numbers["difference"] < 1e-12 and numbers["margin"] > 1e-6
    needs = []
    for place in range(len(cycle)):
        on = (cycle[place:] + cycle[:place]) * 100
        fails = [k for k in range(1, 20) if model.predict(on[:k], 40, VOCAB) != on[: k + 40]]
        needs.append(max(fails, default=0) + 1)
    assert max(needs) == numbers["needed"] < 20


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_sharpening_against_all_texts(model: RNNLMScratch, alpha: float) -> None:
    distances = sampling.sharpening(model, VOCAB, "ab", alpha, 3)
    for length in (1, 2, 3):
        by_character, by_text = {}, {}
        for text in map("".join, product(" ab", repeat=length)):
            sharp = whole = 1.0
            for t, character in enumerate(text):
                P = next_probabilities(model, "ab" + text[:t])
                del P["<unk>"]
                sharp *= P[character] ** alpha / sum(p**alpha for p in P.values())
                whole *= (P[character] / sum(P.values())) ** alpha
            by_character[text], by_text[text] = sharp, whole
        total = sum(by_text.values())
        apart = sum(abs(by_character[text] - by_text[text] / total) for text in by_text) / 2
        assert distances[str(length)] == pytest.approx(apart, abs=1e-6)
    assert distances["1"] == pytest.approx(0, abs=1e-9)
    assert (distances["2"] > 1e-6) == (alpha != 1)


def test_real_texts_are_the_rest(sample: Corpus) -> None:
    data = TimeMachine(num_train=1000, num_val=900, corpus=sample)
    length, pieces = sampling.real_texts(data)
    characters, rest = sample.characters, data.splits["test"].targets
    assert characters[rest.start - length :].startswith(pieces[0])
    joined = "".join(piece[length:] for piece in pieces)
    assert characters[rest.start :].startswith(joined) and len(rest) - len(joined) < sampling.NUM_PREDS
    without_rest = TimeMachine(num_train=len(sample.characters) - 400 - 32, num_val=400, corpus=sample)
    assert characters.endswith(sampling.real_texts(without_rest)[1][0])


def test_table_has_means_over_models() -> None:
    names, whats = (*sampling.ALPHAS, sampling.GREEDY, sampling.REAL), [*sampling.MEASURES]
    runs = [
        {"status": "completed"}
        | {f"samples/{name}/{what}": model + place for place, (name, what) in enumerate(product(names, whats))}
        for model in (0.5, 1.5)
    ]
    table = sampling.table(DataFrame(runs))
    assert [*table.index] == [*names]
    means = [cell.mean for cell in table.to_numpy().flat]
    factors = [factor for _, factor in sampling.MEASURES.values()] * len(names)
    assert means == pytest.approx([factor * (1 + place) for place, factor in enumerate(factors)])
