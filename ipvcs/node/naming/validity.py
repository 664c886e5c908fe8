"""The end of a record's life, as text: RFC 3339 with up to nanoseconds, as Go's `time.RFC3339Nano` writes it.

Instants are whole nanoseconds since 1970: a float has no room for those of today.

Spec: https://www.rfc-editor.org/rfc/rfc3339#section-5.6 and https://pkg.go.dev/time#pkg-constants
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from ipvcs.errors import DecodeError, UsageError

NS: Final = 1_000_000_000
"""Nanoseconds in a second."""
_MAX_TEXT: Final = 64
"""Bytes; with nanoseconds and an offset there are 35."""
_FORM: Final = re.compile(
    rb"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d+))?(?:Z|([+-])(\d\d):(\d\d))",
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX: Final = (datetime.max.replace(tzinfo=UTC, microsecond=0) - _EPOCH) // timedelta(seconds=1)
"""Seconds: the last of the year 9999, which four digits can still say."""


class ValidityError(DecodeError):
    """Bytes are not an instant in the form of RFC 3339."""

    def __init__(self, text: bytes) -> None:
        super().__init__(f"not a time as '2006-01-02T15:04:05Z': {text[:_MAX_TEXT]!r}")
        self.text = text


class FarFutureError(UsageError):
    """An instant that has no text: before 1970, or beyond the year 9999."""

    def __init__(self) -> None:
        super().__init__("the record would end beyond the year 9999", hint="give it a shorter lifetime")


def parse_validity(text: bytes) -> int:
    """Return the instant that `text` says, in nanoseconds since 1970; before that it is negative.

    An offset from UTC is taken, and digits behind the ninth are cut off, both as Go does.

    Raises:
        ValidityError: another form, or no such day or time.
    """
    match = _FORM.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if match is None:
        raise ValidityError(text)
    day, clock, fraction, sign, hours, minutes = match.groups()
    try:
        moment = datetime.strptime((day + b"T" + clock).decode(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
        offset = timedelta(hours=int(hours or 0), minutes=int(minutes or 0))
        if int(hours or 0) > 23 or int(minutes or 0) > 59:
            raise ValidityError(text)
    except ValueError as exc:
        raise ValidityError(text) from exc
    seconds = (moment - _EPOCH - (offset if sign == b"+" else -offset)) // timedelta(seconds=1)
    return seconds * NS + int((fraction or b"0")[:9].ljust(9, b"0"))


def format_validity(ns: int) -> bytes:
    """Return the text of an instant in nanoseconds since 1970: in UTC, without trailing zeros of the fraction.

    Raises:
        FarFutureError: before 1970, or beyond the year 9999.
    """
    seconds, rest = divmod(ns, NS)
    if not 0 <= seconds <= _MAX:
        raise FarFutureError
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    fraction = f".{rest:09}".rstrip("0") if rest else ""
    return f"{text}{fraction}Z".encode()
