"""Exercise 8, sampling: the numbers of its texts, from the models' measurements and the pieces of real text."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from tests.support.kept import arrays, table
from timemachine.exercises.comparison import compare, estimate

GIVEN = ("P^8", "8-grams", "after each of 4 prefixes", "after 2,000", "to 1e-12")
ALPHAS = {"P^0.5": 0.5, "P": 1.0, "P^1.5": 1.5, "P^2": 2.0, "P^4": 4.0, "P^8": 8.0}
PREFIXES = ("it has", "time traveller", "the", "i")


def numbers() -> Iterator[str]:
    """Yield the passages with numbers."""
    jobs, kept = table("sampling"), arrays("sampling")

    def percent(name: str, what: str) -> list[float]:
        return [100 * job[f"samples/{name}/{what}"] for job in jobs]

    def loops(what: str) -> list[float]:
        return [job[f"samples/loops/{prefix}/{what}"] for job in jobs for prefix in PREFIXES]

    known = {name: estimate(percent(name, "known_words")) for name in ("P", "P^8")}
    again = {name: estimate(percent(name, "repeated")).mean for name in ("P", "P^8")}
    real, real_again = estimate(kept["known_words"]), kept["repeated"].mean()
    yield f"{known['P']:.0f} % of the words that are drawn from P"
    yield f"{known['P']:.0f} % of the words drawn from P"
    yield f"{known['P'].mean:.0f} % of the words drawn from P, {known['P^8'].mean:.0f} % from P^8"
    yield f"{known['P^8']:.0f} % of those from P^8"
    yield f"{real:.0f} % of a real text's"
    yield f"{real.mean:.0f} % of a real text's"
    yield f"{real:.0f} % of the words stand in the training text"
    yield f"{again['P']:.1f}, {again['P^8']:.0f} and {real_again:.1f} % of their 8-grams"

    loop_of_each = [all(job[f"samples/loops/{prefix}/period"] for prefix in PREFIXES) for job in jobs]
    yield f"in {sum(loop_of_each)} of {len(jobs)} models"
    yield f"Each of the {sum(loop_of_each)} models"
    cycles = Counter(len(set(ours)) for ours in kept["cycles"])
    assert cycles.keys() == {1, 2}
    yield f"in {cycles[1]} of them it is the same one after all four, in {cycles[2]} one of two"
    yield f"{min(loops('period')):.0f} to {max(loops('period')):.0f} characters long"
    yield f"from its character {max(loops('start')) + 1:.0f} on"
    yield f"after at most {max(loops('settled')):.0f} characters"
    yield f"to {max(loops('difference')):.0e}, the rounding"
    yield f"within {max(loops('difference')):.0e}"
    yield f"likelier than any other by {min(loops('margin')):.3f} nats"
    yield f"once they are {min(loops('needed')):.0f} to {max(loops('needed')):.0f}, by the model"
    yield f"its last {max(loops('needed')):.0f} characters at most"
    yield f"places {min(loops('needed_mostly')):.0f} to {max(loops('needed_mostly')):.0f} are enough"
    yield f"needs {min(loops('needed_after_text')):.0f} to {max(loops('needed_after_text')):.0f}"

    alphas = {}
    for what, passage in (
        ("known_words", "has as many at α = {:.2f}"),
        ("repeated", "repeats itself as often at {:.2f}"),
        ("distinct_words", "has as many distinct words at {:.2f}"),
        ("log_likelihood", "as likely under the model as the novel is at {:.2f}: below 1"),
    ):
        factor = 100 if what in ("known_words", "repeated") else 1
        curves = [[factor * job[f"samples/{name}/{what}"] for name in ALPHAS] for job in jobs]
        alphas[what] = dict(enumerate(_like_real(curve, kept[what].mean()) for curve in curves))
        yield passage.format(estimate(alphas[what].values()))
    pairs = [compare(alphas[one], alphas[other]).p for one in alphas for other in alphas if one < other]
    assert max(pairs) < 0.05 / len(pairs)  # "no one α"

    apart = estimate(job["samples/sharpening/distances/4"] for job in jobs)
    yield f"a total variation of {apart:.2f}"


def _like_real(curve: list[float], real: float) -> float:
    """Return the α beyond which no more of the curve, drawn over log α, has the value; by a fine grid."""
    grid = np.linspace(0, 1, 200_001) * math.log(16) + math.log(0.5)
    side = np.interp(grid, np.log(list(ALPHAS.values())), curve) > real
    return float(np.exp(grid[np.flatnonzero(side[1:] != side[:-1])[-1]]))
