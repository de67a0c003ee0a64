"""Exercises 1 and 2: how far back a character matters, by window, text and number of updates."""

import math
import statistics
from collections.abc import Iterator

from tests.support.kept import arrays, table
from timemachine.exercises.comparison import Estimate, estimate, holm

DISTANCES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
TEXTS, UPDATES, BOOK = (10_000, 150_000), (1_200, 2_400), 32
GIVEN = (
    "on 10,000 characters for 1,200 updates", "windows of 32", "less than 1 %", "within 1 %",
    "book's 10,000 characters", "1,200 updates", "after 2,400", "150,000 characters", "character 1 step back",
    "64 steps back",
)  # fmt: skip

Reaches = dict[tuple[float, float], float]  # (seed, window) -> characters


def runs(num_train: int, updates: int) -> list[dict[str, float]]:
    """Return the rows of a text and a number of updates."""
    found = [
        run for run in table("history") if (run["data.num_train"], run["trainer.max_steps"]) == (num_train, updates)
    ]
    assert len(found) == 15
    return found


def reaches(num_train: int, updates: int) -> Reaches:
    """Return the reach of each run, between two distances on a straight line of the logarithm."""
    found = {}
    for run in runs(num_train, updates):
        changes = [run[f"history/tv/{k}"] for k in DISTANCES]
        last = max(place for place, change in enumerate(changes) if change >= 0.01)
        ((a, x), (b, y)) = ((DISTANCES[n], math.log(changes[n])) for n in (last, last + 1))
        found[run["seed"], run["data.num_steps"]] = a + (b - a) * (x - math.log(0.01)) / (x - y)
    return found


def per_doubling(found: Reaches) -> Estimate:
    """Return the slope over the window's binary logarithm, over seeds."""
    seeds = ([(math.log2(w), value) for (it, w), value in found.items() if it == seed] for seed in range(3))
    points = ([[*it] for it in zip(*pairs, strict=True)] for pairs in seeds)
    return estimate(statistics.covariance(x, y) / statistics.variance(x) for x, y in points)


def apart(one: Reaches, other: Reaches) -> Estimate:
    """Return what one reach is more than the other, averaged over the five windows, over seeds."""
    windows = {window for _, window in one}
    assert len(windows) == 5
    return estimate(statistics.fmean(one[seed, it] - other[seed, it] for it in windows) for seed in range(3))


def needed(num_train: int, updates: int) -> str:
    """Return the shortest contexts within 1 % of the lowest perplexity, with windows of 32."""
    found = set()
    for run in runs(num_train, updates):
        if run["data.num_steps"] == BOOK:
            contexts = {k: run[f"history/perplexity/{k}"] for k in DISTANCES}
            lowest = min(*contexts.values(), run["history/perplexity/all"])
            found.add(min(k for k in DISTANCES if contexts[k] <= 1.01 * lowest))
    return " to ".join(map(str, sorted(found)))


def numbers() -> Iterator[str]:
    """Yield the passages of the texts."""
    found = {(text, updates): reaches(text, updates) for text in TEXTS for updates in UPDATES}
    (book, later), (novel, novel_later) = ([found[text, updates] for updates in UPDATES] for text in TEXTS)
    slopes = [per_doubling(it) for it in (book, later, novel, novel_later)]
    longer, _, shorter, later_shorter = differences = [
        apart(later, book), apart(novel_later, novel), apart(novel, book), apart(novel_later, later)
    ]  # fmt: skip
    claimed = holm(dict(enumerate([*slopes, *differences])))
    assert [of for of in claimed if not claimed[of]] == [3]
    reach, novel_reach = (
        estimate(value for (_, window), value in it.items() if window == BOOK) for it in (book, novel)
    )
    yield f"more than {reach:.1f} back"
    yield f"changes that reach by {slopes[0]:+.1f} characters on average"
    yield f"and by {slopes[2]:+.2f} on 150,000 characters"
    assert abs(slopes[2].mean - 0.5) < 0.05
    yield f"on {TEXTS[1] // TEXTS[0]} times as much text by half a character"
    yield f"only {novel_reach:.1f} back"
    yield f"of the window adds {slopes[2]:.2f}"
    yield f"({slopes[3]:+.2f})"
    yield f"twice the updates lengthen it by {longer:.1f} characters"
    yield f"{TEXTS[1] // TEXTS[0]} times as much text shortens it by {-shorter.mean:.1f} ± {shorter.half:.1f}"
    yield f"by {-later_shorter.mean:.1f} ± {later_shorter.half:.1f}"
    yield f"{needed(TEXTS[0], UPDATES[0])} characters are enough"
    yield f"and {needed(TEXTS[1], UPDATES[0])} on 150,000 characters"
    blocks = 100 * arrays("history")[f"{TEXTS[0]}/{UPDATES[0]}/{BOOK}"]
    near, far = (estimate(map(float, blocks[DISTANCES.index(k)])) for k in (1, 16))
    yield f"by {near:.1f} %, 16 steps back by {far:.2f} %"
    changes = [100 * run["history/tv/64"] for run in table("history")]
    assert min(changes) > 0
    yield f"at most {max(changes):.5f} % in any run"
