"""Lightning's WandbLogger for runs that also work without an account, in sweeps and when resumed."""

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import wandb
from lightning.pytorch.loggers import WandbLogger as LightningsLogger

from timemachine.errors import SettingError
from timemachine.run.files import relative_path, write_whole
from timemachine.run.run import Run
from timemachine.run.summary import is_first_process
from timemachine.weights_and_biases import CHANGES, EPOCH_METRICS, FIGURE, PROJECT, upload_line

FILE, KEPT = "wandb.json", ("id", "group")  # in a run's folder


class WandbLogger(LightningsLogger):
    """Lightning's logger; offline without an API key; a resumed run continues the same run in W&B, in the same group.

    Entity, project, mode and server never come from a folder, which may be somebody else's. Epochs and steps count from
    1, as in the tables. `changes`: the command line's overrides, for the run's name. `arguments`: of Lightning's class
    and of `wandb.init`; None and [] are their default.
    """

    def __init__(self, save_dir: str, offline: bool = False, changes: str = "", **arguments: Any) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")  # the program prints the command of an upload
        variable, kept = os.environ.get, _kept(Path(save_dir))
        given: dict[str, Any] = {"id": secrets.token_hex(4), "project": variable("WANDB_PROJECT", PROJECT)}
        given |= {"group": variable("WANDB_RUN_GROUP"), "name": variable("WANDB_NAME")} | kept
        given["name"] = given["name"] or (None if kept else changes)  # a resumed run keeps its name in W&B
        given |= {name: value for name, value in arguments.items() if value not in (None, [])}
        # Not by Lightning's `offline`: it sets a variable that `wandb.setup` has read by then.
        if offline or not (wandb.setup().settings.mode != "online" or wandb.login(prompt=False, verify=False)):
            given.setdefault("mode", "offline")
        without_seed = " ".join(override for override in changes.split() if not override.startswith("seed="))
        super().__init__(save_dir=save_dir, config={CHANGES: without_seed}, **given)
        if is_first_process():  # Lightning starts a run in W&B in this process only
            write_whole(Path(save_dir, FILE), json.dumps({name: given[name] for name in KEPT}).encode())
            for metric in EPOCH_METRICS:
                self.experiment.define_metric(metric, step_metric="epoch")

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics. While a model trains, Lightning counts epochs and steps from 0; afterwards it gives numbers."""
        first = 0 if any(name.startswith("test/") for name in metrics) else 1
        row = {name: value + first if name == "epoch" else value for name, value in metrics.items()}
        super().log_metrics(row, None if step is None else step + first)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Upload the best checkpoint only: the last one would replace it under the same name."""
        if checkpoint_callback.monitor is not None:
            super().after_save_checkpoint(checkpoint_callback)

    def log_results(self, run: Run, trainer: Any) -> str:
        """Log the final metrics, the status and the figure of a run; return the line about an upload."""
        self.experiment.summary.update(run.metrics | {"status": run.summary["status"]})
        if (figure := run.folder / "perplexity.png").exists():
            self.log_image(FIGURE, [str(figure)])
        return upload_line(run.folder / "wandb")


def _kept(folder: Path) -> dict[str, str]:
    """Return what an earlier session has kept, {} if there is nothing."""
    try:
        kept = json.loads((folder / FILE).read_text(encoding="utf-8")) if (folder / FILE).exists() else {}
        return {name: str(kept[name]) for name in KEPT if kept.get(name)}
    except (ValueError, AttributeError) as error:
        raise SettingError(f"{relative_path(folder / FILE)}: damaged; remove it to start another run in W&B") from error
