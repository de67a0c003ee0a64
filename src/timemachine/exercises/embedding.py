"""Exercise 5: replace the one-hot encoding with learnable embeddings. Does it lead to better performance?"""

import math
from statistics import fmean
from typing import NamedTuple

from matplotlib.figure import Figure

from timemachine.exercises import Findings
from timemachine.exercises.comparison import Estimate, by_seed, compare, estimate, holm
from timemachine.exercises.drawing import panels, points_by_seed
from timemachine.exercises.jobs import Job

PARTS = {"val": "validation", "test": "rest of the novel"}
ONE_HOT, TABLE, SMALL = "one-hot", "embedding", "embedding, small entries"
BOOK_RATE, MEAN = 1.0, 0.0  # MEAN: in the place of a size, the mean over those that embeddings have


class Way(NamedTuple):
    """How the input is read. `size`: an embedding's width, or how many times the rate one-hot inputs' W_xh has."""

    lr: float
    kind: str
    size: float

    @property
    def plain(self) -> "Way":
        """Return one-hot inputs as in the book."""
        return Way(self.lr, ONE_HOT, 1)

    @property
    def as_fast(self) -> "Way":
        """Return one-hot inputs that learn about as fast as an embedding of this width."""
        return Way(self.lr, ONE_HOT, self.size)


Nats = dict[Way, dict[int, float]]  # seed -> nats a character
Gains = dict[tuple[str, Way, Way], Estimate]  # part of the text, a way, another: what the first has more


def findings(jobs: list[Job]) -> Findings:
    """Report what embeddings gain, and one-hot inputs that learn as fast."""
    nats = {part: _nats(jobs, part) for part in PARTS}
    gains: Gains = {
        (part, way, other): compare(found[way], found[other])
        for part, found in nats.items()
        for way in found
        for other in {way.plain, way.as_fast}
        if way != other and other in found
    }
    claimed = holm(gains)
    cells = {key: f"**{gain:+.3f}**" if claimed[key] else f"{gain:+.3f}" for key, gain in gains.items()}
    names = [f"{name}, less {other}" for other in ("one-hot", "one-hot as fast") for name in PARTS.values()]
    return Findings(
        number="5",
        question="Replace the one-hot encoding with learnable embeddings. Does it lead to better performance?",
        answer=_answer(nats["test"], gains, claimed),
        setting="Entries of an embedding E are drawn from N(0, 1) or, small, from N(0, 0.01²). A step of W_xh moves "
        "E W_xh, a row a character, by E Eᵀ times what it moves one-hot rows by, and D columns of variance σ² give "
        "E Eᵀ a diagonal of about Dσ². So beside a width of D stand one-hot inputs whose W_xh has D times the rate.",
        columns=["rate", "input", "width or factor", "runs", *PARTS.values(), *names],
        rows=[
            [f"{way.lr:g}", way.kind, f"{way.size:g}" if way.size else "all, mean", str(len(nats["test"][way]))]
            + [f"{estimate(map(math.exp, nats[part][way].values()))}" for part in PARTS]
            + [cells.get((part, way, other), "") for other in (way.plain, way.as_fast) for part in PARTS]
            for way in sorted(nats["test"])
        ],
        notes=["Differences are in nats a character, paired by seed; bold: passes Holm's correction."],
        figures={"inputs": _figure(nats)},
        captions={"inputs": "At the book's learning rate: a point a seed, a stroke for the mean."},
    )


def _nats(jobs: list[Job], part: str) -> Nats:
    """Return what each way gives, and at the book's rate the means over widths and over the factors beside them."""
    groups: dict[Way, list[Job]] = {}
    for job in jobs:
        if math.isfinite(job.stream(part)):
            groups.setdefault(_way(job), []).append(job)
    nats = {way: by_seed(group, lambda job: math.log(job.stream(part))) for way, group in sorted(groups.items())}
    tables = [way for way in nats if way.lr == BOOK_RATE and way.kind == TABLE and way.as_fast in nats]
    for kind, found in {TABLE: tables, ONE_HOT: [way.as_fast for way in tables]}.items():
        if seeds := set[int]().union(*(nats[way] for way in found)).intersection(*(nats[way] for way in found)):
            nats[Way(BOOK_RATE, kind, MEAN)] = {seed: fmean(nats[way][seed] for way in found) for seed in sorted(seeds)}
    return nats


def _way(job: Job) -> Way:
    kind, lr, factor, width, sigma = (
        job.settings[f"model.{name}"] for name in ("input", "lr", "input_lr_factor", "embedding_dim", "embedding_sigma")
    )
    return Way(lr, ONE_HOT, factor) if kind == "one_hot" else Way(lr, TABLE if sigma == 1 else SMALL, width)


def _answer(rest: Nats, gains: Gains, claimed: dict[tuple[str, Way, Way], bool]) -> str:
    mean = Way(BOOK_RATE, TABLE, MEAN)
    gained, apart = ("test", mean, mean.plain), ("test", mean, mean.as_fast)
    if not {gained, apart} <= gains.keys():
        return ""
    book, table, fast = (math.exp(fmean(rest[way].values())) for way in (mean.plain, mean, mean.as_fast))
    verdict = gains[apart].verdict(claimed[apart], "differ", "differ")
    yes = "Yes" if claimed[gained] and table < book else "No"
    return (
        f"{yes}: at the book's learning rate embeddings have a perplexity of {table:.2f} on the rest of the novel, "
        f"as a mean over widths, instead of {book:.2f}: {gains[gained]:+.3f} nats a character. One-hot inputs whose "
        f"weights learn as many times as fast have {fast:.2f}, and the two {verdict}: {gains[apart]:+.3f} nats."
    )


def _figure(nats: dict[str, Nats]) -> Figure:
    figure, (row,) = panels(1, 2, width=10, sharey=True)
    names = {ONE_HOT: "one-hot, W_xh learns this many times as fast", TABLE: "embedding of this width"}
    for axes, (part, title) in zip(row, PARTS.items(), strict=True):
        sizes = sorted({way.size for way in nats[part] if way.lr == BOOK_RATE and way.size > 1})
        plain = nats[part].get(Way(BOOK_RATE, ONE_HOT, 1), {})
        ways = {name: [nats[part].get(Way(BOOK_RATE, kind, it), {}) for it in sizes] for kind, name in names.items()}
        series = {
            name: [[value - plain[seed] for seed, value in found.items() if seed in plain] for found in of_sizes]
            for name, of_sizes in ways.items()
        }
        points_by_seed(axes, [f"{size:g}" for size in sizes], series)
        axes.axhline(0, color="grey", linewidth=1)
        axes.set(title=title, xlabel="width, or factor of the rate", ylabel="nats a character less one-hot inputs")
        axes.label_outer()
    return figure
