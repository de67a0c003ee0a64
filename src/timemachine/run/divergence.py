"""The message of a run that diverged: where, and which settings to try."""

import math
from typing import Any

import lightning.pytorch as pl


def divergence_message(trainer: pl.Trainer, network: Any, what: str, steps: list[dict[str, float]]) -> str:
    """Return the message of a run that diverged. `network`: its hyperparameters; `steps`: the rows of steps.csv."""
    step, last_norm = trainer.global_step, math.nan
    for row in steps:
        if math.isfinite(row["grad_norm"]):
            last_norm = row["grad_norm"]
        elif getattr(trainer.precision_plugin, "scaler", None) is None:  # 16-mixed on a GPU skips such steps
            step, what = int(row["step"]), "the gradient"
            break
    epoch, theta = trainer.current_epoch, trainer.gradient_clip_val
    sigma = "sigma_hh" if network.get("sigma_hh") else "sigma"
    remains = f"the checkpoint of epoch {epoch} remains" if epoch else "there is no checkpoint yet"
    return (
        f"diverged in epoch {epoch + 1}, step {step}: {what} is not finite (last finite gradient norm "
        f"{last_norm:.4g}); {remains}. Type trainer.gradient_clip_val={theta / 10 if theta else 1:g} "
        f"(now {theta or 'none'}), or a smaller model.lr (now {network['lr']:g}) or model.{sigma} ({network[sigma]:g})"
    )
