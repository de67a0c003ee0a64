"""The scratch RNN of Dive into Deep Learning, trained on The Time Machine. README.md in this folder is an overview."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timemachine.run.jobs import load_sweep as load_sweep
    from timemachine.run.load import load_run as load_run


def __getattr__(name: str) -> Any:
    """Import `load_run` and `load_sweep` on first use: training needs neither."""
    modules = {"load_run": "timemachine.run.load", "load_sweep": "timemachine.run.jobs"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(modules[name]), name)


def __dir__() -> list[str]:
    """Include the lazily imported names in tab completion."""
    return [*globals(), "load_run", "load_sweep"]
