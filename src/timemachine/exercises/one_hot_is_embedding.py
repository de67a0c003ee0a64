"""Exercise 3: show that one-hot encoding is equivalent to picking a different embedding for each object.

Measured: the trained weights themselves, and the logits that they give, to compare runs number by number.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from timemachine.datamodule import TimeMachine
from timemachine.exercises import Findings
from timemachine.exercises.drawing import COLOURS, panels, points_by_seed
from timemachine.exercises.jobs import Job, grouped
from timemachine.language_model import RNNLMScratch

WINDOWS = 4
PRODUCT, LOOK_UP = "autograd", "bptt"
TYPES = {"64-true": "float64", "32-true": "float32"}  # by `trainer.precision`
COMPARED = ("loss", "final weight", "final logit")
ROUNDING = 100  # units of the last place of a number near 1; what differs by no more is called rounding

Cells = dict[tuple[str, int], list[float]]  # (type, seed) -> the largest difference of each of COMPARED


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
    cells: Cells = {}
    for (precision, seed), group in grouped(jobs, "trainer.precision", "seed").items():
        ways = {job.settings["model.backward"]: job for job in group if "weights" in job.probes}
        if {PRODUCT, LOOK_UP} <= ways.keys():
            cells[TYPES.get(precision, str(precision)), seed] = _differences(ways[PRODUCT], ways[LOOK_UP])
    return Findings(
        number="3",
        question="Show that one-hot encoding is equivalent to picking a different embedding for each object.",
        answer=_answer(cells),
        setting="The book's run for 100 steps, twice from the same weights and on the same batches: with one-hot "
        "vectors times W_xh, differentiated by autograd (`model.backward=autograd`), and with rows of W_xh looked up "
        "by index, the gradient by hand (`model.backward=bptt`). Compared: the loss of every step, every weight at the "
        f"end, and every logit that these give for the first {WINDOWS} validation windows.",
        columns=["precision", "seed", *(f"largest difference of a {name}" for name in COMPARED)],
        rows=[[name, str(seed), *(f"{value:.1e}" for value in found)] for (name, seed), found in cells.items()],
        notes=[
            "**Proof.** Let e_i be the one-hot vector of character i. Then e_i W has the entries Σ_j [j = i] W_jk = "
            "W_ik: it is row i of W. And from a gradient g with respect to e_i W, the chain rule gives e_iᵀ g for W: "
            "zero but for row i, which gets g. So forward and backward, the product with one-hot vectors is an "
            "embedding: W is its table, one row for each character."
        ],
        figures={"differences": _figure(cells)},
        captions={
            "differences": "The largest difference between the product and the look-up, one point a seed. The lines: "
            "the gap between 1 and the next number of that precision."
        },
        arrays={f"{name}/{seed}": np.array(found) for (name, seed), found in cells.items()},
    )


def _differences(a: Job, b: Job) -> list[float]:
    """Return the largest absolute difference of the losses, of the final weights, and of the logits that they give."""
    losses = ([row["loss"] for row in job.steps()] for job in (a, b))
    ours, theirs = (job.probes["weights"] for job in (a, b))
    weights = max(_largest(found, theirs["weights"][name]) for name, found in ours["weights"].items())
    return [_largest(*losses), weights, _largest(ours["logits"], theirs["logits"])]


def _largest(a: Sequence[float], b: Sequence[float]) -> float:
    return max(abs(float(x) - float(y)) for x, y in zip(a, b, strict=True))


def _answer(cells: Cells) -> str:
    answer = (
        "A one-hot vector times W_xh is a row of W_xh, so W_xh is an embedding already, one row for each character."
    )
    worst: dict[str, float] = {}
    for (name, _), found in cells.items():
        worst[name] = max(*found, worst.get(name, 0.0))
    if not worst:
        return answer
    seeds = len({seed for _, seed in cells})
    said = " and ".join(f"{value:.0e} in {name}" for name, value in worst.items())
    rounding = all(value <= ROUNDING * _epsilon(name) for name, value in worst.items())
    verdict = "which is rounding" if rounding else "which is more than rounding"
    return (
        f"{answer} Trained side by side from {seeds} seeds, the two ways never differ by more than {said}, {verdict}."
    )


def _epsilon(name: str) -> float:
    return torch.finfo(torch.float64 if name == "float64" else torch.float32).eps


def _figure(cells: Cells) -> Figure:
    figure, [[axes]] = panels(height=3)
    axes.set_yscale("log")
    names = list(dict.fromkeys(name for name, _ in cells))
    series = {
        n: [[found[part] or np.nan for (of, _), found in cells.items() if of == n] for part in range(3)] for n in names
    }
    points_by_seed(axes, COMPARED, series)
    for number, name in enumerate(names):
        axes.axhline(_epsilon(name), color=COLOURS[number], linewidth=1)
    axes.set(ylabel="largest difference")
    return figure
