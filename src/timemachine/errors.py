"""Exceptions that the programs report as one line instead of a traceback."""


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
    """Return the error that Hydra's `instantiate` has wrapped into its own.

    A SettingError for a class that is not found; Hydra's error itself, which names the class and the argument, for an
    argument that a class lacks or that one of Lightning's rejects. Hydra's class is recognised by its name: this module
    does not import it.
    """
    if type(error).__name__ != "InstantiationException" or error.__cause__ is None:
        return error
    cause = error.__cause__
    if isinstance(cause, ImportError) and cause.__cause__:  # an error in a module that Hydra has imported
        cause = cause.__cause__
    target = str(error).partition(",")[0]  # Error locating target 'my_models.MyLM'
    is_module = isinstance(cause, ModuleNotFoundError) and f"'{cause.name}" in target
    if "locating target" in target and (is_module or isinstance(cause, AttributeError)):
        return SettingError(f"{target}: {cause}")
    is_unknown = isinstance(cause, TypeError) and "unexpected keyword argument" in str(cause)
    is_rejected = is_unknown or (isinstance(cause, TypeError | ValueError) and "target 'lightning." in str(error))
    return error if is_rejected else cause


def is_about_settings(error: BaseException) -> bool:
    """Return whether one line describes an error: it is about a setting, or a result such as divergence.

    The classes of Hydra, OmegaConf and Lightning are recognised by their names, since Lightning's import is slow.
    """
    names = {"UserError", "InstantiationException", "OmegaConfBaseException", "MisconfigurationException"}
    return not names.isdisjoint(kind.__name__ for kind in type(error).__mro__)
