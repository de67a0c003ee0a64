"""User-defined callbacks and loggers: logging, resuming, and one-line errors."""

import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger
from safetensors.torch import load_file

from tests.support.programs import assert_succeeded, call_program, with_callback
from tests.support.runs import InterruptAt, Interruption, rows, summary, what_is_left
from timemachine import load_run
from timemachine.config import Train
from timemachine.errors import SettingError
from timemachine.run.record import Record, Role
from timemachine.run.user_classes import build_classes

pytestmark = pytest.mark.usefixtures("quick_calls")
LIGHTNINGS = "lightning.pytorch.callbacks"
NOTE = f"{__name__}.Note"
SMALL = ["data=sample", "data.num_train=64", "data.num_val=64", "data.batch_size=16", "data.num_steps=8"]
SMALL += ["model.hiddens=4", "model.sigma=0.3", "trainer=cpu", "trainer.max_epochs=6"]  # four steps per epoch


class Note(Callback):
    """Log a number to each logger at each step and at each validation."""

    def __init__(self, factor: float, *, bar: object = None) -> None:
        self.factor, self.bar = factor, bar

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"note": self.factor * trainer.global_step}, step=trainer.global_step)

    def on_validation_end(self, trainer: pl.Trainer, *_: Any) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"val/note": self.factor}, step=trainer.global_step)


class Memory(Logger):
    """Store the hyperparameters and metrics."""

    name, version = "memory", 0
    params: dict[str, Any]
    metrics: dict[str, float]

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        Memory.params, Memory.metrics = {"save_dir": save_dir}, {}

    def log_hyperparams(self, params: Any, *_: Any, **__: Any) -> None:
        Memory.params |= params

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        Memory.metrics |= metrics


class Odd(Callback):
    """Draw random numbers."""

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for parameter in pl_module.parameters():
            assert parameter.grad is not None
            parameter.grad += 1e-3 * torch.randn_like(parameter) * (random.random() + np.random.rand())


class Broken(Callback):
    def __init__(self) -> None:
        raise KeyError("mine")


def of(entry: dict[str, Any]) -> Train:
    return Train(callbacks={"mine": entry})


CALLS = {"_target_": "subprocess.check_output", "args": ["touch", "mark"]}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"_target_": NOTE}, ".*'factor'"),
        ({"_target_": NOTE, "factor": 1, "baar": 2}, ".* 'baar'"),
        ({"_target_": f"{__name__}.Noet"}, r"\._target_="),
        ({"_target_": f"{__name__}.Memory"}, r"\._target_="),
        ({"_target_": "no_such_module.Note"}, r"\._target_=no_such_module.Note: "),
        ({"_target_": f"{LIGHTNINGS}.EarlyStopping", "monitor": "x", "mode": "y"}, ": "),
        ({"_target_": "EarlyStopping"}, r"\._target_=EarlyStopping"),
        ({"_target_": f"{LIGHTNINGS}.LearningRateFinder"}, r"\._target_=.*LearningRateFinder"),
        ({"_target_": f"{LIGHTNINGS}.StochasticWeightAveraging", "swa_lrs": 1}, r"\._target_="),
        ({"_target_": f"{LIGHTNINGS}.EMAWeightAveraging"}, r"\._target_=.*EMAWeightAveraging"),
        ({"_target_": NOTE, "factor": [1, {"deep": [CALLS]}]}, ".*_target_"),
        ({"factor": 1}, "="),
        (NOTE, "="),
    ],
)
def test_an_invalid_entry_is_one_line(entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=f"^callbacks.mine{message}"):
        list(build_classes(of(entry), "callbacks", Record(tmp_path, {}, Role())))
    assert not Path("mark").exists()


def test_a_mistake_of_ones_own_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lacks.py").write_text("import there_is_no_such_module")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = Record(tmp_path, {}, Role())
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
        list(build_classes(of({"_target_": "lacks.Mine"}), "callbacks", run))
    with pytest.raises(KeyError, match="mine"):
        list(build_classes(of({"_target_": f"{__name__}.Broken"}), "callbacks", run))


def test_own_classes_get_settings_and_metrics() -> None:
    Path("logger").mkdir()
    Path("logger/mine.yaml").write_text(f"mine:\n  _target_: {__name__}.Memory\n")
    typed = [f"callbacks.note._target_={NOTE}", "+callbacks.note.factor=0.5", "hydra.searchpath=[.]"]
    assert_succeeded(call_program("train.py", *SMALL, "logger=[csv,mine]", *typed, "hydra.run.dir=run"))
    assert Memory.params["save_dir"].endswith("run") and Memory.params["model"]["hiddens"] == 4
    assert summary(Path("run"))["settings"]["callbacks"]["note"]["factor"] == 0.5
    steps, epochs = rows(Path("run/steps.csv")), rows(Path("run/metrics.csv"))
    assert {*steps[0], *epochs[-1], "note", "val/note"} - {"step"} <= Memory.metrics.keys()


THREE = ["early_stopping", "learning_rate_monitor", "device_stats_monitor"]


@pytest.mark.parametrize("step", [6, 21])  # steps in mid-epoch
def test_callbacks_resume_bit_for_bit(step: int) -> None:
    typed = [f"callbacks.odd._target_={__name__}.Odd", f"callbacks=[{','.join(THREE)}]"]
    typed += ["logger=[wandb,tensorboard]", "logger.wandb.mode=offline"]
    typed += ["callbacks.learning_rate_monitor.logging_interval=null", "trainer.log_every_n_steps=3"]
    left = []
    for folder in ("at once", "in two"):
        if folder == "in two":
            with with_callback(InterruptAt(step)), pytest.raises(Interruption):
                call_program("train.py", *SMALL, *typed, f"hydra.run.dir={folder}")
        again = [f"resume={folder}"] if folder == "in two" else [*SMALL, *typed, f"hydra.run.dir={folder}"]
        assert_succeeded(call_program("train.py", *again))
        left.append(what_is_left(Path(folder)))
    assert left[0] == left[1]
    exported = load_file("in two/model.safetensors")  # generate.py reads the checkpoint
    last = torch.load("in two/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(exported[name], last[name]) for name in exported)


def test_own_checkpoints_can_be_read() -> None:
    typed = [f"callbacks.mine._target_={LIGHTNINGS}.ModelCheckpoint", "callbacks.mine.monitor=val/perplexity"]
    assert_succeeded(call_program("train.py", *SMALL, "logger=csv", *typed, "hydra.run.dir=run"))
    assert sorted(path.name for path in Path("run/checkpoints").glob("*.ckpt")) == ["best.ckpt", "last.ckpt"]
    (own,) = Path("run/checkpoints/mine").iterdir()
    model, best = load_run(own).model, load_run("run/checkpoints/best.ckpt").model
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(model.parameters(), best.parameters(), strict=True))


def test_early_stopping_survives_resuming() -> None:
    name = "callbacks.early_stopping"
    typed = ["callbacks=early_stopping", f"{name}.patience=1", f"{name}.min_delta=100", "hydra.run.dir=run"]
    assert_succeeded(call_program("train.py", *SMALL, "logger=csv", *typed))
    before = what_is_left(Path("run"))
    assert len(before["epochs"]) == 2
    done = call_program("train.py", "resume=run", "trainer.max_epochs=8")
    assert "a callback stopped the run after epoch 2" in done.stdout
    assert what_is_left(Path("run")) == before
    done = call_program("train.py", "resume=run", f"{name}.patience=5")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {name}.patience=5: ")
    assert_succeeded(call_program("train.py", "resume=run", "callbacks=none", "trainer.max_epochs=3"))
    assert len(rows(Path("run/metrics.csv"))) == 3


def test_own_files_are_found_when_resumed(tmp_path: Path) -> None:
    for name, text in {
        "callbacks/mine.yaml": f"mine:\n  _target_: {LIGHTNINGS}.Timer\n",
        "experiment/small.yaml": "# @package _global_\nmodel:\n  hiddens: 3\n",
    }.items():
        path = tmp_path / "my files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    typed = ["hydra.searchpath=['my files']", "+experiment=small", "callbacks=mine", "hydra.run.dir=run"]
    small = [argument for argument in SMALL if not argument.startswith("model.hiddens")]
    assert_succeeded(call_program("train.py", *small, "logger=csv", "trainer.max_epochs=1", *typed))
    assert_succeeded(call_program("train.py", "resume=run", "trainer.max_epochs=2"))
    settings = summary(Path("run"))["settings"]
    assert settings["model"]["hiddens"] == 3 and settings["callbacks"] == {"mine": {"_target_": f"{LIGHTNINGS}.Timer"}}
    for mistake in ("+experiment=smal", "experiment=small"):
        done = call_program("train.py", typed[0], mistake)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1) and "experiment=small" in done.stderr
