"""What the texts say of exercise 4, from the nats in summary.csv."""

import math
from collections.abc import Iterator
from statistics import fmean
from typing import NamedTuple

from scipy import stats

from tests.support.kept import table
from timemachine.exercises.comparison import compare, holm

UPDATES = (500, 1000, 2000, 4000)
GIVEN = (
    "64 units, 8 time steps, a rate of 0.5 and 4,000 updates",
    "64 hidden units, 8 time steps, a rate of 0.5 and 4,000 updates",
    "32 units with 8 time steps, a rate of 0.5 and 4,000 updates", "20,000 characters an update", "5,000 characters",
    "time steps (8; with 2", "the rate (0.5)", "in updates (4,000)", "in units, too (64)", "it does not (32)",
    "64 units are",
)  # fmt: skip

Setting = tuple[float, ...]  # units, time steps, rate, updates
RUN = ("model.hiddens", "data.num_steps", "model.lr")
WIDE, NARROW, BOOK = (64, 8, 0.5, 4000), (32, 8, 0.5, 4000), (32, 32, 1, 1000)


class Kept(NamedTuple):
    """A setting, and its nats on validation and the rest."""

    setting: Setting
    val: float
    rest: float


def kept() -> list[Kept]:
    """Return the settings, lowest on validation first; none of a run that gives more than 10 nats."""
    found = [
        Kept(
            (*(row[name] for name in RUN), updates),
            *(row[f"hyperparameters/{updates}/{it}"] for it in ("val", "test")),
        )
        for row in table("hyperparameters")
        for updates in UPDATES
    ]
    return sorted((it for it in found if max(it.val, it.rest) < 10), key=lambda it: it.val)


def nats(setting: Setting, part: str) -> dict[float, float]:
    """Return the nats of a setting in the sweep over five seeds, by seed."""
    *run, updates = setting
    rows = [row for row in table("hyperparameters/leading") if [row[name] for name in RUN] == run]
    assert len(rows) == 5
    return {row["seed"]: row[f"hyperparameters/{updates}/{part}"] for row in rows}


def perplexity(setting: Setting, part: str) -> str:
    """Return the mean over five seeds."""
    return f"{fmean(map(math.exp, nats(setting, part).values())):.2f}"


def numbers() -> Iterator[str]:
    """Yield passages with their numbers."""
    every = kept()
    by_setting = {it.setting: it for it in every}
    chosen, book, low = every[0], by_setting[BOOK], min(every, key=lambda it: it.rest)
    assert (chosen.setting, low.setting) == (WIDE, NARROW)
    yield f"{math.exp(chosen.val):.2f} instead of {math.exp(book.val):.2f} at the book's settings"
    yield f"gives {math.exp(chosen.rest):.2f} instead of {math.exp(book.rest):.2f}: {chosen.rest - book.rest:+.3f} nats"
    yield f"Of {len(every)} settings"
    all_ranks, best_ranks = (
        float(stats.spearmanr([it.val for it in some], [it.rest for it in some]).statistic)
        for some in (every, every[: len(every) // 10])
    )
    yield f"(a correlation of {all_ranks:.2f}), and hardly the {len(every) // 10} best on validation ({best_ranks:.2f})"
    yield f"the best on validation has {math.exp(min(it.val for it in every if it.setting[1] == 2)):.2f}"

    runs = list(dict.fromkeys(it.setting[:3] for it in every))[:7]  # that lead on validation
    leading = [next(it.setting for it in every if it.setting[:3] == run) for run in runs]
    assert max(leading, key=lambda it: -fmean(nats(it, "val").values())) == WIDE
    gains = {it: compare(nats(it, "test"), nats(BOOK, "test")) for it in leading}
    claimed = [it for it, apart in holm(gains).items() if apart]
    lower, higher = ([it for it in claimed if sign * gains[it].mean > 0] for sign in (-1, 1))
    assert lower == [NARROW] and all(compare(nats(it, "val"), nats(BOOK, "val")).high < 0 for it in leading)
    yield f"Of the {len(leading)} settings that lead on validation in the first sweep"
    yield f"{len(higher)} is higher, and on validation all {len(leading)} are lower"
    yield f"{perplexity(WIDE, 'val')} instead of {perplexity(BOOK, 'val')}"
    yield f"it gives {perplexity(WIDE, 'test')} instead of {perplexity(BOOK, 'test')}"
    yield f"{perplexity(WIDE, 'test')} and {perplexity(BOOK, 'test')}, which cannot be told apart"
    yield f"{gains[WIDE]:+.3f} nats"
    yield f"{perplexity(NARROW, 'val')} on validation and {perplexity(NARROW, 'test')} on the rest"
    yield f"{-gains[NARROW].mean:.3f} ± {gains[NARROW].half:.3f} nats below the book's settings"
    yield f"32 units with the same: {perplexity(NARROW, 'test')}"
    yield f"{perplexity(NARROW, 'test')} instead of {perplexity(BOOK, 'test')}"
    better, worse = (compare(nats(WIDE, part), nats(NARROW, part)) for part in ("val", "test"))
    yield f"better than 32 by {-better.mean:.3f} ± {better.half:.3f} nats"
    yield f"worse by {worse.mean:.3f} ± {worse.half:.3f} on the rest"
