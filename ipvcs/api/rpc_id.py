"""`id`: who a peer is, this node or another.

Shape: Kubo's core/commands/id.go, IdOutput.
"""

import base64
from collections.abc import Iterable
from typing import Any, Final

from ipvcs import AGENT_VERSION
from ipvcs.api.command import Call, Command
from ipvcs.api.node_services import NodeServices
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import parse_typed
from ipvcs.node.identity.keys import PublicKey
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.network.peer_facts import PeerFacts

_MAX_TEXT: Final = 128
"""Characters of a stranger's text, as Kubo's CleanAndTrim."""


async def show_id(call: Call) -> dict[str, Any]:
    """Tell who this node is, or connect to the peer named and tell who that is."""
    node = call.node
    base = call.arguments.text("peerid-base", default="b58mh")
    name = call.arguments.try_arg(0)
    peer_id = node.peer_id if name is None else parse_typed(PeerId.parse, name)
    shown = _format_id(peer_id, base)  # an unknown base is told before anybody is dialled
    if peer_id == node.peer_id:
        return {**describe_self(node), "ID": shown}
    connection = await node.swarm.connect(PeerInfo(peer_id), force=True, timeout=call.arguments.timeout)
    facts = await node.identify.wait_identified(connection)
    return {**describe_peer(node, peer_id, connection.remote_key, facts), "ID": shown}


def describe_self(node: NodeServices) -> dict[str, Any]:
    """Return what `id` tells about this node."""
    public_key = node.private_key.public_key
    return _id_output(node.peer_id, public_key, node.swarm.addresses(), AGENT_VERSION, node.swarm.protocols())


def describe_peer(
    node: NodeServices, peer_id: PeerId, public_key: PublicKey | None, facts: PeerFacts | None
) -> dict[str, Any]:
    """Return what `id` tells about another peer: what it says of itself, and where we know it to be."""
    addrs = dict.fromkeys(node.known_addresses(peer_id).get(peer_id, ()))
    if facts is None:
        return _id_output(peer_id, public_key, addrs, "", ())
    addrs |= dict.fromkeys(facts.listen_addrs)
    return _id_output(peer_id, public_key, addrs, clean(facts.agent_version), map(clean, facts.protocols))


def clean(text: str) -> str:
    """Return a stranger's text with what could drive a terminal taken out, and cut short."""
    return "".join(char if char.isprintable() else "\ufffd" for char in text).strip()[:_MAX_TEXT]


def full_address(addr: Multiaddr, peer_id: PeerId) -> str:
    """Return `addr` with the peer it leads to behind it."""
    return f"{addr}/p2p/{peer_id}"


def _id_output(
    peer_id: PeerId,
    public_key: PublicKey | None,
    addrs: Iterable[Multiaddr],
    agent_version: str,
    protocols: Iterable[str],
) -> dict[str, Any]:
    return {
        "ID": str(peer_id),
        "PublicKey": "" if public_key is None else base64.b64encode(public_key.encode()).decode(),
        "Addresses": sorted(full_address(addr, peer_id) for addr in addrs),
        "AgentVersion": agent_version,
        "Protocols": sorted(protocols),
    }


def _format_id(peer_id: PeerId, base: str) -> str:
    """Return the id's text as the option `peerid-base` of Kubo wants it: `b58mh`, `k` or the name of a multibase."""
    if base == "b58mh":
        return str(peer_id)
    return peer_id.to_cid().encode("base36" if base == "k" else base)


COMMANDS: Final = (Command("id", show_id, most=1),)
