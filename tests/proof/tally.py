"""Random cases, in shards: a failure does not stop the other cases of its shard.

`make torture` loads this as a plugin of pytest, which prints at the end how many cases of each kind were tried.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from _pytest.terminal import TerminalReporter

SHARD = 250  # cases: a minute at most
Note = Callable[[str, object], None]  # pytest's record_property


def shards(cases: int) -> list[tuple[int, int]]:
    """Divide a number of cases: the seed and the number of each part."""
    return [(seed, min(SHARD, cases - first)) for seed, first in enumerate(range(0, cases, SHARD))]


@dataclass
class Tally:
    """How many cases of a kind have been tried, and the command that repeats each failure."""

    kind: str
    cases: int = 0
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def case(self, command: str) -> Iterator[None]:
        """Count one case. If it fails, record the command and the reason, and continue."""
        self.cases += 1
        try:
            yield
        except Exception as error:
            self.failures.append(f"{command}\n    {type(error).__name__}: {error}")

    def end(self, note: Note) -> None:
        """Note the count for the table, and fail if a case did."""
        count(note, self.kind, self.cases)
        assert not self.failures, "\n\n".join(self.failures)


def count(note: Note, kind: str, cases: int) -> None:
    """Note for the table how many cases a test tries."""
    note("cases", (kind, cases))


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print the table."""
    kinds: dict[str, int] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for kind, cases in (value for name, value in report.user_properties if name == "cases"):
                kinds[kind] = kinds.get(kind, 0) + cases
    for kind, cases in sorted(kinds.items()):
        terminalreporter.write_line(f"{cases:>7,} {kind}")
