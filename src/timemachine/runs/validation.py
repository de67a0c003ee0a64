"""The checkpoint of a resumed run, validated as a whole before Lightning sees it: a stranger may have made it."""

import sys
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from packaging.version import Version
from torch.optim import AdamW

from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError, one_line
from timemachine.language_model import RNNLMScratch
from timemachine.runs.checkpoints import Refused, read_checkpoint
from timemachine.runs.files import shown
from timemachine.runs.models import model_of
from timemachine.runs.processes import is_first_process
from timemachine.runs.resuming import OF_THE_NETWORK, refuse_other
from timemachine.runs.rows import rows_before

NEEDED = {
    "epoch", "global_step", "pytorch-lightning_version", "state_dict", "loops", "callbacks", "optimizer_states",
    "lr_schedulers", "hyper_parameters", "TimeMachine",
}  # fmt: skip


def validate(folder: Path, trainer: pl.Trainer, model: RNNLMScratch, data: TimeMachine) -> None:
    """Raise SettingError where checkpoints/last.ckpt or a table is damaged, or is that of other settings.

    Say so where the checkpoint was taken in the middle of an epoch.
    """
    run = shown(folder)
    try:
        checkpoint = read_checkpoint(folder / "checkpoints" / "last.ckpt")
        if lacking := sorted(NEEDED - checkpoint.keys()):
            raise Refused(f"has no {lacking[0]}")
        began, _ = model_of(checkpoint["state_dict"], checkpoint | checkpoint["TimeMachine"])
        for name in OF_THE_NETWORK:
            refuse_other(f"model.{name}", began.hparams[name], model.hparams[name])
        _refuse_unlike(checkpoint["loops"], {"fit_loop": trainer.fit_loop.state_dict()}, "loops")
        for name in ("global_step", "epoch"):
            _refuse_unlike(checkpoint[name], 0, name)
        Version(checkpoint["pytorch-lightning_version"])
        _check_state_of_data(checkpoint["TimeMachine"], data)
        _check_best_scores(checkpoint["callbacks"], trainer)
        check_optimizer(checkpoint["optimizer_states"], model)
        for number in checkpoint.get("MixedPrecision", {}).values():  # the scaler of 16-mixed
            float(number)
    except (SettingError, OSError):
        raise
    except Exception as error:  # what a stranger wrote raises anything
        reason = str(error) if isinstance(error, Refused) else f"is damaged: {type(error).__name__}: {error}"
        last = Path(run) / "checkpoints" / "last.ckpt"
        raise SettingError(f"resume={run}: {last} {one_line(reason, 150)}; type another run") from error
    for table in ("metrics.csv", "steps.csv"):
        rows_before(folder / table, checkpoint["global_step"])
    done, asked = checkpoint["epoch"] + 1, trainer.max_epochs
    if asked is not None and 0 <= asked < done:
        instead = f"type trainer.max_epochs={done} or more"
        raise SettingError(f"trainer.max_epochs={asked}: the run has {done} epochs already; {instead}")
    if not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"] and is_first_process():
        print(
            f"epoch {done} was cut short by trainer.max_steps, max_time or the like: the run goes on with epoch "
            f"{done + 1}, and not as one that was never ended",
            file=sys.stderr,
        )


def _refuse_unlike(found: object, expected: object, name: str) -> None:
    """Raise Refused where what a checkpoint has under the name is not built like what this program would write there.

    More names than expected, such as an older Lightning's, are none of a run's business.
    """
    if isinstance(expected, dict) and isinstance(found, dict) and expected.keys() <= found.keys():
        for key, value in expected.items():
            _refuse_unlike(found[key], value, f"{name}.{key}")
    elif isinstance(expected, dict) or type(found) is not type(expected) or (isinstance(found, int) and found < 0):
        raise Refused(f"has {str(found)[:50]!r} for {name}")


def _check_state_of_data(state: dict[str, Any], data: TimeMachine) -> None:
    if state["tokens"] != data.vocab.idx_to_token:
        raise Refused("has another vocabulary than its text")
    torch.Generator().set_state(state["generator"])


def _check_best_scores(states: dict[str, Any], trainer: pl.Trainer) -> None:
    for callback in trainer.checkpoint_callbacks:
        if callback.state_key not in states:
            raise Refused("has no best score")
        if (score := states[callback.state_key]["best_model_score"]) is not None:
            torch.as_tensor(score, dtype=torch.float64).reshape(())


def check_optimizer(states: list[dict[str, Any]], model: RNNLMScratch) -> None:
    """Compare what the optimiser remembers with what the settings' own would, parameter by parameter."""
    (state,) = states
    optimizer = model.configure_optimizers()
    then, now = "adamw" if state["state"] else "sgd", "adamw" if isinstance(optimizer, AdamW) else "sgd"
    refuse_other("training.optimizer", then, now)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if then == "adamw":
        for number, parameter in enumerate(parameters):
            float(state["state"][number]["step"])
            for name in ("exp_avg", "exp_avg_sq"):
                moment = state["state"][number][name]
                if moment.shape != parameter.shape or not moment.isfinite().all():
                    raise Refused(f"has an unsound {name} of parameter {number}")
        if len(state["state"]) != len(parameters):
            raise Refused("has moments of other parameters")
