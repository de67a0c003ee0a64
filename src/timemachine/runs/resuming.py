"""How a run or a job of a sweep that was interrupted goes on: what is refused, what is kept, what begins anew."""

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.config import Train, format_value, to_dict
from timemachine.errors import SettingError, one_line
from timemachine.runs.files import shown
from timemachine.runs.record import Record, is_resumed
from timemachine.runs.rows import read
from timemachine.runs.summaries import EPOCH_WEIGHTS, EXPORT, flat, read_summary

if TYPE_CHECKING:  # they import torch, which takes seconds
    import lightning.pytorch as pl

    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

# What makes it another experiment: the settings whose names begin so, a new one, too, but for those that may change.
FIXED = ("seed", "init_from", "data.", "model.", "training.")
MAY_CHANGE = {
    "data.corpus", "data.search_dirs", "data.batch_size",  # the SHA-256 of the text is compared
    "model.lr", "model.backward", "training.carry_state", "training.input_dropout", "training.output_dropout",
}  # fmt: skip


def kept_backward(run: Record, backward: str) -> str:
    """Return `model.backward`; instead of auto, what a run trained with that began without the compiled kernel."""
    began = str(run.before.get("kernel"))
    has_choice = backward == "auto" and run.summary["settings"]["model"]["cell"] == "rnn"
    return began if has_choice and began in ("bptt", "autograd") else backward


def resume(run: Record, trainer: "pl.Trainer", model: "RNNLMScratch", data: "TimeMachine") -> Path | None:
    """Return the checkpoint that a run goes on from, None where it begins.

    It is read and compared with the settings before anything is changed. Raises SettingError where it cannot go on.
    """
    if (path := last_checkpoint(run)) is None:
        return None
    if "corpus" not in run.before:
        raise SettingError(f"resume={shown(run.folder)}: has no summary.json of a run that trained; type another run")
    before, now = with_defaults(run.before["settings"]), flat(run.summary["settings"])
    for name in now:
        if name.startswith(FIXED) and name not in MAY_CHANGE and before[name] != now[name]:
            setting = f"{name}={format_value(before[name])}"
            raise SettingError(f"{name}={format_value(now[name])}: the run began with {setting}; type {setting}")
    if run.before["corpus"]["sha256"] != data.corpus.sha256:
        text = format_value(data.corpus.source)
        raise SettingError(f"data.corpus={text}: is not the text that the run began with; type the path of that one")
    if now["trainer.enable_checkpointing"] is False:
        rule = "would leave its old checkpoint beside a newer model"
        raise SettingError(f"trainer.enable_checkpointing=false: a run that has one {rule}; type it without")
    checkpoint = _checked(path, model, data)
    done, steps = checkpoint["epoch"] + 1, checkpoint["global_step"]
    for name, asked, has in (("epochs", trainer.max_epochs, done), ("steps", trainer.max_steps, steps)):
        if asked is not None and 0 <= asked < has:
            instead = f"type trainer.max_{name}={has} or more"
            raise SettingError(f"trainer.max_{name}={asked}: the run has {has} {name} already; {instead}")
    if run.writes and not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        cut = f"epoch {done} was cut short by trainer.max_steps, max_time or the like"
        print(f"{cut}: the run goes on with epoch {done + 1}, not as one that was never ended", file=sys.stderr)
    for name in before.keys() & now.keys():
        if name.startswith("callbacks.") and before[name] != now[name]:  # its state, restored, has the old value
            setting = f"{name}={format_value(before[name])}"
            raise SettingError(f"{name}={format_value(now[name])}: the callback began with {setting}; type {setting}")
    told = [name for name in now | before if not re.match(r"resume$|logger\.|callbacks\..*(?<!\._target_)$", name)]
    changed = [name for name in told if before.get(name) != now.get(name)]
    if changed:
        settings = {name: {"before": before.get(name), "now": now.get(name)} for name in changed}
        run.update(changes=[*run.summary.get("changes", []), {"from_epoch": done + 1, "settings": settings}])
        if run.writes and not run.quiet:
            each = (f"{name}={format_value(now.get(name))} (was {format_value(before.get(name))})" for name in changed)
            print(f"from epoch {done + 1} on: {', '.join(each)}")
    return path


def with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a run under dotted names, with the defaults of those that are newer than the run."""
    return flat(to_dict(Train())) | flat(settings)


def _checked(path: Path, model: "RNNLMScratch", data: "TimeMachine") -> dict[str, Any]:
    """Return the checkpoint. Raises SettingError unless it is one of such a model."""
    from timemachine.runs.checkpoints import read_checkpoint  # it imports torch, which takes seconds

    try:
        checkpoint = read_checkpoint(path)
        model.load_state_dict(checkpoint["state_dict"])
        if checkpoint["TimeMachine"]["tokens"] != data.vocab.idx_to_token:
            raise ValueError("it has another vocabulary than the text")
    except Exception as error:  # damaged bytes, or another program's checkpoint, raise anything
        reason = f"is damaged, or another model's: {one_line(error, 100)}"
        raise SettingError(f"resume={shown(path.parents[1])}: {shown(path)} {reason}; type another run") from error
    return checkpoint


def last_checkpoint(run: Record) -> Path | None:
    """Return the last checkpoint of a run that is resumed. Where it has none, remove what it left: it begins anew.

    Raises SettingError where it has none and has trained for more than an epoch: that would be lost. Not so for what
    Slurm or a sweep begins again if it keeps no checkpoints, such as a job of an exercise.
    """
    settings = run.summary["settings"]
    if not run.is_resumed:
        return None
    path = run.folder / "checkpoints" / "last.ckpt"
    if path.is_file():
        return path
    keeps_none = settings["trainer"]["enable_checkpointing"] is False
    expendable = keeps_none and (run.in_sweep or settings["resume"] is None)
    if not expendable and len(read(run.folder / "metrics.csv")) > 1:
        folder = shown(run.folder)
        raise SettingError(f"resume={folder}: has trained, but has no checkpoints/last.ckpt; type another run")
    if run.writes:
        begin_anew(run.folder)
    return None


def begin_anew(folder: Path) -> None:
    """Remove what a run that cannot be resumed has left."""
    for name in ("checkpoints", "wandb", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("metrics.csv", "steps.csv", EPOCH_WEIGHTS, EXPORT):
        (folder / name).unlink(missing_ok=True)


def is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Return whether a job of a resumed sweep has ended in the folder before.

    Raises SettingError where it had other settings.
    """
    if not is_resumed(settings):
        return False
    try:
        summary = read_summary(folder)
    except (OSError, ValueError):
        return False
    if with_defaults(summary["settings"]) | {"resume": settings["resume"]} != with_defaults(settings):
        what = f"its job {folder.name} has other settings"
        raise SettingError(f"resume={settings['resume']}: {what}; type the command that began it")
    return summary["status"] in ("completed", "diverged")
