"""What evaluate.py found, in the W&B run of the run that it read."""

import sys
from pathlib import Path
from typing import Any

import wandb

from timemachine.config import Wandb
from timemachine.errors import SettingError
from timemachine.evaluation.scores import COLUMNS, Row
from timemachine.runs.sweep import upload_line
from timemachine.weights_and_biases import EVALUATION, FIGURE
from timemachine.weights_and_biases.run import begin_run, final_numbers, finish, in_one_line


def run_in_wandb(runs: list[str], summary: dict[str, Any]) -> str:
    """Return W&B's id of the run that is read. Raise SettingError if that is not one folder of a run that W&B has."""
    if len(runs) > 1:
        raise SettingError("logger=wandb: a table belongs to one run; type run=<the folder of one>")
    if not Path(runs[0]).is_dir():
        raise SettingError(f"run={runs[0]}: logger=wandb expects a folder; type the folder of its run")
    if not summary.get("wandb"):
        raise SettingError(f"run={runs[0]}: was not logged to W&B; type the folder of a run that was, or logger=csv")
    return str(summary["wandb"])


def add_table(choice: Wandb, run: str, summary: dict[str, Any], rows: list[Row]) -> None:
    """Log the table `EVALUATION` to the run in W&B, and its numbers to the summary there; print where they are.

    `run`: the run's folder. W&B shows the table that was logged last.
    """
    begun = begin_run(choice, Path(run), run_in_wandb([run], summary))
    if begun is None:
        return
    folder, state = Path(begun.dir).parents[1], "offline" if begun.offline else "incomplete"
    try:
        if begun.offline:  # the summary and the figure of an offline part replace those that W&B has
            begun.summary.update(final_numbers(summary))
            if (figure := Path(run) / "perplexity.png").exists():
                begun.log({FIGURE: wandb.Image(str(figure))})
        table = [row.cells() for row in rows]
        begun.log({EVALUATION: wandb.Table([*COLUMNS], table)})
        for text, part, model, *numbers in table:
            for name, number in zip(COLUMNS[3:], numbers, strict=True):
                if number is not None:
                    begun.summary[f"{EVALUATION}/{text}/{part}/{model}/{name}"] = number
        if finish(begun, summary["status"]) and not begun.offline:
            state = ""
    except Exception as error:  # wandb raises what it likes
        print(f"W&B           failed ({in_one_line(error)})", file=sys.stderr)
    print(upload_line([state], folder) or f"W&B           {begun.url}")
