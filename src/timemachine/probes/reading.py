"""How the model reads what is held out, character by character: for comparisons that sums do not allow.

Leaves `reading.npz` in the run's folder: for the splits val and test the negative log-likelihood of each target, read
as one stream, of the model as it is (`val`, `test`), of one that goes on learning (`val_adaptive`, `test_adaptive`),
and of the n-grams of the same training characters, of the order that is best there (`val_witten_bell`, …).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from timemachine.baselines import kneser_ney, witten_bell
from timemachine.datamodule import TimeMachine
from timemachine.dynamic import adaptive_nll
from timemachine.evaluation import ORDERS, score, stream_nll
from timemachine.language_model import RNNLMScratch

RATE = 0.005  # of dynamic evaluation: the best of five on the novel's validation text


def measure(model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Perplexity and standard error of each of the arrays in `reading.npz`, and of the training text."""
    model, chars_N, text = model.cpu(), data.chars_N.cpu(), data.corpus.characters
    train = text[: data.splits["train"].targets.stop]
    arrays = {}
    for name in ("val", "test"):
        targets = range(max(data.splits[name].targets.start, max(ORDERS)), data.splits[name].targets.stop)
        if targets:
            arrays[name] = stream_nll(model, chars_N, targets)
            arrays[f"{name}_adaptive"] = adaptive_nll(model, chars_N, targets, RATE)
            for smoothed in (witten_bell, kneser_ney):
                orders = (torch.from_numpy(smoothed(train, text, targets, order)) for order in ORDERS)
                arrays[f"{name}_{smoothed.__name__}"] = min(orders, key=lambda nll_N: float(nll_N.mean()))
    folder = Path(model.trainer.default_root_dir)
    as_numpy: dict[str, Any] = {key: nll_N.float().numpy() for key, nll_N in arrays.items()}
    np.savez_compressed(folder / "reading.npz", **as_numpy)
    arrays["train"] = stream_nll(model, chars_N, data.splits["train"].targets)
    scores = {name: score(nll_N, torch.ones_like(nll_N)) for name, nll_N in arrays.items()}
    return {name: {"perplexity": s.perplexity, "standard_error": s.standard_error} for name, s in scores.items()}
