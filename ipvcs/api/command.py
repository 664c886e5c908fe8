"""What a command of the RPC is: where it is found, what it takes, and the function that runs it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ipvcs.api.arguments import Arguments
from ipvcs.api.node_services import NodeServices

DEADLINE: Final = 60.0
"""Seconds a command may take when neither it nor the client says otherwise."""
MAX_DEADLINE: Final = 24 * 3600.0
"""Seconds. A client that asks for more gets this."""

Emit: TypeAlias = Callable[[dict[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a command."""

    node: NodeServices
    arguments: Arguments
    emit: Emit
    """Sends one object of a stream, and waits until the client has room for the next. Until the first one is sent,
    an error still has a status of its own."""
    shutdown: Callable[[], None]
    """Asks the daemon to end; returns at once."""


Run: TypeAlias = Callable[[Call], Awaitable[dict[str, Any] | None]]
"""Runs a command and returns its answer, or None when it has none or has emitted it. Cancelled when the client goes."""


@dataclass(frozen=True, slots=True)
class Command:
    """A row of the route table."""

    path: str
    """Below `/api/v0/`."""
    run: Run
    required: tuple[str, ...] = ()
    """The names of arguments without which it makes no sense."""
    most: int | None = None
    """How many arguments it takes at most; None: the required ones and no more."""
    takes_lines: bool = False
    """Whether each line of the request's body is an argument, too, after those of the query, which has little room."""
    deadline: float = DEADLINE
    """Seconds, unless the client's option `timeout` says otherwise."""
