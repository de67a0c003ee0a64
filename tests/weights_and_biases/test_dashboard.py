"""`python -m timemachine dashboard`: the workspace that is saved in W&B."""

import re
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import yaml

from timemachine.__main__ import main
from timemachine.config import REPOSITORY
from timemachine.run.tables import COLUMNS
from timemachine.weights_and_biases import CHANGES, EPOCH_METRICS, FIGURE, SAMPLES

pytestmark = pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # raised by the import of wandb_workspaces
ASKED = ["dashboard", "project=mine", "entity=me"]


def test_a_workspace_draws_existing_names(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import wandb_workspaces.workspaces as ws

    saved: list[Any] = []

    def save(view: Any) -> Any:
        saved.append(view)
        return SimpleNamespace(url="https://here")

    monkeypatch.setattr(wandb, "login", lambda **_: True)
    monkeypatch.setattr(ws.Workspace, "save", save)
    main(ASKED)
    assert capsys.readouterr().out == "https://here\n"
    (view,) = saved
    assert (view.entity, view.project, view.name) == ("me", "mine", "Perplexity")
    quoted = set(re.findall(r"'([\w./]+)'", repr(view.sections)))
    assert {FIGURE, SAMPLES, *EPOCH_METRICS, *COLUMNS["steps.csv"][2:], "best_val/perplexity"} <= quoted
    files = {"model": "rnn", "data": "book", "trainer": "default"}
    conf = {
        f"{group}.{name}"
        for group, file in files.items()
        for name in yaml.safe_load((REPOSITORY / f"conf/{group}/{file}.yaml").read_text())
    }
    settings = {name for name in quoted if name.startswith(("model.", "data.", "trainer."))}
    assert settings and settings <= conf
    runs = view.runset_settings
    assert [key.name for key in runs.groupby] == ["Group", CHANGES]  # seeds are grouped in one line
    assert "not in ['failed', 'crashed', 'killed']" in str(runs.filters)


def test_a_refusal_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> bool:
        raise wandb.errors.AuthenticationError("another\nkey")

    monkeypatch.setattr(wandb, "login", refuse)
    with pytest.raises(SystemExit, match=r"^error: project=mine: [^\n]*$"):
        main(ASKED)
