"""Print the files of the project that train.py executes, and their lines: python -m tests.reader.

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


def executed(*typed: str) -> dict[str, int]:
    """Return the files that train.py executes with these overrides, with their numbers of lines."""
    names: set[str] = set()

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        is_function = code.co_flags & inspect.CO_OPTIMIZED  # excludes the bodies of modules and classes
        if event == "call" and is_function and code.co_filename.startswith(str(SOURCE)):
            names.add(code.co_filename)

    sys.argv = [str(REPOSITORY / "train.py"), *typed]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        sys.setprofile(note)
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.setprofile(None)
        os.chdir(REPOSITORY)
    paths = [Path(name).relative_to(SOURCE) for name in sorted(names)]
    counted = [path for path in paths if path.parts[0] != "page"]
    return {path.as_posix(): len((SOURCE / path).read_text(encoding="utf-8").splitlines()) for path in counted}


if __name__ == "__main__":
    lines = executed("data=sample", "trainer.max_steps=2", "logger=csv")
    for name, number in lines.items():
        print(f"{number:6}  {name}")
    print(f"{sum(lines.values()):6}  lines in {len(lines)} files")
