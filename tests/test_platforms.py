"""What is said on a platform that is not supported, and what costs nothing to have right on it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from timemachine.config import REPOSITORY
from timemachine.runs.files import shown


@pytest.mark.parametrize("name", ["train.py", "evaluate.py", "generate.py"])
def test_windows_by_itself_is_told_in_one_line(name: str) -> None:
    pretended = (
        f"import runpy, sys; sys.platform = 'win32'; runpy.run_path({str(REPOSITORY / name)!r}, {{}}, '__main__')"
    )
    done = subprocess.run([sys.executable, "-c", pretended], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: Windows by itself is not supported yet; type the same in WSL")
    assert done.stderr.count("\n") == 1


def test_signals_that_a_platform_lacks_are_left_out() -> None:
    pretended = (
        "import signal; del signal.SIGUSR1, signal.SIGHUP\n"
        "from timemachine.cli.signals import SIGNALS, ignore_signals\n"
        "ignore_signals(); print(*(number.name for number in SIGNALS))"
    )
    done = subprocess.run([sys.executable, "-c", pretended], capture_output=True, text=True, check=True)
    assert done.stdout == "SIGINT SIGTERM\n"


def test_a_path_on_another_drive_is_shown_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "run") == "run"

    def another_drive(path: object) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(os.path, "relpath", another_drive)
    assert shown(tmp_path / "run") == str(tmp_path / "run")
