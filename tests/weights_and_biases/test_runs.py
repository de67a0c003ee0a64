"""train.py and evaluate.py with W&B, on a local server: the uploaded data equal the files of the run."""

import json
from pathlib import Path

import pytest

from tests.support.programs import Program, assert_succeeded
from tests.support.wandb_runs import SHORT, assert_arrived, upload_command, wandb_command
from tests.support.wandb_server import KEY, WandbServer
from timemachine.decoding import continue_text
from timemachine.evaluation.scores import COLUMNS
from timemachine.run.checkpoint import load_model
from timemachine.run.record import read_summary
from timemachine.weights_and_biases import CHANGES, FIGURE, SAMPLES
from timemachine.weights_and_biases.run import PREFIXES


def test_a_run_arrives_whole(program: Program, tmp_path: Path) -> None:
    """`wandb agent` names the run. No file has the key; torch's zip archives are uncompressed, so a search finds it."""
    with WandbServer() as server:
        wants = ("logger.wandb.log_model=true", "logger.wandb.tags=[pilot]", "logger.wandb.sample_every_n_epochs=1")
        done = program("train.py", *SHORT, *wants, **server.environment(), WANDB_RUN_ID="one")
    assert_succeeded(done)
    assert not server.unknown
    files = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in files if KEY.encode() in path.read_bytes()] == [] and KEY not in done.stdout + done.stderr
    assert server.runs.keys() == {"one"}
    run, folder = server.runs["one"], tmp_path / "run"
    assert f"W&B           {server.url}/tester/timemachine/runs/{run.name}\n" in done.stdout
    assert_arrived(run, folder)
    summary = read_summary(folder)
    settings = {name: value for name, value in summary["settings"].items() if value != {}}
    assert run.config == settings | {CHANGES: run.display_name, "corpus": summary["corpus"], "git": summary["git"]}
    assert (run.project, run.group, run.job_type, run.tags, run.exit_code) == ("timemachine", "", "train", ["pilot"], 0)
    assert run.summary.items() >= (summary["metrics"] | {"status": "completed"}).items()
    (samples,) = run.artifacts[f"run-{run.name}-{SAMPLES}"].values()
    rows = json.loads(samples)["data"]
    assert [row[:2] for row in rows] == [[epoch, prefix] for epoch in (1, 2) for prefix in PREFIXES]
    model, vocab = load_model(str(folder))
    for seed, (_, prefix, *continuations) in enumerate(rows[len(PREFIXES) :]):
        for alpha, continuation in zip((None, 2.0), continuations, strict=True):
            assert [prefix + continuation] == continue_text(model, vocab, prefix, 60, alpha, seed=seed)
    assert run.artifacts[f"model-{run.name}"] == {"model.ckpt": (folder / "checkpoints" / "best.ckpt").read_bytes()}
    figures = [content for name, content in run.files.items() if name.startswith(f"media/images/{FIGURE}")]
    assert figures == [(folder / "perplexity.png").read_bytes()]


@pytest.mark.slow
def test_jobs_of_a_sweep(program: Program, tmp_path: Path) -> None:
    """Two processes of a job are one run, and one command uploads all jobs."""
    jobs = ("logger=wandb", "trainer=ddp_cpu", "model.lr=1,1e30", "hydra.sweep.dir=a sweep")
    done = program("train.py", "-m", *SHORT, *jobs, WANDB_RUN_ID="one")
    assert done.returncode == 0, done.stderr
    with WandbServer() as server:
        assert upload_command(done.stdout) == "wandb sync 'a sweep'/*/wandb"
        wandb_command(upload_command(done.stdout), tmp_path, **server.environment())
    assert not server.unknown
    good, bad = (read_summary(tmp_path / "a sweep" / job) for job in ("0", "1"))
    assert server.runs.keys() == {good["wandb"], bad["wandb"]} and good["wandb"] != bad["wandb"]
    assert {run.group for run in server.runs.values()} == {"a sweep"}
    assert_arrived(server.runs[good["wandb"]], tmp_path / "a sweep/0")
    assert server.runs[bad["wandb"]].exit_code == 1


@pytest.mark.slow
def test_a_server_that_refuses(program: Program, tmp_path: Path) -> None:
    with WandbServer(refuses=True) as server:
        done = program("train.py", *SHORT, "logger.wandb.log_model=true", **server.environment())
    assert_succeeded(done)
    with WandbServer() as server:
        for _ in range(2):  # nothing is uploaded twice
            wandb_command(upload_command(done.stdout), tmp_path, **server.environment())
    (run,) = server.runs.values()
    assert_arrived(run, tmp_path / "run")


@pytest.mark.slow
def test_a_resumed_run_is_one_run(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        program("train.py", *SHORT, "trainer.max_epochs=1", "logger=wandb")  # offline
        done = program("train.py", "resume=run", "trainer.max_epochs=2")
        wandb_command(upload_command(done.stdout), tmp_path, **server.environment())
        done = program("train.py", "resume=run", "trainer.max_epochs=3", **server.environment())
    assert_succeeded(done)
    assert "upload with" not in done.stdout
    assert not server.unknown
    (run,) = server.runs.values()
    assert_arrived(run, tmp_path / "run", resumed=True)
    assert (run.config["trainer"]["max_epochs"], run.summary["epoch"], run.summary["status"]) == (3, 3, "completed")


@pytest.mark.slow
def test_evaluation_is_a_run(program: Program, tmp_path: Path) -> None:
    """The evaluated run does not change."""
    program("train.py", *SHORT, "logger.wandb.group=ours")
    done = program("evaluate.py", "run=run", "logger=wandb", "baselines=true", "adapt=0.01")
    assert_succeeded(done)
    with WandbServer() as server:
        wandb_command(upload_command(done.stdout), tmp_path, **server.environment())
    assert not server.unknown
    summary = read_summary(tmp_path / "run")
    assert_arrived(server.runs.pop(summary["wandb"]), tmp_path / "run")
    (run,) = server.runs.values()
    assert (run.group, run.job_type, run.exit_code, run.config["wandb"]) == ("ours", "evaluation", 0, summary["wandb"])
    (content,) = run.artifacts[f"run-{run.name}-evaluation"].values()
    table = json.loads(content)
    assert table["columns"] == COLUMNS
    values = {tuple(row[1:3]): row[4] for row in table["data"]}
    assert {("val", "6-gram, Kneser-Ney"), ("val", "model, adapting")} <= values.keys()
    assert values["val", "model"] == pytest.approx(summary["metrics"]["val/perplexity"], rel=1e-6)
