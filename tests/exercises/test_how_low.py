"""The probe of exercise how_low."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

import timemachine.run.program  # noqa: F401  resolvers of conf/
from timemachine.config import REPOSITORY
from timemachine.corpus import Corpus
from timemachine.datamodule import TimeMachine
from timemachine.evaluation.ngrams import kneser_ney
from timemachine.evaluation.scores import score, stream_nll
from timemachine.exercises import how_low
from timemachine.language_model import RNNLMScratch
from timemachine.run.program import VERSION_BASE


def test_probe_reads_targets_once(sample: Corpus) -> None:
    short = replace(sample, characters=sample.characters[:5000])
    data = TimeMachine(num_steps=8, num_train=2000, num_val=300, corpus=short)
    torch.manual_seed(0)
    model = RNNLMScratch(len(data.vocab), hiddens=4, sigma=0.5)
    scores = how_low.measure(model, data)
    train, text = data.splits["train"].targets, data.tokens_N.numpy().astype(np.int64)
    assert scores["train"] == {"model": score(stream_nll(model, data.tokens_N, train)).perplexity}
    for part in ("val", "test"):
        targets = data.splits[part].targets
        nll_N = stream_nll(model, data.tokens_N, targets)
        best = min(kneser_ney(text[: train.stop], text, targets, order, len(data.vocab)).mean() for order in range(8))
        assert scores[part] == pytest.approx({"model": nll_N.mean().exp().item(), "kneser_ney": np.exp(best)})


def test_last_step_is_the_recipe() -> None:
    with initialize_config_dir(str(REPOSITORY / "conf"), **VERSION_BASE):
        exercise = compose("train", ["exercise=how_low"], return_hydra_config=True)
        (steps,) = OverridesParser.create().parse_overrides([f"network={exercise.hydra.sweeper.params.network}"])
        *_, last = steps.sweep_string_iterator()
        step, recipe = compose("train", ["exercise=how_low", f"network={last}"]), compose("train", ["recipe=novel"])
        for group in ("model", "data"):
            ours, theirs = (OmegaConf.to_container(settings[group], resolve=True) for settings in (step, recipe))
            assert ours == theirs
        assert step.trainer.max_epochs == recipe.trainer.max_epochs
