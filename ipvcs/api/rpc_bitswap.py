"""`bitswap …`: what is exchanged with peers, what is wanted, and what each peer's ledger says.

Shapes: Kubo's core/commands/bitswap.go, KeyList and bitswap.Stat, and boxo's server.Receipt. Where Kubo writes null for
a list that is empty we write [].
"""

from collections.abc import Sequence
from typing import Any, Final

from ipvcs.api.command import Call, Command
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import parse_typed


async def ledger(call: Call) -> dict[str, Any]:
    """Tell what was exchanged with the peer named. A peer that we never met has an empty ledger."""
    peer_id = parse_typed(PeerId.parse, call.arguments.args[0])
    found = call.node.bitswap.ledger(peer_id)
    return {
        "Peer": str(peer_id),
        "Value": found.debt_ratio,
        "Sent": found.bytes_sent,
        "Recv": found.bytes_received,
        "Exchanged": found.exchanges,
    }


async def wantlist(call: Call) -> dict[str, Any]:
    """List what we want, or what the peer of the option `peer` wants of us."""
    name = call.arguments.text("peer", "p", default="")
    peer_id = parse_typed(PeerId.parse, name) if name else None
    own = peer_id is None or peer_id == call.node.peer_id
    return {"Keys": _links(call.node.bitswap.wantlist(None if own else peer_id))}


async def stat(call: Call) -> dict[str, Any]:
    """Tell what was exchanged with all peers since the start. `ProvideBufLen` is history, also in Kubo."""
    found = call.node.bitswap.stat()
    return {
        "ProvideBufLen": 0,
        "Wantlist": _links(found.wantlist),
        "Peers": sorted(map(str, found.peers)),
        "BlocksReceived": found.blocks_received,
        "DataReceived": found.data_received,
        "DupBlksReceived": found.dup_blocks_received,
        "DupDataReceived": found.dup_data_received,
        "MessagesReceived": found.messages_received,
        "BlocksSent": found.blocks_sent,
        "DataSent": found.data_sent,
    }


def _links(cids: Sequence[Cid]) -> list[dict[str, str]]:
    return [{"/": str(cid)} for cid in cids]


COMMANDS: Final = (
    Command("bitswap/ledger", ledger, ("peer",)),
    Command("bitswap/wantlist", wantlist),
    Command("bitswap/stat", stat),
)
