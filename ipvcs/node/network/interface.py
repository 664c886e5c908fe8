"""What the network offers to the chapters above it, and the two seams inside it.

Above: services see a `Host`, which connects to peers and opens and serves `Stream`s. Inside: a `Transport` makes
`Connection`s for the swarm, whatever it is made of (TCP with an upgrade today; QUIC brings its own security and
streams), and tests put a network in memory behind the same interface.
"""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from anyio import BrokenResourceError, ClosedResourceError
from anyio.abc import ByteStream

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PublicKey

Buffer: TypeAlias = bytes | bytearray | memoryview
Direction: TypeAlias = Literal["inbound", "outbound"]


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A peer and where it may be reached, best address first; addresses carry no `/p2p` of the peer itself."""

    peer_id: PeerId
    addrs: tuple[Multiaddr, ...] = ()


DEAD_STREAM: Final = (BrokenResourceError, ClosedResourceError)
"""What using a stream raises once it is gone, whoever did it. Its proper end, `EndOfStream`, is not among them."""


class Stream(ByteStream):
    """One negotiated stream: bytes both ways, in order, each side ended on its own.

    `receive` and `send` raise anyio's ClosedResourceError after our own `aclose` or `reset`, BrokenResourceError when
    the peer reset the stream or the connection died, and `receive` EndOfStream when the peer ended its side. One task
    may receive while another sends; two tasks must not do the same thing at once.
    """

    protocol: str
    """What was agreed on, as `/ipfs/ping/1.0.0`."""
    connection: "Connection"
    direction: Direction
    """Who opened it."""

    @abstractmethod
    async def receive(self, max_bytes: int = 65536) -> bytes:
        """Return at least one byte and at most `max_bytes`. Cancelling loses nothing."""

    @abstractmethod
    async def receive_chunk(self) -> Buffer:
        """Return whatever arrived next, at least a byte, without copying it: a read-only view that stays valid."""

    @abstractmethod
    async def send(self, item: Buffer) -> None:
        """Send all of `item`, which must not change until this returns; waits while the peer's window or the
        connection is full. Cancelling may have sent a part of it.
        """

    @abstractmethod
    async def send_eof(self) -> None:
        """End our side: the peer reads EndOfStream after what was sent. Reading goes on. Twice is as good as once."""

    @abstractmethod
    async def aclose(self) -> None:
        """End our side and stop reading; what the peer still sends is dropped. Never waits for the peer."""

    @abstractmethod
    def reset(self) -> None:
        """Abandon both directions at once: the peer sees a broken stream. After `aclose` or a reset: nothing."""


StreamHandler: TypeAlias = Callable[[Stream], Awaitable[None]]
"""Serves one inbound stream. The stream is closed when it returns and reset when it raises."""


Admission: TypeAlias = Callable[[PeerId], bool]
"""Tells whether a peer may have one more stream served: then the handler gets one. False: that stream is refused, and a
peer to whom that happens all the time loses the connection."""


class Connection(Protocol):
    """A secured, multiplexed connection to one peer, whose id is proved."""

    @property
    def local_peer(self) -> PeerId:
        """Who we are on it."""

    @property
    def remote_peer(self) -> PeerId:
        """Who the other side proved to be."""

    @property
    def remote_key(self) -> PublicKey:
        """The key it proved that with."""

    @property
    def local_addr(self) -> Multiaddr:
        """Our end, without `/p2p`."""

    @property
    def remote_addr(self) -> Multiaddr:
        """Their end, without `/p2p`: where we dialled, or where they came from."""

    @property
    def direction(self) -> Direction:
        """Who dialled."""

    @property
    def security(self) -> str:
        """The protocol that secures it, as `/noise`."""

    @property
    def muxer(self) -> str:
        """The protocol that multiplexes it, as `/yamux/1.0.0`."""

    @property
    def opened(self) -> float:
        """When it stood, on the clock of `anyio.current_time`."""

    @property
    def last_used(self) -> float:
        """When its last stream ended, on the same clock; `opened` before that."""

    @property
    def rtt(self) -> float | None:
        """Seconds of a round trip as last measured, None before that."""

    @property
    def streams(self) -> Collection[Stream]:
        """The live streams, both directions."""

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, on either side's initiative."""

    async def open_stream(self, protocols: Sequence[str], *, lazy: bool = False) -> Stream:
        """Open a stream and agree on one of `protocols`, in order of preference.

        `lazy`, with one protocol that the peer is known to speak, does not wait for its answer: the first data travels
        with the proposal, and a refusal shows at the first `receive` as a BrokenResourceError.

        Raises:
            ProtocolNotSupportedError: the peer speaks none of them.
            LimitError: too many streams are open.
            UnavailableError: the connection is or goes down.
        """

    async def aclose(self) -> None:
        """Tell the peer that we leave, as far as it listens, and end everything."""

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""


class ConnectionOwner(Protocol):
    """What a transport tells its connections' owner, the swarm. Neither call waits."""

    def on_stream(self, stream: Stream) -> bool:
        """The peer opened `stream` and agreed on a protocol we serve: find its handler and start it.

        False: it is not to be served. It is reset, and a peer to whom that happens all the time loses the connection.
        """

    def on_closed(self, connection: Connection, reason: BaseException | None) -> None:
        """`connection` ended: `reason` is None when we or the peer said goodbye."""

    def served_protocols(self) -> Collection[str]:
        """What inbound streams may ask for."""


class Listener(Protocol):
    """One bound address."""

    @property
    def addrs(self) -> Sequence[Multiaddr]:
        """Where it listens, the port resolved, a wildcard as it is."""

    async def aclose(self) -> None:
        """Accept nothing more. Connections that stand are not touched."""


AcceptCallback: TypeAlias = Callable[[Connection], Awaitable[ConnectionOwner | None]]
"""Decides about an inbound connection that stands: its owner, or None to end it."""


class Transport(Protocol):
    """A way to make connections, upgrade included.

    Spec: https://github.com/libp2p/specs/blob/master/connections/README.md
    """

    def can_dial(self, addr: Multiaddr) -> bool:
        """Tell whether `addr`, resolved, is of this transport's kind."""

    async def dial(self, addr: Multiaddr, peer_id: PeerId | None, owner: ConnectionOwner) -> Connection:
        """Connect to `addr`, secure and multiplex. The caller sets the deadline; cancelling leaves nothing behind.

        Raises:
            DialError: refused, unreachable, or the handshake failed.
            PeerMismatchError: somebody else than `peer_id` answered; nothing was sent to them.
        """

    async def listen(self, addr: Multiaddr, accept: AcceptCallback) -> Listener:
        """Bind `addr`; every connection that finishes its handshake in time is offered to `accept`.

        Raises:
            ListenError: in use, not permitted, or no such address here.
        """


class Notifiee(Protocol):
    """Hears of connections. Calls must not wait and must not raise."""

    def connected(self, connection: Connection) -> None:
        """`connection` stands."""

    def disconnected(self, connection: Connection) -> None:
        """`connection` ended."""


class Host(Protocol):
    """What services need of the network: the swarm, or a fake of it."""

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""

    def handle(self, protocol: str, handler: StreamHandler, *, admit: Admission | None = None) -> None:
        """Serve `protocol` from now on; identify tells the peers.

        `admit`, if there is one, decides about each stream before a task is started for it, so that a flood of them
        costs little. It must neither wait nor raise.
        """

    def unhandle(self, protocol: str) -> None:
        """Serve it no more. Streams that run are not touched."""

    def protocols(self) -> tuple[str, ...]:
        """What we serve, sorted."""

    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others may reach us: wildcards resolved to interfaces, plus confirmed observed addresses; no `/p2p`."""

    def connections(self, peer_id: PeerId | None = None) -> Sequence["Connection"]:
        """The live connections, to one peer or to all, oldest first."""

    async def connect(self, peer: PeerInfo) -> Connection:
        """Return a connection to `peer`: one that stands, or a new one to the addresses given and known.

        Raises:
            DialError: no address worked; it tells each address and why.
            GatedError: we refuse to have to do with this peer.
        """

    async def open_stream(self, peer_id: PeerId, protocols: Sequence[str]) -> Stream:
        """Open a stream to `peer_id`, connecting first if need be; errors as `Connection.open_stream` and `connect`."""

    def subscribe(self, notifiee: Notifiee) -> None:
        """Tell `notifiee` of every connection from now on. Those that stand are told at once."""
