"""python -m tests.benchmarks.constants: repeat the searches for the constants of how_low, each on its own.

    python -m tests.benchmarks.constants                                   # all that need no trained model: 10 minutes
    python -m tests.benchmarks.constants mixture.DECAY=0.8,0.9,0.95
    python -m tests.benchmarks.constants --run outputs/… --run outputs/…   # those of dynamic evaluation

Each constant is set to several values and scored on the texts that it was chosen on. The mixture's and PPMd's: the
novel's next 5 %, and the last 1,000 of the book's training characters by what learnt the others. The networks' share:
the next 5 %, and the second half of the book's training characters by what learnt the first. Those of dynamic
evaluation: the same two, by a run of `recipe=novel` and one of `recipe=book_split data.num_train=4984
data.num_val=5000`.

How much a teacher writes and for how long a model learns are settings, which a sweep varies: `python train.py -m
recipe=book_split data.num_train=9000 data.num_val=1000 training.teacher=30,100 trainer.max_epochs=2,4 probes=[stream]`.
"""

import argparse
import ast
import copy
from collections.abc import Callable, Iterator
from functools import cache
from unittest.mock import patch

import torch
from torch import Tensor

from timemachine import load_run
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.scores import stream_nll
from timemachine.how_low import comparison, dynamic_evaluation, mixture, teacher
from timemachine.runs.tables import print_table

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
Scores = Iterator[tuple[str, float]]  # of which text and reader, nats a character


@cache
def novel() -> TimeMachine:
    return TimeMachine(num_train=None, num_val=None)


@cache
def book(num_val: int) -> TimeMachine:
    """Return the book's 10,032 training characters, the last `num_val` of them to be read."""
    return TimeMachine(num_train=10_000 - num_val, num_val=num_val)


def parts(data: TimeMachine) -> tuple[bytes, bytes, range]:
    """Return the text, what is known of it, and which characters are to be read."""
    text = data.corpus.characters
    return text, text[: data.splits["train"].targets.stop], data.splits["val"].targets


def by_mixture(data: TimeMachine) -> tuple[Tensor, Tensor]:
    """Return what the mixture makes of the characters (N,), as it is and learning on."""
    text, known, targets = parts(data)
    reader = mixture.Mixture()
    reader.read(known, range(len(known)), learn=True)
    of_both = [copy.deepcopy(reader).read(text, targets, learn) for learn in (False, True)]
    fixed_N, learning_N = (torch.from_numpy(mixture.log_loss(log_p_NV, text, targets)) for log_p_NV in of_both)
    return fixed_N, learning_N


@cache
def by_teachers(data: TimeMachine) -> tuple[Tensor, Tensor]:
    """Return what the mixture and three networks make of the characters (N,), which takes minutes."""
    networks = teacher.networks_of(data, 3)
    assert networks is not None
    return by_mixture(data)[0], stream_nll(networks, data.chars_N, parts(data)[2])


def of_mixture(_: list[str]) -> Scores:
    for name, data in (("next 5 %", novel()), ("last 1,000", book(1_000))):
        for how, nll_N in zip(("", ", learning on"), by_mixture(data), strict=True):
            yield name + how, nll_N.mean().item()


def of_ppmd(_: list[str]) -> Scores:
    for name, data in (("next 5 %", novel()), ("last 1,000", book(1_000))):
        text, known, targets = parts(data)
        bits = comparison.ppmd_bits(known, text[targets.start : targets.stop], comparison.PPMD_ORDER)
        yield name, bits / len(targets) * torch.tensor(2.0).log().item()


def of_teacher(_: list[str]) -> Scores:
    for name, data in (("next 5 %", novel()), ("second half", book(5_000))):
        yield name, teacher.teacher_nll(*by_teachers(data)).mean().item()


def of_runs(runs: list[str]) -> Scores:
    """Yield what dynamic evaluation of each run makes of its validation text."""
    for folder in runs:
        run = load_run(folder)
        known, targets = run.data.splits["train"].targets, run.data.splits["val"].targets
        rate = dynamic_evaluation.RATE
        nll_N = dynamic_evaluation.adaptive_nll(run.model, run.data.chars_N, known, targets, rate)
        yield folder, nll_N.mean().item()


SCORES: dict[str, Callable[[list[str]], Scores]] = {
    "mixture": of_mixture, "comparison": of_ppmd, "teacher": of_teacher, "dynamic_evaluation": of_runs,
}  # fmt: skip


def rows(name: str, values: tuple[object, ...], runs: list[str]) -> list[list[str]]:
    """Return a row for the value that a constant has, and one for each other."""
    module, constant = name.split(".")
    chosen, found = getattr(MODULES[module], constant), []
    for value in [chosen, *(value for value in values if value != chosen)]:
        with patch.object(MODULES[module], constant, value):
            scores = dict(SCORES[module](runs))
        found.append((value, scores))
    (_, best), *_ = found
    return [
        [name, str(value), text, f"{torch.tensor(nats).exp():.3f}", f"{nats - best[text]:+.4f}"]
        for value, scores in found
        for text, nats in scores.items()
    ]


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.constants", description="search for constants")
    parser.add_argument("constants", nargs="*", help="such as mixture.DECAY=0.8,0.95; all if none is given")
    parser.add_argument("--run", action="append", default=[], help="a run that dynamic evaluation begins with")
    typed = parser.parse_args()
    given = dict(entry.split("=", 1) for entry in typed.constants)
    searched = {name: ast.literal_eval(f"({values},)") for name, values in given.items()} or {
        name: values for name, values in SEARCHED.items() if name.startswith("dynamic_evaluation.") == bool(typed.run)
    }
    lines = [line for name, values in searched.items() for line in rows(name, values, typed.run)]
    print_table("constants", ["constant", "value", "read", "perplexity", "nats more than as chosen"], lines, left=3)


if __name__ == "__main__":
    main()
