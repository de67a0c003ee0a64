"""Exercise 3: show that one-hot encoding is equivalent to picking a different embedding for each object."""

import math
from collections.abc import Iterable, Sequence

from matplotlib.figure import Figure

from timemachine.exercises import COLOURS, Findings
from timemachine.sweep import Job, grouped

ROUNDING = 1e-3  # in a weight, after 100 steps in float32
TINY = 1e-18  # what a logarithmic axis shows for 0
PRODUCT, LOOK_UP = "autograd", "bptt"


def findings(jobs: list[Job]) -> Findings:
    """A row for each precision and seed: the two ways side by side."""
    pairs = _pairs(jobs)
    cells = {key: _differences(*pair) for key, pair in pairs.items()}
    return Findings(
        number="3",
        question="Show that one-hot encoding is equivalent to picking a different embedding for each object.",
        setting="The book's run for 100 steps, twice from the same weights and on the same batches: with one-hot "
        "vectors times W_xh, differentiated by autograd (`model.backward=autograd`), and with rows of W_xh looked up "
        "by index, the gradient by hand (`model.backward=bptt`).",
        columns=["precision", "seed", "steps", "largest difference of a loss", "of a final weight", "of a final logit"],
        rows=[
            [precision, str(seed), str(len(a.steps())), *(f"{value:.1e}" for value in cells[precision, seed])]
            for (precision, seed), (a, _) in pairs.items()
        ],
        figures={"losses": _losses(pairs)},
        captions={
            "losses": "Difference between the losses of the two ways, in nats, step by step; 0 is drawn at 1e-18."
        },
        answer=" ".join(_answer(pairs, cells)),
        notes=[
            "Proof. Let e_i be the one-hot vector of character i. Then e_i W has the entries Σ_j [j = i] W_jk = W_ik: "
            "it is row i of W. And from a gradient g with respect to e_i W, the chain rule gives e_iᵀ g for W: zero "
            "but for row i, which gets g. So forward and backward, the product with one-hot vectors is an embedding: "
            "W is its table, one row for each character."
        ],
    )


def _pairs(jobs: list[Job]) -> dict[tuple[str, int], tuple[Job, Job]]:
    pairs = {}
    for (precision, seed), group in grouped(jobs, "trainer.precision", "seed").items():
        ways = {job.settings["model.backward"]: job for job in group if "weights" in job.probes}
        if PRODUCT in ways and LOOK_UP in ways:
            pairs[str(precision), seed] = ways[PRODUCT], ways[LOOK_UP]
    return pairs


def _differences(a: Job, b: Job) -> tuple[float, float, float]:
    """Largest absolute differences of the losses, of the final weights, and of the logits that they give."""
    losses = ([row["loss"] for row in job.steps()] for job in (a, b))
    (weights_a, logits_a), (weights_b, logits_b) = (
        (job.probes["weights"]["weights"], job.probes["weights"]["logits"]) for job in (a, b)
    )
    weights = max((_largest(weights_a[name], weights_b[name]) for name in weights_a), default=math.nan)
    return _largest(*losses), weights, _largest(logits_a, logits_b)


def _largest(a: Sequence[float], b: Sequence[float]) -> float:
    return max((abs(float(x) - float(y)) for x, y in zip(a, b, strict=True)), default=math.nan)


def _losses(pairs: dict[tuple[str, int], tuple[Job, Job]]) -> Figure:
    figure = Figure(figsize=(7, 4), dpi=150, layout="constrained")
    axes = figure.subplots()
    for number, ((precision, seed), (a, b)) in enumerate(pairs.items()):
        gaps = [max(abs(x["loss"] - y["loss"]), TINY) for x, y in zip(a.steps(), b.steps(), strict=True)]
        label, style = f"{precision}, seed {seed}", ("-", "--", ":")[number % 3]
        axes.plot(range(1, len(gaps) + 1), gaps, style, color=COLOURS[number % 7], label=label)
    axes.set(xlabel="step", ylabel="difference of the losses, nats (log scale)")
    if pairs:
        axes.set_yscale("log")
        axes.legend()
    return figure


def _answer(
    pairs: dict[tuple[str, int], tuple[Job, Job]], cells: dict[tuple[str, int], tuple[float, float, float]]
) -> Iterable[str]:
    for (precision, seed), (loss, weight, logit) in cells.items():
        steps = len(pairs[precision, seed][0].steps())
        yield (
            f"In {precision} (seed {seed}) the two ways differ over {steps} steps by at most {loss:.1e} nats in a "
            f"loss, {weight:.1e} in a final weight and {logit:.1e} in a final logit: "
            + ("rounding." if weight < ROUNDING else "more than rounding, unless such a run lets it grow.")
        )
    yield "A one-hot vector times W_xh is row i of W_xh, so W_xh is an embedding already, one row for each character."
