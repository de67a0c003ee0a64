"""Exercise 8: draw the next character instead of taking the likeliest, from P or from P^alpha. What happens?

Measured: what the model writes, greedily, from P and from P^alpha, beside as much real text. B texts of one length, T
characters, V vocabulary, S numbers of a state. Every text has a prefix, which is not measured.
"""

import math
import statistics
from collections.abc import Iterable
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.claims import UNDECIDED, difference, lowest
from timemachine.exercises.jobs import Job, mean_sd, span
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

MEASURES = {
    "repeated": "repeated 8-grams",
    "known_words": "words of the novel",
    "distinct_words": "distinct words",
    "log_likelihood": "log-likelihood",
}
REAL = "real text"
GREEDY_AT = 24.0  # where the axis of alpha, which ends at 8, has greedy decoding: alpha without bound
Decoding = float | str | None  # alpha; None: greedy; REAL
Rows = dict[Decoding, list[dict[str, Any]]]  # a row a job


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return a row for each way of decoding, one for real text, the loops of greedy decoding, and `sharpening`."""
    known = set(data.corpus.characters.decode().split())
    rows, loops = [], []
    for alpha in ALPHAS:
        # The seed differs by prefix: fed with the same random numbers, texts become one as the prefix is forgotten.
        groups = [
            (len(prefix), continue_text(model, data.vocab, prefix, NUM_PREDS, alpha, NUM_SAMPLES if alpha else 1, seed))
            for seed, prefix in enumerate(PREFIXES)
        ]
        rows.append({"alpha": alpha, **_measured(model, data.vocab, groups, known)})
        if alpha is None:
            loops = [loop(texts[0][length:]) for length, texts in groups]
    return {
        "length": NUM_PREDS,
        "num_samples": NUM_SAMPLES,
        "prefixes": list(PREFIXES),
        "rows": rows,
        "real": _measured(model, data.vocab, real_texts(data), known),
        "loops": loops,
        "sharpening": sharpening(model, data.vocab, PREFIXES[0], SHARPENED, LENGTH),
    }


def real_texts(data: TimeMachine) -> list[Texts]:
    """Return as many texts as are drawn, evenly spread over the validation part; they overlap if it is short."""
    val = data.splits["val"].targets
    length, context = min(NUM_PREDS, len(val)), min(CONTEXT, val.start)
    last = len(PREFIXES) * NUM_SAMPLES - 1
    starts = [val.start + (len(val) - length) * number // last for number in range(last + 1)]
    characters = data.corpus.characters.decode()
    texts = [characters[start - context : start + length] for start in starts]
    return [(context, texts[first : first + NUM_SAMPLES]) for first in range(0, len(texts), NUM_SAMPLES)]


def _measured(model: RNNLMScratch, vocab: Vocab, groups: list[Texts], known: set[str]) -> dict[str, Any]:
    """Return means over texts; the share of known words is one of all words together. A text of each group for show."""
    continuations = [text[length:] for length, texts in groups for text in texts]
    words = [whole_words(text) for text in continuations]
    return {
        "repeated": _mean_of(map(repeated_share, continuations)),
        "distinct_words": _mean_of(len(set(ours)) for ours in words),
        "known_words": _mean_of(word in known for ours in words for word in ours),
        "log_likelihood": _mean_of(
            value for length, texts in groups for value in log_likelihoods(model, vocab, texts, length)
        ),
        "shown": [texts[0][: length + SHOWN] for length, texts in groups],
    }


def _mean_of(values: Iterable[float]) -> float:
    numbers = list(values)
    return statistics.fmean(numbers) if numbers else math.nan


def repeated_share(text: str) -> float:
    """Return 1 - distinct / all runs of 8 characters: 0 if none comes twice, NaN if there is none."""
    ngrams = [text[i : i + NGRAM] for i in range(len(text) - NGRAM + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else math.nan


def whole_words(text: str) -> list[str]:
    """Return the words between two spaces: what lies before the first space and after the last may be cut."""
    return [word for word in text.split(" ")[1:-1] if word]


@torch.no_grad()
def log_likelihoods(model: RNNLMScratch, vocab: Vocab, texts: list[str], length: int) -> list[float]:
    """Return each text's mean log P of a character after its prefix of `length` characters, in nats, under P."""
    text_BT = torch.tensor([vocab[list(text)] for text in texts], device=model.device)
    logits_BTV, _ = model(text_BT[:, :-1])
    log_P_BTV = logits_BTV.double().log_softmax(2)
    log_P_BT = log_P_BTV.gather(2, text_BT[:, 1:, None])[:, length - 1 :, 0]
    means: list[float] = log_P_BT.mean(1).tolist()
    return means


def loop(text: str) -> dict[str, Any]:
    """Return the cycle that a text ends in: the shortest that fills at least the text's last half, twice or more.

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
    """Compare sharpening each character with sharpening whole texts, over all continuations without `<unk>`.

    Both have the weights P(text)^alpha. Decoding divides each character's by their sum over that character, given those
    before it; P^alpha of whole texts divides once, by the sum over all texts. `distances`: total variation, between 0
    and 1, of the two distributions of 1, 2, … `length` characters. `text`: the continuation of that length whose
    probability differs most, `by_character` and `by_text` its probabilities.
    """
    known_K = torch.tensor([index for index in range(len(vocab)) if index != vocab.unk], device=model.device)
    inputs_BT, state_BS = torch.tensor([vocab[list(prefix)]], device=model.device), None
    by_character_N = by_text_N = torch.zeros(1, dtype=torch.float64, device=model.device)  # logarithms
    distances = []
    for _ in range(length):
        logits_BTV, state_BS = model(inputs_BT, state_BS)
        # A text's N is its place when all are counted up, the last character fastest.
        log_P_BK = alpha * logits_BTV[:, -1, known_K].double().log_softmax(1)
        by_character_N = (by_character_N[:, None] + log_P_BK.log_softmax(1)).flatten()
        by_text_N = (by_text_N[:, None] + log_P_BK).flatten()
        difference_N = by_character_N.exp() - by_text_N.softmax(0)
        distances.append(difference_N.abs().sum().item() / 2)
        inputs_BT = known_K.repeat(len(logits_BTV))[:, None]
        state_BS = state_BS.repeat_interleave(len(known_K), 0)
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


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each way of decoding, over seeds, and one for real text."""
    measured = [job.probes["samples"] for job in jobs if job.probes.get("samples")]
    rows: Rows = {}
    for samples in measured:
        for row in [*samples["rows"], samples["real"] | {"alpha": REAL}]:
            rows.setdefault(row["alpha"], []).append(row)
    first = measured[0] if measured else {}
    answer, longer = _answer(rows, measured)
    return Findings(
        number="8",
        question="Draw the next character instead of taking the likeliest: from P(x_t | x_<t), and, to favour likely "
        "characters, from P(x_t | x_<t)^α with α > 1. What happens?",
        setting="The book's run, and what each model writes at its end"
        + (
            f": {first['length']} characters after each of {len(first['prefixes'])} prefixes, once greedily and "
            f"{first['num_samples']} times for each α; beside it as much real text, in pieces of the "
            "validation part that overlap."
            if first
            else "."
        ),
        columns=["decoding", "runs", "repeated 8-grams, %", "distinct words", "words of the novel, %",
                 "log-likelihood, nats a character"],
        rows=[_row(alpha, ours) for alpha, ours in rows.items()],
        figures={"repetition": _repetition(rows), "likelihood": _likelihood(rows)},
        captions={
            "repetition": "Repetition and words against α, greedy decoding at the right end. Mean and standard "
            "deviation over seeds; the dashed line is real text.",
            "likelihood": "Mean log-likelihood of a character of the text under the model that wrote it; the dashed "
            "line is real text.",
        },
        answer=answer,
        longer=longer,
        notes=[
            "Repeated 8-grams: 1 − distinct / all within a text. Distinct words: in one text. Words of the novel: "
            "share of the words that occur anywhere in it, so that real text has 100 % by definition. Log-likelihood: "
            "under the model itself (α = 1), whatever the text was drawn from. Mean ± standard deviation over seeds.",
            *_side_by_side(first),
            *_loops(measured),
        ],
    )  # fmt: skip


def _name(alpha: Decoding) -> str:
    if alpha is None:
        return "greedy"
    return alpha if isinstance(alpha, str) else "P" if alpha == 1 else f"P^{alpha:g}"


def _values(rows: list[dict[str, Any]], measure: str, factor: float = 1) -> list[float]:
    """Return the value of each job; summary.json writes a number that is not finite as a text."""
    return [factor * float(row[measure]) for row in rows]


def _row(alpha: Decoding, rows: list[dict[str, Any]]) -> list[str]:
    return [
        _name(alpha),
        str(len(rows)),
        mean_sd(_values(rows, "repeated", 100)),
        mean_sd(_values(rows, "distinct_words")),
        mean_sd(_values(rows, "known_words", 100)),
        mean_sd(_values(rows, "log_likelihood")),
    ]


def _mean(rows: list[dict[str, Any]], measure: str, factor: float = 1) -> float:
    """Return the mean over the jobs where it is finite."""
    finite = list(filter(math.isfinite, _values(rows, measure, factor)))
    return statistics.fmean(finite) if finite else math.nan


def _repetition(rows: Rows) -> Figure:
    figure = Figure(figsize=(9, 3.8), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2)
    _against_alpha(left, rows, "repeated", 100, COLOURS[0], "repeated 8-grams, %")
    _against_alpha(right, rows, "known_words", 100, COLOURS[1], "words that occur in the novel, %")
    return figure


def _likelihood(rows: Rows) -> Figure:
    figure = Figure(figsize=(6, 3.8), dpi=150, layout="constrained")
    axes = figure.subplots()
    _against_alpha(axes, rows, "log_likelihood", 1, COLOURS[2], "mean log-likelihood, nats a character")
    return figure


def _against_alpha(axes: Axes, rows: Rows, measure: str, factor: float, colour: str, label: str) -> None:
    """Draw means with standard deviations at each alpha, joined; greedy decoding apart; real text as a line."""
    drawn = sorted((alpha, ours) for alpha, ours in rows.items() if isinstance(alpha, float | int))
    for places, style in (([*drawn], "o-"), ([(GREEDY_AT, rows[None])] if None in rows else [], "D")):
        points = [(place, list(filter(math.isfinite, _values(ours, measure, factor)))) for place, ours in places]
        points = [(place, values) for place, values in points if values]
        if points:
            means = [statistics.fmean(values) for _, values in points]
            deviations = [statistics.stdev(values) if len(values) > 1 else 0.0 for _, values in points]
            axes.errorbar([place for place, _ in points], means, deviations, fmt=style, color=colour, capsize=3)
    real = _mean(rows.get(REAL, []), measure, factor)
    if math.isfinite(real):
        axes.axhline(real, linestyle="--", color="black", linewidth=1)
        axes.text(0.42, real, REAL, va="bottom")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="α (log scale)", ylabel=label, xlim=(0.4, GREEDY_AT * 1.4))
    ticks = [*(alpha for alpha, _ in drawn), GREEDY_AT]
    axes.set_xticks(ticks, [*(f"{alpha:g}" for alpha, _ in drawn), "greedy"])
    axes.minorticks_off()
    axes.margins(y=0.12)
    axes.grid(alpha=0.3)


def _side_by_side(samples: dict[str, Any]) -> Iterable[str]:
    """Return the first job's texts, a block a prefix; real text has a beginning of its own."""
    if not samples:
        return
    rows = [*samples["rows"], samples["real"] | {"alpha": REAL}]
    blocks = []
    for number, prefix in enumerate(samples["prefixes"]):
        lines = [f"{_name(row['alpha']):9} | {row['shown'][number]}" for row in rows]
        blocks.append("\n".join([f"{'prefix':9} | {prefix}", *lines]))
    yield "The beginnings of the first run's texts, a block a prefix; real text goes on from a beginning of its own:"
    yield "```text\n" + "\n\n".join(blocks) + "\n```"


def _loops(measured: list[dict[str, Any]]) -> Iterable[str]:
    """Return the cycles of greedy decoding, a row a prefix and a column a run."""
    if measured:
        head = ["prefix", *(f"run {number + 1}" for number in range(len(measured)))]
        lines = [head, ["---"] * len(head)]
        for number, prefix in enumerate(measured[0]["prefixes"]):
            lines.append([f"`{prefix}`", *(_loop_cell(samples["loops"][number]) for samples in measured)])
        yield "What greedy decoding repeats in the end, and after how many characters it first does so:"
        yield "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _loop_cell(loop: dict[str, Any]) -> str:
    return "no loop" if loop["cycle"] is None else f"`{_turned(loop['cycle'])}` after {loop['start']}"


def _turned(cycle: str) -> str:
    """Return the cycle from the start of a word on: of all its rotations after a space the first in the alphabet."""
    starts = [i for i in range(len(cycle)) if cycle[i - 1] == " "] or range(len(cycle))
    return min(cycle[i:] + cycle[:i] for i in starts)


def _answer(rows: Rows, measured: list[dict[str, Any]]) -> tuple[str, list[str]]:
    """Return the answer, and what else was found."""
    if not measured:
        return "No run has ended yet.", []
    alphas = sorted(alpha for alpha in rows if isinstance(alpha, float | int))
    ends = [rows[alphas[0]], rows[alphas[-1]]]
    repeated, known = (
        " to ".join(f"{mean:.1f}" for end in ends if math.isfinite(mean := _mean(end, measure, 100))) or "–"
        for measure in ("repeated", "known_words")
    )
    loops = [loop for samples in measured for loop in samples["loops"]]
    found = sum(loop["cycle"] is not None for loop in loops)
    answer = (
        f"From {_name(alphas[0])} to {_name(alphas[-1])} the share of words that are in the novel goes from {known} %, "
        f"and that of repeated 8-grams from {repeated} %. Greedy text ends in a loop {found} of {len(loops)} times."
    )
    return answer, [
        _nearest(rows, alphas),
        *_likeliest(rows, alphas),
        _why_greedy_loops(loops),
        *_not_from_texts(measured),
    ]


def _by_run(rows: list[dict[str, Any]], measure: str) -> dict[int, float]:
    return {run: value for run, value in enumerate(_values(rows, measure)) if math.isfinite(value)}


def _nearest(rows: Rows, alphas: list[float]) -> str:
    """Return for each measure the α whose texts are nearest to real ones, and all that cannot be told apart from it."""
    found = {}
    for measure, what in MEASURES.items():
        real = _by_run(rows[REAL], measure)
        distances = {a: {run: abs(v - real[run]) for run, v in _by_run(rows[a], measure).items() if run in real}
                     for a in alphas}  # fmt: skip
        if near := lowest(distances):
            found[what] = set(near)
    by_measure = ", ".join(f"{' or '.join(map(_name, sorted(near)))} by {what}" for what, near in found.items())
    one_is_right = found and set.intersection(*found.values())
    return f"**Nearest to real text** is {by_measure or 'none'}." + (
        " No one α is right in everything." if found and not one_is_right else ""
    )


def _likeliest(rows: Rows, alphas: list[float]) -> Iterable[str]:
    by_run = {key: _by_run(rows[key], "log_likelihood") for key in [*alphas, None]}
    likeliest = lowest({key: {run: -v for run, v in by_run[key].items()} for key in alphas})[:1]
    if likeliest and by_run[None]:
        (best,) = likeliest
        verdict = difference(by_run[None], by_run[best]).verdict("is less likely", "is likelier")
        texts = f"{_mean(rows[None], 'log_likelihood'):.2f} against {_mean(rows[best], 'log_likelihood'):.2f} nats"
        which = f"greedy text and that of {_name(best)} {UNDECIDED}"
        which = which if verdict == UNDECIDED else f"greedy text {verdict} than that of {_name(best)}"
        yield f"**Likelihood.** Under the model itself {which}: {texts} a character."


def _why_greedy_loops(loops: list[dict[str, Any]]) -> str:
    found = [loop for loop in loops if loop["cycle"] is not None]
    where = ""
    if found:
        begins, lengths = span(loop["start"] for loop in found), span(len(loop["cycle"]) for loop in found)
        where = f" Here loops of {lengths} characters begin after {begins} of them."
    return (
        "**Why greedy text loops.** Without a draw the next character is a function of the state, and the state "
        "depends on little more than the last few characters: once these come again, so does all that followed them."
        + where
    )


def _not_from_texts(measured: list[dict[str, Any]]) -> Iterable[str]:
    first = measured[0]["sharpening"]
    lengths = range(1, 1 + len(first["distances"]))
    means = [
        statistics.fmean(float(samples["sharpening"]["distances"][length - 1]) for samples in measured)
        for length in lengths
    ]
    alpha, by_character, by_text = (float(first[name]) for name in ("alpha", "by_character", "by_text"))
    text = (
        "**Sharpening each character is not sampling from P(text)^α.** The first divides by a sum of P^α over the next "
        "character, which depends on those before it; the second divides once, by the sum over all texts, and so "
        "favours a beginning for how surely it goes on."
    )
    if all(map(math.isfinite, [*means, by_character, by_text])):
        text += (
            f' Over all continuations of "{first["prefix"]}" with α = {alpha:g} the total variation distance of the '
            f"two is {', '.join(f'{mean:.3f}' for mean in means)} for {lengths[0]} to {lengths[-1]} characters; in the "
            f"first run `{first['text']}` has probability {by_character:.3f} by the character and {by_text:.3f} by the "
            "text."
        )
    yield text
