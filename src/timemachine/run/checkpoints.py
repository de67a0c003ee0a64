"""Resume a run bit for bit: what Lightning's checkpoints lack, and the check that it is the same experiment.

Uses Lightning's private `fit_loop._iteration_based_training` (tested with 2.6.6).
"""

import random
import signal
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import BatchSizeFinder, Callback, LearningRateFinder, ModelCheckpoint

from timemachine.config import format_value
from timemachine.errors import SettingError, one_line
from timemachine.run.files import relative_path
from timemachine.run.record import ENDED, LAST, Record

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of a ModelCheckpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint whole or not at all, and remove only the checkpoints of this run.

    Lightning writes a checkpoint into /tmp, from where a move to another file system is a copy that a kill cuts short.
    And it removes any path that the state of a ModelCheckpoint names, although this state comes from a file. `folder`:
    the folder of the checkpoints. Elsewhere only files that this process has saved are removed.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder, self.saved = Path(folder), set[Path]()

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a file in the same folder, then rename it."""
        part = Path(f"{path}.part")
        super().save_checkpoint(checkpoint, part, storage_options)
        part.replace(path)
        self.saved.add(Path(path).resolve())

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint that lies in `folder`, or that this process has saved."""
        place = Path(path).resolve()
        # `folder` is not resolved itself: in a folder from somebody else it may be a link to any folder of yours.
        if place.parent == self.folder.parent.resolve() / self.folder.name or place in self.saved:
            super().remove_checkpoint(path)


class ExactResume(Callback):
    """Save and restore the states of the random number generators, which Lightning's checkpoints lack.

    Also corrects four things that Lightning 2.6 does to a resumed run: it ends the last epoch twice with max_steps,
    rounds 64-bit weights to 32 bits, forgets the best checkpoint of a run that was moved, and trains one more epoch if
    EarlyStopping ended the run. Known gap: a resumed run creates the DataLoader's iterator before
    `on_train_epoch_start`, a new run after it; if both draw from torch's generator, the two differ.
    """

    def __init__(self) -> None:
        self.states_of_checkpoint: Any = None
        self.states_after_loader: Any = None  # after the resumed run's DataLoader has created its iterator

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Convert the model before Lightning restores its weights, let each epoch end once, and restore the states."""
        if stage != "fit":  # the test of a model that this Trainer has just trained
            return
        # Lightning converts it afterwards, so that 64-bit weights would pass through a 32-bit model.
        trainer.precision_plugin.convert_module(pl_module)
        setup_data = trainer.fit_loop.setup_data

        def setup_data_with_states() -> None:
            # Not in `on_load_checkpoint`: a callback's `on_fit_start` may draw after it.
            if self.states_of_checkpoint is not None:
                restore(self.states_of_checkpoint)
            setup_data()  # creates the DataLoader's iterator, which may draw
            if self.states_of_checkpoint is not None:
                self.states_of_checkpoint, self.states_after_loader = None, random_states()

        trainer.fit_loop.setup_data = setup_data_with_states  # type: ignore[method-assign]
        # With max_steps it is true, and a resumed run ends the checkpoint's epoch again, with all its hooks.
        trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]  # private

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the states as plain values and tensors, all that `weights_only` loads."""
        checkpoint["random"] = random_states()
        checkpoint["class"] = class_name(type(pl_module))  # so that no other class is built from it

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the states; point checkpoint paths to this run's folder; stay ended after EarlyStopping."""
        self.states_of_checkpoint = checkpoint.get("random")
        stopped = [getattr(each, "state_key", "") for each in trainer.early_stopping_callbacks]
        # EarlyStopping restores its counts, but stops only after the next validation: one epoch too late.
        for key, state in checkpoint["callbacks"].items():
            if key in stopped and state.get("stopping_reason"):
                trainer.should_stop = True
        # With another `dirpath`, ModelCheckpoint forgets its best score, and the next validation is the best one.
        for callback in trainer.checkpoint_callbacks:
            state = checkpoint["callbacks"].get(callback.state_key)
            if isinstance(callback, ModelCheckpoint) and state:
                _move(state, str(callback.dirpath))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore the states that followed, once: callbacks may have drawn again when the training started."""
        if self.states_after_loader is not None:
            restore(self.states_after_loader)
            self.states_after_loader = None


def random_states() -> tuple[Any, ...]:
    """Return the states of the generators of torch, CUDA, NumPy and Python."""
    # NumPy's state contains an array, which `weights_only` does not load.
    name, keys, *others = np.random.get_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), cuda, (name, np.asarray(keys).tolist(), *others), random.getstate()


def restore(states: tuple[Any, ...]) -> None:
    """Set the generators to the states from `random_states`."""
    of_torch, cuda, numpy, python = states
    torch.set_rng_state(of_torch)
    torch.cuda.set_rng_state_all(cuda[: torch.cuda.device_count()])  # there may be fewer GPUs now
    np.random.set_state(numpy)
    random.setstate(python)


def class_name(kind: type) -> str:
    """Return the name of a class by which it is imported."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _move(state: dict[str, Any], folder: str) -> None:
    """Let the state of a ModelCheckpoint name files in another folder."""

    def moved(path: str) -> str:
        return str(Path(folder, Path(path).name)) if path else path

    state["dirpath"] = folder
    state |= {name: moved(state[name]) for name in PATHS}
    state["best_k_models"] = {moved(path): score for path, score in state["best_k_models"].items()}


class Interruptible(Callback):
    """Let Ctrl-C and SIGTERM interrupt training at once, also that of several processes.

    Lightning's handler of SIGTERM waits for the other processes, which may be waiting for this one. Here the first
    process is interrupted, and Lightning then kills the others.
    """

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the handlers that Lightning has installed; it restores the first ones at the end."""
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:  # as in a shell's background processes
                signal.signal(number, signal.default_int_handler if trainer.is_global_zero else signal.SIG_IGN)


class RunStart(Callback):
    """Write summary.json when the training starts: until then, Lightning may reject a setting of a resumed run.

    Also names `optimized_metric` if Lightning ends the training because the model does not log it.
    """

    def __init__(self, run: Record) -> None:
        self.run = run

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Raise SettingError for a tuner in a resumed run: it would restore its own checkpoint, at step 0.

        Also disable the progress bar of a job: the sweep prints a line per job.
        """
        if self.run.is_job and (bar := trainer.progress_bar_callback):
            bar.disable()
        for callback in trainer.callbacks if self.run.completed_epochs else ():  # type: ignore[attr-defined]
            if isinstance(callback, LearningRateFinder | BatchSizeFinder):
                rule = "not in a resumed run, which has its learning rate and batch size; resume without it"
                raise SettingError(f"callbacks: {type(callback).__name__}: {rule}")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the beginning."""
        self.run.begin(pl_module, trainer.datamodule)  # type: ignore[attr-defined]

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Add a line to the error of a ModelCheckpoint or an EarlyStopping that does not find the metric."""
        name, logged = str(self.run.settings.get("optimized_metric")), trainer.callback_metrics
        if name in str(exception) and name not in logged:
            rule = f"not logged by the model, which logs {', '.join(logged)}; use one of these"
            exception.add_note(f"optimized_metric={name}: {rule}")


def unreadable(path: Path, error: Exception) -> SettingError:
    """Return the error for a damaged file, without torch's advice on how to load a pickle all the same."""
    reason = "" if isinstance(error, UnpicklingError) else f": {one_line(error, 100)}"
    return SettingError(f"{relative_path(path)}: not a run's checkpoint or export, or damaged{reason}")


def last_checkpoint(run: Record, data: pl.LightningDataModule) -> Path | None:
    """Return the run's last.ckpt, None for a new run; set `run.completed_epochs`.

    Raises SettingError if the checkpoint is damaged, and if the run would continue as another experiment.
    """
    path, folder = run.folder / LAST, relative_path(run.folder)
    if not path.exists():
        if run.before.get("status") in ENDED:
            raise SettingError(f"{folder}: has a run that has ended, without {LAST}; use another hydra.run.dir")
        return None
    if run.settings["trainer"].get("fast_dev_run"):
        raise SettingError(f"trainer.fast_dev_run: would replace the results in {folder}; use another hydra.run.dir")
    # Not the trainer: a run may be continued with more epochs, or on another device.
    run.require_same("seed", "init_from", "model", "data")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        loops, epoch = checkpoint["loops"]["fit_loop"], int(checkpoint["epoch"]) + 1
        sha256 = checkpoint.get(type(data).__qualname__, {}).get("sha256")
    except Exception as error:  # damaged bytes raise anything
        raise unreadable(path, error) from error
    if sha256 != getattr(getattr(data, "corpus", None), "sha256", None):
        name = format_value(run.settings["data"].get("corpus"))
        raise SettingError(f"data.corpus={name}: the run in {folder} was trained on another text")
    for name, done in (("max_epochs", epoch), ("max_steps", int(checkpoint["global_step"]))):
        limit = run.settings["trainer"].get(name)
        if limit is not None and -1 < limit < done:
            raise SettingError(f"trainer.{name}={limit}: the run in {folder} has done {done}; use {done} or more")
    if run.prints:
        is_whole = loops["epoch_loop.batch_progress"]["is_last_batch"]
        cut = "" if is_whole else ", which a limit had cut short: the run will not equal an uninterrupted one"
        print(f"resumes after epoch {epoch}{cut}", flush=True)
    run.completed_epochs = epoch
    return path
