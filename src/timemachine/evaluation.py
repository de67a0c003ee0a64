"""Perplexity of a trained model on any text: window by window as in the book, and as one stream.

N characters, T time steps, B windows in a batch.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from timemachine.baselines import kneser_ney, witten_bell
from timemachine.config import SettingError
from timemachine.corpus import Corpus
from timemachine.datamodule import Split, TimeMachine, WindowLoader
from timemachine.ensemble import Ensemble
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

WARM_UP = 512  # characters that a stream has read before its first target
BLOCK = 100  # characters; neighbouring ones are not independent, so errors are those of block sums


@dataclass(frozen=True, slots=True)
class Score:
    """Perplexity with its standard error, bits per character, and the number of distinct target characters."""

    perplexity: float
    standard_error: float
    bits: float
    num_targets: int


def score(nll_N: Tensor, count_N: Tensor) -> Score:
    """Score of summed NLLs (nats) and numbers of predictions per target character, both (N,), float64.

    The mean NLL is a ratio of sums over blocks of 100 characters, its variance that of the block residuals; the error
    of the perplexity follows by the delta method.
    """
    blocks = -(-len(nll_N) // BLOCK)
    padded = torch.zeros(2, blocks * BLOCK, dtype=torch.float64)
    padded[0, : len(nll_N)], padded[1, : len(count_N)] = nll_N, count_N
    nll_K, count_K = padded.view(2, blocks, BLOCK).sum(2)
    mean = nll_K.sum() / count_K.sum()
    variance = ((nll_K - mean * count_K) ** 2).sum() * blocks / max(blocks - 1, 1)
    error = variance.sqrt() / count_K.sum() if blocks > 1 else torch.tensor(math.nan)
    perplexity = math.exp(min(mean.item(), 700))
    return Score(perplexity, perplexity * error.item(), mean.item() / math.log(2), int((count_N > 0).sum()))


@torch.inference_mode()
def window_score(
    model: RNNLMScratch | Ensemble, chars_N: Tensor, starts: range, num_steps: int, batch_size: int = 1024
) -> Score:
    """The book's perplexity: each window from a zero state, all positions. `starts` may leave windows out."""
    windows_NT = chars_N.unfold(0, num_steps + 1, 1)[starts.start : starts.stop : starts.step]
    length = starts[-1] - starts[0] + num_steps
    nll_N, count_N = torch.zeros(2, length, dtype=torch.float64)
    offset = torch.arange(num_steps)
    for number, batch in enumerate(WindowLoader(windows_NT, batch_size)):
        nll_BT = model.nll(batch).double()
        target_BT = (number * batch_size + torch.arange(len(nll_BT))[:, None]) * starts.step + offset
        nll_N.index_add_(0, target_BT.flatten(), nll_BT.flatten())
        count_N.index_add_(0, target_BT.flatten(), torch.ones(nll_BT.numel(), dtype=torch.float64))
    return score(nll_N, count_N)


def stream_score(model: RNNLMScratch | Ensemble, chars_N: Tensor, targets: range, chunk: int = 4096) -> Score:
    """Each target once, the state carried from one to the next, warmed on the 512 characters before the first."""
    nll_N = stream_nll(model, chars_N, targets, chunk)
    return score(nll_N, torch.ones_like(nll_N))


@torch.inference_mode()
def stream_nll(model: RNNLMScratch | Ensemble, chars_N: Tensor, targets: range, chunk: int = 4096) -> Tensor:
    """Negative log-likelihoods of the targets (N,), float64, in nats, as `stream_score` reads them."""
    first_input = max(0, targets.start - 1 - WARM_UP)
    state, nlls = None, []
    for start in range(first_input, targets.stop - 1, chunk):
        stop = min(start + chunk, targets.stop - 1)
        inputs_1L, next_1L = chars_N[None, start:stop].long(), chars_N[None, start + 1 : stop + 1].long()
        logits_1LV, state = model(inputs_1L, state)
        nlls.append(torch.nn.functional.cross_entropy(logits_1LV[0], next_1L[0], reduction="none"))
    return torch.cat(nlls)[-len(targets) :].double()


@dataclass(frozen=True, slots=True)
class Row:
    """What evaluate.py says of one text, or of one part of it."""

    text: str
    source: str
    part: str
    window: Score
    stream: Score
    replaced: dict[str, int]


def evaluate(model: RNNLMScratch | Ensemble, vocab: Vocab, summary: dict[str, Any], corpus: Corpus) -> list[Row]:
    """A row for the whole text, or, for the text that the model was trained on, a row a split.

    `summary`: the run's summary.json. Raises SettingError where the text is shorter than a window.
    """
    num_steps = summary["settings"]["data"]["num_steps"]
    splits = splits_of(summary, corpus)
    chars_N = vocab.encode(corpus.characters)
    replaced = corpus.replaced()
    return [
        Row(
            corpus.name,
            corpus.source,
            name,
            window_score(model, chars_N, split.starts, num_steps),
            stream_score(model, chars_N, split.targets),
            replaced,
        )
        for name, split in splits.items()
    ]


ORDERS = range(8)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model and n-grams on the same characters, as one stream.

    `ngrams`: smoothing -> perplexity of the orders 0 to 7. `difference`: what the model's mean negative log-likelihood
    is above that of the best of them, in nats, and its standard error, over blocks of 100 characters, paired.
    """

    text: str
    part: str
    model: Score
    ngrams: dict[str, list[float]]
    best: str
    difference: tuple[float, float]


def compare(
    model: RNNLMScratch | Ensemble, vocab: Vocab, summary: dict[str, Any], corpus: Corpus, own: Corpus
) -> list[Comparison]:
    """One for each part of a text that is held out. `own`: the text that the model was trained on, as the n-grams are.

    Raises SettingError where `own` is another text.
    """
    if own.sha256 != summary["corpus"]["sha256"]:
        raise SettingError(
            f"baselines=true: {own.source} is not the text that the run was trained on; type data.search_dirs=[<where "
            "that one is>]"
        )
    train = own.characters[: splits_of(summary, own)["train"].targets.stop]
    chars_N = vocab.encode(corpus.characters)
    comparisons = []
    for part, split in splits_of(summary, corpus).items():
        targets = range(max(split.targets.start, ORDERS[-1] - 1), split.targets.stop)
        if part == "train" or not targets:
            continue
        nll_N = stream_nll(model, chars_N, targets)
        by_ngrams = {
            name: [torch.from_numpy(smoothed(train, corpus.characters, targets, order)) for order in ORDERS]
            for name, smoothed in (("Witten-Bell", witten_bell), ("Kneser-Ney", kneser_ney))
        }
        ngrams = {name: [nll.mean().exp().item() for nll in nlls] for name, nlls in by_ngrams.items()}
        _, name, order = min((ngrams[name][order], name, order) for name in ngrams for order in ORDERS)
        difference = paired(nll_N, by_ngrams[name][order])
        model_score = score(nll_N, torch.ones_like(nll_N))
        comparisons.append(Comparison(corpus.name, part, model_score, ngrams, f"{order}-gram, {name}", difference))
    return comparisons


def paired(nll_N: Tensor, other_N: Tensor) -> tuple[float, float]:
    """Mean of nll_N - other_N, and its standard error from the sums of blocks of 100 characters."""
    difference_N = nll_N - other_N
    mean = difference_N.mean()
    block_K = torch.stack([block.sum() for block in torch.split(difference_N - mean, BLOCK)])
    error = (block_K.var() * len(block_K)).sqrt() / len(difference_N) if len(block_K) > 1 else torch.tensor(math.nan)
    return mean.item(), error.item()


def splits_of(summary: dict[str, Any], corpus: Corpus) -> dict[str, Split]:
    """The parts of the text that the run was trained on; of another one, `all`.

    Raises SettingError where it is too short.
    """
    settings = summary["settings"]["data"]
    num_steps = settings["num_steps"]
    if corpus.sha256 == summary["corpus"]["sha256"]:
        data = TimeMachine(
            num_steps=num_steps, num_train=settings["num_train"], num_val=settings["num_val"], corpus=corpus
        )
        splits = {name: split for name, split in data.splits.items() if split.starts}
    else:
        num_chars = len(corpus.characters)
        splits = {"all": Split(range(max(0, num_chars - num_steps)), range(1, num_chars))}
    if not splits.get("all", splits.get("train", Split(range(0), range(0)))).starts:
        raise SettingError(
            f"data.corpus={corpus.source}: has {len(corpus.characters)} characters, a window of this run needs "
            f"{num_steps + 1}; type the path of a longer text"
        )
    return splits
