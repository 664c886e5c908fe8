"""`swarm …`: the connections, the addresses, and making and ending connections.

Shapes: Kubo's core/commands/swarm.go, connInfos, addrMap and stringList. Where Kubo writes null for a list that is
empty we write [], which every client of Kubo's takes too.
"""

from typing import Any, Final

from ipvcs.api.command import Call, Command
from ipvcs.api.duration import format_duration
from ipvcs.api.rpc_id import clean, describe_peer, full_address
from ipvcs.errors import IpvcsError, UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_address import parse_peer_address
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import Connection, PeerInfo

_DIRECTIONS: Final = {"inbound": 1, "outbound": 2}
"""go-libp2p's network.Direction."""
_MAX_ADDRESSES: Final = 64
"""Arguments of `connect` and `disconnect`."""
_NO_IDENTITY: Final[dict[str, Any]] = {
    "ID": "",
    "PublicKey": "",
    "Addresses": [],
    "AgentVersion": "",
    "Protocols": [],
}
"""`Identify` when nobody asked for it; Kubo never leaves it out."""


class ConnectFailedError(UnavailableError):
    """No connection to a peer could be made; worded as Kubo's."""

    def __init__(self, peer_id: PeerId, error: IpvcsError) -> None:
        super().__init__(f"connect {peer_id} failure: {error}", hint=error.hint)
        self.peer_id = peer_id


async def peers(call: Call) -> dict[str, Any]:
    """List the connections."""
    arguments = call.arguments
    verbose = arguments.flag("verbose", "v")
    wanted = {name: verbose | arguments.flag(name) for name in ("latency", "direction", "streams", "identify")}
    rows = [_connection_row(call, connection, wanted) for connection in call.node.swarm.connections()]
    return {"Peers": sorted(rows, key=lambda row: str(row["Addr"]))}


def _connection_row(call: Call, connection: Connection, wanted: dict[str, bool]) -> dict[str, Any]:
    peer_id = connection.remote_peer
    row: dict[str, Any] = {"Addr": str(connection.remote_addr), "Peer": str(peer_id)}
    if wanted["latency"]:
        row["Latency"] = "n/a" if connection.rtt is None else format_duration(max(1, round(connection.rtt * 1e9)))
    if wanted["direction"]:
        row["Direction"] = _DIRECTIONS[connection.direction]
    if wanted["streams"] and connection.streams:
        row["Streams"] = [
            {"Protocol": name} for name in sorted(clean(stream.protocol) for stream in connection.streams)
        ]
    row["Identify"] = (
        describe_peer(call.node, peer_id, connection.remote_key, call.node.identify.facts(peer_id))
        if wanted["identify"]
        else _NO_IDENTITY
    )
    return row


async def addrs(call: Call) -> dict[str, Any]:
    """List the address book."""
    known = call.node.known_addresses()
    return {"Addrs": {str(peer_id): sorted(map(str, known[peer_id])) for peer_id in sorted(known, key=str)}}


async def local_addrs(call: Call) -> dict[str, Any]:
    """List where others may reach us, as we tell them; with the option `id`, with `/p2p` and our id behind."""
    node = call.node
    own = node.swarm.addresses()
    with_id = call.arguments.flag("id")
    return {"Strings": sorted(full_address(addr, node.peer_id) if with_id else str(addr) for addr in own)}


async def listen_addrs(call: Call) -> dict[str, Any]:
    """List where we listen."""
    return {"Strings": sorted(map(str, call.node.swarm.interface_addresses()))}


async def connect(call: Call) -> dict[str, Any]:
    """Connect to the peers that the addresses lead to, one after the other, each by all its addresses."""
    results: list[str] = []
    for peer in _group([parse_peer_address(text) for text in call.arguments.args]):
        try:
            await call.node.swarm.connect(peer, force=True, timeout=call.arguments.timeout)
        except IpvcsError as exc:
            raise ConnectFailedError(peer.peer_id, exc) from exc
        results.append(f"connect {peer.peer_id} success")
    return {"Strings": results}


async def disconnect(call: Call) -> dict[str, Any]:
    """End the connections to a peer, for `/p2p/<NodeId>`, or the one to an address.

    Failures stand in the answer, as in Kubo, one line for each address.
    """
    results: list[str] = []
    for peer_id, addr in [parse_peer_address(text) for text in call.arguments.args]:
        reason = await _disconnect(call, peer_id, addr)
        results.append(f"disconnect {peer_id} {'success' if reason is None else f'failure: {reason}'}")
    return {"Strings": results}


async def _disconnect(call: Call, peer_id: PeerId, addr: Multiaddr | None) -> str | None:
    """Return why it failed, or None."""
    swarm = call.node.swarm
    if addr is None:
        if not swarm.connections(peer_id):
            return "not connected"
        await swarm.disconnect(peer_id)
        return None
    for connection in swarm.connections(peer_id):
        if connection.remote_addr == addr:
            await connection.aclose()
            return None
    return "conn not found"


def _group(addresses: list[tuple[PeerId, Multiaddr | None]]) -> list[PeerInfo]:
    by_peer: dict[PeerId, list[Multiaddr]] = {}
    for peer_id, addr in addresses:
        by_peer.setdefault(peer_id, []).extend([] if addr is None else [addr])
    return [PeerInfo(peer_id, tuple(addrs)) for peer_id, addrs in by_peer.items()]


COMMANDS: Final = (
    Command("swarm/peers", peers),
    Command("swarm/addrs", addrs),
    Command("swarm/addrs/local", local_addrs),
    Command("swarm/addrs/listen", listen_addrs),
    Command("swarm/connect", connect, ("address",), _MAX_ADDRESSES),
    Command("swarm/disconnect", disconnect, ("address",), _MAX_ADDRESSES),
)
