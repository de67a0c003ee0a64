"""Exercise 3: Show that one-hot encoding is equivalent to picking a different embedding for each object.

B batch, T time steps, V vocabulary.
"""

import copy
from typing import Any

import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from matplotlib.figure import Figure
from pandas import DataFrame
from torch import Tensor

from timemachine.clipping import clip_gradients
from timemachine.config import require
from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch
from timemachine.study.drawing import points_by_place
from timemachine.study.figures import panels

REQUIRES = {"model.cell": ("rnn",)}  # reads its weights
WINDOWS = 4
COLUMNS = {
    f"one_hot_is_embedding/{name}": f"largest difference of a {name}"
    for name in ("loss", "final weight", "final logit")
}
PRECISIONS = {"64-true": "float64", "32-true": "float32"}

SETTINGS = ("trainer.precision",)
SETUP = f"""
A model and its copy make the same steps on the same batches. One multiplies one-hot vectors by W_xh and is
differentiated by autograd (`model.backward=autograd`); the other looks up rows of W_xh by index and has a gradient
written by hand (`model.backward=bptt`). The comparison covers the loss of every step, every final weight, and the final
logits of the first {WINDOWS} validation windows."""
CAPTION = "Largest difference between the two implementations. Points: seeds; bars: means."
FORMATS = dict.fromkeys(COLUMNS.values(), ".1e")


class Copy(Callback):
    """Trains a copy of the model that computes the input with the other implementation, on the same batches."""

    def __init__(self) -> None:
        self.loss_difference = 0.0
        self.weights: dict[str, Tensor] = {}  # of an interrupted run

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Copy the model, with the weights of the copy if the run is resumed.

        Raises SettingError for steps that the copy does not make.
        """
        rule, number = "not supported by probes=[one_hot_is_embedding]", trainer.accumulate_grad_batches
        require(number == 1, "trainer.accumulate_grad_batches", number, rule, 1)
        algorithm = trainer.gradient_clip_algorithm and trainer.gradient_clip_algorithm.value
        require(algorithm in (None, "norm"), "trainer.gradient_clip_algorithm", algorithm, rule, "norm")
        require("schedule" not in pl_module.hparams, "model._target_", type(pl_module).__name__, rule)
        self.model = copy.deepcopy(pl_module)
        self.model.hparams["backward"] = "bptt" if pl_module.kernel() == "autograd" else "autograd"
        self.model.load_state_dict(self.weights or pl_module.state_dict())
        self.optimizer = self.model.configure_optimizers()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Make the model's step with the copy."""
        self.optimizer.zero_grad()
        loss, _ = self.model.mean_nll(batch)
        loss.backward()
        clip_gradients(self.model.parameters(), trainer.gradient_clip_val)
        self.optimizer.step()
        self.loss_difference = max(self.loss_difference, float((outputs["loss"] - loss.detach()).abs()))

    def state_dict(self) -> dict[str, Any]:
        """Return the copy's weights and the largest difference of a loss so far, for the checkpoint."""
        return {"weights": self.model.state_dict(), "loss_difference": self.loss_difference}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the copy of an interrupted run."""
        self.weights, self.loss_difference = state_dict["weights"], state_dict["loss_difference"]


callback = Copy


@torch.inference_mode()
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, float]:
    """Return the largest differences of a loss, a final weight and a final logit between the model and its copy."""
    (other,) = (each for each in model.trainer.callbacks if isinstance(each, Copy))  # type: ignore[attr-defined]
    starts = data.splits["val"].starts[:WINDOWS]
    X_BT = torch.stack([data.tokens_N[n : n + data.num_steps] for n in starts])
    logits_BTV, others_BTV = (each.to(model.device)(X_BT.to(model.device))[0] for each in (model, other.model))
    weights = zip(model.parameters(), other.model.parameters(), strict=True)
    return {
        "loss": other.loss_difference,
        "final weight": max(float((weight - its_copy).abs().max()) for weight, its_copy in weights),
        "final logit": float((logits_BTV - others_BTV).abs().max()),
    }


def table(jobs: DataFrame) -> DataFrame:
    """Return the largest differences between the two implementations, for each precision and seed."""
    precisions = jobs["trainer.precision"].replace(PRECISIONS)
    columns = {title: jobs[name] for name, title in COLUMNS.items()}
    return DataFrame({"precision": precisions, "seed": jobs["seed"]} | columns).set_index(["precision", "seed"])


def figure(jobs: DataFrame) -> Figure:
    """Draw the largest differences, with one series per precision."""
    fig, ((axes,),) = panels()
    axes.set(yscale="log", ylabel="largest difference of two implementations")
    precisions = table(jobs).groupby("precision", sort=False)
    places = [name.removeprefix("one_hot_is_embedding/") for name in COLUMNS]
    points_by_place(axes, places, {name: differences.to_numpy().T for name, differences in precisions})
    for name in precisions.groups.keys() & {*PRECISIONS.values()}:
        epsilon = float(np.finfo(name).eps)
        axes.axhline(epsilon, color="grey", linestyle="--", linewidth=1)
        axes.text(0.4, epsilon, f"machine epsilon of {name}", ha="center", va="bottom", fontsize="small", color="grey")
    return fig
