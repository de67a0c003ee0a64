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
    "64 units, 8 time steps, a rate of 0.5 and 4,000 updates", "32 units, 32 time steps, a rate of 1 and 1,000 updates",
    "64 hidden units, 8 time steps, a rate of 0.5 and 4,000 updates",
    "32 units with 8 time steps, a rate of 0.5 and 4,000 updates", "20,000 characters an update", "5,000 characters",
    "instead of 32 help on both texts with 32 units, 4,000 updates and rates from 0.5 on", "(one seed); with 2",
    "from 2,000 to 4,000 updates 64 units at a rate of 0.5 get worse", "at 4,000 updates 64 units are",
    "at 2,000 updates they", "with 32 units and 4,000 updates a rate of 0.5 less one of 1 gives",
    "one, 32 units with the same",
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
    yield f"{math.exp(chosen.val):.2f} instead of {math.exp(book.val):.2f} with"
    yield f"gives {math.exp(chosen.rest):.2f} instead of {math.exp(book.rest):.2f}: {chosen.rest - book.rest:+.3f} nats"
    yield f"Of {len(every)} settings"
    yield f"({len(table('hyperparameters'))} runs of one seed"
    val, rest = ([it[part] for it in every] for part in (1, 2))
    tenth = len(every) // 10
    all_ranks, ranks = (float(stats.spearmanr(val[:n], rest[:n]).statistic) for n in (len(every), tenth))
    error = 1.96 * math.sqrt((1 + ranks**2 / 2) / (tenth - 3))  # Bonett and Wright, 2000
    low_rank, high_rank = (math.tanh(math.atanh(ranks) + sign * error) for sign in (-1, 1))
    yield f"(a correlation of {all_ranks:.2f}), less so the {tenth} best on validation"
    yield f"({ranks:.2f}, with an interval from {low_rank:.2f} to {high_rank:.2f})"
    yield f"the best on validation has {math.exp(min(it.val for it in every if it.setting[1] == 2)):.2f}"
    for rate in (0.5, 1, 2, 4):
        few, many = (by_setting[32, steps, rate, 4000] for steps in (8, 32))
        assert few.val < many.val and few.rest < many.rest

    pairs = [
        (it, by_setting[half])
        for it in every
        if it.setting[3] == 4000 and (half := (*it.setting[:3], 2000)) in by_setting
    ]
    on_rest = sum(long.rest < short.rest for long, short in pairs)
    ahead = sum(long.val < short.val for long, short in pairs)
    yield f"Of {len(pairs)} runs 4,000 updates are better than 2,000 on the rest in {on_rest}, on validation in {ahead}"
    runs = list(dict.fromkeys(it.setting[:3] for it in every))[:7]  # that lead on validation
    leading = [next(it.setting for it in every if it.setting[:3] == run) for run in runs]
    assert max(leading, key=lambda it: -fmean(nats(it, "val").values())) == WIDE
    gains, on_val = ({it: compare(nats(it, part), nats(BOOK, part)) for it in leading} for part in ("test", "val"))
    claimed = [it for it, apart in holm(gains).items() if apart]
    lower, higher = ([it for it in claimed if sign * gains[it].mean > 0] for sign in (-1, 1))
    assert lower == [NARROW] and all(holm(on_val).values()) and max(it.mean for it in on_val.values()) < 0
    yield f"Of the {len(leading)} settings that lead on validation in the first sweep all are below"
    yield f"{len(higher)} is higher on the rest"
    yield f"{perplexity(WIDE, 'val')} instead of {perplexity(BOOK, 'val')}"
    yield f"it gives {perplexity(WIDE, 'test')} instead of {perplexity(BOOK, 'test')}"
    yield f"{perplexity(WIDE, 'test')} and {perplexity(BOOK, 'test')}, which cannot be told apart"
    yield f"whose {perplexity(WIDE, 'test')} on the rest of the novel cannot be told from {perplexity(BOOK, 'test')}"
    yield f"{gains[WIDE]:+.3f} nats"
    yield f"{perplexity(NARROW, 'val')} on validation and {perplexity(NARROW, 'test')} on the rest"
    yield f"of {-gains[NARROW].mean:.3f} ± {gains[NARROW].half:.3f} nats is flattered"
    yield f"of the {len(leading)} leaders one is better there too ({perplexity(NARROW, 'test')})"
    yield f"Of the {len(leading)} leaders"
    yield f"better on the rest too ({perplexity(NARROW, 'test')})"
    better, worse = (compare(nats(WIDE, part), nats(NARROW, part)) for part in ("val", "test"))
    yield f"better than 32 by {-better.mean:.3f} ± {better.half:.3f} nats"
    yield f"worse by {worse.mean:.3f} ± {worse.half:.3f} on the rest"
    halves = {it: (*it[:3], 2000) for it in (WIDE, NARROW)}
    yield f"have {perplexity(halves[WIDE], 'test')} there and 32 units {perplexity(halves[NARROW], 'test')}"
    yield f"({compare(nats(WIDE, 'test'), nats(halves[WIDE], 'test')):+.3f} nats)"
    yield f"({compare(nats(WIDE, 'val'), nats(halves[WIDE], 'val')):+.3f})"
    yield f"32 units still gain on the rest ({compare(nats(NARROW, 'test'), nats(halves[NARROW], 'test')):+.3f})"
    faster = (32, 8, 1, 4000)
    yield f"{compare(nats(NARROW, 'test'), nats(faster, 'test')):+.3f} nats on the rest"
    yield f"{compare(nats(NARROW, 'val'), nats(faster, 'val')):+.3f} on validation"
    read, book_read = 4000 * 20_000 / 1e6, 1000 * 1024 * 32 / 1e6
    yield f"{read:.0f} million characters, the book's run {book_read:.0f} million"
    yield f"{read:.0f} million characters read instead of {book_read:.0f}"
