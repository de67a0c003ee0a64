"""Training compared with a plain training loop in float64 with random settings: each number of both tables.

The loop shares no code with src: it reads and cuts the text, draws the weights and the order of the windows, and has
its own update rules. Only the gradients come from autograd.
"""

import math
import os
import random
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.runs import fit, rows
from timemachine.config import REPOSITORY
from timemachine.datamodule import TimeMachine
from timemachine.kernels.language_model import FusedRNNLM

CASES = int(os.environ.get("CASES", 12))  # make torture: 1,000
FLAT: dict[str, list[Any]] = {  # setting -> values to draw from
    "seed": [0, 3],
    "model.hiddens": [1, 5, 17],
    "model.sigma": [0.01, 0.3],
    "model.sigma_xh": [None, 0.5],
    "model.sigma_hh": [None, 0.2],
    "model.lr": [0.05, 0.7],
    "model.activation": ["tanh", "relu"],
    "model.input": ["one_hot", "embedding"],
    "model.embedding_dim": [3, 8],
    "model.embedding_sigma": [0.5, 1.0],
    "model.input_lr_factor": [1.0, 3.0],
    "model.backward": ["auto", "bptt", "autograd"],
    "data.batch_size": [50, 64, 1000],
    "data.num_steps": [1, 7],
    "data.num_train": [150, 310],
    "data.num_val": [1, 60, 130],
    "data.start": [0, 500],
    "trainer.max_epochs": [1, 3],
    "trainer.gradient_clip_val": [None, 0.1, 1.0],
    "trainer.gradient_clip_algorithm": ["norm", "norm", "value"],
    "trainer.accumulate_grad_batches": [1, 1, 2],
}
Loop = tuple[list[dict[str, float]], list[dict[str, float]]]


def group_of(chosen: dict[str, Any], group: str) -> dict[str, Any]:
    return {name.partition(".")[2]: value for name, value in chosen.items() if name.startswith(f"{group}.")}


def reference(chosen: dict[str, Any]) -> Loop:
    """Return the rows of steps.csv and of metrics.csv."""
    model, data, trainer = (group_of(chosen, name) for name in ("model", "data", "trainer"))
    text = (REPOSITORY / "src/timemachine/texts/sample.txt").read_text(encoding="utf-8")
    text = re.sub("[^a-z]+", " ", text.lower())
    text = text[data["start"] :] + text[: data["start"]]
    symbols = sorted({"<unk>", *text})
    tokens_N = torch.tensor([symbols.index(character) for character in text])
    windows_NT = tokens_N.unfold(0, data["num_steps"] + 1, 1)
    first_val, first_test = data["num_train"], data["num_train"] + data["num_val"] + data["num_steps"]
    train_NT, val_NT = windows_NT[:first_val], windows_NT[first_val : first_val + data["num_val"]]
    test_NT = windows_NT[first_test : len(tokens_N) - data["num_steps"]]

    torch.manual_seed(chosen["seed"])
    V, H, sigma = len(symbols), model["hiddens"], model["sigma"]
    embedding = []
    if model["input"] == "embedding":
        embedding = [torch.randn(V, model["embedding_dim"]) * model["embedding_sigma"]]
    sigma_xh = sigma if model["sigma_xh"] is None else model["sigma_xh"]
    W_xh = torch.randn(model["embedding_dim"] if embedding else V, H) * sigma_xh
    W_hh = torch.randn(H, H) * (sigma if model["sigma_hh"] is None else model["sigma_hh"])
    W_hq = torch.randn(H, V) * sigma
    weights = [W_xh, W_hh, torch.zeros(H), W_hq, torch.zeros(V), *embedding]
    weights = [weight.double().requires_grad_() for weight in weights]
    phi = torch.tanh if model["activation"] == "tanh" else torch.relu

    def nll(windows_BT: Tensor) -> Tensor:
        W_xh, W_hh, b_h, W_hq, b_q, *embedding = weights
        H_BH = torch.zeros(len(windows_BT), H, dtype=torch.float64)
        losses = []
        for X_B, Y_B in zip(windows_BT.T, windows_BT.T[1:], strict=False):
            X_BD = embedding[0][X_B] if embedding else F.one_hot(X_B, V).double()
            H_BH = phi(X_BD @ W_xh + H_BH @ W_hh + b_h)
            losses.append(-(H_BH @ W_hq + b_q).log_softmax(-1)[range(len(Y_B)), Y_B])
        return torch.stack(losses)

    def perplexity(windows_NT: Tensor) -> float:
        with torch.no_grad():
            return float(nll(windows_NT).mean().exp())

    order = torch.Generator().manual_seed(chosen["seed"])
    every, B = trainer["accumulate_grad_batches"], data["batch_size"]
    num_batches = -(-len(train_NT) // B)
    steps: list[dict[str, float]] = []
    epochs: list[dict[str, float]] = []
    for epoch in range(1, trainer["max_epochs"] + 1):
        shuffled_NT = train_NT[torch.randperm(len(train_NT), generator=order, dtype=torch.int32)]
        seen: list[Tensor] = []
        losses: list[float] = []
        for number, batch_BT in enumerate(shuffled_NT.split(B), 1):
            seen.append(nll(batch_BT))
            (seen[-1].mean() / every).backward()
            losses.append(float(seen[-1].detach().mean()))
            if number % every and number < num_batches:
                continue
            gradients = [weight.grad for weight in weights if weight.grad is not None]
            norm = clipped = math.sqrt(sum(float((g * g).sum()) for g in gradients))
            if theta := trainer["gradient_clip_val"]:
                if trainer["gradient_clip_algorithm"] == "value":
                    gradients = [g.clamp(-theta, theta) for g in gradients]
                elif norm > theta:
                    gradients = [g * (theta / norm) for g in gradients]
                clipped = math.sqrt(sum(float((g * g).sum()) for g in gradients))
            for place, (weight, g) in enumerate(zip(weights, gradients, strict=True)):
                reads_input = place in (0, 5)
                with torch.no_grad():
                    weight -= model["lr"] * (model["input_lr_factor"] if reads_input else 1) * g
                weight.grad = None
            mean = sum(losses) / len(losses)
            row = {"epoch": epoch, "step": len(steps) + 1, "loss": mean, "grad_norm": norm}
            steps.append(row | {"grad_norm_clipped": clipped})
            losses = []
        of_epoch = [row for row in steps if row["epoch"] == epoch]
        epochs.append(
            {
                "epoch": epoch,
                "step": len(steps),
                "train/perplexity": float(torch.cat([it.detach().flatten() for it in seen]).mean().exp()),
                "val/perplexity": perplexity(val_NT),
                "clip_fraction": sum(row["grad_norm"] > row["grad_norm_clipped"] for row in of_epoch) / len(of_epoch),
                "lr": model["lr"],
            }
            | {name: sum(row[name] for row in of_epoch) / len(of_epoch) for name in ("grad_norm", "grad_norm_clipped")}
        )
    epochs[-1]["test/perplexity"] = perplexity(test_NT)
    for row in epochs:  # a letter is a byte
        bits = {name: math.log2(value) for name, value in row.items() if name in ("val/perplexity", "test/perplexity")}
        row |= {name.replace("perplexity", "bits_per_byte"): value for name, value in bits.items()}
    return steps, epochs


@pytest.mark.repeated
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("number", range(CASES))
def test_settings_against_plain_loop(number: int, tmp_path: Path) -> None:
    draw = random.Random(number)
    chosen = {name: draw.choice(values) for name, values in FLAT.items()}
    if chosen["model.input"] == "one_hot":  # without an embedding, its settings are an error
        chosen |= {"model.embedding_dim": 32, "model.embedding_sigma": 1.0}
    steps, epochs = reference(chosen)
    data = TimeMachine(**group_of(chosen, "data"), corpus="sample", seed=chosen["seed"])
    torch.manual_seed(chosen["seed"])
    model = FusedRNNLM(len(data.vocab), **group_of(chosen, "model"))
    trainer = fit(tmp_path, model, data, precision="64-true", **group_of(chosen, "trainer"))
    trainer.test(model, data, verbose=False)
    for name, expected in (("steps", steps), ("metrics", epochs)):
        found = rows(tmp_path / f"{name}.csv")
        assert len(found) == len(expected)
        for row, right in zip(found, expected, strict=True):
            row.pop("chars_per_second", None)
            # Rounding errors of 2^-53, which a network may amplify over at most 21 updates.
            assert row == pytest.approx(right, rel=1e-9, abs=1e-12), chosen
