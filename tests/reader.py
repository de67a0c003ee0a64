"""Print the files that a reader opens from `train.py` to the first gradient: python -m tests.reader.

The script starts the book's run with `model.backward=autograd` and records each function of the project that is called
before PyTorch computes the first gradient. Only files that data flow through count. Excluded are the command line, the
record, the loggers, the construction of the Trainer, and metrics. Of `config.py`, the two dataclasses that the lesson
uses count.
"""

import inspect
import os
import runpy
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

import torch

import timemachine.kernels.language_model  # noqa: F401  calls during its import do not count
from timemachine.config import REPOSITORY, Data, Model

FOR_THEIR_EFFECT = ("cli/", "run/", "page/", "evaluation/", "exercises/", "how_low/",
                    "weights_and_biases/", "errors.py", "perplexity.py", "kernels/__init__.py")  # fmt: skip
SOURCE = REPOSITORY / "src/timemachine"
OURS = (str(SOURCE), str(REPOSITORY / "train.py"))


class FirstGradient(BaseException):
    """Raised at the first gradient."""


def called() -> set[Path]:
    """Return the project's files with functions that are called before the first gradient."""
    found: set[Path] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # excludes the bodies of modules and classes
        if event == "call" and is_function and code.co_filename.startswith(OURS):
            found.add(Path(code.co_filename))

    def arrive(*_: Any, **__: Any) -> None:
        raise FirstGradient

    sys.argv = [str(REPOSITORY / "train.py"), "model.backward=autograd", "logger=csv"]
    sys.argv += ["trainer.enable_progress_bar=false", "hydra.run.dir=."]
    torch.Tensor.backward = arrive  # type: ignore[method-assign]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.setprofile(note)
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except FirstGradient:
            sys.setprofile(None)
        os.chdir(REPOSITORY)
    return found


def opened() -> dict[str, int]:
    """Return the counted files with the number of lines to read."""
    counted = {}
    for path in sorted(called()):
        name = str(path.relative_to(SOURCE if path.is_relative_to(SOURCE) else REPOSITORY))
        if not name.startswith(FOR_THEIR_EFFECT):
            counted[name] = len(path.read_text().splitlines())
    counted["config.py"] = sum(len(inspect.getsource(schema).splitlines()) for schema in (Model, Data))
    return counted


if __name__ == "__main__":
    counted = opened()
    for name, number in counted.items():
        print(f"{number:6}  {name}")
    print(f"{sum(counted.values()):6}  lines in {len(counted)} files")
