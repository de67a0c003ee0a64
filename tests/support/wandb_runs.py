"""What a run's files say, and what arrived of it in W&B, for tests that compare the two."""

import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.programs import DEADLINE
from tests.support.runs import rows
from tests.support.wandb_server import ArrivedRun

SHORT = ("data=sample", "data.num_train=2051", "trainer.max_epochs=2", "model.hiddens=8", "hydra.run.dir=run")
OF_AN_EPOCH = ("train/perplexity", "val/perplexity", "val/bits_per_byte", "test/perplexity", "test/bits_per_byte",
               "clip_fraction", "chars_per_second", "lr")  # fmt: skip
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


def upload_command(stdout: str) -> str:
    """The command that uploads a run, as an offline run prints it, once."""
    (found,) = re.findall(r"^W&B +offline; upload with: (.+)$", stdout, re.MULTILINE)
    return str(found)


def wandb_command(command: str, cwd: Path, **environment: str) -> str:
    """What `wandb …` prints, typed into a shell in this folder."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | {"PATH": programs} | environment
    done = subprocess.run(command, shell=True, cwd=cwd, env=variables, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout
