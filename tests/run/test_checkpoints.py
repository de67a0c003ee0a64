"""Models on disk: damaged or foreign files give a one-line error, no code is executed, and writes are atomic."""

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from timemachine.config import Train, to_dict
from timemachine.errors import SettingError
from timemachine.language_model import RNNLMScratch
from timemachine.run.checkpoint import WholeCheckpoints, export_model, load_model
from timemachine.run.record import run_summary
from timemachine.vocab import Vocab

CASES = 50  # of each kind
VOCAB = Vocab("abc ")
SUMMARY: dict[str, Any] = {name: {} for name in ("metrics", "versions", "git")}
SUMMARY |= {"status": "completed", "settings": to_dict(Train())}
SUMMARY["corpus"] = dict.fromkeys(("name", "title", "source", "sha256"), "a text")
MODEL = RNNLMScratch(len(VOCAB), hiddens=3)


def saved(folder: Path, changes: dict[str, Any] | None = None) -> Path:
    """Save the relevant parts of a checkpoint like Lightning."""
    path = folder / "run" / "checkpoints" / "last.ckpt"
    text = {"tokens": VOCAB.idx_to_token, "kind": "letters", "sha256": "0"}
    state = {"state_dict": MODEL.state_dict(), "hyper_parameters": dict(MODEL.hparams), "TimeMachine": text}
    WholeCheckpoints().save_checkpoint(state | (changes or {}), path)
    return path


def weights(model: RNNLMScratch) -> dict[str, Any]:
    return {name: weight.tolist() for name, weight in model.state_dict().items()}


def assert_refused(run: Path, says: str) -> None:
    with pytest.raises(SettingError, match=says) as refused:
        load_model(str(run))
    message = str(refused.value)
    assert message.startswith(f"run={run}: ") and "\n" not in message


@pytest.mark.parametrize("input", ["one_hot", "embedding"])
def test_export_round_trip(input: str, tmp_path: Path) -> None:
    model = RNNLMScratch(len(VOCAB), hiddens=7, activation="relu", input=input, embedding_dim=3)
    export_model(tmp_path / "model.safetensors", model, VOCAB, SUMMARY)
    found, vocab = load_model(str(tmp_path / "model.safetensors"))
    assert weights(found) == weights(model) and found.hparams == model.hparams
    assert vocab.idx_to_token == VOCAB.idx_to_token
    assert run_summary(str(tmp_path / "model.safetensors")) == SUMMARY
    of_any_program = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(of_any_program["W_hq"], model.W_hq.detach().numpy())


class Code:
    """Create a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("disguise", ["torch", "torch of old", "pickle", "safetensors"])
def test_code_is_never_executed(disguise: str, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    path = saved(tmp_path, {"callbacks": Code(executed)})
    content = torch.load(saved(tmp_path / "sound"), weights_only=True) | {"callbacks": Code(executed)}
    if disguise == "torch of old":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif disguise != "torch":
        path.write_bytes(pickle.dumps(content, protocol=2))
    run = tmp_path / "run"
    if disguise == "safetensors":
        run = path.rename(tmp_path / "model.safetensors")
    assert_refused(run, "is damaged, or not")
    with pytest.raises(SettingError):
        run_summary(str(run))
    with pytest.raises(Exception):  # noqa: B017  as in Lightning when it resumes; the type depends on the bytes
        WholeCheckpoints().load_checkpoint(path, weights_only=False)
    assert not executed.exists()
    if disguise.startswith("torch"):
        torch.load(path, weights_only=False)
        assert executed.exists()  # weights_only=False runs the code


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"TimeMachine": {"tokens": ["a", "b"], "kind": "letters"}}, "do not fit its vocabulary"),
        ({"state_dict": {}}, "Missing key"),
        ({"state_dict": 3}, "damaged"),
        ({"state_dict": {name: torch.full_like(w, torch.nan) for name, w in MODEL.state_dict().items()}}, "not finite"),
        ({"state_dict": RNNLMScratch(5, hiddens=4).state_dict()}, "size mismatch"),
        ({"hyper_parameters": {"vocab_size": 5, "hiddens": "three"}}, "hiddens"),
        ({"hyper_parameters": {"vocab_size": 5, "_target_": "os.mkdir"}}, "_target_"),
    ],
)
def test_mismatched_checkpoint_is_refused(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = saved(tmp_path, changes)
    assert_refused(tmp_path / "run", says)
    path.unlink()
    assert_refused(tmp_path / "run", "run=")


def test_checkpoint_takes_precedence_over_export(tmp_path: Path) -> None:
    """A run that was resumed and killed has an older export."""
    export_model(saved(tmp_path).parents[1] / "model.safetensors", older := RNNLMScratch(len(VOCAB), 3), VOCAB, SUMMARY)
    assert weights(load_model(str(tmp_path / "run"))[0]) == weights(MODEL)
    saved(tmp_path).unlink()
    assert weights(load_model(str(tmp_path / "run"))[0]) == weights(older)


@pytest.mark.parametrize("kind", ["ckpt", "safetensors"])
def test_flipped_bytes(kind: str, tmp_path: Path) -> None:
    """Loading gives a one-line error or a model. Only checkpoints have checksums, so their model must be unchanged."""
    path = run = tmp_path / "model.safetensors"
    export_model(path, MODEL, VOCAB, SUMMARY)
    if kind == "ckpt":
        path, run = saved(tmp_path), tmp_path / "run"
    sound, draw, noticed = path.read_bytes(), random.Random(0), 0
    for _ in range(CASES):
        damaged = bytearray(sound)
        damaged[draw.randrange(len(sound))] ^= draw.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            found, vocab = load_model(str(run))
        except SettingError as error:
            noticed += 1
            assert "\n" not in str(error)
        else:
            assert kind != "ckpt" or (weights(found), vocab.idx_to_token) == (weights(MODEL), VOCAB.idx_to_token)
    assert noticed > CASES / 10
