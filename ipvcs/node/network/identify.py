"""The identify service: who is at the other end, and telling others what we serve and where.

Every new connection is asked at once, whoever dialled. When our protocols or addresses change, those peers that speak
push are told. What a peer says is kept while it is connected (`PeerFacts`); its addresses go to the address book.

Non-goals: deciding which observed addresses to believe (the swarm's), and ending connections (nothing a peer says here
is a reason to).

Spec: https://github.com/libp2p/specs/blob/master/identify/README.md
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Self

from anyio import (
    AsyncContextManagerMixin,
    CancelScope,
    CapacityLimiter,
    EndOfStream,
    Event,
    Semaphore,
    create_task_group,
    current_time,
    move_on_after,
    sleep,
)
from anyio.abc import TaskGroup

from ipvcs import AGENT_VERSION
from ipvcs.errors import IpvcsError, UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network.address_book import AddressBook, Source
from ipvcs.node.network.identify_message import IdentifyMessage, IdentifyReader
from ipvcs.node.network.interface import DEAD_STREAM, Connection, Host, Stream
from ipvcs.node.network.own_description import OwnDescription
from ipvcs.node.network.peer_facts import PeerFacts, learn, observed_by
from ipvcs.node.network.token_bucket import TokenBucket

IDENTIFY: Final = "/ipfs/id/1.0.0"
PUSH: Final = "/ipfs/id/push/1.0.0"

TIMEOUT: Final = 5.0
"""Seconds for one exchange, from opening the stream to the last byte. As js-libp2p."""
INBOUND_AT_ONCE: Final = 64
"""Inbound connections asked at the same time; silent ones cost those behind them `TIMEOUT`. Peers that we dialled do
not wait for this."""
PUSHES_AT_ONCE: Final = 32
"""As go-libp2p and js-libp2p."""
PUSH_DELAY: Final = 0.3
"""Seconds from a change to the push: services come up in a row, and that is one change."""
PUSH_INTERVAL: Final = 2.0
"""Seconds from the end of a round of pushes to the start of the next: a service that flaps is no storm."""
INBOUND_PUSHES: Final = 10.0
INBOUND_PUSHES_PER_SECOND: Final = 0.2
"""What a peer may push at once and in the long run. A node that starts pushes a few times; each costs us a signature
check and its peers' tables a change."""
INBOUND_REQUESTS: Final = 20.0
INBOUND_REQUESTS_PER_SECOND: Final = 1.0
"""What a peer may ask at once and in the long run. Each connection asks once; a person may ask again by hand."""

_log = logging.getLogger(__name__)


class IdentifyError(UnavailableError):
    """A peer did not say who it is, or not in a way that we can take."""

    def __init__(self, peer_id: PeerId, reason: str) -> None:
        super().__init__(f"cannot identify peer '{peer_id}': {reason}")
        self.peer_id = peer_id


@dataclass(eq=False, slots=True)
class _Exchange:
    """One connection's identification."""

    done: Event = field(default_factory=Event)
    failure: str = ""


@dataclass(eq=False, slots=True)
class _Peer:
    """A connected peer."""

    pushes: TokenBucket
    requests: TokenBucket
    facts: PeerFacts | None = None
    told: int = 0
    """The version of our description that it was told last; 0: none."""
    exchanges: dict[Connection, _Exchange] = field(default_factory=dict)


class IdentifyService(AsyncContextManagerMixin):
    """Identifies peers while its `async with` block lasts. It is the host's notifiee itself."""

    def __init__(
        self,
        host: Host,
        private_key: PrivateKey,
        agent_version: str = AGENT_VERSION,
        *,
        book: AddressBook | None = None,
        on_facts: Callable[[Connection, PeerFacts], None] | None = None,
        on_observed: Callable[[Connection, Multiaddr], None] | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Make the service. The callbacks must neither wait nor raise.

        Args:
            host: whose connections are identified.
            private_key: signs our records.
            agent_version: what we call ourselves.
            book: takes in the peers' addresses, at times of `anyio.current_time`.
            on_facts: told each time that the peer of a connection has said something.
            on_observed: told where the other end of a connection sees us, without `/p2p`; unverified.
            wall_clock: seconds since 1970, for the sequence numbers of our records.
        """
        self._host = host
        self._description = OwnDescription(private_key, agent_version)
        self._book = book
        self._on_facts = on_facts
        self._on_observed = on_observed
        self._wall_clock = wall_clock
        self._peers: dict[PeerId, _Peer] = {}
        self._tasks: TaskGroup | None = None
        self._changed = Event()
        self._inbound = CapacityLimiter(INBOUND_AT_ONCE)

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with create_task_group() as tasks:
            self._tasks = tasks
            self._host.handle(IDENTIFY, self._serve, admit=self._may_ask)
            self._host.handle(PUSH, self._receive_push, admit=self._may_push)
            self._host.subscribe(self)
            tasks.start_soon(self._push_loop)
            try:
                yield self
            finally:
                self._tasks = None
                self._host.unhandle(IDENTIFY)
                self._host.unhandle(PUSH)
                tasks.cancel_scope.cancel()

    def facts(self, peer_id: PeerId) -> PeerFacts | None:
        """Return what `peer_id` said of itself; None when it is not connected or has not said it yet."""
        peer = self._peers.get(peer_id)
        return peer.facts if peer is not None else None

    async def wait_identified(self, connection: Connection, timeout: float = TIMEOUT) -> PeerFacts:
        """Wait until the peer at the other end of `connection` has said who it is.

        Raises:
            IdentifyError: it did not within `timeout` seconds, said something broken, or is gone.
        """
        peer_id = connection.remote_peer
        peer = self._peers.get(peer_id)
        exchange = peer.exchanges.get(connection) if peer is not None else None
        if peer is None or exchange is None:
            raise IdentifyError(peer_id, "it is not connected")
        with move_on_after(timeout):
            await exchange.done.wait()
        if peer.facts is None:
            raise IdentifyError(peer_id, exchange.failure or f"it said nothing within {timeout:g} seconds")
        return peer.facts

    def announce(self) -> None:
        """Say that our protocols or addresses may have changed: if they have, the peers are told soon."""
        self._changed.set()

    def connected(self, connection: Connection) -> None:
        """Identify the peer of a new connection."""
        if self._tasks is None:
            return
        peer = self._peers.get(connection.remote_peer)
        if peer is None:
            now = current_time()
            peer = self._peers[connection.remote_peer] = _Peer(
                pushes=TokenBucket(INBOUND_PUSHES, INBOUND_PUSHES_PER_SECOND, now),
                requests=TokenBucket(INBOUND_REQUESTS, INBOUND_REQUESTS_PER_SECOND, now),
            )
        exchange = peer.exchanges[connection] = _Exchange()
        self._tasks.start_soon(self._identify, connection, exchange)

    def disconnected(self, connection: Connection) -> None:
        """Forget a connection, and with its last one the peer."""
        peer = self._peers.get(connection.remote_peer)
        if peer is None or (exchange := peer.exchanges.pop(connection, None)) is None:
            return
        exchange.failure = exchange.failure or "the connection ended"
        exchange.done.set()
        if not peer.exchanges:
            del self._peers[connection.remote_peer]

    async def _identify(self, connection: Connection, exchange: _Exchange) -> None:
        try:
            if connection.direction == "inbound":
                async with self._inbound:
                    message = await _ask(connection)
            else:
                message = await _ask(connection)
            self._learn(connection, message, is_push=False)
        except (IpvcsError, *DEAD_STREAM) as exc:
            exchange.failure = exchange.failure or str(exc) or "the stream broke"
            _log.debug("cannot identify %s: %s", connection.remote_peer, exchange.failure)
        finally:
            exchange.done.set()

    def _learn(self, connection: Connection, message: IdentifyMessage, *, is_push: bool) -> None:
        peer = self._peers.get(connection.remote_peer)
        if peer is None or connection not in peer.exchanges:
            return  # it left while we listened
        peer_id = connection.remote_peer
        own_id = connection.local_peer
        lesson = learn(message, peer_id, connection.remote_addr, peer.facts, own_id=own_id, is_push=is_push)
        facts = peer.facts = lesson.facts
        if self._book is not None and lesson.addrs is not None:
            if lesson.record_seq is None:
                self._book.add(peer_id, lesson.addrs, Source.ADVERTISED, current_time())
            else:
                self._book.set_record(peer_id, lesson.record_seq, lesson.addrs, current_time())
        if self._on_facts is not None:
            self._on_facts(connection, facts)
        if self._on_observed is not None and (observed := observed_by(message, own_id)) is not None:
            self._on_observed(connection, observed)
        if not is_push and 0 < peer.told < self._description.version and facts.speaks(PUSH):
            self._changed.set()  # it asked before the last change, and the round of pushes did not know it yet

    def _may_ask(self, peer_id: PeerId) -> bool:
        peer = self._peers.get(peer_id)
        return peer is None or peer.requests.take(current_time())

    def _may_push(self, peer_id: PeerId) -> bool:
        peer = self._peers.get(peer_id)
        return peer is not None and peer.pushes.take(current_time())

    async def _serve(self, stream: Stream) -> None:
        """Answer one identify request."""
        self._refresh()
        version = self._description.version
        told = await self._tell(stream, current_time() + TIMEOUT)
        if told and (peer := self._peers.get(stream.connection.remote_peer)) is not None:
            peer.told = max(peer.told, version)

    async def _receive_push(self, stream: Stream) -> None:
        """Take what a peer tells us unasked."""
        connection = stream.connection
        try:
            message = await _read_message(stream, current_time() + TIMEOUT)
            self._learn(connection, message, is_push=True)
        except (IpvcsError, *DEAD_STREAM) as exc:
            _log.debug("bad push from %s: %s", connection.remote_peer, exc)
            stream.reset()

    async def _push_loop(self) -> None:
        while True:
            await self._changed.wait()
            await sleep(PUSH_DELAY)
            self._changed = Event()
            self._refresh()
            await self._push_to_all()
            await sleep(PUSH_INTERVAL)

    async def _push_to_all(self) -> None:
        slots = Semaphore(PUSHES_AT_ONCE)
        async with create_task_group() as tasks:
            for peer in list(self._peers.values()):
                if peer.told < self._description.version and peer.facts is not None and peer.facts.speaks(PUSH):
                    await slots.acquire()
                    tasks.start_soon(self._push, peer, slots)

    async def _push(self, peer: _Peer, slots: Semaphore) -> None:
        """Push over one of the peer's connections. A failure is left at that until the next change."""
        try:
            for connection in peer.exchanges:
                if not connection.is_closed:
                    break
            else:
                return
            deadline = current_time() + TIMEOUT
            stream = await _open_stream(connection, PUSH, deadline)
            version = self._description.version
            if await self._tell(stream, deadline):
                await stream.aclose()
                peer.told = max(peer.told, version)
        except (IpvcsError, *DEAD_STREAM) as exc:
            _log.debug("cannot push to a peer: %s", exc)
        finally:
            slots.release()

    async def _tell(self, stream: Stream, deadline: float) -> bool:
        """Send our description and end our side. False, and the stream is reset, when the peer did not take it."""
        connection = stream.connection
        with CancelScope(deadline=deadline), suppress(*DEAD_STREAM):
            await stream.send(self._description.encode_for(connection.local_addr, connection.remote_addr))
            await stream.send_eof()
            return True
        stream.reset()
        return False

    def _refresh(self) -> None:
        self._description.update(self._host.protocols(), self._host.addresses(), self._wall_clock())


async def _ask(connection: Connection) -> IdentifyMessage:
    deadline = current_time() + TIMEOUT
    return await _read_message(await _open_stream(connection, IDENTIFY, deadline), deadline)


async def _open_stream(connection: Connection, protocol: str, deadline: float) -> Stream:
    with CancelScope(deadline=deadline):
        return await connection.open_stream([protocol])
    raise IdentifyError(connection.remote_peer, f"no stream could be opened within {TIMEOUT:g} seconds")


async def _read_message(stream: Stream, deadline: float) -> IdentifyMessage:
    """Read a whole message, in its parts, and be done with the stream."""
    reader = IdentifyReader()
    try:
        with CancelScope(deadline=deadline) as scope, suppress(EndOfStream):
            while True:
                reader.receive_data(await stream.receive())
        if scope.cancelled_caught and not reader.is_whole:  # else it only forgot to end its side
            raise IdentifyError(stream.connection.remote_peer, f"its message did not arrive within {TIMEOUT:g} seconds")
        message = reader.finish()
    except BaseException:
        stream.reset()
        raise
    await stream.aclose()
    return message
