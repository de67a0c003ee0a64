"""Exercise 8: Draw the next character from P(x_t | x_<t), or from P(x_t | x_<t)^α with α > 1: what happens?

The probe compares generated text with real text, and finds the loop in which greedy decoding ends. Every text has a
prefix, which is not measured.

Shapes: B texts of one length, T characters, V vocabulary, S numbers of a state, P characters of a loop's period.
"""

import copy
import math
import re
from typing import Any

import numpy as np
import torch

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import estimate
from timemachine.exercises.drawing import COLOURS, panels, points_by_place
from timemachine.exercises.groups import markdown, missing, span
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job
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
LOOP = ("period", "start", "difference", "margin", "needed")


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return `MEASURES` averaged over texts by decoding method and for real text, greedy loops, and `sharpening`."""
    train = data.corpus.characters[: data.splits["train"].targets.stop]
    known = set(train.split(" ")[:-1])  # the last one may be cut
    found: dict[str, Any] = {"shown": {}}
    for name, alpha in {**ALPHAS, GREEDY: None}.items():
        # One seed per prefix: with the same random numbers, texts become identical once the prefix is forgotten.
        groups = [
            (len(prefix), continue_text(model, data.vocab, prefix, NUM_PREDS, alpha, NUM_SAMPLES if alpha else 1, seed))
            for seed, prefix in enumerate(PREFIXES)
        ]
        of_texts = [measures(model, data.vocab, texts, length, known) for length, texts in groups]
        found[name] = {what: estimate(value for group in of_texts for value in group[what]).mean for what in MEASURES}
        found["shown"][name] = [texts[0][: length + NUM_QUOTED] for length, texts in groups]
    length, texts = real_texts(data)
    pieces = measures(model, data.vocab, texts, length, known)
    loops = [loop(model, data.vocab, prefix) for prefix in PREFIXES]
    return found | {
        REAL: {what: estimate(values).mean for what, values in pieces.items()},
        "cycles": [cycle for cycle, _ in loops],
        "loops": {prefix.strip(): numbers for prefix, (_, numbers) in zip(PREFIXES, loops, strict=True)},
        "sharpening": {"distances": sharpening(model, data.vocab, PREFIXES[0], SHARPENED, LENGTH)},
    }


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


def findings(jobs: list[Job]) -> Findings:
    """Report one row per decoding method, and one for real text, over models."""
    found = [job.probes["samples"] for job in jobs if job.probes.get("samples")]
    columns = ["decoding", *(title for title, _ in MEASURES.values())]
    if not found:
        return Findings(columns=columns, rows=[])
    values = {name: {what: _values(found, name, what) for what in MEASURES} for name in (*ALPHAS, GREEDY, REAL)}
    shown = "\n".join(f"    {name:6} | {found[0]['shown'][name][0]}" for name in (GREEDY, "P", "P^2"))
    cycles = [[_turned(cycle) for cycle in samples["cycles"]] for samples in found]
    num_loops = sum(map(all, cycles))
    loop_share = "always loops" if num_loops == len(found) else f"loops in {num_loops} of {len(found)} models"
    loops = [
        [str(number), ", ".join(f"`{cycle or 'none'}`" for cycle in dict.fromkeys(ours))]
        + [span(float(of_prefix.get(what, math.nan)) for of_prefix in samples["loops"].values()) for what in LOOP]
        for number, (samples, ours) in enumerate(zip(found, cycles, strict=True))
    ]
    distances = [map(float, samples["sharpening"]["distances"].values()) for samples in found]
    apart = ", ".join(f"{estimate(of_models):.2f}" for of_models in zip(*distances, strict=True))
    return Findings(
        answer=missing(jobs, {})
        or f"{estimate(values['P']['known_words']).mean:.0f}% of the words sampled from P occur in the training text; "
        f"a larger α raises this share, but also the repetition, and greedy text {loop_share}.\n\n{shown}",
        setting="The book's run, with a different excerpt of the text for each seed. "
        f"Each model generates {NUM_PREDS} characters after each of {len(PREFIXES)} prefixes, "
        f"{NUM_SAMPLES} times for each α and once greedily. Real text is the rest of the text, in pieces of the same "
        "length.",
        columns=columns,
        rows=[[name, *(f"{estimate(ours):.2f}" for ours in of_name.values())] for name, of_name in values.items()],
        notes=[
            "Means with 95% intervals, over models. Repeated 8-grams: 1 − distinct / all, per text. Log-likelihood: "
            "under the model's P (α = 1) for all texts.",
            f"**Greedy text** of {LOOP_SEARCH:,} characters, in float64. `difference`: the largest difference between "
            "the last state and the state one period earlier. `margin`: the smallest lead, in nats, of a character "
            "of the loop over the next likeliest. `needed`: the number of characters of the loop "
            "that a model in a zero state must read to continue the loop, from any starting point.",
            markdown(["model", "loops", *LOOP], loops),
            "**Sharpening each character is not sampling from P(text)^α.** Decoding divides by the sum of P^α over the "
            "next character, which depends on the characters before it. Sampling from P(text)^α divides once, by the "
            "sum over all texts, and so favours beginnings with more predictable continuations. Over all continuations "
            f"of `{PREFIXES[0]}` by 1 to {LENGTH} characters, with α = {SHARPENED:g}, the total variation distance of "
            f"the two is {apart}.",
        ],
        figures={"repetition": _figure(values)},
        arrays={"cycles": np.array(cycles)},
    )


def _values(found: list[dict[str, Any]], name: str, what: str) -> list[float]:
    """Return a measure by model. summary.json has non-finite numbers as strings."""
    return [MEASURES[what][1] * float(samples[name][what]) for samples in found]


def _turned(cycle: str) -> str:
    """Rotate the cycle to start at a word: the alphabetically first of its rotations that follow a space."""
    starts = [i for i in range(len(cycle)) if cycle[i - 1] == " "] or range(len(cycle))
    return min((cycle[i:] + cycle[:i] for i in starts), default="")


def _figure(values: dict[str, dict[str, list[float]]]) -> Picture:
    """Draw two measures. `values`: decoding -> measure -> values by model."""
    figure, grid = panels(1, 2, width=10)
    names = [name for name in values if name != REAL]
    labels = [re.sub(r"P\^?(.*)", r"$P^{\1}$", name) for name in names]
    for axes, what in zip(grid.flat, ("known_words", "repeated"), strict=True):
        points_by_place(axes, labels, {"": [values[name][what] for name in names]})
        real = estimate(values[REAL][what]).mean
        axes.axhline(real, color=COLOURS[1])
        axes.annotate(f"{REAL} {real:.2g}%", (-0.4, real), (0, 3), textcoords="offset points", color=COLOURS[1])
        axes.set(title=MEASURES[what][0], xlabel="drawn from $P^α$, or greedy", ylim=(-3, 103))
    return figure, "Generated text and real text. Circles: models; bars: means."
