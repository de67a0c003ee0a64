from collections import Counter

import pytest
import torch

from timemachine.decoding import continue_text
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

VOCAB = Vocab("abc ")


@pytest.fixture
def model() -> RNNLMScratch:
    """Random weights, large enough that each character depends on those before, and of a seed that does not loop."""
    torch.manual_seed(11)
    return RNNLMScratch(len(VOCAB), hiddens=8, sigma=1.0)


def next_probabilities(model: RNNLMScratch, text: str, alpha: float) -> dict[str, float]:
    """softmax(α·logits) over all but <unk>, from one pass over the whole text."""
    logits_V = model(torch.tensor([VOCAB[list(text)]]))[0][0, -1].double()
    weights = {token: (alpha * logits_V[VOCAB[token]]).exp().item() for token in "abc "}
    return {token: weight / sum(weights.values()) for token, weight in weights.items()}


@pytest.mark.parametrize("prefix", ["a", "ab", "c ab a"])
def test_greedy_is_predict(model: RNNLMScratch, prefix: str) -> None:
    assert continue_text(model, VOCAB, prefix, 30, num_samples=2) == [model.predict(prefix, 30, VOCAB)] * 2


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
def test_frequencies_are_those_of_the_sharpened_distribution(model: RNNLMScratch, alpha: float) -> None:
    num_samples = 20_000
    texts = Counter(continue_text(model, VOCAB, "ab", 3, alpha, num_samples, seed=1))
    probabilities = {"ab": 1.0}
    for _ in range(3):
        probabilities = {
            text + character: p * p_next
            for text, p in probabilities.items()
            for character, p_next in next_probabilities(model, text, alpha).items()
        }
    assert len(probabilities) == 4**3
    for text, p in probabilities.items():
        expected = p * num_samples
        assert abs(texts[text] - expected) <= 5 * expected**0.5 + 5, text  # + 5: a rare text may come a few times


@pytest.mark.parametrize("alpha", [1e6, 1e38, 1e300])
def test_a_large_alpha_is_greedy(model: RNNLMScratch, alpha: float) -> None:
    assert continue_text(model, VOCAB, "ab", 30, alpha, 3) == continue_text(model, VOCAB, "ab", 30, None, 3)


def test_the_same_seed_gives_the_same_texts(model: RNNLMScratch) -> None:
    torch.manual_seed(1)
    texts = continue_text(model, VOCAB, "ab", 30, 1.0, 3, seed=7)
    torch.manual_seed(2)  # the global generator has no say
    assert continue_text(model, VOCAB, "ab", 30, 1.0, 3, seed=7) == texts
    assert len(set(texts)) == 3
    assert not set(continue_text(model, VOCAB, "ab", 30, 1.0, 3, seed=8)) & set(texts)


@pytest.mark.parametrize("alpha", [None, 1.0])
def test_an_empty_prefix_starts_from_a_space(model: RNNLMScratch, alpha: float | None) -> None:
    after_space = continue_text(model, VOCAB, " ", 30, alpha)
    assert [" " + text for text in continue_text(model, VOCAB, "", 30, alpha)] == after_space


@pytest.mark.parametrize("prefix", ["ab", ""])
@pytest.mark.parametrize("alpha", [None, 1.0])
def test_nothing_to_predict_is_the_prefix(model: RNNLMScratch, prefix: str, alpha: float | None) -> None:
    assert continue_text(model, VOCAB, prefix, 0, alpha, 2) == [prefix] * 2


@pytest.mark.parametrize("alpha", [None, 1e-300, 0.01, 1.0, 100.0])
@pytest.mark.parametrize("mass", [50.0, 1e30])
def test_unknown_is_never_emitted_even_with_all_the_mass_on_it(
    model: RNNLMScratch, alpha: float | None, mass: float
) -> None:
    with torch.no_grad():
        model.b_q[VOCAB.unk] = mass
    for text in continue_text(model, VOCAB, "ab", 30, alpha, 5):
        assert text.startswith("ab")
        assert len(text) == 32
        assert set(text) <= set("abc ")
