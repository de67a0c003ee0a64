"""The stand-in for Weights & Biases' server, asked by the real client."""

import gzip
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.programs import DEADLINE
from tests.support.wandb_server import Metric, SilentServer, WandbServer

Client = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """Run Python's arguments with wandb's client pointed at a server; `-c` takes a script that has `start` for runs."""
    numbers = "finish_timeout=2, x_file_stream_transmit_interval=1, x_file_stream_no_gzip=False"  # 1 s: less means 15
    settings = f'wandb.Settings(console="off", x_disable_stats=True, {numbers})'
    start = f'import wandb\ndef start(**named):\n    return wandb.init(project="p", settings={settings}, **named)\n'

    def run(server: WandbServer | SilentServer, *arguments: str) -> subprocess.CompletedProcess[str]:
        if arguments[0] == "-c":
            arguments = ("-c", start + dedent(arguments[1]))
        environment = os.environ | server.environment()
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )

    return run


def ask(
    server: WandbServer | SilentServer,
    path: str,
    body: Any,
    packed: bool = False,
    method: str = "POST",
    patience: float = 10,
) -> Any:
    """The answer to a request of our own; an `OSError` or `HTTPException` where there is none."""
    sent = json.dumps(body).encode()
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=patience)
    try:
        headers = {"Content-Encoding": "gzip"} if packed else {}
        connection.request(method, path, gzip.compress(sent) if packed else sent, headers)
        answer = connection.getresponse()
        return answer.status, json.load(answer)
    finally:
        connection.close()


def test_a_run_arrives_whole(client: Client) -> None:
    with WandbServer() as server:
        done = client(
            server,
            "-c",
            """
            import numpy as np

            run = start(name="a name", group="a group", job_type="train", tags=["a", "b"], config={"model.hiddens": 64})
            run.define_metric("epoch", hidden=True)
            run.define_metric("val/*", step_metric="epoch", summary="min,last")
            for epoch in (1, 2):
                run.log({"epoch": epoch, "val/perplexity": 10 - epoch})
            run.log({"table": wandb.Table(columns=["a"], data=[[7]])})
            run.log({"image": wandb.Image(np.zeros((2, 2, 3), np.uint8))})
            artifact = wandb.Artifact("weights", "model")
            with artifact.new_file("in/ä file.txt") as file:
                file.write("numbers")
            run.log_artifact(artifact).wait()
            run.use_artifact("weights:v0")
            run.finish()
            """,
        )
    assert done.returncode == 0, done.stderr
    assert not server.unknown
    (run,) = server.runs.values()
    assert (run.entity, run.project, run.exit_code) == ("tester", "p", 0)
    assert (run.display_name, run.group, run.job_type, run.tags) == ("a name", "a group", "train", ["a", "b"])
    assert run.config == {"model.hiddens": 64}
    assert run.metrics == {"epoch": Metric(hidden=True), "val/*": Metric(step="epoch", summaries=["min", "last"])}
    assert [(row["epoch"], row["val/perplexity"]) for row in run.history[:2]] == [(1, 9), (2, 8)]
    assert run.summary["val/perplexity"] == {"min": 8, "last": 8}
    assert json.loads(run.files[run.history[2]["table"]["path"]])["data"] == [[7]]
    assert run.files[run.history[3]["image"]["path"]].startswith(b"\x89PNG")
    assert run.artifacts["weights"] == {"in/ä file.txt": b"numbers"}
    assert json.loads(run.artifacts[f"run-{run.name}-table"]["table.table.json"])["data"] == [[7]]


def test_a_run_that_failed_can_go_on(client: Client) -> None:
    with WandbServer() as server:
        done = client(
            server,
            "-c",
            """
            for exit_code in (1, None):
                run = start(id="x", resume="allow", config={"a": 1} if exit_code else {"b": 2})
                run.log({"loss": 0.5})
                if exit_code:
                    run.finish(exit_code=exit_code)
            # ends with the program
            """,
        )
    assert done.returncode == 0, done.stderr
    assert not server.unknown
    assert server.runs["x"].config == {"a": 1, "b": 2}
    assert [row["_step"] for row in server.runs["x"].history] == [0, 1]
    assert server.runs["x"].exit_code == 0


def test_an_offline_run_arrives_when_it_is_synced(client: Client, tmp_path: Path) -> None:
    with WandbServer() as server:
        client(server, "-c", 'run = start(mode="offline", group="g"); run.log({"x": 1}); run.finish(exit_code=3)')
        assert not server.runs
        (folder,) = tmp_path.glob("wandb/offline-run-*")
        done = client(server, "-m", "wandb", "sync", str(folder))
    assert done.returncode == 0, done.stderr
    assert not server.unknown
    (run,) = server.runs.values()
    assert (run.group, run.history[0]["x"], run.exit_code) == ("g", 1, 3)


def test_a_server_that_dies_in_mid_run_keeps_what_had_arrived(client: Client) -> None:
    with WandbServer(dies_after=2) as server:
        done = client(
            server,
            "-c",
            """
            import socket, time
            from urllib.parse import urlsplit

            run = start()
            address = urlsplit(run.settings.base_url)
            for x in range(1000):
                run.log({"x": x})
                time.sleep(0.02)
                with socket.socket() as connection:
                    if connection.connect_ex((address.hostname, address.port)):
                        break
            run.log({"x": -1})
            run.finish()
            """,
        )
        with pytest.raises(ConnectionRefusedError):
            ask(server, "/graphql", {})
    assert done.returncode == 0, done.stderr
    assert "Timed out finishing run" in done.stderr
    assert not server.unknown
    (run,) = server.runs.values()
    assert run.exit_code is None
    assert run.history
    assert [row["x"] for row in run.history] == list(range(len(run.history)))


def test_what_it_does_not_know_is_refused_and_noted() -> None:
    with WandbServer() as server:
        query = "query Weather { weather { tomorrow } }"
        assert ask(server, "/graphql", {"query": query})[0] == 400
        assert ask(server, "/elsewhere", {}, method="GET")[0] == 400
        assert ask(server, "/files/e/p/absent/file_stream", {})[0] == 400
    assert server.unknown[:2] == [query, "GET /elsewhere"]
    assert "KeyError: 'absent'" in server.unknown[2]


@pytest.mark.parametrize("packed", [False, True])
def test_saved_views_are_kept(packed: bool) -> None:
    with WandbServer() as server:
        place = {"entityName": "e", "projectName": "p"}
        view = {**place, "name": "nw-1-v", "displayName": "Losses", "type": "project-view", "spec": '{"section": {}}'}
        saved = {"query": "mutation UpsertView2($id: ID) { … }", "variables": view}
        wanted = {"query": "query View($name: String) { … }", "variables": {"entityName": "e", "name": "p"}}
        _, answer = ask(server, "/graphql", saved, packed)
        assert answer["data"]["upsertView"] == {"view": {"id": "nw-1-v", "name": "nw-1-v"}, "inserted": True}
        _, answer = ask(server, "/graphql", wanted, packed)
        (edge,) = answer["data"]["project"]["allViews"]["edges"]
    assert edge["node"]["displayName"] == server.views["nw-1-v"].display_name == "Losses"
    assert server.views["nw-1-v"].spec == {"section": {}}


def test_a_server_that_dies_cuts_open_connections() -> None:
    with WandbServer() as server:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=5)
        connection.request("GET", "/")
        connection.getresponse().read()
        server.die()
        with pytest.raises((http.client.RemoteDisconnected, OSError)):
            connection.request("GET", "/")
            connection.getresponse()
        connection.close()


def test_a_silent_server_accepts_and_says_nothing() -> None:
    with SilentServer() as server, pytest.raises(TimeoutError):
        ask(server, "/graphql", {}, patience=0.2)
