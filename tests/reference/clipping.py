"""Exercise 9, clipping: the numbers of its texts."""

from collections.abc import Iterator
from math import log
from typing import Any

from tests.support.kept import table
from timemachine.exercises.comparison import compare, estimate

GIVEN = ("at a rate of 2 than", "rate of 1", "the radius of 1", "a radius of 1", "a radius of 0.3", "a radius of 0.1")
VAL, REST, NORM = "val/perplexity", "test/perplexity", "largest_grad_norm"
LETTERS = {"train/perplexity": 17.07, VAL: 16.66}  # what the frequencies of the letters give
Job = dict[str, Any]


def learnt(job: Job) -> bool:
    """Return whether a run ended better than the letters' frequencies."""
    return job["status"] == "completed" and all(job[name] <= most for name, most in LETTERS.items())


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""
    cells: dict[float | None, dict[float, list[Job]]] = {}
    for job in sorted(table("clipping"), key=lambda job: (job["model.lr"], job["seed"])):
        cells.setdefault(job["trainer.gradient_clip_val"], {}).setdefault(job["model.lr"], []).append(job)

    def by_seed(theta: float | None, name: str) -> dict[float, float]:
        return {job["seed"]: job[name] for job in cells[theta][best[theta]]}

    def mean(jobs: list[Job]) -> float:
        return float(sum(job[VAL] for job in jobs)) / len(jobs)

    count = {theta: {lr: sum(map(learnt, jobs)) for lr, jobs in rates.items()} for theta, rates in cells.items()}
    seeds = len(cells[None][1.0])
    fails = {theta: min(lr for lr in rates if count[theta][lr] < seeds) for theta, rates in cells.items()}
    learns = {theta: max(lr for lr in rates if lr < fails[theta]) for theta, rates in cells.items()}
    none_from = min(lr for lr in cells[None] if not any(count[None][other] for other in cells[None] if other >= lr))
    best = {theta: min((lr for lr in rates if lr <= learns[theta]), key=lambda lr: mean(rates[lr]))
            for theta, rates in cells.items()}  # fmt: skip
    same = sum(
        all(a[name] == b[name] for name in (*LETTERS, REST, NORM))
        for a, b in zip(cells[None][1.0], cells[1.0][1.0], strict=True)
    )
    largest = max(job[NORM] for job in cells[None][1.0])
    yield f"(largest {largest:.2f}), and {same} of {seeds} runs"
    yield f"stays below {largest:.2f}, and {same} of {seeds} runs"
    yield f"up to a rate of {learns[None]:g} and none from {none_from:g} on"
    yield f"a radius of 0.1 lets all learn up to {learns[0.1]:g}"
    yield f"with a radius of 0.1 all of them up to {learns[0.1]:g}"
    for theta in (0.3, 0.1):
        yield f"ηθ = {learns[theta] * theta:.3g} with a radius of {theta}"
        at = fails[theta]
        yield f"at {at * theta:.3g} with {theta} {count[theta][at]} of {seeds} do"
    val, rest = ({theta: by_seed(theta, name) for theta in (None, 0.1)} for name in (VAL, REST))
    yield f"{estimate(val[None].values())} without clipping and {estimate(val[0.1].values())} with a radius of 0.1"
    yield f"{estimate(rest[None].values())} and {estimate(rest[0.1].values())} on the rest"
    yield f"differs by {compare(rest[0.1], rest[None]):+.2f}"
    yield f"a difference of {compare(val[0.1], val[None]):+.2f} on validation"
    yield f"at its best rate, {best[None]:g} and {best[0.1]:g}"
    ours, book = (estimate(job[REST] for job in cells[None][lr]).mean for lr in (2.0, 1.0))
    nats = [{job["seed"]: log(job[REST]) for job in cells[None][lr]} for lr in (2.0, 1.0)]
    yield f"{ours:.2f} for {book:.2f}, by {compare(*nats):.3f} nats"
    tie = [f"{mean(cells[0.1][lr]):.2f}" for lr in (4.0, 5.0)]
    assert tie[0] == tie[1]
    yield f"rates of 4 and 5 both have {tie[0]} on validation"
    four, five = (estimate(job[REST] for job in cells[0.1][lr]).mean for lr in (4.0, 5.0))
    yield f"{four:.2f} and {five:.2f} on the rest"
    lost = [[(job["model.lr"], job["seed"]) for jobs in cells[theta].values() for job in jobs if not learnt(job)]
            for theta in (None, 1.0)]  # fmt: skip
    assert lost[0] == lost[1], "the same runs are lost with a radius of 1 as without clipping"
    slow, fast = (seeds - count[None][lr] for lr in (4.5, 5.0))
    yield f"Without clipping {slow} of {seeds} runs are lost at a rate of 4.5 and {fast} of {seeds} at 5"
    norms = [job[NORM] for jobs in cells[None].values() for job in jobs if learnt(job)]
    assert max(norms) < 1
    yield f"largest norm of a run that learns is {max(norms):.2f}"
