"""The root of the error family.

Every error a user can meet derives from `IpvcsError`: a message in git's manner (lower case, no full stop, the problem
first, the subject quoted), an optional hint (what to try next) and an exit code. Only the roots live here, and how a
subject is quoted; a concrete error is defined beside the code that raises it and keeps its subject as a field.
"""

from typing import ClassVar


class IpvcsError(Exception):
    """An expected failure: reported with its hint, never as a traceback."""

    exit_code: ClassVar[int] = 128
    """What the command exits with: git's 128 for a failure, 129 for usage, 1 for a negative answer."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def shorten(text: str, limit: int = 80) -> str:
    """Return `text`, which may be anything, as an error's message quotes it: readable, and cut when it is long."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else text[: limit - 20] + "…"


class DecodeError(IpvcsError):
    """Bytes or text are not what their format says."""


class TruncatedError(DecodeError):
    """The input ends inside an item; with more bytes it might be valid."""


class ProtocolError(IpvcsError):
    """A protocol was broken."""


class LocalProtocolError(ProtocolError):
    """We misused the protocol: a bug of ours or of our caller's."""


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol."""


class IntegrityError(IpvcsError):
    """A hash or signature does not match; not worth a retry with the same peer."""


class NotFoundError(IpvcsError):
    """The thing asked for is not there."""


class ConflictError(IpvcsError):
    """Somebody else changed the thing, or the change is not allowed on top of it."""


class UnavailableError(IpvcsError):
    """Out of reach now; worth a retry later."""


class LimitError(IpvcsError):
    """A bound that we set was reached."""


class UsageError(IpvcsError):
    """Bad arguments or configuration."""

    exit_code = 129
