"""Durations as Go writes and reads them, which is how Kubo's RPC has them: "300ms", "1m30s", "1.5h".

Spec: https://pkg.go.dev/time#ParseDuration and https://pkg.go.dev/time#Duration.String
"""

import re
from typing import Final

from ipvcs.errors import UsageError

_UNITS: Final = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,  # U+00B5, the micro sign
    "μs": 10**3,  # U+03BC, the letter mu
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
"""Nanoseconds."""
_NUMBER: Final = r"([0-9]+\.?[0-9]*|\.[0-9]+)"
_PART: Final = re.compile(rf"{_NUMBER}(ns|us|µs|μs|ms|s|m|h)")
_WHOLE: Final = re.compile(rf"(?:{_PART.pattern})+")
_MAX_TEXT: Final = 64
_MAX_FRACTION: Final = 19
"""Digits behind the point that count: Go stops at what an int64 holds."""
_MAX: Final = 2**63 - 1
"""Nanoseconds: Go's int64, 292 years."""


class DurationError(UsageError):
    """Not a duration. `text` is what was given."""

    def __init__(self, text: str) -> None:
        super().__init__(f"invalid duration '{text[:_MAX_TEXT]}'", hint="write it as '300ms', '30s' or '1h15m'")
        self.text = text


def parse_duration(text: str) -> int:
    """Return the nanoseconds that `text` says, never negative.

    Raises:
        DurationError: a number without a unit (but "0"), an unknown unit, a sign of minus, or more than 292 years.
    """
    if len(text) > _MAX_TEXT:
        raise DurationError(text)
    body = text.removeprefix("+")
    if body == "0":
        return 0
    if not _WHOLE.fullmatch(body):
        raise DurationError(text)
    parts = _PART.findall(body)
    total = sum(_scale(number, _UNITS[unit]) for number, unit in parts)
    if total > _MAX:
        raise DurationError(text)
    return total


def format_duration(nanoseconds: int) -> str:
    """Return the text of a duration that is not negative, the shortest that loses nothing."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < _UNITS["s"]:
        unit = next(unit for unit in ("ms", "µs", "ns") if nanoseconds >= _UNITS[unit])
        return _decimal(nanoseconds, _UNITS[unit]) + unit
    minutes, rest = divmod(nanoseconds, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = _decimal(rest, _UNITS["s"]) + "s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text


def _scale(number: str, unit: int) -> int:
    """Return `number` times `unit`, the fraction in floating point and cut off, as Go does it."""
    whole, _, fraction = number.partition(".")
    fraction = fraction[:_MAX_FRACTION]
    return int(whole or "0") * unit + int(int(fraction or "0") * (unit / 10 ** len(fraction)))


def _decimal(value: int, unit: int) -> str:
    """Return `value` in units of `unit`, a power of ten, without trailing zeros."""
    whole, rest = divmod(value, unit)
    digits = str(rest).rjust(len(str(unit)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}" if digits else str(whole)
