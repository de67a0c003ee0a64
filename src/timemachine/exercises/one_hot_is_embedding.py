"""Exercise 3: show that one-hot encoding is equivalent to picking a different embedding for each object.

Measured: the trained weights themselves, and the logits that they give, to compare runs number by number.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure

from timemachine.datamodule import TimeMachine
from timemachine.exercises import COLOURS, Findings
from timemachine.exercises.jobs import Job, grouped
from timemachine.language_model import RNNLMScratch

WINDOWS = 4
ROUNDING = 1e-3  # in a weight, after 100 steps in float32
PRODUCT, LOOK_UP = "autograd", "bptt"


@torch.inference_mode()
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return each parameter, flat, under its name, and the logits of the first four validation windows, flat."""
    start = data.splits["val"].starts.start
    X_BT = torch.stack([data.chars_N[n : n + data.num_steps].long() for n in range(start, start + WINDOWS)])
    logits_BTV, _ = model(X_BT.to(model.device))
    weights = {name: parameter.flatten().tolist() for name, parameter in model.named_parameters()}
    return {"weights": weights, "logits": logits_BTV.flatten().tolist()}


def findings(jobs: list[Job]) -> Findings:
    """Report a row for each precision and seed: the two ways side by side."""
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
            "losses": "Difference between the losses of the two ways, in nats, step by step, where there is one."
        },
        answer=_answer(pairs, cells),
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
    """Return the largest absolute differences of the losses, of the final weights, and of the logits that they give."""
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
        gaps = [abs(x["loss"] - y["loss"]) for x, y in zip(a.steps(), b.steps(), strict=True)]
        x = [step for step, gap in enumerate(gaps, 1) if gap > 0]  # a log axis has no 0
        label = f"{precision}, seed {seed}: {len(gaps) - len(x)} of {len(gaps)} steps without any"
        axes.plot(x, [gaps[step - 1] for step in x], "osD^v<>"[number % 7], markersize=3, color=COLOURS[number % 7],
                  label=label)  # fmt: skip
    axes.set(xlabel="step", ylabel="difference of the losses, nats (log scale)")
    axes.set_xlim(left=0, right=max((len(a.steps()) for a, _ in pairs.values()), default=1) + 1)
    if any(len(line.get_xdata()) for line in axes.lines):  # type: ignore[arg-type]
        axes.set_yscale("log")
    if pairs:
        figure.legend(loc="outside lower center", fontsize="small")
    return figure


def _answer(
    pairs: dict[tuple[str, int], tuple[Job, Job]], cells: dict[tuple[str, int], tuple[float, float, float]]
) -> str:
    answer = (
        "A one-hot vector times W_xh is row i of W_xh, so W_xh is an embedding already, one row for each character."
    )
    if cells:
        (precision, seed), (loss, weight, _) = min(cells.items(), key=lambda cell: cell[1])
        what = "which is rounding" if weight < ROUNDING else "more than rounding, unless such a run lets it grow"
        steps = len(pairs[precision, seed][0].steps())
        answer += (
            f" Over {steps} steps in {precision} the product and the look-up differ by at most {loss:.1e} nats in a "
            f"loss and {weight:.1e} in a weight, {what}."
        )
    return answer
