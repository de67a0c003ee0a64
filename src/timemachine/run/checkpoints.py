"""Where a run starts: at another run's weights, or bit for bit at its last checkpoint.

Uses Lightning's private `fit_loop._iteration_based_training` and `_accelerator_connector` (tested with 2.6.6).
"""

import random
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from timemachine.config import format_value
from timemachine.datamodule import TimeMachine
from timemachine.errors import OtherRun, SettingError, one_line
from timemachine.language_model import RNNLMScratch
from timemachine.run.files import not_written, relative_path
from timemachine.run.run import ENDED, IDENTITY, Run, load_run
from timemachine.run.weights import class_name, load_model, unreadable
from timemachine.vocab import Vocab

PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")  # in the state of a ModelCheckpoint


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint whole or not at all.

    Lightning writes a checkpoint into /tmp, from where a move to another file system is a copy that a kill cuts short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a file in the same folder, then rename it. Raises UserError if it cannot be written."""
        part = Path(f"{path}.part")
        try:
            super().save_checkpoint(checkpoint, part, storage_options)
            part.replace(path)
        except (OSError, RuntimeError) as error:  # torch raises a RuntimeError if the disk is full
            raise not_written(Path(path), part, error) from error


class ExactResume(Callback):
    """Save and restore the states of the random number generators, which Lightning's checkpoints lack.

    Also corrects three things that Lightning 2.6 does to a resumed run: it ends the last epoch twice with max_steps,
    rounds 64-bit weights to 32 bits, and trains one more epoch if EarlyStopping ended the run. Known gap: a resumed run
    creates the DataLoader's iterator before `on_train_epoch_start`, a new run after it; if both draw from torch's
    generator, the two differ.
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
        """Keep the states; stay ended after EarlyStopping."""
        self.states_of_checkpoint = checkpoint.get("random")
        stopped = [getattr(each, "state_key", "") for each in trainer.early_stopping_callbacks]
        # EarlyStopping restores its counts, but stops only after the next validation: one epoch too late.
        for key, state in checkpoint["callbacks"].items():
            if key in stopped and state.get("stopping_reason"):
                trainer.should_stop = True

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


def keep_in_folder(trainer: pl.Trainer, checkpoint: dict[str, Any]) -> None:
    """Let the states of ModelCheckpoint in a checkpoint name files in the folder of this run only.

    Lightning removes the files that these states name, and a run's folder may be somebody else's. A name alone is kept,
    so that no path (`..`), home (`~`) or protocol (`local://`) leads elsewhere. A run that was moved keeps its best
    score this way, too: with another `dirpath`, ModelCheckpoint forgets it.
    """
    # Lightning also looks states up by a callback's class: a state of which no key is a text could pass by.
    checkpoint["callbacks"] = {key: state for key, state in checkpoint["callbacks"].items() if isinstance(key, str)}
    for callback in trainer.checkpoint_callbacks:
        state = checkpoint["callbacks"].get(callback.state_key)
        if not isinstance(callback, ModelCheckpoint) or state is None:
            continue
        folder, ending = str(callback.dirpath), callback.FILE_EXTENSION

        def moved(path: Any, folder: str = folder, ending: str = ending) -> str:
            name = Path(str(path)).name
            return str(Path(folder, name)) if name.endswith(ending) else ""

        state |= {name: moved(state.get(name)) for name in PATHS}
        best = {moved(path): score for path, score in state.get("best_k_models", {}).items()}
        state |= {"dirpath": callback.dirpath, "best_k_models": {path: best[path] for path in best if path}}


def disable_requeue(trainer: pl.Trainer) -> None:
    """Leave it to Slurm to requeue a job: `scontrol requeue` in the job's script, see docs/clusters.md.

    At `--signal=USR1`, Lightning writes hpc_ckpt_1.ckpt in the middle of an epoch and requeues the job. `Trainer.fit`
    and `Trainer.test` then restore this file wherever no `ckpt_path` is given: the test would measure old weights.
    """
    environment = trainer._accelerator_connector.cluster_environment  # private
    if isinstance(environment, SLURMEnvironment):
        environment.auto_requeue = False


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


def last_checkpoint(run: Run, data: TimeMachine) -> Path | None:
    """Return the run's last.ckpt, None for a new run; set `run.completed_epochs`.

    Raises SettingError if the checkpoint is damaged, if Lightning would load another one, and if the run would continue
    as another experiment.
    """
    path, folder = run.last_checkpoint, relative_path(run.folder)
    for unchecked in run.folder.glob("hpc_ckpt_*.ckpt"):  # Lightning would load it in a job of Slurm
        raise SettingError(f"{relative_path(unchecked)}: not a checkpoint of this program; remove it")
    if not path.exists():
        if run.before.get("status") in ENDED:
            raise OtherRun(f"{folder}: has a run that has ended, without {path.name}; use another hydra.run.dir")
        return None
    if run.settings["trainer"].get("fast_dev_run"):
        raise SettingError(f"trainer.fast_dev_run: would replace the results in {folder}; use another hydra.run.dir")
    # Not the trainer: a run may be continued with more epochs, or on another device.
    run.require_same(*IDENTITY)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        epoch, loops, tables = int(checkpoint["epoch"]) + 1, checkpoint["loops"]["fit_loop"], checkpoint["tables"]
        sha256 = checkpoint[type(data).__qualname__]["sha256"]
        is_whole = loops["epoch_loop.batch_progress"]["is_last_batch"] and {"epochs", "steps"} <= tables.keys()
    except Exception as error:  # damaged bytes raise anything
        raise unreadable(path, error) from error
    if sha256 != data.corpus.sha256:
        name = format_value(run.settings["data"].get("corpus"))
        raise OtherRun(f"data.corpus={name}: the run in {folder} was trained on another text")
    for name, done in (("max_epochs", epoch), ("max_steps", int(checkpoint["global_step"]))):
        limit = run.settings["trainer"].get(name)
        if limit is not None and -1 < limit < done:
            raise SettingError(f"trainer.{name}={limit}: the run in {folder} has done {done}; use {done} or more")
    if run.prints:
        cut = "" if is_whole else ", which a limit had cut short: the run will not equal an uninterrupted one"
        print(f"resumes after epoch {epoch}{cut}", flush=True)
    run.completed_epochs = epoch
    return path


def load_initial_weights(run: str, model: Any, vocab: Vocab) -> dict[str, Any]:
    """Copy the weights of another run into a new model; return which run that is, and its epoch.

    The run may be of the same class or of one of this project's. Raises SettingError if they do not fit.
    """
    if not isinstance(model, RNNLMScratch):
        raise SettingError(f"init_from={run}: needs an RNNLMScratch; load weights in your own model")
    try:
        try:
            theirs, their_vocab = load_model(run)
        except SettingError:  # of a user's class
            theirs, their_vocab = load_model(run, type(model))
    except SettingError as error:
        raise SettingError(f"init_from={error}") from error
    if their_vocab.idx_to_token != vocab.idx_to_token:
        raise SettingError(f"init_from={run}: its vocabulary differs; use the data.corpus, data.tokens, … of that run")
    for name in ("cell", "activation", "input", "tie_weights"):
        if theirs.hparams[name] != model.hparams[name]:
            raise SettingError(f"init_from={run}: use model.{name}={format_value(theirs.hparams[name])} of that run")
    try:
        model.load_state_dict(theirs.state_dict())
    except RuntimeError as error:
        raise SettingError(f"init_from={run}: use the model.hiddens, … of that run: {one_line(error, 200)}") from error
    return {"run": run, "epoch": load_run(run).metrics.get("epoch")}
