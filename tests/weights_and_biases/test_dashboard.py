"""`python -m timemachine.dashboard`: what W&B's server gets of a workspace and of a report."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.support.jobs import leave_job
from tests.support.wandb_server import ENTITY, WandbServer
from timemachine import dashboard
from timemachine.cli.schema import leaves
from timemachine.config import Train
from timemachine.exercises.report import write_report
from timemachine.run.jobs import load_jobs
from timemachine.run.rows import EPOCH_COLUMNS, STEP_COLUMNS
from timemachine.weights_and_biases import CHANGES, EVALUATION, FIGURE, GAP, PAGE, SAMPLES

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # wandb_workspaces, when it is imported

Command = Callable[..., str]
EPOCHS = [{"epoch": epoch, "val/perplexity": 20.0 - epoch} for epoch in (1, 2, 3)]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`python -m timemachine.dashboard` with these arguments: what it prints, or the line with which it exits."""

    def call(*arguments: str) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["dashboard", *arguments])
        try:
            dashboard.main()
        except SystemExit as end:
            assert not capsys.readouterr().out
            return str(end.code)
        return capsys.readouterr().out

    return call


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """W&B's server and a key for it."""
    wandb.teardown()  # it remembers the environment of its first call
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
        wandb.teardown()


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of no exercise, with its report, whose runs are in W&B."""
    folder = tmp_path / "sweeps/now"
    folder.parent.mkdir(parents=True)
    for lr in (1.0, 2.0):
        logged: dict[str, Any] = {"wandb": f"run{lr}", "wandb_group": "sweeps/now"}
        metrics = {"epoch": 3, "val/perplexity": 17.0}
        leave_job(folder, {"model": {"lr": lr}}, metrics=metrics, tables={"metrics": EPOCHS}, **logged)
    write_report(folder, "none", load_jobs(folder))
    return folder


def strings(value: Any) -> Iterator[str]:
    """All strings in JSON."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings(part)


# --- the workspace ---


def test_a_workspace_draws_existing_names(run: Command, wandb_server: WandbServer) -> None:
    line = run("project=mine")
    assert not wandb_server.unknown
    (view,) = wandb_server.views.values()
    assert (view["entityName"], view["projectName"], view["displayName"]) == (ENTITY, "mine", "Perplexity")
    assert line == f"{wandb_server.url}/{ENTITY}/mine?nw={view['name'].removeprefix('nw-').removesuffix('-v')}\n"
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    drawn = {name.removeprefix("summary:") for name in strings([section["panels"] for section in sections])}
    logged = {*EPOCH_COLUMNS, *STEP_COLUMNS} - {"step"}
    bits = {"train/bits_per_character", "val/bits_per_character", GAP}
    derived = {"lr", "best_val/perplexity", "trainer/global_step", *bits}
    assert {FIGURE, SAMPLES, EVALUATION, PAGE, *logged, *derived} <= drawn
    of_config = {name.removeprefix("config:") for name in strings(view["spec"]) if name.startswith("config:")}
    settings = {name.replace(".value.", ".") for name in of_config}
    assert settings and settings <= {name for name, _ in leaves(Train)}
    (runs,) = view["spec"]["section"]["runSets"]
    grouping = [(key["section"], key["name"]) for key in runs["grouping"]]  # seeds are one line
    assert grouping == [("run", "group"), ("config", f"{CHANGES}.value")]
    (kept,) = runs["filters"]["filters"]
    assert (kept["key"]["name"], kept["op"], kept["value"]) == ("tags", "NIN", ["failed", "diverged", "interrupted"])


# --- the report ---


def test_a_report_arrives_once(run: Command, sweep: Path, wandb_server: WandbServer) -> None:
    addresses = {run(f"report={sweep}") for _ in range(2)}
    assert not wandb_server.unknown
    (report,) = wandb_server.views.values()
    assert addresses == {f"{wandb_server.url}/{ENTITY}/timemachine/reports/Sweep-(now)--{report['id']}\n"}
    (figures,) = wandb_server.runs.values()
    assert (figures.name, figures.job_type, figures.group) == ("report-sweeps-now", "report", "sweeps/now")
    images = [content for name, content in figures.files.items() if name.startswith("media/images/curves")]
    assert (sweep / "curves.png").read_bytes() in images
    blocks: list[dict[str, Any]] = report["spec"]["blocks"]
    text = "\n\n".join(block["content"] for block in blocks if "content" in block)
    title, *lines = [line for line in (sweep / "report.md").read_text().splitlines() if line]
    assert title == "# Sweep"
    assert [line for line in lines if not line.startswith("![")] == [line for line in text.split("\n") if line]
    of_figure, live = (block["metadata"] for block in blocks if block["type"] == "panel-grid")
    assert of_figure["panelBankSectionConfig"]["panels"][0]["config"]["mediaKeys"] == ["curves"]
    assert "report-sweeps-now" in strings(of_figure["runSets"][0]["filters"])
    assert "sweeps/now" in strings(live["runSets"][0]["filters"])
    drawn = [metric for panel in live["panelBankSectionConfig"]["panels"] for metric in panel["config"]["metrics"]]
    assert {"train/perplexity", "val/perplexity", "test/perplexity", "grad_norm"} <= set(drawn)


# --- the command line ---


def test_a_dry_run_needs_no_server(run: Command, sweep: Path) -> None:
    """No server is there."""
    title, *panels = run("entity=me", "--dry-run").splitlines()
    assert title == "Perplexity" and "  LinePlot Norm of the gradient" in "\n".join(panels)
    title, *blocks = run(f"report={sweep}", "--dry-run").splitlines()
    assert title == "Sweep (now)"
    assert "MediaBrowser ['curves']" in "".join(blocks) and "LinePlot Training and validation" in blocks[-1]


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("projekt=mine", "projekt=mine: expected a setting and its value; type project=…, entity=…, report=…"),
        ("entity=", "entity=: expected a setting and its value; type project=…"),
        ("report={tmp}", "report={tmp}: has no report.md; type the folder of a sweep with a report"),
    ],
)
def test_a_mistake_is_one_line(run: Command, tmp_path: Path, argument: str, line: str) -> None:
    said = run(*argument.format(tmp=tmp_path).split())
    assert said.startswith(f"error: {line.format(tmp=tmp_path)}") and "\n" not in said


def test_without_a_key_nobody_is_asked(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asks the user"))
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    wandb.teardown()
    assert run().startswith("error: ")
    wandb.teardown()


def test_without_the_package(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "timemachine.weights_and_biases.report", raising=False)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert run().startswith("error: wandb_workspaces")


def test_a_refusal_is_one_line(run: Command, wandb_server: WandbServer) -> None:
    wandb_server.refuses = True
    line = run()
    assert line.startswith("error: project=timemachine: W&B failed (") and "\n" not in line
