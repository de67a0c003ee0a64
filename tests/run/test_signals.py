"""Ctrl-C before `main` is called, and a process whose parent ends."""

import subprocess
import sys


def test_an_interruption_has_no_traceback() -> None:
    code = "from timemachine.run.signals import end_quietly; end_quietly(); raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "")


def test_a_process_ends_with_its_parent() -> None:
    child = "import time; from timemachine.run.signals import end_with_parent; end_with_parent(); print(1, flush=True)"
    child += "; time.sleep(20); print('late')"
    parent = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(9999)"
    command = [sys.executable, "-c", parent, child]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()
        process.kill()
        assert process.stdout.read() == ""  # up to the child's end, which closes the pipe
