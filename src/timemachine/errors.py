"""Exceptions that the programs report as one line instead of a traceback."""

# Lightning's modules that raise an error for a mistake in code: hooks with other arguments, `self.log` of a text.
CALLING = [f"lightning.pytorch.{name}" for name in ("trainer.call", "core.module", "strategies.strategy")]
ABOUT_METRICS = ("lightning.pytorch.callbacks.", "lightning.pytorch.trainer.connectors.")  # a monitor that is missing


class UserError(Exception):
    """A user's mistake, or a result such as divergence: the program prints the message and ends."""


class SettingError(UserError):
    """An invalid value of a setting; the message names the setting and, if possible, a valid value."""


class Diverged(UserError):
    """A loss, gradient or weight, named by `what`, is not finite."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"diverged {where}: {what} is not finite")
        self.what = what


def one_line(message: object, max_length: int | None = None) -> str:
    """Return the message with each run of white space as one space, truncated to `max_length` characters if given."""
    return " ".join(str(message).split())[:max_length]


def cause_of(error: BaseException) -> BaseException:
    """Return the error behind one that Hydra's `instantiate` raises.

    Hydra 1.3 wraps it, Hydra 1.4 adds the name of the setting as a note. Returns a SettingError for a class that is not
    found, for an argument that a class lacks, and for one that a class of Lightning's rejects; otherwise the error that
    the class, or a module that Hydra has imported, raised. Hydra's class is recognised by its name: this module imports
    neither Hydra nor Lightning.
    """
    if isinstance(error, ImportError) and error.__cause__ and _module_of(error).startswith("hydra."):  # of `get_class`
        return error if _is_missing(error.__cause__, str(error).partition("\n")[0]) else error.__cause__
    is_wrapped = type(error).__name__ == "InstantiationException" and error.__cause__ is not None
    text, _, key = "\n".join([str(error), *getattr(error, "__notes__", [])]).partition("full_key: ")
    if not (is_wrapped or key):
        return error
    cause, target, key = (error.__cause__ if is_wrapped else error), text.partition(",")[0], key.strip()
    assert cause is not None
    if isinstance(cause, ImportError) and cause.__cause__:  # an error in a module that Hydra has imported
        cause = cause.__cause__
    if "locating target" in target:  # 'my_models.MyLM'
        message = f"{target}: no such module or class: {cause}"
        return SettingError(message) if _is_missing(cause, target) else cause
    called, says, _ = str(cause).partition("() got an unexpected keyword argument")
    name = called.rpartition(".")[2]  # of a class, or of the target: other functions are called by the user's code
    is_unknown = isinstance(cause, TypeError) and says != "" and (name == "__init__" or f".{name}'" in target)
    is_rejected = isinstance(cause, TypeError | ValueError) and _module_of(cause).startswith("lightning.")
    return SettingError(f"{key}: {cause}".partition("\nfull_key")[0]) if is_unknown or is_rejected else cause


def _is_missing(cause: BaseException, target: str) -> bool:
    """Return whether `target` names a module or a class that does not exist."""
    if isinstance(cause, AttributeError):
        return _module_of(cause).startswith("hydra.")  # otherwise raised while the module was imported
    return isinstance(cause, ModuleNotFoundError) and f"'{cause.name}" in target


def _module_of(error: BaseException) -> str:
    """Return the name of the module that has raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__", ""))


def is_about_settings(error: BaseException) -> bool:
    """Return whether one line describes an error: it is about a setting, or a result such as divergence.

    The classes of Hydra, OmegaConf, Lightning and W&B are recognised by their names, since these imports are slow.
    """
    names = {"UserError", "InstantiationException", "OmegaConfBaseException", "MisconfigurationException", "UsageError"}
    is_by_name = not names.isdisjoint(kind.__name__ for kind in type(error).__mro__)
    # Lightning checks some values when training begins, Hydra a class when it is imported.
    module, is_check = _module_of(error), isinstance(error, TypeError | ValueError | ImportError)
    is_check |= isinstance(error, RuntimeError) and module.startswith(ABOUT_METRICS)
    return is_by_name or (is_check and module.startswith(("lightning.", "hydra.")) and module not in CALLING)
