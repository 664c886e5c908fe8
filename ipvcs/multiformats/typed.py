"""What somebody typed: an argument that is not what its format says is wrong usage, not a damaged object."""

from collections.abc import Callable
from typing import TypeVar

from ipvcs.errors import DecodeError, UsageError

_T = TypeVar("_T")


class ArgumentError(UsageError):
    """Text that was given is not what it should be; worded as the error of its format. `subject` is the text."""

    def __init__(self, message: str, subject: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.subject = subject


def parse_typed(parse: Callable[[str], _T], text: str) -> _T:
    """Return what `parse` makes of `text`.

    Raises:
        ArgumentError: for a DecodeError of `parse`; its other errors pass.
    """
    try:
        return parse(text)
    except DecodeError as exc:
        raise ArgumentError(str(exc), text, hint=exc.hint) from exc
