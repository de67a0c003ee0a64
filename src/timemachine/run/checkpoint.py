"""The checkpoints of a run: save, restore, read, export, resume, and start from another run's weights.

`last.ckpt` lets a run resume bit for bit: it has Lightning's checkpoint and the states of all random number generators.
`best.ckpt` has the same after the validation with the lowest perplexity. `model.safetensors` has the final weights, the
vocabulary and the settings. Reading these files executes nothing that they contain.
"""

import io
import json
import math
import pickle
import random
import re
import shutil
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import safetensors.torch
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from safetensors import safe_open

from timemachine.config import Tokens, format_value
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError, one_line
from timemachine.kernels.language_model import FusedRNNLM
from timemachine.language_model import RNNLMScratch
from timemachine.run.files import relative_path, write_whole
from timemachine.run.record import (
    EPOCH_WEIGHTS,
    EXPORT,
    Record,
    flat,
    run_summary,
)
from timemachine.run.rows import read
from timemachine.vocab import Vocab

LAST = "checkpoints/last.ckpt"
# A resumed run cannot change settings with these prefixes: that would make it another experiment, which `init_from`
# starts with the weights of this one. Whole callbacks can be added or removed.
FIXED = ("seed", "init_from", "data.", "model.", "training.", "callbacks.", "trainer.enable_checkpointing")
# Exceptions: the SHA-256 of the text is compared instead of its path, and another machine may lack a compiled kernel.
MAY_CHANGE = {"data.corpus", "data.search_dirs", "model.backward"}
# Settings of `model.` that a new run may change from the run that `init_from` names.
MAY_DIFFER = {"lr", "input_lr_factor", "backward", "sigma", "sigma_hh", "embedding_sigma"}


# Save and restore: called by Lightning


class WholeCheckpoints(TorchCheckpointIO):
    """Lightning's plugin to write checkpoints, whole or not at all, and to read them without executing anything."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint. If the program is killed, the file is either the old or the new one. Raises OSError."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), content.getvalue())

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Read a checkpoint as `read_checkpoint` does."""
        return read_checkpoint(Path(path))


class Checkpoints(Checkpoint):
    """Save last.ckpt after each epoch and best.ckpt after the best validation; restore what Lightning leaves out.

    Lightning leaves out the states of the random number generators, and whether a callback had stopped the run. It
    calls a `Checkpoint` after all other callbacks. Its own ModelCheckpoint is not used, because it deletes any path
    that a checkpoint names; this class has the attributes of ModelCheckpoint that callbacks and loggers read.
    """

    monitor, save_top_k = "val/perplexity", 1

    def __init__(self, run: Record) -> None:
        self.run = run
        self.best_model_path, self.best_model_score = "", math.inf
        self._restored: dict[str, Any] = {}  # the checkpoint, until training starts

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save best.ckpt if this validation is the best so far."""
        val = float(trainer.callback_metrics.get(self.monitor, math.inf))
        if trainer.state.fn == "fit" and not trainer.sanity_checking and val < self.best_model_score:
            self.best_model_score = val
            self.best_model_path = self._save(trainer, "best")
            for logger in trainer.loggers:
                logger.after_save_checkpoint(self)  # type: ignore[arg-type]  # W&B's may upload it

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save last.ckpt."""
        self._save(trainer, "last")

    def _save(self, trainer: pl.Trainer, name: str) -> str:
        path = self.run.folder / "checkpoints" / f"{name}.ckpt"
        trainer.save_checkpoint(path)
        return str(path)

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Add the state that Lightning leaves out. A run that `max_time` stopped may get more time when resumed."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        name, keys, *others = np.random.get_state()
        numpy = name, np.asarray(keys).tolist(), *others  # `weights_only` loads no numpy array
        stopped = trainer.should_stop and self.run.settings["trainer"]["max_time"] is None
        checkpoint["random"] = torch.get_rng_state(), cuda, numpy, random.getstate()
        checkpoint["stopped_by"] = self.run.settings["callbacks"] if stopped else None
        checkpoint["best_model_score"] = self.best_model_score

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Convert the weights to the run's precision before Lightning restores them, or float64 would lose digits."""
        trainer.precision_plugin.convert_module(pl_module)

    def on_load_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the checkpoint until training starts."""
        self._restored, self.best_model_score = checkpoint, checkpoint["best_model_score"]
        self.best_model_path = str(self.run.folder / "checkpoints" / "best.ckpt")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Restore random states, and stop again if a callback had stopped the run."""
        restored, self._restored = self._restored, {}
        if not restored:
            return
        of_torch, cuda, numpy, python = restored["random"]
        torch.set_rng_state(of_torch)
        torch.cuda.set_rng_state_all(cuda[: torch.cuda.device_count()])  # there may be fewer GPUs now
        np.random.set_state(numpy)
        random.setstate(python)
        # From the checkpoint and not from summary.json, which the first process rewrites while others read it.
        if restored["stopped_by"] == self.run.settings["callbacks"]:
            trainer.should_stop = True
            if self.run.role.prints:
                print(
                    f"a callback stopped the run after epoch {trainer.current_epoch}; to continue, add callbacks=none"
                )


# Read and export


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint of this program. Damaged bytes may raise any exception.

    torch ignores the checksums in its own files: with a flipped bit it would load wrong weights.
    """
    with zipfile.ZipFile(path) as archive:
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
    with warnings.catch_warnings(action="ignore"):  # about pickles, which `weights_only` rejects in any case
        try:
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            rule = "it contains Python objects, which are not loaded; state_dict() of a callback must return plain"
            raise ValueError(f"{rule} numbers, texts, lists, dicts or tensors") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters", "TimeMachine"} <= checkpoint.keys():
        raise ValueError("parts are missing")
    return checkpoint


def load_model(run: str) -> tuple[RNNLMScratch, Vocab]:
    """Return a run's model after its last epoch, in evaluation mode, and its vocabulary.

    `run`: the run's folder, one of its checkpoints, or its model.safetensors. Raises SettingError if it cannot be read.
    """
    model, vocab, _ = read_model(run, "run")
    return model.eval(), vocab


def read_model(run: str, setting: str) -> tuple[RNNLMScratch, Vocab, dict[str, Any]]:
    """Return the model of the run that a setting names, its vocabulary, and the whole content of its file.

    From a folder the last checkpoint is read, since an export is older if the run was resumed and killed.
    """
    path = Path(run)
    if not (path.suffix in (".ckpt", ".safetensors") and path.is_file()):
        if not (found := [place for place in (path / LAST, path / EXPORT) if place.is_file()]):
            run_summary(run, setting)  # raises SettingError for a folder that is not a run's
            state = "no checkpoint found: the run is in its first epoch, was killed in it, or saves none"
            raise SettingError(f"{setting}={run}: {state}; use it after its first epoch, or another run")
        path = found[0]
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                about = {name: json.loads(value) for name, value in file.metadata().items()}
                about["state_dict"] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        else:
            about = read_checkpoint(path)
            about |= about["TimeMachine"]
        model, vocab = FusedRNNLM(**about["hyper_parameters"]), Vocab(about["tokens"], Tokens[about["kind"]])
        model.load_state_dict(about["state_dict"])
        if len(vocab) != model.vocab_size or not all(weight.isfinite().all() for weight in model.parameters()):
            raise ValueError("its weights are not finite, or do not fit its vocabulary")
    except Exception as error:  # damaged bytes, or another program's file, raise anything
        reason = f"is damaged, or not a checkpoint of this program: {one_line(error, 200)}"
        raise SettingError(f"{setting}={run}: {path} {reason}") from error
    return model, vocab, about


def export_model(path: Path, model: RNNLMScratch, vocab: Vocab, summary: dict[str, Any]) -> None:
    """Write model.safetensors, for `load_model` and for any program that reads the format. Raises OSError.

    `summary`: the run's summary; the header of the file has its settings and results as JSON.
    """
    known = {name: summary[name] for name in ("status", "settings", "corpus", "metrics", "versions", "git")}
    about: dict[str, Any] = {"tokens": vocab.idx_to_token, "kind": vocab.kind.name}
    about |= {"hyper_parameters": dict(model.hparams), "summary": known}
    weights = {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    write_whole(path, safetensors.torch.save(weights, {name: json.dumps(value) for name, value in about.items()}))


# Resume


def checkpoint_to_resume(run: Record, model: RNNLMScratch, data: TimeMachine) -> Path | None:
    """Return the checkpoint to resume from, or None if the run has none yet and therefore starts again.

    Settings, text and checkpoint are checked before summary.json gets the new settings. Raises SettingError for a run
    that cannot be resumed with these settings.
    """
    path = run.folder / LAST
    if not path.is_file():
        _start_again(run)
        return None
    changed, checkpoint = _changed_settings(run), _resumable_checkpoint(run, model, data)
    done = checkpoint["epoch"] + 1
    if run.role.writes and not checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]:
        cut = f"epoch {done} was cut short by trainer.max_steps, trainer.max_time or another limit"
        print(f"{cut}; the run continues with epoch {done + 1}, unlike an uninterrupted run", file=sys.stderr)
    if changed:
        run.update(changes=[*run.summary.get("changes", []), {"from_epoch": done + 1, "settings": changed}])
        if run.role.prints:
            each = (f"{k}={format_value(v['now'])} (was {format_value(v['before'])})" for k, v in changed.items())
            print(f"from epoch {done + 1} on: {', '.join(each)}")
    run.update(settings=run.settings)
    return path


def _start_again(run: Record) -> None:
    """Remove the results of a run without a checkpoint. Raise SettingError if it had saved one, or has ended."""
    # In a sweep, a job that saves no checkpoints starts again. A run that was killed between the row and the checkpoint
    # of its first epoch has one row.
    saves_none = run.settings["trainer"]["enable_checkpointing"] is False and run.role.sweep is not None
    if not saves_none and (_count_epochs(run.folder) > 1 or (run.folder / EXPORT).exists()):
        folder = relative_path(run.folder)
        rule = f"{LAST} not found: it was removed, or the run saved none"
        raise SettingError(f"resume={folder}: {rule}; for a new run with its weights use init_from={folder}")
    if run.role.writes:
        remove_results(run.folder)
    run.update(settings=run.settings)


def _count_epochs(folder: Path) -> int:
    """Return the number of complete epochs in metrics.csv; a validation within an epoch has no clip_fraction."""
    return sum(bool(row["clip_fraction"]) for row in read(folder / "metrics.csv"))


def _resumable_checkpoint(run: Record, model: RNNLMScratch, data: TimeMachine) -> dict[str, Any]:
    """Return the last checkpoint. Raise SettingError if it is damaged or does not fit the settings or the text."""
    path = run.folder / LAST
    if run.before.get("corpus", {}).get("sha256") != data.corpus.sha256:
        rule = "not the text that the run was trained on; for a new run on this text use init_from"
        raise SettingError(f"data.corpus={format_value(data.corpus.source)}: {rule}={relative_path(run.folder)}")
    try:
        checkpoint = read_checkpoint(path)
        model.load_state_dict(checkpoint["state_dict"])  # as Lightning will
    except Exception as error:  # damaged bytes raise anything
        rule = f"{relative_path(path)} is damaged: {one_line(error, 200)}"
        raise SettingError(f"resume={relative_path(run.folder)}: {rule}") from error
    for name, has in (("epochs", checkpoint["epoch"] + 1), ("steps", checkpoint["global_step"])):
        asked = run.settings["trainer"][f"max_{name}"]
        if asked is not None and 0 <= asked < has:
            raise SettingError(f"trainer.max_{name}={asked}: the run has {has} {name} already; use {has} or more")
    return checkpoint


def _changed_settings(run: Record) -> dict[str, dict[str, Any]]:
    """Return each changed setting, with both values. Only the classes of callbacks count; loggers are ignored.

    Raises SettingError for a change that would make it another experiment, or if the settings are lost.
    """
    if not run.before:
        rule = f"summary.json is damaged, or missing next to {LAST}"
        raise SettingError(f"resume={relative_path(run.folder)}: {rule}")
    before, now = flat(run.before["settings"]), flat(run.settings)
    changed = [name for name in now | before if before.get(name) != now.get(name)]
    for name in changed:
        if name.startswith(FIXED) and name not in MAY_CHANGE and name in before and name in now:
            began = f"{name}={format_value(before[name])}"
            raise SettingError(f"{name}={format_value(now[name])}: cannot change when resuming; the run has {began}")
    # Not reported: data.corpus, whose SHA-256 is compared, loggers, and the arguments of added or removed callbacks.
    ignored = re.compile(r"resume$|data.corpus$|logger\.|callbacks\..*(?<!\._target_)$")
    both = {name: {"before": before.get(name), "now": now.get(name)} for name in changed}
    return {name: values for name, values in both.items() if not ignored.match(name)}


def remove_results(folder: Path) -> None:
    """Remove the results in the folder of a run that starts again."""
    for name in ("checkpoints", "wandb", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("metrics.csv", "steps.csv", EPOCH_WEIGHTS, EXPORT):
        (folder / name).unlink(missing_ok=True)


# Start from the weights of another run


def load_parent_weights(run: Record, model: RNNLMScratch, data: TimeMachine) -> None:
    """Copy the weights of the run that `init_from` names into the model of a new run.

    Raises SettingError if they do not fit: the text's symbols, and all of `model.` except `MAY_DIFFER`, must match.
    """
    parent = run.settings["init_from"]
    if run.is_resumed and (run.folder / LAST).is_file():  # its own weights are there
        return
    theirs = flat(run_summary(parent, "init_from")["settings"])
    # As inputs, tied weights are divided by embedding_sigma, so another one would change the function of the network.
    may_differ = MAY_DIFFER - ({"embedding_sigma"} if run.settings["model"]["tie_weights"] else set())
    fixed = ["data.tokens", *(f"model.{name}" for name in run.settings["model"] if name not in may_differ)]
    for name, value in flat(run.settings).items():
        if name in fixed and theirs[name] != value:
            its = f"{name}={format_value(theirs[name])}"
            raise SettingError(f"init_from={parent}: has {its}, not {format_value(value)}; use {its}")
    _, vocab, about = read_model(parent, "init_from")
    if vocab.idx_to_token != data.vocab.idx_to_token:
        rule = "its vocabulary differs from the text's; use the data.corpus, data.vocab_size, … of that run"
        raise SettingError(f"init_from={parent}: {rule}")
    if str(run.settings["trainer"]["precision"]).startswith("64"):
        model.double()  # Lightning would do so later, when the weights have been rounded to float32
    model.load_state_dict(about["state_dict"])
    epoch = about["epoch"] + 1 if "epoch" in about else about["summary"]["metrics"].get("epoch")  # an export
    run.update(parent={"run": parent, "epoch": epoch})
