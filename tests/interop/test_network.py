"""Who we are to real peers and they to us: every key, security protocol, multiplexer and direction.

Names and versions are what the peers say of themselves, ids and agreed protocols what both sides say of one connection.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from ipvcs import __version__
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import KeyType, PrivateKey, generate_key
from ipvcs.node.network.address_book import Source
from ipvcs.node.network.errors import DialError, PeerMismatchError
from ipvcs.node.network.identify import IDENTIFY, PUSH
from ipvcs.node.network.interface import Connection, Direction, PeerInfo, Stream
from ipvcs.node.network.ping import PING
from ipvcs.node.node import Node
from tests.interop.helia_peer import HeliaPeer
from tests.interop.json_peer import PeerError
from tests.interop.kubo_peer import KuboPeer
from tests.interop.network_node import (
    MPLEX,
    NOISE,
    TLS,
    YAMUX,
    Stack,
    book_of,
    connect,
    open_stack,
    open_test_node,
    own_addr,
    ping,
)
from tests.interop.remote import REMOTES, Remote, wait_until

pytestmark = pytest.mark.anyio

Remotes = Callable[[str], Remote]
DIRECTIONS: tuple[Direction, ...] = ("outbound", "inbound")
_MISMATCH = "peer id mismatch|peer IDs don't match|does not match expected remote identity|Unexpected Peer"
"""Kubo's and Helia's words for it, over Noise and TLS each."""
AGENT = f"ipvcs/{__version__}"
STACKS = [
    pytest.param(name, security, muxer, early, id=f"{name}{security}{muxer}-{'early' if early else 'late'}")
    for name in REMOTES
    for security in (NOISE, TLS)
    for muxer in (YAMUX, MPLEX)[: 2 if name.startswith("kubo") else 1]  # Helia has no mplex
    for early in (True, False)
]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node of ours with the default configuration."""
    async with open_test_node(tmp_path / "home") as node:
        yield node


@pytest.fixture(scope="module")
def rsa_key() -> PrivateKey:
    return generate_key(KeyType.RSA)


class Heard:
    """A notifiee that remembers."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    def connected(self, connection: Connection) -> None:
        self.connections.append(connection)

    def disconnected(self, _connection: Connection) -> None:
        pass


async def _refuse(stream: Stream) -> None:
    stream.reset()


def bare_addr(remote: Remote) -> Multiaddr:
    return Multiaddr.parse(str(remote.addr).partition("/p2p/")[0])


def listening_addrs(node: Node | Stack) -> set[str]:
    return set(map(str, node.swarm.listen_addresses()))


async def knows_addrs(remote: Remote, node: Node | Stack) -> bool:
    return await remote.addresses_of(node.peer_id) == listening_addrs(node)


async def check_identified(node: Node | Stack, remote: Remote, connection: Connection) -> None:
    """Each side knows what the other says of itself, addresses by a signed record."""
    bare = bare_addr(remote)
    facts = await node.identify.wait_identified(connection)
    assert facts.agent_version.startswith(remote.agent)
    assert {IDENTIFY, PUSH, PING} <= set(facts.protocols)
    assert bare in facts.listen_addrs
    assert facts.record_seq is not None
    known = book_of(node).known(remote.peer_id, anyio.current_time())
    assert known is not None
    assert known.sequence == facts.record_seq
    assert {each.addr: each.source for each in known.addrs}[bare] >= Source.CERTIFIED

    await wait_until(partial(knows_addrs, remote, node))  # it asks when it likes
    if remote.helia:
        told = await remote.told_by(node.peer_id)
        assert set(told["certified"]) == listening_addrs(node)
        assert told["agent"] == AGENT
        assert told["protocols"] == list(node.swarm.protocols())


async def check_both_ping(node: Node | Stack, remote: Remote) -> None:
    """Pings come back in both directions; Kubo's library has none to ask for."""
    assert await ping(node, remote) < 5
    if remote.helia:
        assert (await remote.call("ping", addr=str(node.peer_id)))["ms"] < 5000


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("name", "security", "muxer", "early"), STACKS)
async def test_both_sides_agree_on_ids_protocols_and_addresses(
    remotes: Remotes, name: str, security: str, muxer: str, early: bool, direction: Direction
) -> None:
    remote = remotes(name)
    async with open_stack(security, [muxer], early=early) as node:
        connection = await connect(node, remote, direction)

        assert connection.remote_peer == connection.remote_key.peer_id == remote.peer_id
        assert (connection.security, connection.muxer) == (security, muxer)
        assert node.security.early_muxers == [muxer if early else None]
        if remote.helia:
            theirs = await remote.connection_with(node.peer_id)
            assert (theirs["encryption"], theirs["muxer"]) == (security, muxer)
            assert theirs["direction"] != direction
        await check_identified(node, remote, connection)
        await check_both_ping(node, remote)
    await remote.wait_disconnected(node.peer_id)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("security", [NOISE, TLS])
@pytest.mark.parametrize("name", ["kubo-ed25519", "helia-ed25519"])
async def test_peers_take_our_rsa_identity_too(
    remotes: Remotes, rsa_key: PrivateKey, name: str, security: str, direction: Direction
) -> None:
    remote = remotes(name)
    async with open_stack(security, key=rsa_key) as node:
        connection = await connect(node, remote, direction)

        assert str(node.peer_id).startswith("Qm")
        await check_identified(node, remote, connection)
        await check_both_ping(node, remote)
    await remote.wait_disconnected(node.peer_id)


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_kubo_of_other_settings_gets_what_both_have(
    start_kubo: Callable[..., KuboPeer], node: Node, direction: Direction
) -> None:
    settings = ["Swarm.Transports.Security.Noise=false", "Swarm.Transports.Multiplexers.Yamux=false"]
    remote = Remote(start_kubo(identity="ed25519", settings=settings))

    connection = await connect(node, remote, direction)

    assert (connection.security, connection.muxer) == (TLS, MPLEX)
    await check_both_ping(node, remote)


@pytest.mark.parametrize(("option", "security"), [("tls", TLS), ("tls,noise", TLS), ("noise", NOISE)])
async def test_a_helia_of_other_settings_gets_what_both_have(
    start_helia: Callable[..., HeliaPeer], node: Node, option: str, security: str
) -> None:
    remote = Remote(start_helia("--kad", "none", "--sec", option))

    await remote.dial(own_addr(node))

    theirs = await remote.connection_with(node.peer_id)
    (ours,) = node.swarm.connections(remote.peer_id)
    assert (ours.security, theirs["encryption"]) == (security, security)
    await check_both_ping(node, remote)


@pytest.mark.parametrize("name", ["kubo-ed25519", "helia-ed25519"])
async def test_peers_reach_us_over_ipv6(remotes: Remotes, node: Node, name: str) -> None:
    remote = remotes(name)

    connection = await connect(node, remote, "inbound", version=6)

    assert connection.remote_addr.value_for("ip6") == "::1"
    await check_both_ping(node, remote)


@pytest.mark.parametrize("security", [NOISE, TLS])
@pytest.mark.parametrize("name", REMOTES)
async def test_somebody_else_than_was_dialled_is_cut_off_before_a_connection_stands(
    remotes: Remotes, name: str, security: str
) -> None:
    remote, stranger = remotes(name), generate_key().peer_id
    async with open_stack(security) as node:
        with pytest.raises(PeerMismatchError) as caught:
            await node.transport.dial(bare_addr(remote), stranger, node.swarm)
        assert (caught.value.expected, caught.value.actual) == (stranger, remote.peer_id)
        with pytest.raises(DialError, match=f"dialled '{stranger}', but '{remote.peer_id}' answered"):
            await node.swarm.connect(PeerInfo(stranger, (bare_addr(remote),)))

        assert node.swarm.connections() == []
        assert not await remote.is_connected_to(node.peer_id)


@pytest.mark.parametrize("security", [NOISE, TLS])
@pytest.mark.parametrize("name", ["kubo-ed25519", "helia-ed25519"])
async def test_who_dials_us_for_somebody_else_leaves_no_connection(remotes: Remotes, name: str, security: str) -> None:
    remote, stranger = remotes(name), generate_key().peer_id
    async with open_stack(security) as node:
        heard = Heard()
        node.swarm.subscribe(heard)
        with pytest.raises(PeerError, match=_MISMATCH):
            await remote.dial(Multiaddr.parse(f"{own_addr(node)}".replace(str(node.peer_id), str(stranger))))

        assert not await remote.is_connected_to(node.peer_id)
        await wait_until(lambda: all(connection.is_closed for connection in heard.connections))
        assert not any(connection.streams for connection in heard.connections)


async def test_helia_hears_by_push_what_we_begin_and_stop_to_serve(remotes: Remotes, node: Node) -> None:
    remote = remotes("helia-ed25519")
    connection = await connect(node, remote, "outbound")
    await check_identified(node, remote, connection)

    async def it_knows() -> bool:
        told: list[str] = (await remote.told_by(node.peer_id))["protocols"]
        return told == list(node.swarm.protocols())

    node.swarm.handle("/test/new/1", _refuse)
    assert not await it_knows()
    await wait_until(it_knows)
    node.swarm.unhandle("/test/new/1")
    assert not await it_knows()
    await wait_until(it_knows)


@pytest.mark.parametrize("name", ["kubo-ed25519", "helia-ed25519"])
async def test_peers_hear_by_push_where_else_we_listen(remotes: Remotes, node: Node, name: str) -> None:
    remote = remotes(name)
    connection = await connect(node, remote, "inbound")
    await check_identified(node, remote, connection)

    await node.swarm.listen([Multiaddr.parse("/ip4/127.0.0.1/tcp/0")])

    assert len(listening_addrs(node)) == 3
    await wait_until(partial(knows_addrs, remote, node))


async def test_we_hear_by_push_what_helia_begins_and_stops_to_serve(remotes: Remotes, node: Node) -> None:
    remote = remotes("helia-ed25519")
    connection = await connect(node, remote, "inbound")
    first = await node.identify.wait_identified(connection)

    def knows(*more: str) -> bool:
        facts = node.identify.facts(remote.peer_id)
        assert facts is not None
        assert (facts.agent_version, facts.listen_addrs) == (first.agent_version, first.listen_addrs)
        return set(facts.protocols) == {*first.protocols, *more}

    assert knows()
    await remote.call("handle", protocol="/test/theirs/1")
    await wait_until(lambda: knows("/test/theirs/1"))
    await remote.call("unhandle", protocol="/test/theirs/1")
    await wait_until(knows)
