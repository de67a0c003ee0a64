"""Check that resources do not grow over many commands or steps, and that parallel runs do not clash.

`make soak` runs this, .ci/run a `part`. It prints a table. The exit status is 1 if, between the second and the last row
of a kind, memory grows by more than 5% and 10 MB, or if anything else grows at all.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from tests.support.programs import assert_succeeded, call_program
from tests.support.runs import epochs, summary, tables_and_weights
from timemachine.config import REPOSITORY

COLUMNS = ("MB of memory", "open files", "threads", "processes", "temporary files")
ROWS = 6  # rows of each kind
SMALL = ["data.corpus=sample", "data.num_train=300", "data.num_val=100", "data.batch_size=128", "data.num_steps=8"]
SMALL += ["model.hiddens=8", "model.lr=0.01", "logger=csv", "trainer=cpu"]  # at a higher rate a long run diverges


WHOLE, PART = (50, 5000, 8), (6, 1000, 2)  # rounds of six commands, epochs of three steps, parallel runs


def count(process: psutil.Process) -> list[float]:
    """Return the counts of a process: the minimum of five samples, since a file may be open briefly."""
    looks = []
    for _ in range(5):
        memory = process.memory_info().rss / 2**20
        temporary = len(list(Path(tempfile.gettempdir()).rglob("*")))
        looks.append([memory, process.num_fds(), process.num_threads(), len(process.children()), temporary])
        time.sleep(0.02)
    return [min(counts) for counts in zip(*looks, strict=True)]


def commands(number: int) -> Iterator[list[str]]:
    """Yield a run, its resumption, evaluation and generation, and a sweep and its resumption."""
    run, sweep = f"outputs/{number}", f"sweeps/{number}"
    sweeping = ["train.py", "-m", *SMALL, "trainer.max_epochs=1", "seed=0,1", f"hydra.sweep.dir={sweep}"]
    for number_of_epochs in (1, 2):
        yield ["train.py", *SMALL, f"trainer.max_epochs={number_of_epochs}", f"hydra.run.dir={run}"]
    yield ["evaluate.py", f"run={run}", "data.corpus=sample"]
    yield ["generate.py", f"run={run}", "num_samples=2", "alpha=1"]
    yield sweeping
    yield sweeping


def repeat_commands(rounds: int) -> Iterator[list[float]]:
    """Call the programs in this process and count after each sixth of the rounds."""
    for number in range(rounds):
        for command in commands(number):
            assert_succeeded(call_program(*command))
        if (number + 1) * ROWS // rounds > number * ROWS // rounds:
            yield count(psutil.Process())


def start(*arguments: str, cwd: str = ".") -> subprocess.Popen[bytes]:
    command = [sys.executable, str(REPOSITORY / "train.py"), *arguments, *SMALL]  # -m comes first
    return subprocess.Popen(command, cwd=cwd, stdout=subprocess.DEVNULL)


def train_for_long(total: int) -> Iterator[list[float]]:
    """Train in a new process and count while it runs."""
    with start(f"trainer.max_epochs={total}", "hydra.run.dir=long") as run:
        for row in range(ROWS):
            until = total * (row + 1) // (ROWS + 1)  # the run continues for a while after the last count
            while epochs(Path("long")) < until and run.poll() is None:
                time.sleep(0.05)
            assert run.poll() is None, "the run ended early"
            yield count(psutil.Process(run.pid))
    assert (run.returncode, epochs(Path("long"))) == (0, total)


def train_at_once(runs: int) -> None:
    """Start runs and two sweeps in parallel in one folder. Runs with the same seed write the same numbers."""
    Path("load").mkdir()
    seeds = [[f"seed={seed}"] for seed in range(runs)]
    sweeps = [["-m", "seed=0,1,2"], ["-m", "seed=0,1,2", "hydra/launcher=joblib"]]
    started = [start(*typed, "trainer.max_epochs=40", cwd="load") for typed in seeds + sweeps]
    assert [process.wait() for process in started] == [0] * len(started)
    folders = [path.parent for path in Path("load").rglob("summary.json")]
    assert len(folders) == runs + 6, folders
    by_seed: dict[int, object] = {}
    for folder in folders:
        about, left = summary(folder), tables_and_weights(folder)
        assert about["status"] == "completed" and epochs(folder) == 40, folder
        seed = about["settings"]["seed"]
        assert left == by_seed.setdefault(seed, left), f"{folder} differs from another run with seed {seed}"


def table(kind: str, counted: Iterator[list[float]]) -> list[str]:
    """Print a row for each count. Return the columns that grew after the second row, when all imports are done."""
    rows = []
    for row in counted:
        print(f"| {kind} | {' | '.join(f'{number:.4g}' for number in row)} |", flush=True)
        rows.append(row)
    slack = [(1.05, 10.0), *[(1.0, 0.0)] * (len(COLUMNS) - 1)]
    return [
        f"{kind}: {name} from {first:.0f} to {last:.0f}"
        for name, first, last, (factor, more) in zip(COLUMNS, rows[1], rows[-1], slack, strict=True)
        if last > first * factor + more
    ]


def main(rounds: int, total: int, runs: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        tempfile.tempdir = os.environ["TMPDIR"] = str(Path(place) / "temporary")
        Path(tempfile.tempdir).mkdir()
        os.chdir(place)
        print(f"| kind | {' | '.join(COLUMNS)} |\n|{'---|' * (1 + len(COLUMNS))}")
        grown = table("commands in one process", repeat_commands(rounds))
        grown += table("one run", train_for_long(total))
        train_at_once(runs)
        os.chdir("/")
    sys.exit("\n".join(grown) or 0)


if __name__ == "__main__":
    main(*(PART if "part" in sys.argv else WHOLE))
