"""Standard output that is closed, is a pipe that nobody reads, or is on a full disk."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import DEADLINE, Done, assert_said, assert_succeeded, run_program
from timemachine.config import REPOSITORY
from timemachine.runs.summaries import read_summary

LOST = {">&3": "Broken pipe", ">&-": "Bad file descriptor", ">/dev/full": "No space left on device"}
SHORT = ["data=sample", "data.num_train=515", "data.num_val=100", "model.hiddens=2", "logger=csv"]
SHORT += ["trainer.max_epochs=1"]


def shell(redirected: str, *command: object, folder: Path) -> Done:
    """Run Python in bash with its streams redirected; 3 is a pipe whose reader has gone."""
    typed = " ".join(f"'{part}'" for part in (sys.executable, *command))
    reader, pipe = os.pipe()
    os.close(reader)
    script = f"exec 3>&{pipe}; {typed} {redirected}; exit ${{PIPESTATUS[0]}}"
    try:
        return subprocess.run(
            ["bash", "-c", script], cwd=folder, capture_output=True, text=True, timeout=DEADLINE, pass_fds=[pipe]
        )
    finally:
        os.close(pipe)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has ended."""
    folder = tmp_path_factory.mktemp("ended")
    done = run_program("train.py", *SHORT, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


PRINTS = """
import sys
from timemachine.cli.streams import go_on_without_output, guard_streams
guard_streams()
if sys.argv[1] == "run":
    go_on_without_output()
for _ in range(3):
    print("a line", flush=True)
sys.exit("the end")
"""


@pytest.mark.parametrize(("redirected", "reason"), LOST.items())
def test_a_run_goes_on_and_says_so_once(redirected: str, reason: str, tmp_path: Path) -> None:
    done = shell(redirected, "-c", PRINTS.replace("'", '"'), "run", folder=tmp_path)
    says = f"standard output: {reason}; the run goes on without it\nthe end\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", says)


@pytest.mark.parametrize("redirected", [">&3 2>&1", ">&- 2>&-", ">&- 2>&- <&-", ">/dev/full 2>&1"])
def test_a_run_goes_on_where_it_cannot_even_say_so(redirected: str, tmp_path: Path) -> None:
    done = shell(redirected, "-c", PRINTS, "run", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


def test_what_is_printed_comes_as_ever(tmp_path: Path) -> None:
    done = shell("", "-c", PRINTS, "run", folder=tmp_path)
    assert (done.stdout, done.stderr) == ("a line\n" * 3, "the end\n")


@pytest.mark.slow
@pytest.mark.parametrize("redirected", LOST)
def test_train(redirected: str, tmp_path: Path) -> None:
    done = shell(redirected, REPOSITORY / "train.py", *SHORT, "hydra.run.dir=run", folder=tmp_path)
    assert done.returncode == 0
    assert_said(done.stderr, f"standard output: {LOST[redirected]}; the run goes on without it")
    assert read_summary(tmp_path / "run")["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("redirected", [">&3"])
def test_a_run_that_diverges_says_so(redirected: str, tmp_path: Path) -> None:
    typed = [*SHORT, "hydra.run.dir=run", "model.lr=1e9", "trainer.gradient_clip_val=null"]
    done = shell(redirected, REPOSITORY / "train.py", *typed, folder=tmp_path)
    lost, error = done.stderr.splitlines()
    assert (done.returncode, lost) == (1, f"standard output: {LOST[redirected]}; the run goes on without it")
    assert error.startswith("error: diverged")
    assert read_summary(tmp_path / "run")["status"] == "diverged"


@pytest.mark.slow
@pytest.mark.parametrize("redirected", [">/dev/full"])
def test_a_progress_bar(redirected: str, tmp_path: Path) -> None:
    typed = [*SHORT, "hydra.run.dir=run", "trainer.enable_progress_bar=true"]
    done = shell(redirected, REPOSITORY / "train.py", *typed, folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)
    assert read_summary(tmp_path / "run")["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirected", "launcher"),
    [
        ("| head -1", []),
        (">&-", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
        (">/dev/full", ["trainer=ddp_cpu"]),
    ],
)
def test_a_sweep(redirected: str, launcher: list[str], tmp_path: Path) -> None:
    """One process speaks for all."""
    typed = ["-m", *SHORT, "seed=0,1", "hydra.sweep.dir=sweep", *launcher]
    done = shell(redirected, REPOSITORY / "train.py", *typed, folder=tmp_path)
    assert done.stdout == ("sweep  sweep\n" if "head" in redirected else "")
    reason = LOST[redirected.replace("| head -1", ">&3")]
    assert done.returncode == 0
    assert_said(done.stderr, f"standard output: {reason}; the run goes on without it")
    assert [read_summary(tmp_path / f"sweep/{job}")["status"] for job in "01"] == ["completed"] * 2
    assert (tmp_path / "sweep/summary.csv").exists()


PRINTERS = [["generate.py"], ["evaluate.py", "data.corpus=sample"], ["train.py", "--help"], ["train.py", "--cfg=job"]]


@pytest.mark.slow
@pytest.mark.parametrize("program", PRINTERS, ids=" ".join)
@pytest.mark.parametrize(("redirected", "reason"), LOST.items())
def test_a_program_that_does_nothing_but_print_ends(
    program: list[str], redirected: str, reason: str, run: Path, tmp_path: Path
) -> None:
    given = [] if program[0] == "train.py" else [f"run={run}"]
    done = shell(redirected, REPOSITORY / program[0], *given, *program[1:], folder=tmp_path)
    if reason == "Broken pipe":
        assert_succeeded(done)
        return
    assert done.returncode == 1
    assert_said(done.stderr, f"error: standard output: {reason}; type > and a file that can be written")


def test_a_reader_who_has_seen_enough_ends_a_program_without_a_word(tmp_path: Path) -> None:
    done = shell(">&3", "-c", PRINTS, "program", folder=tmp_path)
    assert_succeeded(done)
