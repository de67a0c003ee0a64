"""Exercise 10: Replace tanh with ReLU and repeat the experiments. Do we still need gradient clipping? Why?

The probe measures the recurrence before training (dynamics.csv in the run's folder) and after it, and samples text from
the trained model. Shapes: B windows, T time steps, H hidden units.
"""

import math
from itertools import product, takewhile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback, LambdaCallback

from timemachine.datamodule import TimeMachine
from timemachine.decoding import continue_text
from timemachine.exercises import Findings, Picture
from timemachine.exercises.comparison import compare, estimate, holm
from timemachine.exercises.drawing import COLOURS, MARKERS, panels
from timemachine.exercises.groups import ended, grouped, markdown, missing, span
from timemachine.exercises.outcomes import LR, THETA, VAL, counted, definition, last, learnt, outcome, radius_name
from timemachine.language_model import RNNLMScratch
from timemachine.run.files import write_whole
from timemachine.run.jobs import Job
from timemachine.run.rows import read_numbers

WRITTEN, SHOWN = 1000, 100  # characters that a model generates, and characters that are kept


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return the numbers of `recurrence`, and continuations of "it has": `greedy`, and a `sample` from P.

    `period`: the period of the loop at the end of 1,000 greedy characters, 0 without a loop.
    """
    greedy, sample = (continue_text(model, data.vocab, "it has", WRITTEN, alpha)[0] for alpha in (None, 1.0))
    return recurrence(model, data) | {"period": period(greedy), "greedy": greedy[:SHOWN], "sample": sample[:SHOWN]}


def recurrence(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Measure the current recurrence on the whole validation text, in windows from a zero state.

    `spectral_radius`: ρ, the largest |eigenvalue| of W_hh. `growth`: mean norm of the last state of a window divided by
    the mean norm of the first state. `dead_share`: share of hidden units that are exactly 0 at every position.
    """
    starts_B = torch.tensor(data.splits["val"].starts[:: data.num_steps])
    X_BT = data.tokens_N.cpu()[starts_B[:, None] + torch.arange(data.num_steps)].long()
    rnn = model.rnn
    with torch.no_grad():
        H_TBH = model.hidden_states(X_BT.to(rnn.W_hh.device))[0].double()
        lengths_T = H_TBH.norm(dim=2).mean(1)
        return {
            "spectral_radius": float(torch.linalg.eigvals(rnn.W_hh.cpu().double()).abs().max()),
            "growth": float(lengths_T[-1] / lengths_T[0]),
            "dead_share": float((H_TBH == 0).all(0).all(0).double().mean()),
        }


def period(text: str) -> int:
    """Return the length of the shortest string that the text ends with three times in a row, 0 if there is none."""
    lengths = range(1, len(text) // 3 + 1)
    return next((n for n in lengths if text[-3 * n : -n] == text[-2 * n :]), 0)


def callback(folder: Path) -> Callback:
    """Return the callback that writes the recurrence before training to dynamics.csv in the run's folder.

    Runs that diverge have this row, too. A resumed run does not write it again.
    """

    def write(trainer: Any, model: Any) -> None:
        if trainer.is_global_zero and not trainer.global_step:
            row = recurrence(model, trainer.datamodule)
            lines = f"{','.join(row)}\n{','.join(map(repr, row.values()))}\n"
            write_whole(folder / "dynamics.csv", lines.encode())

    return LambdaCallback(on_train_start=write)


START = ("rho", "growth", "first_norm", "early_norm")  # early_norm: largest finite gradient norm of the first epoch
Starts = dict[str, dict[str, float]]  # a job's name -> START, NaN for missing numbers


def findings(jobs: list[Job]) -> Findings:
    """Report one row per activation and σ of W_hh, over rates and seeds, from the jobs that have ended."""
    every, jobs = jobs, sorted(ended(jobs), key=lambda job: (_name(job), _sigma(job), job.settings[LR]))
    starts = {job.name: _start(job) for job in jobs}
    thetas = sorted({job.settings[THETA] for job in jobs}, key=lambda theta: -(theta or math.inf))
    cells = grouped(jobs, _name, _sigma, LR)
    gains = {(*cell, theta): compare(_last(group, theta), _last(group, None))
             for cell, group in cells.items() for theta in thetas if theta}  # fmt: skip
    claimed = holm(gains)
    shown = {key: f"**{gain:+.2f}**" if claimed[key] else f"{gain:+.2f}" for key, gain in gains.items()}
    by_rate = [
        [name, f"{sigma:g}", f"{lr:g}", *(f"{estimate(_last(group, theta).values())}" for theta in thetas),
         *(shown[name, sigma, lr, theta] for theta in thetas if theta)]
        for (name, sigma, lr), group in cells.items()
    ]  # fmt: skip
    texts = [
        [name, f"{sigma:g}", *(f"`{group[0].probes['dynamics'][it]}`" for it in ("greedy", "sample"))]
        for (name, sigma), group in grouped(_writing(jobs), _name, _sigma).items()
    ]
    return Findings(
        answer=_answer(every, jobs, starts),
        setting="The book's run with tanh and with ReLU, without clipping and with two radii θ, and the same with "
        "larger initial recurrent weights W_hh from N(0, σ²). The spectral radius ρ of W_hh measures how much a step "
        "can enlarge the state. Input and output weights are initialised as in the book.",
        columns=["", "σ of W_hh", "ρ at the start", "growth", "first gradient", *map(radius_name, thetas)],
        rows=[
            [name, f"{sigma:g}", *(span((starts[job.name][it] for job in group), ".2g") for it in START[:3]),
             *(counted(_with(group, theta)) for theta in thetas)]
            for (name, sigma), group in grouped(jobs, _name, _sigma).items()
        ],
        figures=({"outcome": _outcome(jobs, starts, thetas)} if _grid(jobs) else {}) | {"why": _why(jobs, starts)},
        notes=[
            "The last columns count the runs that learnt, over all rates and seeds. Growth: norm of the state at the "
            f"end of a window divided by the norm after its first character, before training. {definition(jobs)}",
            "Validation perplexity of the runs that learnt, and differences paired by seed (bold: significant after "
            "Holm's correction). summary.csv has the measurements after training.",
            markdown(["", "σ", "η", *map(radius_name, thetas),
                      *(f"{radius_name(it)} vs. no clipping" for it in thetas if it)], by_rate),
            "**Generated text** after \"it has\", at a rate of 1: greedy decoding, and a sample.",
            markdown(["", "σ", "greedy", "sample"], texts),
        ],
        arrays={"job": [*starts]} | {it: [start[it] for start in starts.values()] for it in START},
    )  # fmt: skip


def _name(job: Job) -> str:
    return {"tanh": "tanh", "relu": "ReLU"}[job.settings["model.activation"]]


def _sigma(job: Job) -> float:
    own = job.settings["model.sigma_hh"]
    return float(job.settings["model.sigma"] if own is None else own)


def _start(job: Job) -> dict[str, float]:
    recurrence = [*read_numbers(job.folder / "dynamics.csv"), dict[str, float]()][0]
    numbers = [recurrence.get(it, math.nan) for it in ("spectral_radius", "growth")]
    norms = [step["grad_norm"] for step in job.steps() if step["epoch"] == 1]
    numbers += [norms[0] if norms else math.nan, max(filter(math.isfinite, norms), default=math.nan)]
    return dict(zip(START, numbers, strict=True))


def _writing(jobs: list[Job]) -> list[Job]:
    """Return the runs at a rate of 1 that learnt and have generated text."""
    return [job for job in jobs if job.settings[LR] == 1 and learnt(job) and job.probes.get("dynamics")]


def _with(jobs: list[Job], theta: float | None) -> list[Job]:
    return [job for job in jobs if job.settings[THETA] == theta]


def _last(jobs: list[Job], theta: float | None) -> dict[int, float]:
    return last(VAL, _with(jobs, theta))


def _grid(jobs: list[Job]) -> list[Job]:
    """Return the ReLU runs at the rates that have several σ."""
    relu = [job for job in jobs if _name(job) == "ReLU"]
    return [job for group in grouped(relu, LR).values() if len({*map(_sigma, group)}) > 1 for job in group]


def _answer(every: list[Job], jobs: list[Job], starts: Starts) -> str:
    """Return the answer. `jobs`: the jobs of `every` that have ended."""
    grid = [(starts[job.name]["rho"], job) for job in _grid(jobs)]
    ordered = sorted((rho, learnt(job)) for rho, job in grid if job.settings[THETA] is None)
    least = max((rho for rho, _ in takewhile(lambda item: item[1], ordered)), default=0.0)
    above = [job for rho, job in grid if rho > least]
    book = [job for job in jobs if (_name(job), _sigma(job), job.settings[LR]) == ("ReLU", 0.01, 1.0)]
    free, clipped = (_last(book, theta) for theta in (None, 1.0))
    needed = {
        "ReLU run at the book's settings with clipping and without": free and clipped,
        "ReLU run with wider recurrent weights that fails to learn": above,
    }
    return missing(every, needed) or (
        f"At the book's settings ReLU ends at a validation perplexity of {estimate(free.values())} without clipping "
        f"and {estimate(clipped.values())} with a radius of 1, a difference of {compare(clipped, free):+.2f}; with an "
        f"initial spectral radius of W_hh above {least:.2f}, {counted(_with(above, None))} runs learn without clipping "
        f"and {counted(_with(above, 1.0))} with a radius of 1."
    )


KINDS = {"learnt": ("o", 0), "learnt nothing": ("s", 4), "diverged": ("x", 1)}  # marker, colour


def _outcome(jobs: list[Job], starts: Starts, thetas: list[float | None]) -> Picture:
    """Draw the outcome of each run of the grid against ρ, one panel per rate and one line per radius."""
    rates = dict(sorted(grouped(_grid(jobs), LR).items()))
    figure, (row,) = panels(1, len(rates), 10, 3.2, sharex=True, sharey=True)
    for axes, ((lr,), group) in zip(row, rates.items(), strict=True):
        for kind, (marker, colour) in KINDS.items():
            shown = [job for job in group if outcome(job) == kind]
            heights = [thetas.index(job.settings[THETA]) + 0.1 * (job.settings["seed"] % 5 - 2) for job in shown]
            axes.plot([starts[job.name]["rho"] for job in shown], heights, marker, color=COLOURS[colour], markersize=5,
                      markerfacecolor="none", label=kind)  # fmt: skip
        axes.set(title=f"η = {lr:g}", xlabel="spectral radius ρ of W_hh at the start")
    row[0].set_yticks(range(len(thetas)), [*map(radius_name, thetas)])
    row[0].invert_yaxis()
    figure.legend(*row[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure, "Each ReLU run at the spectral radius of its initial recurrent weights."


def _why(jobs: list[Job], starts: Starts) -> Picture:
    """Draw the first and the largest early gradient norm without clipping against ρ."""
    figure, ((axes,),) = panels()
    axes.set(xlabel="spectral radius ρ of W_hh at the start", ylabel="norm of the gradient", yscale="log")
    norms = {"first_norm": "step 1", "early_norm": "largest finite norm of steps 1 to 10"}
    free = [job for job in _with(jobs, None) if job.settings[LR] == 1]
    for (name, what), colour, marker in zip(product(("ReLU", "tanh"), norms), COLOURS, MARKERS, strict=False):
        shown = [starts[job.name] for job in free if _name(job) == name]
        axes.plot([start["rho"] for start in shown], [start[what] for start in shown], marker, color=colour,
                  markersize=5, markerfacecolor="none", label=f"{name}, {norms[what]}")  # fmt: skip
    axes.legend(loc="upper left")
    return figure, "Gradient norms without clipping at a rate of 1, one point per run."
