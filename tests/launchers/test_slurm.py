"""Sweeps and several nodes on Slurm: tools/slurm/start runs a cluster of two nodes on this machine."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import wait_until
from tests.support.programs import DEADLINE, Program, assert_succeeded
from tests.support.runs import epochs, rows, summary
from timemachine.config import REPOSITORY
from timemachine.run.run import is_running

pytestmark = pytest.mark.slurm

SHORT = ("data.corpus=sample", "logger=csv", "trainer=cpu")
SWEEP = ("-m", "hydra/launcher=submitit_slurm", "hydra.sweep.dir=sweep", *SHORT)


@pytest.fixture(scope="module")
def cluster() -> str:
    """Return the path to slurm.conf. The cluster keeps running until tools/slurm/stop."""
    if not (hasattr(os, "geteuid") and os.geteuid() == 0):
        pytest.skip("a Slurm cluster for tests needs root")
    if shutil.which("slurmctld") is None and shutil.which("apt-get") is None:
        pytest.skip("there is no Slurm, nor apt-get to install it")
    done = subprocess.run([REPOSITORY / "tools/slurm/start"], capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(autouse=True)
def _on_the_cluster(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", cluster)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # both nodes are this machine; their names do not resolve
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Return a thread that runs a sweep while its jobs are killed."""
    with ThreadPoolExecutor(1) as pool:
        yield pool
        slurm("scancel", "--user=root")


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=DEADLINE).stdout


def array(sweep: Path) -> str:
    (number,) = [path.name for path in (sweep / ".submitit").iterdir() if path.name.isdigit()]
    return number


def test_two_nodes(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two nodes share a folder that is not typed, and give the same numbers as one process."""
    settings = ("data.corpus=sample", "logger=csv", "trainer.max_epochs=3")
    nodes = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=1", "trainer.num_nodes=2")
    command = f"srun {sys.executable} {REPOSITORY}/train.py {' '.join(nodes + settings)}"
    monkeypatch.chdir(tmp_path)
    slurm("sbatch", "--wait", "--nodes=2", "--ntasks-per-node=1", "--output=log", f"--wrap={command}")
    (folder,) = tmp_path.glob("outputs/*")
    assert_succeeded(program("train.py", *settings, "trainer=cpu", "hydra.run.dir=one"))
    for file in ("metrics.csv", "steps.csv"):
        together, alone = rows(folder / file), rows(tmp_path / "one" / file)
        assert len(together) == len(alone) > 0
        for row, expected in zip(together, alone, strict=True):
            row.pop("chars_per_second", None)
            assert row == pytest.approx({name: expected[name] for name in row}, rel=1e-5)


def test_preempted_job_resumes(program: Program, tmp_path: Path, background: ThreadPoolExecutor) -> None:
    job = tmp_path / "sweep/0"
    running = background.submit(program, "train.py", *SWEEP, "trainer.max_epochs=600")
    wait_until(lambda: epochs(job) > 5)
    slurm("srun", "--partition=urgent", "--nodes=2", "true")
    assert not is_running(job)  # Slurm may send a second signal before the status is recorded
    assert 5 < epochs(job) < 600
    # By default, Slurm waits two minutes. The old credential stays revoked for the rest of the current second.
    slurm("scontrol", "update", f"jobid={array(tmp_path / 'sweep')}", "StartTime=now+3")
    assert_succeeded(running.result())
    assert summary(job)["status"] == "completed"
    assert [row["epoch"] for row in rows(job / "metrics.csv")] == list(range(1, 601))


def test_terminated_run_is_requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script of docs/clusters.md requeues a run that SIGTERM has ended, which then continues."""
    settings = f"data.corpus=sample logger=csv trainer=cpu trainer.max_epochs=600 hydra.run.dir={tmp_path}/run"
    run = f"srun {sys.executable} {REPOSITORY}/train.py {settings}"
    script = f"{run} || {{ test $? -eq 130 && scontrol requeue $SLURM_JOB_ID; }}"
    monkeypatch.chdir(tmp_path)
    log = ("--requeue", "--open-mode=append", "--output=log")
    job = slurm("sbatch", "--parsable", "--ntasks=1", *log, f"--wrap={script}").strip()
    try:
        wait_until(lambda: epochs(tmp_path / "run") > 5)
        slurm("scancel", "--signal=TERM", job)  # as --signal=TERM@60 does
        wait_until(lambda: "PENDING" in slurm("squeue", "--noheader", "--format=%T", f"--jobs={job}"))
        assert summary(tmp_path / "run")["status"] == "interrupted"
        slurm("scontrol", "update", f"jobid={job}", "StartTime=now+3")
        wait_until(lambda: summary(tmp_path / "run")["status"] == "completed")
    finally:
        slurm("scancel", "--user=root")
    assert [row["epoch"] for row in rows(tmp_path / "run/metrics.csv")] == list(range(1, 601))
    assert summary(tmp_path / "run")["resumed"]
