"""Generated text: measures on handwritten texts."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.exercises import sampling
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

VOCAB = Vocab("ab ")


def next_probabilities(model: RNNLMScratch, text: str) -> dict[str, float]:
    """Return the probabilities of the next character, including `<unk>`, from one pass over the text."""
    with torch.no_grad():
        P_V = model(torch.tensor([VOCAB[list(text)]]))[0][0, -1].double().softmax(0)
    return dict(zip(VOCAB.idx_to_token, P_V.tolist(), strict=True))


@given(st.text("ab", min_size=8, max_size=60))
def test_repeated_share_of_8_grams(text: str) -> None:
    again = [text[i : i + 8] in text[: i + 7] for i in range(len(text) - 7)]
    assert sampling.repeated_share(text) == pytest.approx(sum(again) / len(again))


def test_measures_of_texts_made_by_hand() -> None:
    torch.manual_seed(3)
    model = RNNLMScratch(len(VOCAB), hiddens=8, sigma=1.0)  # predictions depend on earlier characters
    texts = ["ab a ba bb a", "ab bb  b bb "]
    slow = [sum(math.log(next_probabilities(model, text[:t])[text[t]]) for t in range(2, 12)) / 10 for text in texts]
    measured = sampling.measures(model, VOCAB, texts, 2, {"a", "ba"})
    assert measured.pop("log_likelihood") == pytest.approx(slow, abs=1e-5)
    assert measured == {"repeated": [0, 0], "known_words": [2 / 3, 0]}


def test_real_texts_are_the_rest(sample: Corpus) -> None:
    data = TimeMachine(num_train=1000, num_val=900, corpus=sample)
    length, pieces = sampling.real_texts(data)
    characters, rest = sample.characters, data.splits["test"].targets
    assert characters[rest.start - length :].startswith(pieces[0])
    joined = "".join(piece[length:] for piece in pieces)
    assert characters[rest.start :].startswith(joined) and len(rest) - len(joined) < sampling.NUM_PREDS
    without_rest = TimeMachine(num_train=len(sample.characters) - 400 - 32, num_val=400, corpus=sample)
    assert characters.endswith(sampling.real_texts(without_rest)[1][0])
