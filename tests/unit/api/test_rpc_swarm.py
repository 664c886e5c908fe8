"""Shapes: Kubo's core/commands/swarm.go: connInfos, addrMap, stringList, and the texts of connect and disconnect."""

from collections.abc import Awaitable, Callable
from urllib.parse import quote

import anyio
import pytest

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.interface import PeerInfo
from tests.unit.api.asgi import Response
from tests.unit.api.fake_node import FACTS, OTHER, PEER, FakeConnection, FakeNode, FakeStream

pytestmark = pytest.mark.anyio
Post = Callable[[str], Awaitable[Response]]
FIRST = Multiaddr.parse("/ip4/10.0.0.1/tcp/4001")
SECOND = Multiaddr.parse("/ip6/::1/tcp/4001")
NOBODY = {"ID": "", "PublicKey": "", "Addresses": [], "AgentVersion": "", "Protocols": []}


@pytest.fixture
def connected(node: FakeNode) -> FakeNode:
    streams = [FakeStream("/ipfs/ping/1.0.0"), FakeStream("/ipfs/bitswap/1.2.0")]
    node.swarm.open = [
        FakeConnection(OTHER, SECOND, direction="inbound"),
        FakeConnection(PEER, FIRST, rtt=0.0123456, streams=streams),
    ]
    node.identify.known[PEER] = FACTS
    return node


async def test_peers_without_connections_is_an_empty_list(call: Post) -> None:
    assert (await call("swarm/peers")).json == {"Peers": []}


async def test_peers_are_listed_by_address(call: Post, connected: FakeNode) -> None:
    assert (await call("swarm/peers")).json == {
        "Peers": [
            {"Addr": "/ip4/10.0.0.1/tcp/4001", "Peer": str(PEER), "Identify": NOBODY},
            {"Addr": "/ip6/::1/tcp/4001", "Peer": str(OTHER), "Identify": NOBODY},
        ]
    }


async def test_verbose_tells_everything(call: Post, connected: FakeNode) -> None:
    """Latency as Go writes durations, or n/a; Direction as go-libp2p's network.Direction: 1 inbound, 2 outbound."""
    first, second = (await call("swarm/peers?verbose=true")).json["Peers"]
    assert (first["Latency"], second["Latency"]) == ("12.3456ms", "n/a")
    assert (first["Direction"], second["Direction"]) == (2, 1)
    assert first["Streams"] == [{"Protocol": "/ipfs/bitswap/1.2.0"}, {"Protocol": "/ipfs/ping/1.0.0"}]
    assert "Streams" not in second
    assert first["Identify"]["ID"] == str(PEER)
    assert first["Identify"]["Addresses"] == [f"/ip4/10.0.0.2/tcp/4001/p2p/{PEER}"]
    assert second["Identify"]["ID"] == str(OTHER), "we know whom we are connected to even if it said nothing yet"
    assert second["Identify"]["AgentVersion"] == ""


@pytest.mark.parametrize(
    ("option", "keys"),
    [("latency", {"Latency"}), ("direction", {"Direction"}), ("streams", {"Streams"}), ("identify", set())],
)
async def test_each_option_adds_its_own(call: Post, connected: FakeNode, option: str, keys: set[str]) -> None:
    row = (await call(f"swarm/peers?{option}=true")).json["Peers"][0]
    assert set(row) == {"Addr", "Peer", "Identify", *keys}
    assert bool(row["Identify"]["ID"]) == (option == "identify")


async def test_addrs_is_the_address_book(call: Post, node: FakeNode) -> None:
    node.known = {PEER: [SECOND, FIRST], OTHER: []}
    assert (await call("swarm/addrs")).json == {
        "Addrs": {str(PEER): ["/ip4/10.0.0.1/tcp/4001", "/ip6/::1/tcp/4001"], str(OTHER): []}
    }


async def test_own_addresses_are_told_with_and_without_our_id(call: Post, node: FakeNode) -> None:
    plain = ["/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.2/tcp/4001"]
    assert (await call("swarm/addrs/local")).json == {"Strings": plain}
    assert (await call("swarm/addrs/local?id=true")).json == {
        "Strings": [f"{addr}/p2p/{node.peer_id}" for addr in plain]
    }


async def test_the_addresses_of_the_interfaces_are_told(call: Post) -> None:
    assert (await call("swarm/addrs/listen")).json == {"Strings": ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"]}


async def test_connect_groups_a_peers_addresses(call: Post, node: FakeNode) -> None:
    node.swarm.reachable = {PEER: FakeConnection(PEER, FIRST), OTHER: FakeConnection(OTHER, SECOND)}
    args = [f"{FIRST}/p2p/{PEER}", f"/p2p/{OTHER}", f"{SECOND}/ipfs/{PEER}"]
    response = await call("swarm/connect?" + "&".join(f"arg={quote(arg)}" for arg in args))
    assert response.json == {"Strings": [f"connect {PEER} success", f"connect {OTHER} success"]}
    assert node.swarm.dialled == [(PeerInfo(PEER, (FIRST, SECOND)), None), (PeerInfo(OTHER), None)]


async def test_connect_hands_the_clients_timeout_to_the_network(call: Post, node: FakeNode) -> None:
    node.swarm.reachable = {PEER: FakeConnection(PEER, FIRST)}
    await call(f"swarm/connect?arg={FIRST}/p2p/{PEER}&timeout=90s")
    assert node.swarm.dialled == [(PeerInfo(PEER, (FIRST,)), 90)]


async def test_a_failed_connect_is_an_error_in_kubos_words(call: Post) -> None:
    response = await call(f"swarm/connect?arg={FIRST}/p2p/{PEER}")
    assert response.status == 500
    assert response.json["Message"] == f"connect {PEER} failure: cannot reach '{PEER}'"
    assert response.json["Hint"] == "is it up?"


async def test_connect_gives_up_at_its_deadline(call: Post, node: FakeNode) -> None:
    node.swarm.before_connect = anyio.sleep_forever
    response = await call(f"swarm/connect?arg={FIRST}/p2p/{PEER}")
    assert "timed out: 'swarm/connect' took over 60 seconds" in response.json["Message"]


@pytest.mark.parametrize("command", ["connect", "disconnect"])
@pytest.mark.parametrize(
    "address",
    ["/ip4/10.0.0.1/tcp/4001", f"/p2p/{PEER}/p2p-circuit", f"/p2p/{PEER}/tcp/1"],
    ids=["no-peer", "circuit", "tcp"],
)
async def test_an_address_that_leads_to_no_peer_is_refused(
    call: Post, node: FakeNode, command: str, address: str
) -> None:
    response = await call(f"swarm/{command}?arg={address}")
    assert (response.status, response.json["Code"]) == (400, 1)
    assert "does not say which peer it leads to" in response.json["Message"]
    assert node.swarm.dialled == []


@pytest.mark.parametrize("command", ["connect", "disconnect"])
async def test_an_address_is_required(call: Post, command: str) -> None:
    response = await call(f"swarm/{command}")
    assert (response.status, response.json["Message"]) == (400, "argument 'address' is required")


async def test_disconnect_ends_all_connections_to_a_peer(call: Post, connected: FakeNode) -> None:
    response = await call(f"swarm/disconnect?arg=/p2p/{PEER}&arg=/p2p/{PEER}")
    assert response.json == {"Strings": [f"disconnect {PEER} success", f"disconnect {PEER} failure: not connected"]}
    assert [each.remote_peer for each in connected.swarm.open] == [OTHER]


async def test_disconnect_by_address_ends_that_connection_alone(call: Post, connected: FakeNode) -> None:
    """The words of failure: Kubo's core/coreiface/swarm.go."""
    response = await call(f"swarm/disconnect?arg={FIRST}/p2p/{PEER}&arg={SECOND}/p2p/{PEER}")
    assert response.json == {"Strings": [f"disconnect {PEER} success", f"disconnect {PEER} failure: conn not found"]}
    assert [each.is_closed for each in connected.swarm.open] == [False, True]
