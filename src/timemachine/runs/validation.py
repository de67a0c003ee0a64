"""The checkpoint of a resumed run, compared with its settings before Lightning sees it."""

import sys
from pathlib import Path

import lightning.pytorch as pl

from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError, one_line
from timemachine.language_model import RNNLMScratch
from timemachine.runs.checkpoints import Refused, read_checkpoint
from timemachine.runs.files import shown
from timemachine.runs.models import model_of
from timemachine.runs.processes import is_first_process
from timemachine.runs.resuming import OF_THE_NETWORK, refuse_other
from timemachine.runs.rows import rows_before


def validate(folder: Path, trainer: pl.Trainer, model: RNNLMScratch, data: TimeMachine) -> int:
    """Return the number of epochs that the run has done.

    Raises SettingError where checkpoints/last.ckpt or a table is damaged, or is that of other settings. Says so where
    the checkpoint was taken in the middle of an epoch.
    """
    run = shown(folder)
    try:
        checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
        began, vocab = model_of(checkpoint["state_dict"], checkpoint | checkpoint["TimeMachine"])
        for name in OF_THE_NETWORK:
            refuse_other(f"model.{name}", began.hparams[name], model.hparams[name])
        if vocab.idx_to_token != data.vocab.idx_to_token:
            raise Refused("has another vocabulary than its text")
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    except (SettingError, OSError):
        raise
    except Exception as error:  # another program's checkpoint raises anything
        reason = str(error) if isinstance(error, Refused) else f"is damaged: {type(error).__name__}: {error}"
        last = Path(run) / "checkpoints" / "last.ckpt"
        raise SettingError(f"resume={run}: {last} {one_line(reason, 150)}; type another run") from error
    for table in ("metrics.csv", "steps.csv"):
        rows_before(folder / table, checkpoint["global_step"])
    done, asked = checkpoint["epoch"] + 1, trainer.max_epochs
    if asked is not None and 0 <= asked < done:
        instead = f"type trainer.max_epochs={done} or more"
        raise SettingError(f"trainer.max_epochs={asked}: the run has {done} epochs already; {instead}")
    if 0 <= trainer.max_steps < checkpoint["global_step"]:
        steps = checkpoint["global_step"]
        instead = f"type trainer.max_steps={steps} or more"
        raise SettingError(f"trainer.max_steps={trainer.max_steps}: the run has {steps} steps already; {instead}")
    if not progress["is_last_batch"] and is_first_process():
        print(
            f"epoch {done} was cut short by trainer.max_steps, max_time or the like: the run goes on with epoch "
            f"{done + 1}, and not as one that was never ended",
            file=sys.stderr,
        )
    return int(done)
