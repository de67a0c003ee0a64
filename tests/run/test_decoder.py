"""Decode with an export: the same text as with the model, and no import of torch or Lightning."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.run.test_weights import SUMMARY, VOCAB, Mine, saved
from tests.support.programs import Program
from timemachine.decoding import continue_text
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.regularized.language_model import RegularizedRNNLM
from timemachine.run.decoder import load_numpy_decoder
from timemachine.run.weights import exported
from timemachine.sampling import Truncation, decode

EMBEDDING: dict[str, Any] = {"input": "embedding", "embedding_dim": 5}
TIED = {"input": "embedding", "embedding_dim": 8, "embedding_sigma": 0.7, "tie_weights": True}
ASKED: list[tuple[Any, ...]] = [
    ("ab", 40),
    ("", 40, 0.7, 1, 3),
    ("c", 40, 1e300, 2, 3),
    ("ab ca", 40, 1.3, 5, 4, Truncation(top_k=4, top_p=0.9, min_p=0.01)),
]


def export(folder: Path, model: RNNLMScratch) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(exported(model, VOCAB, SUMMARY))
    return folder


@pytest.mark.parametrize("kind", [FusedRNNLM, RegularizedRNNLM])
@pytest.mark.parametrize("network", [{}, {"activation": "relu"}, EMBEDDING, TIED], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_same_text_as_with_the_model(kind: Any, network: Any, dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(11)
    model = kind(len(VOCAB), hiddens=8, sigma=1.0, **network).to(dtype)
    run = export(tmp_path / "run", model)
    loaded = load_numpy_decoder(run)
    assert loaded and load_numpy_decoder(run / "model.safetensors")
    for asked in ASKED:
        assert decode(*loaded, *asked) == continue_text(model, VOCAB, *asked)


@pytest.mark.parametrize(
    "model",
    [FusedRNNLM(len(VOCAB), 3, cell="gru"), Mine(len(VOCAB), 3), FusedRNNLM(len(VOCAB), 3).half()],
    ids=["another cell", "a class of a user", "16 bits"],
)
def test_what_takes_the_model(model: RNNLMScratch, tmp_path: Path) -> None:
    assert load_numpy_decoder(export(tmp_path / "run", model)) is None


def test_damaged_export(tmp_path: Path) -> None:
    export(tmp_path, FusedRNNLM(len(VOCAB), 3))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    assert load_numpy_decoder(tmp_path) is None and load_numpy_decoder(tmp_path / "nothing") is None


@pytest.mark.parametrize(("status", "step"), [("completed", 3), ("running", 3), ("completed", 4)])
def test_a_resumed_run_has_an_older_export(status: str, step: int, tmp_path: Path) -> None:
    run = export(saved(tmp_path).parents[1], RNNLMScratch(len(VOCAB), 3))
    assert load_numpy_decoder(run) is None  # no summary.json, so last.ckpt may be newer
    (run / "summary.json").write_text(json.dumps(SUMMARY | {"status": status, "metrics": {"step": step}}))
    assert (load_numpy_decoder(run) is not None) == ((status, step) == ("completed", 3))


def test_generate_without_torch(tmp_path: Path, program: Program) -> None:
    torch.manual_seed(0)
    model = FusedRNNLM(len(VOCAB), 8, sigma=1.0)
    typed = (f"run={export(tmp_path / 'run', model)}", "prefix=ab", "num_preds=30", "alpha=1", "num_samples=3")
    done = program("generate.py", *typed, PYTHONPROFILEIMPORTTIME="1")  # lists the imported modules
    assert done.stdout.splitlines() == continue_text(model, VOCAB, "ab", 30, 1.0, 3)
    assert " numpy\n" in done.stderr and not {"torch", "lightning"} & set(done.stderr.split())
