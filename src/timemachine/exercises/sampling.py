"""Exercise 8: draw the next character instead of taking the likeliest, from P or from P^alpha. What happens?

Measured: what the model writes, greedily, from P and from P^alpha, beside real text; and the loop of greedy decoding.
B texts of one length, T characters, V vocabulary, S numbers of a state, P characters of a loop's period. Every text has
a prefix, which is not measured.
"""

import copy
import math
import statistics
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.exercises import Findings
from timemachine.exercises.comparison import UNDECIDED, Estimate, compare, estimate, holm
from timemachine.exercises.drawing import label_ends, panels, points_by_seed
from timemachine.exercises.jobs import Job, markdown, span
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

ALPHAS = {"P^0.5": 0.5, "P": 1.0, "P^1.5": 1.5, "P^2": 2.0, "P^4": 4.0, "P^8": 8.0}
GREEDY, REAL = "greedy", "real text"
PREFIXES = ("it has", "time traveller", "the ", "i ")
NUM_PREDS = 500  # characters a text: repetitions and distinct words depend on it
NUM_SAMPLES = 8  # texts a prefix; greedy has one
NUM_REAL = 320  # pieces of real text, at most
CONTEXT = 6  # characters before a real text, its prefix
NGRAM = 8  # characters
SHOWN = 80  # characters of a text that the report shows
FAR = 2000  # characters of greedy text in which its loop is looked for
SETTLED = 1e-12  # a difference of states in float64 that is next to rounding
LONG = 256  # characters for which a model that was started anew has to go on with a loop
SHARPENED = 2.0  # the alpha of `sharpening`
LENGTH = 4  # characters; 27^4 texts

MEASURES = {  # a column's title, and a factor
    "repeated": ("repeated 8-grams, %", 100),
    "known_words": ("words of the training text, %", 100),
    "distinct_words": ("distinct words", 1),
    "log_likelihood": ("log-likelihood, nats a character", 1),
}


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return means over texts for each way of decoding and real text, greedy decoding's loops, and `sharpening`."""
    train = data.corpus.characters[: data.splits["train"].targets.stop].decode()
    known = set(train.split(" ")[:-1])  # the last one may be cut
    found: dict[str, Any] = {"shown": {}}
    for name, alpha in {**ALPHAS, GREEDY: None}.items():
        # The seed differs by prefix: fed with the same random numbers, texts become one as the prefix is forgotten.
        groups = [
            (len(prefix), continue_text(model, data.vocab, prefix, NUM_PREDS, alpha, NUM_SAMPLES if alpha else 1, seed))
            for seed, prefix in enumerate(PREFIXES)
        ]
        of_texts = [measures(model, data.vocab, texts, length, known) for length, texts in groups]
        found[name] = {what: _mean(value for group in of_texts for value in group[what]) for what in MEASURES}
        found["shown"][name] = [texts[0][: length + SHOWN] for length, texts in groups]
    length, texts = real_texts(data)
    pieces = measures(model, data.vocab, texts, length, known)
    loops = [loop(model, data.vocab, prefix, texts[:NUM_SAMPLES]) for prefix in PREFIXES]
    return found | {
        REAL: {what: _mean(values) for what, values in pieces.items()},
        "pieces": pieces,
        "cycles": [cycle for cycle, _ in loops],
        "loops": {prefix.strip(): numbers for prefix, (_, numbers) in zip(PREFIXES, loops, strict=True)},
        "sharpening": sharpening(model, data.vocab, PREFIXES[0], SHARPENED, LENGTH),
    }


def real_texts(data: TimeMachine) -> tuple[int, list[str]]:
    """Return pieces of the rest of the text, side by side, or of the validation part if nothing is left; with their
    prefix, and its length.
    """
    rest = data.splits["test"].targets or data.splits["val"].targets
    length, context = min(NUM_PREDS, len(rest)), min(CONTEXT, rest.start)
    starts = range(rest.start, rest.stop - length + 1, length)[:NUM_REAL]
    characters = data.corpus.characters.decode()
    return context, [characters[start - context : start + length] for start in starts]


@torch.no_grad()
def measures(
    model: RNNLMScratch, vocab: Vocab, texts: list[str], length: int, known: set[str]
) -> dict[str, list[float]]:
    """Return `MEASURES` of each text after its prefix of `length` characters. `known`: the words of another text."""
    text_BT = torch.tensor([vocab[list(text)] for text in texts], device=model.device)
    nll_BT = model.nll((text_BT[:, :-1], text_BT[:, 1:]))[:, length - 1 :]
    continuations = [text[length:] for text in texts]
    words = [whole_words(text) for text in continuations]
    return {
        "repeated": [repeated_share(text) for text in continuations],
        "known_words": [_mean(word in known for word in ours) for ours in words],
        "distinct_words": [float(len(set(ours))) for ours in words],
        "log_likelihood": (-nll_BT.mean(1)).tolist(),
    }


def _mean(values: Iterable[float]) -> float:
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.fmean(numbers) if numbers else math.nan


def repeated_share(text: str) -> float:
    """Return 1 - distinct / all runs of 8 characters: 0 if none comes twice, NaN if there is none."""
    ngrams = [text[i : i + NGRAM] for i in range(len(text) - NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def whole_words(text: str) -> list[str]:
    """Return the words between two spaces: what lies before the first space and after the last may be cut."""
    return [word for word in text.split(" ")[1:-1] if word]


def repetition(text: str) -> tuple[int, int] | None:
    """Return where a text begins to repeat itself and the period, the shortest that fills at least its last half, twice
    or more; None if there is none.
    """
    half = len(text) // 2
    for period in range(1, half // 2 + 1):
        differs = [i for i in range(len(text) - period) if text[i] != text[i + period]]
        start = differs[-1] + 1 if differs else 0
        if start <= half:
            return start, period
    return None


@torch.no_grad()
def loop(model: RNNLMScratch, vocab: Vocab, prefix: str, others: list[str]) -> tuple[str, dict[str, float]]:
    """Return the cycle in which greedy text ends ("" if in none) and its numbers, computed in float64.

    `start`, `period`: in characters. `difference`: the largest between the state at the end of the text and that one
    period before; `settled`: characters of the loop until it is below 1e-12. `margin`: how much likelier, in nats, each
    character is than the next likeliest, at least. `needed`, `needed_mostly`: how many of its last characters a model
    in a zero state has to read to go on with the cycle, at all of its places and at half of them; `needed_after_text`:
    at all places if it has read the other texts before.
    """
    text = continue_text(model, vocab, prefix, FAR)[0]
    found = repetition(text[len(prefix) :])
    if found is None:
        return "", {"start": math.nan, "period": math.nan}
    (start, period), double = found, copy.deepcopy(model).double()
    text_BT = torch.tensor([vocab[list(text)]], device=model.device)
    before_BT, loop_BT = text_BT.split([len(prefix) + start, FAR - start], 1)
    rounds_RBP = loop_BT.unfold(1, period, period).transpose(0, 1)
    differences, (_, state_BS) = [], double(before_BT)
    for round_BP in rounds_RBP:
        last_BS = state_BS
        logits_BPV, state_BS = double(round_BP, last_BS)
        differences.append((state_BS - last_BS).abs().max().item())
    logits_BPV[..., vocab.unk] = -torch.inf
    best_P2 = logits_BPV[0].log_softmax(1).topk(2).values
    from_zero = needed(double, vocab, rounds_RBP[0, 0], None)
    _, read_BS = double(torch.tensor([vocab[list(other)] for other in others], device=model.device))
    return text[-FAR + start :][:period], {
        "start": start,
        "period": period,
        "difference": differences[-1],
        "settled": next((period * n for n, it in enumerate(differences) if it < SETTLED), math.nan),
        "margin": (best_P2[:, 0] - best_P2[:, 1]).min().item(),
        "needed": max(from_zero),
        "needed_mostly": statistics.median(from_zero),
        "needed_after_text": max(needed(double, vocab, rounds_RBP[0, 0], read_BS)),
    }


def needed(model: RNNLMScratch, vocab: Vocab, cycle_P: Tensor, state_BS: Tensor | None) -> list[int]:
    """Return after how many characters of a cycle, from each of its places on, a model goes on with it.

    From the states given, zero if None. That number and any larger one: given so many, the model takes each of the
    characters that follow, `LONG` and a period, for the likeliest.
    """
    period, device = len(cycle_P), cycle_P.device
    places_T = torch.arange(LONG + period + 1, device=device)
    windows_BT = cycle_P[(torch.arange(period, device=device)[:, None] + places_T) % period]
    if state_BS is not None:
        windows_BT = windows_BT.repeat(len(state_BS), 1)
        state_BS = state_BS.repeat_interleave(period, 0)
    logits_BTV, _ = model(windows_BT[:, :-1], state_BS)
    logits_BTV[..., vocab.unk] = -torch.inf
    is_wrong_BT = logits_BTV.argmax(2) != windows_BT[:, 1:]
    found: list[int] = ((is_wrong_BT * places_T[1:]).amax(1) + 1).tolist()
    return found


@torch.no_grad()
def sharpening(model: RNNLMScratch, vocab: Vocab, prefix: str, alpha: float, length: int) -> dict[str, Any]:
    """Compare sharpening each character with sharpening whole texts, over all continuations without `<unk>`.

    Both have the weights P(text)^alpha. Decoding divides each character's by their sum over that character, given those
    before it; P^alpha of whole texts divides once, by the sum over all texts. `distances`: total variation, between 0
    and 1, of the two distributions of 1, 2, … `length` characters. `example`: the continuation of that length whose
    probability differs most, its probability by the character and by the text.
    """
    known_K = torch.tensor([index for index in range(len(vocab)) if index != vocab.unk], device=model.device)
    inputs_BT, state_BS = torch.tensor([vocab[list(prefix)]], device=model.device), None
    by_character_N = by_text_N = torch.zeros(1, dtype=torch.float64, device=model.device)  # logarithms
    distances = {}
    for number in range(1, length + 1):
        logits_BTV, state_BS = model(inputs_BT, state_BS)
        # A text's N is its place when all are counted up, the last character fastest.
        log_P_BK = alpha * logits_BTV[:, -1, known_K].double().log_softmax(1)
        by_character_N = (by_character_N[:, None] + log_P_BK.log_softmax(1)).flatten()
        by_text_N = (by_text_N[:, None] + log_P_BK).flatten()
        difference_N = by_character_N.exp() - by_text_N.softmax(0)
        distances[str(number)] = difference_N.abs().sum().item() / 2
        inputs_BT = known_K.repeat(len(logits_BTV))[:, None]
        state_BS = state_BS.repeat_interleave(len(known_K), 0)
    place = int(difference_N.abs().argmax())
    digits = [place // len(known_K) ** power % len(known_K) for power in reversed(range(length))]
    text = "".join(vocab.idx_to_token[int(known_K[digit])] for digit in digits)
    example = [text, by_character_N[place].exp().item(), by_text_N.softmax(0)[place].item()]
    return {"distances": distances, "example": example}
