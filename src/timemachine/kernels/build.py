"""Compile `fused.cpp` to `_fused.so`: `pip install` or `python -m timemachine.kernels.build`.

The source is compiled once for each instruction set of the processor's family, and `fused` selects one at run time, so
that the library runs on any processor of the family. This needs a C++17 compiler, GCC 9 or Clang 12 or later: the
environment variable CXX, or else `c++`, `g++` or `clang++`.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from timemachine import kernels


def build(library: Path, extra_flags: list[str] | None = None) -> None:
    """Compile the library, in seconds, and replace it atomically.

    Raises OSError, with a one-line message, if there is no compiler or it fails.
    """
    installed = [name for name in ("c++", "g++", "clang++") if shutil.which(name)]
    compiler = shlex.split(os.environ.get("CXX", "")) or installed[:1] or ["c++"]
    flags = [*kernels.FLAGS, f'-DSOURCE_HASH="{kernels.source_hash()}"', *(extra_flags or [])]
    sets = (kernels.X86_64 if platform.machine().lower() in ("x86_64", "amd64") else {}) | kernels.BASELINE
    library.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so on the same file system, where `replace` is atomic.
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects = {name: f"{folder}/{name}.o" for name in sets}
        source = ["-c", str(kernels.SOURCE)]
        jobs = [[f"-DKERNELS=fused_{name}", *more, *source, "-o", objects[name]] for name, more in sets.items()]
        _compile([*compiler, *flags], jobs)
        _compile([*compiler, *flags], [["-shared", *objects.values(), "-o", f"{folder}/library"]])
        Path(folder, "library").replace(library)


def _compile(command: list[str], jobs: list[list[str]]) -> None:
    """Run the command with the arguments of each job in parallel. Raises OSError if one fails, after all have ended."""
    try:
        processes = [subprocess.Popen([*command, *job], stderr=subprocess.PIPE, text=True) for job in jobs]
    except OSError as error:
        raise OSError(f"no C++ compiler: {error}") from error
    # All must end before an exception is raised, since the caller then removes their folder.
    messages = [process.communicate()[1] for process in processes]
    for process, message in zip(processes, messages, strict=True):
        if process.returncode:
            lines = message.splitlines() or ["no message"]
            raise OSError(f"{command[0]} failed: {next((line for line in lines if 'error' in line), lines[0])}")


def main() -> None:
    """Build the library unless it is up to date, and print one line."""
    if kernels.is_compiled():
        print(f"{kernels.LIBRARY.name} is up to date")
    else:
        try:
            build(kernels.LIBRARY)
        except OSError as error:
            sys.exit(f"timemachine runs without its fused kernel: {error}")
        print(f"{kernels.LIBRARY.name} is built")


if __name__ == "__main__":
    main()
