"""Interrupted and resumed runs equal uninterrupted ones bit for bit, at any point of interruption."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback, EarlyStopping
from torch import Tensor

from tests.support.jobs import change_summary
from tests.support.runs import InterruptAt, Interruption, fit, rows, what_is_left
from timemachine.corpus import Corpus, find_corpus
from timemachine.datamodule import Batch, TimeMachine
from timemachine.errors import SettingError, is_about_settings
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.page.epochs import EPOCH_WEIGHTS
from timemachine.run.record import read_summary

STEPS_AN_EPOCH, EPOCHS = 3, 4


def train(
    folder: Path, *callbacks: Callback, kind: type[RNNLMScratch] = RNNLMScratch, hiddens: int = 4, seed: int = 1,
    text: str = "sample", **chosen: Any,
) -> None:  # fmt: skip
    """Train 12 steps, resuming from the last checkpoint in the folder if there is one."""
    torch.manual_seed(0)
    data = TimeMachine(32, 4, 3 * 32 - 5, 40, corpus=find_corpus(text, []), seed=seed)
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
    assert what_is_left(folder) == what_is_left(whole)
    assert (folder / EPOCH_WEIGHTS).read_bytes() == (whole / EPOCH_WEIGHTS).read_bytes()


@settings(max_examples=8)
@given(steps=st.lists(st.integers(0, STEPS_AN_EPOCH * EPOCHS - 1), min_size=1, max_size=3))
def test_interrupted_at_any_step(
    steps: list[int], uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    interrupt_at(steps, uninterrupted, tmp_path_factory.mktemp("interrupted"))


def test_interrupted_with_max_steps(tmp_path: Path) -> None:
    max_steps = 3 * STEPS_AN_EPOCH - 2
    train(tmp_path / "whole", max_steps=max_steps)
    for step in (1, STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH):
        interrupt_at([step], tmp_path / "whole", tmp_path / f"interrupted at {step}", max_steps=max_steps)


def test_interrupted_after_early_validations(tmp_path: Path) -> None:
    """In the first epoch, the rows of validations are kept and the run restarts."""
    train(tmp_path / "whole", val_check_interval=1)
    with pytest.raises(Interruption):
        train(tmp_path / "run", InterruptAt(2), val_check_interval=1)
    assert [row["step"] for row in rows(tmp_path / "run/metrics.csv")] == [1, 2]
    train(tmp_path / "run", val_check_interval=1)
    assert what_is_left(tmp_path / "run") == what_is_left(tmp_path / "whole")


def test_a_number_of_steps_may_grow(uninterrupted: Path, tmp_path: Path) -> None:
    for max_steps in (STEPS_AN_EPOCH, 2 * STEPS_AN_EPOCH, -1):
        train(tmp_path / "run", max_steps=max_steps)
    assert what_is_left(tmp_path / "run") == what_is_left(uninterrupted)


def test_torn_row_in_moved_folder(uninterrupted: Path, tmp_path: Path) -> None:
    """A moved run also keeps its best checkpoint, whose score Lightning would forget."""
    with pytest.raises(Interruption):
        train(tmp_path / "here", InterruptAt(2 * STEPS_AN_EPOCH))
    for name in ("metrics.csv", "steps.csv"):
        with (tmp_path / "here" / name).open("a") as file:
            file.write("3,1")  # the start of 3,10,…
    (tmp_path / "here").rename(tmp_path / "there")
    train(tmp_path / "there")
    assert what_is_left(tmp_path / "there") == what_is_left(uninterrupted)


class Rises(RNNLMScratch):
    """A model whose first validation is its best."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.1, maximize=True)


def test_moved_run_keeps_its_best(tmp_path: Path) -> None:
    train(tmp_path / "here", kind=Rises, max_epochs=2)
    best = (tmp_path / "here/checkpoints/best.ckpt").read_bytes()
    (tmp_path / "here").rename(tmp_path / "there")
    train(tmp_path / "there", kind=Rises, max_epochs=4)
    assert (tmp_path / "there/checkpoints/best.ckpt").read_bytes() == best
    assert read_summary(tmp_path / "there")["resumed"][0]["epoch"] == 2


def test_early_stopping_ends_a_run_for_good(tmp_path: Path) -> None:
    for _ in range(2):
        train(tmp_path, EarlyStopping("val/perplexity", patience=1), kind=Rises, max_epochs=9)
        assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == [1, 2]
    train(tmp_path, kind=Rises, max_epochs=3)  # without the callback it goes on
    assert [row["epoch"] for row in rows(tmp_path / "metrics.csv")] == [1, 2, 3]


class OwnStep(RNNLMScratch):
    """Custom loss, optimizer and schedule, and a metric that is logged at each step."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss = self.nll(batch).square().mean()
        self.log("own", loss.detach(), on_step=True)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.RMSprop(self.parameters(), 0.01, momentum=0.9)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}


def test_own_step_and_optimiser_resume(sample: Corpus, tmp_path: Path) -> None:
    for name, ends in (("whole", [3]), ("again", [1, 3])):
        for max_epochs in ends:
            torch.manual_seed(0)
            data = TimeMachine(64, 8, 310, 70, corpus=sample)
            fit(tmp_path / name, OwnStep(28, hiddens=4, sigma=0.1), data, max_epochs=max_epochs)
    steps = rows(tmp_path / "whole" / "steps.csv")
    assert [row["step"] for row in steps] == [*range(1, 16)]
    epochs = rows(tmp_path / "whole" / "metrics.csv")
    assert [row["lr"] for row in epochs] == [0.01, 0.005, 0.0025]
    assert [row["own"] for row in epochs] == [row["loss"] for row in steps[4::5]]
    assert what_is_left(tmp_path / "again") == what_is_left(tmp_path / "whole")


class Signal(Callback):
    """Send SIGTERM to this process in the validation after step 6."""

    def on_validation_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)


def test_signal_between_two_epochs(uninterrupted: Path, tmp_path: Path) -> None:
    """Afterwards the previous handlers are restored."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    with pytest.raises(SystemExit):  # Lightning converts KeyboardInterrupt
        train(tmp_path, Signal())
    assert [signal.getsignal(number) for number in numbers] == handlers
    assert read_summary(tmp_path)["status"] == "interrupted"
    assert [row["step"] for row in rows(tmp_path / "metrics.csv")] == [3]
    train(tmp_path)
    assert what_is_left(tmp_path) == what_is_left(uninterrupted)


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
    assert_rejected(uninterrupted, "FusedRNNLM", kind=FusedRNNLM)
    assert_rejected(uninterrupted, "trainer.max_epochs=3: ", max_epochs=3)
    other = tmp_path / "other.txt"
    for text in (find_corpus("sample", []).characters + " and more", "a text of a few letters " * 100):
        other.write_text(text)
        assert_rejected(uninterrupted, "other.txt: " if len(text) > 9999 else "", text=str(other))


@pytest.mark.parametrize("table", ["metrics.csv", "steps.csv"])
@pytest.mark.parametrize("content", ["epoch,step\n1,3\n", "a,b,c\n", "\0"])
def test_table_with_a_hole_is_rejected(table: str, content: str, uninterrupted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    (folder / table).write_text(content)
    assert_rejected(folder, table, max_epochs=6)


@pytest.mark.parametrize("chosen", [{"val_check_interval": 1000}, {"fast_dev_run": True}])
def test_lightnings_rejection_changes_nothing(chosen: dict[str, Any], uninterrupted: Path, tmp_path: Path) -> None:
    """Lightning rejects these after it has read the checkpoint."""
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    change_summary(folder, status="completed", metrics={"val/perplexity": 7.5})
    before = (folder / "summary.json").read_bytes()
    with pytest.raises(Exception) as error:
        train(folder, **{"max_epochs": 6} | chosen)
    assert is_about_settings(error.value) and (folder / "summary.json").read_bytes() == before


def test_damaged_checkpoint_is_rejected(uninterrupted: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(uninterrupted, tmp_path / "run")
    checkpoint = folder / "checkpoints" / "last.ckpt"
    content = checkpoint.read_bytes()
    for damaged in (content[:-3000], b"damaged", b""):
        checkpoint.write_bytes(damaged)
        assert_rejected(folder, "last.ckpt: ")
    checkpoint.unlink()
    change_summary(folder, status="completed")
    assert_rejected(folder, "has ended")  # its results stay


def test_paths_of_a_checkpoint_are_not_followed(uninterrupted: Path, tmp_path: Path) -> None:
    """Lightning removes the former best checkpoint, whatever its path."""
    folder, victim = shutil.copytree(uninterrupted, tmp_path / "run"), tmp_path / "victim"
    victim.mkdir()
    (victim / "file").touch()
    for path in (str(victim), f"local://{victim}", str(folder / "checkpoints/../../victim")):
        state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)
        for kept in (state for name, state in state["callbacks"].items() if name.startswith("ModelCheckpoint")):
            kept |= {"best_model_path": path, "kth_best_model_path": path, "last_model_path": path}
            kept |= {"best_k_models": {path: torch.tensor(1e9)}, "best_model_score": torch.tensor(1e9)}
        torch.save(state, folder / "checkpoints/last.ckpt")
        train(folder, max_epochs=len(rows(folder / "metrics.csv")) + 1)
        assert (victim / "file").exists()
