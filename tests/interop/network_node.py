"""Nodes of ours for the tests with real peers.

`open_test_node` is the node as users have it: a home, its configuration, `open_node`. `open_stack` puts the same parts
together without one, where a test needs what no setting offers: handshakes that do not name muxers, or keep-alives
within a second.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey, generate_key
from ipvcs.node.network import mplex, yamux
from ipvcs.node.network.address_book import AddressBook
from ipvcs.node.network.identify import IdentifyService
from ipvcs.node.network.interface import Connection, Direction, PeerInfo
from ipvcs.node.network.keep_alive import KeepAlive
from ipvcs.node.network.limits import MIB, Resources
from ipvcs.node.network.mplex import MplexSession
from ipvcs.node.network.noise import NoiseSecurity
from ipvcs.node.network.ping import PingService
from ipvcs.node.network.security import SecureHandshake, SecurityProtocol
from ipvcs.node.network.swarm import Swarm
from ipvcs.node.network.tcp import TcpTransport
from ipvcs.node.network.tls import TlsSecurity
from ipvcs.node.network.upgrade import MuxerFactory, Upgrader
from ipvcs.node.network.yamux import YamuxSession
from ipvcs.node.node import Node, open_node
from ipvcs.storage.home import open_home
from tests.interop.remote import Remote, wait_until

LISTEN: Final = ("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0")
NOISE: Final = "/noise"
TLS: Final = "/tls/1.0.0"
YAMUX: Final = yamux.PROTOCOL_ID
MPLEX: Final = mplex.PROTOCOL_ID


@asynccontextmanager
async def open_test_node(
    path: Path, settings: Mapping[str, object] | None = None, key: PrivateKey | None = None
) -> AsyncGenerator[Node]:
    """Run a node whose new home is `path`, on free ports of both loopback addresses."""
    with open_home(path) as home:
        for name, value in (settings or {}).items():
            home.config.set(name, value)
        async with open_node(home, key or generate_key(), LISTEN) as node:
            yield node


def own_addr(node: "Node | Stack", version: int = 4) -> Multiaddr:
    """Return where a peer finds `node` over IPv4 or IPv6, with `/p2p`."""
    (addr,) = [addr for addr in node.swarm.listen_addresses() if addr.protocols[0] == f"ip{version}"]
    return Multiaddr.parse(f"{addr}/p2p/{node.peer_id}")


def book_of(node: "Node | Stack") -> AddressBook:
    """Return what `node` knows of where peers are."""
    return node.book if isinstance(node, Stack) else node.addresses.book


class SpiedSecurity:
    """A security protocol that remembers its handshakes."""

    def __init__(self, inner: SecurityProtocol) -> None:
        self._inner = inner
        self._handshakes: list[SecureHandshake] = []

    @property
    def protocol_id(self) -> str:
        return self._inner.protocol_id

    def start(self, *, initiator: bool, expected: PeerId | None) -> SecureHandshake:
        handshake = self._inner.start(initiator=initiator, expected=expected)
        self._handshakes.append(handshake)
        return handshake

    @property
    def early_muxers(self) -> list[str | None]:
        """What each finished handshake said of the muxer: its name, or None to negotiate one after it."""
        return [handshake.result.muxer for handshake in self._handshakes if handshake.result is not None]


@dataclass(frozen=True)
class Stack:
    """The services of a node; the names are those of `Node`."""

    swarm: Swarm
    book: AddressBook
    identify: IdentifyService
    ping: PingService
    security: SpiedSecurity
    transport: TcpTransport
    resources: Resources

    @property
    def peer_id(self) -> PeerId:
        return self.swarm.peer_id


@asynccontextmanager
async def open_stack(
    security: str = NOISE,
    muxers: Sequence[str] = (YAMUX, MPLEX),
    *,
    early: bool = True,
    keep_alive: KeepAlive | None = None,
    key: PrivateKey | None = None,
) -> AsyncGenerator[Stack]:
    """Run a swarm with identify and ping that speaks one security protocol and `muxers`.

    Args:
        security: `NOISE` or `TLS`.
        muxers: multiplexers, the preferred one first.
        early: whether handshakes name them, so that none need be negotiated afterwards.
        keep_alive: when connections ask whether the peer is there.
        key: who we are; a new Ed25519 key by default.
    """
    key = key or generate_key()
    resources = Resources()
    make_security = NoiseSecurity if security == NOISE else TlsSecurity
    spied = SpiedSecurity(make_security(key, tuple(muxers) if early else ()))
    upgrader = Upgrader(key.peer_id, [spied], {name: MUXERS[name] for name in muxers}, resources, keep_alive)
    book = AddressBook()
    transport = TcpTransport(upgrader, resources)
    swarm = Swarm(key.peer_id, [transport], resources, _NobodyKnown(), _NoNames())
    async with swarm, IdentifyService(swarm, key, book=book) as identify:
        swarm.watch(identify.announce)
        ping = PingService(swarm)
        await swarm.listen(map(Multiaddr.parse, LISTEN))
        yield Stack(swarm, book, identify, ping, spied, transport, resources)


async def connect(node: Node | Stack, remote: Remote, direction: Direction, version: int = 4) -> Connection:
    """Return a connection that we or they dialled, once both sides have it. `version` is that of IP."""
    if direction == "outbound":
        await node.swarm.connect(PeerInfo(remote.peer_id, (remote.addr,)), force=True)
    else:
        await remote.dial(own_addr(node, version))
    await wait_until(lambda: bool(node.swarm.connections(remote.peer_id)))
    await remote.wait_connected(node.peer_id)
    (connection,) = node.swarm.connections(remote.peer_id)
    assert connection.direction == direction
    return connection


async def ping(node: Node | Stack, remote: Remote) -> float:
    """Return the round-trip time of one ping to `remote`; fails without an answer."""
    async with node.ping.ping(remote.peer_id, count=1) as results:
        (result,) = [result async for result in results]
    assert result.rtt is not None, result.error
    return result.rtt


def _make_yamux(initiator: bool) -> YamuxSession:
    return YamuxSession(initiator=initiator, max_inbound_streams=1000, max_window=16 * MIB, window_growth=32 * MIB)


def _make_mplex(initiator: bool) -> MplexSession:
    return MplexSession(initiator=initiator, max_inbound_streams=1000)


MUXERS: Final[dict[str, MuxerFactory]] = {YAMUX: _make_yamux, MPLEX: _make_mplex}


class _NobodyKnown:
    def addrs(self, _peer_id: PeerId) -> Sequence[Multiaddr]:
        return ()


class _NoNames:
    async def resolve(self, addr: Multiaddr) -> list[Multiaddr]:
        return []
