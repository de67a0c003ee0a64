"""Panels for the runs, as a saved workspace of Weights & Biases.

The public interface of wandb-workspaces 0.4.13 cannot list a project's views, so each call saves a new one.
"""

import os
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from timemachine.errors import SettingError, UserError, one_line
from timemachine.weights_and_biases import CHANGES, FIGURE, PROJECT, SAMPLES

TIMEOUT = 10  # seconds to wait for W&B's server

MANY: Any = {"max_runs_to_show": 100, "max_bars_to_show": 100}  # W&B's own 10 would hide most of a sweep
ENDS = ["val/perplexity", "best_val/perplexity", "test/perplexity"]
ENDS_IN_BYTES = ["val/bits_per_byte", "val/bits_per_byte_at_best_epoch", "test/bits_per_byte"]
BAD_ENDS = ["failed", "crashed", "killed"]  # states of W&B's runs that the workspace hides
OF_SWEEPS = ("model.hiddens", "data.num_steps", "model.lr", "trainer.gradient_clip_val")  # often varied settings


def sections() -> dict[str, list[Any]]:
    """Return the workspace's panels, by section."""
    step, of_sweeps = "trainer/global_step", [*map(wr.Config, OF_SWEEPS), wr.SummaryMetric("val/perplexity")]
    columns = [wr.ParallelCoordinatesPlotColumn(each) for each in of_sweeps]
    return {
        "Perplexity": [
            _lines("Training and validation perplexity", "epoch", "train/perplexity", "val/perplexity", log=True),
            wr.BarPlot(title="Last and best validation, test", metrics=ENDS, **MANY),
            _lines("Bits per byte of the text in UTF-8", "epoch", "val/bits_per_byte"),
            wr.BarPlot(title="Bits per byte: last and best validation, test", metrics=ENDS_IN_BYTES, **MANY),
        ],
        "Training": [
            _lines("Loss: mean negative log-likelihood of a step's characters, in nats", step, "loss"),
            _lines("Norm of the gradient, before and after clipping", step, "grad_norm", "grad_norm_clipped", log=True),
            _lines("Share of an epoch's steps in which clipping acts", "epoch", "clip_fraction"),
            _lines("Learning rate of the last step", "epoch", "lr"),
            _lines("Characters per second", "epoch", "chars_per_second"),
        ],
        "Figure and texts": [
            wr.MediaBrowser(title="perplexity.png", media_keys=[FIGURE], num_columns=1),
            wr.WeavePanelSummaryTable(table_name=SAMPLES),
        ],
        "Sweeps": [
            wr.ParallelCoordinatesPlot(title="Settings and final validation perplexity", columns=columns),
            wr.ParameterImportancePlot(with_respect_to="val/perplexity"),
        ],
    }


def _lines(title: str, x: str, *y: str, log: bool = False) -> Any:
    """Return curves; a group of runs is drawn as the mean and a band from minimum to maximum."""
    return wr.LinePlot(title=title, x=x, y=list(y), log_y=log, groupby_aggfunc="mean", groupby_rangefunc="minmax")


def save(project: str, entity: str) -> str:
    """Save the workspace; return its URL. Runs that differ only in their seed form a group."""
    groups = [ws.Metric("Group"), ws.Config(CHANGES)]
    runs = ws.RunsetSettings(filters=ws.And(ws.Metric("State").notin(BAD_ENDS)), groupby=groups)
    parts = [ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections().items()]
    view = ws.Workspace(entity, project, "Perplexity", parts, ws.WorkspaceSettings(max_runs=100), runs)
    return str(view.save().url)


def save_workspace(project: str = "", entity: str = "") -> str:
    """Save the workspace; return its URL. "": WANDB_PROJECT, or timemachine; the API key's entity. Raises UserError."""
    project = project or os.environ.get("WANDB_PROJECT") or PROJECT
    try:
        if not wandb.login(prompt=False):
            raise UserError("no API key is configured; use wandb login")
        if not (entity := entity or wandb.Api(timeout=TIMEOUT).default_entity or ""):
            raise SettingError("entity: the API key has no default entity; use entity=<a user or a team>")
        return save(project, entity)
    except (OSError, wandb.errors.Error) as error:  # from the network, the server or the key
        reason = one_line(error.__cause__ or error, 150)
        advice = "use a project and entity that the API key can write to, or wandb login --relogin for another key"
        raise UserError(f"project={project}: W&B failed ({reason}); {advice}") from error
