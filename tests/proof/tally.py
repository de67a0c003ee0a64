"""Random cases in shards. A failed case does not stop its shard."""

from collections.abc import Iterator
from contextlib import contextmanager

SHARD = 250  # cases: at most a minute


def shards(cases: int) -> list[tuple[int, int]]:
    """Divide the cases into shards: the seed and the number of cases of each."""
    return [(seed, min(SHARD, cases - first)) for seed, first in enumerate(range(0, cases, SHARD))]


class Tally:
    """Commands that repeat the failed cases, with the reasons."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    @contextmanager
    def case(self, command: str) -> Iterator[None]:
        """Run a case. If it fails, record the command and the reason, and continue."""
        try:
            yield
        except Exception as error:
            self.failures.append(f"{command}\n    {type(error).__name__}: {error}")

    def end(self) -> None:
        """Fail if any case failed."""
        assert not self.failures, "\n\n".join(self.failures)
