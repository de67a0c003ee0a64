"""Exercise 10, ReLU: the numbers of its texts."""

from collections.abc import Iterable, Iterator
from typing import Any

from tests.support.kept import arrays, table
from timemachine.exercises.comparison import compare, estimate, holm

GIVEN = (
    "at a rate of 1", "at a rate of 4", "at a rate of 8", "a radius of 1", "a radius of 0.3", "book's radius of 1",
    "with σ = 0.35", "with σ = 0.15", "tanh and σ = 0.35", "as in exercise 9", "At a rate of 8",
)  # fmt: skip
VAL = "val/perplexity"
LETTERS = {"train/perplexity": 17.07, VAL: 16.66}  # what the frequencies of the letters give
Job = dict[str, Any]


def learnt(job: Job) -> bool:
    """Return whether a run ended better than the letters' frequencies."""
    return job["status"] == "completed" and all(job[name] <= most for name, most in LETTERS.items())


def runs() -> Iterator[Job]:
    """Yield the rows of the table, with what arrays.npz keeps of each."""
    kept = arrays("relu")
    places = {int(number): place for place, number in enumerate(kept.pop("job"))}
    short = {"name": "model.activation", "lr": "model.lr", "theta": "trainer.gradient_clip_val"}
    for job in table("relu"):
        start = {name: values[places[int(job["job"])]] for name, values in kept.items()}
        yield job | {key: job[name] for key, name in short.items()} | {"sigma": job["model.sigma_hh"] or 0.01} | start


def of(jobs: Iterable[Job], **settings: Any) -> list[Job]:
    """Return the runs with these settings."""
    return [job for job in jobs if all(job[name] == value for name, value in settings.items())]


def last(jobs: Iterable[Job]) -> dict[int, float]:
    """Return the last validation perplexity of the runs that learnt, by seed."""
    return {int(job["seed"]): job[VAL] for job in jobs if learnt(job)}


def learn(jobs: list[Job]) -> str:
    """Return how many of these runs learnt."""
    return f"{sum(map(learnt, jobs))} of {len(jobs)}"


def span(values: Iterable[float], form: str) -> str:
    """Return the smallest and the largest."""
    found = list(values)
    return f"{min(found):{form}} to {max(found):{form}}"


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""
    jobs = list(runs())
    relu = of(jobs, name="relu")
    book, fast = (of(relu, sigma=0.01, lr=lr) for lr in (1, 8))
    grid = [job for job in relu if job["lr"] != 8]
    free, clipped = (last(of(book, theta=theta)) for theta in (None, 1))
    yield f"{estimate(free.values())} without clipping and {estimate(clipped.values())} with it"
    yield f"differ by {compare(clipped, free):+.2f}"
    fails = min(job["rho"] for job in of(grid, theta=None) if not learnt(job))
    least = max(job["rho"] for job in grid if job["rho"] < fails)
    wide = [job for job in grid if job["rho"] > least]
    alone, helped = (learn(of(wide, theta=theta)) for theta in (None, 1))
    yield f"begins above {least:.2f}: of these runs {alone} learn without clipping and {helped} with"
    yield f"above {least:.2f}: of these runs {alone} learn without and {helped} with a radius of 1"
    assert min(job["sigma"] for job in wide) == 0.15

    pairs: dict[tuple[float, ...], dict[float | None, bool]] = {}
    for job in grid:
        pairs.setdefault((job["sigma"], job["lr"], job["seed"]), {})[job["theta"]] = learnt(job)
    kinds = [(pair[1.0], pair[None]) for pair in pairs.values()]
    only, never = kinds.count((True, False)), kinds.count((False, True))
    yield f"Of {len(pairs)} pairs of ReLU runs that differ in clipping alone {only} learn only with a radius of 1"
    yield f"{never} only without it"
    assert all(pair[1.0] for pair in pairs.values())

    cells: dict[tuple[Any, ...], list[Job]] = {}
    for job in jobs:
        cells.setdefault((job["name"], job["sigma"], job["lr"]), []).append(job)
    gains = {(*cell, theta): compare(last(of(group, theta=theta)), last(of(group, theta=None)))
             for cell, group in cells.items() for theta in (1, 0.3)}  # fmt: skip
    assert not any(holm(gains).values()), "no difference in perplexity is claimed"

    ours, tanh = (of(jobs, name=name, sigma=0.35, theta=None) for name in ("relu", "tanh"))
    what = "growth", "first_norm"
    growth, norm = ([span((job[it] for job in some), ".2g") for some in (ours, tanh)] for it in what)
    yield f"with σ = 0.35 {growth[0]} times as long at the end of a window as after its first character"
    yield f"(tanh: {growth[1]} times), and the first gradient has a norm of {norm[0]} (tanh: {norm[1]})"
    narrow, form = of(grid, sigma=0.15, theta=None), ".2g"
    yield f"with σ = 0.15 {sum(not learnt(job) for job in narrow)} of {len(narrow)} runs are lost"
    first, same = (span((job["first_norm"] for job in some), form) for some in (narrow, book))
    assert first == same
    yield f"a norm of {first}, as with the book's weights"
    begins, ends = ([job[it] for job in narrow if learnt(job)] for it in ("rho", "dynamics/spectral_radius"))
    yield f"from {span(begins, '.1f')} at the start to {span(ends, '.1f')} at the end"
    one, four = (of(jobs, name="tanh", sigma=0.35, lr=lr) for lr in (1, 4))
    yield f"at a rate of 1 {learn(of(one, theta=None))} learn without clipping"
    assert learn(of(four, theta=None)) == learn(of(four, theta=1))
    yield f"at a rate of 4 {learn(of(four, theta=None))}, with a radius of 1 as well, and {learn(of(four, theta=0.3))}"
    end = {theta: f"{estimate(last(of(fast, theta=theta)).values())}" for theta in (None, 1, 0.3)}
    yield f"ends at {end[None]} without clipping, {end[1]} with a radius of 1 and {end[0.3]} with a radius of 0.3"
    hard, soft = ([100 * job["dynamics/dead_share"] for job in of(fast, theta=theta)] for theta in (None, 0.3))
    yield f"{span(hard, '.0f')} % of the units are dead at its end"
    yield f"with a radius of 0.3 {span(soft, '.0f')} %"
