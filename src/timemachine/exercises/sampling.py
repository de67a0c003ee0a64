"""Exercise 8: Draw the next character from P(x_t | x_<t), or from P(x_t | x_<t)^α with α > 1: what happens?

Measured: what the model writes beside real text, and the loop of greedy decoding. B texts of one length, T characters,
V vocabulary, S numbers of a state, P characters of a loop's period. Every text has a prefix, which is not measured.
"""

import copy
import math
import statistics
from typing import Any

import numpy as np
import torch

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import estimate
from timemachine.exercises.drawing import COLOURS, panels, points_by_seed
from timemachine.exercises.groups import markdown, missing, span
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job
from timemachine.vocab import Vocab

ALPHAS = {"P^0.5": 0.5, "P": 1.0, "P^1.5": 1.5, "P^2": 2.0, "P^4": 4.0, "P^8": 8.0}
GREEDY, REAL = "greedy", "real text"
PREFIXES = ("it has", "time traveller", "the ", "i ")
NUM_PREDS = 500  # characters a text: repetitions depend on it
NUM_SAMPLES = 8  # texts a prefix; greedy has one
NUM_REAL = 320  # pieces of real text, at most
CONTEXT = 6  # characters before a real text, its prefix
NGRAM = 8  # characters
SHOWN = 80  # characters of a text that the report shows
FAR = 2000  # characters of greedy text in which its loop is looked for
LONG = 256  # characters for which a model that was started anew has to go on with a loop
SHARPENED = 2.0  # the alpha of `sharpening`
LENGTH = 4  # characters; 27^4 texts

MEASURES = {  # what the report calls them, and a factor
    "known_words": ("words that the training text has, %", 100),
    "repeated": ("repeated 8-grams, %", 100),
    "log_likelihood": ("log-likelihood, nats a character", 1),
}
LOOP = ("period", "start", "difference", "margin", "needed")


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return means over texts for each way of decoding and real text, greedy decoding's loops, and `sharpening`."""
    train = data.corpus.characters[: data.splits["train"].targets.stop]
    known = set(train.split(" ")[:-1])  # the last one may be cut
    found: dict[str, Any] = {"shown": {}}
    for name, alpha in {**ALPHAS, GREEDY: None}.items():
        # The seed differs by prefix: fed with the same random numbers, texts become one as the prefix is forgotten.
        groups = [
            (len(prefix), continue_text(model, data.vocab, prefix, NUM_PREDS, alpha, NUM_SAMPLES if alpha else 1, seed))
            for seed, prefix in enumerate(PREFIXES)
        ]
        of_texts = [measures(model, data.vocab, texts, length, known) for length, texts in groups]
        found[name] = {what: estimate(value for group in of_texts for value in group[what]).mean for what in MEASURES}
        found["shown"][name] = [texts[0][: length + SHOWN] for length, texts in groups]
    length, texts = real_texts(data)
    pieces = measures(model, data.vocab, texts, length, known)
    loops = [loop(model, data.vocab, prefix) for prefix in PREFIXES]
    return found | {
        REAL: {what: estimate(values).mean for what, values in pieces.items()},
        "pieces": pieces,
        "cycles": [cycle for cycle, _ in loops],
        "loops": {prefix.strip(): numbers for prefix, (_, numbers) in zip(PREFIXES, loops, strict=True)},
        "sharpening": {"distances": sharpening(model, data.vocab, PREFIXES[0], SHARPENED, LENGTH)},
    }


def real_texts(data: TimeMachine) -> tuple[int, list[str]]:
    """Return pieces of the rest of the text, side by side, or of the validation part if nothing is left; with their
    prefix, and its length.
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
    """Return `MEASURES` of each text after its prefix of `length` characters. `known`: the words of another text."""
    text_BT = torch.tensor([vocab[list(text)] for text in texts], device=model.device)
    nll_BT = model.nll((text_BT[:, :-1], text_BT[:, 1:]))[:, length - 1 :]
    words = [text[length:].split(" ")[1:-1] for text in texts]  # the first and the last one may be cut
    return {
        "repeated": [repeated_share(text[length:]) for text in texts],
        "known_words": [estimate(word in known for word in ours if word).mean for ours in words],
        "log_likelihood": (-nll_BT.mean(1)).tolist(),
    }


def repeated_share(text: str) -> float:
    """Return 1 - distinct / all runs of 8 characters: 0 if none comes twice, NaN if there is none."""
    ngrams = [text[i : i + NGRAM] for i in range(len(text) - NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else math.nan


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
def loop(model: RNNLMScratch, vocab: Vocab, prefix: str) -> tuple[str, dict[str, float]]:
    """Return the cycle in which greedy text ends and its numbers, computed in float64; "" and none if in none.

    `period`, `start`: in characters. `difference`: of the state at the end of the last whole round from that one period
    before, at most. `margin`: how much likelier, in nats, each character is than the next likeliest, at least.
    `needed`: how many of the last characters a model in a zero state has to read, wherever in the cycle it begins, to
    take each of those that follow, `LONG` of them, for the likeliest.
    """
    text = continue_text(model, vocab, prefix, FAR)[0]
    if (found := repetition(text[len(prefix) :])) is None:
        return "", {}
    (start, period), double = found, copy.deepcopy(model).double()
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
    """Return how far sampling from P^alpha is from sharpening P of whole texts: the total variation, from 0 to 1, of
    the two distributions of 1, 2, … `length` characters, over all continuations without `<unk>`.

    Both have the weights P(text)^alpha. Decoding divides each character's by their sum over that character, given those
    before it; P^alpha of whole texts divides once, by the sum over all texts.
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
        distances[str(number)] = (by_character_N.exp() - by_text_N.softmax(0)).abs().sum().item() / 2
        inputs_BT = known_K.repeat(len(logits_BTV))[:, None]
        state_BS = state_BS.repeat_interleave(len(known_K), 0)
    return distances


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each way of decoding, over models, and one for real text, over its pieces."""
    found = [job.probes["samples"] for job in jobs if job.probes.get("samples")]
    columns = ["decoding", *(title for title, _ in MEASURES.values())]
    if not found:
        return Findings(columns=columns, rows=[])
    values = {name: {what: _values(found, name, what) for what in MEASURES} for name in (*ALPHAS, GREEDY, REAL)}
    known, again = (
        [f"{estimate(values[name][what]):{form}} %" for name in ("P", "P^8", REAL)]
        for what, form in (("known_words", ".0f"), ("repeated", ".1f"))
    )
    shown = "\n".join(f"    {name:6} | {found[0]['shown'][name][0]}" for name in (GREEDY, "P", "P^2"))
    cycles = [[_turned(cycle) for cycle in samples["cycles"]] for samples in found]
    loops = [
        [str(number), ", ".join(f"`{cycle or 'none'}`" for cycle in dict.fromkeys(ours))]
        + [span(float(of_prefix.get(what, math.nan)) for of_prefix in samples["loops"].values()) for what in LOOP]
        for number, (samples, ours) in enumerate(zip(found, cycles, strict=True))
    ]
    distances = [map(float, samples["sharpening"]["distances"].values()) for samples in found]
    apart = ", ".join(f"{estimate(of_models):.2f}" for of_models in zip(*distances, strict=True))
    return Findings(
        answer=missing(jobs, {})
        or f"The training text has {known[0]} of the words that are drawn from P, {known[1]} of those from P^8 and "
        f"{known[2]} of a real text's; {again[0]}, {again[1]} and {again[2]} of their 8-grams are repeated. The "
        "likeliest character each time ends in a loop, since the next one is a function of the state and the state "
        f"comes back: after every prefix in {sum(map(all, cycles))} of {len(found)} models.\n\n{shown}",
        setting=f"The book's run. Each model writes {NUM_PREDS} characters after each of {len(PREFIXES)} prefixes, "
        f"{NUM_SAMPLES} times for each α and once greedily. Real text: the rest of the text, in pieces of as many.",
        columns=columns,
        rows=[[name, *(f"{estimate(ours):.2f}" for ours in of_name.values())] for name, of_name in values.items()],
        notes=[
            "Means with 95 % intervals, over models; of real text over its pieces. Repeated 8-grams: 1 − distinct / "
            "all, in a text. Log-likelihood: under the model itself (α = 1), whatever the text was drawn from.",
            f"**Greedy text** of {FAR:,} characters, in float64. At its end the state is that of one period before but "
            "for `difference`. Each character of the loop is likelier than any other by `margin` nats. `needed`: how "
            "many of its last characters a model in a zero state has to read to go on with it, at any place in it.",
            markdown(["model", "loops", *LOOP], loops),
            "**Sharpening each character is not sampling from P(text)^α.** The first divides by a sum of P^α over the "
            "next character, which depends on those before it; the second once, by the sum over all texts, and so "
            f"favours a beginning for how surely it goes on. Over all continuations of `{PREFIXES[0]}` by 1 to "
            f"{LENGTH} characters, with α = {SHARPENED:g}, the total variation distance of the two is {apart}.",
        ],
        figures={"repetition": _figure(values)},
        arrays={"cycles": np.array(cycles)} | {what: np.array(pieces) for what, pieces in values[REAL].items()},
    )


def _values(found: list[dict[str, Any]], name: str, what: str) -> list[float]:
    """Return a measure of each model's texts; of real text that of each piece, the mean over models."""
    factor = MEASURES[what][1]
    if name == REAL:
        of_models = zip(*(samples["pieces"][what] for samples in found), strict=False)
        return [factor * statistics.fmean(map(float, piece)) for piece in of_models]
    return [factor * float(samples[name][what]) for samples in found]  # what is not finite is a text in summary.json


def _turned(cycle: str) -> str:
    """Return the cycle from the start of a word on: of all its rotations after a space the first in the alphabet."""
    starts = [i for i in range(len(cycle)) if cycle[i - 1] == " "] or range(len(cycle))
    return min((cycle[i:] + cycle[:i] for i in starts), default="")


def _figure(values: dict[str, dict[str, list[float]]]) -> Picture:
    """Draw two measures: decoding -> measure -> of each model, or of each piece of real text."""
    figure, grid = panels(1, 2, width=10)
    names = [name for name in values if name != REAL]
    for axes, what in zip(grid.flat, ("known_words", "repeated"), strict=True):
        points_by_seed(axes, names, {"": [values[name][what] for name in names]})
        real = estimate(values[REAL][what]).mean
        axes.axhline(real, color=COLOURS[1])
        axes.annotate(f"{REAL} {real:.2g} %", (-0.4, real), (0, 3), textcoords="offset points", color=COLOURS[1])
        axes.set(title=MEASURES[what][0], xlabel="drawn from P^α, or greedy", ylim=(-3, 103))
    return figure, "What models write, a circle a model with a bar at their mean, and real text."
