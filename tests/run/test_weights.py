"""Models on disk and `timemachine.load_run`: the class of the run, the newest weights; nothing is executed."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

import timemachine
from tests.support.programs import call_program
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.evaluation.scores import evaluate
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import page_of
from timemachine.run.checkpoints import AtomicCheckpointIO, load_initial_weights
from timemachine.run.files import relative_path
from timemachine.run.run import load_run
from timemachine.run.weights import class_name, exported, load_model
from timemachine.vocab import Vocab

VOCAB = Vocab("abc ")
SUMMARY: dict[str, Any] = {name: {} for name in ("versions", "git", "corpus")} | {"settings": {"data": {}}}
SUMMARY["status"] = "completed"
SUMMARY["metrics"] = {"step": 3}
MODEL = RNNLMScratch(len(VOCAB), hiddens=3)


class Mine(RNNLMScratch):
    """A user's own class."""


def saved(folder: Path, changes: dict[str, Any] | None = None, step: int = 3) -> Path:
    """Save the relevant parts of a checkpoint like Lightning."""
    path = folder / "run" / "checkpoints" / "last.ckpt"
    text: Any = {"tokens": VOCAB.idx_to_token, "kind": "letters", "sha256": "0"}
    state: dict[str, Any] = {"class": class_name(RNNLMScratch), "global_step": step, "TimeMachine": text}
    state |= {"state_dict": MODEL.state_dict(), "hyper_parameters": dict(MODEL.hparams)}
    AtomicCheckpointIO().save_checkpoint(state | (changes or {}), path)
    return path


def weights(model: RNNLMScratch) -> dict[str, Any]:
    return {name: weight.tolist() for name, weight in model.state_dict().items()}


def test_the_damaged_file_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path)
    for damaged in (path.read_bytes()[:-300], b"damaged", pickle.dumps(Mine)):
        path.write_bytes(damaged)
        assert_rejected(tmp_path / "run", "run/checkpoints/last.ckpt: ")
    path.unlink()
    assert_rejected(tmp_path / "run", "neither")


def assert_rejected(run: Path, says: str | None = None, model_class: type[RNNLMScratch] | None = None) -> None:
    with pytest.raises(SettingError, match=says) as error:
        load_model(run, model_class)
    assert str(error.value).startswith((f"{run}: ", relative_path(run))) and "\n" not in str(error.value)
    assert "PyTorch 2.6" not in str(error.value)  # torch's advice on how to load a pickle all the same


@pytest.mark.parametrize("input", ["one_hot", "embedding"])
def test_export_round_trip(input: str, tmp_path: Path) -> None:
    width = 3 if input == "embedding" else 32
    model = FusedRNNLM(len(VOCAB), hiddens=7, activation="relu", input=input, embedding_dim=width)
    (tmp_path / "model.safetensors").write_bytes(exported(model, VOCAB, SUMMARY))
    loaded, vocab = load_model(tmp_path / "model.safetensors")
    assert weights(loaded) == weights(model) and loaded.hparams == model.hparams and type(loaded) is FusedRNNLM
    assert vocab.idx_to_token == VOCAB.idx_to_token
    assert load_run(tmp_path / "model.safetensors").summary.items() >= SUMMARY.items()
    of_any_program = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(of_any_program["W_hq"], model.W_hq.detach().numpy())


def test_own_class_has_to_be_named(tmp_path: Path) -> None:
    """No other class is built in silence, and none is imported by a name in a file."""
    (tmp_path / "model.safetensors").write_bytes(exported(Mine(len(VOCAB), hiddens=3), VOCAB, SUMMARY))
    saved(tmp_path, {"class": class_name(Mine)})
    for run in (tmp_path / "model.safetensors", tmp_path / "run"):
        assert_rejected(run, "Mine")
        assert_rejected(run, "Mine", RNNLMScratch)
        assert type(load_model(run, Mine)[0]) is Mine
    assert_rejected(saved(tmp_path, {"class": "antigravity.RNN"}), "antigravity")


class Code:
    """Create a folder when unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("disguise", ["torch", "pickle", "safetensors"])
def test_code_is_never_executed(disguise: str, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    path = saved(tmp_path, {"callbacks": Code(executed)})
    content = torch.load(saved(tmp_path / "sound"), weights_only=True) | {"callbacks": Code(executed)}
    if disguise != "torch":
        path.write_bytes(pickle.dumps(content, protocol=2))
    run = tmp_path / "run"
    if disguise == "safetensors":
        run = path.rename(tmp_path / "model.safetensors")
    assert_rejected(run)
    assert not executed.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"TimeMachine": {"tokens": ["a", "b"], "kind": "letters"}, "hyper_parameters": {"vocab_size": 3}},
        {"state_dict": {}},
        {"state_dict": RNNLMScratch(5, hiddens=4).state_dict()},
        {"hyper_parameters": {"vocab_size": 5, "_target_": "os.mkdir"}},
        {"class": class_name(TimeMachine), "hyper_parameters": {"corpus": "sample"}},
    ],
)
def test_mismatched_checkpoint_is_rejected(changes: dict[str, Any], tmp_path: Path) -> None:
    path = saved(tmp_path, changes)
    assert_rejected(tmp_path / "run")
    path.unlink()
    assert_rejected(tmp_path / "run")


@pytest.mark.parametrize(("step", "is_newer"), [(4, True), (3, True), (2, False)])
def test_the_newer_weights_are_read(step: int, is_newer: bool, tmp_path: Path) -> None:
    """A run that was resumed and killed has an older export, one without last.ckpt an older checkpoint."""
    older = MODEL if step == 3 else RNNLMScratch(len(VOCAB), 3)
    (saved(tmp_path, step=step).parents[1] / "model.safetensors").write_bytes(exported(older, VOCAB, SUMMARY))
    assert weights(load_model(tmp_path / "run")[0]) == weights(MODEL if is_newer else older)


def test_initial_weights_of_an_own_class(tmp_path: Path) -> None:
    """The run may have trained this class or one of the project's."""
    for kind in (Mine, RNNLMScratch):
        path, model = saved(tmp_path, {"class": class_name(kind)}), Mine(len(VOCAB), hiddens=3)
        (tmp_path / "run/summary.json").write_text(json.dumps(SUMMARY))
        load_initial_weights(str(path), model, VOCAB)
        assert weights(model) == weights(MODEL)


def test_initial_weights_of_other_symbols(tmp_path: Path) -> None:
    path = saved(tmp_path)
    with pytest.raises(SettingError, match=rf"^init_from={path}: "):
        load_initial_weights(str(path), MODEL, Vocab("abd "))


@pytest.mark.usefixtures("quick_calls")
def test_load_run(sample: Corpus) -> None:
    Path("text.txt").write_text(sample.characters)
    typed = ["data.corpus=text.txt", "data.start=700", "data.num_train=2000", "seed=3", "trainer.max_epochs=1"]
    typed += ["logger=csv", "~callbacks.best_checkpoint", "~callbacks.last_checkpoint", "hydra.run.dir=run"]
    assert call_program("train.py", *typed, "data.seed=4", "trainer.enable_checkpointing=false").returncode == 0
    data = TimeMachine(num_train=2000, start=700, corpus=sample, seed=4)
    (X_BT, _), *_ = data.train_dataloader()
    run = timemachine.load_run("run")
    assert run.model.predict("it has", 20, run.vocab) + "\n" == Path("run/sample.txt").read_text()
    assert torch.equal(next(iter(run.data.train_dataloader()))[0], X_BT) and run.data.splits == data.splits
    assert run.folder == Path("run") and run.settings["seed"] == 3
    assert len(run.curves) == 1 and run.summary["metrics"].items() >= run.curves[0].items()
    rows = evaluate(run.model, run.vocab, run.summary, find_corpus("text.txt", []))  # it starts at character 0
    for name, row in zip(("val", "test"), rows[1:], strict=True):
        assert row.window
        assert row.window.perplexity == pytest.approx(run.summary["metrics"][f"{name}/perplexity"], rel=1e-6)
    assert page_of(Path("run")).is_file()
    Path("text.txt").write_text("another text " * 99)
    with pytest.raises(SettingError, match=r"^data.corpus=.*text.txt: "):
        _ = timemachine.load_run("run").data
