"""Exercise 8: Draw the next character from P(x_t | x_<t), or from P(x_t | x_<t)^α with α > 1: what happens?

Shapes: B texts of one length, T characters.
"""

import math
from typing import Any

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.language_model import RNNLMScratch
from timemachine.study.comparison import estimate
from timemachine.study.drawing import name_line, points_by_place
from timemachine.study.figures import COLOURS, panels
from timemachine.vocab import Vocab

REQUIRES = {"data.tokens": ("letters",)}  # words of letters
ALPHAS = {"P^0.5": 0.5, "P": 1.0, "P^1.5": 1.5, "P^2": 2.0, "P^4": 4.0, "P^8": 8.0}
GREEDY, REAL = "greedy", "real text"
PREFIXES = ("it has", "time traveller", "the ", "i ")
NUM_PREDS = 500  # characters per text; the share of repetitions depends on it
NUM_SAMPLES = 8  # texts per prefix and alpha; greedy decoding gives one
NUM_REAL = 320  # largest number of pieces of real text
CONTEXT = 6  # prefix of a piece of real text, in characters
NGRAM = 8  # characters
NUM_QUOTED = 80  # characters of a text in the report

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
all texts. ± is the half-width of the 95% interval over models."""
CAPTION = "Text drawn from P^α, greedy text and real text. Circles: models; bars: means."


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `MEASURES` averaged over texts, by decoding method and for real text.

    Each text starts with its prefix, which is not measured. `shown`: the beginning of a text by decoding method.
    """
    train = data.corpus.characters[: data.splits["train"].targets.stop]
    known = set(train.split(" ")[:-1])  # the last one may be cut
    measured: dict[str, Any] = {"shown": {}}
    for name, alpha in {**ALPHAS, GREEDY: None}.items():
        # One seed per prefix: with the same random numbers, texts become identical once the prefix is forgotten.
        groups = [
            (len(prefix), continue_text(model, data.vocab, prefix, NUM_PREDS, alpha, NUM_SAMPLES if alpha else 1, seed))
            for seed, prefix in enumerate(PREFIXES)
        ]
        of_texts = [measures(model, data.vocab, texts, length, known) for length, texts in groups]
        measured[name] = {what: estimate(n for group in of_texts for n in group[what]).mean for what in MEASURES}
        measured["shown"][name] = groups[0][1][0][: len(PREFIXES[0]) + NUM_QUOTED]
    length, texts = real_texts(data)
    pieces = measures(model, data.vocab, texts, length, known)
    measured[REAL] = {what: estimate(values).mean for what, values in pieces.items()}
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


def table(jobs: DataFrame) -> DataFrame:
    """Return the mean of each measure over models, for each decoding method and for real text."""
    values = {title: _values(jobs, what).apply(estimate) for what, (title, _) in MEASURES.items()}
    return DataFrame(values).rename_axis("decoding")


def figure(jobs: DataFrame) -> Figure:
    """Draw the shares of known words and of repetitions, by decoding method."""
    fig, (row,) = panels(1, 2)
    labels, places = [*ALPHAS, GREEDY], [*map("{:g}".format, ALPHAS.values()), GREEDY]
    for axes, what in zip(row, ("known_words", "repeated"), strict=True):
        values = _values(jobs, what)
        points_by_place(axes, places, {"": values[labels].to_numpy().T})
        real = values[REAL].mean()
        axes.axhline(real, color=COLOURS[1])
        name_line(axes, f"{REAL}\n{real:.2g}%", real, COLOURS[1])
        axes.set(title=MEASURES[what][0], xlabel="exponent α, or greedy decoding", ylim=(-3, 103))
    return fig


def _values(jobs: DataFrame, what: str) -> DataFrame:
    """Return a measure of each model that did not diverge (rows) by decoding method (columns)."""
    jobs = jobs[jobs["status"] == "completed"]
    return DataFrame({name: MEASURES[what][1] * jobs[f"sampling/{name}/{what}"] for name in (*ALPHAS, GREEDY, REAL)})
