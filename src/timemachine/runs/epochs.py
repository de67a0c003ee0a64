"""epochs.safetensors: a run's weights after a few of its epochs, for its page, which shows how it learnt."""

from pathlib import Path
from typing import NamedTuple

import safetensors.torch
import torch
from safetensors import safe_open
from torch import Tensor

from timemachine.language_model import RNNLMScratch
from timemachine.runs.files import write_whole
from timemachine.runs.rows import read_numbers
from timemachine.runs.summaries import EPOCH_WEIGHTS

KEPT = (0, 1, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)  # 0: before training
Weights = dict[str, Tensor]


class Epoch(NamedTuple):
    """An epoch: its weights in half precision, and its perplexities, NaN where there are none."""

    number: int
    weights: Weights
    train: float
    val: float


def halved(model: RNNLMScratch) -> Weights:
    """Return a model's weights in half precision, on the CPU."""
    return {name: weight.detach().cpu().half() for name, weight in model.named_parameters()}


def write_weights(folder: Path, weights: dict[int, Weights]) -> None:
    """Write the weights of all kept epochs, without an epoch that half precision cannot hold. Raises OSError."""
    finite = {epoch: of_it for epoch, of_it in weights.items() if all(it.isfinite().all() for it in of_it.values())}
    named = {f"{epoch}/{name}": weight for epoch, of_it in finite.items() for name, weight in of_it.items()}
    write_whole(folder / EPOCH_WEIGHTS, safetensors.torch.save(named))


def read_weights(folder: Path) -> dict[int, Weights]:
    """Return the weights of each epoch that the folder keeps, in order; of a missing or damaged file none."""
    weights: dict[int, Weights] = {}
    try:
        with safe_open(folder / EPOCH_WEIGHTS, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is not a dict)
                epoch, _, name_in_model = name.partition("/")
                weights.setdefault(int(epoch), {})[name_in_model] = file.get_tensor(name)
    except Exception:  # damaged bytes raise anything
        return {}
    return dict(sorted(weights.items()))


def read_epochs(folder: Path) -> list[Epoch]:
    """Return the epochs of which a run's folder keeps weights, with their rows of metrics.csv."""
    numbers: dict[float, dict[str, float]] = {}
    for row in read_numbers(folder / "metrics.csv"):  # several an epoch, with validations in mid-epoch
        known = {name: value for name, value in row.items() if value == value}
        numbers.setdefault(row["epoch"], {}).update(known)

    def number(epoch: int, name: str) -> float:
        return numbers.get(epoch, {}).get(f"{name}/perplexity", torch.nan)

    return [Epoch(it, weights, number(it, "train"), number(it, "val")) for it, weights in read_weights(folder).items()]
