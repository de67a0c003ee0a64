"""What a model writes: the measures on texts made by hand, sharpening against brute force, and the report."""

import math
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import sampling
from timemachine.exercises.jobs import Job
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

VOCAB = Vocab("ab ")


@pytest.fixture
def model() -> RNNLMScratch:
    """Random weights, large enough that each character depends on those before."""
    torch.manual_seed(3)
    return RNNLMScratch(len(VOCAB), hiddens=8, sigma=1.0).eval()


def next_probabilities(model: RNNLMScratch, text: str) -> dict[str, float]:
    """P of each character after a text, `<unk>` included, from one pass over all of it."""
    with torch.no_grad():
        P_V = model(torch.tensor([VOCAB[list(text)]]))[0][0, -1].double().softmax(0)
    return dict(zip(VOCAB.idx_to_token, P_V.tolist(), strict=True))


@given(st.text("ab", min_size=8, max_size=60))
def test_repeated_share_counts_every_8_gram_that_came_before(text: str) -> None:
    again = [text[i : i + 8] in text[: i + 7] for i in range(len(text) - 7)]
    assert sampling.repeated_share(text) == pytest.approx(sum(again) / len(again))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("it was" + "the " * 10, {"start": 6, "cycle": "the "}),
        ("a" * 20, {"start": 0, "cycle": "a"}),
        ("abcdefghijklmnopqabab", {"start": None, "cycle": None}),
        ("", {"start": None, "cycle": None}),
    ],
)
def test_loops_of_known_texts(text: str, found: dict[str, Any]) -> None:
    assert sampling.loop(text) == found


def test_log_likelihood_is_that_of_a_slow_loop(model: RNNLMScratch) -> None:
    texts = ["ab a ba", "ab bb  "]
    slow = [sum(math.log(next_probabilities(model, text[:t])[text[t]]) for t in range(2, 7)) / 5 for text in texts]
    assert sampling.log_likelihoods(model, VOCAB, texts, 2) == pytest.approx(slow, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_sharpening_is_that_of_all_texts_written_out(model: RNNLMScratch, alpha: float) -> None:
    found = sampling.sharpening(model, VOCAB, "ab", alpha, 3)
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
        differences = {text: abs(by_character[text] - by_text[text] / total) for text in by_text}
        assert found["distances"][length - 1] == pytest.approx(sum(differences.values()) / 2, abs=1e-6)
    assert differences[found["text"]] == pytest.approx(max(differences.values()), abs=1e-6)
    assert found["by_character"] == pytest.approx(by_character[found["text"]], abs=1e-6)
    assert found["by_text"] == pytest.approx(by_text[found["text"]] / total, abs=1e-6)
    assert found["distances"][0] == pytest.approx(0, abs=1e-9)
    assert (found["distances"][1] > 1e-6) == (alpha != 1)


def test_real_texts_are_the_validation_parts(sample: Corpus) -> None:
    data = TimeMachine(num_train=1000, num_val=900, corpus=sample)
    groups = sampling.real_texts(data)
    assert [len(texts) for _, texts in groups] == [sampling.NUM_SAMPLES] * len(sampling.PREFIXES)
    characters, targets = sample.characters.decode(), data.splits["val"].targets
    first, last = groups[0][1][0], groups[-1][1][-1]
    assert first == characters[targets.start - sampling.CONTEXT : targets.start + sampling.NUM_PREDS]
    assert characters[: targets.stop].endswith(last)
    assert {len(text) for _, texts in groups for text in texts} == {sampling.CONTEXT + sampling.NUM_PREDS}


def test_the_probe_has_a_row_for_each_way_of_decoding(sample: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that has not been trained, in short."""
    monkeypatch.setattr(sampling, "NUM_PREDS", 60)
    monkeypatch.setattr(sampling, "LENGTH", 2)
    data = TimeMachine(num_train=1000, num_val=900, corpus=sample)
    torch.manual_seed(0)
    model = RNNLMScratch(len(data.vocab), sigma=0.5).eval()
    measured = sampling.measure(model, data)
    assert measured == sampling.measure(model, data)
    assert [row["alpha"] for row in measured["rows"]] == [None, 0.5, 1, 1.5, 2, 4, 8]
    assert measured["real"]["known_words"] == 1
    for row in [*measured["rows"], measured["real"]]:
        assert 0 <= row["repeated"] <= 1
        assert row["log_likelihood"] < 0
    for row in measured["rows"]:
        assert all(text.startswith(prefix) for text, prefix in zip(row["shown"], sampling.PREFIXES, strict=True))


def fabricated(seed: int) -> dict[str, Any]:
    """A measurement in which everything grows with alpha, greedy text is less likely than at 8, and text lies at 2."""

    def row(alpha: float) -> dict[str, Any]:
        shares = {"repeated": alpha / 100 + seed / 100, "known_words": alpha / 10}
        return {**shares, "distinct_words": 80 - alpha, "log_likelihood": alpha / 10 - 3, "shown": ["a b", "c d"]}

    sharpening = {"prefix": "a", "alpha": 2.0, "distances": [0.0, 0.25 + seed / 10]}
    sharpening |= {"text": "is", "by_character": 0.125, "by_text": 0.5}
    return {
        "length": 500,
        "num_samples": 8,
        "prefixes": ["a", "c"],
        "rows": [row(7.0) | {"alpha": None}, *(row(alpha) | {"alpha": alpha} for alpha in (0.5, 1.0, 2.0, 8.0))],
        "real": row(2.0),
        "loops": [{"start": 4, "cycle": "he t"}, {"start": None, "cycle": None}],
        "sharpening": sharpening,
    }


def test_the_report_has_a_row_for_each_way_and_their_numbers_in_its_answer() -> None:
    probes = [{"samples": fabricated(0)}, {"samples": fabricated(1)}, {}]  # the last one has not ended
    found = sampling.findings([Job(Path(), "completed", "", {}, {}, 1.0, "", probe) for probe in probes])
    assert [row[:3] for row in found.rows] == [
        ["greedy", "2", "7.50 ± 0.71"],
        ["P^0.5", "2", "1.00 ± 0.71"],
        ["P", "2", "1.50 ± 0.71"],
        ["P^2", "2", "2.50 ± 0.71"],
        ["P^8", "2", "8.50 ± 0.71"],
        ["real text", "2", "2.50 ± 0.71"],
    ]
    text = " ".join([found.answer, *found.longer])
    for number in ("5.0 to 80.0 %", "1.0 to 8.5 %", "2 of 4 times", "0.000, 0.300", "0.125", "0.500"):
        assert number in text
