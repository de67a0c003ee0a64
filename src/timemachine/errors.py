"""Exceptions that the programs report as one line instead of a traceback."""


class UserError(Exception):
    """Ends the program with a one-line message: a user's mistake, or a result such as divergence."""


class SettingError(UserError):
    """An invalid value of a setting; the message names the setting, the value and a valid alternative."""


class Diverged(UserError):
    """A loss, gradient or weight, `what`, is not finite; the update that would use it is skipped."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"diverged {where}: {what} is not finite")
        self.what = what


def one_line(message: object, most: int | None = None) -> str:
    """Return the message with each run of white space as one space, truncated to `most` characters if given."""
    return " ".join(str(message).split())[:most]
