"""The first seconds of a program: Ctrl-C is one line, and so is a system that is not supported."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from timemachine.config import REPOSITORY


def test_ctrl_c_while_libraries_are_imported(tmp_path: Path) -> None:
    (tmp_path / "hydra.py").write_text("raise KeyboardInterrupt")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY / "src")])
    command, environment = [sys.executable, str(REPOSITORY / "evaluate.py")], os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == -signal.SIGINT  # 130 to a shell
    assert (done.stdout, done.stderr) == ("", "interrupted\n")


def test_windows_by_itself_is_refused_in_one_line() -> None:
    pretended = "import sys; sys.platform = 'win32'; import timemachine.cli"
    done = subprocess.run([sys.executable, "-c", pretended], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: Windows by itself is not supported yet; type the same in WSL")
