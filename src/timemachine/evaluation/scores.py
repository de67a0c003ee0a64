"""Perplexity of a trained model on any text, over windows as in the book and as one stream, and its table.

N characters, T time steps, B windows in a batch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from timemachine.config import Tokens, format_value, require, windows_of
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import Batch, Split, TimeMachine, WindowLoader, evaluation_batch_size
from timemachine.errors import SettingError
from timemachine.perplexity import count_unknown, num_bytes
from timemachine.run.console import print_table, print_text
from timemachine.vocab import Vocab

WARM_UP = 512  # tokens of a stream before its first target
NUM_SHOWN = 10  # unknown characters to print
BLOCK = 100  # characters; neighbouring ones are not independent, so errors are computed from block sums
STREAMS = 128  # read side by side
CHUNK = 4096  # tokens that the model reads at once


class LanguageModel(Protocol):
    """Interface of a model to score, such as an `RNNLMScratch`."""

    def __call__(self, X_BT: Tensor, state: Any = None, /) -> tuple[Tensor, Any]:
        """Return logits (B, T, V) and the state after the last step, from indices (B, T) and the state before."""

    def nll(self, batch: Batch) -> Tensor:
        """Return the negative log-likelihood of each target (B, T), in nats; each window starts with a zero state."""


@dataclass(frozen=True, slots=True)
class Score:
    """Perplexity with its standard error, bits per character, and the number of targets, each counted once."""

    perplexity: float
    standard_error: float
    bits: float
    num_targets: int

    def __str__(self) -> str:
        """Return the perplexity with its standard error, which needs more than one block of characters."""
        form = ".2f" if self.perplexity < 1e6 else ".3g"  # a diverged model
        error = "" if math.isnan(self.standard_error) else f" ±{self.standard_error:{form}}"
        return f"{self.perplexity:{form}}{error}"


class PartScores(NamedTuple):
    """The scores of a model on a text, or on one part of it; a baseline has no `window`."""

    text: str
    part: str
    model: str
    stream: Score
    num_bytes: int  # of the stream's targets in UTF-8
    window: Score | None = None

    @property
    def bits_per_byte(self) -> float:
        """Return the stream's bits per byte, which are comparable across vocabularies."""
        return self.stream.bits * self.stream.num_targets / self.num_bytes


def score(nll_N: Tensor, count_N: Tensor | None = None) -> Score:
    """Return the score of N target characters from the sums of their negative log-likelihoods, in nats, (N,), float64.

    `count_N` (N,): number of predictions in each sum; one if None. The error of the mean comes from blocks of 100
    characters; the error of the perplexity follows by the delta method.
    """
    count_N = torch.ones_like(nll_N) if count_N is None else count_N
    mean, error = mean_and_error(nll_N, count_N)
    perplexity = torch.tensor(mean, dtype=torch.float64).exp().item()  # inf for a diverged model
    return Score(perplexity, perplexity * error, mean / math.log(2), int((count_N > 0).sum()))


def mean_and_error(value_N: Tensor, count_N: Tensor | None = None, block_size: int = BLOCK) -> tuple[float, float]:
    """Return the mean of values and its standard error, NaN for a single block.

    `count_N` (N,): the number of observations in each value; one if None. The mean is a ratio of sums over blocks, and
    the error follows from the variance of the block residuals.
    """
    count_N = torch.ones_like(value_N) if count_N is None else count_N
    value_K, count_K = (
        torch.stack([part.sum() for part in torch.split(each, block_size)]) for each in (value_N, count_N)
    )
    mean, blocks = value_K.sum() / count_K.sum(), len(value_K)
    variance = ((value_K - mean * count_K) ** 2).sum() * blocks / max(blocks - 1, 1)
    return mean.item(), (variance.sqrt() / count_K.sum()).item() if blocks > 1 else math.nan


@torch.inference_mode()
def window_score(model: LanguageModel, tokens_N: Tensor, starts: range, num_steps: int, batch_size: int) -> Score:
    """Score all targets of the windows at `starts`, each from a zero state, as in the book."""
    windows_NT = tokens_N.unfold(0, num_steps + 1, 1)[starts.start : starts.stop]
    nll_N, count_N = torch.zeros(2, len(starts) - 1 + num_steps, dtype=torch.float64)
    for number, batch in enumerate(WindowLoader(windows_NT, batch_size)):
        nll_BT = model.nll(batch).double()
        target_BT = number * batch_size + torch.arange(len(nll_BT))[:, None] + torch.arange(num_steps)
        nll_N.index_add_(0, target_BT.flatten(), nll_BT.flatten())
        count_N.index_add_(0, target_BT.flatten(), torch.ones(nll_BT.numel(), dtype=torch.float64))
    return score(nll_N, count_N)


@torch.inference_mode()
def stream_nll(model: LanguageModel, tokens_N: Tensor, targets: range) -> Tensor:
    """Return the targets' negative log-likelihoods (N,), float64, nats: each read once, with a carried state.

    128 streams are read side by side, since a single one takes many times as long. Each first reads the 512 tokens
    before its own targets. Targets with fewer tokens before them are read as one stream, from the text's beginning.
    """
    border, nlls = min(max(targets.start, WARM_UP + 1), targets.stop), list[Tensor]()
    if border > targets.start:
        nlls.append(_nll_after(model, tokens_N[None, :border], targets.start - 1))
    if rest := targets.stop - border:
        length = -(-rest // STREAMS)
        text_N = F.pad(tokens_N[border - 1 - WARM_UP : targets.stop], (0, STREAMS * length - rest))
        nlls.append(_nll_after(model, text_N.unfold(0, WARM_UP + length + 1, length), WARM_UP)[:rest])
    return torch.cat(nlls)


def _nll_after(model: LanguageModel, text_BT: Tensor, warm_up: int) -> Tensor:
    """Return the nats of all targets of texts after the first `warm_up` ones, in one row: (B · (T - 1 - warm_up),)."""
    state, nlls, chunk = None, [], -(-CHUNK // len(text_BT))
    for start in range(0, text_BT.shape[1] - 1, chunk):
        piece_BL = text_BT[:, start : start + chunk + 1]
        logits_BLV, state = model(piece_BL[:, :-1], state)
        nlls.append(F.cross_entropy(logits_BLV.flatten(0, 1), piece_BL[:, 1:].flatten(), reduction="none"))
    nll_BT = torch.cat([nll_L.view(len(text_BT), -1) for nll_L in nlls], 1)
    return nll_BT[:, warm_up:].flatten().double()


def find_texts(corpus: Any, summary: Mapping[str, Any], search_dirs: Sequence[str]) -> list[Corpus]:
    """Return the texts of a value of `data.corpus`, read as the run's own text; None is that text.

    Raises SettingError for a text that is not found, and if the run's own text has changed.
    """
    own, tokens = summary["corpus"], Tokens(summary["settings"]["data"]["tokens"])
    names = [own["source"]] if corpus is None else [corpus] if isinstance(corpus, str | int | float) else [*corpus]
    require(bool(names), "data.corpus", [], "must name a text", "time_machine")
    texts = [
        find_corpus([*map(str, name)] if isinstance(name, list) else str(name), search_dirs, tokens) for name in names
    ]
    if corpus is None and texts[0].sha256 != own["sha256"]:
        rule = "the run's text has changed"
        raise SettingError(f"data.corpus=null: {rule}; use data.corpus={own['source']} to evaluate on it as a new text")
    return texts


def evaluate(model: LanguageModel, vocab: Vocab, summary: Mapping[str, Any], corpus: Corpus) -> list[PartScores]:
    """Return a row for the whole text, or a row for each split if the model was trained on the text.

    `summary`: the run's summary.json. Raises SettingError if the text is shorter than a window.
    """
    num_steps = summary["settings"]["data"]["num_steps"]
    corpus, tokens_N, splits = as_trained(summary, corpus, vocab)
    rows = []
    for part, split in splits.items():
        windows = window_score(model, tokens_N, split.starts, num_steps, evaluation_batch_size(len(vocab)))
        stream, size = score(stream_nll(model, tokens_N, split.targets)), num_bytes(tokens_N, split.targets, vocab)
        rows.append(PartScores(corpus.name, part, "model", stream, size, windows))
    return rows


def print_evaluation(title: str, vocab: Vocab, texts: list[Corpus], rows: list[PartScores]) -> None:
    """Print the scores as a table, the characters lost in normalisation, and the unknown characters of each text."""
    lines = [
        [row.text, row.part, f"{row.stream.num_targets:,}", str(row.window), str(row.stream), f"{row.stream.bits:.3f}",
         f"{row.bits_per_byte:.3f}"]
        for row in rows
    ]  # fmt: skip
    unit = "token" if vocab.kind is Tokens.bpe else "character"
    print_table(title, ("text", "part", f"{unit}s", "window", "stream", f"bits/{unit}", "bits/byte"), lines)
    print_text(
        "± standard error; window: every window from a zero state, as in the book; stream: one pass with carried "
        f"state, for comparing models; bits per {unit} and per UTF-8 byte are the stream's. To compare models with "
        "different vocabularies, use bits per byte."
    )
    notes = [note for text in texts for note in notes_on(text, vocab)]
    print_text("\n".join(dict.fromkeys(notes)))  # a text given twice is described once


def notes_on(corpus: Corpus, vocab: Vocab) -> list[str]:
    """Return lines about a text: the characters lost in normalisation, and those that the vocabulary lacks."""
    made = f"{len(corpus.characters):,} characters"
    if corpus.lost_letters:
        made += f"; {corpus.lost_letters:,} letters outside A-Z are read as spaces"
    if corpus.left_out:
        made += f"; without {corpus.left_out:,} bytes of Project Gutenberg's header and footer"
    if corpus.left_in:
        around = f"{corpus.left_in:,} bytes are outside Project Gutenberg's START and END lines"
        made += f"; read as a whole: {around}, too many for headers and footers"
    lines = [f"{corpus.name}: {made}"]
    if unknown := vocab.unknown(corpus.characters):
        times, size = count_unknown(corpus.characters, vocab)
        shown = " ".join(map(repr, unknown[:NUM_SHOWN])) + (" …" if len(unknown) > NUM_SHOWN else "")
        lacks = f"{times:,} characters ({len(unknown):,} distinct: {shown}) are not in the run's vocabulary"
        counted = f"they are scored as <unk> and counted as {times:,} bytes instead of {size:,}"
        lines += [f"{corpus.name}: {lacks}; {counted}"]
    return lines


def as_trained(summary: Mapping[str, Any], corpus: Corpus, vocab: Vocab) -> tuple[Corpus, Tensor, dict[str, Split]]:
    """Return the run's own text, rotated to `data.start` as in training, its tokens (N,), and its splits.

    Another text is returned unchanged, with one split, `all`. Raises SettingError if a text is too short.
    """
    settings, name = summary["settings"]["data"], f"data.corpus={format_value(corpus.source)}"
    if corpus.sha256 == summary["corpus"]["sha256"]:
        data = TimeMachine(**windows_of(settings), corpus=corpus)
        return data.corpus, data.tokens_N, {name: split for name, split in data.splits.items() if split.starts}
    tokens_N, num_steps = vocab.encode(corpus.characters), settings["num_steps"]
    if len(tokens_N) <= num_steps:
        rule = f"is too short: a window of this run needs {num_steps + 1} tokens"
        raise SettingError(f"{name}: {rule}; use the path of a longer text")
    return corpus, tokens_N, {"all": Split(range(len(tokens_N) - num_steps), range(1, len(tokens_N)))}
