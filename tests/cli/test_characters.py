"""What a terminal shows that has no ±."""

import io
import sys
from collections.abc import Callable

import pytest

from timemachine.cli.characters import write_any_character
from timemachine.runs.tables import print_table


def printed(encoding: str, monkeypatch: pytest.MonkeyPatch, show: Callable[[], None]) -> list[str]:
    """What a stream of that encoding gets."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    write_any_character()
    show()
    stream.flush()
    return raw.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", ["7.00 +-0.10 - eta, alpha, Sigma? outputs/... ? ?"]),
        ("latin-1", ["7.00 ±0.10 - eta, alpha, Sigma? outputs/... ? é"]),
        ("utf-8", ["7.00 ±0.10 – η, α, SigmaΣ outputs/… 書 é"]),
    ],
)
def test_a_character_that_the_stream_has_not_is_written_in_others(
    encoding: str, shown: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert printed(encoding, monkeypatch, lambda: print("7.00 ±0.10 – η, α, SigmaΣ outputs/… 書 é")) == shown


def test_the_columns_of_a_table_stay_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed("ascii", monkeypatch, lambda: print_table("", ["η", "val"], [["1", "7.00 ±0.10"]]))
    assert any("eta" in line for line in lines) and any("7.00 +-0.10" in line for line in lines)
    assert len({len(line.rstrip()) for line in lines}) == 1
