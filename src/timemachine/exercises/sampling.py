"""Exercise 8: Draw the next character from P(x_t | x_<t), or from P(x_t | x_<t)^α with α > 1: what happens?

Shapes: B texts of one length, T characters, V vocabulary, S numbers of a state, P characters of a loop's period.
"""

import copy
import math
from typing import Any

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.exercises.comparison import estimate
from timemachine.exercises.drawing import COLOURS, panels, points_by_place
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

ALPHAS = {"P^0.5": 0.5, "P": 1.0, "P^1.5": 1.5, "P^2": 2.0, "P^4": 4.0, "P^8": 8.0}
GREEDY, REAL = "greedy", "real text"
PREFIXES = ("it has", "time traveller", "the ", "i ")
NUM_PREDS = 500  # characters per text; the share of repetitions depends on it
NUM_SAMPLES = 8  # texts per prefix and alpha; greedy decoding gives one
NUM_REAL = 320  # largest number of pieces of real text
CONTEXT = 6  # prefix of a piece of real text, in characters
NGRAM = 8  # characters
NUM_QUOTED = 80  # characters of a text in the report
LOOP_SEARCH = 2000  # characters of greedy text that are searched for a loop
LONG = 256  # characters of the loop that a model started from a zero state must predict
SHARPENED = 2.0  # alpha of `sharpening`
LENGTH = 4  # longest continuation in `sharpening`, in characters: 27^4 texts

MEASURES = {  # measure -> name in the report, factor
    "known_words": ("words found in the training text, %", 100),
    "repeated": ("repeated 8-grams, %", 100),
    "log_likelihood": ("log-likelihood, nats per character", 1),
}

SETTINGS = ()
SETUP = f"""
The recipe's run, with a different excerpt of the text for each seed. Each model generates {NUM_PREDS} characters after
each of {len(PREFIXES)} prefixes, {NUM_SAMPLES} times for each α and once greedily. Real text is the rest of the text,
in pieces of the same length. Repeated 8-grams: 1 − distinct / all, per text. Log-likelihood: under the model's P for
all texts. ± is the half-width of the 95% interval over models. Loops are those of {LOOP_SEARCH:,} greedy characters,
measured in float64."""
CAPTION = "Generated text and real text. Circles: models; bars: means."


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `MEASURES` averaged over texts by decoding method and for real text, greedy loops, and `sharpening`.

    Each text starts with its prefix, which is not measured. `shown`: the beginning of a text by decoding method.
    """
    train = data.corpus.characters[: data.splits["train"].targets.stop]
    known = set(train.split(" ")[:-1])  # the last one may be cut
    measured: dict[str, Any] = {"shown": {}, "cycles": {}, "loops": {}}
    for name, alpha in {**ALPHAS, GREEDY: None}.items():
        # One seed per prefix: with the same random numbers, texts become identical once the prefix is forgotten.
        groups = [
            (len(prefix), continue_text(model, data.vocab, prefix, NUM_PREDS, alpha, NUM_SAMPLES if alpha else 1, seed))
            for seed, prefix in enumerate(PREFIXES)
        ]
        of_texts = [measures(model, data.vocab, texts, length, known) for length, texts in groups]
        measured[name] = {what: estimate(n for group in of_texts for n in group[what]).mean for what in MEASURES}
        measured["shown"][name] = groups[0][1][0][: len(PREFIXES[0]) + NUM_QUOTED]
    for prefix in PREFIXES:
        cycle, measured["loops"][prefix.strip()] = loop(model, data.vocab, prefix)
        measured["cycles"][prefix.strip()] = turned(cycle)
    length, texts = real_texts(data)
    pieces = measures(model, data.vocab, texts, length, known)
    measured[REAL] = {what: estimate(values).mean for what, values in pieces.items()}
    measured["sharpening"] = {"distances": sharpening(model, data.vocab, PREFIXES[0], SHARPENED, LENGTH)}
    return measured


def real_texts(data: TimeMachine) -> tuple[int, list[str]]:
    """Return the length of the prefix, and consecutive pieces of the rest of the text, each with its prefix.

    The pieces are of the validation part if the split has no rest.
    """
    rest = data.splits["test"].targets or data.splits["val"].targets
    length, context = min(NUM_PREDS, len(rest)), min(CONTEXT, rest.start)
    starts = range(rest.start, rest.stop - length + 1, length)[:NUM_REAL]
    characters = data.corpus.characters
    return context, [characters[start - context : start + length] for start in starts]


@torch.no_grad()
def measures(
    model: RNNLMScratch, vocab: Vocab, texts: list[str], length: int, known: set[str]
) -> dict[str, list[float]]:
    """Return `MEASURES` of each text after its prefix of `length` characters. `known`: words of the training text."""
    text_BT = torch.tensor([vocab[list(text)] for text in texts], device=model.device)
    nll_BT = model.nll((text_BT[:, :-1], text_BT[:, 1:]))[:, length - 1 :]
    words = [text[length:].split(" ")[1:-1] for text in texts]  # the first and last word may be cut
    return {
        "repeated": [repeated_share(text[length:]) for text in texts],
        "known_words": [estimate(word in known for word in ours if word).mean for ours in words],
        "log_likelihood": (-nll_BT.mean(1)).tolist(),
    }


def repeated_share(text: str) -> float:
    """Return 1 - distinct / all 8-grams: 0 without repetitions, NaN for a text without 8-grams."""
    ngrams = [text[i : i + NGRAM] for i in range(len(text) - NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def turned(cycle: str) -> str:
    """Rotate the cycle to start at a word: the alphabetically first of its rotations that follow a space."""
    starts = [i for i in range(len(cycle)) if cycle[i - 1] == " "] or range(len(cycle))
    return min((cycle[i:] + cycle[:i] for i in starts), default="")


def repetition(text: str) -> tuple[int, int] | None:
    """Return the start and period of the repetition at the end of a text, or None.

    The repetition covers at least the last half of the text, and at least two periods; the shortest period wins.
    """
    half = len(text) // 2
    for period in range(1, half // 2 + 1):
        differs = [i for i in range(len(text) - period) if text[i] != text[i + period]]
        start = differs[-1] + 1 if differs else 0
        if start <= half:
            return start, period
    return None


@torch.no_grad()
def loop(model: RNNLMScratch, vocab: Vocab, prefix: str) -> tuple[str, dict[str, float]]:
    """Return the cycle at the end of greedy text and its numbers, computed in float64; "" and {} without a cycle.

    `period`, `start`: in characters. `difference`: largest difference between the state at the end of the last whole
    cycle and the state one period earlier. `margin`: smallest lead, in nats, of a character of the cycle over the next
    likeliest character. `needed`: number of characters of the cycle, from any starting point, that a model in a zero
    state must read before the next `LONG` characters of the cycle are all its likeliest predictions.
    """
    text = continue_text(model, vocab, prefix, LOOP_SEARCH)[0]
    if (place := repetition(text[len(prefix) :])) is None:
        return "", {}
    (start, period), double = place, copy.deepcopy(model).double()
    begin = len(prefix) + start
    stop = len(text) - (len(text) - begin) % period
    text_1T = torch.tensor([vocab[list(text[:stop])]], device=model.device)
    _, before_1S = double(text_1T[:, :-period])
    logits_1PV, state_1S = double(text_1T[:, -period:], before_1S)
    logits_1PV[..., vocab.unk] = -torch.inf
    best_P, next_P = logits_1PV[0].topk(2).values.unbind(1)

    places_T = torch.arange(LONG + period + 1, device=model.device)
    anew_PT = text_1T[0, begin + (places_T[:period, None] + places_T) % period]
    logits_PTV, _ = double(anew_PT[:, :-1])
    logits_PTV[..., vocab.unk] = -torch.inf
    is_wrong_PT = logits_PTV.argmax(2) != anew_PT[:, 1:]
    return text[begin : begin + period], {
        "period": period,
        "start": start,
        "difference": (state_1S - before_1S).abs().max().item(),
        "margin": (best_P - next_P).min().item(),
        "needed": int((is_wrong_PT * places_T[1:]).max()) + 1,
    }


@torch.no_grad()
def sharpening(model: RNNLMScratch, vocab: Vocab, prefix: str, alpha: float, length: int) -> dict[str, float]:
    """Return the total variation, from 0 to 1, between sampling each character from P^alpha and sharpening whole texts.

    It compares the distributions over all continuations of 1, 2, … `length` characters without `<unk>`. Both weight a
    text by P(text)^alpha. Decoding normalises the weights of each next character, given the characters before it;
    sharpening P of whole texts normalises once, over all texts.
    """
    known_K = torch.tensor([index for index in range(len(vocab)) if index != vocab.unk], device=model.device)
    inputs_BT, state_BS = torch.tensor([vocab[list(prefix)]], device=model.device), None
    by_character_N = by_text_N = torch.zeros(1, dtype=torch.float64, device=model.device)  # logarithms
    distances = {}
    for number in range(1, length + 1):
        logits_BTV, state_BS = model(inputs_BT, state_BS)
        # Index N enumerates the texts, with the last character varying fastest.
        log_P_BK = alpha * logits_BTV[:, -1, known_K].double().log_softmax(1)
        by_character_N = (by_character_N[:, None] + log_P_BK.log_softmax(1)).flatten()
        by_text_N = (by_text_N[:, None] + log_P_BK).flatten()
        distances[str(number)] = (by_character_N.exp() - by_text_N.softmax(0)).abs().sum().item() / 2
        inputs_BT = known_K.repeat(len(logits_BTV))[:, None]
        state_BS = state_BS.repeat_interleave(len(known_K), 0)
    return distances


def table(jobs: DataFrame) -> DataFrame:
    """Return the mean of each measure over models, for each decoding method and for real text."""
    values = {title: _values(jobs, what).apply(estimate) for what, (title, _) in MEASURES.items()}
    return DataFrame(values).rename_axis("decoding")


def figure(jobs: DataFrame) -> Figure:
    """Draw the shares of known words and of repetitions, by decoding method."""
    fig, (row,) = panels(1, 2, width=10)
    labels = [*ALPHAS, GREEDY]
    for axes, what in zip(row, ("known_words", "repeated"), strict=True):
        values = _values(jobs, what)
        points_by_place(axes, labels, {"": values[labels].to_numpy().T})
        real = values[REAL].mean()
        axes.axhline(real, color=COLOURS[1])
        axes.annotate(f"{REAL} {real:.2g}%", (-0.4, real), (0, 3), textcoords="offset points", color=COLOURS[1])
        axes.set(title=MEASURES[what][0], xlabel="drawn from P^α, or greedy", ylim=(-3, 103))
    return fig


def _values(jobs: DataFrame, what: str) -> DataFrame:
    """Return a measure of each model that did not diverge (rows) by decoding method (columns)."""
    jobs = jobs[jobs["status"] == "completed"]
    return DataFrame({name: MEASURES[what][1] * jobs[f"samples/{name}/{what}"] for name in (*ALPHAS, GREEDY, REAL)})
