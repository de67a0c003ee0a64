"""Run README's `make train` and `make test` with each Python of Debian testing: `python -m tools.other_python`.

It needs root on Debian, its package debootstrap and 20 GB. It clones the last commit into a temporary folder with
Debian testing, which it removes at the end; with ROOT=<folder> it keeps that folder, for another call.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from timemachine.config import REPOSITORY

PACKAGES = "python3-venv,make,git,g++,ca-certificates"
# What leads to the same package indexes as on this machine: names, certificates, and settings of apt and pip.
NETWORK = ("etc/resolv.conf", "etc/hosts", "etc/ssl/certs/ca-certificates.crt")
SETTINGS = ("etc/apt/apt.conf.d", "etc/apt/auth.conf.d", "etc/pip.conf", "etc/xdg/pip", "root/.config/pip")
# No other process sees these mounts, and they end with the command: whatever removes the root leaves /dev alone.
ENTER = 'mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" sh -ec "$1"'


def call(root: Path, command: str) -> int:
    """Run a command of the shell in the root; return its exit status."""
    environment = {**os.environ, "LANG": "C.UTF-8"}
    return subprocess.call(["unshare", "--mount", "sh", "-ec", ENTER, root, command], env=environment)


def create(root: Path) -> None:
    """Install Debian testing from this machine's mirror, with all of its Pythons, and clone the project."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Label: Debian"]
    mirror, *_ = subprocess.check_output(query, text=True).split()
    debootstrap = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", "testing", str(root), mirror]
    subprocess.run(["unshare", "--mount", *debootstrap], check=True)  # which mounts, too
    for name in (*NETWORK, *SETTINGS):
        source, target = Path("/", name), root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy(source, target)
    subprocess.run(["git", "clone", "--quiet", REPOSITORY, root / "timemachine"], check=True)
    found = "$(apt-cache pkgnames python3. | grep -x 'python3.[0-9]*-venv')"
    if call(root, f"apt-get update && apt-get install --yes --no-install-recommends {found}"):
        sys.exit("error: apt-get cannot install the Pythons of Debian testing")


def main(root: Path) -> int:
    """Print what make prints, and then each Python's exit status; return 1 if one is not 0."""
    if not (root / "timemachine").exists():
        create(root)
    pythons = sorted(path.name for path in root.glob("usr/bin/python3.*") if re.fullmatch(r"python3\.\d+", path.name))
    commands = "cd timemachine && rm -rf .venv && make train PYTHON={} && make test"
    status = {python: call(root, commands.format(python)) for python in pythons}
    print(*(f"{python}: exit status {number}" for python, number in status.items()), sep="\n")
    return int(any(status.values()))


if __name__ == "__main__":
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.exit("error: tools.other_python needs root, and Debian's package debootstrap")
    if kept := os.environ.get("ROOT"):
        sys.exit(main(Path(kept).absolute()))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(Path(folder)))
