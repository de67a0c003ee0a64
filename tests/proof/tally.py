"""Cases that are drawn at random, in shards: each is tried whatever the others do, and all are counted for one table.

`make torture` loads this as a plugin of pytest, which prints the table at the end, in Markdown for tests/README.md.
"""

import os
import shlex
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain

from _pytest.terminal import TerminalReporter

from timemachine.config import REPOSITORY

SHARD = 250  # cases: a minute at most
BEGAN = time.monotonic()
Note = Callable[[str, object], None]  # pytest's record_property


def shards(cases: int) -> list[tuple[int, int]]:
    """Divide a number of cases: the seed and the number of each part."""
    return [(seed, min(SHARD, cases - first)) for seed, first in enumerate(range(0, cases, SHARD))]


@dataclass
class Tally:
    """How many cases of a kind have been tried, and what to type for each that failed."""

    kind: str
    cases: int = 0
    failures: list[str] = field(default_factory=list)

    @contextmanager
    def case(self, command: str) -> Iterator[None]:
        """Count what is tried within. If that fails, keep the command and the reason, and go on."""
        self.cases += 1
        try:
            yield
        except Exception as error:
            self.failures.append(f"{command}\n    {type(error).__name__}: {error}")

    def end(self, note: Note) -> None:
        """Note the counts for the table. Fail if a case did."""
        count(note, self.kind, self.cases, len(self.failures))
        assert not self.failures, "\n\n".join(self.failures)


def count(note: Note, kind: str, cases: int, failures: int | None = None) -> None:
    """Note for the table how many cases a test tries; without `failures`, it counts as one if the test fails."""
    note("cases", [kind, cases, failures])


def command(program: str, *arguments: str, **texts: bytes) -> str:
    """Return what to type in the repository for a call of a program: first the files `<name>.txt`, then the program."""
    made = [
        f"import zlib; open('{name}.txt', 'wb').write(zlib.decompress(bytes.fromhex('{zlib.compress(text).hex()}')))"
        for name, text in texts.items()
    ]
    return "\n".join(
        shlex.join(["python", *typed]) for typed in (*(["-c", line] for line in made), [program, *arguments])
    )


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    """Print the table."""
    kinds: dict[str, list[float]] = {}
    for report in chain.from_iterable(terminalreporter.stats.get(outcome, []) for outcome in ("passed", "failed")):
        for kind, cases, failures in (value for name, value in report.user_properties if name == "cases"):
            if report.when == "call":
                row = kinds.setdefault(kind, [0, 0, 0.0])
                more = (cases, int(report.failed) if failures is None else failures, report.duration / 60)
                row[:] = (a + b for a, b in zip(row, more, strict=True))
    if not kinds:
        return
    revision = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    ).stdout.strip()
    minutes, cores = (time.monotonic() - BEGAN) / 60, os.cpu_count()
    print("\n| kind | cases | failures | minutes of a core |\n|---|---|---|---|")
    for kind, (cases, failures, spent) in sorted(kinds.items()):
        print(f"| {kind} | {cases:,.0f} | {failures:.0f} | {spent:.1f} |")
    print(f"\n{time.strftime('%Y-%m-%d')}, commit {revision or 'unknown'}, {minutes:.0f} minutes on {cores} cores")
