"""What the texts say of exercise 5: nats a character, paired by seed, from summary.csv."""

import math
from collections.abc import Iterator
from statistics import fmean

from tests.support.kept import table
from timemachine.exercises.comparison import Estimate, compare

WIDTHS = (4, 8, 16, 32, 64)
GIVEN = ("a width of 8", "learn 8 times as fast", "32 columns", "with 4.", "far below 1")

Nats = dict[int, float]  # by seed


def nats(part: str, lr: float = 1, factor: float = 1, width: int | None = None, sigma: float = 1) -> Nats:
    """Return the nats of one-hot inputs with a factor, or of an embedding of a width."""
    kind = "one_hot" if width is None else "embedding"
    chosen = {"model.lr": lr, "model.input": kind, "model.input_lr_factor": factor, "model.embedding_sigma": sigma}
    chosen |= {} if width is None else {"model.embedding_dim": width}
    rows = [row for row in table("embedding") if chosen.items() <= row.items()]
    assert len(rows) == 8
    return {row["seed"]: math.log(row[f"stream/{part}/perplexity"]) for row in rows}


def mean(several: list[Nats]) -> Nats:
    """Return the mean of several settings, by seed."""
    return {seed: fmean(found[seed] for found in several) for seed in several[0]}


def lost(gain: Estimate) -> str:
    """Return how much lower something is."""
    return f"{-gain.mean:.3f} ± {gain.half:.3f}"


def numbers() -> Iterator[str]:
    """Yield passages with their numbers."""
    rest, val, train = (
        (nats(part), mean([nats(part, width=it) for it in WIDTHS]), mean([nats(part, factor=it) for it in WIDTHS]))
        for part in ("test", "val", "train")
    )
    book, wide, fast = (math.exp(fmean(found.values())) for found in rest)
    yield f"embeddings have a perplexity of {wide:.2f} on the rest of the novel"
    yield f"as a mean over widths, instead of {book:.2f}: {compare(rest[1], rest[0]):+.3f} nats"
    gap = compare(rest[1], rest[2])
    assert gap.p > 0.05
    yield f"have {fast:.2f}, and the two cannot be told apart: {gap:+.3f} nats"
    yield f"{wide:.2f} instead of {book:.2f} on the rest of the novel"  # README.md
    yield f"as the embedding has columns reach {fast:.2f}"
    yield f"the difference is {gap:+.3f}"
    ahead = compare(nats("test", 0.5, width=8), nats("test", 0.5, factor=8))
    yield f"such one-hot inputs are ahead on the rest, by {ahead:.3f}"
    yield f"of the difference reaches from {gap.mean - gap.half:+.3f} to {gap.mean + gap.half:+.3f}"
    yield f"gains {lost(compare(rest[2], rest[0]))} of the {-compare(rest[1], rest[0]).mean:.3f} nats"
    yield f"the gain, {lost(compare(val[1], val[0]))} nats as a mean over widths"
    yield f"ahead of embeddings by {compare(val[1], val[2]):.3f}"
    yield f"they are ahead by {compare(train[1], train[2]):.3f}"
    eight = {lr: compare(nats("test", lr, width=8), nats("test", lr)) for lr in (0.5, 1, 2)}
    yield f"gains {lost(eight[0.5])} nats on the rest of the novel at half the book's rate and {lost(eight[1])} at"
    assert eight[2].p > 0.05 and compare(nats("test", 2, factor=8), nats("test", 2)).p > 0.05
    yield f"a difference of {eight[2]:+.3f}"
    half = nats("test", 0.5, factor=8)
    yield f"gain {lost(compare(half, nats('test', 0.5)))}, and their {perplexity(half):.2f} is the lowest"
    assert perplexity(half) < min(
        *(perplexity(nats("test", width=it)) for it in WIDTHS),
        *(perplexity(nats("test", factor=it)) for it in (1, *WIDTHS)),
        *(perplexity(nats("test", lr)) for lr in (0.5, 2)),
        *(perplexity(nats("test", lr, width=8)) for lr in (0.5, 2)),
        perplexity(nats("test", 2, factor=8)),
    )
    small = {width: compare(nats("test", width=width, sigma=0.01), rest[0]) for width in (4, 32)}
    yield f"it loses {small[32]:.3f} nats with"
    yield f"and {small[4]:.3f} with 4."


def perplexity(found: Nats) -> float:
    """Return the mean perplexity over seeds."""
    return fmean(map(math.exp, found.values()))
