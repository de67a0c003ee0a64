"""How far a sweep says it is."""

import json
import re
import time
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.utils import JobReturn

from tests.support.programs import assert_succeeded, call_program
from timemachine.cli.jobs import count_jobs, in_words, seconds_left
from timemachine.cli.schema import VERSION
from timemachine.cli.sweep import SweepReport as SweepProgress
from timemachine.config import REPOSITORY

SWEEP = ("-m", "data=sample", "trainer.max_epochs=1", "model.hiddens=4", "logger=csv", "hydra.sweep.dir=sweep")
LINE = re.compile(r"^job   (\d)  (\w+) +val +[\d.]+  (\d of \d)(?:(, ).+ left)?$", re.MULTILINE)


def test_a_sweep_says_after_each_job_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call_program("train.py", *SWEEP, "seed=0,1,2")
    assert done.returncode == 0, done.stderr
    assert LINE.findall(done.stdout) == [
        ("0", "completed", "1 of 3", ", "),
        ("1", "completed", "2 of 3", ", "),
        ("2", "completed", "3 of 3", ""),
    ]
    for number in "012":  # as if they had been run yesterday, and one not to its end
        path = tmp_path / "sweep" / number / "summary.json"
        summary = json.loads(path.read_text()) | {"started": "2026-01-01T00:00:00+0000"}
        path.write_text(json.dumps(summary | ({"status": "interrupted"} if number == "1" else {})))
    done = call_program("train.py", *SWEEP, "seed=0,1,2", "resume=sweep")
    assert done.returncode == 0, done.stderr
    assert "\ndone   2 of 3 jobs\n" in done.stdout
    assert LINE.findall(done.stdout) == [("1", "completed", "3 of 3", "")]


def test_a_job_that_fails_counts_too_and_a_single_run_has_no_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call_program("train.py", *SWEEP, "model.hiddens=0,4")
    assert done.returncode == 1
    assert re.search("^job   0  failed     val      nan  1 of 2, ", done.stdout, re.MULTILINE)
    assert re.search("^job   1  completed  val .*  2 of 2$", done.stdout, re.MULTILINE)
    done = call_program("train.py", *SWEEP[1:5], "hydra.run.dir=run")
    assert_succeeded(done)
    assert "job" not in done.stdout


@pytest.mark.parametrize(
    ("typed", "jobs"),
    [
        (["seed=0,1", "model.lr=1,2,3"], 6),
        (["seed=range(5)", "trainer=cpu"], 5),
        (["data=glob(*)"], 3),
        (["seed=0,1", "seed=0,1,2"], 3),
        (["exercise=clipping"], 120),
        (["exercise=clipping", "seed=0"], 24),
    ],
)
def test_jobs_are_counted_as_the_sweeper_does(typed: list[str], jobs: int) -> None:
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION):
        chosen = [name for name in typed if name.startswith("exercise=")]
        config = compose("train", chosen, return_hydra_config=True)
        config.hydra.overrides.task = typed
        assert count_jobs(config) == jobs


@pytest.mark.parametrize(
    ("ended", "running", "jobs", "elapsed", "left"),
    [
        (1, 0, 10, 60, 9 * 60),  # one at a time
        (2, 0, 10, 60, 4 * 60),  # two at a time, side by side
        (1, 1, 10, 60, 340),
        (3, 1, 4, 70, 10),
        (1, 0, 2, 0, 0),
    ],
)
def test_the_time_left_follows_from_the_jobs_that_ended(
    ended: int, running: int, jobs: int, elapsed: float, left: float
) -> None:
    assert seconds_left(ended, running, jobs, elapsed) == pytest.approx(left)


def test_a_time_is_told_as_exactly_as_it_is_known() -> None:
    seconds = {0: "less than a minute", 40: "about 1 minute", 38 * 60 + 20: "about 38 minutes", 5400: "about 1.5 hours"}
    assert {length: in_words(length) for length in seconds} == seconds


def test_jobs_before_a_sweep_was_resumed_count_but_not_their_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress, now = SweepProgress(), time.time()
    progress.jobs, progress.began = 5, int(now - 120)
    for number, (ago, status) in enumerate(
        [(9999, "completed"), (110, "completed"), (60, "completed"), (99999, "failed")]
    ):
        (tmp_path / str(number)).mkdir()
        summary = {
            "status": status, "message": None, "settings": {}, "metrics": {"val/perplexity": 7.0},
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now - ago)),
        }  # fmt: skip
        (tmp_path / str(number) / "summary.json").write_text(json.dumps(summary))
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION):
        typed = [f"hydra.sweep.dir={tmp_path}", "hydra.job.num=2", "hydra.job.id=2"]
        progress.on_job_end(compose("train", typed, return_hydra_config=True), JobReturn())
    assert capsys.readouterr().out == "job   2  completed  val    7.000  3 of 5, about 2 minutes left\n"
