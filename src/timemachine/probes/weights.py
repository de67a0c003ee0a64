"""The trained weights themselves, and the logits that they give: to compare runs number by number."""

from typing import Any

import torch

from timemachine.datamodule import TimeMachine
from timemachine.language_model import RNNLMScratch

WINDOWS = 4


@torch.inference_mode()
def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Each parameter, flat, under its name, and the logits of the first four validation windows, flat."""
    start = data.splits["val"].starts.start
    X_BT = torch.stack([data.chars_N[n : n + data.num_steps].long() for n in range(start, start + WINDOWS)])
    logits_BTV, _ = model(X_BT.to(model.device))
    weights = {name: parameter.flatten().tolist() for name, parameter in model.named_parameters()}
    return {"weights": weights, "logits": logits_BTV.flatten().tolist()}
