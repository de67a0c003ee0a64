"""Atomic writes of a run's files: the run is killed, or the disk is full, at each system call that writes.

`make torture` tests every call, .ci/run one of 200: writes, syncs, renames and so on in the run's folder, as counted
by `tests/proof/faults.c`. The run is then resumed and must equal an undisturbed one.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.support.programs import Done, run_program
from tests.support.runs import what_is_left
from timemachine.config import REPOSITORY
from timemachine.page.epochs import EPOCH_WEIGHTS, read_weights
from timemachine.run.load import load_model
from timemachine.run.record import read_summary

EVERY = int(os.environ.get("FAULTS_EVERY", 200))  # `make torture`: 1
PARTS = 4 if EVERY == 1 else 1  # for several cores
FAULTS = {"killed": "kill", "killed halfway through a write": "halfway"}
FAULTS |= {"a full disk": str(errno.ENOSPC)}
RUN = ["data=sample", "data.num_train=300", "data.num_val=100", "data.batch_size=128", "data.num_steps=8"]
RUN += ["model.hiddens=4", "model.lr=2", "logger=csv", "trainer.max_epochs=2", "hydra.run.dir=run"]
RESUME = ["resume=run", "logger=csv", "trainer.max_epochs=2"]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None or sys.platform != "linux":
        pytest.skip("needs Linux and a C compiler")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = REPOSITORY / "tests/proof/faults.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


@dataclass
class Disk:
    """A folder for train.py, in which system calls that write can fail."""

    library: Path
    folder: Path
    typed: list[str]  # arguments of train.py
    calls: list[str] = field(default_factory=list)  # name and path of each call without a fault
    undisturbed: tuple[object, ...] = ()  # the final content of the folder without a fault

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def train(self, *arguments: str, **fault: str) -> Done:
        if fault:
            fault |= {"LD_PRELOAD": str(self.library), "FAULT_IN": str(self.run)}
        return run_program("train.py", *arguments, cwd=self.folder, **fault)

    def as_before(self) -> None:
        """Restore the folder from before the run."""
        shutil.rmtree(self.run, ignore_errors=True)
        if (self.folder / "before").exists():
            shutil.copytree(self.folder / "before", self.run)


def assert_whole(run: Path) -> None:
    """Check that each file is complete.

    Tables may end in a partial row. Hydra writes its files before summary.json exists.
    """
    for path in run.rglob("*"):
        if path.is_dir() or path.suffix == ".part" or path.name == ".lock":
            continue
        if path.suffix == ".json":
            assert read_summary(run)["status"]
        elif path.name == EPOCH_WEIGHTS:
            assert read_weights(run)
        elif path.suffix in (".ckpt", ".safetensors"):
            assert load_model(str(path))
        elif path.suffix == ".csv":
            lines = path.read_text().splitlines(keepends=True)
            assert all(line.endswith("\n") and line.count(",") == lines[0].count(",") for line in lines[:-1])
        elif path.suffix == ".yaml":
            assert not (run / "summary.json").exists() or yaml.safe_load(path.read_text())
        else:
            end = {".png": rb"IEND.{4}$", ".html": rb"</html>\n$", ".txt": rb"\n$"}[path.suffix]
            assert re.search(end, path.read_bytes(), re.DOTALL), path


def everything(run: Path) -> tuple[object, ...]:
    """Return the content of a completed run."""
    names = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    kept, sample = (run / EPOCH_WEIGHTS).read_bytes(), (run / "sample.txt").read_text()
    return names, what_is_left(run), kept, sample, read_summary(run)["status"]


@pytest.fixture(scope="module", params=["a run", "a resumed run"])
def disk(request: pytest.FixtureRequest, library: Path, tmp_path_factory: pytest.TempPathFactory) -> Disk:
    disk = Disk(library, tmp_path_factory.mktemp("disk"), RUN)
    if request.param == "a resumed run":
        assert disk.train(*RUN, "trainer.max_epochs=1").returncode == 0
        disk.run.rename(disk.folder / "before")
        disk.typed = RESUME
    disk.as_before()
    done = disk.train(*disk.typed, FAULT_LIST=str(disk.folder / "calls"))
    assert done.returncode == 0, done.stderr
    disk.calls = (disk.folder / "calls").read_text().splitlines()
    disk.undisturbed = everything(disk.run)
    return disk


def assert_goes_on(disk: Disk, fault: str, number: int) -> None:
    disk.as_before()
    stopped = disk.train(*disk.typed, FAULT=FAULTS[fault], FAULT_AT=str(number))
    preloaded = f"FAULT={FAULTS[fault]} FAULT_AT={number} FAULT_IN=$PWD/run LD_PRELOAD=faults.so"
    where = f"{preloaded}, {disk.calls[number - 1]}: {stopped.returncode}, {stopped.stderr}"
    if fault.startswith("killed"):
        assert stopped.returncode == -signal.SIGKILL, where
    else:
        assert stopped.returncode in (0, 1), where
        assert not stopped.returncode or os.strerror(int(FAULTS[fault])) in stopped.stderr, where
    assert_whole(disk.run)
    again = disk.train(*RESUME)
    if again.returncode != 0:  # the run had not written its summary
        assert again.stderr.count("\n") == 1 and not (disk.run / "summary.json").exists(), where + again.stderr
        again = disk.train(*disk.typed)
    assert again.returncode == 0, where + again.stderr
    assert everything(disk.run) == disk.undisturbed, where


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", FAULTS)
def test_it_goes_on_after(fault: str, part: int, disk: Disk) -> None:
    name = "write " if "halfway" in fault else ""
    numbers = [number for number, call in enumerate(disk.calls, 1) if call.startswith(name)]
    first = EVERY * part + EVERY * [*FAULTS].index(fault) // len(FAULTS)  # each fault has other calls
    for number in numbers[first % len(numbers) :: EVERY * PARTS]:
        assert_goes_on(disk, fault, number)
