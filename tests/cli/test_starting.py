"""The first seconds of a program: Ctrl-C is one line, and a terminal hears of what takes long."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from timemachine.config import REPOSITORY


@pytest.mark.parametrize("module", ["hydra", "safetensors"])
def test_ctrl_c_while_libraries_are_imported(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY / "src")])
    command, environment = [sys.executable, str(REPOSITORY / "evaluate.py")], os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT  # 130 to a shell
    assert (done.stdout, done.stderr) == ("", "interrupted\n")


@pytest.mark.skipif(os.name != "posix", reason="a terminal of its own")
@pytest.mark.parametrize(("typed", "hears"), [("data.num_train=1000000000", True), ("model.hiddens=0", False)])
def test_a_terminal_hears_that_imports_take_seconds(typed: str, hears: bool, tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    command = [sys.executable, str(REPOSITORY / "train.py"), "data=sample", "logger=csv", typed]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=terminal)
    printed = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(terminal)
    assert ("importing PyTorch and Lightning" in printed) == hears and "error: " in printed
    assert done.stdout == b""


def test_windows_by_itself_is_refused_in_one_line() -> None:
    pretended = "import sys; sys.platform = 'win32'; import timemachine.cli"
    done = subprocess.run([sys.executable, "-c", pretended], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: Windows by itself is not supported yet; type the same in WSL")
