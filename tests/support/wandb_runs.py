"""Compare the files of a run with the data that W&B received."""

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
    """Return the values of these columns by `key`, merging rows: the server stores test metrics in a separate row."""
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        if numbers := {name: row[name] for name in columns if name in row}:
            found.setdefault(int(row[key]), {}).update(numbers)
    return found


def assert_arrived(run: ArrivedRun, folder: Path, resumed: bool = False) -> None:
    """Check that each number of the folder was uploaded once, and no others. Resumed runs keep earlier tests."""
    of_an_epoch = [name for name in OF_AN_EPOCH if not (resumed and name.startswith("test/"))]
    written = by("epoch", of_an_epoch, rows(folder / "metrics.csv"))
    assert written and by("epoch", of_an_epoch, run.history) == written
    written = by("step", OF_A_STEP, rows(folder / "steps.csv"))
    assert written and by(STEP, OF_A_STEP, run.history) == written
    steps = [row[STEP] for row in run.history if "loss" in row]
    assert len(steps) == len(set(steps))


def upload_command(stdout: str) -> str:
    """Return the upload command that an offline run prints once."""
    (found,) = re.findall(r"^W&B +offline; upload with: (.+)$", stdout, re.MULTILINE)
    return str(found)


def wandb_command(command: str, cwd: Path, **environment: str) -> str:
    """Run `wandb …` in a shell in this folder and return its output."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = os.environ | {"PATH": programs} | environment
    done = subprocess.run(command, shell=True, cwd=cwd, env=variables, capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout
