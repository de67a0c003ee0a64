"""The table of evaluate.py as a run of its own in Weights & Biases, in the group of the run that was read."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import wandb

from timemachine.evaluation.scores import COLUMNS, Row
from timemachine.run.jobs import upload_line
from timemachine.run.record import folder_of
from timemachine.weights_and_biases import EVALUATION
from timemachine.weights_and_biases.run import UPLOADS, begin_run, finish, in_one_line


def log_evaluation(entry: Mapping[str, Any], runs: list[str], summary: dict[str, Any], rows: list[Row]) -> None:
    """Log the table `EVALUATION`, and its numbers as the summary of the run; print where they are.

    `entry`: that of conf/logger/wandb.yaml. `runs`, `summary`: what was read; the summary is the first run's.
    """
    left_out = {"_target_", "sample_every_n_epochs", *UPLOADS}
    typed = {name: value for name, value in entry.items() if name not in left_out}
    config = {"settings": summary["settings"], "runs": runs, "wandb": summary.get("wandb")}
    name, group = f"evaluation of {', '.join(runs)}", summary.get("wandb_group")
    run = begin_run(typed, folder_of(Path(runs[0])), config, name=name, group=group, job_type="evaluation")
    if run.disabled:
        return
    folder, state = Path(run.dir).parents[1], "offline" if run.offline else "incomplete"
    try:
        table = [row.cells() for row in rows]
        run.log({EVALUATION: wandb.Table([*COLUMNS], table)})
        for text, part, model, *numbers in table:
            for column, number in zip(COLUMNS[3:], numbers, strict=True):
                if number is not None:
                    run.summary[f"{EVALUATION}/{text}/{part}/{model}/{column}"] = number
        if finish(run, "completed") and not run.offline:
            state = ""
    except Exception as error:  # wandb raises what it likes
        print(f"W&B           failed ({in_one_line(error)})", file=sys.stderr)
        with suppress(Exception):  # its process may have died
            wandb.teardown()
    print(upload_line([state], folder) or f"W&B           {run.url}")
