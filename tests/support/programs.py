"""Run train.py, evaluate.py and generate.py in a new process or, ten times as fast, in this one."""

import io
import logging
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as pl
import torch

from timemachine.config import REPOSITORY

Done = subprocess.CompletedProcess[str]
Program = Callable[..., Done]
DEADLINE = 600  # in seconds, so that no test hangs
TINY = ["data.corpus=sample", "data.num_train=515", "data.num_val=100", "data.batch_size=256", "data.num_steps=8"]
TINY += ["model.hiddens=8"]
DDP = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]


def assert_succeeded(done: Done) -> None:
    """Check for exit status 0, no error and no traceback. Libraries may print to stderr."""
    assert done.returncode == 0, done.stderr
    assert not re.search("^(error: |Traceback)", done.stderr, re.MULTILINE), done.stderr


def run_program(name: str, *arguments: str, cwd: Path, **environment: str) -> Done:
    """Run a program, or `-m` and a module, or `-c` and code, in a new process in the folder `cwd`, and wait for it."""
    command = [name if name.startswith("-") else str(REPOSITORY / name), *arguments]
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=DEADLINE,
    )


def call_program(name: str, *arguments: str) -> Done:
    """Run a program in this process, and undo its changes to the process.

    As a script: Hydra would look for conf/ elsewhere if a module were imported.
    """
    output, errors, status = io.StringIO(), io.StringIO(), 0
    with (
        patch.object(sys, "argv", [str(REPOSITORY / name), *arguments]),
        patch.dict(os.environ),
        _process_as_before(),
        redirect_stdout(output),
        redirect_stderr(errors),
    ):
        try:
            runpy.run_path(str(REPOSITORY / name), run_name="__main__")
        except SystemExit as end:
            if isinstance(end.code, str):  # Python prints the message
                print(end.code, file=errors)
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess([name, *arguments], status, output.getvalue(), errors.getvalue())


@contextmanager
def with_callback(callback: pl.Callback) -> Iterator[None]:
    """Append a callback to the Trainer of a program that is called in this process."""
    fit = pl.Trainer.fit

    def fit_with_callback(trainer: pl.Trainer, *arguments: Any, **named: Any) -> None:
        trainer.callbacks.append(callback)  # type: ignore[attr-defined]
        fit(trainer, *arguments, **named)

    with patch.object(pl.Trainer, "fit", fit_with_callback):
        yield


@contextmanager
def _process_as_before() -> Iterator[None]:
    """Restore logging and PyTorch's choice of algorithms, and end W&B's process.

    Hydra disables other loggers. Deterministic algorithms fill new tensors in several threads, which would make a fork
    of this process hang.
    """
    root = logging.getLogger()
    handlers, level, is_deterministic = root.handlers[:], root.level, torch.are_deterministic_algorithms_enabled()
    with patch.object(logging, "raiseExceptions", True):
        yield
    if (wandb := sys.modules.get("wandb")) is not None:
        wandb.finish()
        wandb.teardown()  # forgets the environment of its first call
    torch.use_deterministic_algorithms(is_deterministic)
    root.handlers[:] = handlers
    root.setLevel(level)
    for logger in root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False
