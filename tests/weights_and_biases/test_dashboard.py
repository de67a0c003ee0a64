"""`python -m timemachine.dashboard`: the workspace that W&B's server receives."""

import json
import re
import sys
from collections.abc import Callable, Iterator

import pytest
import wandb

from tests.support.wandb_server import ENTITY, WandbServer
from timemachine import dashboard
from timemachine.cli.schema import leaves
from timemachine.config import Train
from timemachine.run.rows import EPOCH_COLUMNS, STEP_COLUMNS
from timemachine.weights_and_biases import CHANGES, EVALUATION, FIGURE, SAMPLES

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # raised by the import of wandb_workspaces

Command = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs `python -m timemachine.dashboard` and returns its output or error message."""

    def call(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["dashboard", *arguments])
        try:
            dashboard.main()
        except SystemExit as end:
            return str(end.code)
        return capsys.readouterr().out

    return call


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Start a W&B server and set its key in the environment."""
    wandb.teardown()  # it caches the environment of its first call
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
        wandb.teardown()


def test_a_workspace_draws_existing_names(run: Command, wandb_server: WandbServer) -> None:
    line = run("project=mine")
    assert not wandb_server.unknown
    (view,) = wandb_server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == (ENTITY, "mine", "Perplexity")
    assert line == f"{wandb_server.url}/{ENTITY}/mine?nw={view['name'].removeprefix('nw-').removesuffix('-v')}\n"
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    drawn = set(re.findall(r'"(?:summary:)?([\w/]+)"', json.dumps([section["panels"] for section in sections])))
    logged = {*EPOCH_COLUMNS, *STEP_COLUMNS} - {"step"}
    derived = {"lr", "best_val/perplexity", "trainer/global_step"}
    assert {FIGURE, SAMPLES, EVALUATION, *logged, *derived} <= drawn
    settings = {name.replace(".value.", ".") for name in re.findall(r'"config:([\w.]+)"', json.dumps(view["spec"]))}
    assert settings and settings <= {name for name, _ in leaves(Train)}
    (runs,) = view["spec"]["section"]["runSets"]
    grouping = [(key["section"], key["name"]) for key in runs["grouping"]]  # seeds are grouped in one line
    assert grouping == [("run", "group"), ("config", f"{CHANGES}.value")]
    (kept,) = runs["filters"]["filters"]
    assert (kept["key"]["name"], kept["op"], kept["value"]) == ("state", "NIN", ["failed", "crashed", "killed"])


@pytest.mark.parametrize("argument", ["projekt=mine", "entity="])
def test_a_mistake_is_one_line(argument: str, run: Command) -> None:
    message = run(argument)
    assert message.startswith(f"error: {argument}: ") and "\n" not in message


def test_a_failure_is_one_line(run: Command, wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb_server.refuses = True
    line = run()
    assert line.startswith("error: project=timemachine: ") and "\n" not in line
    wandb.teardown()
    monkeypatch.delenv("WANDB_API_KEY")
    assert "API key" in run()
    monkeypatch.delitem(sys.modules, "timemachine.weights_and_biases.workspace", raising=False)
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert run().startswith("error: wandb_workspaces")
