"""What `probes=[…]` measures of a trained model at its end, for summary.json: a registry of names.

The module of a name has `measure(model, data)`, which returns numbers in lists and dicts, as JSON has them; if it
watches the training as well, `Watch(folder)`, a callback. An exercise whose module has `measure` is a name by itself.
"""

import importlib
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from timemachine.errors import SettingError

if TYPE_CHECKING:  # they import torch, which takes seconds
    from lightning.pytorch.callbacks import Callback

    from timemachine.datamodule import TimeMachine
    from timemachine.language_model import RNNLMScratch

PROBES = {
    "stream": "evaluation.stream",
    "history": "exercises.history",
    "samples": "exercises.sampling",
    "books": "evaluation.books",
    "dynamics": "exercises.relu",
    "weights": "exercises.one_hot_is_embedding",
    "reading": "exercises.how_low",
}
OF_THE_RNN = ("exercises.relu", "exercises.one_hot_is_embedding")  # they read its weights; the others any cell


def check(names: list[str], cell: str = "rnn") -> None:
    """Raise SettingError for a name that nothing is measured under, or nothing of `cell`, a name of `model.cell`."""
    known = list(dict.fromkeys([*PROBES, *_exercises()]))
    for name in names:
        if cell != "rnn" and _path(name) in OF_THE_RNN:
            rule = f"{name} measures model.cell=rnn alone; type another probe, or model.cell=rnn"
            raise SettingError(f"probes=[{','.join(names)}]: {rule}")
        if name not in known:
            nearest = (get_close_matches(name, known, 1) or known)[0]
            missing = f"probes=[{','.join(names)}]: there is no measurement {name}"
            raise SettingError(f"{missing}; type for example probes=[{nearest}] ({', '.join(known)})")


def measure(names: list[str], model: "RNNLMScratch", data: "TimeMachine") -> dict[str, Any]:
    """Return what each measured, under its name."""
    model.eval()
    return {name: _module(name).measure(model, data) for name in names}


def watchers(names: list[str], folder: Path) -> "list[Callback]":
    """Return the callbacks of those that watch the training; they leave files in the run's folder."""
    return [module.Watch(folder) for name in names if hasattr(module := _module(name), "Watch")]


def _exercises() -> list[str]:
    """Return the exercises that measure; their modules import torch, so it is read and not imported."""
    files = (Path(__file__).parents[1] / "exercises").glob("*.py")
    return [
        file.stem
        for file in sorted(files)
        if re.search(r"^def measure\(", file.read_text(encoding="utf-8"), re.MULTILINE)
    ]


def _module(name: str) -> Any:
    return importlib.import_module(f"timemachine.{_path(name)}")


def _path(name: str) -> str:
    return PROBES.get(name, f"exercises.{name}")
