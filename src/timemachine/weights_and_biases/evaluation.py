"""What evaluate.py found, in the W&B run of the run that it read."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb

from timemachine.config import Wandb
from timemachine.errors import SettingError
from timemachine.runs.files import write_whole
from timemachine.runs.sweep import flat, upload_line
from timemachine.weights_and_biases.run import begin_run, in_bits, in_one_line, was_refused
from timemachine.weights_and_biases.workspace import FIGURE

TABLE = "evaluation"  # the wandb.Table, and the beginning of the summary's names
KEPT = "evaluation.json"  # in the run's wandb/: the rows of all calls, as a table in W&B is logged whole
KEYS = 3  # a row begins with text, part and model


def run_in_wandb(runs: list[str], summary: dict[str, Any]) -> str:
    """Return W&B's id of the run that is read. Raises SettingError if that is not one folder of a run that W&B has."""
    if len(runs) > 1:
        raise SettingError("logger=wandb: a table belongs to one run; type run=<the folder of one>")
    if not Path(runs[0]).is_dir():
        raise SettingError(f"run={runs[0]}: is a file, which has no place for W&B's; type the folder of its run")
    if not summary.get("wandb"):
        raise SettingError(f"run={runs[0]}: was not logged to W&B; type the folder of a run that was, or logger=csv")
    return str(summary["wandb"])


def add_table(
    choice: Wandb, run: str, summary: dict[str, Any], columns: list[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Add rows to the run's table in W&B, and their numbers to the summary there; print where they are.

    `run`: the run's folder. `rows`: text, part and model first, then numbers under the names of `columns`; a row takes
    the place of an earlier one of the same text, part and model.
    """
    begun = begin_run(choice, Path(run), run_in_wandb([run], summary))
    if begun is None:
        return
    folder, failed = Path(begun.dir).parents[1], False
    try:
        rows = _with_earlier(folder / KEPT, rows)
        if begun.offline:  # online wandb asks the server for the rest of the summary, which this would replace
            _tell_again(begun, Path(run), summary)
        begun.log({TABLE: wandb.Table([*columns], [list(row) for row in rows])})
        for row in rows:
            named = zip(columns[KEYS:], row[KEYS:], strict=True)
            place = "/".join((TABLE, *row[:KEYS]))
            begun.summary.update({f"{place}/{name}": value for name, value in named if value is not None})
        begun.finish(exit_code=0 if summary["status"] == "completed" else 1)
    except Exception as error:  # wandb raises what it likes
        print(f"W&B           failed ({in_one_line(error)})", file=sys.stderr)
        failed = True
    state = "offline" if begun.offline else "incomplete" if failed or was_refused(begun) else ""
    print(upload_line([state], folder) or f"W&B           {begun.url}")


def _with_earlier(path: Path, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
    """Return the rows of earlier calls and these, and leave them for the next."""
    earlier = json.loads(path.read_text()) if path.is_file() else []
    found = {tuple(row[:KEYS]): row for row in [*earlier, *rows]}
    write_whole(path, json.dumps(list(found.values())).encode())
    return list(found.values())


def _tell_again(begun: wandb.Run, folder: Path, summary: dict[str, Any]) -> None:
    """Repeat the final numbers and the figure of the run."""
    metrics = summary["metrics"]
    begun.summary.update(flat({name: summary.get(name, {}) for name in ("corpus", "git")}))
    begun.summary.update({**metrics, **in_bits(metrics), "status": summary["status"], "message": summary["message"]})
    if (figure := folder / "perplexity.png").exists():
        begun.log({FIGURE: wandb.Image(str(figure))})
