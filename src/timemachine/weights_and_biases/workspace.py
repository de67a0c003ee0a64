"""The panels that a reader of the runs wants, as a saved workspace of Weights & Biases.

Tested with wandb-workspaces 0.4.13, of which `_graphql`, `workspaces.internal` and `Workspace._to_model` are private.
The workspace is this file's: what was changed in the browser is overwritten, unless it was saved there as a
new view. Runs of a sweep that differ in nothing but their seed are one line, their mean, in a band from the least to
the largest. Runs that failed, diverged or were interrupted are left out by the filter above the list of runs; remove it
there to see them.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from timemachine.errors import SettingError, UserError
from timemachine.runs.summaries import run_summary

if TYPE_CHECKING:
    from wandb_workspaces.workspaces.internal import View

NAME = "Perplexity"  # of the workspace, in W&B's list of views
VIEW = "timemachine"  # its identity, the end of its address, so that a second call finds the first one's
CHANGES = "changes"  # in a run's config: its text and what was typed, but for the seed
FIGURE = "perplexity"  # the wandb.Image of perplexity.png
SAMPLES = "samples"  # the wandb.Table that a run logs: epoch, prefix, continuation
PAGE = "page"  # the wandb.Html that a run logs at its end with log_model: its model in a browser
MOST_RUNS = 100  # that a panel draws; W&B's own 10 would hide most of a sweep
PROJECT = "timemachine"  # unless a setting or WANDB_PROJECT names another
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


BAD_ENDS = ("failed", "diverged", "interrupted")  # tags of runs that the filter leaves out
PINNED = ("val/perplexity", "best_val/perplexity", "test/perplexity", "status", "model.hiddens", "model.lr")  # columns

SECTIONS = {
    "Perplexity": (
        Panel("Training and validation perplexity", "line", ("train/perplexity", "val/perplexity"), "epoch", log=True),
        Panel("Bits a character: log2 of the window perplexity", "line", ("val/bits_per_character",), "epoch"),
    ),
    "Perplexity at the end": (
        Panel("Validation, last epoch", "bar", ("val/perplexity",)),
        Panel("Validation, best epoch", "bar", ("best_val/perplexity",)),
        Panel("Test: the text behind the validation windows", "bar", ("test/perplexity",)),
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
    "Rate and speed": (
        Panel("Learning rate of the last step", "line", ("lr",), "epoch"),
        Panel("Characters a second", "line", ("chars_per_second",), "epoch"),
    ),
    "Figure and text": (
        Panel("perplexity.png", "media", (FIGURE,)),
        Panel("What the models write: epoch, prefix, continuation", "table", (SAMPLES,)),
        Panel("The model in a browser (logger.wandb.log_model=true)", "media", (PAGE,)),
    ),
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


@contextmanager
def asked(project: str, entity: str | None) -> Iterator[tuple[Any, str, str]]:
    """Give W&B's public API, the entity, the API key's own if None, and the project's address.

    Raises UserError where the package or the key is missing, and where W&B's server does not answer, or refuses.
    """
    try:
        import wandb
        from wandb_workspaces._graphql import get_app_url
    except ImportError as error:
        raise UserError("wandb-workspaces is not installed; type pip install -e '.[dashboard]'") from error

    try:
        wandb.setup(wandb.Settings(silent=True, mode="online"))  # whatever WANDB_MODE says of runs
        if not wandb.login(prompt=False, verify=False):  # wandb.Api would ask for a key on a terminal
            raise UserError("W&B has no API key configured; type wandb login")
        api = wandb.Api(timeout=TIMEOUT)
        owner = entity or api.default_entity
        if not owner:
            raise SettingError("entity=: the API key has no default entity; type entity=<your user name or team>")
        yield api, owner, f"{get_app_url(api)}{quote(owner)}/{quote(project)}"
    except UserError:
        raise
    except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
        raise UserError(_reason(error, project)) from error


def views(api: Any, project: str, entity: str, name: str) -> list[str]:
    """Return the ids of the saved views of that name. Raises SettingError if the project cannot be seen."""
    from wandb_workspaces._graphql import execute_graphql

    found = execute_graphql(api, VIEWS, {"entity": entity, "project": project, "view": name})["project"]
    if found is None:
        unknown = f"{entity} has no such project, or the API key may not see it"
        raise SettingError(f"project={project}: {unknown}; type the project and entity of a run that W&B shows")
    return [edge["node"]["id"] for edge in found["allViews"]["edges"]]


def save(project: str = PROJECT, entity: str | None = None, baseline: str | None = None) -> str:
    """Create the workspace in W&B's project, or replace what is in it; returns its address.

    `baseline`: the folder of a run, which the columns compare all others with; the n-grams of its training text are
    logged as runs of job type `baseline`, and are pinned as lines to compare curves with. Raises as `asked` does, and
    SettingError if `baseline` is no run that W&B has.
    """
    summary = summary_of(baseline) if baseline else {}
    with asked(project, entity) as (api, owner, address):
        from wandb_workspaces.workspaces.internal import upsert_view2

        (old, *_) = [*views(api, project, owner, f"nw-{VIEW}-v"), ""]
        pinned = []
        if summary:
            from timemachine.weights_and_biases.baselines import log_marks  # it imports torch, which takes seconds

            pinned = log_marks(summary, project, owner)
        view = build(project, owner, summary.get("wandb"), pinned)
        view.id = old
        upsert_view2(view)
    return f"{address}?nw={VIEW}"


def summary_of(baseline: str) -> dict[str, Any]:
    """The summary of a run that is to be compared with. Raises SettingError if it is no run that W&B has."""
    summary = run_summary(baseline, "baseline")
    if not summary.get("wandb"):
        raise SettingError(f"baseline={baseline}: the run was not logged to W&B; type the folder of one that was")
    return summary


def build(project: str, entity: str, baseline: str | None = None, pinned: Sequence[str] = ()) -> "View":
    """The workspace as W&B stores it. `baseline` and `pinned`: ids of runs."""
    import wandb_workspaces.workspaces as ws
    from wandb_workspaces.workspaces.internal import WorkspaceViewspec

    sections = [
        ws.Section(
            name=name,
            panels=[drawn(panel) for panel in panels],
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=len(panels), rows=1),
        )
        for name, panels in SECTIONS.items()
    ]
    runs = ws.RunsetSettings(
        filters=ws.And(ws.Tags().notin(list(BAD_ENDS))),
        groupby=[ws.Metric("Group"), ws.Config(CHANGES)],
        pinned_columns=[f"config:{name}.value" if name.startswith("model.") else f"summary:{name}" for name in PINNED],
        baseline_run=baseline,
        pinned_runs=list(pinned),
    )
    view = ws.Workspace(
        entity=entity,
        project=project,
        name=NAME,
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=MOST_RUNS),
        runset_settings=runs,
    )._to_model()
    # A setting is one key with a dot, which W&B keeps as {"model.lr": {"value": 1}}. The package takes its Config for
    # nested dicts, {"model": {"value": {"lr": 1}}}, and has no other spelling.
    spec = view.spec.model_dump_json(by_alias=True, exclude_none=True)
    view.spec = WorkspaceViewspec.model_validate_json(
        re.sub(r'"config:(\w+)\.value\.(\w+)"', r'"config:\1.\2.value"', spec)
    )
    view.name = f"nw-{VIEW}-v"
    return view


def drawn(panel: Panel) -> Any:
    """The panel as wandb-workspaces has it. Tables and parameter importance have no title there."""
    import wandb_workspaces.reports.v2 as wr

    def stored(name: str) -> Any:
        return wr.Config(name) if "." in name else wr.SummaryMetric(name)

    match panel.kind:
        case "line":
            band: dict[str, Any] = {"groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}  # of runs in one group
            return wr.LinePlot(title=panel.title, x=panel.x, y=list(panel.y), log_y=panel.log, **band)
        case "bar":
            return wr.BarPlot(
                title=panel.title, metrics=list(panel.y), max_runs_to_show=MOST_RUNS, max_bars_to_show=MOST_RUNS
            )
        case "table":
            return wr.WeavePanelSummaryTable(table_name=panel.y[0])
        case "media":
            return wr.MediaBrowser(title=panel.title, media_keys=list(panel.y), num_columns=1)
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
