"""A sweep's report.md as a report of W&B: its blocks, and what arrives at the server."""

import sys
from pathlib import Path
from typing import Any

import pytest
import wandb

from tests.support.jobs import leave_job
from tests.support.wandb_server import ENTITY, WandbServer
from timemachine import dashboard
from timemachine.errors import SettingError
from timemachine.exercises.report import write_report
from timemachine.weights_and_biases.report import blocks, publish

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # wandb_workspaces, when it is imported

EPOCHS = [{"epoch": epoch, "val/perplexity": 20.0 - epoch} for epoch in (1, 2, 3)]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep of no exercise, with its report, whose runs are in W&B."""
    folder = tmp_path / "sweeps/none/now"
    folder.parent.mkdir(parents=True)
    for lr in (1.0, 2.0):
        logged: dict[str, Any] = {"wandb": f"run{lr}", "wandb_group": "sweeps/none/now"}
        metrics = {"epoch": 3, "val/perplexity": 17.0}
        leave_job(folder, {"model": {"lr": lr}}, metrics=metrics, tables={"metrics": EPOCHS}, **logged)
    write_report(folder, "none")
    return folder


def kinds(folder: Path) -> list[str]:
    return [block.kind for block in blocks(folder)[1]]


def test_the_blocks_are_all_of_the_report_and_the_panels_of_its_runs(sweep: Path) -> None:
    title, parts = blocks(sweep)
    text = (sweep / "report.md").read_text()
    assert text.startswith(f"# {title}\n")
    for part in parts:
        assert part.content in text or part.kind == "panels"
    assert {"heading", "text", "table", "figure"} <= set(kinds(sweep))
    assert (parts[-1].kind, parts[-1].content) == ("panels", "sweeps/none/now")


def test_code_is_one_block_with_its_blank_lines(tmp_path: Path) -> None:
    leave_job(tmp_path / "s", {"seed": 0})
    code = "```text\na\n\nb | c\n```"
    (tmp_path / "s/report.md").write_text(f"# A title\n\n> a question\n\n{code}\n\n![c [d]](e.png)\n\n*c [d]*\n")
    title, parts = blocks(tmp_path / "s")
    assert title == "A title"
    assert [(part.kind, part.content) for part in parts] == [
        ("quote", "> a question"), ("code", code), ("figure", "e.png"), ("text", "*c [d]*"),
    ]  # fmt: skip  # no panels: its runs are not in W&B


@pytest.mark.parametrize("elsewhere", ["../mine.png", "/home/me/mine.png", "mine.txt", "a/b.png", "..", ""])
def test_a_file_that_is_no_figure_of_the_folder_is_not_uploaded(elsewhere: str, sweep: Path) -> None:
    (sweep / "report.md").write_text(f"# A title\n\n![a figure]({elsewhere})\n")
    assert "figure" not in kinds(sweep)


def test_a_link_in_the_folder_is_not_followed(sweep: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    (sweep / "curves.png").unlink()
    (sweep / "curves.png").symlink_to(tmp_path / "mine.png")
    with pytest.raises(SettingError, match=r"^report=.*/now: holds '.*curves.png', a link or a pipe; type another"):
        blocks(sweep)


def test_a_dry_run_prints_the_blocks_and_needs_nothing(
    sweep: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in ("wandb", "wandb_workspaces"):
        monkeypatch.setitem(sys.modules, package, None)  # importing it raises
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["dashboard", f"report={sweep}", "--dry-run"])
    dashboard.main()
    title, parts = blocks(sweep)
    assert capsys.readouterr().out.splitlines() == [title, *(f"  {part}" for part in parts)]


def test_a_report_arrives_with_its_figures_and_a_second_call_replaces_it(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb.teardown()  # it remembers the environment of its first call
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        addresses = {publish(sweep) for _ in range(2)}
        wandb.teardown()
    assert not server.unknown
    (report,) = server.reports
    assert addresses == {f"{server.url}/{ENTITY}/timemachine/reports/Sweep-(now)--{report.id}"}
    (run,) = server.runs.values()
    assert (run.name, run.job_type, run.group) == ("report-none-now", "report", "sweeps/none/now")
    images = [content for name, content in run.files.items() if name.startswith("media/images/curves")]
    assert (sweep / "curves.png").read_bytes() in images
    found: list[dict[str, Any]] = report.spec["blocks"]
    table = next(part.content for part in blocks(sweep)[1] if part.kind == "table")
    assert table in [block.get("content") for block in found]
    figures, live = (block["metadata"] for block in found if block["type"] == "panel-grid")
    assert figures["panelBankSectionConfig"]["panels"][0]["config"]["mediaKeys"] == ["curves"]
    assert values(figures["runSets"][0]["filters"]) == [("name", "=", "report-none-now")]
    assert values(live["runSets"][0]["filters"]) == [("group", "=", "sweeps/none/now"), ("jobType", "!=", "report")]
    drawn = [metric for panel in live["panelBankSectionConfig"]["panels"] for metric in panel["config"]["metrics"]]
    assert {"train/perplexity", "val/perplexity", "test/perplexity", "grad_norm"} <= set(drawn)


def values(filters: dict[str, Any]) -> list[tuple[str, str, Any]]:
    """The comparisons of a filter, in either of the package's two forms."""
    if filters.get("filters"):
        return [found for child in filters["filters"] for found in values(child)]
    return [(filters["key"]["name"], filters["op"], filters["value"])] if "key" in filters else []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report=nowhere"], "error: report=nowhere: has no report.md; type the folder of a sweep with a report"),
        (["report={sweep}", "baseline=x"], "error: baseline=: is a setting of the workspace; type it without report="),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["dashboard", *(argument.format(sweep=sweep) for argument in arguments)])
    with pytest.raises(SystemExit) as end:
        dashboard.main()
    assert end.value.code == said
