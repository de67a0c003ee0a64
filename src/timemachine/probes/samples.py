"""What the model writes: greedily, from P and from P^alpha, measured beside as much real text.

B texts of one length, T characters, V vocabulary, H hidden units. Every text has a prefix, which is not measured.
"""

import math
import statistics
from collections.abc import Iterable
from typing import Any

import torch

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

ALPHAS = (None, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0)  # None: greedy
PREFIXES = ("it has", "time traveller", "the ", "i ")
NUM_PREDS = 500  # characters a text: repetitions and distinct words depend on it
NUM_SAMPLES = 8  # texts a prefix; greedy has one
CONTEXT = 6  # characters before a real text, its prefix
NGRAM = 8  # characters
SHOWN = 80  # characters of a text that the report shows
SHARPENED = 2.0  # the alpha of `sharpening`
LENGTH = 4  # characters; 27^4 texts

Texts = tuple[int, list[str]]  # characters of the prefix; texts of one length, prefix included


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """A row for each way of decoding, one for real text, the loops of greedy decoding, and `sharpening`."""
    known = set(data.corpus.characters.decode().split())
    rows, loops = [], []
    for alpha in ALPHAS:
        # The seed differs by prefix: fed with the same random numbers, texts become one as the prefix is forgotten.
        groups = [
            (len(prefix), continue_text(model, data.vocab, prefix, NUM_PREDS, alpha, NUM_SAMPLES if alpha else 1, seed))
            for seed, prefix in enumerate(PREFIXES)
        ]
        rows.append({"alpha": alpha, **_row(model, data.vocab, groups, known)})
        if alpha is None:
            loops = [loop(texts[0][length:]) for length, texts in groups]
    return {
        "length": NUM_PREDS,
        "num_samples": NUM_SAMPLES,
        "prefixes": list(PREFIXES),
        "rows": rows,
        "real": _row(model, data.vocab, real_texts(data), known),
        "loops": loops,
        "sharpening": sharpening(model, data.vocab, PREFIXES[0], SHARPENED, LENGTH),
    }


def real_texts(data: TimeMachine) -> list[Texts]:
    """As many texts as are drawn, evenly spread over the validation part; they overlap where it is short."""
    val = data.splits["val"].targets
    length, context = min(NUM_PREDS, len(val)), min(CONTEXT, val.start)
    last = len(PREFIXES) * NUM_SAMPLES - 1
    starts = [val.start + (len(val) - length) * number // last for number in range(last + 1)]
    characters = data.corpus.characters.decode()
    texts = [characters[start - context : start + length] for start in starts]
    return [(context, texts[first : first + NUM_SAMPLES]) for first in range(0, len(texts), NUM_SAMPLES)]


def _row(model: RNNLMScratch, vocab: Vocab, groups: list[Texts], known: set[str]) -> dict[str, Any]:
    """Means over texts; the share of known words is one of all words together. A text of each group for show."""
    continuations = [text[length:] for length, texts in groups for text in texts]
    words = [whole_words(text) for text in continuations]
    return {
        "repeated": _mean(map(repeated_share, continuations)),
        "distinct_words": _mean(len(set(ours)) for ours in words),
        "known_words": _mean(word in known for ours in words for word in ours),
        "log_likelihood": _mean(
            value for length, texts in groups for value in log_likelihoods(model, vocab, texts, length)
        ),
        "shown": [texts[0][: length + SHOWN] for length, texts in groups],
    }


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return statistics.fmean(numbers) if numbers else math.nan


def repeated_share(text: str) -> float:
    """1 - distinct / all runs of 8 characters: 0 where none comes twice; not a number where there is none."""
    ngrams = [text[i : i + NGRAM] for i in range(len(text) - NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def whole_words(text: str) -> list[str]:
    """The words between two spaces: what lies before the first space and after the last may be cut."""
    return [word for word in text.split(" ")[1:-1] if word]


@torch.no_grad()
def log_likelihoods(model: RNNLMScratch, vocab: Vocab, texts: list[str], length: int) -> list[float]:
    """Mean log P of a character, in nats, of each text after its prefix of `length` characters, under P itself."""
    text_BT = torch.tensor([vocab[list(text)] for text in texts], device=model.device)
    logits_BTV, _ = model(text_BT[:, :-1])
    log_P_BTV = logits_BTV.double().log_softmax(2)
    log_P_BT = log_P_BTV.gather(2, text_BT[:, 1:, None])[:, length - 1 :, 0]
    means: list[float] = log_P_BT.mean(1).tolist()
    return means


def loop(text: str) -> dict[str, Any]:
    """The cycle that a text ends in: its shortest one of those that fill at least the text's last half, twice or more.

    `start`: the character from which on the text repeats itself; `cycle`: what it repeats, None where it does not.
    """
    half = len(text) // 2
    for period in range(1, half // 2 + 1):
        differs = [i for i in range(len(text) - period) if text[i] != text[i + period]]
        start = differs[-1] + 1 if differs else 0
        if start <= half:
            return {"start": start, "cycle": text[start : start + period]}
    return {"start": None, "cycle": None}


@torch.no_grad()
def sharpening(model: RNNLMScratch, vocab: Vocab, prefix: str, alpha: float, length: int) -> dict[str, Any]:
    """Sharpening each character against sharpening whole texts, exactly, over all continuations without `<unk>`.

    Both have the weights P(text)^alpha. Decoding divides each character's by their sum over that character, given those
    before it; P^alpha of whole texts divides once, by the sum over all texts. `distances`: total variation, between 0
    and 1, of the two distributions of 1, 2, … `length` characters. `text`: the continuation of that length whose
    probability differs most, `by_character` and `by_text` its probabilities.
    """
    known_K = torch.tensor([index for index in range(len(vocab)) if index != vocab.unk], device=model.device)
    inputs_BT, state_BH = torch.tensor([vocab[list(prefix)]], device=model.device), None
    by_character_N = by_text_N = torch.zeros(1, dtype=torch.float64, device=model.device)  # logarithms
    distances = []
    for _ in range(length):
        logits_BTV, state_BH = model(inputs_BT, state_BH)
        # A text's N is its place when all are counted up, the last character fastest.
        log_P_BK = alpha * logits_BTV[:, -1, known_K].double().log_softmax(1)
        by_character_N = (by_character_N[:, None] + log_P_BK.log_softmax(1)).flatten()
        by_text_N = (by_text_N[:, None] + log_P_BK).flatten()
        difference_N = by_character_N.exp() - by_text_N.softmax(0)
        distances.append(difference_N.abs().sum().item() / 2)
        inputs_BT = known_K.repeat(len(logits_BTV))[:, None]
        state_BH = state_BH.repeat_interleave(len(known_K), 0)
    place = int(difference_N.abs().argmax())
    digits = [place // len(known_K) ** power % len(known_K) for power in reversed(range(length))]
    return {
        "prefix": prefix,
        "alpha": alpha,
        "distances": distances,
        "text": "".join(vocab.idx_to_token[int(known_K[digit])] for digit in digits),
        "by_character": by_character_N[place].exp().item(),
        "by_text": by_text_N.softmax(0)[place].item(),
    }
