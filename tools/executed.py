"""Print the files of the project that train.py executes, their lines, and the functions: python -m tools.executed.

A file counts if one of its functions is called. The page, a separate folder, does not count.
"""

import inspect
import os
import runpy
import sys
import tempfile
from pathlib import Path
from types import FrameType
from typing import Any

from timemachine.config import REPOSITORY

SOURCE = REPOSITORY / "src/timemachine"
RUN = ("data.corpus=sample", "trainer.max_steps=2", "logger=csv")


def called(*typed: str) -> list[tuple[str, str]]:
    """Return the functions that train.py calls with these overrides, as file and name, in the order of first calls."""
    names: dict[tuple[str, str], None] = {}

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # excludes the bodies of modules and classes
        if event == "call" and is_function and code.co_filename.startswith(str(SOURCE)):
            names.setdefault((code.co_filename, code.co_qualname))

    sys.argv = [str(REPOSITORY / "train.py"), *typed]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.setprofile(note)
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.setprofile(None)
        os.chdir(REPOSITORY)
    return [(Path(file).relative_to(SOURCE).as_posix(), name) for file, name in names]


if __name__ == "__main__":
    functions = called(*RUN)
    files = sorted({file for file, _ in functions if not file.startswith("page/")})
    lines = {file: len((SOURCE / file).read_text(encoding="utf-8").splitlines()) for file in files}
    for name, number in lines.items():
        print(f"{number:6}  {name}")
    print(f"{sum(lines.values()):6}  lines in {len(lines)} files")
    print(*(f"{file}: {function}" for file, function in functions), sep="\n")
