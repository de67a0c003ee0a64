"""What the texts say of exercise 4, from the nats in summary.csv."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from scipy import stats

from tests.support.kept import table

UPDATES = (500, 1000, 2000, 4000)
GIVEN = (
    "20,000 characters an update", "64 hidden units, 8 time steps, a rate of 0.5 and 4,000 updates", "5,000 characters",
    "64 units, 8 time steps, a rate of 0.5 and 4,000 updates", "32 units at the same time steps, rate and updates",
    "time steps (8; with 2", "the rate (0.5)", "in updates (4,000)", "in units, too (64)", "it does not (32)",
    "chose 64 units", "better than 32 by", "batch of 1,024 windows",
)  # fmt: skip


class Kept(NamedTuple):
    """A setting (units, time steps, rate, updates), and its nats on validation and the rest."""

    setting: tuple[float, ...]
    val: float
    rest: float


def kept() -> list[Kept]:
    """Return the settings, lowest on validation first; none of a run that gives more than 10 nats."""
    names = ("model.hiddens", "data.num_steps", "model.lr")
    found = [
        Kept(
            (*(row[name] for name in names), updates),
            *(row[f"hyperparameters/{updates}/{it}"] for it in ("val", "test")),
        )
        for row in table("hyperparameters")
        for updates in UPDATES
    ]
    return sorted((it for it in found if max(it.val, it.rest) < 10), key=lambda it: it.val)


def numbers() -> Iterator[str]:
    """Yield passages with their numbers."""
    every = kept()
    by_setting = {it.setting: it for it in every}
    chosen, book, low = every[0], by_setting[32, 32, 1, 1000], min(every, key=lambda it: it.rest)
    assert [*chosen.setting, *low.setting] == [64, 8, 0.5, 4000, 32, 8, 0.5, 4000]
    val, book_val, rest, book_rest, lowest = (
        f"{math.exp(nats):.2f}" for nats in (chosen.val, book.val, chosen.rest, book.rest, low.rest)
    )
    yield f"{val} instead of {book_val} at the book's settings"
    yield f"gives {rest} instead of {book_rest}: {chosen.rest - book.rest:+.3f} nats"
    yield f"{val} instead of {book_val} on the validation text"  # README.md
    yield f"{rest} instead of {book_rest} on the rest of the novel"
    yield f"a perplexity of {val} ({book_val} at the book's"
    yield f"gives {rest} instead of {book_rest}: the two texts"
    yield f"Of {len(every)} settings"
    yield f"the lowest of {len(every)} numbers"
    all_ranks, best_ranks = (
        float(stats.spearmanr([it.val for it in some], [it.rest for it in some]).statistic)
        for some in (every, every[: len(every) // 10])
    )
    yield f"(a correlation of {all_ranks:.2f}), and hardly the {len(every) // 10} best on validation ({best_ranks:.2f})"
    yield f"with {lowest}, are 32 units"
    yield f"The {lowest} of 32 units"
    yield f"the best on validation has {math.exp(min(it.val for it in every if it.setting[1] == 2)):.2f}"
    yield f"better than 32 by {low.val - chosen.val:.3f} nats"
    yield f"they are worse by {chosen.rest - low.rest:.3f}"
