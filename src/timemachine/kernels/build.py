"""Compile `fused.cpp` to `_fused.so`: `pip install` does it, and so does `python -m timemachine.kernels.build`.

The source is compiled once for each instruction set of the processor's family, and `fused` chooses among them as the
program runs; so the library runs on any processor of the family. It needs a C++17 compiler, GCC 9 or Clang 12 or
later: what the environment variable CXX says, or else `c++`, `g++` or `clang++`.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("fused.cpp")
LIBRARY = Path(__file__).with_name("_fused.so")
FLAGS = ["-std=c++17", "-O3", "-ffp-contract=fast", "-fPIC", "-fvisibility=hidden"]
X86_64 = {  # what the code calls them, the bytes of a vector, and what the compiler needs to know
    "avx512": ["-DVECTOR_BYTES=64", "-mavx512f", "-mavx512dq", "-mavx512vl", "-mfma"],
    "avx2": ["-DVECTOR_BYTES=32", "-mavx2", "-mfma"],
}
BASELINE = {"baseline": ["-DVECTOR_BYTES=16"]}


class CannotBuild(Exception):
    """No compiler, or one that refuses the source; the message is one line."""


def source_hash() -> str:
    """Return the SHA-256 of the source and of how it is compiled, which the library carries. Raises OSError."""
    return hashlib.sha256(SOURCE.read_bytes() + repr((FLAGS, X86_64, BASELINE)).encode()).hexdigest()


def build(library: Path = LIBRARY, extra_flags: list[str] | None = None) -> None:
    """Compile the library, in seconds; it appears whole or not at all. Raises CannotBuild."""
    installed = [name for name in ("c++", "g++", "clang++") if shutil.which(name)]
    compiler = shlex.split(os.environ.get("CXX", "")) or installed[:1] or ["c++"]
    flags = [*FLAGS, f'-DSOURCE_HASH="{source_hash()}"', *(extra_flags or [])]
    sets = (X86_64 if platform.machine().lower() in ("x86_64", "amd64") else {}) | BASELINE
    parts = {name: [f"-DKERNELS=fused_{name}", *more] for name, more in sets.items()}
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        objects = [f"{folder}/{name}.o" for name in parts]
        jobs = [[*more, "-c", str(SOURCE), "-o", to] for to, more in zip(objects, parts.values(), strict=True)]
        _compile([*compiler, *flags], jobs)
        _compile([*compiler, *flags], [["-shared", *objects, "-o", f"{folder}/library"]])
        Path(folder, "library").replace(library)


def _compile(command: list[str], jobs: list[list[str]]) -> None:
    """Run the command with the arguments of each job, all at once. Raises CannotBuild when all have ended."""
    try:
        processes = [subprocess.Popen([*command, *job], stderr=subprocess.PIPE, text=True) for job in jobs]
    except OSError as error:
        raise CannotBuild(f"no C++ compiler: {error}") from error
    messages = [process.communicate()[1] for process in processes]
    for process, message in zip(processes, messages, strict=True):
        if process.returncode:
            lines = message.splitlines() or ["no message"]
            raise CannotBuild(f"{command[0]} failed: {next((line for line in lines if 'error' in line), lines[0])}")


def is_current(library: Path | None = None) -> bool:
    """Return whether the library was built from the source beside it, as it is now. It is read, but not loaded."""
    try:
        return f"source {source_hash()}".encode() in (library or LIBRARY).read_bytes()
    except OSError:
        return False


def main() -> None:
    """Build the library unless it is up to date, and say so in one line."""
    if not is_current():
        try:
            build()
        except (CannotBuild, OSError) as error:
            sys.exit(f"timemachine runs without its fused kernel: {error}")
        print(f"{LIBRARY.name} is built")


if __name__ == "__main__":
    main()
