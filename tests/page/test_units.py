"""Features that the units of a page follow. NumPy computes r from the states of torch.nn.RNN."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.page.models import LETTERS, random_model
from timemachine import bpe
from timemachine.config import Tokens
from timemachine.corpus import Corpus
from timemachine.language_model import RNNLMScratch
from timemachine.page.units import FEATURES, MAX_CHARACTERS, ROW, Units
from timemachine.vocab import Vocab


def weights_of(model: RNNLMScratch) -> dict[str, Tensor]:
    return {name.removeprefix("rnn."): weight.detach() for name, weight in model.named_parameters()}


def units_of(model: RNNLMScratch, text: str, vocab: Vocab = LETTERS) -> Units:
    return Units(weights_of(model), model.rnn.activation, text, vocab)


def states_of(model: RNNLMScratch, index_BT: Tensor) -> NDArray[np.float64]:
    """Return the states of torch.nn.RNN with these weights in float64: (B·T, H)."""
    vectors_VD = torch.eye(model.vocab_size) if model.embedding is None else model.embedding.detach()
    trusted = nn.RNN(vectors_VD.shape[1], model.rnn.num_hiddens, nonlinearity=model.rnn.activation, batch_first=True)
    state = {"weight_ih_l0": model.rnn.W_xh.T, "weight_hh_l0": model.rnn.W_hh.T, "bias_ih_l0": model.rnn.b_h}
    trusted.load_state_dict(state | {"bias_hh_l0": torch.zeros(model.rnn.num_hiddens)})
    with torch.no_grad():
        states_BTH: Tensor = trusted.double()(vectors_VD.double()[index_BT])[0]
    return states_BTH.flatten(0, 1).numpy()


NETWORKS: list[dict[str, Any]] = [{}, {"activation": "relu"}, {"input": "embedding", "embedding_dim": 12}]


@pytest.mark.parametrize("network", NETWORKS)
def test_named_units_have_the_largest_correlations(network: dict[str, Any], sample: Corpus) -> None:
    model = random_model(hiddens=8, **network)
    units = units_of(model, sample.characters)
    rows = min(MAX_CHARACTERS, len(sample.characters)) // ROW
    text = sample.characters[: rows * ROW]
    states_NH = states_of(model, torch.tensor(LETTERS[list(text)]).view(rows, ROW))
    follows = {
        "spaces": [character == " " for character in text],
        "vowels": [character in "aeiou" for character in text],
        "distance to the last space": [at - text.rfind(" ", 0, at + 1) for at in range(len(text))],
    }
    r = {
        (unit, name): np.corrcoef(states_NH[:, unit], np.array(feature, float))[0, 1]
        for unit in range(8)
        for name, feature in follows.items()
    }
    expected: list[tuple[int, str]] = []
    for pair in sorted(r, key=lambda pair: -abs(r[pair])):
        if not any(pair[0] == unit or pair[1] == name for unit, name in expected):
            expected.append(pair)
    assert [(it.unit, it.meaning) for it in units.named] == expected and len(expected) == 3
    for it in units.named:
        assert it.order == sorted(range(8), key=lambda unit: -r[unit, it.meaning])
    assert units.correlations(weights_of(model)) == pytest.approx([r[pair] for pair in expected], abs=1e-4)
    other = random_model(hiddens=8, seed=1, **network)
    states_NH = states_of(other, torch.tensor(LETTERS[list(text)]).view(rows, ROW))
    later = [np.corrcoef(states_NH[:, unit], np.array(follows[name], float))[0, 1] for unit, name in expected]
    assert units.correlations(weights_of(other)) == pytest.approx(later, abs=1e-4)


def test_features_of_tokens(sample: Corpus) -> None:
    text = sample.characters[:2_000] + "“Größe,” πάντα 😀\n12½ it\n\n" * 100
    vocab = Vocab(bpe.learn(text, 270), Tokens.bpe)
    index_N = vocab.encode(text).long()
    index_N = index_N[: len(index_N) // ROW * ROW]
    ends = np.cumsum([len(bpe.to_bytes(vocab.idx_to_token[index])) for index in index_N])
    places = [text.encode()[: end - 1].decode(errors="ignore") for end in ends]
    last_N = [len(before) for before in places]  # of the character that has the last byte of the token
    model = random_model(vocab, hiddens=4)
    units = units_of(model, text, vocab)
    states_NH = states_of(model, index_N.view(-1, ROW))
    r = [np.corrcoef(states_NH[:, unit], np.array(FEATURES[name](text))[last_N])[0, 1] for unit, name, _ in units.named]
    assert len(r) == 3
    assert units.correlations(weights_of(model)) == pytest.approx(r, abs=1e-4)


WRITTEN = '“É 1!\n”Ab "c" '
AS_FEATURES: dict[str, list[int]] = {
    "spaces": [0, 0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1],
    "vowels": [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    "distance to the last space": [1, 2, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 0],
    "capitals": [0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    "digits": [0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    "punctuation marks": [1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0],
    "inside quotation marks": [1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0],
    "distance to the last line break": [1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8],
}


def test_features_of_a_text() -> None:
    found = {name: feature(WRITTEN) for name, feature in FEATURES.items()}
    assert found == AS_FEATURES
    assert FEATURES["inside quotation marks"]("“a\n\nb") == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(("grows", "named"), [(0.5, [2, 3]), (9.0, [])])  # the second growth overflows
def test_constant_units_are_not_named(grows: float, named: list[int]) -> None:
    model = random_model(hiddens=4, activation="relu")
    with torch.no_grad():
        model.rnn.W_xh[:, :2] = model.rnn.W_hh[:, :2] = 0
        model.rnn.b_h[:2] = torch.tensor([-1.0, 0.1])  # always off, and always on
        model.rnn.W_xh[:, 2:].abs_()
        model.rnn.W_hh[2:, 2:] = torch.eye(2) * grows
    units = units_of(model, "it has a time " * 100)
    assert sorted(it.unit for it in units.named) == named
    assert sorted(units.order) == [0, 1, 2, 3]
    before = units_of(random_model(hiddens=4, activation="relu"), "it has a time " * 100)
    assert all(map(math.isfinite, before.correlations(weights_of(model))))
