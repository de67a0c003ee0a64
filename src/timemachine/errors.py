"""Exceptions that the programs report as one line instead of a traceback."""

REMEDY = "use a smaller model.lr, model.sigma or trainer.gradient_clip_val"  # for a run that diverges


class UserError(Exception):
    """A user's mistake, or a result such as divergence: the program prints the message and ends."""


class SettingError(UserError):
    """An invalid value of a setting; the message names the setting and, if possible, a valid value."""


class OtherRun(SettingError):
    """The run's folder has a run with other settings, or one that another process is training."""


class Diverged(UserError):
    """A loss, gradient or weight, named by `what`, is not finite."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"diverged {where}: {what} is not finite; {REMEDY}")
        self.what = what


def unwrapped(error: BaseException) -> BaseException:
    """Return the exception that a constructor raised and Hydra's `instantiate` has wrapped; any other one unchanged.

    Hydra's class is recognised by its name, since the lesson does not import Hydra.
    """
    is_wrapper = type(error).__name__ == "InstantiationException"
    return (is_wrapper and error.__cause__) or error


def one_line(message: object, max_length: int | None = None) -> str:
    """Return the message with each run of white space as one space, truncated to `max_length` characters if given."""
    return " ".join(str(message).split())[:max_length]
