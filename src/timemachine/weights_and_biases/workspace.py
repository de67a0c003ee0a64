"""The panels that a reader of the runs wants, as a saved workspace of Weights & Biases.

By the public interface of wandb-workspaces, tested with 0.4.13. It names a setting as a run's config has it, nested:
`model.lr`. It cannot list a project's views, so that each call saves a new one.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import wandb
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws

from timemachine.errors import SettingError, UserError, one_line
from timemachine.weights_and_biases import CHANGES, EVALUATION, FIGURE, GAP, PAGE, SAMPLES, STEP

TIMEOUT = 10  # seconds that W&B's server has for an answer
MOST_RUNS = 100  # that a panel draws; W&B's own 10 would hide most of a sweep
BAD_ENDS = ["failed", "diverged", "interrupted"]  # tags of runs that the filter above the list of runs leaves out
OF_SWEEPS = ("model.hiddens", "data.num_steps", "model.lr", "trainer.gradient_clip_val")  # settings that many vary
PINNED = [
    "summary:val/perplexity", "summary:best_val/perplexity", "summary:test/perplexity", "summary:status",
    "config:model.value.hiddens", "config:model.value.lr",
]  # fmt: skip  # columns, as W&B spells them


def sections() -> dict[str, list[Any]]:
    """Return the workspace's panels, by section."""
    hiddens, at_the_end = wr.Config("model.hiddens"), wr.SummaryMetric("val/perplexity")
    columns = [wr.ParallelCoordinatesPlotColumn(wr.Config(name), display_name=name) for name in OF_SWEEPS]
    columns.append(wr.ParallelCoordinatesPlotColumn(at_the_end))
    bits = [f"{split}/bits_per_character" for split in ("train", "val")]
    clipping = "Norm of the gradient: clipping acts where the two lines part"
    return {
        "Perplexity": [
            _lines("Training and validation perplexity", "epoch", "train/perplexity", "val/perplexity", log=True),
            _lines("Bits per character: log2 of the window perplexity", "epoch", *bits),
            _lines("Gap: bits per character in validation less those in training", "epoch", GAP),
        ],
        "Perplexity at the end": [
            _bars("Validation, last epoch", "val/perplexity"),
            _bars("Validation, best epoch", "best_val/perplexity"),
            _bars("Test: the text behind the validation windows", "test/perplexity"),
        ],
        "Loss and gradient": [
            _lines("Loss: mean negative log-likelihood of a step's characters, in nats", STEP, "loss"),
            _lines(clipping, STEP, "grad_norm", "grad_norm_clipped", log=True),
            _lines("Share of an epoch's steps in which clipping acts", "epoch", "clip_fraction"),
        ],
        "Rate and speed": [
            _lines("Learning rate of the last step", "epoch", "lr"),
            _lines("Characters per second", "epoch", "chars_per_second"),
        ],
        "Figure, texts and evaluation": [
            wr.MediaBrowser(title="perplexity.png", media_keys=[FIGURE], num_columns=1),
            wr.WeavePanelSummaryTable(table_name=SAMPLES),
            wr.WeavePanelSummaryTable(table_name=EVALUATION),
            wr.MediaBrowser(title="The model in a browser (log_model=true)", media_keys=[PAGE], num_columns=1),
        ],
        "Sweeps": [
            wr.ParallelCoordinatesPlot(title="Settings and the validation perplexity they end with", columns=columns),
            wr.ParameterImportancePlot(with_respect_to="val/perplexity"),
            wr.ScatterPlot(title="Validation perplexity and the size of the state", x=hiddens, y=at_the_end),
        ],
    }


def _lines(title: str, x: str, *y: str, log: bool = False) -> Any:
    """Return curves; runs of one group are their mean, in a band from the least to the largest."""
    return wr.LinePlot(title=title, x=x, y=list(y), log_y=log, groupby_aggfunc="mean", groupby_rangefunc="minmax")


def _bars(title: str, metric: str) -> Any:
    return wr.BarPlot(title=title, metrics=[metric], max_runs_to_show=MOST_RUNS, max_bars_to_show=MOST_RUNS)


def save(project: str, entity: str | None) -> str:
    """Save the workspace in W&B's project; return its address. Runs that differ in nothing but their seed are a group.

    Raise UserError as `signed_in` does.
    """
    runs = ws.RunsetSettings(
        filters=ws.And(ws.Tags().notin(BAD_ENDS)),
        groupby=[ws.Metric("Group"), ws.Config(CHANGES)],
        pinned_columns=PINNED,
    )
    parts = []
    for name, panels in sections().items():
        layout = ws.SectionLayoutSettings(columns=len(panels), rows=1)
        parts.append(ws.Section(name=name, panels=panels, is_open=True, layout_settings=layout))
    settings = ws.WorkspaceSettings(max_runs=MOST_RUNS)
    with signed_in(project, entity) as (_, owner):
        view = ws.Workspace(owner, project, "Perplexity", parts, settings, runs)
        return str(view.save().url)


@contextmanager
def signed_in(project: str, entity: str | None) -> Iterator[tuple[wandb.Api, str]]:
    """Give W&B's public API and the entity, the API key's own if None.

    Raise UserError if the key is missing, and if W&B's server does not answer, or refuses.
    """
    try:
        wandb.setup(wandb.Settings(silent=True, mode="online"))  # whatever WANDB_MODE says of runs
        if not wandb.login(prompt=False, verify=False):  # wandb.Api would ask for a key on a terminal
            raise UserError("W&B has no API key configured; type wandb login")
        api = wandb.Api(timeout=TIMEOUT)
        if not (owner := entity or api.default_entity):
            raise SettingError("entity=: the API key has no default entity; type entity=<your user name or team>")
        yield api, owner
    except UserError:
        raise
    except Exception as error:  # the network's, the server's, the key's: wandb raises what it likes
        reason = one_line(error.__cause__ or error, 150)
        advice = "type a project and entity that the API key may write to, or wandb login --relogin for another key"
        raise UserError(f"project={project}: W&B failed ({reason}); {advice}") from error
