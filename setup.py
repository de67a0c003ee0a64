"""Compile the fused kernel where there is a compiler. Everything else is in pyproject.toml."""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "src"))

from timemachine.kernels import build


class BuildFused(build_ext):
    """`build.build` instead of one call of one compiler; without a compiler the package is complete, but slower."""

    def build_extension(self, ext: Extension) -> None:
        """Compile the library to where the package is built, or say in one line why not."""
        try:
            build.build(Path(self.get_ext_fullpath(ext.name)))
        except OSError as error:
            print(f"timemachine is installed without its fused kernel: {error}")

    def get_ext_filename(self, fullname: str) -> str:
        """Return a file name without Python's version: ctypes loads the library in any version."""
        return fullname.replace(".", os.sep) + ".so"


class AnyPython(bdist_wheel):
    """A wheel for any version of Python on this platform, since ctypes loads the library."""

    def get_tag(self) -> tuple[str, str, str]:
        """Return the tags of the wheel's file name."""
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[Extension("timemachine.kernels._fused", ["src/timemachine/kernels/fused.cpp"], optional=True)],
    cmdclass={"build_ext": BuildFused, "bdist_wheel": AnyPython},
)
