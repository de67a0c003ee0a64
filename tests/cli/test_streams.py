"""A standard output that is closed, that nobody reads, that is full or lacks characters; a program's first seconds."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import DEADLINE, Done, assert_succeeded
from timemachine.config import REPOSITORY

FULL = "standard output: No space left on device; the program goes on without it\n"
LOST = {">&3": "", ">&-": "", ">/dev/full": FULL}  # redirection -> stderr
RUN = ["train.py", "data=sample", "data.num_train=515", "data.num_val=100", "model.hiddens=2", "logger=csv"]
RUN += ["trainer.max_epochs=1"]


def shell(redirected: str, *command: object, folder: Path) -> Done:
    """Run Python in bash with its streams redirected; 3 is a pipe whose reader has gone."""
    typed = " ".join(f"'{part}'" for part in (sys.executable, *command))
    reader, pipe = os.pipe()
    os.close(reader)
    try:
        return subprocess.run(
            ["bash", "-c", f"exec 3>&{pipe}; {typed} {redirected}"],
            cwd=folder, capture_output=True, text=True, timeout=DEADLINE, pass_fds=[pipe],
        )  # fmt: skip
    finally:
        os.close(pipe)


PRINTS = """
import sys
from timemachine.cli.streams import go_on_without_output
go_on_without_output()
for _ in range(3):
    print("a line", flush=True)
sys.exit("the end")
"""


@pytest.mark.parametrize(
    ("redirected", "output", "errors"),
    [("", "a line\n" * 3, "the end\n")]
    + [(redirected, "", f"{lost}the end\n") for redirected, lost in LOST.items()]
    + [(redirected, "", "") for redirected in (">&3 2>&1", ">&- 2>&-", ">&- 2>&- <&-", ">/dev/full 2>&1")],
)
def test_a_program_goes_on(redirected: str, output: str, errors: str, tmp_path: Path) -> None:
    done = shell(redirected, "-c", PRINTS.replace("'", '"'), folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, output, errors)


@pytest.mark.slow
def test_a_sweep_completes_whose_reader_has_seen_enough(tmp_path: Path) -> None:
    typed = ["-m", "seed=0,1", "hydra.sweep.dir=sweep"]
    done = shell("| head -1", REPOSITORY / RUN[0], *RUN[1:], *typed, folder=tmp_path)
    assert_succeeded(done)
    assert done.stdout == "sweep         sweep\n"
    assert (tmp_path / "sweep/summary.csv").exists()


def test_a_character_that_the_encoding_lacks_is_a_question_mark(tmp_path: Path) -> None:
    script = PRINTS.replace("a line", "7.00 ±0.10").replace("'", '"')
    ascii_ = 'import sys; sys.stdout.reconfigure(encoding="ascii")'
    done = shell("", "-X", "utf8=0", "-c", ascii_ + script, folder=tmp_path)
    assert done.stdout == "7.00 ?0.10\n" * 3


# The first seconds


def test_windows_by_itself_is_refused_in_one_line() -> None:
    pretended = "import sys; sys.platform = 'win32'; import timemachine.cli"
    done = subprocess.run([sys.executable, "-c", pretended], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith("error: Windows by itself is not supported yet; type the same in WSL")
