"""Log the table of evaluate.py as a separate run in Weights & Biases, in the group of the evaluated run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from timemachine.evaluation.scores import COLUMNS, Row
from timemachine.run.jobs import upload_line
from timemachine.run.record import folder_of
from timemachine.weights_and_biases import EVALUATION
from timemachine.weights_and_biases.run import OptionalWandbLogger


def log_evaluation(entry: Mapping[str, Any], runs: list[str], summary: dict[str, Any], rows: list[Row]) -> None:
    """Log the table `EVALUATION` and print its URL. `summary`: summary.json of the first run."""
    typed = {name: value for name, value in entry.items() if name not in ("_target_", "sample_every_n_epochs")}
    name, group = f"evaluation of {', '.join(runs)}", summary.get("wandb_group")
    logger = OptionalWandbLogger(typed, dir=folder_of(Path(runs[0])), name=name, group=group, job_type="evaluation")
    if not logger.run.disabled:
        logger.log_hyperparams({"settings": summary["settings"], "runs": runs, "wandb": summary.get("wandb")})
        logger.log_table(EVALUATION, [*COLUMNS], [row.cells() for row in rows])
        logger.finish("completed")
        url = logger.run.url
        print(f"W&B           {url}" if url else upload_line(Path(logger.run.dir).parents[1]))
