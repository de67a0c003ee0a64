"""The panels that a reader of the runs wants, as a saved workspace of Weights & Biases.

`python -m timemachine.dashboard project=timemachine entity=me` creates the workspace or brings it up to date, and
prints its address. It is this file's: what was changed in the browser is overwritten, unless it was saved there as a
new view. Runs stand one by one; to see sweeps, group them by "Group" above the list of runs.
"""

import argparse
import re
import sys
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from timemachine.command_line import INTERRUPTED
from timemachine.config import SettingError, UserError, Wandb

if TYPE_CHECKING:
    from wandb_workspaces.workspaces.internal import View

NAME = "Perplexity"  # of the workspace, in W&B's list of views
VIEW = "timemachine"  # its identity, the end of its address, so that a second call finds the first one's
SAMPLES = "samples"  # the wandb.Table that a run logs: epoch, prefix, continuation
MOST_RUNS = 100  # that a panel draws; W&B's own 10 would hide most of a sweep
PROJECT = Wandb().project
SETTINGS = {
    "project": f"W&B's project; {PROJECT} if left out",
    "entity": "its owner, a user or a team; the API key's own if left out",
}
FLAGS = ("-h", "--help", "--dry-run")
TIMEOUT = 10  # seconds that W&B's server has for an answer

VIEWS = """
query Views($entity: String, $project: String, $view: String) {
  project(entityName: $entity, name: $project) {
    allViews(viewType: "project-view", viewName: $view) { edges { node { id } } }
  }
}
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """What one panel draws. Names with a dot are settings of a run, all others are metrics that it logs."""

    title: str
    kind: str
    y: tuple[str, ...]
    x: str = ""
    log: bool = False

    def __str__(self) -> str:
        against = f" against {self.x}" if self.x else ""
        return f"{self.title} ({self.kind}: {', '.join(self.y)}{against}{', log scale' if self.log else ''})"


SECTIONS = {
    "Perplexity": (
        Panel("Training and validation perplexity", "line", ("train/perplexity", "val/perplexity"), "epoch", log=True),
        Panel("Validation perplexity at the end of each run", "bar", ("val/perplexity",)),
    ),
    "Gradient": (
        Panel(
            "Norm of the gradient: clipping acts where the two lines part",
            "line",
            ("grad_norm", "grad_norm_clipped"),
            "trainer/global_step",
            log=True,
        ),
        Panel("Share of an epoch's steps in which clipping acts", "line", ("clip_fraction",), "epoch"),
    ),
    "Speed": (Panel("Characters a second", "line", ("chars_per_second",), "epoch"),),
    "Text": (Panel("What the models write: epoch, prefix, continuation", "table", (SAMPLES,)),),
    "Sweeps": (
        Panel(
            "Settings and the validation perplexity they end with",
            "parallel coordinates",
            ("model.hiddens", "data.num_steps", "model.lr", "trainer.gradient_clip_val", "val/perplexity"),
        ),
        Panel("How much each setting matters", "parameter importance", ("val/perplexity",)),
        Panel("Validation perplexity and the size of the state", "scatter", ("val/perplexity",), "model.hiddens"),
    ),
}


def save(project: str = PROJECT, entity: str | None = None) -> str:
    """Create the workspace in W&B's project, or replace what is in it; returns its address.

    `entity`: a user or a team, the API key's own if None. Raises UserError where the package or the key is missing, and
    where W&B's server does not answer, or refuses.
    """
    try:
        import wandb
        from wandb_workspaces._graphql import execute_graphql, get_app_url
        from wandb_workspaces.workspaces.internal import upsert_view2
    except ImportError as error:
        raise UserError("wandb-workspaces is not installed; type pip install -e '.[dashboard]'") from error

    try:
        wandb.setup(wandb.Settings(silent=True, mode="online"))  # whatever WANDB_MODE says of runs
        if not wandb.login(prompt=False, verify=False):  # wandb.Api would ask for a key on a terminal
            raise UserError("W&B has no API key configured; type wandb login")
        api = wandb.Api(timeout=TIMEOUT)
        entity = entity or api.default_entity
        if not entity:
            raise SettingError("entity=: the API key has no default entity; type entity=<your user name or team>")
        view = build(project, entity)
        found = execute_graphql(api, VIEWS, {"entity": entity, "project": project, "view": view.name})["project"]
        if found is None:
            unknown = f"{entity} has no such project, or the API key may not see it"
            raise SettingError(f"project={project}: {unknown}; type the project and entity of a run that W&B shows")
        view.id = next((edge["node"]["id"] for edge in found["allViews"]["edges"]), "")
        upsert_view2(view)
    except UserError:
        raise
    except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
        raise UserError(_reason(error, project)) from error
    return f"{get_app_url(api)}{quote(entity)}/{quote(project)}?nw={VIEW}"


def build(project: str, entity: str) -> "View":
    """The workspace as W&B stores it."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    sections = [
        ws.Section(
            name=name,
            panels=[_drawn(panel) for panel in panels],
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=len(panels), rows=1),
        )
        for name, panels in SECTIONS.items()
    ]
    shown = ws.WorkspaceSettings(max_runs=MOST_RUNS)
    view = ws.Workspace(entity=entity, project=project, name=NAME, sections=sections, settings=shown)._to_model()
    # A setting is one key with a dot, which W&B keeps as {"model.lr": {"value": 1}}. The package takes its Config for
    # nested dicts, {"model": {"value": {"lr": 1}}}, and has no other spelling.
    spec = view.spec.model_dump_json(by_alias=True, exclude_none=True)
    view.spec = WorkspaceViewspec.model_validate_json(
        re.sub(r'"config:(\w+)\.value\.(\w+)"', r'"config:\1.\2.value"', spec)
    )
    view.name = f"nw-{VIEW}-v"
    return view


def _drawn(panel: Panel) -> Any:
    """The panel as wandb-workspaces has it. Tables and parameter importance have no title there."""
    import wandb_workspaces.reports.v2 as wr

    def stored(name: str) -> Any:
        return wr.Config(name) if "." in name else wr.SummaryMetric(name)

    match panel.kind:
        case "line":
            return wr.LinePlot(title=panel.title, x=panel.x, y=list(panel.y), log_y=panel.log)
        case "bar":
            return wr.BarPlot(
                title=panel.title, metrics=list(panel.y), max_runs_to_show=MOST_RUNS, max_bars_to_show=MOST_RUNS
            )
        case "table":
            return wr.WeavePanelSummaryTable(table_name=panel.y[0])
        case "parallel coordinates":
            columns = [wr.ParallelCoordinatesPlotColumn(metric=stored(name), display_name=name) for name in panel.y]
            return wr.ParallelCoordinatesPlot(title=panel.title, columns=columns)
        case "parameter importance":
            return wr.ParameterImportancePlot(with_respect_to=panel.y[0])
        case "scatter":
            return wr.ScatterPlot(title=panel.title, x=stored(panel.x), y=stored(panel.y[0]))
    raise ValueError(panel.kind)


def _reason(error: Exception, project: str) -> str:
    """What went wrong at W&B, and what to type."""
    from wandb.errors import AuthenticationError

    failure = error.__cause__ or error
    said = " ".join(str(failure).split())[:150]
    if getattr(failure, "response", said) is None:  # wandb's own process gave up waiting
        return f"W&B's server does not answer within {TIMEOUT} seconds; type the same again when it can be reached"
    if isinstance(error, AuthenticationError):
        return f"W&B refuses the API key ({said}); type wandb login --relogin"
    return f"project={project}: W&B says {said}; type a project and entity that the API key may write to"


def checked_arguments(arguments: list[str]) -> dict[str, str]:
    """The settings that were typed. Raises SettingError for a name that does not exist, or has no value."""
    typed = dict[str, str]()
    for argument in arguments:
        name, _, value = argument.partition("=")
        if argument in FLAGS:
            continue
        if name not in SETTINGS:
            nearest = (get_close_matches(name, [*SETTINGS, *FLAGS], 1, 0.5) or ["--help"])[0]
            instead = f"{nearest}={value or '…'}" if nearest in SETTINGS else nearest
            raise SettingError(f"{argument}: there is no setting of that name; type {instead}")
        if not value:
            raise SettingError(f"{argument}: has no value; type {name}=<{SETTINGS[name]}>")
        typed[name] = value
    return typed


def main() -> None:
    """`python -m timemachine.dashboard project=… entity=…`."""
    parser = argparse.ArgumentParser(
        prog="python -m timemachine.dashboard", description=f"Save the workspace {NAME!r} in a project of W&B."
    )
    parser.add_argument(
        "settings", nargs="*", metavar="name=value", help="; ".join(f"{n}=<{w}>" for n, w in SETTINGS.items())
    )
    parser.add_argument("--dry-run", action="store_true", help="print the sections and panels, and save nothing")
    try:
        typed = checked_arguments(sys.argv[1:])
        if parser.parse_intermixed_args().dry_run:
            for name, panels in SECTIONS.items():
                print(name, *panels, sep="\n  ")
        else:
            print(save(**typed))
    except UserError as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
