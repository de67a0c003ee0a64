"""Load a run in Python, `timemachine.load_run(folder)`, and its model from a checkpoint or an export.

Reading these files executes nothing that they contain: `weights_only`, safetensors, JSON.
"""

import json
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from timemachine.config import Tokens, format_value, windows_of
from timemachine.corpus import find_corpus
from timemachine.datamodule import TimeMachine
from timemachine.errors import SettingError, one_line
from timemachine.language_model import RNNLMScratch
from timemachine.run.checkpoints import class_name, unreadable
from timemachine.run.record import EXPORT, LAST, TRUSTED_CLASSES, parse_summary, read_summary, with_class_defaults
from timemachine.run.rows import read_numbers
from timemachine.vocab import Vocab


def folder_of(run: str | Path) -> Path:
    """Return the folder of a run, given the folder itself or a file in it."""
    path = Path(run)
    return path if path.is_dir() else path.parent.parent if path.suffix == ".ckpt" else path.parent


def summary_of(run: str | Path) -> dict[str, Any]:
    """Return a run's summary.json; of a model.safetensors alone, the entries that the file has. Raises SettingError."""
    path, folder = Path(run), folder_of(run)
    if path.suffix != ".safetensors" or (folder / "summary.json").exists():
        return with_class_defaults(read_summary(folder))
    try:
        with safe_open(path, framework="pt") as file:
            return parse_summary(file.metadata()["summary"])
    except Exception as error:  # damaged bytes, or another program's file, raise anything
        raise SettingError(f"{run}: not a run's export, or damaged: {one_line(error, 200)}") from error


def load_model(run: str | Path, model_class: type[RNNLMScratch] | None = None) -> tuple[RNNLMScratch, Vocab]:
    """Return a run's model after its last epoch, in evaluation mode, and its vocabulary.

    `run`: the run's folder, one of its checkpoints, or its model.safetensors. From a folder the newer of last.ckpt and
    model.safetensors is read: an export is older if the run was resumed and killed. `model_class`: the class of the run
    if it is not one of this project's. Raises SettingError if nothing can be read, and for another class.
    """
    # The newer file, not the export by preference: a resumed run that was killed has a newer checkpoint.
    path = Path(run)
    paths = [place for name in (EXPORT, LAST) if (place := path / name).exists()] if path.is_dir() else [path]
    if not paths:
        raise SettingError(f"{run}: not a run's folder: it has neither {EXPORT} nor {LAST}")
    _, weights, vocab, name, arguments = max(map(_read, paths), key=lambda content: content[0])
    if model_class is None and name not in TRUSTED_CLASSES:
        rule = f"add model._target_={name} (in Python: model_class) if it is a subclass of RNNLMScratch"
        raise SettingError(f"{run}: its model is of the class {name}; {rule}")
    if model_class is not None and class_name(model_class) != name:
        raise SettingError(f"{run}: its model is of the class {name}, not {class_name(model_class)}")
    # From here on the name is a trusted one, or names a class that the caller has imported.
    module, _, attribute = name.rpartition(".")
    kind = model_class or getattr(import_module(module), attribute)
    if not issubclass(kind, RNNLMScratch):
        raise SettingError(f"{run}: {name} is not a subclass of RNNLMScratch")
    try:
        model = kind(**arguments)
        model.load_state_dict(weights)
    except (TypeError, RuntimeError) as error:
        raise SettingError(f"{run}: its weights do not fit the class {name}: {one_line(error, 200)}") from error
    return model.eval(), vocab


def _read(path: Path) -> tuple[int, dict[str, Any], Vocab, str, dict[str, Any]]:
    """Return the step, weights, vocabulary, class and arguments in a file. Raises SettingError if it is damaged."""
    try:
        content = _content(path)
        vocab = Vocab(content["tokens"], Tokens(content["kind"]))
        name, arguments = str(content["class"]), dict(content["hyper_parameters"])
        return content["step"], content["state_dict"], vocab, name, arguments
    except SettingError:
        raise
    except Exception as error:  # damaged bytes, or another program's file, raise anything
        raise unreadable(path, error) from error


def _content(path: Path) -> dict[str, Any]:
    """Return the entries of a checkpoint or an export."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            content = {name: json.loads(value) for name, value in file.metadata().items()}
            content["state_dict"] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no dict)
        return content | {"step": content["summary"]["metrics"].get("step", 0)}
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    if "class" not in checkpoint:  # which ExactResume adds
        raise SettingError(f"{path}: does not name its class; use RNNLMScratch.load_from_checkpoint")
    states = (state for state in checkpoint.values() if isinstance(state, dict))
    of_data = next((state for state in states if {"tokens", "kind"} <= state.keys()), None)
    if of_data is None:
        rule = "only a TimeMachine saves the vocabulary that this needs; the run's scores are in its metrics.csv"
        raise SettingError(f"{path}: its data are of another class: {rule}")
    return checkpoint | of_data | {"step": checkpoint["global_step"]}


def load_initial_weights(run: str, model: Any, vocab: Vocab | None) -> dict[str, Any]:
    """Copy the weights of another run into a new model; return which run that is, and its epoch.

    The run may be of the same class or of one of this project's. Raises SettingError if they do not fit.
    """
    if vocab is None or not isinstance(model, RNNLMScratch):
        raise SettingError(f"init_from={run}: needs an RNNLMScratch and a TimeMachine; load weights in your own model")
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
    return {"run": run, "epoch": summary_of(run)["metrics"].get("epoch")}


class Run:
    """A run that has trained. `model`, `vocab` and `data` are read on first use.

    `summary`: the content of summary.json, see `summary_of`. `settings`: its settings, nested. `curves`: the rows of
    metrics.csv, with NaN where nothing was measured.
    """

    def __init__(self, run: str | Path, model_class: type[RNNLMScratch] | None = None) -> None:
        self._run, self._model_class, self.folder = run, model_class, folder_of(run)
        self.summary = summary_of(run)
        self.settings: dict[str, Any] = self.summary["settings"]
        self.curves = read_numbers(self.folder / "metrics.csv")

    @cached_property
    def _loaded(self) -> tuple[RNNLMScratch, Vocab]:
        return load_model(self._run, self._model_class)

    @property
    def model(self) -> RNNLMScratch:
        """The model after its last epoch, in evaluation mode. Raises SettingError if the run has none."""
        return self._loaded[0]

    @property
    def vocab(self) -> Vocab:
        """The model's vocabulary. Raises SettingError as `model` does."""
        return self._loaded[1]

    @cached_property
    def data(self) -> TimeMachine:
        """The run's windows, shuffled as in its first epoch. Raises SettingError for a text that has changed."""
        about, settings = self.summary["corpus"], self.settings["data"]
        if "sha256" not in about:
            raise SettingError(f"{self._run}: its data are of the class {settings['_target_']}, not TimeMachine")
        corpus = find_corpus(about["source"], settings["search_dirs"], Tokens(settings["tokens"]))
        if corpus.sha256 != about["sha256"]:
            raise SettingError(f"data.corpus={about['source']}: the run's text has changed; restore the file")
        return TimeMachine(**windows_of(settings), corpus=corpus, seed=settings.get("seed", self.settings["seed"]))


def load_run(folder: str | Path, model_class: type[RNNLMScratch] | None = None) -> Run:
    """Return the run of a folder, a checkpoint or a model.safetensors.

    `model_class`: the class of its model if it is your own. Raises SettingError if it is not a run's.
    """
    return Run(folder, model_class)
