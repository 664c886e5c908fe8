"""`fetch`: bring blocks into the home's store; ours, Kubo has no such command by itself.

A stream of lines `{"Blocks", "Bytes", "Local", "Known", "Peers"}`, one a second at least; what a line counts is in the
store when it is sent, and can be read there by whoever asked. The last one has `"Done": true`, or is
`{"TooLarge": true}` if more belongs to it than `max-bytes` or `max-links` allow, see `FetchLimits`.
"""

import math
from typing import Any, Final

from ipvcs.api.command import MAX_DEADLINE, Call, Command
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.typed import parse_typed
from ipvcs.node.exchange.fetch import STALL_TIMEOUT, DagTooLargeError, FetchLimits, FetchProgress

MAX_ROOTS: Final = 20_000
"""CIDs in one request: what its body has room for, one a line. The query takes some hundred."""

_MOST: Final = 1 << 53
"""Bytes: any limit beyond it is none."""


async def fetch(call: Call) -> None:
    """Fetch the blocks of the CIDs given and, unless `recursive` is false, all that they reach; if that is beyond
    `max-bytes` or `max-links`, a last line says so.
    """
    roots = [parse_typed(Cid.parse, text) for text in call.arguments.args]
    recursive = call.arguments.flag("recursive", "r", default=True)
    stall = call.arguments.duration("stall", default=STALL_TIMEOUT)
    most = [call.arguments.integer(name, default=0, least=0, most=_MOST) for name in ("max-bytes", "max-links")]
    limits = FetchLimits(*(each or math.inf for each in most))

    async def tell(progress: FetchProgress) -> None:
        await call.emit(_line(progress))

    try:
        done = await call.node.fetch(roots, recursive=recursive, timeout=stall, limits=limits, on_progress=tell)
    except DagTooLargeError:
        await call.emit({"TooLarge": True})
    else:
        await call.emit({**_line(done), "Done": True})


def _line(progress: FetchProgress) -> dict[str, Any]:
    return {
        "Blocks": progress.blocks,
        "Bytes": progress.bytes,
        "Local": progress.local,
        "Known": progress.known,
        "Peers": progress.peers,
    }


COMMANDS: Final = (Command("fetch", fetch, ("cid",), most=MAX_ROOTS, takes_lines=True, deadline=MAX_DEADLINE),)
