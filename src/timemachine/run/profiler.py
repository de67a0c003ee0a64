"""A profiler that measures nothing."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning.pytorch.profilers import PassThroughProfiler

_NOTHING = nullcontext()


class NullProfiler(PassThroughProfiler):
    """Lightning's profiler that measures nothing, in a fifth of the time: it is called about 50 times per step."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:  # type: ignore[override]
        """Return a context that does nothing, always the same one."""
        return _NOTHING
