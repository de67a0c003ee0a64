"""Interrupted and resumed runs equal uninterrupted ones bit for bit, at any point of interruption."""

import itertools
import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

from tests.support.runs import InterruptAt, Interruption, fit, rows, summary, tables_and_weights
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch

STEPS_AN_EPOCH, EPOCHS = 3, 4


def train(
    folder: Path, *callbacks: Callback, kind: type[RNNLMScratch] = RNNLMScratch, hiddens: int = 4, seed: int = 1,
    text: str = "sample", kind_of_data: type[TimeMachine] = TimeMachine, **chosen: Any,
) -> None:  # fmt: skip
    """Train 12 steps, resuming from the last checkpoint in the folder if there is one."""
    torch.manual_seed(0)
    data = kind_of_data(32, 4, 3 * 32 - 5, 40, corpus=find_corpus(text, []), seed=seed)
    model = kind(len(data.vocab), hiddens=hiddens, lr=2)
    chosen = {"max_epochs": EPOCHS, "gradient_clip_val": 0.2} | chosen
    fit(folder, model, data, callbacks, **chosen).test(model, data, verbose=False)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(folder)
    return folder


def interrupt_at(steps: list[int], whole: Path, folder: Path, **chosen: Any) -> None:
    """Interrupt a run at each of these steps, resume it, and compare it with the whole run."""
    for step in sorted(steps):
        with pytest.raises(Interruption):
            train(folder, InterruptAt(step), **chosen)
    train(folder, **chosen)
    assert tables_and_weights(folder) == tables_and_weights(whole)


@settings(max_examples=8)
@given(steps=st.lists(st.integers(0, STEPS_AN_EPOCH * EPOCHS - 1), min_size=1, max_size=3))
def test_interrupted_at_any_step(
    steps: list[int], uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    interrupt_at(steps, uninterrupted, tmp_path_factory.mktemp("interrupted"))


def is_killed_at(number: int, folder: Path) -> bool:
    """Train in a child process. Kill it in the middle of its write or rename of this number, and return if it was."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    calls = itertools.count(1)

    def killing(call: Callable[..., Any]) -> Callable[..., Any]:
        def changed(path: Path, argument: Any) -> Any:
            if next(calls) == number:
                if isinstance(argument, bytes):
                    call(path, argument[: len(argument) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return call(path, argument)

        return changed

    try:
        with pytest.MonkeyPatch.context() as patch:
            for name in ("write_bytes", "replace"):
                patch.setattr(Path, name, killing(getattr(Path, name)))
            train(folder)
    finally:
        os._exit(0)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")  # the child needs none of the threads
@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.torture)])
def test_killed_while_a_file_is_written(every: int, uninterrupted: Path, tmp_path: Path) -> None:
    """Each file has its old content or its new one, so the run resumes."""
    for number in itertools.count(1, every):
        folder = tmp_path / str(number)
        if not is_killed_at(number, folder):
            break
        train(folder)
        assert tables_and_weights(folder) == tables_and_weights(uninterrupted), f"killed at call {number}"
    assert number > 20


def test_interrupted_with_max_steps(tmp_path: Path) -> None:
    max_steps = 3 * STEPS_AN_EPOCH - 2
    train(tmp_path / "whole", max_steps=max_steps)
    interrupt_at([1, STEPS_AN_EPOCH], tmp_path / "whole", tmp_path / "interrupted", max_steps=max_steps)


class Shuffled(TimeMachine):
    """The windows in PyTorch's DataLoader, which draws from torch's global generator."""

    def train_dataloader(self) -> DataLoader[Any]:
        windows = TensorDataset(*map(torch.cat, zip(*self.windows("train"), strict=True)))
        return DataLoader(windows, self.batch_size, shuffle=True)


class Draws(Callback):
    """Draws when the training starts, also in a resumed run, and in each epoch."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.rand(1)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.rand(1)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        torch.rand(1)


@pytest.mark.parametrize("step", [STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH + 1])
def test_global_random_numbers(step: int, tmp_path: Path) -> None:
    for name, interruptions in (("whole", []), ("interrupted", [InterruptAt(step)])):
        with pytest.raises(Interruption) if interruptions else nullcontext():
            train(tmp_path / name, Draws(), *interruptions, kind_of_data=Shuffled)
    train(tmp_path / "interrupted", Draws(), kind_of_data=Shuffled)
    assert tables_and_weights(tmp_path / "interrupted") == tables_and_weights(tmp_path / "whole")


class Rises(RNNLMScratch):
    """A model whose first validation is its best."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1, maximize=True)


def test_moved_run_keeps_its_best(tmp_path: Path) -> None:
    """Lightning would forget its score."""
    train(tmp_path / "here", kind=Rises, max_epochs=2)
    best = (tmp_path / "here/checkpoints/best.ckpt").read_bytes()
    (tmp_path / "here").rename(tmp_path / "there")
    train(tmp_path / "there", kind=Rises, max_epochs=4)
    assert (tmp_path / "there/checkpoints/best.ckpt").read_bytes() == best


def test_early_stopping_ends_a_run_for_good(tmp_path: Path) -> None:
    for _ in range(2):
        train(tmp_path, EarlyStopping("val/perplexity", patience=1), kind=Rises, max_epochs=9)
        assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == [1, 2]
    train(tmp_path, kind=Rises, max_epochs=3)  # without the callback it resumes
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == [1, 2, 3]


# Rejected resumes


def assert_rejected(folder: Path, says: str, **chosen: Any) -> None:
    """Check that resuming fails with one line and changes no file."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SettingError) as error:
        train(folder, **chosen)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_another_experiment_is_rejected(uninterrupted: Path, tmp_path: Path) -> None:
    assert_rejected(uninterrupted, "model.hiddens=5: ", hiddens=5)
    assert_rejected(uninterrupted, "seed=2: ", seed=2)
    assert_rejected(uninterrupted, "trainer.fast_dev_run: ", fast_dev_run=True)
    assert_rejected(uninterrupted, "FusedRNNLM", kind=FusedRNNLM)
    assert_rejected(uninterrupted, "trainer.max_epochs=3: ", max_epochs=3)
    (tmp_path / "other.txt").write_text(find_corpus("sample", []).characters + " and more")
    assert_rejected(uninterrupted, "other.txt: ", text=str(tmp_path / "other.txt"))


def test_damaged_tables_are_written_again(uninterrupted: Path, tmp_path: Path) -> None:
    """Also if nothing is left to train: the best validation and the clipped steps are of all epochs."""
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    (folder / "metrics.csv").write_text("\xff", "latin-1")
    (folder / "steps.csv").unlink()
    train(folder)
    assert tables_and_weights(folder) == tables_and_weights(uninterrupted)
    assert summary(folder)["metrics"] == summary(uninterrupted)["metrics"]


def test_damaged_checkpoint_is_rejected(uninterrupted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    content = checkpoint.read_bytes()
    for damaged in (content[:-3000], b"damaged"):
        checkpoint.write_bytes(damaged)
        assert_rejected(folder, "last.ckpt: ")
    checkpoint.unlink()
    (folder / "summary.json").write_text(json.dumps(summary(folder) | {"status": "completed"}))
    assert_rejected(folder, "has ended")  # its results stay


def test_checkpoints_elsewhere(tmp_path: Path) -> None:
    """A ModelCheckpoint with another folder keeps `save_top_k` files in it."""
    own = ModelCheckpoint(tmp_path / "own", monitor="train/perplexity", filename="{epoch}")
    train(tmp_path / "run", own, max_epochs=4)
    assert [path.name for path in (tmp_path / "own").iterdir()] == [Path(own.best_model_path).name]
