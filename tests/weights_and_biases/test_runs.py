"""train.py with Weights & Biases, against a server on the loopback: what arrives there is what the run's files say."""

import json
import math
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.support.processes import running
from tests.support.programs import assert_succeeded
from tests.support.wandb_runs import (
    SHORT,
    STEP,
    arrived,
    assert_arrived,
    assert_uploads,
    read_back,
    unfinished,
    wandb_command,
)
from tests.support.wandb_server import ENTITY, SilentServer, WandbServer
from timemachine.config import REPOSITORY
from timemachine.runs.summaries import read_summary
from timemachine.weights_and_biases import CHANGES, FIGURE, PAGE, SAMPLES
from timemachine.weights_and_biases.run import PREFIXES


def test_a_run_arrives_with_all_that_it_carries(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        wants = ("logger.wandb.log_model=true", "logger.wandb.tags=[pilot]", "logger.wandb.sample_every_n_epochs=1")
        done = program("train.py", *SHORT, *wants, "trainer.gradient_clip_val=0.15", **server.environment())
    assert_succeeded(done)
    assert not server.unknown
    (run,) = server.runs.values()
    folder = tmp_path / "run"
    assert f"W&B           {server.url}/tester/timemachine/runs/{run.name}\n" in done.stdout
    assert_arrived(run, folder)
    summary = read_summary(folder)
    of_run = {CHANGES: run.display_name, "corpus": summary["corpus"], "git": summary["git"]}
    assert run.config == summary["settings"] | of_run
    changes = "data=sample data.num_train=2051 trainer.max_epochs=2 model.hiddens=8 trainer.gradient_clip_val=0.15"
    assert run.display_name == f"sample {changes}"
    assert (run.project, run.group, run.job_type, run.tags, run.exit_code) == ("timemachine", "", "train", ["pilot"], 0)
    assert run.summary.items() >= (summary["metrics"] | {"status": "completed"}).items()
    bits = {row["epoch"]: row["val/bits_per_character"] for row in run.history if "val/bits_per_character" in row}
    assert bits == {row["epoch"]: math.log2(row["val/perplexity"]) for row in run.history if "val/perplexity" in row}
    of_epoch = ("val/perplexity", "val/bits_per_character", "clip_fraction", SAMPLES)
    assert {name: run.axes[name] for name in (*of_epoch, "grad_norm")} == {
        **dict.fromkeys(of_epoch, "epoch"),
        "grad_norm": STEP,
    }
    (samples,) = run.artifacts[f"run-{run.name}-{SAMPLES}"].values()
    content = json.loads(samples)
    assert content["columns"] == ["epoch", "prefix", "continuation"]
    assert [row[:2] for row in content["data"]] == [[epoch, prefix] for epoch in (1, 2) for prefix in PREFIXES]
    assert run.artifacts[f"model-{run.name}"] == {"best.ckpt": (folder / "checkpoints" / "best.ckpt").read_bytes()}
    figures = [content for name, content in run.files.items() if name.startswith(f"media/images/{FIGURE}")]
    assert figures == [(folder / "perplexity.png").read_bytes()]
    pages = [content for name, content in run.files.items() if name.startswith("media/html/page")]
    assert pages == [(folder / "page.html").read_bytes()]  # as it is: what W&B would inject its policy refuses
    assert [row[PAGE]["_type"] for row in run.history if PAGE in row] == ["html-file"]


@pytest.mark.slow
def test_the_jobs_of_a_multirun_are_a_group_and_each_says_how_it_ended(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        jobs = ("model.lr=1,1e30", "trainer.precision=32,nonsense")
        done = program("train.py", "-m", *SHORT, *jobs, "hydra.sweep.dir=sweep", **server.environment())
    assert done.returncode == 1
    assert not server.unknown
    runs = {run.display_name.split(maxsplit=4)[4]: run for run in server.runs.values()}
    assert {name: (run.group, run.exit_code, run.tags) for name, run in runs.items()} == {
        "model.hiddens=8 model.lr=1 trainer.precision=32": ("sweep", 0, []),
        "model.hiddens=8 model.lr=1 trainer.precision=nonsense": ("sweep", 1, ["failed"]),
        "model.hiddens=8 model.lr=1e+30 trainer.precision=32": ("sweep", 1, ["diverged"]),
        "model.hiddens=8 model.lr=1e+30 trainer.precision=nonsense": ("sweep", 1, ["failed"]),
    }
    assert_arrived(runs["model.hiddens=8 model.lr=1 trainer.precision=32"], tmp_path / "sweep" / "0")
    messages = {run.summary["status"]: str(run.summary.get("message")) for run in runs.values()}
    assert messages["diverged"] == read_summary(tmp_path / "sweep" / "2")["message"]
    assert messages["failed"].startswith("trainer.precision=nonsense: Lightning refuses it")


@pytest.mark.slow
def test_two_processes_are_one_run(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        done = program("train.py", *SHORT, "trainer=ddp_cpu", **server.environment())
    assert done.returncode == 0, done.stderr
    assert not server.unknown
    (run,) = server.runs.values()
    assert_arrived(run, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("fails", ["dies", "refuses"])
def test_what_did_not_arrive_can_be_synced(fails: str, program: Program, tmp_path: Path) -> None:
    with WandbServer(dies_after=int(fails == "dies"), refuses_history=fails == "refuses") as server:
        done = program("train.py", *SHORT, "logger.wandb.log_model=true", **server.environment())
    assert done.returncode == 0 and "Traceback" not in done.stderr
    state, command = unfinished(done.stdout)
    assert state == "incomplete"
    assert read_summary(tmp_path / "run")["status"] == "completed"
    assert_uploads(command, tmp_path)


@pytest.mark.slow
def test_a_server_that_never_answers_is_given_up(program: Program, tmp_path: Path) -> None:
    with SilentServer() as server:
        done = program("train.py", *SHORT, "logger.wandb.init_timeout=5", **server.environment())
    assert done.returncode == 0
    assert re.search(r"^W&B +auto failed \(.*\)$", done.stderr, re.MULTILINE)
    state, command = unfinished(done.stdout)
    assert state == "offline"
    run = assert_uploads(command, tmp_path)
    assert run.config.items() >= read_summary(tmp_path / "run")["settings"].items()
    assert run.exit_code == 0


@pytest.mark.slow
def test_a_slow_server_mixes_no_jobs_and_loses_no_numbers(program: Program, tmp_path: Path) -> None:
    """Each table takes longer than the rest of the run, and the end has to be cut short."""
    impatient = ("trainer.max_epochs=20", "logger.wandb.sample_every_n_epochs=1", "logger.wandb.finish_timeout=0.1")
    with WandbServer(delay=3.5) as server:
        done = program("train.py", "-m", *SHORT, *impatient, "seed=0,1", "hydra.sweep.dir=run", **server.environment())
    assert done.returncode == 0, done.stderr
    runs = [read_summary(tmp_path / "run" / job)["wandb"] for job in "01"]
    assert len(set(runs)) == 2 and set(runs) == server.runs.keys()
    for job, run in zip("01", runs, strict=True):
        (folder,) = (tmp_path / "run" / job / "wandb").glob(f"run-*-{run}")
        assert_arrived(read_back(folder), tmp_path / "run" / job)


@pytest.mark.slow
def test_wandbs_own_process_may_die_without_the_run(tmp_path: Path) -> None:
    with running(tmp_path, *SHORT, "trainer.max_epochs=100", "logger.wandb.mode=offline") as run:
        run.wait_until((tmp_path / "run/metrics.csv").exists)
        children = Path(f"/proc/{run.process.pid}/task").glob("*/children")
        pids = {int(pid) for path in children for pid in path.read_text().split()}
        (core,) = (pid for pid in pids if "wandb-core" in Path(f"/proc/{pid}/comm").read_text())
        os.kill(core, signal.SIGKILL)
        status, _, errors = run.ended()
    assert status == 0 and re.search(r"^W&B +failed \(.*\); metrics.csv has all numbers$", errors, re.MULTILINE)
    assert read_summary(tmp_path / "run")["metrics"]["epoch"] == 100


@pytest.mark.slow
def test_a_run_that_goes_on_is_one_run(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        assert program("train.py", *SHORT, **server.environment()).returncode == 0
        done = program("train.py", "resume=run", "trainer.max_epochs=4", **server.environment())
    assert_succeeded(done)
    assert not server.unknown
    (run,) = server.runs.values()
    assert_arrived(run, tmp_path / "run", resumed=True)
    assert (run.config["trainer"]["max_epochs"], run.summary["epoch"], run.summary["status"]) == (4, 4, "completed")


@pytest.mark.slow
def test_an_interrupted_run_is_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        with running(tmp_path, *SHORT, "trainer.max_epochs=100000") as training:
            training.wait_until((tmp_path / "run/metrics.csv").exists)
            training.process.send_signal(signal.SIGINT)
            assert training.ended()[0] == 130
    (run,) = server.runs.values()
    assert (run.tags, run.exit_code, run.summary["status"]) == (["interrupted"], 1, "interrupted")


def test_an_offline_run_can_be_read_without_an_account(program: Program, tmp_path: Path) -> None:
    done = program("train.py", *SHORT)
    state, command = unfinished(done.stdout)
    assert (done.stderr, state) == ("", "offline")
    (part,) = (tmp_path / command.split()[-1]).glob("offline-run-*")
    assert_arrived(read_back(part), tmp_path / "run")


@pytest.mark.slow
def test_a_run_that_was_resumed_offline_arrives_whole(program: Program, tmp_path: Path) -> None:
    done = program("train.py", *SHORT, "trainer.max_epochs=1")
    for epochs in (2, 3):
        done = program("train.py", "resume=run", f"trainer.max_epochs={epochs}")
    _, command = unfinished(done.stdout)
    run = assert_uploads(command, tmp_path, resumed=True)
    assert (run.summary["epoch"], run.exit_code) == (3, 0)


@pytest.mark.slow
def test_parts_that_were_offline_are_not_forgotten_when_a_later_one_is_online(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        program("train.py", *SHORT, "trainer.max_epochs=1")
        done = program("train.py", "resume=run", "trainer.max_epochs=2", **server.environment())
        state, command = unfinished(done.stdout)
        assert state == "offline"
        wandb_command(command, tmp_path, **server.environment())
        (run,) = server.runs.values()
        assert sorted(arrived(run, "epoch", ["train/perplexity"])) == [1, 2]
        done = program("train.py", "resume=run", "trainer.max_epochs=3", **server.environment())
    assert "upload with" not in done.stdout
    assert sorted(arrived(run, "epoch", ["train/perplexity"])) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["auto", "ddp_cpu"])
def test_a_sweep_that_was_offline_is_uploaded_by_one_command(program: Program, tmp_path: Path, trainer: str) -> None:
    done = program("train.py", "-m", *SHORT, f"trainer={trainer}", "seed=0,1", "hydra.sweep.dir=a sweep")
    assert done.returncode == 0, done.stderr
    state, command = unfinished(done.stdout)  # one line for both
    assert (state, command) == ("offline", "wandb sync 'a sweep'/*/wandb")
    with WandbServer() as server:
        wandb_command(command, tmp_path, **server.environment())
    assert not server.unknown
    for job in "01":
        folder = tmp_path / "a sweep" / job
        assert_arrived(server.runs[read_summary(folder)["wandb"]], folder)


@pytest.mark.slow
def test_wandb_can_steer_a_sweep(tmp_path: Path) -> None:
    """README's two commands; the server chooses one run."""
    values = {"model.hiddens": 16, "model.lr": 0.5, "data": "sample", "trainer.max_epochs": 1}
    with WandbServer() as server:
        variables = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "WANDB_DIR": str(tmp_path),
        }
        variables |= server.environment()
        wandb_command("wandb sweep --project timemachine conf/wandb_sweep.yaml", REPOSITORY, **variables)
        ((name, sweep),) = server.sweeps.items()
        chosen = {name: {"value": value} for name, value in (values | {"hydra.run.dir": str(tmp_path / "run")}).items()}
        server.commands = [
            {"type": "run", "run_id": "one", "program": sweep["program"], "args": chosen},
            {"type": "exit"},
        ]
        wandb_command(f"wandb agent {ENTITY}/timemachine/{name}", REPOSITORY, **variables)
    assert not server.unknown
    assert sweep["metric"] == {"name": "val/perplexity", "goal": "minimize"}
    model = read_summary(tmp_path / "run")["settings"]["model"]
    assert (model["hiddens"], model["lr"]) == (16, 0.5)
    assert_arrived(server.runs["one"], tmp_path / "run")
