"""What a user is told in one line instead of a traceback."""


class UserError(Exception):
    """End the program with its message as one line: a user's mistake, or a result such as divergence."""


class SettingError(UserError):
    """An invalid value of a setting; the message names the setting, the value, and what to type instead."""


class Diverged(UserError):
    """A loss, gradient or weight, `what`, that is not finite; the update that it would have spoilt is not done."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(f"diverged {where}: {what} is not finite")
        self.what = what


def one_line(message: object, most: int | None = None) -> str:
    """Return the message with every run of white space as one space, cut after `most` characters if given."""
    return " ".join(str(message).split())[:most]
