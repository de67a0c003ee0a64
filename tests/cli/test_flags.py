"""Flags of Hydra's that would have a program read settings that are not its own."""

import itertools
from pathlib import Path

import pytest

from tests.support.programs import assert_succeeded, call_program

PROGRAMS = ("train", "evaluate", "generate")
PAIRS = list(itertools.permutations(PROGRAMS, 2))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


@pytest.mark.parametrize(("name", "other"), PAIRS)
@pytest.mark.parametrize("flag", [["--config-name={}"], ["-cn", "{}.yaml"]])
def test_the_settings_of_another_program_are_refused(name: str, other: str, flag: list[str]) -> None:
    done = call_program(f"{name}.py", *(part.format(other) for part in flag))
    assert (done.returncode, done.stdout) == (1, "")
    typed = flag[-1].format(other).rpartition("=")[2]
    assert done.stderr == (f"error: --config-name {typed}: {name}.py reads conf/{name}.yaml; type python {other}.py\n")
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("flag", ["--config-name=mine", "--config-path=mine", "-cp=mine", "--config-dir=mine"])
def test_settings_that_are_nowhere_are_refused(name: str, flag: str) -> None:
    done = call_program(f"{name}.py", flag)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: ") and "mine" in done.stderr and "; type " in done.stderr
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_reads_its_own_settings_by_name(name: str) -> None:
    done = call_program(f"{name}.py", "--config-name", name, "--cfg", "job")
    assert_succeeded(done)
    assert done.stdout == call_program(f"{name}.py", "--cfg", "job").stdout
