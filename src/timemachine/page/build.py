"""Compile `kernel.cpp` to `kernel.wasm`, the kernel of page.html: `python -m timemachine.page.build`.

`make page-kernel` installs the compiler first. The result is a part of the repository, since few machines have a
compiler for WebAssembly. This one is Clang in the package `ziglang`, whose version pyproject.toml fixes: it gives the
same bytes on every machine.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

from timemachine import kernels

SOURCE = Path(__file__).with_name("kernel.cpp")
KERNEL = Path(__file__).with_name("kernel.wasm")
FLAGS = [
    *("-target", "wasm32-freestanding", "-mcpu=generic+simd128+bulk_memory", "-std=c++17", "-O3", "-s"),
    *("-nostdlib", "-ffreestanding", "-fno-exceptions", "-fno-rtti", "-fno-sanitize=undefined", "-Wl,--no-entry"),
]


def source_hash() -> str:
    """Return the SHA-256 of the sources and the compiler flags; `kernel.wasm` contains it."""
    sources = kernels.SOURCE.read_bytes() + SOURCE.read_bytes()
    return hashlib.sha256(sources + repr(FLAGS).encode()).hexdigest()


def build(kernel: Path) -> None:
    """Compile the kernel, in seconds, and replace it. Raises CalledProcessError without the compiler or if it fails."""
    include, definition = f"-I{kernels.SOURCE.parent}", f'-DSOURCE_HASH="{source_hash()}"'
    compiler = [sys.executable, "-m", "ziglang", "c++", *FLAGS]
    built = kernel.with_suffix(".new")
    subprocess.run([*compiler, include, definition, str(SOURCE), "-o", str(built)], check=True)
    built.chmod(0o644)  # the linker makes it executable
    built.replace(kernel)


if __name__ == "__main__":
    build(KERNEL)
