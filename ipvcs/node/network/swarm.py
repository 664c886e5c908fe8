"""The swarm: all connections of a node, the dials that make them, and the streams on them. It is the `Host`.

    services ─► Swarm ─┬─ ConnectionTable   which connections stand (no I/O)
                       ├─ Dialer            makes outbound ones
                       ├─ Listening         takes inbound ones
                       └─ Transport …       TCP with an upgrade; a network in memory in tests

It lives as long as its `async with` block, and owns one task group: a task for each dial under way and each inbound
stream that is being served, nothing else.
"""

import logging
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

import anyio
from anyio import AsyncContextManagerMixin
from anyio.abc import TaskGroup

from ipvcs.errors import IpvcsError, LocalProtocolError, UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import dial_order, without_peer
from ipvcs.node.network.connection_table import ConnectionTable, Gater, OpenGate
from ipvcs.node.network.dial_race import ADDRESS_TIMEOUT, Resolver
from ipvcs.node.network.dialer import DIAL_TIMEOUT, MAX_DIALS, Dialer, DialSettings, KnownAddresses
from ipvcs.node.network.interface import (
    Admission,
    Connection,
    ConnectionOwner,
    Host,
    Notifiee,
    PeerInfo,
    Stream,
    StreamHandler,
    Transport,
)
from ipvcs.node.network.limits import Resources
from ipvcs.node.network.listening import Listening

_log = logging.getLogger(__name__)

GOODBYE_TIMEOUT: Final = 2.0
"""Seconds to say goodbye to everybody, in parallel: a daemon has five to end in."""

_EXPECTED: Final = (IpvcsError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, TimeoutError)
"""What a handler may end with because of its peer. A `LocalProtocolError`, though among them, is a bug."""


class Swarm(AsyncContextManagerMixin, Host):
    """See `Host` for what services use; the rest is for the node that builds it, and for the user's commands."""

    def __init__(
        self,
        peer_id: PeerId,
        transports: Sequence[Transport],
        resources: Resources,
        known: KnownAddresses,
        resolver: Resolver,
        *,
        gater: Gater | None = None,
        make_room: Callable[[], None] | None = None,
        expand: Callable[[Multiaddr], Iterable[Multiaddr]] = lambda addr: (addr,),
        order: Callable[[Iterable[Multiaddr]], list[Multiaddr]] = dial_order,
        dial_timeout: float = DIAL_TIMEOUT,
        address_timeout: float = ADDRESS_TIMEOUT,
        max_dials: int = MAX_DIALS,
    ) -> None:
        """Put a swarm together; it works from `async with` on.

        Args:
            peer_id: who we are; the transports prove it.
            transports: what connections are made with.
            resources: what may be held.
            known: where peers are.
            resolver: what names stand for.
            gater: whom to have to do with; None: everybody.
            make_room: called when a connection was refused because the table is full; begins to close idle ones and
                does not wait.
            expand: turns an address that we listen on into those it stands for, a wildcard into our interfaces'.
            order: puts a peer's addresses in the order to dial them.
            dial_timeout: seconds for all addresses of a peer.
            address_timeout: seconds for each.
            max_dials: how many addresses, of all peers, to dial at once.
        """
        gater = gater or OpenGate()
        self._peer_id = peer_id
        self._expand = expand
        self._table = ConnectionTable(peer_id, resources.limits, gater, make_room)
        self._listening = Listening(transports, self._accept)
        self._settings = DialSettings(
            peer_id=peer_id,
            transports=transports,
            owner=self,
            table=self._table,
            known=known,
            resolver=resolver,
            gater=gater,
            own_addrs=self.addresses,
            order=order,
            timeout=dial_timeout,
            address_timeout=address_timeout,
            max_dials=max_dials,
        )
        self._handlers: dict[str, StreamHandler] = {}
        self._admissions: dict[str, Admission] = {}
        self._watchers: list[Callable[[], None]] = []
        self._tasks: TaskGroup | None = None
        self._dialer: Dialer | None = None
        self.observed: Callable[[], Iterable[Multiaddr]] = tuple
        """Returns the confirmed addresses that others see us at; identify, which is built on the swarm, sets it."""

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._dialer = Dialer(self._settings, tasks)
            try:
                yield self
            finally:
                with anyio.CancelScope(shield=True):
                    await self.aclose()
                tasks.cancel_scope.cancel()
                self._tasks = None

    async def aclose(self) -> None:
        """Listen no more, end every dial, and say goodbye to everybody, for `GOODBYE_TIMEOUT` at most.

        What runs for streams that were open notices by their breaking, and is cancelled at the end of the block.
        """
        standing = self._table.close()
        if self._dialer is not None:
            self._dialer.aclose()
        with anyio.move_on_after(GOODBYE_TIMEOUT):
            await self._listening.aclose()
        await self._end(standing)

    # ---- who we are, what we serve, where ----

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""
        return self._peer_id

    def handle(self, protocol: str, handler: StreamHandler, *, admit: Admission | None = None) -> None:
        """Serve `protocol` from now on. Raises LocalProtocolError when it is served already."""
        if protocol in self._handlers:
            raise LocalProtocolError(f"'{protocol}' has a handler already")
        self._handlers[protocol] = handler
        if admit is not None:
            self._admissions[protocol] = admit
        self._changed()

    def unhandle(self, protocol: str) -> None:
        """Serve `protocol` no more. Streams that run are not touched."""
        self._admissions.pop(protocol, None)
        if self._handlers.pop(protocol, None) is not None:
            self._changed()

    def protocols(self) -> tuple[str, ...]:
        """What we serve, sorted."""
        return tuple(sorted(self._handlers))

    async def listen(self, addrs: Iterable[Multiaddr], *, any_port: bool = False) -> tuple[Multiaddr, ...]:
        """Listen on `addrs`, with `any_port` on a free port where one is taken. See `Listening.listen`."""
        if self._tasks is None:
            raise LocalProtocolError("the swarm is not running")
        try:
            return await self._listening.listen(addrs, any_port=any_port)
        finally:
            self._changed()

    def listen_addresses(self) -> tuple[Multiaddr, ...]:
        """Where we listen, a wildcard as it is."""
        return self._listening.addrs

    def interface_addresses(self) -> tuple[Multiaddr, ...]:
        """Where we listen, a wildcard once for each interface."""
        return tuple(dict.fromkeys(each for addr in self._listening.addrs for each in self._expand(addr)))

    def addresses(self) -> tuple[Multiaddr, ...]:
        """Where others may reach us: wildcards resolved to interfaces, plus confirmed observed addresses; no `/p2p`."""
        bare = (without_peer(addr, self._peer_id) for addr in (*self.interface_addresses(), *self.observed()))
        return tuple(dict.fromkeys(addr for addr in bare if addr is not None))

    def watch(self, callback: Callable[[], None]) -> None:
        """Call `callback`, which does not wait, whenever what we serve or where we listen has changed."""
        self._watchers.append(callback)

    def _changed(self) -> None:
        for callback in tuple(self._watchers):
            callback()

    # ---- connections ----

    def connections(self, peer_id: PeerId | None = None) -> Sequence[Connection]:
        """The live connections, to one peer or to all, oldest first."""
        return self._table.connections(peer_id)

    def subscribe(self, notifiee: Notifiee) -> None:
        """Tell `notifiee` of every connection from now on. Those that stand are told at once."""
        self._table.subscribe(notifiee)

    def unsubscribe(self, notifiee: Notifiee) -> None:
        """Tell `notifiee` of nothing more."""
        self._table.unsubscribe(notifiee)

    async def connect(self, peer: PeerInfo, *, force: bool = False, timeout: float | None = None) -> Connection:
        """Return a connection to `peer`: the oldest that stands, or a new one to the addresses given and known.

        Args:
            peer: whom, and where besides the addresses known.
            force: for a user's own command: dial what failed a moment ago, too.
            timeout: seconds for all addresses; None: as configured.

        Raises:
            DialError: no address worked; it tells each address and why.
            GatedError: we refuse to have to do with this peer.
            ConnectionLimitError: we have too many connections.
        """
        if (standing := self._table.oldest(peer.peer_id)) is not None:
            return standing
        return await self._running().dial(peer, force=force, timeout=timeout)

    async def open_stream(self, peer_id: PeerId, protocols: Sequence[str]) -> Stream:
        """Open a stream to `peer_id`, connecting first if need be; errors as `Connection.open_stream` and `connect`."""
        for connection in self._table.connections(peer_id):
            try:
                return await connection.open_stream(protocols)
            except UnavailableError as exc:  # it goes down, and we hear of it here first
                _log.debug("no stream on a connection to %s: %s", peer_id, exc)
        connection = await self._running().dial(PeerInfo(peer_id))
        return await connection.open_stream(protocols)

    async def disconnect(self, peer_id: PeerId) -> None:
        """End every connection to `peer_id`; waits `GOODBYE_TIMEOUT` at most."""
        await self._end(self._table.connections(peer_id))

    def _running(self) -> Dialer:
        if self._dialer is None:
            raise LocalProtocolError("the swarm is not running")
        return self._dialer

    async def _end(self, connections: Sequence[Connection]) -> None:
        with anyio.move_on_after(GOODBYE_TIMEOUT):
            async with anyio.create_task_group() as goodbyes:
                for connection in connections:
                    goodbyes.start_soon(connection.aclose)
        for connection in connections:
            self._table.remove(connection)  # if it did not manage to say so itself

    async def _accept(self, connection: Connection) -> ConnectionOwner | None:
        try:
            self._table.admit(connection)
        except IpvcsError as exc:
            _log.debug("refused a connection from %s at %s: %s", connection.remote_peer, connection.remote_addr, exc)
            return None
        return self

    # ---- ConnectionOwner ----

    def served_protocols(self) -> Collection[str]:
        """What inbound streams may ask for."""
        return self._handlers.keys()

    def on_closed(self, connection: Connection, reason: BaseException | None) -> None:
        """Forget `connection`."""
        if self._table.remove(connection) and reason is not None:
            _log.debug("lost a connection to %s: %s", connection.remote_peer, reason)

    def on_stream(self, stream: Stream) -> bool:
        """Start the handler of `stream`, unless the protocol's service does not admit it."""
        handler = self._handlers.get(stream.protocol)
        if handler is None or self._tasks is None:  # taken away since the peer was told that we serve it
            return False
        admit = self._admissions.get(stream.protocol)
        if admit is not None and not admit(stream.connection.remote_peer):
            return False
        self._tasks.start_soon(self._serve, stream, handler, name=f"serve {stream.protocol}")
        return True

    async def _serve(self, stream: Stream, handler: StreamHandler) -> None:
        served = False
        try:
            await handler(stream)
            await stream.aclose()
            served = True
        except Exception as exc:
            peer = stream.connection.remote_peer
            if _is_expected(exc):
                _log.debug("serving %s to %s ended: %s", stream.protocol, peer, _describe(exc))
            else:
                _log.exception("serving %s to %s failed", stream.protocol, peer)
        except BaseExceptionGroup as group:  # a handler with tasks of its own, cancelled while a peer's fault came
            _expected, rest = group.split(lambda exc: isinstance(exc, Exception) and _is_expected(exc))
            if rest is not None:
                raise rest from None
        finally:
            if not served:
                stream.reset()


def _is_expected(error: BaseException) -> bool:
    """Whether a peer or the network can have caused `error`; else it is a bug of ours."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_expected, error.exceptions))
    return isinstance(error, _EXPECTED) and not isinstance(error, LocalProtocolError)


def _describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(map(_describe, error.exceptions))
    return str(error) or type(error).__name__
