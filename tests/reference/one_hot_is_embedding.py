"""Exercise 3: the largest differences between the product and the look-up."""

from collections.abc import Iterator

import numpy as np

from tests.support.kept import arrays, table

GIVEN = ("float64", "float32", "between 1 and the next number")


def numbers() -> Iterator[str]:
    """Yield the passages of the texts."""
    runs = table("one_hot_is_embedding")
    seeds, steps = {run["seed"] for run in runs}, {run["step"] for run in runs}
    assert len(runs) == 4 * len(seeds) and {run["status"] for run in runs} == {"completed"}
    cells = arrays("one_hot_is_embedding")
    found = {name: np.array([cell for of, cell in cells.items() if of.startswith(name)]) for name in GIVEN[:2]}
    assert all(len(cell) == len(seeds) for cell in found.values())
    double, single = found.values()
    yield f"from {len(seeds)} seeds"
    yield f"over all {len(seeds)} seeds"
    yield f"Over {steps.pop():.0f} steps of {len(seeds)} seeds"
    yield f"more than {double.max():.0e} in float64 and {single.max():.0e} in float32"
    yield f"at most {double.max():.0e} in float64"
    gaps = double.max() / np.finfo("float64").eps, single.max() / np.finfo("float32").eps
    grown = single.max(0) / double.max(0) * np.finfo("float64").eps / np.finfo("float32").eps
    assert ((grown > 1 / 4) & (grown < 4)).all()
    assert double.max() == double[:, 2].max() and single.max() == single[:, 2].max()
    yield f"is {gaps[0]:.0f} times the gap"
    yield f"and {gaps[1]:.0f} times in float32"
    yield f"it is {double[:, 1].max():.1e} and {single[:, 1].max():.1e}"
