"""train.py with Weights & Biases, against a server on the loopback: what arrives there is what the run's files say."""

import json
import math
import socket
from pathlib import Path

import pytest
import yaml

from tests.support.programs import Program, assert_succeeded
from tests.support.runs import rows
from tests.support.wandb_runs import (
    SHORT,
    STEP,
    assert_arrived,
    assert_uploads,
    settings_in_wandb,
    unfinished,
    wandb_command,
)
from tests.support.wandb_server import WandbServer, environment_of
from timemachine.config import REPOSITORY
from timemachine.decoding import continue_text
from timemachine.run.checkpoint import load_model
from timemachine.run.record import read_summary
from timemachine.weights_and_biases import CHANGES, FIGURE, GAP, PAGE, SAMPLES
from timemachine.weights_and_biases.run import PREFIXES


def test_a_run_arrives_whole(program: Program, tmp_path: Path) -> None:
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
    assert run.config == settings_in_wandb(summary) | of_run
    changes = "data=sample data.num_train=2051 trainer.max_epochs=2 model.hiddens=8 trainer.gradient_clip_val=0.15"
    assert run.display_name == f"sample {changes}"
    assert (run.project, run.group, run.job_type, run.tags, run.exit_code) == ("timemachine", "", "train", ["pilot"], 0)
    assert run.summary.items() >= (summary["metrics"] | {"status": "completed"}).items()
    bits = {row["epoch"]: row["val/bits_per_character"] for row in run.history if "val/bits_per_character" in row}
    assert bits == {row["epoch"]: math.log2(row["val/perplexity"]) for row in run.history if "val/perplexity" in row}
    gaps = [(row["epoch"], row[GAP]) for row in run.history if GAP in row]
    assert gaps == [
        (int(row["epoch"]), pytest.approx(math.log2(row["val/perplexity"] / row["train/perplexity"])))
        for row in rows(folder / "metrics.csv")
    ]
    assert run.summary[GAP] == gaps[-1][1]
    of_epoch = ("val/perplexity", "val/bits_per_character", "train/bits_per_character", GAP, "clip_fraction", SAMPLES)
    axes = dict.fromkeys(of_epoch, "epoch") | {"grad_norm": STEP}
    assert {name: run.axes[name] for name in axes} == axes
    (samples,) = run.artifacts[f"run-{run.name}-{SAMPLES}"].values()
    content = json.loads(samples)
    assert content["columns"] == ["epoch", "prefix", "greedy", "alpha = 2"]
    assert [row[:2] for row in content["data"]] == [[epoch, prefix] for epoch in (1, 2) for prefix in PREFIXES]
    model, vocab = load_model(str(folder))
    for seed, (_, prefix, *continuations) in enumerate(content["data"][len(PREFIXES) :]):
        for alpha, continuation in zip((None, 2.0), continuations, strict=True):
            assert [prefix + continuation] == continue_text(model, vocab, prefix, 60, alpha, seed=seed)
    assert run.artifacts[f"model-{run.name}"] == {"model.ckpt": (folder / "checkpoints" / "best.ckpt").read_bytes()}
    figures = [content for name, content in run.files.items() if name.startswith(f"media/images/{FIGURE}")]
    assert figures == [(folder / "perplexity.png").read_bytes()]
    pages = [content for name, content in run.files.items() if name.startswith("media/html/page")]
    assert pages == [(folder / "page.html").read_bytes()]  # as it is: what W&B would inject its policy refuses
    assert [row[PAGE]["_type"] for row in run.history if PAGE in row] == ["html-file"]


@pytest.mark.slow
def test_jobs_of_a_multirun_are_grouped(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        jobs = ("model.lr=1,1e30", "hydra.sweep.dir=sweep")
        assert_succeeded(program("train.py", "-m", *SHORT, *jobs, **server.environment()))
    assert not server.unknown
    good, bad = sorted(server.runs.values(), key=lambda run: run.display_name)
    assert (good.group, good.exit_code, good.tags) == ("sweep", 0, [])
    assert (bad.group, bad.exit_code, bad.tags) == ("sweep", 1, ["diverged"])
    assert_arrived(good, tmp_path / "sweep" / "0")
    assert bad.summary["message"] == read_summary(tmp_path / "sweep" / "1")["message"]


@pytest.mark.slow
@pytest.mark.parametrize(("fails", "expected"), [("dies", "incomplete"), ("refuses", "offline")])
def test_what_did_not_arrive_is_synced(fails: str, expected: str, program: Program, tmp_path: Path) -> None:
    with WandbServer(dies_after=int(fails == "dies"), refuses=fails == "refuses") as server:
        done = program("train.py", *SHORT, "logger.wandb.log_model=true", **server.environment())
    assert done.returncode == 0 and "Traceback" not in done.stderr
    state, command = unfinished(done.stdout)
    assert state == expected
    assert read_summary(tmp_path / "run")["status"] == "completed"
    assert_uploads(command, tmp_path)


@pytest.mark.slow
def test_a_silent_server_is_given_up(program: Program, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as silent:  # the kernel accepts; nobody reads
        environment = environment_of(f"http://127.0.0.1:{silent.getsockname()[1]}")
        done = program("train.py", *SHORT, "logger.wandb.init_timeout=5", **environment)
    assert done.returncode == 0
    state, command = unfinished(done.stdout)
    assert state == "offline"
    assert_uploads(command, tmp_path)


@pytest.mark.slow
def test_a_slow_server_loses_no_numbers(program: Program, tmp_path: Path) -> None:
    """Each table takes longer than the rest of the run, and the end has to be cut short."""
    impatient = ("trainer.max_epochs=20", "logger.wandb.sample_every_n_epochs=1", "logger.wandb.finish_timeout=0.1")
    with WandbServer(delay=3.5) as server:
        done = program("train.py", "-m", *SHORT, *impatient, "seed=0,1", "hydra.sweep.dir=run", **server.environment())
    assert done.returncode == 0, done.stderr
    assert len(server.runs) == 2
    state, command = unfinished(done.stdout)
    assert state == "incomplete"
    assert_uploads(command, tmp_path, ["run/0", "run/1"])


@pytest.mark.slow
def test_a_resumed_run_is_one_run(program: Program, tmp_path: Path) -> None:
    with WandbServer() as server:
        program("train.py", *SHORT, "trainer.max_epochs=1")  # offline
        done = program("train.py", "resume=run", "trainer.max_epochs=2", **server.environment())
        state, command = unfinished(done.stdout)
        assert state == "offline"
        wandb_command(command, tmp_path, **server.environment())
        done = program("train.py", "resume=run", "trainer.max_epochs=3", **server.environment())
    assert_succeeded(done)
    assert "upload with" not in done.stdout
    assert not server.unknown
    (run,) = server.runs.values()
    assert_arrived(run, tmp_path / "run", resumed=True)
    assert (run.config["trainer"]["max_epochs"], run.summary["epoch"], run.summary["status"]) == (3, 3, "completed")


@pytest.mark.slow
@pytest.mark.parametrize("trainer", ["auto", "ddp_cpu"])
def test_one_command_uploads_a_sweep(program: Program, tmp_path: Path, trainer: str) -> None:
    done = program("train.py", "-m", *SHORT, f"trainer={trainer}", "seed=0,1", "hydra.sweep.dir=a sweep")
    assert done.returncode == 0, done.stderr
    state, command = unfinished(done.stdout)  # one line for both
    assert (state, command) == ("offline", "wandb sync 'a sweep'/*/wandb")
    assert_uploads(command, tmp_path, ["a sweep/0", "a sweep/1"])  # two processes of a job are one run, too


@pytest.mark.slow
def test_wandb_can_steer_a_sweep(program: Program, tmp_path: Path) -> None:
    """`wandb agent` starts the sweep's command with values it has chosen, and names the run."""
    sweep = yaml.safe_load((REPOSITORY / "conf/wandb_sweep.yaml").read_text())
    assert sweep["command"] == ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    chosen = {name: values.get("min") or values["values"][0] for name, values in sweep["parameters"].items()}
    with WandbServer() as server:
        environment = server.environment() | {"WANDB_RUN_ID": "one"}
        typed = [f"{name}={value}" for name, value in chosen.items()]
        assert_succeeded(program(sweep["program"], *SHORT, *typed, **environment))
    assert_arrived(server.runs["one"], tmp_path / "run")
    assert sweep["metric"]["name"] in server.runs["one"].summary
