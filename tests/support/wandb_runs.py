"""What a run's files say, and what arrived of it in W&B, for tests that compare the two."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.support.programs import DEADLINE
from tests.support.runs import rows
from tests.support.wandb_server import ArrivedRun, WandbServer
from timemachine.run.record import read_summary

SHORT = ("data=sample", "data.num_train=2051", "trainer.max_epochs=2", "model.hiddens=8", "hydra.run.dir=run")
OF_AN_EPOCH = ("train/perplexity", "val/perplexity", "test/perplexity", "clip_fraction", "chars_per_second", "lr")
OF_A_STEP = ("loss", "grad_norm", "grad_norm_clipped")
STEP = "trainer/global_step"


def by(key: str, columns: Iterable[str], rows: Iterable[dict[str, Any]]) -> dict[int, dict[str, float]]:
    """Key -> the numbers of these columns that are there. At the server an epoch's test is a row of its own."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if numbers := {name: row[name] for name in columns if name in row}:
            found.setdefault(int(row[key]), {}).update(numbers)
    return found


def assert_arrived(run: ArrivedRun, folder: Path, resumed: bool = False) -> None:
    """All numbers of the folder came, once, and no others; of a resumed run earlier tests came, too."""
    of_an_epoch = [name for name in OF_AN_EPOCH if not (resumed and name.startswith("test/"))]
    written = by("epoch", of_an_epoch, rows(folder / "metrics.csv"))
    assert written and by("epoch", of_an_epoch, run.history) == written
    written = by("step", OF_A_STEP, rows(folder / "steps.csv"))
    assert written and by(STEP, OF_A_STEP, run.history) == written
    steps = [row[STEP] for row in run.history if "loss" in row]
    assert len(steps) == len(set(steps))


def unfinished(stdout: str) -> tuple[str, str]:
    """What a run that did not reach the server prints at its end: its state, and the command that uploads it."""
    (found,) = re.findall(r"^W&B +(offline|incomplete); upload with: (.+)$", stdout, re.MULTILINE)
    return found[0], found[1]


def wandb_command(command: str, cwd: Path, **environment: str) -> str:
    """What `wandb …` prints, typed into a shell in this folder."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | {"PATH": programs} | environment
    done = subprocess.run(command, shell=True, cwd=cwd, env=variables, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout


def settings_in_wandb(summary: dict[str, Any]) -> dict[str, Any]:
    """Return a run's settings without empty groups, which W&B leaves out."""
    return {name: value for name, value in summary["settings"].items() if value != {}}


def assert_uploads(command: str, cwd: Path, folders: Sequence[str] = ("run",)) -> None:
    """The command brings these runs, whole, to a server that works again, and nothing twice."""
    with WandbServer() as server:
        for _ in range(2):
            wandb_command(command, cwd, **server.environment())
    assert not server.unknown
    assert len(server.runs) == len(folders)
    for folder in folders:
        summary = read_summary(cwd / folder)
        run = server.runs[summary["wandb"]]
        assert_arrived(run, cwd / folder)
        assert run.config.items() >= settings_in_wandb(summary).items()
