import json
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import wandb

from timemachine import dashboard
from timemachine.command_line import _leaves
from timemachine.config import Train
from timemachine.tracking import EPOCH_COLUMNS, STEP_COLUMNS

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # wandb_workspaces, when it is imported

PANELS = [panel for panels in dashboard.SECTIONS.values() for panel in panels]
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
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or "{}")
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


@pytest.fixture(scope="module")
def spec() -> dict[str, Any]:
    view = dashboard.build("timemachine", "me")
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
    assert [line for line in lines if not line.startswith(" ")] == list(dashboard.SECTIONS)
    norms = "line: grad_norm, grad_norm_clipped against trainer/global_step, log scale"
    assert f"  Norm of the gradient: clipping acts where the two lines part ({norms})" in lines


def test_the_panels_draw_what_the_project_logs() -> None:
    of_w_and_b = {"trainer/global_step", dashboard.SAMPLES}
    logged = {*EPOCH_COLUMNS, *STEP_COLUMNS} - {"step", "loss", "test/perplexity"}  # these are not drawn
    assert {name for name in NAMES if "." not in name} == logged | of_w_and_b


def test_the_panels_draw_settings_that_exist() -> None:
    assert {name for name in NAMES if "." in name} <= {name for name, _ in _leaves(Train)}


def test_every_panel_is_in_the_saved_workspace(spec: dict[str, Any]) -> None:
    kinds = {
        "line": "Run History Line Plot",
        "bar": "Bar Chart",
        "table": "Weave",
        "parallel coordinates": "Parallel Coordinates Plot",
        "parameter importance": "Parameter Importance",
        "scatter": "Scatter Plot",
    }
    stored = stored_panels(spec)
    assert list(stored) == list(dashboard.SECTIONS)
    for name, panels in dashboard.SECTIONS.items():
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


# --- W&B's server ---


def test_a_second_call_updates_the_view_of_the_first(
    run: Callable[..., str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    someones = {"id": "id0", "name": "nw-abc-v", "displayName": dashboard.NAME, "spec": "their own"}
    server.views["timemachine"] = [dict(someones)]
    url = run()
    assert url == f"http://127.0.0.1:{server.server_port}/me/timemachine?nw=timemachine\n"
    monkeypatch.setattr(dashboard, "SECTIONS", {"New": dashboard.SECTIONS["Speed"]})
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
    monkeypatch.setattr(dashboard, "TIMEOUT", 1)
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
        ("project", "project=<W&B's project; timemachine if left out>"),
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
