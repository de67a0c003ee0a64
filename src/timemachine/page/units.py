"""Name hidden units after the features of a text that they correlate with.

N tokens, H hidden units, F features. Pearson's r, over rows of `ROW` tokens that each start with a zero state. A token
of several characters has the features of its last character, since the state after the token includes all of them.
"""

import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from timemachine.config import Tokens
from timemachine.datamodule import TimeMachine
from timemachine.kernels.bptt import recurrence
from timemachine.vocab import Vocab

MAX_CHARACTERS, ROW = 10_000, 500  # characters to read, and tokens per row
NUM_NAMED = 3  # maximum number of named units
Feature = Callable[[str], list[float]]


class Named(NamedTuple):
    """A hidden unit, the feature that it correlates with, and all units by falling correlation with this feature."""

    unit: int
    meaning: str
    order: list[int]


def each(is_one: Callable[[str], bool]) -> Feature:
    """Return a feature: 1 for each character with the property `is_one`, else 0."""
    return lambda text: [float(is_one(character)) for character in text]


def distance_to(is_one: Callable[[str], bool]) -> Feature:
    """Return a feature: the number of characters since the last one with the property, or since the text's start.

    It is 0 everywhere in a text without such characters.
    """

    def feature(text: str) -> list[float]:
        distances, distance = list[float](), 0
        for character in text:
            distance = 0 if is_one(character) else distance + 1
            distances.append(distance)
        return distances if any(map(is_one, text)) else [0.0] * len(text)

    return feature


def is_vowel(character: str) -> bool:
    """Return whether a letter is an English vowel, in upper or lower case, with or without an accent."""
    return unicodedata.normalize("NFD", character)[0] in "aeiouAEIOU"


def in_quotation(text: str) -> list[float]:
    """Return a feature: 1 inside double quotation marks, else 0. A new paragraph ends a quotation."""
    inside, before, found = False, "", list[float]()
    for character in text:
        if character == before == "\n" or character in "”»":
            inside = False
        elif character in "“«":
            inside = True
        elif character == '"':
            inside = not inside
        found.append(float(inside))
        before = character
    return found


FEATURES: dict[str, Feature] = {  # all but three are 0 in a text of letters and spaces, and name no unit there
    "spaces": each(str.isspace),
    "vowels": each(is_vowel),
    "distance to the last space": distance_to(str.isspace),
    "capitals": each(str.isupper),
    "digits": each(str.isdigit),
    "punctuation marks": each(lambda character: unicodedata.category(character).startswith("P")),
    "inside quotation marks": in_quotation,
    "distance to the last line break": distance_to(lambda character: character == "\n"),
}
# Features that depend on where in a word a token of several characters ends.
NOT_OF_TOKENS = ("spaces", "vowels", "capitals")


def training_text(data: TimeMachine) -> str:
    """Return the beginning of the training text, at most `MAX_CHARACTERS` characters."""
    return data.corpus.characters[: min(MAX_CHARACTERS, data.splits["train"].targets.stop)]


class Units:
    """Correlations of a network's hidden units with features of a text, read in whole rows up to `MAX_CHARACTERS`.

    `weights`, with a page's names, give the states by which units are named and ordered. `named`: the pairs of unit
    and feature with the largest |r|; no unit and no feature occurs twice. `order`: all units, similar ones adjacent.
    """

    def __init__(self, weights: dict[str, Tensor], activation: str, text: str, vocab: Vocab) -> None:
        index_N = vocab.encode(text[:MAX_CHARACTERS]).long()
        length = min(ROW, len(index_N))
        index_N = index_N[: len(index_N) // length * length]
        self._index_TB = index_N.view(-1, length).T
        self._activation = activation
        last_N = last_characters(text, index_N, vocab)
        text = text[: int(last_N[-1]) + 1]
        meanings = [name for name in FEATURES if vocab.kind is not Tokens.bpe or name not in NOT_OF_TOKENS]
        features_NF = standardised(torch.tensor([FEATURES[name](text) for name in meanings]).T[last_N])
        states_NH = self._states(weights)
        r_HF = states_NH.T @ features_NF
        falling_HF = r_HF.argsort(dim=0, descending=True)
        pairs = _largest(r_HF.abs())
        self.named = [Named(unit, meanings[column], falling_HF[:, column].tolist()) for unit, column in pairs]
        self._features = [features_NF[:, column] for _, column in pairs]
        self.order = _chain(states_NH.T @ states_NH, self.named[0].unit if self.named else 0)

    def correlations(self, weights: dict[str, Tensor]) -> list[float]:
        """Return r of each named unit with its feature, with these weights."""
        states_NH = self._states(weights)
        pairs = zip(self.named, self._features, strict=True)
        return [float(states_NH[:, it.unit] @ feature_N) for it, feature_N in pairs]

    def _states(self, weights: dict[str, Tensor]) -> Tensor:
        """Return the standardised hidden states (N, H) after each token of the text."""
        inputs = weights["embedding"][self._index_TB] if "embedding" in weights else self._index_TB
        W_xh, W_hh, b_h = (weights[name] for name in ("W_xh", "W_hh", "b_h"))
        with torch.no_grad():
            states_TBH, _ = recurrence(inputs, W_xh, W_hh, b_h, activation=self._activation)
        return standardised(states_TBH.transpose(0, 1).flatten(0, 1))


def last_characters(text: str, index_N: Tensor, vocab: Vocab) -> Tensor:
    """Return the index of each token's last character in a text (N,); a token may end within a character."""
    if vocab.kind is not Tokens.bpe:
        return torch.arange(len(index_N))
    ends = torch.tensor([len(character.encode()) for character in text]).cumsum(0)  # in bytes
    return torch.searchsorted(ends, vocab.bytes_V[index_N].cumsum(0))


def standardised(values_NK: Tensor) -> Tensor:
    """Return columns with mean 0 and norm 1, so that the product of two columns is Pearson's r.

    A column that is constant (a dead ReLU) or not finite (a ReLU that grows without bound) becomes 0.
    """
    centred_NK = values_NK.double() - values_NK.double().mean(0)
    norm_K = centred_NK.square().sum(0).sqrt()
    # In float64 the mean of equal float32 numbers is exact, so a constant column has a norm of exactly 0.
    return (centred_NK / norm_K).nan_to_num(0)


def _largest(r_HF: Tensor) -> list[tuple[int, int]]:
    """Return rows and columns of the largest positive numbers, at most `NUM_NAMED`; none occurs twice."""
    r_HF, places = r_HF.clone(), list[tuple[int, int]]()
    while len(places) < NUM_NAMED and r_HF.max() > 0:
        row, column = divmod(int(r_HF.argmax()), r_HF.shape[1])
        places.append((row, column))
        r_HF[row], r_HF[:, column] = 0, 0
    return places


def _chain(similar_HH: Tensor, first: int) -> list[int]:
    """Return all units, starting with `first`; each is followed by the most similar remaining unit."""
    similar_HH, chain = similar_HH.clone(), [first]
    while len(chain) < len(similar_HH):
        similar_HH[:, chain[-1]] = -torch.inf
        chain.append(int(similar_HH[chain[-1]].argmax()))
    return chain
