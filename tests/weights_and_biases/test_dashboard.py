"""`python -m timemachine dashboard`: the workspace that W&B's server receives."""

import json
import re
from collections.abc import Iterator

import pytest
import wandb
import yaml

from tests.support.wandb_server import ENTITY, WandbServer
from timemachine.__main__ import main
from timemachine.config import REPOSITORY
from timemachine.run.tables import COLUMNS
from timemachine.weights_and_biases import CHANGES, EPOCH_METRICS, FIGURE, SAMPLES

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # raised by the import of wandb_workspaces


@pytest.fixture
def wandb_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """Start a W&B server and set its key in the environment."""
    wandb.teardown()  # it caches the environment of its first call
    with WandbServer() as server:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        yield server
        wandb.teardown()


def test_a_workspace_draws_existing_names(wandb_server: WandbServer, capsys: pytest.CaptureFixture[str]) -> None:
    main(["dashboard", "project=mine"])
    assert not wandb_server.unknown
    (view,) = wandb_server.views
    assert (view["entityName"], view["projectName"], view["displayName"]) == (ENTITY, "mine", "Perplexity")
    url = f"{wandb_server.url}/{ENTITY}/mine?nw={view['name'].removeprefix('nw-').removesuffix('-v')}\n"
    assert capsys.readouterr().out == url
    sections = view["spec"]["section"]["panelBankConfig"]["sections"]
    drawn = set(re.findall(r'"(?:summary:)?([\w/]+)"', json.dumps([section["panels"] for section in sections])))
    assert {FIGURE, SAMPLES, *EPOCH_METRICS, *COLUMNS["steps.csv"][2:], "best_val/perplexity"} <= drawn
    files = {"model": "rnn", "data": "book", "trainer": "default"}
    conf = {
        group: yaml.safe_load((REPOSITORY / f"conf/{group}/{file}.yaml").read_text()) for group, file in files.items()
    }
    settings = {name.replace(".value.", ".") for name in re.findall(r'"config:([\w.]+)"', json.dumps(view["spec"]))}
    assert settings and settings <= {f"{group}.{name}" for group, values in conf.items() for name in values}
    (runs,) = view["spec"]["section"]["runSets"]
    grouping = [(key["section"], key["name"]) for key in runs["grouping"]]  # seeds are grouped in one line
    assert grouping == [("run", "group"), ("config", f"{CHANGES}.value")]
    (kept,) = runs["filters"]["filters"]
    assert (kept["key"]["name"], kept["op"], kept["value"]) == ("state", "NIN", ["failed", "crashed", "killed"])


def test_a_refusal_is_one_line(wandb_server: WandbServer) -> None:
    wandb_server.operations.clear()
    with pytest.raises(SystemExit, match=r"^error: project=a: [^\n]*$"):
        main(["dashboard", "project=a"])
