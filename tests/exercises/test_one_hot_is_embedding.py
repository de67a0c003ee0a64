"""Exercise 3: the copy with the other implementation."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.runs import fit
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.exercises import one_hot_is_embedding
from timemachine.kernels.language_model import FusedRNNLM


def sample() -> TimeMachine:
    return TimeMachine(64, 4, 640, 200, corpus="sample")


def test_copy_trains_like_a_separate_run(tmp_path: Path) -> None:
    """With the other implementation and the same batches and clipping, also in a resumed run."""
    initial = FusedRNNLM(28, hiddens=6, sigma=0.5, lr=4.0, backward="bptt")
    other = copy.deepcopy(initial)
    other.hparams["backward"] = "autograd"
    fit(tmp_path / "other", other, sample(), max_epochs=2, gradient_clip_val=0.1)
    for max_epochs in (1, 2):
        callback, model = one_hot_is_embedding.callback(), copy.deepcopy(initial)
        fit(tmp_path / "both", model, sample(), [callback], max_epochs=max_epochs, gradient_clip_val=0.1)
    assert (model.kernel(), callback.model.kernel()) == ("bptt", "autograd")
    assert all(map(torch.equal, callback.model.parameters(), other.parameters()))

    data = sample()
    differences = one_hot_is_embedding.measure(model, data)
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert differences["final weight"] == max(float((one - two).detach().abs().max()) for one, two in pairs) > 0
    X_BT = torch.stack([data.tokens_N[n : n + 4].long() for n in data.splits["val"].starts[:4]])
    apart = (model(X_BT)[0] - other(X_BT)[0]).abs().max()
    assert differences["final logit"] == pytest.approx(float(apart.detach()))
    assert 0 < differences["loss"] < 1e-5


@pytest.mark.parametrize("other", [{"accumulate_grad_batches": 2}, {"gradient_clip_algorithm": "value"}])
def test_steps_that_the_copy_does_not_make(other: dict[str, Any], tmp_path: Path) -> None:
    model = FusedRNNLM(28, hiddens=6, backward="bptt")
    with pytest.raises(SettingError, match=r"^trainer\.\w+=(2|value): "):
        fit(tmp_path, model, sample(), [one_hot_is_embedding.callback()], max_epochs=1, **other)
