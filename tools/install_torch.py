"""Install PyTorch with pip, on Linux without an NVIDIA driver from PyTorch's index of CPU builds: make train runs this.

pip's own choice on Linux are CUDA builds, which are ten times as large. Uses the standard library only.
"""

import platform
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
SECONDS = 5  # for the index to answer; not every machine can reach it


def wants_cpu_build() -> bool:
    """Return whether CUDA builds are pip's choice, but of no use."""
    has_driver = shutil.which("nvidia-smi") is not None or Path("/proc/driver/nvidia").exists()
    return platform.system() == "Linux" and not has_driver


def answers(index: str) -> bool:
    """Return whether an index lists torch within `SECONDS`, including the time to resolve its name."""
    code = f"import urllib.request; urllib.request.urlopen({index + '/torch/'!r}).read()"
    try:
        subprocess.run([sys.executable, "-c", code], timeout=SECONDS, capture_output=True, check=True)
    except subprocess.SubprocessError:
        return False
    return True


def main(arguments: list[str], index: str = CPU_BUILDS) -> int:
    """Install torch with these arguments of `pip install`; return pip's exit status.

    `--locked`: in the version of uv.lock, instead of the newest one that pyproject.toml allows.
    """
    name = "uv.lock" if "--locked" in arguments else "pyproject.toml"
    content = tomllib.loads((Path(__file__).parents[1] / name).read_text(encoding="utf-8"))
    if name == "uv.lock":
        (torch,) = (f"torch=={package['version']}" for package in content["package"] if package["name"] == "torch")
    else:
        (torch,) = (each for each in content["project"]["dependencies"] if re.match(r"torch\b", each))
    arguments = [each for each in arguments if each != "--locked"]
    command = [sys.executable, "-m", "pip", "install", *arguments, torch]
    if wants_cpu_build() and answers(index) and subprocess.call([*command, "--index-url", index]) == 0:
        return 0
    return subprocess.call(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
