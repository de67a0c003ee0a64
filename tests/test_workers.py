import os
import time

import pytest

from tests.conftest import Program
from timemachine.workers import _while_it_lives


def test_a_job_in_the_process_of_its_sweep_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib starts no other with n_jobs=1, or on a machine of one core."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    assert _while_it_lives(os.getpid(), max, (2, 3), {}) == 3
    time.sleep(0.1)
    assert not ended


@pytest.mark.slow
def test_a_sweep_in_one_process(program: Program) -> None:
    small = ("data=sample", "data.num_train=512", "data.num_val=100", "model.hiddens=4", "logger=csv")
    done = program(
        "train.py", "-m", *small, "trainer.max_epochs=1", "seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\ncontinuation  ") == 2
