"""The scratch RNN of Dive into Deep Learning, trained on The Time Machine. docs/code.md is an overview."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from timemachine.datamodule import TimeMachine as TimeMachine
    from timemachine.kernels.language_model import FusedRNNLM as FusedRNNLM
    from timemachine.language_model import RNNLMScratch as RNNLMScratch
    from timemachine.run.run import load_run as load_run
    from timemachine.study.jobs import load_sweep as load_sweep

# Imported on first use: `import timemachine` takes milliseconds, torch and Lightning seconds.
MODULES = {
    "TimeMachine": "timemachine.datamodule",
    "RNNLMScratch": "timemachine.language_model",
    "FusedRNNLM": "timemachine.kernels.language_model",
    "load_run": "timemachine.run.run",
    "load_sweep": "timemachine.study.jobs",
}


def __getattr__(name: str) -> Any:
    """Import one of `MODULES`, and return its class or function of that name."""
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(MODULES[name]), name)


def __dir__() -> list[str]:
    """Include the lazily imported names in tab completion."""
    return [*globals(), *MODULES]
