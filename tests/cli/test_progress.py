"""How far a sweep says it is."""

import re
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir

from tests.support.jobs import change_summary, leave_job
from tests.support.programs import call_program
from timemachine.cli.schema import VERSION
from timemachine.cli.sweep import checked_jobs, print_progress
from timemachine.config import REPOSITORY

SWEEP = ("-m", "data=sample", "trainer.max_epochs=1", "model.hiddens=4", "logger=csv", "hydra.sweep.dir=sweep")
LINE = re.compile(r"^job   (\d)  (\w+) +val +[\w.]+  (\d of \d)(?:(, ).+ left)?$", re.MULTILINE)


@pytest.mark.usefixtures("quick_calls")
def test_a_sweep_says_after_each_job_how_far_it_is(tmp_path: Path) -> None:
    done = call_program("train.py", *SWEEP, "model.hiddens=0,4,5")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.endswith("error: 1 of 3 jobs failed (job 0)\n")
    assert LINE.findall(done.stdout) == [
        ("0", "failed", "1 of 3", ", "),
        ("1", "completed", "2 of 3", ", "),
        ("2", "completed", "3 of 3", ""),
    ]
    for number, status in enumerate(("failed", "interrupted", "completed")):
        change_summary(tmp_path / "sweep" / str(number), status=status, started="2026-01-01T00:00:00+0000")
    done = call_program("train.py", *SWEEP, "model.hiddens=0,4,5", "resume=sweep")
    assert "\ndone   1 of 3 jobs\n" in done.stdout
    assert [found[:3] for found in LINE.findall(done.stdout)] == [("1", "completed", "2 of 3")]


@pytest.mark.parametrize(
    ("typed", "jobs"),
    [
        (["seed=0,1", "model.lr=1,2,3", "trainer=cpu"], 6),
        (["data=glob(*)"], 3),
        (["seed=0,1", "seed=0,1,2"], 3),
        (["exercise=clipping", "seed=0"], 24),
    ],
)
def test_jobs_are_counted_as_the_sweeper_does(typed: list[str], jobs: int) -> None:
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION):
        chosen = [name for name in typed if name.startswith("exercise=")]
        config = compose("train", chosen, return_hydra_config=True)
        config.hydra.overrides.task = typed
        assert checked_jobs(config) == jobs


def test_jobs_before_a_sweep_was_resumed_count_but_not_their_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    jobs = [(9999, "completed"), (110, "completed"), (60, "completed"), (99999, "failed")]
    for number, (ago, status) in enumerate(jobs):
        started = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now - ago))
        leave_job(tmp_path, {}, status=status, number=number, started=started, metrics={"val/perplexity": 7.0})
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION):
        typed = [f"hydra.sweep.dir={tmp_path}", "hydra.job.num=2", "hydra.job.id=2"]
        print_progress(compose("train", typed, return_hydra_config=True), 5, int(now - 120))
    assert capsys.readouterr().out == "job   2  completed  val    7.000  3 of 5, about 2 min left\n"
