"""Exercise 3: Show that one-hot encoding is equivalent to picking a different embedding for each object.

The probe returns the trained weights and some logits, to compare two runs number by number.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from timemachine.datamodule import TimeMachine
from timemachine.exercises import Findings
from timemachine.exercises.groups import grouped, missing, span, unique
from timemachine.language_model import RNNLMScratch
from timemachine.run.jobs import Job

WINDOWS = 4
PRODUCT, LOOK_UP = "autograd", "bptt"
COMPARED = ("loss", "final weight", "final logit")

Cells = dict[tuple[str, int], list[float]]  # (type, seed) -> the largest difference of each of COMPARED


@torch.inference_mode()
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return each parameter by name, and the logits of the first four validation windows, all flattened."""
    start = data.splits["val"].starts.start
    X_BT = torch.stack([data.tokens_N[n : n + data.num_steps].long() for n in range(start, start + WINDOWS)])
    logits_BTV, _ = model(X_BT.to(model.device))
    weights = {name: parameter.flatten().tolist() for name, parameter in model.named_parameters()}
    return {"weights": weights, "logits": logits_BTV.flatten().tolist()}


def findings(jobs: list[Job]) -> Findings:
    """Report the largest differences between the two implementations, one row per precision and seed."""
    cells: Cells = {}
    steps: list[int] = []
    for (precision, seed), group in grouped(jobs, "trainer.precision", "seed").items():
        measured = [job for job in group if "weights" in job.probes]
        ways = unique(measured, lambda job: str(job.settings["model.backward"]))
        if {PRODUCT, LOOK_UP} <= ways.keys():
            cells["float64" if precision == "64-true" else "float32", seed] = _differences(ways[PRODUCT], ways[LOOK_UP])
            steps.append(len(ways[LOOK_UP].steps()))
    return Findings(
        answer=_answer(jobs, cells),
        setting=f"The book's run for {span(steps, ',')} steps, twice with the same initial weights and batches: once "
        "with one-hot vectors multiplied by W_xh and differentiated by autograd (`model.backward=autograd`), and once "
        "with rows of W_xh looked up by index and a gradient written by hand (`model.backward=bptt`). The comparison "
        f"covers the loss of every step, every final weight, and the final logits for the first {WINDOWS} validation "
        "windows.",
        columns=["precision", "seed", *(f"largest difference of a {name}" for name in COMPARED)],
        rows=[[name, str(seed), *(f"{value:.1e}" for value in found)] for (name, seed), found in cells.items()],
        notes=[
            "**Proof.** Let e_i be the one-hot vector of character i. Then e_i W has the entries Σ_j [j = i] W_jk = "
            "W_ik, so it is row i of W. By the chain rule, a gradient g with respect to e_i W gives the gradient "
            "e_iᵀ g with respect to W, which is g in row i and zero in all other rows. In both the forward and the "
            "backward pass, the product with one-hot vectors is therefore an embedding with the table W, one row per "
            "character.",
            "Machine epsilon: the distance from 1 to the next number, 2.2e-16 in float64 and 1.2e-07 in float32.",
        ],
        arrays={f"{name}/{seed}": np.array(found) for (name, seed), found in cells.items()},
    )


def _differences(a: Job, b: Job) -> list[float]:
    """Return the largest absolute differences of the losses, the final weights and the final logits."""
    losses = ([row["loss"] for row in job.steps()] for job in (a, b))
    ours, theirs = (job.probes["weights"] for job in (a, b))
    weights = max(_largest(found, theirs["weights"][name]) for name, found in ours["weights"].items())
    return [_largest(*losses), weights, _largest(ours["logits"], theirs["logits"])]


def _largest(a: Sequence[float], b: Sequence[float]) -> float:
    return max(abs(float(x) - float(y)) for x, y in zip(a, b, strict=True))


def _answer(jobs: list[Job], cells: Cells) -> str:
    return missing(jobs, {f"two runs that differ in model.backward={PRODUCT},{LOOK_UP} alone": cells}) or (
        "Yes: a one-hot vector times W_xh picks out one row of W_xh; computed either way, training gives the same "
        "weights up to rounding."
    )
