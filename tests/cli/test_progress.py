"""Progress of a sweep: the numbers of the jobs and the printed lines."""

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.support.jobs import change_summary
from tests.support.programs import call_program
from timemachine.cli.schema import VERSION
from timemachine.cli.sweep import num_jobs
from timemachine.config import REPOSITORY

SWEEP = ("-m", "data=sample", "trainer.max_epochs=1", "model.hiddens=4", "logger=csv", "hydra.sweep.dir=sweep")
LINE = re.compile(r"^job   (\d)  (\w+) +val +[\d.–]+  (\d of \d)$", re.MULTILINE)


@pytest.mark.usefixtures("quick_calls")
def test_a_line_per_job(tmp_path: Path) -> None:
    """The error message of a failed job is printed once."""
    done = call_program("train.py", *SWEEP, "data.num_steps=30000,4,5")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert (done.stdout + done.stderr).count("data.num_train=10000: ") == 1
    assert LINE.findall(done.stdout) == [
        ("0", "failed", "1 of 3"),
        ("1", "completed", "2 of 3"),
        ("2", "completed", "3 of 3"),
    ]
    for number, status in enumerate(("failed", "interrupted", "completed")):
        change_summary(tmp_path / "sweep" / str(number), status=status)
    done = call_program("train.py", *SWEEP, "data.num_steps=30000,4,5", "resume=sweep")
    assert "\ndone          1 of 3 jobs\n" in done.stdout
    assert LINE.findall(done.stdout)[1] == ("1", "completed", "2 of 3")


@pytest.mark.usefixtures("quick_calls")
def test_shared_mistake_is_one_line() -> None:
    done = call_program("train.py", *SWEEP, "data.corpus=/nowhere", "seed=0,1,2")
    assert done.returncode == 1 and done.stderr.count("data.corpus=/nowhere") == 1
    assert [job[:2] for job in LINE.findall(done.stdout)] == [(str(number), "failed") for number in range(3)]


@pytest.mark.parametrize(
    ("typed", "jobs"),
    [
        (["seed=0,1", "model.lr=1,2,3", "trainer=cpu"], 6),
        (["data=glob(*)"], 3),
        (["seed=${data.start}", "training.carry_state=1,0"], 2),
        (["exercise=clipping", "data.start=0"], 12),
        (["exercise=how_low", "recipe=novel", "seed=0", "data.corpus=sample,time_machine"], 2),  # unique for each run
    ],
)
def test_number_of_jobs(typed: list[str], jobs: int) -> None:
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION):
        chosen = [name for name in typed if name.startswith("exercise=")]
        config = compose("train", chosen, return_hydra_config=True)
        config.hydra.overrides.task = typed
        assert num_jobs(config) == jobs
