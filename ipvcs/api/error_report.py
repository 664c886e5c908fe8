"""What the API tells a client about an error: Kubo's object, and beside it what our own command line shows.

    {"Message": "…", "Code": 0, "Type": "error", "Hint": "…", "ExitCode": 128}

`Hint` is there when the error has one. The status is 400 for what the client got wrong and 500 for the rest, as in
Kubo; 401, 403 and 413 have no counterpart there. After a stream has begun the object is the stream's last line, which
Kubo's own client takes for an error too (its `MaybeError`); the trailer `X-Stream-Error`, which Kubo sends instead, is
beyond our HTTP server.

Spec: https://github.com/ipfs/go-ipfs-cmds/blob/master/error.go
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ipvcs.errors import IpvcsError, UnavailableError, UsageError

_log = logging.getLogger(__name__)


class ErrorCode(IntEnum):
    """The kinds of errors that Kubo's clients tell apart."""

    NORMAL = 0
    CLIENT = 1
    IMPLEMENTATION = 2
    RATE_LIMITED = 3
    FORBIDDEN = 4


class CommandTimeoutError(UnavailableError):
    """A command took longer than it may."""

    def __init__(self, path: str, seconds: float) -> None:
        # kubo-rpc-client tells a time-out by the words "request timed out".
        super().__init__(
            f"request timed out: '{path}' took over {seconds:g} seconds",
            hint="a peer may be slow or gone: try again, or allow more time",
        )
        self.path = path


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """An error on its way to a client."""

    status: int
    message: str
    code: ErrorCode = ErrorCode.NORMAL
    hint: str | None = None
    exit_code: int = IpvcsError.exit_code

    def to_json(self) -> dict[str, Any]:
        """Return the object."""
        value: dict[str, Any] = {"Message": self.message, "Code": int(self.code), "Type": "error"}
        if self.hint:
            value["Hint"] = self.hint
        return {**value, "ExitCode": self.exit_code}


def report(error: BaseException, path: str) -> ErrorReport:
    """Return what to tell about `error`, which ended the command at `path`. A bug is logged and not told about.

    Of several errors the messages are told together, with the first hint and the worst exit code.
    """
    leaves = list(_iterate_leaves(error))
    expected = [leaf for leaf in leaves if isinstance(leaf, IpvcsError)]
    if len(expected) < len(leaves):
        _log.error("a bug ended a command", exc_info=error, extra={"command": path})
        return ErrorReport(
            500,
            f"internal error in '{path}': {type(leaves[0]).__name__}",
            ErrorCode.IMPLEMENTATION,
            "this is a bug: the daemon's log tells more",
        )
    is_usage = all(isinstance(leaf, UsageError) for leaf in expected)
    return ErrorReport(
        400 if is_usage else 500,
        "; ".join(dict.fromkeys(str(leaf) for leaf in expected)),
        ErrorCode.CLIENT if is_usage else ErrorCode.NORMAL,
        next((leaf.hint for leaf in expected if leaf.hint), None),
        max(leaf.exit_code for leaf in expected),
    )


def encode_line(value: dict[str, Any]) -> bytes:
    """Return `value` as the RPC sends it: JSON, and a line feed behind it."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _iterate_leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from _iterate_leaves(member)
    else:
        yield error
