"""What hidden units follow in a text: the correlation of each with features that have a name.

N tokens, H hidden units, F features. Pearson's r, over rows of `ROW` tokens that each start with a zero state. A token
of several characters has the features of its last one: the state after it has read that far.
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

MAX_CHARACTERS, ROW = 10_000, 500  # characters that are read, and tokens of a row
NUM_NAMED = 3  # units, at most
Feature = Callable[[str], list[float]]


class Named(NamedTuple):
    """A hidden unit, and the feature that it follows."""

    unit: int
    meaning: str


def each(is_one: Callable[[str], bool]) -> Feature:
    """Return the feature that is 1 at the characters that are one, else 0."""
    return lambda text: [float(is_one(character)) for character in text]


def distance_to(is_one: Callable[[str], bool]) -> Feature:
    """Return the number of characters since the last one that is one, or since the text began; 0 if none is."""

    def feature(text: str) -> list[float]:
        distances, distance = list[float](), 0
        for character in text:
            distance = 0 if is_one(character) else distance + 1
            distances.append(distance)
        return distances if any(map(is_one, text)) else [0.0] * len(text)

    return feature


def is_vowel(character: str) -> bool:
    """Return whether a letter is a vowel of English, in any case and with any accent."""
    return unicodedata.normalize("NFD", character)[0] in "aeiouAEIOU"


def is_punctuation(character: str) -> bool:
    """Return whether Unicode has the character for punctuation."""
    return unicodedata.category(character).startswith("P")


def in_quotation(text: str) -> list[float]:
    """Return 1 inside quotation marks, which a new paragraph opens again, else 0. Apostrophes do not count."""
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


FEATURES: dict[str, Feature] = {
    "spaces": each(str.isspace),
    "vowels": each(is_vowel),
    "distance to the last space": distance_to(str.isspace),
}
OF_CHARACTERS: dict[str, Feature] = {  # which a text of letters lacks
    "capitals": each(str.isupper),
    "digits": each(str.isdigit),
    "punctuation marks": each(is_punctuation),
    "inside quotation marks": in_quotation,
    "distance to the last line break": distance_to(lambda character: character == "\n"),
}
OF_KIND = {Tokens.letters: FEATURES, Tokens.characters: FEATURES | OF_CHARACTERS}
OF_KIND[Tokens.bpe] = {  # which do not depend on where in a word the token ends
    name: feature
    for name, feature in OF_KIND[Tokens.characters].items()
    if name not in ("spaces", "vowels", "capitals")
}


def training_text(data: TimeMachine) -> str:
    """Return the beginning of the characters that train, as many as are read here."""
    return data.corpus.characters[: min(MAX_CHARACTERS, data.splits["train"].targets.stop)]


class Units:
    """The units of a network in a text. Whole rows of it are read, up to `MAX_CHARACTERS` characters in all.

    `weights`: the weights of a page, by which units are compared and named. `named`: the pairs of unit and feature of
    the largest |r|, no unit and no feature twice. `order`: all units so that similar ones lie together.
    """

    def __init__(self, weights: dict[str, Tensor], activation: str, text: str, vocab: Vocab) -> None:
        index_N = vocab.encode(text[:MAX_CHARACTERS]).long()
        length = min(ROW, len(index_N))
        index_N = index_N[: len(index_N) // length * length]
        self._index_TB = index_N.view(-1, length).T
        self._activation = activation
        last_N = last_characters(text, index_N, vocab)
        text = text[: int(last_N[-1]) + 1]
        known = OF_KIND[vocab.kind]
        features_NF = torch.tensor([feature(text) for feature in known.values()]).T
        self._features_NF = standardised(features_NF[last_N])
        states_NH = self._states(weights)
        r_HF = states_NH.T @ self._features_NF
        self.named = [Named(unit, list(known)[feature]) for unit, feature in _largest(r_HF.abs())]
        self._columns = [list(known).index(it.meaning) for it in self.named]
        self.order = _chain(states_NH.T @ states_NH, self.named[0].unit if self.named else 0)

    def correlations(self, weights: dict[str, Tensor]) -> list[float]:
        """Return r of each named unit with its feature, under these weights."""
        states_NH = self._states(weights)
        pairs = zip(self.named, self._columns, strict=True)
        return [float(states_NH[:, it.unit] @ self._features_NF[:, column]) for it, column in pairs]

    def _states(self, weights: dict[str, Tensor]) -> Tensor:
        """Return the hidden states (N, H) along the text, standardised."""
        inputs = weights["embedding"][self._index_TB] if "embedding" in weights else self._index_TB
        W_xh, W_hh, b_h = (weights[name] for name in ("W_xh", "W_hh", "b_h"))
        with torch.no_grad():
            states_TBH, _ = recurrence(inputs, W_xh, W_hh, b_h, activation=self._activation)
        return standardised(states_TBH.transpose(0, 1).flatten(0, 1))


def last_characters(text: str, index_N: Tensor, vocab: Vocab) -> Tensor:
    """Return the place in a text of the last character of each token (N,), or of the one that the token is part of."""
    if vocab.kind is not Tokens.bpe:
        return torch.arange(len(index_N))
    ends = torch.tensor([len(character.encode()) for character in text]).cumsum(0)  # in bytes
    return torch.searchsorted(ends, vocab.bytes_V[index_N].cumsum(0))


def standardised(values_NK: Tensor) -> Tensor:
    """Return columns of mean 0 and norm 1, so that a product of two is Pearson's r.

    One that is constant, as of a dead ReLU, or not finite, as of a ReLU that grows without bound, becomes 0.
    """
    centred_NK = values_NK.double() - values_NK.double().mean(0)
    norm_K = centred_NK.square().sum(0).sqrt()
    return (centred_NK / norm_K).nan_to_num(0)  # float64 has the sum, and so the mean, of equal float32 exactly


def _largest(r_HF: Tensor) -> list[tuple[int, int]]:
    """Return the places of the largest numbers, `NUM_NAMED` at most, in no row and no column twice, and none of a 0."""
    r_HF, places = r_HF.clone(), list[tuple[int, int]]()
    while len(places) < NUM_NAMED and r_HF.max() > 0:
        row, column = divmod(int(r_HF.argmax()), r_HF.shape[1])
        places.append((row, column))
        r_HF[row], r_HF[:, column] = 0, 0
    return places


def _chain(similar_HH: Tensor, first: int) -> list[int]:
    """Return all units, after each the one of the remaining that is most like it."""
    similar_HH, chain = similar_HH.clone(), [first]
    while len(chain) < len(similar_HH):
        similar_HH[:, chain[-1]] = -torch.inf
        chain.append(int(similar_HH[chain[-1]].argmax()))
    return chain
