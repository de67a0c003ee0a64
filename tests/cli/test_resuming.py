"""A sweep that is resumed by another command than the one that began it: refused before anything is written."""

import os
from pathlib import Path

import pytest

from tests.support.programs import call_program

SWEEP = ["-m", "data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=2", "trainer=cpu", "logger=csv"]
SWEEP += ["trainer.max_epochs=1", "hydra.sweep.dir=sweep"]


def what_is_there() -> dict[str, tuple[bytes, int]]:
    """Each file with its content and the time of its last change."""
    paths = [Path(place, name) for place, _, names in os.walk(".") for name in names]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def test_a_sweep_goes_on_with_its_own_jobs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call_program("train.py", *SWEEP, "seed=0,1")
    assert done.returncode == 0, done.stderr
    before = what_is_there()
    for more, says in (
        (["seed=0,1", "model.sigma=1"], "resume=sweep: its job 0 has other settings; type the command that began it"),
        (["seed=0,2"], "resume=sweep: its job 1 has other settings; type the command that began it"),
        (["seed=0,1", "model.lr=abc"], "model.lr=abc: must be a positive number; type for example model.lr=1.0"),
        (
            ["seed=0,1", "hydra/sweeper=search"],
            "resume=sweep: a search goes on in another folder; type the same hydra.sweeper.storage and .study_name "
            "as before, without resume=",
        ),
    ):
        done = call_program("train.py", *SWEEP, *more, "resume=sweep")
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {says}\n")
        assert what_is_there() == before
    done = call_program("train.py", *SWEEP, "seed=0,1,2", "model.sigma=0.01", "resume=sweep")  # one more; a default
    assert done.returncode == 0, done.stderr
    assert Path("sweep/2/summary.json").exists()
