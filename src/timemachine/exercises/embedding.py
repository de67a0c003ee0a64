"""Exercise 5: Replace the one-hot encoding with learnable embeddings. Does it lead to better performance?"""

import math
from statistics import fmean
from typing import NamedTuple

from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import Estimate, Values, by_part, compare, holm, nats, paired, perplexity
from timemachine.exercises.drawing import panels, points_by_place
from timemachine.exercises.groups import completed, grouped, missing, percent
from timemachine.exercises.stream import PARTS
from timemachine.run.jobs import Job

ONE_HOT, TABLE, SMALL = "one-hot", "embedding", "embedding, small entries"
SMALL_SIGMA = 0.01
BOOK_RATE, MEAN = 1.0, 0.0  # MEAN as a size: the mean over the widths of the embeddings


class Variant(NamedTuple):
    """An input layer and its learning rate. `size`: the embedding's width, or the factor on the rate of W_xh."""

    lr: float
    kind: str
    size: float

    def controls(self) -> "list[Variant]":
        """Return the book's one-hot inputs, and one-hot inputs that learn about as fast as this embedding."""
        variance = SMALL_SIGMA**2 if self.kind == SMALL else 1
        return [Variant(self.lr, ONE_HOT, 1), Variant(self.lr, ONE_HOT, self.size * variance)]


BOOK = Variant(BOOK_RATE, ONE_HOT, 1)
Nats = dict[Variant, Values]  # nats per character
Gains = dict[tuple[str, Variant, Variant], Estimate]  # (part of the text, variant, control) -> variant minus control


def findings(jobs: list[Job]) -> Findings:
    """Report the gains of embeddings, and of one-hot inputs that learn as fast."""
    found = _nats(jobs)
    gains: Gains = {
        (part, variant, other): compare(found[variant][part], found[other][part])
        for part in PARTS
        for variant in found
        for other in variant.controls()
        if variant != other and other in found
    }
    claimed = holm(gains)
    cells = {key: f"**{gain:+.3f}**" if claimed[key] else f"{gain:+.3f}" for key, gain in gains.items()}
    return Findings(
        answer=_answer(jobs, gains, claimed),
        setting="Each excerpt is a rotation of the text with a different seed. Entries of an embedding E are drawn "
        "from N(0, 1) or, if small, from N(0, 0.01²). Row i of E W_xh is the input of character i, as row i of W_xh is "
        "with one-hot inputs. A gradient step on W_xh changes these rows by E Eᵀ times the one-hot step, and with D "
        "columns of variance σ² the diagonal of E Eᵀ is about Dσ². The control for an embedding of width D is "
        "therefore one-hot inputs with D times the learning rate for W_xh; small entries have no such control here.",
        columns=["rate", "input", "width or factor", "excerpts", *PARTS.values()]
        + [f"{name} vs. {other}" for other in ("one-hot", "one-hot as fast") for name in PARTS.values()],
        rows=[
            [f"{variant.lr:g}", variant.kind, f"{variant.size:g}" if variant.size else "all, mean"]
            + [str(len(of_parts["test"]))]
            + [f"{perplexity(of_parts[part])}" for part in PARTS]
            + [cells.get((part, variant, other), "") for other in variant.controls() for part in PARTS]
            for variant, of_parts in sorted(found.items())
        ],
        notes=["Differences are in nats per character, paired by excerpt. Bold: significant after Holm's correction."],
        figures={"inputs": _figure(found)},
    )


def _nats(jobs: list[Job]) -> Nats:
    """Return the nats of each variant, and at the book's rate also the means over widths and over equal factors."""
    settings = [f"model.{it}" for it in ("lr", "input", "input_lr_factor", "embedding_dim", "embedding_sigma")]
    found: Nats = {}
    for (lr, kind, factor, width, sigma), group in grouped(completed(jobs), *settings).items():
        of_embedding = Variant(lr, TABLE if sigma == 1 else SMALL, width)
        variant = Variant(lr, ONE_HOT, factor) if kind == "one_hot" else of_embedding
        found[variant] = by_part(group, nats)
    widths = [it.size for it in found if it[:2] == (BOOK_RATE, TABLE) and Variant(BOOK_RATE, ONE_HOT, it.size) in found]
    for kind in (TABLE, ONE_HOT) if widths else ():
        each = [found[Variant(BOOK_RATE, kind, width)] for width in widths]
        starts = set(each[0]["test"]).intersection(*(of_parts["test"] for of_parts in each))
        found[Variant(BOOK_RATE, kind, MEAN)] = {
            part: {start: fmean(of_parts[part][start] for of_parts in each) for start in sorted(starts)}
            for part in PARTS
        }
    return found


def _answer(jobs: list[Job], gains: Gains, claimed: dict[tuple[str, Variant, Variant], bool]) -> str:
    mean = Variant(BOOK_RATE, TABLE, MEAN)
    fast_inputs = mean.controls()[1]
    needed = {"runs with one-hot inputs and with embeddings": gains.get(("test", mean, BOOK)),
              "one-hot inputs that learn as fast": gains.get(("test", fast_inputs, BOOK))}  # fmt: skip
    if line := missing(jobs, needed):
        return line
    table, fast = (percent(math.exp(gains["test", variant, BOOK].mean), digits=1) for variant in (mean, fast_inputs))
    better = "Not significantly"
    if claimed["test", mean, BOOK]:
        better = "A little" if gains["test", mean, BOOK].mean < 0 else "No"
    rate = "a larger learning rate for W_xh"
    control = f"With one-hot inputs and {rate} it is {fast}"
    if better == "A little" and not claimed["test", mean, fast_inputs]:
        control = f"One-hot inputs with {rate} gain as much ({fast}), which probably explains it"
    return f"{better}: the perplexity of the rest of the text is {table}. {control}."


def _figure(found: Nats) -> Picture:
    figure, (row,) = panels(1, len(PARTS), width=10, sharey=True)
    kinds = {
        ONE_HOT: "one-hot, $W_{xh}$ learns this many times as fast",
        TABLE: "embedding of this width",
        SMALL: f"the same with entries of {SMALL_SIGMA}",
    }
    sizes = sorted({variant.size for variant in found if variant.lr == BOOK_RATE and variant.size > 1})
    for axes, (part, title) in zip(row, PARTS.items(), strict=True):
        of_part = {variant: of_parts[part] for variant, of_parts in found.items()}
        series = {
            name: [paired(of_part.get(Variant(BOOK_RATE, kind, size), {}), of_part.get(BOOK, {})) for size in sizes]
            for kind, name in kinds.items()
        }
        points_by_place(axes, [f"{size:g}" for size in sizes], series)
        axes.axhline(0, color="grey", linewidth=1)
        axes.set(title=title, xlabel="width, or factor of the rate", ylabel="nats per character vs. one-hot inputs")
        axes.label_outer()
        if legend := axes.get_legend():  # the figure has one for both panels
            legend.remove()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure, "Differences from one-hot inputs at the book's learning rate. Points: excerpts; bars: means."
