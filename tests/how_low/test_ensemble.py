"""Several models as one."""

from pathlib import Path

import pytest
import torch

from tests.support.programs import Program
from timemachine.corpus import Corpus
from timemachine.evaluation.scores import stream_nll
from timemachine.how_low.ensemble import Ensemble
from timemachine.language_model import RNNLMScratch
from timemachine.vocab import Vocab

TARGETS = range(600, 900)


def model(seed: int) -> RNNLMScratch:
    """In float64: over hundreds of characters its state multiplies roundings."""
    torch.manual_seed(seed)
    return RNNLMScratch(28, hiddens=5, sigma=0.8).double()


@pytest.fixture
def chars_N(sample: Corpus) -> torch.Tensor:
    return Vocab.of(sample.characters).encode(sample.characters)


def test_an_ensemble_predicts_the_mean_of_the_probabilities(chars_N: torch.Tensor) -> None:
    one, other = model(0), model(1)
    p_N = [stream_nll(member, chars_N, TARGETS).neg().exp() for member in (one, other)]
    expected_N = -((p_N[0] + p_N[1]) / 2).log()
    torch.testing.assert_close(stream_nll(Ensemble([one, other]), chars_N, TARGETS), expected_N)


@pytest.mark.slow
def test_runs_are_evaluated_as_one_and_only_of_the_same_windows(program: Program, tmp_path: Path) -> None:
    small = ("data=sample", "logger=csv", "trainer.max_epochs=1", "model.hiddens=4")
    for name, setting in (("a", "seed=0"), ("b", "seed=1"), ("c", "data.num_val=100")):
        assert program("train.py", *small, setting, f"hydra.run.dir={name}").returncode == 0
    done = program("evaluate.py", "run=[a,b/model.safetensors]", "adapt=0.01")
    assert done.returncode == 0, done.stderr
    assert "2 models as one: a, b/model.safetensors" in done.stdout
    assert "sample, test, dynamic evaluation with a kNN cache, rate 0.01: stream" in done.stdout
    done = program("evaluate.py", "run=[a,c]")
    assert done.returncode == 1
    assert done.stderr.startswith("error: run=c: was trained on another text, or on other windows of it, than a; ")
    assert done.stderr.count("\n") == 1
