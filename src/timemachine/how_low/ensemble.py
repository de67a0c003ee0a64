"""Ensembles of models: the mean of their probabilities.

B batch, T time steps, V vocabulary, S size of a state.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from timemachine.config import windows_of
from timemachine.datamodule import Batch
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.run.checkpoint import load_model
from timemachine.run.record import run_summary
from timemachine.vocab import Vocab


class Ensemble:
    """A `LanguageModel` of several models with the same vocabulary, such as one run with several seeds."""

    def __init__(self, models: Sequence[RNNLMScratch]) -> None:
        self.models = models

    def __call__(self, X_BT: Tensor, states: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """Return log-probabilities (B, T, V) and the models' states (B, S), for indices (B, T) after given states."""
        before = [None] * len(self.models) if states is None else states
        each = [model(X_BT, state) for model, state in zip(self.models, before, strict=True)]
        log_p_BTV = log_mean_probability([logits_BTV.log_softmax(-1) for logits_BTV, _ in each])
        return log_p_BTV, [state for _, state in each]

    def nll(self, batch: Batch) -> Tensor:
        """Return the negative log-likelihood of each target (B, T), in nats; each window starts with zero states."""
        return -log_mean_probability([-model.nll(batch) for model in self.models])


def log_mean_probability(log_p: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of probabilities, from their logarithms."""
    return torch.stack(tuple(log_p)).logsumexp(0) - math.log(len(log_p))


def load_models(runs: Sequence[str]) -> tuple[RNNLMScratch | Ensemble, Vocab]:
    """Return the model of a run, or the ensemble of several runs, and the vocabulary.

    Raises SettingError if a run cannot be read, or if two runs have different texts, tokens or windows.
    """
    models, vocabs = zip(*(load_model(run) for run in runs), strict=True)
    first, *others = (_trained_on(run) for run in runs)
    for run, other in zip(runs[1:], others, strict=True):
        if other != first:
            rule = f"was trained on a different text, tokens or windows than {runs[0]}"
            raise SettingError(f"run={run}: {rule}; use runs with the same tokens and windows")
    return models[0] if len(models) == 1 else Ensemble(models), vocabs[0]


def _trained_on(run: str) -> tuple[object, ...]:
    summary = run_summary(run)
    windows = windows_of(summary["settings"]["data"])
    return summary["corpus"]["sha256"], windows | {"batch_size": None}  # changes neither tokens nor parts
