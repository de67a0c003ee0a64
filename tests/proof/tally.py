"""Random cases, in shards: a failure does not stop the other cases of its shard."""

from collections.abc import Iterator
from contextlib import contextmanager

SHARD = 250  # cases: a minute at most


def shards(cases: int) -> list[tuple[int, int]]:
    """Divide a number of cases: the seed and the number of each part."""
    return [(seed, min(SHARD, cases - first)) for seed, first in enumerate(range(0, cases, SHARD))]


class Tally:
    """The command that repeats each case that failed, and why."""

    def __init__(self) -> None:
        self.failures: list[str] = []

    @contextmanager
    def case(self, command: str) -> Iterator[None]:
        """Try one case. If it fails, record the command and the reason, and continue."""
        try:
            yield
        except Exception as error:
            self.failures.append(f"{command}\n    {type(error).__name__}: {error}")

    def end(self) -> None:
        """Fail if a case did."""
        assert not self.failures, "\n\n".join(self.failures)
