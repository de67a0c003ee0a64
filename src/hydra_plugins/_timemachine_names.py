"""A name that a plugin of Hydra's own may have taken. Hydra looks for no plugin here."""

import inspect
from typing import Any

from hydra.core.config_store import ConfigStore


def take_name(group: str, name: str, settings: Any) -> None:
    """Register the settings under the name, in the place of those that have it."""
    store = ConfigStore.instance().store
    over: dict[str, Any] = (
        {"replace": True} if "replace" in inspect.signature(store).parameters else {}
    )  # from Hydra 1.4 on
    store(group=group, name=name, node=settings, **over)
