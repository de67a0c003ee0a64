import base64
import json
import math
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.support.jobs import leave_job
from tests.support.wandb_server import ENTITY, WandbServer
from timemachine import dashboard
from timemachine.cli.schema import leaves
from timemachine.config import Train
from timemachine.corpus import Corpus
from timemachine.evaluation.scores import splits_of
from timemachine.runs.rows import EPOCH_COLUMNS, STEP_COLUMNS
from timemachine.weights_and_biases import baselines, workspace

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # wandb_workspaces, when it is imported

PANELS = [panel for panels in workspace.SECTIONS.values() for panel in panels]
NAMES = {name for panel in PANELS for name in (*panel.y, panel.x) if name}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`python -m timemachine.dashboard` with these arguments: what it prints, or the line with which it exits."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dashboard", *arguments])
        try:
            dashboard.main()
        except SystemExit as end:
            assert not capsys.readouterr().out
            return str(end.code)
        return capsys.readouterr().out

    return call


class Server(ThreadingHTTPServer):
    """What the dashboard asks of W&B's GraphQL, for the projects of "me"."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.views: dict[str, list[dict[str, Any]]] = {"timemachine": [], "locked": []}
        self.entity: str | None = "me"
        self.status = 200

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" in query:
            if variables["projectName"] == "locked":
                return {"data": None, "errors": [{"message": "permission denied"}]}
            views = self.views[variables["projectName"]]
            view = next((view for view in views if view["id"] == variables.get("id")), None)
            if view is None:
                views.append(view := {"id": f"id{len(views)}"})
            view |= {key: variables[key] for key in ("name", "displayName", "type", "spec")}
            return {"data": {"upsertView": {"view": {"id": view["id"], "name": view["name"]}, "inserted": True}}}
        if "allViews" in query:
            mine = self.views.get(variables["project"]) if variables["entity"] == "me" else None
            edges = [{"node": {"id": view["id"]}} for view in mine or [] if view["name"] == variables["view"]]
            return {"data": {"project": None if mine is None else {"allViews": {"edges": edges}}}}
        viewer: dict[str, Any] = {
            "id": "1",
            "username": "me",
            "entity": self.entity,
            "flags": "{}",
            "teams": {"edges": []},
        }
        return {"data": {"viewer": viewer}}


class Answer(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"] or 0))
        asked = json.loads(sent) if self.path == "/graphql" else {}  # not JSON: the client's telemetry
        body = json.dumps(self.server.answer(asked.get("query", ""), asked.get("variables") or {})).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """W&B's server and a key for it."""
    wandb.teardown()  # it remembers the environment of its first call
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
        yield server
        server.shutdown()
    wandb.teardown()


def test_telemetry_of_the_client_is_no_traceback(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """It is no JSON, and comes when it likes, such as after the last test."""
    connection = HTTPConnection("127.0.0.1", server.server_port)
    connection.request("POST", "/sdk/otel/v1/metrics", b"\n\x1b\n\x19")
    assert connection.getresponse().status == 200
    connection.close()
    assert capfd.readouterr().err == ""


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    view = workspace.build("timemachine", "me")
    stored: dict[str, Any] = json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True))
    return stored


def stored_panels(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return {section["name"]: section["panels"] for section in spec["section"]["panelBankConfig"]["sections"]}


def strings(value: Any) -> Iterator[str]:
    """All strings in JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


# --- the panels ---


def test_a_dry_run_names_every_panel_and_needs_nothing(
    run: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("wandb", "wandb_workspaces"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it raises
    lines = run("entity=me", "--dry-run", "project=mine").splitlines()
    assert [line.strip() for line in lines if line.startswith("  ")] == [str(panel) for panel in PANELS]
    assert [line for line in lines if not line.startswith(" ")] == list(workspace.SECTIONS)
    norms = "line: grad_norm, grad_norm_clipped against trainer/global_step, log scale"
    assert f"  Norm of the gradient: clipping acts where the two lines part ({norms})" in lines


def test_the_panels_draw_what_the_project_logs() -> None:
    of_w_and_b = {"trainer/global_step", workspace.FIGURE, workspace.SAMPLES, workspace.PAGE}
    derived = {"lr", "best_val/perplexity", "val/bits_per_character"}
    logged = {*EPOCH_COLUMNS, *STEP_COLUMNS} - {"step", "loss"}  # these are not drawn
    assert {name for name in NAMES if "." not in name} == logged | of_w_and_b | derived


def test_the_panels_draw_settings_that_exist() -> None:
    assert {name for name in NAMES if "." in name} <= {name for name, _ in leaves(Train)}


def test_every_panel_is_in_the_saved_workspace(spec: dict[str, Any]) -> None:
    kinds = {
        "line": "Run History Line Plot",
        "bar": "Bar Chart",
        "table": "Weave",
        "media": "Media Browser",
        "parallel coordinates": "Parallel Coordinates Plot",
        "parameter importance": "Parameter Importance",
        "scatter": "Scatter Plot",
    }
    stored = stored_panels(spec)
    assert list(stored) == list(workspace.SECTIONS)
    for name, panels in workspace.SECTIONS.items():
        assert [panel["viewType"] for panel in stored[name]] == [kinds[panel.kind] for panel in panels]
        for panel, saved in zip(panels, stored[name], strict=True):
            assert saved["config"].get("chartTitle", panel.title) == panel.title
            found = {text.removeprefix("summary:") for text in strings(saved)}
            names = {f"config:{name}.value" if "." in name else name for name in (*panel.y, panel.x) if name}
            assert names <= found
            assert saved["config"].get("yLogScale", False) == panel.log


def test_a_setting_is_one_key_with_a_dot(spec: dict[str, Any]) -> None:
    parallel, _, scatter = stored_panels(spec)["Sweeps"]
    accessors = [column["accessor"] for column in parallel["config"]["columns"]]
    assert accessors[0] == "config:model.hiddens.value"
    assert accessors[-1] == "summary:val/perplexity"
    assert scatter["config"]["xAxis"] == "config:model.hiddens.value"
    assert not any(".value." in text for text in strings(spec))


def run_set(spec: dict[str, Any]) -> dict[str, Any]:
    (found,) = spec["section"]["runSets"]
    return dict(found)


def test_seeds_are_one_line_in_a_band(spec: dict[str, Any]) -> None:
    grouping = [(key["section"], key["name"]) for key in run_set(spec)["grouping"]]
    assert grouping == [("run", "group"), ("config", f"{workspace.CHANGES}.value")]
    lines = [p["config"] for panels in stored_panels(spec).values() for p in panels if "Line Plot" in p["viewType"]]
    assert {(line["groupAgg"], line["groupArea"]) for line in lines} == {("mean", "minmax")}


def test_runs_that_ended_badly_are_set_apart_by_the_tags_that_they_get(spec: dict[str, Any]) -> None:
    (kept,) = run_set(spec)["filters"]["filters"]
    assert (kept["key"]["name"], kept["op"]) == ("tags", "NIN")
    assert kept["value"] == ["failed", "diverged", "interrupted"]


def test_the_columns_of_the_final_numbers_are_pinned(spec: dict[str, Any]) -> None:
    order = run_set(spec)["runFeed"]["columnOrder"]
    assert order[:4] == ["run:displayName", "summary:val/perplexity", "summary:best_val/perplexity",
                         "summary:test/perplexity"]  # fmt: skip
    assert "config:model.lr.value" in order


def test_a_baseline_run_and_the_marks_of_n_grams_are_pinned() -> None:
    view = workspace.build("timemachine", "me", "abcd", ["letter-1", "witten-bell-1"])
    runs = run_set(json.loads(view.spec.model_dump_json(by_alias=True, exclude_none=True)))
    assert base64.b64decode(runs["baselineRunId"]).decode() == "Run:v1:abcd:timemachine:me"
    pinned = [base64.b64decode(run).decode().split(":")[2] for run in runs["pinnedRunIds"]]
    assert pinned == ["letter-1", "witten-bell-1", "abcd"]


def test_the_marks_are_those_that_evaluate_prints(sample: Corpus) -> None:
    settings = {"num_steps": 8, "num_train": 2000, "num_val": 500, "search_dirs": []}
    summary = {"settings": {"data": settings}, "corpus": {"source": "sample", "sha256": sample.sha256}}
    found = baselines.marks(summary)
    train, text = sample.characters[:2008], sample.characters
    targets = splits_of(summary, sample)["val"].targets
    counts = Counter(train)
    nll = [-math.log((counts[text[i]] + 1) / (len(train) + 27)) for i in targets]
    assert found["letter frequencies"]["val/perplexity"] == pytest.approx(math.exp(math.fsum(nll) / len(nll)))
    assert [name.rpartition(" ")[0] for name in found] == ["letter", "Witten-Bell", "Kneser-Ney"]
    values = [mark["val/perplexity"] for mark in found.values()]
    assert values == sorted(values, reverse=True)  # of better and better smoothing


def test_the_marks_are_runs_of_two_points_however_often_they_are_logged(
    sample: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"num_steps": 8, "num_train": 2000, "num_val": 500, "search_dirs": []}
    of_text = {"source": "sample", "name": "sample", "sha256": sample.sha256}
    summary = {"settings": {"data": settings}, "corpus": of_text, "metrics": {"epoch": 7}}
    wandb.teardown()  # it remembers the environment of its first call
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        ids = [baselines.log_marks(summary, "timemachine", ENTITY) for _ in range(2)]
        wandb.teardown()
    assert not server.unknown
    assert ids[0] == ids[1] == list(server.runs)
    assert {(run.job_type, run.group, run.exit_code) for run in server.runs.values()} == {("baseline", "n-grams", 0)}
    for run, mark in zip(server.runs.values(), baselines.marks(summary).values(), strict=True):
        points = {(row["epoch"], row["val/perplexity"]) for row in run.history}
        assert points == {(epoch, mark["val/perplexity"]) for epoch in (1, 7)}


@pytest.mark.parametrize(
    ("left", "said"),
    [(None, "is no folder of a run"), ({}, "the run was not logged to W&B; type the folder of one that was")],
)
def test_a_baseline_is_a_run_that_is_in_w_and_b(
    run: Callable[..., str], server: "Server", tmp_path: Path, left: dict[str, Any] | None, said: str
) -> None:
    if left is not None:
        settings = {"data": {"corpus": "sample"}}
        leave_job(tmp_path, settings, number=0, corpus={"source": "sample", "sha256": "1"})
    line = run(f"baseline={tmp_path / '0'}")
    assert line.startswith(f"error: baseline={tmp_path / '0'}: ") and said in line
    assert server.views["timemachine"] == []


# --- W&B's server ---


def test_a_second_call_updates_the_view_of_the_first(
    run: Callable[..., str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    someones = {"id": "id0", "name": "nw-abc-v", "displayName": workspace.NAME, "spec": "their own"}
    server.views["timemachine"] = [dict(someones)]
    url = run()
    assert url == f"http://127.0.0.1:{server.server_port}/me/timemachine?nw=timemachine\n"
    monkeypatch.setattr(workspace, "SECTIONS", {"New": workspace.SECTIONS["Gradient"]})
    assert run("project=timemachine", "entity=me") == url
    theirs, ours = server.views["timemachine"]
    assert theirs == someones
    assert (ours["name"], ours["displayName"], ours["type"]) == ("nw-timemachine-v", "Perplexity", "project-view")
    assert list(stored_panels(json.loads(ours["spec"]))) == ["New"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["project=none"], "error: project=none: me has no such project"),
        (["entity=you"], "error: project=timemachine: you has no such project"),
        (["project=locked"], "error: project=locked: W&B says input: permission denied; type a project and entity"),
    ],
)
def test_a_project_that_may_not_be_changed(
    run: Callable[..., str], server: Server, arguments: list[str], said: str
) -> None:
    line = run(*arguments)
    assert line.startswith(said)
    assert "\n" not in line
    assert server.views == {"timemachine": [], "locked": []}


def test_a_key_without_a_default_entity(run: Callable[..., str], server: Server) -> None:
    server.entity = None
    assert run() == "error: entity=: the API key has no default entity; type entity=<your user name or team>"


def test_a_key_that_the_server_refuses(run: Callable[..., str], server: Server) -> None:
    server.status = 401
    line = run()
    assert line.startswith("error: W&B refuses the API key (returned error 401")
    assert line.endswith("; type wandb login --relogin")


def test_a_server_that_does_not_answer(
    run: Callable[..., str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(workspace, "TIMEOUT", 1)
    assert run().startswith("error: W&B's server does not answer within 1 seconds; type the same again")


def test_without_a_key_nobody_is_asked(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asks the user"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    wandb.teardown()
    assert run() == "error: W&B has no API key configured; type wandb login"
    wandb.teardown()


def test_without_the_package(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces._graphql", None)
    assert run() == "error: wandb-workspaces is not installed; type pip install -e '.[dashboard]'"


# --- the command line ---


@pytest.mark.parametrize(
    ("argument", "instead"),
    [
        ("projekt=mine", "project=mine"),
        ("entiti=me", "entity=me"),
        ("project", "project=<W&B's project; WANDB_PROJECT, or timemachine, if left out>"),
        ("entity=", "entity=<its owner, a user or a team; the API key's own if left out>"),
        ("--project=mine", "project=mine"),
        ("--dryrun", "--dry-run"),
        ("mine", "--help"),
    ],
)
def test_a_mistake_is_answered_by_what_to_type(run: Callable[..., str], argument: str, instead: str) -> None:
    line = run(argument, "--dry-run")
    assert line.startswith(f"error: {argument}: ")
    assert line.endswith(f"; type {instead}")


def test_help_names_the_settings(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["dashboard", "--help"])
    with pytest.raises(SystemExit, match="0"):
        dashboard.main()
    said = capsys.readouterr().out
    assert all(text in said for text in ("project=", "entity=", "--dry-run"))


def test_a_dry_run_finds_that_the_baseline_is_no_run(run: Callable[..., str]) -> None:
    assert run("baseline=nowhere", "--dry-run").startswith("error: baseline=nowhere: is no folder of a run; type ")
