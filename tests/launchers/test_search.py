"""`hydra/sweeper=search`: Optuna's trials are the jobs; a search that was cut short goes on as if it had not been."""

import json
from collections.abc import Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra_plugins import timemachine_search_sweeper
from hydra_plugins.timemachine_search_sweeper import SearchSweeper
from omegaconf import OmegaConf
from optuna.storages.journal import JournalFileBackend

from tests.conftest import Program
from tests.support.jobs import change_summary, leave_job
from timemachine.cli.schema import CONF, VERSION
from timemachine.errors import SettingError

PARAMS = {
    "model.lr": "tag(log, interval(0.1, 10))",
    "model.hiddens": "int(interval(4, 64))",
    "model.activation": "tanh,relu",
}


class Launcher:
    """Leaves jobs whose perplexity is best for a rate of 1. `dies_at`: the job at which the sweep is interrupted."""

    def __init__(self, folder: Path, dies_at: int | None = None, fails: int | None = None) -> None:
        self.folder, self.dies_at, self.fails = folder, dies_at, fails
        self.launched: list[tuple[int, list[str]]] = []

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            if number == self.dies_at:
                raise KeyboardInterrupt
            self.launched.append((number, list(overrides)))
            settings = dict(override.split("=") for override in overrides)
            val = 7 + abs(float(settings["model.lr"]) - 1)
            if not (self.folder / str(number)).exists():
                leave_job(self.folder, settings, number=number, metrics={"val/perplexity": val})
            if number == self.fails:
                change_summary(self.folder / str(number), status="failed", metrics={})
        return []


def search(folder: Path, launcher: Any, *arguments: str, n_trials: int = 7, n_jobs: int = 2, seed: int = 0) -> None:
    """Run a search in a folder, with arguments as they are typed."""
    with initialize_config_dir(str(CONF), **VERSION):
        loader = GlobalHydra.instance().config_loader()
        sweeper = SearchSweeper(n_trials, n_jobs, seed, OmegaConf.create(PARAMS))
        sweeper.hydra_context = type("Context", (), {"config_loader": loader})()
        sweeper.config = compose("train", ["logger=csv"])
        sweeper.folder, sweeper.launcher = folder, launcher
        sweeper.sweep(list(arguments))


def test_jobs_are_within_the_intervals_and_the_best_is_named(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path / "search")
    search(tmp_path / "search", launcher, "seed=3", "model.hiddens=8,16", n_trials=12)
    assert [number for number, _ in launcher.launched] == list(range(12))
    jobs = [dict(override.split("=") for override in overrides) for _, overrides in launcher.launched]
    assert all(job["seed"] == "3" and 0.1 <= float(job["model.lr"]) <= 10 for job in jobs)
    assert {job["model.hiddens"] for job in jobs} == {"8", "16"}  # what was typed replaces the interval
    assert {job["model.activation"] for job in jobs} == {"tanh", "relu"}
    found = OmegaConf.load(tmp_path / "search/optimization_results.yaml")
    distances = [abs(float(job["model.lr"]) - 1) for job in jobs]
    assert found.best_job == distances.index(min(distances))
    assert found.best_value == pytest.approx(7 + min(distances))


@pytest.mark.parametrize("dies_at", [0, 1, 4, 5])
def test_a_search_that_is_cut_short_goes_on_as_if_it_had_not_been(dies_at: int, tmp_path: Path) -> None:
    whole = Launcher(tmp_path / "whole")
    search(tmp_path / "whole", whole, "seed=3")
    first, second = Launcher(tmp_path / "cut", dies_at), Launcher(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "cut", first, "seed=3")
    search(tmp_path / "cut", second, "seed=3", "resume=cut")
    again = [(number, [o for o in overrides if o != "resume=cut"]) for number, overrides in second.launched]
    assert sorted((dict(first.launched) | dict(again)).items()) == whole.launched
    assert min(number for number, _ in again) == dies_at // 2 * 2  # only the two that were under way run again


@pytest.mark.parametrize("write", range(8))
def test_a_search_that_is_interrupted_at_any_of_its_writes_goes_on(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut, search_of = Launcher(tmp_path / "whole"), Launcher(tmp_path / "cut"), partial(search, n_trials=3)
    search_of(tmp_path / "whole", whole)
    writes, append = count(), JournalFileBackend.append_logs

    def interrupted(self: Any, logs: Any) -> None:
        if next(writes) == write:
            raise KeyboardInterrupt
        append(self, logs)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(JournalFileBackend, "append_logs", interrupted)
        search_of(tmp_path / "cut", cut)
    search_of(tmp_path / "cut", cut, "resume=cut")
    jobs = {number: [o for o in overrides if o != "resume=cut"] for number, overrides in cut.launched}
    assert sorted(jobs.items()) == whole.launched


def test_another_seed_tries_other_settings(tmp_path: Path) -> None:
    launchers = [Launcher(tmp_path / str(seed)) for seed in (0, 1)]
    for seed, launcher in enumerate(launchers):
        search(tmp_path / str(seed), launcher, n_trials=5, seed=seed)
    ours, theirs = ({tuple(overrides) for _, overrides in launcher.launched} for launcher in launchers)
    assert len(ours) == len(theirs) == 5 and not ours & theirs


def test_a_search_that_ended_can_have_more_trials(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    search(tmp_path, launcher, n_trials=2)
    search(tmp_path, launcher, n_trials=2)
    assert len(launcher.launched) == 2
    search(tmp_path, launcher, n_trials=5)
    assert [number for number, _ in launcher.launched] == [0, 1, 2, 3, 4]


def test_a_job_that_failed_is_no_result(tmp_path: Path) -> None:
    search(tmp_path, Launcher(tmp_path, fails=1), n_trials=4)
    states = [json.loads(line).get("state") for line in (tmp_path / "study.log").read_text().splitlines()]
    assert sorted(state for state in states if state) == [1, 1, 1, 3]  # complete; failed
    assert OmegaConf.load(tmp_path / "optimization_results.yaml").best_job != 1


@pytest.mark.parametrize("other", [["seed=4"], ["seed=3", "model.lr=interval(1,2)"], ["seed=3", "model.lr=1"]])
def test_a_search_goes_on_with_its_own_settings_alone(other: list[str], tmp_path: Path) -> None:
    launcher = Launcher(tmp_path)
    search(tmp_path, launcher, "seed=3", n_trials=2)
    before = (tmp_path / "study.log").read_bytes()
    with pytest.raises(SettingError, match="is a search of other settings; type what began it"):
        search(tmp_path, launcher, *other, "resume=x", n_trials=3)
    assert (tmp_path / "study.log").read_bytes() == before and len(launcher.launched) == 2


@pytest.mark.parametrize(
    ("was", "now", "says"),
    [
        ('"op_code"', '"no_code"', r"its study\.log is damaged \(KeyError: .*\); type another sweep"),
        ("{", "[", r"its study\.log is damaged \(.*\); type another sweep"),
        ('"model.lr"', '"+hydra.callbacks.x"', "is a search of other settings"),
        ('\\"low\\": 0.1', '\\"low\\": 0.01', "is a search of other settings"),
    ],
)
def test_a_strangers_journal_is_refused_in_one_line(was: str, now: str, says: str, tmp_path: Path) -> None:
    """What it has of a trial that was cut short becomes arguments of a job, which Hydra would obey."""
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path, Launcher(tmp_path, dies_at=2))
    journal = tmp_path / "study.log"
    assert was in journal.read_text()
    journal.write_text(journal.read_text().replace(was, now))
    launcher = Launcher(tmp_path)
    with pytest.raises(SettingError, match=f"^resume={tmp_path}: {says}"):
        search(tmp_path, launcher, f"resume={tmp_path}")
    assert not launcher.launched


def test_without_its_extra_it_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timemachine_search_sweeper, "find_spec", lambda name: None)
    with pytest.raises(SettingError) as caught:
        SearchSweeper(1, 1, 0, None).setup(hydra_context=None, task_function=len, config=None)  # type: ignore[arg-type]
    assert str(caught.value) == "hydra/sweeper: Optuna is not installed; type pip install -e '.[search]'"


def test_hydra_finds_it_under_optunas_name() -> None:
    with initialize_config_dir(str(CONF), **VERSION):
        for name in ("optuna", "search"):
            sweeper = compose("train", [f"hydra/sweeper={name}"], return_hydra_config=True).hydra.sweeper
            assert sweeper["_target_"] == "hydra_plugins.timemachine_search_sweeper.SearchSweeper"
    assert "SearchSweeper" in [found.__name__ for found in Plugins.instance().discover(Sweeper)]


def test_a_search_by_the_program(program: Program, tmp_path: Path) -> None:
    small = [
        "data=sample",
        "data.num_train=64",
        "data.num_val=64",
        "trainer.max_epochs=1",
        "trainer.limit_test_batches=0",
    ]
    command = ["-m", "hydra/sweeper=optuna", "logger=csv", *small, "model.hiddens=4"]
    command += ["hydra.sweep.dir=sweep", "hydra.sweeper.n_jobs=1"]
    done = program("train.py", *command, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    assert "Best: job " in done.stdout and "2 of 2" in done.stdout
    done = program("train.py", *command, "hydra.sweeper.n_trials=3", "resume=sweep")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "sweep/summary.csv").read_text().splitlines()
    assert len(rows) == 4 and "model.lr,data.num_steps" in rows[0]
