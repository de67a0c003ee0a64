"""Use without end, and at once: that nothing grows, and that nothing clashes. `make soak` runs this, .ci/run a `part`.

It prints a table of what was counted along the way. The exit status is 1 if something has grown from the second line of
its kind to the last by more than `TOLERANCE` allows, or a program failed, or a row was lost.
"""

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from tests.support.programs import Done, call_program
from tests.support.runs import epochs, rows, summary, what_is_left
from timemachine.config import REPOSITORY

TIME = "ms of a core each"
TOLERANCE = {  # of the last line beyond the second: a factor, and so much more
    "MB of memory": (1.05, 10),
    "open files": (1, 0),
    "threads": (1, 0),
    "processes": (1, 0),
    "temporary files": (1, 0),
    TIME: (1.25, 2),
}
LINES = 6  # of each kind in the table
SMALL = ["data=sample", "data.num_train=300", "data.num_val=100", "data.batch_size=128", "data.num_steps=8"]
SMALL += ["model.hiddens=8", "model.lr=2", "logger=csv"]


@dataclass(frozen=True)
class Amount:
    """How much of each kind."""

    in_one_process: int  # commands, six a round
    as_programs: int  # the same
    epochs: int
    runs_at_once: int


WHOLE, PART = Amount(300, 30, 5000, 8), Amount(60, 18, 2000, 2)


@dataclass(frozen=True)
class Line:
    """What there is after so many of a kind."""

    kind: str
    done: int
    counts: dict[str, float]

    def grew(self, since: "Line", watched: Iterable[str]) -> list[str]:
        """What has grown by more than may be, in words."""
        return [
            f"{self.kind}: {name} from {since.counts[name]:.0f} to {self.counts[name]:.0f}"
            for name in watched
            if self.counts[name] > since.counts[name] * TOLERANCE[name][0] + TOLERANCE[name][1]
        ]


def counted(kind: str, done: int, process: int, milliseconds: float) -> Line:
    """Look at a process a few times: what is there for a moment only, such as an open file, does not count."""
    looks = []
    for _ in range(5):
        looks.append(_look(Path("/proc", str(process))))
        time.sleep(0.02)
    fewest = [min(counts) for counts in zip(*looks, strict=True)]
    return Line(kind, done, dict(zip(TOLERANCE, [*fewest, milliseconds], strict=True)))


def _look(process: Path) -> list[float]:
    return [
        int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
        len(list((process / "fd").iterdir())),
        len(list((process / "task").iterdir())),
        sum(len((task / "children").read_text().split()) for task in (process / "task").iterdir()),
        sum(1 for _ in Path(tempfile.gettempdir()).rglob("*")),
    ]


def round_of(number: int) -> Iterator[list[str]]:
    """Six commands: a run, what goes on from it and what reads it, and a sweep, all in one folder."""
    run, sweep = f"outputs/{number}", f"sweeps/{number}"
    sweeping = ["train.py", "-m", *SMALL, "trainer.max_epochs=1", "seed=0,1", f"hydra.sweep.dir={sweep}"]
    yield ["train.py", *SMALL, "trainer.max_epochs=1", f"hydra.run.dir={run}"]
    yield ["train.py", f"resume={run}", "trainer.max_epochs=2"]
    yield ["evaluate.py", f"run={run}", "data.corpus=sample"]
    yield ["generate.py", f"run={run}", "num_samples=2", "alpha=1"]
    yield sweeping
    yield [*sweeping, f"resume={sweep}"]


def soaked(kind: str, times: int, first: int, call: Callable[..., Done]) -> Iterator[Line]:
    """Call the programs, six commands a round, and count after each sixth of the rounds."""
    rounds = times // 6
    spent: list[float] = []
    for number in range(rounds):
        before = sum(os.times()[:4])
        for command in round_of(first + number):
            done = call(*command)
            assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
        spent.append(sum(os.times()[:4]) - before)
        if (number + 1) * LINES // rounds > number * LINES // rounds:
            each = 1000 * statistics.median(spent) / 6
            yield counted(kind, 6 * (number + 1), os.getpid(), each)
            spent.clear()


def start(*command: str) -> Done:
    """Run a program in a process of its own, without the fork of `tests.support.warm`."""
    return subprocess.run(program([*command]), capture_output=True, text=True, check=False)


def program(command: list[str]) -> list[str]:
    return [sys.executable, str(REPOSITORY / command[0]), *command[1:]]


def one_long_run(total: int) -> Iterator[Line]:
    """A run of so many epochs of three steps; at a higher rate it learns its 300 characters by heart and diverges."""
    command = ["train.py", *SMALL, "model.lr=0.01", f"trainer.max_epochs={total}", "hydra.run.dir=long"]
    with subprocess.Popen(program(command), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        done, spent = 0, 0.0
        for line in range(LINES):
            until = total * (line + 1) // LINES - total // 100  # it must not have ended
            while epochs(Path("long")) < until and run.poll() is None:
                time.sleep(0.02)
            assert run.poll() is None, run.communicate()[1]
            now, used = epochs(Path("long")), seconds_of_a_core(run.pid)
            each = 1000 * (used - spent) / 3 / (now - done)
            yield counted("steps of one run", 3 * now, run.pid, each)
            done, spent = now, used
        errors = run.communicate()[1]
    ended = run.returncode, errors, epochs(Path("long"))
    assert ended == (0, "", total), ended


def seconds_of_a_core(process: int) -> float:
    """Return what a process that runs has used."""
    user, system = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def at_once(runs: int) -> str:
    """Runs and two sweeps at once in one folder tree, `wandb sync` beside them. Return what came of it, in words."""
    from tests.support.wandb_runs import OF_A_STEP, STEP, by, wandb_command
    from tests.support.wandb_server import WandbServer

    load = Path("load")
    load.mkdir()
    typed = [*SMALL, "logger=wandb", "trainer.max_epochs=40"]
    commands = [["train.py", *typed, f"seed={seed}"] for seed in range(runs)]
    commands += [["train.py", "-m", *typed, "seed=0,1,2", *joblib] for joblib in ([], ["hydra/launcher=joblib"])]
    began, syncs = time.monotonic(), 0
    started = [
        subprocess.Popen(program(command), cwd=load, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    with WandbServer() as server:
        folders_of_wandb = "$(ls -d outputs/*/*/wandb sweeps/*/*/wandb)"
        while any(process.poll() is None for process in started):
            if list(load.glob("outputs/*/*/wandb")):
                wandb_command(f"wandb sync {folders_of_wandb}", load, **server.environment())
                syncs += 1
            time.sleep(1)
        for process, command in zip(started, commands, strict=True):
            output, errors = process.communicate()
            assert process.returncode == 0, f"{command}\n{output}\n{errors}"
        # A sync that was under way as a run ended has marked it as uploaded.
        wandb_command(f"wandb sync --include-synced {folders_of_wandb}", load, **server.environment())
    folders = sorted(path.parent for path in load.rglob("summary.json"))
    assert len(folders) == runs + 6, folders
    alike: dict[int, object] = {}
    for folder in folders:
        about = summary(folder)
        assert about["status"] == "completed" and epochs(folder) == 40, folder
        left = what_is_left(folder)
        assert left == alike.setdefault(about["seed"], left), f"{folder} differs from another run with its seed"
        # A sync of a run that still writes sends some rows, and the last sync may send them again: none is lost.
        steps = by("step", OF_A_STEP, rows(folder / "steps.csv"))
        assert by(STEP, OF_A_STEP, server.runs[about["wandb"]].history) == steps, folder
    assert not server.unknown
    minutes = (time.monotonic() - began) / 60
    work = f"{runs} runs and 2 sweeps at once, {syncs} syncs of W&B beside them"
    return f"{work}: no clash, no lost row; {minutes:.1f} minutes"


def main(amount: Amount) -> None:
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        as_a_stranger(Path(place))
        columns = ["kind", "done", *TOLERANCE]
        print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
        kinds: dict[str, list[Line]] = {}
        in_this_process = soaked("commands in one process", amount.in_one_process, 0, call_program)
        as_programs = soaked("commands as programs", amount.as_programs, 10**6, start)
        for line in chain(in_this_process, as_programs, one_long_run(amount.epochs)):
            kinds.setdefault(line.kind, []).append(line)
            cells = [line.kind, f"{line.done:,}", *(f"{count:.4g}" for count in line.counts.values())]
            print(f"| {' | '.join(cells)} |", flush=True)
        print(f"\n{at_once(amount.runs_at_once)}")
        os.chdir("/")
    print(f"\n{(time.monotonic() - began) / 60:.0f} minutes")
    # From the second line, when all that is loaded once has been, to the last. A part may not be alone on its machine.
    watched = [name for name in TOLERANCE if amount is WHOLE or name != TIME]
    sys.exit("\n".join(text for lines in kinds.values() for text in lines[-1].grew(lines[1], watched)) or 0)


def as_a_stranger(place: Path) -> None:
    """Without an account, and with a folder of its own for all that is temporary."""
    for name in [name for name in os.environ if re.match("WANDB_|SLURM_|PL_", name)]:
        del os.environ[name]
    for name in ("home", "temporary", "here"):
        (place / name).mkdir()
    os.environ |= dict.fromkeys(("HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR"), str(place / "home"))
    os.environ["TMPDIR"] = tempfile.tempdir = str(place / "temporary")
    os.chdir(place / "here")


if __name__ == "__main__":
    main(PART if "part" in sys.argv else WHOLE)
