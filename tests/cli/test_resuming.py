"""What may be resumed or begun from, and by which command: everything else is refused before anything is written."""

import os
from pathlib import Path

import pytest
import torch

from tests.support.programs import assert_succeeded, call_program
from timemachine.corpus import Corpus
from timemachine.runs.summaries import read_summary

SHORT = ["data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=2", "trainer=cpu", "logger=csv"]
SWEEP = ["-m", *SHORT, "trainer.max_epochs=1", "hydra.sweep.dir=sweep"]


pytestmark = pytest.mark.usefixtures("quick_calls")


def what_is_there() -> dict[str, tuple[bytes, int]]:
    """Return each file with its content and the time of its last change."""
    paths = [Path(place, name) for place, _, names in os.walk(".") for name in names]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def refused(*arguments: str) -> str:
    """The one line with which train.py refuses; nothing is written."""
    before = what_is_there()
    done = call_program("train.py", *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert what_is_there() == before
    return done.stderr


def test_a_run_goes_on_with_what_it_was_started_with() -> None:
    folder = "run of mine, it's (1)"
    started = [*SHORT, "trainer.max_epochs=1", "model.sigma=0.02"]
    assert_succeeded(call_program("train.py", *started, 'hydra.run.dir="' + folder + '"'))
    for more, message in (
        ("-m", f"-m: resume={folder} is a single run"),
        ("exercise=relu", f"exercise=relu: resume={folder} is a single run"),
        ("hydra.run.dir=other", f"hydra.run.dir=other: resume={folder} goes on in its own folder"),
        ("resume=other", "resume=other: goes with one folder"),
        ("model.sigma=abc", "model.sigma=abc: must be a number from 0 to 10"),
    ):
        assert refused(f"resume={folder}", more).startswith(f"error: {message}; type ")
    assert "sigma: 0.02" in call_program("train.py", f"resume={folder}", "--cfg", "job").stdout
    assert_succeeded(call_program("train.py", f"resume={folder}", "trainer.max_epochs=2"))
    summary = read_summary(Path(folder))
    assert (summary["metrics"]["epoch"], summary["settings"]["model"]["sigma"]) == (2, 0.02)


def test_a_run_finds_its_text_from_another_folder(sample: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("my text.txt", "other.txt"):
        Path(name).write_text(sample.characters)
    short = [*SHORT[1:], "trainer.max_epochs=1"]
    assert_succeeded(call_program("train.py", *short, "data.corpus=my text.txt", "hydra.run.dir=one"))
    assert_succeeded(call_program("train.py", *short, "data.corpus=['my text.txt',other.txt]", "hydra.run.dir=two"))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for name in ("one", "two"):
        assert_succeeded(call_program("train.py", f"resume=../{name}", "trainer.max_epochs=2"))
        summary = read_summary(Path("..", name))
        assert (summary["metrics"]["epoch"], summary["settings"]["data"]["corpus"]) == (2, summary["corpus"]["source"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "is no folder of a run or a sweep; type resume=outputs/<date>/<time> or "),
        ({".hydra/overrides.yaml": "{"}, "its .hydra/overrides.yaml is damaged; type another run"),
        ({".hydra/overrides.yaml": "[]"}, "was cut short before it began; type the command that began it"),
        ({"multirun.yaml": "[]"}, "is no folder of a run or a sweep; type "),
    ],
)
def test_a_folder_of_nothing_that_can_go_on_is_one_line(files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        path = Path("folder", name)
        path.parent.mkdir(parents=True)
        path.write_text(content)
    assert refused("resume=folder").startswith(f"error: resume=folder: {message}")


def test_a_sweep_goes_on_with_its_own_jobs_alone() -> None:
    Path("sweep").mkdir()
    Path("sweep/multirun.yaml").touch()  # as a full disk leaves it before the first job
    assert_succeeded(call_program("train.py", *SWEEP, "seed=0,1"))
    for command, message in (
        ([*SWEEP, "seed=0,1", "model.sigma=1"], "resume=sweep: its job 0 has other settings"),
        ([*SWEEP, "seed=0,2"], "resume=sweep: its job 1 has other settings"),
        ([*SWEEP, "seed=0"], "resume=sweep: its job 1 is none of this command's"),
        ([*SWEEP, "seed=0,1", "model.lr=abc"], "model.lr=abc: must be a positive number"),
        (["exercise=relu"], "resume=sweep: is a sweep of exercise=none"),
        ([], "resume=sweep: goes on with a sweep"),
    ):
        assert refused(*command, "resume=sweep").startswith(f"error: {message}; type ")
    more = ["seed=0,1,2", "model.sigma=0.01"]  # one more job, and a default
    assert_succeeded(call_program("train.py", *SWEEP, *more, "resume=sweep"))
    assert Path("sweep/2/summary.json").exists()
    assert_succeeded(call_program("train.py", "resume=sweep/1", "trainer.max_epochs=2"))  # one job alone
    summary = read_summary(Path("sweep/1"))
    assert (summary["settings"]["seed"], summary["metrics"]["epoch"]) == (1, 2)


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_a_run_begins_with_the_weights_of_another_and_goes_on_without_it(precision: str) -> None:
    """In its own order of the windows; at a rate of 1e-38 an epoch changes no weight."""
    mother, sha256 = "mother, it's (1)", None
    short = [*SHORT, "trainer.max_epochs=1", f"trainer.precision={precision}"]
    still = [*short, "model.lr=1e-38", "model.sigma=1", "training.optimizer=adamw"]
    assert_succeeded(call_program("train.py", *short, f'hydra.run.dir="{mother}"'))
    before = torch.load(f"{mother}/checkpoints/last.ckpt", weights_only=True)
    for parent, child, more in (
        (mother, "sweep/0", ["-m", "hydra.sweep.dir=sweep"]),
        (f"{mother}/model.safetensors", "child", ["hydra.run.dir=child"]),
    ):
        assert_succeeded(call_program("train.py", *still, *more, f"init_from={parent}"))
        after, summary = torch.load(f"{child}/checkpoints/last.ckpt", weights_only=True), read_summary(Path(child))
        torch.testing.assert_close(after["state_dict"], before["state_dict"], rtol=0, atol=0)
        assert torch.equal(after["TimeMachine"]["generator"], before["TimeMachine"]["generator"])
        sha256 = sha256 or summary["parent"]["sha256"]  # of the weights, whatever file has them
        assert summary["parent"] == {"run": parent, "epoch": 1, "sha256": sha256}
    Path(mother).rename("elsewhere")
    said = call_program("train.py", "resume=child", "init_from=null").stderr
    assert said.startswith(f"error: init_from=null: the run began with init_from={parent}; type ")
    assert_succeeded(call_program("train.py", "resume=child", "trainer.max_epochs=2"))
    assert read_summary(Path("child"))["parent"] == summary["parent"]


def test_weights_that_do_not_fit_are_refused() -> None:
    assert_succeeded(call_program("train.py", *SHORT, "trainer.max_epochs=1", "hydra.run.dir=mother"))
    Path("no_z").write_text("the quick brown fox jumps over the lay dog " * 9)
    for typed, message in (
        (["model.hiddens=3"], "has model.hiddens=2, not 3; type model.hiddens=2"),
        (["-m", "model.activation=tanh,relu"], "has model.activation=tanh, not relu; type model.activation=tanh"),
        (
            ["data.corpus=no_z"],
            "its symbols are not the text's (only one has 'z'); type the data.corpus and data.min_count of that run",
        ),
    ):
        assert refused(*SHORT, *typed, "init_from=mother") == f"error: init_from=mother: {message}\n"
    Path("mother/checkpoints/last.ckpt").write_bytes(b"")
    assert "error: init_from=mother: mother/checkpoints/last.ckpt is damaged" in refused(*SHORT, "init_from=mother")
    assert "error: init_from=home: is not a run's folder" in refused(*SHORT, "init_from=home")
