"""Runs, sweeps and parents that a command can resume. Any other is rejected before anything is written."""

import os
from pathlib import Path

import pytest
import torch

from tests.support.programs import assert_succeeded, call_program
from timemachine.corpus import Corpus
from timemachine.run.record import read_summary

SHORT = ["data=sample", "data.num_train=64", "data.num_val=64", "model.hiddens=2", "trainer=cpu", "logger=csv"]
ONE_EPOCH = [*SHORT, "trainer.max_epochs=1"]
SWEEP = ["-m", *ONE_EPOCH, "hydra.sweep.dir=sweep"]


pytestmark = pytest.mark.usefixtures("quick_calls")


def what_is_there() -> dict[str, tuple[bytes, int]]:
    """Return the content and modification time of each file outside of outputs.

    `.lock` is skipped because the oldest supported version of filelock touches it.
    """
    paths = [Path(place, name) for place, _, names in os.walk(".") for name in names if "outputs" not in place]
    paths = [path for path in paths if path.name != ".lock"]
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def assert_refused(names: str, *arguments: str) -> None:
    """Check that train.py exits with one line that starts with the setting and leaves other runs unchanged."""
    before = what_is_there()
    done = call_program("train.py", *arguments)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stdout.count("\n") <= 1, done.stdout  # the model and the text
    assert done.stderr.startswith(f"error: {names}: "), done.stderr
    assert what_is_there() == before


def test_resume_keeps_recorded_settings() -> None:
    folder = "run of mine, it's (1)"
    assert_succeeded(call_program("train.py", *ONE_EPOCH, "model.sigma=0.02", 'hydra.run.dir="' + folder + '"'))
    for more in ("-m", "exercise=relu", "hydra.run.dir=other", "resume=other", "model.sigma=abc", "recipe=novel"):
        assert_refused(more, f"resume={folder}", more)
    assert_succeeded(call_program("train.py", f"resume={folder}", "trainer.max_epochs=2", "model.backward=bptt"))
    summary = read_summary(Path(folder))
    assert (summary["metrics"]["epoch"], summary["settings"]["model"]["sigma"]) == (2, 0.02)


def test_resume_with_another_trainer_group() -> None:
    """Only the settings in the group's file change: the run keeps its number of epochs and its clipping."""
    typed = [*SHORT, "trainer.max_epochs=2", "trainer.gradient_clip_val=0.5", "hydra.run.dir=run"]
    assert_succeeded(call_program("train.py", *typed))
    assert_succeeded(call_program("train.py", "resume=run", "trainer=auto", "trainer.max_epochs=3"))
    trainer = read_summary(Path("run"))["settings"]["trainer"]
    assert (trainer["max_epochs"], trainer["gradient_clip_val"], trainer["accelerator"]) == (3, 0.5, "auto")


def test_resume_without_hydra_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has hydra.output_subdir=null and a seed from an environment variable that is no longer set."""
    monkeypatch.setenv("SEED", "7")
    typed = ["hydra.output_subdir=null", "hydra.run.dir=run", "seed=${oc.env:SEED}"]
    assert_succeeded(call_program("train.py", *ONE_EPOCH, *typed))
    monkeypatch.delenv("SEED")
    assert_succeeded(call_program("train.py", "resume=run", "trainer.max_epochs=2"))
    summary = read_summary(Path("run"))
    assert (summary["metrics"]["epoch"], summary["settings"]["seed"], summary["seed"]) == (2, 7, 7)


def test_resume_with_wandb_offline() -> None:
    """W&B's files include links to its cache."""
    typed = [*ONE_EPOCH[:-2], "trainer.max_epochs=1", "logger.wandb.mode=offline", "hydra.run.dir=run"]
    assert_succeeded(call_program("train.py", *typed))
    assert_succeeded(call_program("train.py", "resume=run", "trainer.max_epochs=2"))
    assert read_summary(Path("run"))["metrics"]["epoch"] == 2


def test_resume_from_another_directory(sample: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("my text.txt", "other.txt"):
        Path(name).write_text(sample.characters)
    short = [*ONE_EPOCH[1:]]
    assert_succeeded(call_program("train.py", *short, "data.corpus=my text.txt", "hydra.run.dir=one"))
    assert_succeeded(call_program("train.py", *short, "data.corpus=['my text.txt',other.txt]", "hydra.run.dir=two"))
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    for name in ("one", "two"):
        assert_succeeded(call_program("train.py", f"resume=../{name}", "trainer.max_epochs=2"))
        summary = read_summary(Path("..", name))
        assert (summary["metrics"]["epoch"], summary["settings"]["data"]["corpus"]) == (2, summary["corpus"]["source"])


@pytest.mark.parametrize(
    "files", [{}, {"summary.json": "{"}, {".hydra/overrides.yaml": "[]"}, {"notes.txt": "of a user"}]
)
def test_folder_of_no_run(files: dict[str, str]) -> None:
    for name, content in files.items():
        path = Path("folder", name)
        path.parent.mkdir(parents=True)
        path.write_text(content)
    assert_refused("resume=folder", "resume=folder")


def test_sweep_resumes_its_own_jobs() -> None:
    Path("sweep").mkdir()
    Path("sweep/multirun.yaml").touch()  # left by a full disk before the first job
    assert_succeeded(call_program("train.py", *SWEEP, "seed=0,1", "resume=sweep"))
    assert not list(Path("sweep").glob("*/epochs.safetensors")) + list(Path("sweep").glob("*/page.html"))
    results = {path: path.read_bytes() for path in Path("sweep").glob("*/[ms]*.*")}
    for other in (["seed=0,1", "model.sigma=1"], ["seed=2,1"]):
        done = call_program("train.py", *SWEEP, *other, "resume=sweep")
        assert done.returncode == 1 and done.stderr.startswith("error: resume=sweep: ") and "\n" not in done.stderr[:-1]
        assert {path: path.read_bytes() for path in Path("sweep").glob("*/[ms]*.*")} == results
    for names, command in (
        ("resume=sweep", [*SWEEP, "seed=0"]),
        ("model.lr=abc", [*SWEEP, "seed=0,1", "model.lr=abc"]),
        ("resume=sweep", ["exercise=relu"]),
        ("resume=sweep", []),
    ):
        assert_refused(names, *command, "resume=sweep")
    more = ["seed=0,1,2", "model.sigma=0.01"]  # one more job, and a default value
    assert_succeeded(call_program("train.py", *SWEEP, *more, "resume=sweep"))
    assert Path("sweep/2/summary.json").exists()
    assert_succeeded(call_program("train.py", "resume=sweep/1", "trainer.max_epochs=2"))  # a single job
    summary = read_summary(Path("sweep/1"))
    assert (summary["settings"]["seed"], summary["metrics"]["epoch"]) == (1, 2)


def test_init_from_then_resume_without_parent() -> None:
    """The new run draws its own order of windows. A learning rate of 1e-38 leaves the weights unchanged."""
    mother = "mother, it's (1)"
    short = [*ONE_EPOCH, "trainer.precision=64-true"]
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
        assert summary["parent"] == {"run": parent, "epoch": 1}
    Path(mother).rename("elsewhere")
    assert call_program("train.py", "resume=child", "init_from=null").stderr.startswith("error: init_from=null: ")
    assert_succeeded(call_program("train.py", "resume=child", "trainer.max_epochs=2"))
    assert read_summary(Path("child"))["parent"] == summary["parent"]


def test_init_from_tied_weights() -> None:
    """The inputs are divided by embedding_sigma, so changing it would change the network."""
    tied = [*ONE_EPOCH, "model.lr=0.1", "model.tie_weights=true", "model.input=embedding", "model.embedding_dim=2"]
    assert_succeeded(call_program("train.py", *tied, "hydra.run.dir=mother"))
    assert_refused("init_from=mother", *tied, "model.embedding_sigma=0.1", "init_from=mother")


def test_init_from_another_network() -> None:
    assert_succeeded(call_program("train.py", *ONE_EPOCH, "hydra.run.dir=mother"))
    Path("no_z").write_text("the quick brown fox jumps over the lay dog " * 9)
    for typed in (["model.hiddens=3"], ["data.corpus=no_z"]):
        assert_refused("init_from=mother", *SHORT, *typed, "init_from=mother")
    Path("mother/checkpoints/last.ckpt").write_bytes(b"")
    assert_refused("init_from=mother", *SHORT, "init_from=mother")
    assert_refused("init_from=home", *SHORT, "init_from=home")
