"""How a run or a sweep that was interrupted goes on: what is refused, what is kept, what begins anew."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from timemachine.config import Backward, Train, format_value, to_dict
from timemachine.errors import SettingError
from timemachine.kernels import choice
from timemachine.runs.files import shown, write_whole
from timemachine.runs.processes import is_first_process
from timemachine.runs.record import Record, is_resumed
from timemachine.runs.summaries import read_summary
from timemachine.runs.sweep import flat, job_folders

if TYPE_CHECKING:  # they import torch, which takes seconds
    import lightning.pytorch as pl

    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

OF_THE_DATA = ("num_steps", "num_train", "num_val")
OF_THE_TRAINING = ("optimizer", "schedule", "warm_up", "teacher", "teacher_networks")
OF_THE_NETWORK = (
    "cell", "hiddens", "activation", "input", "embedding_dim", "sigma", "embedding_sigma", "input_lr_factor",
)  # fmt: skip


@contextmanager
def resumed(run: Record, trainer: "pl.Trainer", model: "RNNLMScratch", data: "TimeMachine") -> Iterator[Path | None]:
    """Give the checkpoint that a run is resumed from, None where it begins.

    The checkpoint and both tables are validated as a whole before anything is changed. What was typed stays in the
    folder for the next time, unless the run is refused by a SettingError. Raises SettingError where it cannot go on.
    """
    checkpoint = last_checkpoint(run)
    _note_kernel(run, trainer, model)
    if checkpoint is None:
        yield None
        return
    from timemachine.runs.validation import validate

    _refuse_other_data(run.before, data)
    before, now = run.before["settings"], run.summary["settings"]
    for name in OF_THE_TRAINING:
        refuse_other(f"training.{name}", before["training"][name], now["training"][name])
    _note_changes(run, validate(run.folder, trainer, model, data))
    with _kept(run.folder / ".hydra" / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(run.overrides))):
        yield checkpoint


def kept_backward(run: Record, backward: str) -> str:
    """Return `model.backward`; instead of auto, the kernel with which a run or a sweep began that is resumed.

    Before there was auto, that was bptt. Raises SettingError if it is the compiled kernel and there is none.
    """
    if backward != "auto" or run.summary["settings"]["model"]["cell"] != "rnn":  # there is no choice
        return backward
    began = _began_with(run.before) if run.before else _siblings_began_with(run)
    if began == "fused" and not choice.is_compiled():
        folder = shown(run.folder)
        instead = f"type {choice.BUILD}, or model.backward=bptt for other last digits"
        raise SettingError(f"resume={folder}: began with the fused kernel, which is not compiled here; {instead}")
    return began if began in Backward.__members__ else "bptt"


def _began_with(summary: dict[str, Any]) -> str:
    """The kernel with which a run began; auto, or what was typed, if it did not get that far."""
    recorded = summary.get("settings", {}).get("model", {}).get("backward", "bptt")
    return str(summary.get("kernel", recorded)).partition(" ")[0]


def _siblings_began_with(run: Record) -> str:
    """What auto meant when the sweep began that is resumed, as another job tells that could have had either kernel."""
    if not (run.in_sweep and is_resumed(run.summary["settings"])):
        return "auto"
    for job in job_folders(run.folder.parent):
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # damaged, or not begun
            summary = read_summary(job)
            network = summary["settings"]["model"]
            recorded = network.get("backward", "bptt")
            sizes = network["hiddens"], summary["corpus"]["vocabulary"], network["activation"]
            is_old = "kernel" not in summary and recorded != "auto"
            had_a_choice = recorded == "auto" and network["cell"] == "rnn" and choice.is_fastest(*sizes)
            if job != run.folder and (is_old or (had_a_choice and "kernel" in summary)):
                began = _began_with(summary)
                if began != "autograd":  # of a job in mixed precision
                    return "auto" if began == "fused" and choice.is_compiled() else began
    return "auto"


def _note_kernel(run: Record, trainer: "pl.Trainer", model: "RNNLMScratch") -> None:
    """Write down which kernel the run trains with. Say so if it has another instruction set now, or is not compiled."""
    from timemachine.kernels import fused  # it imports torch, which takes seconds
    from timemachine.kernels.loss import kernel_of

    with trainer.precision_plugin.forward_context():
        kernel = kernel_of(model)
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if kernel == "fused":
        kernel = f"fused ({fused.available()})" if on_cpu and not trainer.precision.endswith("16-true") else "bptt"
    before = str(run.before.get("kernel"))
    run.update(kernel=kernel)
    if not run.writes or run.quiet or run.in_sweep:
        return
    if before.startswith("fused (") and kernel.startswith("fused (") and kernel != before:
        print(f"kernel  {before} when the run began, {kernel} now: the last digits may differ")
    sizes = model.hparams["hiddens"], model.vocab_size, model.hparams["activation"]
    by_hand = model.hparams["backward"] == "auto" and kernel != "autograd"
    if by_hand and on_cpu and choice.is_fastest(*sizes) and not choice.is_compiled():
        print(choice.what_is_missed())


def last_checkpoint(run: Record) -> Path | None:
    """Return the last checkpoint of a run that is resumed. Where it has none, remove what it left: it begins anew.

    Raises SettingError where it has none and has trained for more than an epoch: that would be lost. Not so for what
    Slurm or a sweep begins again if it keeps no checkpoints, such as a job of an exercise.
    """
    if run.refused is not None:
        raise run.refused
    settings = run.summary["settings"]
    if not is_resumed(settings):
        return None
    if run.last_checkpoint.is_file():
        return run.last_checkpoint
    metrics = run.folder / "metrics.csv"
    keeps_none = settings.get("trainer", {}).get("enable_checkpointing") is False
    expendable = keeps_none and (run.in_sweep or settings.get("resume") is None)
    if not expendable and metrics.is_file() and metrics.read_bytes().count(b"\n") > 2:  # more than an epoch
        folder = shown(run.folder)
        raise SettingError(f"resume={folder}: has trained, but has no checkpoints/last.ckpt; type another run")
    if run.writes:
        begin_anew(run.folder)
    return None


def begin_anew(folder: Path) -> None:
    """Remove what a run that cannot be resumed has left."""
    for name in ("checkpoints", "wandb", "tensorboard"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("metrics.csv", "steps.csv"):
        (folder / name).unlink(missing_ok=True)


def is_done(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether a job of a sweep with these settings has ended in the folder before.

    A setting that did not exist then counts as its default. Raises SettingError where a job had other settings.
    """
    if not is_resumed(settings):
        return False
    try:
        summary = read_summary(folder)
    except (OSError, ValueError):
        return False
    before = _with_defaults(summary["settings"], settings, to_dict(Train())) | {"resume": settings["resume"]}
    if settings["model"]["backward"] == "auto" and before["model"]["backward"] == "bptt":  # the default, before auto
        before["model"]["backward"] = "auto"
    if before != settings:
        raise SettingError(
            f"resume={settings['resume']}: its job {folder.name} has other settings; type the command that began it"
        )
    return summary["status"] in ("completed", "diverged")


def _with_defaults(before: Any, now: Mapping[str, Any], defaults: Any) -> Any:
    if not (isinstance(before, dict) and isinstance(defaults, dict)):
        return before
    added = {name: defaults[name] for name in now if name not in before and name in defaults}
    nested = {
        name: _with_defaults(before[name], value, defaults.get(name))
        for name, value in now.items()
        if name in before and isinstance(value, dict)
    }
    return before | nested | added


def _refuse_other_data(before: dict[str, Any], data: "TimeMachine") -> None:
    """Raise SettingError if the resumed run used other data."""
    if before["corpus"]["sha256"] != data.corpus.sha256:
        text = format_value(data.corpus.source)
        raise SettingError(f"data.corpus={text}: is not the text that the run began with; type the path of that one")
    for name in OF_THE_DATA:
        refuse_other(f"data.{name}", before["settings"]["data"][name], getattr(data, name))
    refuse_other("seed", before["settings"]["seed"], data.seed)


def _note_changes(run: Record, epochs_done: int) -> None:
    """Write down which settings a resumed run has from here on, and what they were before."""
    before, now = flat(run.before["settings"]), flat(run.summary["settings"])
    changed = {
        name: {"before": before.get(name), "now": value}
        for name, value in now.items()
        if name != "resume" and before.get(name) != value
    }
    if not changed:
        return
    run.update(changes=[*run.summary.get("changes", []), {"from_epoch": epochs_done + 1, "settings": changed}])
    if run.writes and not run.quiet:
        told = ", ".join(
            f"{name}={format_value(it['now'])} (was {format_value(it['before'])})" for name, it in changed.items()
        )
        print(f"from epoch {epochs_done + 1} on: {told}")


def refuse_other(name: str, then: object, now: object) -> None:
    """Raise SettingError if a setting is not what it was when the run began."""
    if then != now:
        setting = f"{name}={format_value(then)}"
        raise SettingError(f"{name}={format_value(now)}: the run began with {setting}; type {setting}")


@contextmanager
def _kept(path: Path, content: str) -> Iterator[None]:
    """Leave the content in the file, unless a SettingError is raised meanwhile."""
    if not is_first_process():
        yield
        return
    before = path.read_bytes() if path.exists() else b"[]"
    path.parent.mkdir(exist_ok=True)
    write_whole(path, content.encode())
    try:
        yield
    except SettingError:
        write_whole(path, before)
        raise
