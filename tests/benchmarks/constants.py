"""python -m tests.benchmarks.constants: repeat the searches for the constants of how_low, each on its own.

    python -m tests.benchmarks.constants mixture.DECAY=0.8,0.9,0.95
    python -m tests.benchmarks.constants                                   # all that need no run, in half an hour
    python -m tests.benchmarks.constants --run outputs/… --run outputs/…   # those of dynamic evaluation

Each value is scored on the texts that the constant was chosen on. The mixture's and PPMd's: the novel's next 5 %, and
the last 1,000 of the book's training characters by what learnt the others. The networks' share: the next 5 %, and the
second half of the book's training characters by what learnt the first. Those of dynamic evaluation: the same two, by a
run of `recipe=novel` and one of `recipe=book_split data.num_train=4984 data.num_val=5000`.

How much a teacher writes and for how long a model learns are settings, which a sweep varies: `python train.py -m
recipe=book_split data.num_train=9000 data.num_val=1000 training.teacher=30,100 trainer.max_epochs=2,4 probes=[stream]`.
"""

import argparse
import ast
import copy
import math
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from unittest.mock import patch

import torch
from torch import Tensor

from timemachine import load_run
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import stream_nll
from timemachine.how_low import LETTERS, comparison, dynamic_evaluation, mixture, teacher

MODULES = {"mixture": mixture, "comparison": comparison, "teacher": teacher, "dynamic_evaluation": dynamic_evaluation}
SEARCHED: dict[str, tuple[object, ...]] = {
    "mixture.DECAY": (0.8, 0.85, 0.95),
    "mixture.PRIOR": (1, 3, 4),
    "mixture.FIRST": (0, 0.05, 0.2),
    "mixture.RATE": (0.001, 0.003, 0.004),
    "comparison.PPMD_ORDER": (2, 3, 4, 5, 7, 8, 10, 12, 16),
    "teacher.NETWORKS_SHARE": (0.1, 0.2, 0.3, 0.4, 0.5),
    "dynamic_evaluation.RATE": (0.006, 0.009, 0.018),
    "dynamic_evaluation.SEGMENT": (16, 64),
    "dynamic_evaluation.RECENT": (2048, 32768),
    "dynamic_evaluation.SHARPNESS": (15.0, 35.0),
    "dynamic_evaluation.SMOOTHING": (0.1, 0.4),
    "dynamic_evaluation.EXPONENTS": ((0.6, 0.2, 0.1), (0.3, 0.6, 0.0)),
    "dynamic_evaluation.EXPONENTS_RATE": (0.0, 0.0005, 0.002),
}


@cache
def texts(module: ModuleType) -> dict[str, TimeMachine]:
    """Return data whose validation part is to be read by what learnt the training part."""
    name, num_val = ("second half", 5_000) if module is teacher else ("last 1,000", 1_000)
    book = TimeMachine(num_train=10_000 - num_val, num_val=num_val)
    return {"next 5 %": TimeMachine(num_train=None, num_val=None), name: book}


def mixture_nlls(data: TimeMachine) -> list[Tensor]:
    """Return what the mixture makes of the characters to be read (N,), as it is and learning on."""
    known, targets = data.splits["train"].targets.stop, data.splits["val"].targets
    text, reader = LETTERS.encode(data.corpus.characters), mixture.Mixture(LETTERS)
    reader.read(text[:known], range(known), learn=True)
    log_ps = [copy.deepcopy(reader).read(text, targets, learn) for learn in (False, True)]
    return [torch.from_numpy(mixture.log_loss(log_p_NV, text, targets)) for log_p_NV in log_ps]


@cache
def teachers(data: TimeMachine) -> tuple[Tensor, Tensor]:
    """Return what the mixture and three networks make of the characters (N,)."""
    networks = teacher.networks_of(data, 3)
    assert networks is not None
    return mixture_nlls(data)[0], stream_nll(networks, data.chars_N, data.splits["val"].targets)


def scores(module: ModuleType, runs: list[str]) -> Iterator[tuple[str, float]]:
    """Yield what was read, and the nats a character with the constants as the module has them."""
    if module is dynamic_evaluation:
        for folder in runs:
            run = load_run(folder)
            parts, rate = run.data.splits, dynamic_evaluation.RATE
            of_parts = parts["train"].targets, parts["val"].targets
            nll_N = dynamic_evaluation.adaptive_nll(run.model, run.data.chars_N, *of_parts, rate)
            yield folder, nll_N.mean().item()
        return
    for name, data in texts(module).items():
        text, known, targets = data.corpus.characters, data.splits["train"].targets.stop, data.splits["val"].targets
        if module is comparison:
            bits = comparison.ppmd_bits(text[:known], text[targets.start : targets.stop], comparison.PPMD_ORDER)
            yield name, bits / len(targets) * math.log(2)
        elif module is teacher:
            yield name, teacher.teacher_nll(*teachers(data)).mean().item()
        else:
            for how, nll_N in zip(("", ", learning on"), mixture_nlls(data), strict=True):
                yield name + how, nll_N.mean().item()


def main() -> None:
    """Print a line for each value and each text; a constant's own value comes first."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.constants", description="search for constants")
    parser.add_argument("constants", nargs="*", help="such as mixture.DECAY=0.8,0.95; all if none is given")
    parser.add_argument("--run", action="append", default=[], help="a run that dynamic evaluation begins with")
    typed = parser.parse_args()
    given = dict(entry.split("=", 1) for entry in typed.constants)
    searched = {name: ast.literal_eval(f"({values},)") for name, values in given.items()} or {
        name: values for name, values in SEARCHED.items() if name.startswith("dynamic_evaluation.") == bool(typed.run)
    }
    print("perplexity, and nats a character more than with the value that was chosen")
    for name, values in searched.items():
        module, constant = MODULES[name.split(".")[0]], name.split(".")[1]
        as_chosen: dict[str, float] = {}
        for value in dict.fromkeys([getattr(module, constant), *values]):
            with patch.object(module, constant, value):
                found = dict(scores(module, typed.run))
            as_chosen = as_chosen or found
            for text, nats in found.items():
                change = nats - as_chosen[text]
                print(f"{name}={value}, {text}:".ljust(60), f"{math.exp(nats):.3f}  {change:+.4f}", flush=True)


if __name__ == "__main__":
    main()
