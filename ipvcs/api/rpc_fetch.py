"""`fetch`: bring blocks into the home's store; ours, Kubo has no such command by itself.

A stream of lines `{"Blocks", "Bytes", "Local", "Known", "Peers"}`, one a second at least; what a line counts is in the
store when it is sent, and can be read there by whoever asked. The last one has `"Done": true`.
"""

from typing import Any, Final

from ipvcs.api.command import MAX_DEADLINE, Call, Command
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.typed import parse_typed
from ipvcs.node.exchange.fetch import STALL_TIMEOUT, FetchProgress

MAX_ROOTS: Final = 20_000
"""CIDs in one request: what its body has room for, one a line. The query takes some hundred."""


async def fetch(call: Call) -> None:
    """Fetch the blocks of the CIDs given and, unless `recursive` is false, all that they reach."""
    roots = [parse_typed(Cid.parse, text) for text in call.arguments.args]
    recursive = call.arguments.flag("recursive", "r", default=True)
    stall = call.arguments.duration("stall", default=STALL_TIMEOUT)

    async def tell(progress: FetchProgress) -> None:
        await call.emit(_line(progress))

    done = await call.node.fetch(roots, recursive=recursive, timeout=stall, on_progress=tell)
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
