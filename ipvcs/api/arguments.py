"""A command's arguments and options, out of a request's query: `?arg=first&arg=second&verbose=true&timeout=30s`.

Spec: https://docs.ipfs.tech/reference/kubo/rpc/ ; the words for true and false are those of
https://pkg.go.dev/strconv#ParseBool
"""

from collections.abc import Mapping, Sequence
from typing import Final, Self
from urllib.parse import parse_qsl

from ipvcs.api.duration import parse_duration
from ipvcs.errors import UsageError

MAX_QUERY: Final = 16 * 1024
"""Bytes: what fits a request line of the server."""
_MAX_FIELDS: Final = 256
"""Arguments and options of one request; no command takes half as many."""
_TRUE: Final = frozenset({"", "1", "t", "true"})  # an option without a value is switched on
_FALSE: Final = frozenset({"0", "f", "false"})
_MAX_DIGITS: Final = 19
"""Of a number: an int64's. Python takes quadratic time for long ones."""


class BadRequestError(UsageError):
    """The request's query is not what the command takes."""


class Arguments:
    """The arguments in order, and the options by name. Options that nobody asks for are ignored, as Kubo does."""

    def __init__(self, args: Sequence[str], options: Mapping[str, str]) -> None:
        self.args = tuple(args)
        self._options = options

    @classmethod
    def parse(cls, query: bytes) -> Self:
        """Return what `query`, the part of the request's target behind `?`, says.

        Raises:
            BadRequestError: too long, not encoded as queries are, or an option twice.
        """
        if len(query) > MAX_QUERY:
            raise BadRequestError(f"the query has {len(query)} bytes, more than {MAX_QUERY}")
        try:
            # Names of files are bytes: what is not UTF-8 in them is kept as it is.
            fields = parse_qsl(
                query.decode("ascii"), keep_blank_values=True, errors="surrogateescape", max_num_fields=_MAX_FIELDS
            )
        except ValueError as exc:
            raise BadRequestError("the query is not percent-encoded text, or has too many fields") from exc
        options: dict[str, str] = {}
        for name, value in fields:
            if name == "arg":
                continue
            if name in options:
                raise BadRequestError(f"option '{name}' is given twice")
            options[name] = value
        return cls([value for name, value in fields if name == "arg"], options)

    def followed_by(self, lines: bytes) -> Self:
        """Return these arguments with those of a request's body behind them, one a line.

        Raises:
            BadRequestError: they are not UTF-8.
        """
        try:
            more = lines.decode().splitlines()
        except UnicodeDecodeError as exc:
            raise BadRequestError("the request's body is not lines of text") from exc
        return type(self)((*self.args, *more), self._options)

    def check_count(self, required: Sequence[str], most: int) -> None:
        """Raise BadRequestError if one of the arguments named `required` is missing or there are more than `most`."""
        if len(self.args) < len(required):
            raise BadRequestError(f"argument '{required[len(self.args)]}' is required")
        if len(self.args) > most:
            raise BadRequestError(f"{len(self.args)} arguments given, the command takes {most} at most")

    def try_arg(self, index: int) -> str | None:
        """Return the argument at `index`, or None if there are fewer."""
        return self.args[index] if index < len(self.args) else None

    def text(self, *names: str, default: str) -> str:
        """Return the value of the option that goes by `names`."""
        return next((self._options[name] for name in names if name in self._options), default)

    def flag(self, *names: str, default: bool = False) -> bool:
        """Tell whether the option that goes by `names` is on. Raises BadRequestError for what is neither."""
        value = self.text(*names, default=str(default))
        if value.lower() in _TRUE:
            return True
        if value.lower() in _FALSE:
            return False
        raise BadRequestError(f"option '{names[0]}' is 'true' or 'false', not '{value[:40]}'")

    def integer(self, *names: str, default: int, least: int, most: int) -> int:
        """Return the number that the option that goes by `names` has. Raises BadRequestError outside the bounds."""
        value = self.text(*names, default=str(default))
        digits = value.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS and least <= int(value) <= most:
            return int(value)
        raise BadRequestError(f"option '{names[0]}' is a number from {least} to {most}, not '{value[:40]}'")

    def duration(self, *names: str, default: float) -> float:
        """Return the seconds that the option that goes by `names` says. Raises DurationError."""
        value = self.text(*names, default="")
        return parse_duration(value) / 1e9 if value else default

    @property
    def timeout(self) -> float | None:
        """Seconds that the client gives the command, None if it does not say. Raises DurationError."""
        value = self.text("timeout", default="")
        return parse_duration(value) / 1e9 if value else None
