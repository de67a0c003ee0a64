"""Exercise 5: the answer follows the numbers."""

import math

import pytest

from timemachine.exercises.embedding import findings
from timemachine.run.jobs import Job


def run(start: int, nats: float, **model: object) -> Job:
    book = {"lr": 1.0, "input": "one_hot", "input_lr_factor": 1.0, "embedding_dim": 8, "embedding_sigma": 1.0}
    settings = {f"model.{name}": value for name, value in (book | model).items()}
    stream = {part: {"perplexity": math.exp(nats)} for part in ("val", "test")}
    return Job(settings=settings | {"data.start": start, "seed": start}, probes={"stream": stream})


@pytest.mark.parametrize(
    ("gain", "gain_of_control", "verdict", "is_explained"),
    [
        (0.05, 0.05, "A little", True),
        (0.05, 0.01, "A little", False),
        (0, 0.05, "Not significantly", False),
        (-0.05, -0.05, "No", False),
    ],
)
def test_answer(gain: float, gain_of_control: float, verdict: str, is_explained: bool) -> None:
    jobs = []
    for start in range(6):
        book, noise = 2 + 0.1 * start, 0.001 * (-1) ** start
        jobs.append(run(start, book))
        jobs.append(run(start, book - gain + noise, input="embedding"))
        jobs.append(run(start, book - gain_of_control + 0.001 * (start % 3 - 1), input_lr_factor=8.0))
    answer = findings(jobs).answer
    assert answer.startswith(f"{verdict}:")
    assert ("explains" in answer) is is_explained
