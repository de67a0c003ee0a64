"""A fork of the process that waits ends as the program would."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.warm import Warm

LATER = """
import atexit, threading, time
atexit.register(print, "at exit")
threading.Thread(target=lambda: (time.sleep(0.1), print("a thread"))).start()
"""


@pytest.mark.parametrize(
    "last",
    ["", "raise SystemExit", "sys.exit(3)", "sys.exit(-1)", "sys.exit('a message')", "sys.exit(True)", "1 / 0",
     "raise KeyboardInterrupt", "os.kill(os.getpid(), signal.SIGTERM)"],
)  # fmt: skip
def test_it_ends_as_python_does(last: str, tmp_path: Path) -> None:
    """Exit status, threads, functions at exit, and the last line that is said; nothing of a library's."""
    script = tmp_path / "script.py"
    script.write_text(f"import os, signal, sys\n{LATER}print('begins', flush=True)\n{last}\n")
    expected = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    process = Warm([str(script)], tmp_path, {})
    output, errors = process.communicate()
    assert (process.wait(), output) == (expected.returncode, expected.stdout)
    assert errors.splitlines()[-1:] == expected.stderr.splitlines()[-1:]
