"""The Bitswap service: messages in, messages out, and the sessions and the engine between them.

    streams of peers ─► MessageReader ─► decode ─┬─ wants ──► Engine ──► Answering ─► a stream to the peer
                                                 ├─ blocks ─► Verifier (threads) ─► sessions ─► fetches
                                                 └─ presences ──────────────────────► sessions
    sessions ─► wantlists ─► Telling ─► a stream to the peer

One task reads each inbound stream, and goes on reading while the blocks of the message before are verified.
A peer that sends a block that it was never asked for has made it up, or answers with something else than was asked for:
its connections end and it is not asked again for an hour.

Spec: https://specs.ipfs.tech/bitswap-protocol/
"""

import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

import anyio
from anyio import AsyncContextManagerMixin
from anyio.abc import TaskGroup

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.answering import Answering
from ipvcs.node.exchange.engine import Engine
from ipvcs.node.exchange.fetch_session import BlockSession, Providers
from ipvcs.node.exchange.ledger import Ledger, Ledgers
from ipvcs.node.exchange.local_blocks import LocalBlocks
from ipvcs.node.exchange.message_reader import MessageReader
from ipvcs.node.exchange.messages import (
    PROTOCOLS,
    Message,
    decode,
)
from ipvcs.node.exchange.peer import ExchangePeer, WrongBlockError
from ipvcs.node.exchange.stat import BitswapStat
from ipvcs.node.exchange.telling import Telling
from ipvcs.node.exchange.verifier import Delivery, Verifier
from ipvcs.node.exchange.wantlist import PeerWantlist
from ipvcs.node.network.interface import Connection, Host, Stream
from ipvcs.node.network.message_budget import MessageBudget
from ipvcs.storage.interface import BlockWriting

MAX_INBOUND: Final = 16
"""Streams of one peer that are served at once. The others wait for their turn, and the network bounds how many: Kubo
opens one for each message and closes it at once, so hundreds may be here unread; no block of theirs is sent again."""
TURN_TIMEOUT: Final = 60.0
"""Seconds that a stream waits for its turn: twice what a message of a usual size may take."""
TICK: Final = 0.25
"""Seconds between looks at what only time changes: silent peers, and blocks that other processes stored."""
REFUSED_FOR: Final = 3600.0
"""Seconds for which a peer that sent a wrong block is not dealt with."""
MAX_REFUSED: Final = 10_000
_ASKED_BEFORE: Final = 1024
_LEFT: Final = 64
"""What the last `_LEFT` peers to leave were asked last is remembered: as much as a peer keeps of a wantlist."""

_log = logging.getLogger(__name__)


class BitswapService(AsyncContextManagerMixin):
    """Fetches and serves blocks within its `async with` block. See `Exchange`."""

    def __init__(
        self,
        host: Host,
        local: LocalBlocks,
        ledgers: Ledgers,
        engine: Engine,
        providers: Providers,
        *,
        wall: Callable[[], float],
        last_commit: Callable[[], int],
        serve: bool = True,
    ) -> None:
        """Put the service together; it works from `async with` on.

        Args:
            host: the network.
            local: the home's store.
            ledgers: what went to and fro; the engine has the same.
            engine: whom to serve what.
            providers: finds and connects providers.
            wall: seconds since 1970, for the ledgers.
            last_commit: the number of the store's last transaction, of whatever process: when it has changed, blocks
                that peers wait for may have come.
            serve: whether peers are sent blocks; else they are told that we have none.
        """
        self._host = host
        self._local = local
        self._ledgers = ledgers
        self._engine = engine
        self._providers = providers
        self._wall = wall
        self._last_commit = last_commit
        self._serves = serve
        self._peers: dict[PeerId, ExchangePeer] = {}
        self._refused: OrderedDict[PeerId, float] = OrderedDict()
        self._asked_before: OrderedDict[PeerId, list[bytes]] = OrderedDict()
        """What peers that left were asked: one that did not see its old connection end may answer on the new one."""
        self._sessions: dict[int, BlockSession] = {}
        self._next_session = 1
        self._wanted: dict[bytes, dict[BlockSession, Cid]] = {}
        """By multihash, who waits for a block, and under which CID. Threads look into it."""
        self._budget = MessageBudget()
        self._tasks: TaskGroup | None = None
        self._answering = Answering(engine, local, self._peers, wall)
        self._telling = Telling(self._peers, self._without)
        self._verifier = Verifier(local, self._wanted, self._delivered)
        self._seen_commit = 0
        """The number of the store's transaction at which blocks that peers wait for were looked for last."""
        self._messages = self._blocks = self._bytes = self._duplicates = self._duplicate_bytes = 0

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with anyio.create_task_group() as tasks:
            self._tasks = self._answering.tasks = self._telling.tasks = self._verifier.tasks = tasks
            for protocol in PROTOCOLS:
                self._host.handle(protocol, self._serve)
            self._host.subscribe(self)
            tasks.start_soon(self._tick)
            try:
                yield self
            finally:
                for protocol in PROTOCOLS:
                    self._host.unhandle(protocol)
                self._tasks = self._answering.tasks = self._telling.tasks = self._verifier.tasks = None
                tasks.cancel_scope.cancel()

    # ---- Exchange ----

    @asynccontextmanager
    async def session(self, root: Cid, writer: BlockWriting) -> AsyncGenerator[BlockSession]:
        """Open a session. See `Exchange.session`."""
        number = self._next_session
        self._next_session += 1
        session = BlockSession(number, root, writer, self)
        self._sessions[number] = session
        now = anyio.current_time()
        for peer_id in self._candidates():
            session.strategy.connected(peer_id, now)
        if (tasks := self._tasks) is not None:
            session.start_search = lambda cid: tasks.start_soon(self._providers.search, session, cid)
        try:
            yield session
        finally:
            session.close()
            del self._sessions[number]
            self._telling.start()

    def _candidates(self) -> list[PeerId]:
        """Return whom a session may ask: those that have given us most lately first."""
        peers = [peer.peer_id for peer in self._peers.values() if peer.speaks_bitswap]
        return sorted(peers, key=lambda peer_id: -self._ledgers.get(peer_id).bytes_received)

    # ---- for sessions ----

    def wantlist_of(self, peer_id: PeerId) -> PeerWantlist:
        """Return the wantlist of a connected peer, which may change now."""
        peer = self._peers[peer_id]
        self._telling.touch(peer)
        return peer.wantlist

    def can_ask(self, peer_id: PeerId) -> bool:
        """Whether `peer_id` is connected, speaks Bitswap and is not known for wrong blocks."""
        peer = self._peers.get(peer_id)
        return peer is not None and peer.speaks_bitswap

    def is_connected(self) -> bool:
        """Whether there is anybody at all, who may know providers."""
        return bool(self._host.connections())

    def wants(self, session: BlockSession, cid: Cid) -> None:
        """`session` waits for `cid`."""
        self._wanted.setdefault(cid.multihash, {})[session] = cid

    def unwants(self, session: BlockSession, cid: Cid) -> None:
        """It does not any more."""
        key = cid.multihash
        if (holders := self._wanted.get(key)) is not None:
            holders.pop(session, None)
            if not holders:
                del self._wanted[key]

    def pump(self, sessions: Iterable[BlockSession]) -> None:
        """Let `sessions` ask for what they want, and tell peers."""
        now = anyio.current_time()
        for session in sessions:
            session.strategy.pump(now)
            session.maybe_search(now)
        self._telling.start()

    # ---- for people ----

    def stat(self) -> BitswapStat:
        """Return what went to and fro since the start."""
        return BitswapStat(
            wantlist=tuple(self.wantlist()),
            peers=tuple(sorted(self._peers)),
            blocks_received=self._blocks,
            data_received=self._bytes,
            dup_blocks_received=self._duplicates,
            dup_data_received=self._duplicate_bytes,
            blocks_sent=self._answering.blocks,
            data_sent=self._answering.bytes,
            messages_received=self._messages,
            messages_sent=self._answering.messages,
        )

    def ledger(self, peer_id: PeerId) -> Ledger:
        """Return what went to and fro between `peer_id` and us."""
        return self._ledgers.get(peer_id)

    def wantlist(self, peer_id: PeerId | None = None) -> Sequence[Cid]:
        """Return what we want, or what `peer_id` wants of us."""
        if peer_id is not None:
            return [entry.cid for entry in self._engine.wants_of(peer_id)]
        return list(dict.fromkeys(cid for holders in self._wanted.values() for cid in holders.values()))

    # ---- Notifiee ----

    def connected(self, connection: Connection) -> None:
        """A peer can be asked, unless it is known for wrong blocks."""
        peer_id = connection.remote_peer
        if self._is_refused(peer_id):
            if self._tasks is not None:
                self._tasks.start_soon(connection.aclose)
            return
        if peer_id in self._peers:
            return
        self._peers[peer_id] = ExchangePeer(self._host, peer_id, MAX_INBOUND, self._asked_before.pop(peer_id, ()))
        self._engine.connected(peer_id)
        now = anyio.current_time()
        for session in self._sessions.values():
            session.strategy.connected(peer_id, now)
        if self._sessions and self._tasks is not None:
            self.pump(self._sessions.values())

    def disconnected(self, connection: Connection) -> None:
        """When it was the last connection, the peer and we forget what was wanted."""
        if not self._host.connections(connection.remote_peer):
            self._forget(connection.remote_peer)

    def _forget(self, peer_id: PeerId) -> None:
        if (peer := self._peers.pop(peer_id, None)) is None:
            return
        if asked := peer.last_asked(_ASKED_BEFORE):
            self._asked_before[peer_id] = asked
            if len(self._asked_before) > _LEFT:
                self._asked_before.popitem(last=False)
        self._engine.disconnected(peer_id)
        self._without(peer_id)

    def _without(self, peer_id: PeerId) -> None:
        """Let sessions ask others than `peer_id`."""
        for session in self._sessions.values():
            session.strategy.disconnected(peer_id)
        if self._sessions and self._tasks is not None:
            self.pump(self._sessions.values())

    def _is_refused(self, peer_id: PeerId) -> bool:
        until = self._refused.get(peer_id)
        if until is not None and until <= anyio.current_time():
            del self._refused[peer_id]
            return False
        return until is not None

    async def _refuse(self, peer_id: PeerId, reason: IpvcsError) -> None:
        _log.warning("ending the connection to a peer for %d s: %s", REFUSED_FOR, reason)
        self._refused[peer_id] = anyio.current_time() + REFUSED_FOR
        if len(self._refused) > MAX_REFUSED:
            self._refused.popitem(last=False)
        self._forget(peer_id)
        for connection in self._host.connections(peer_id):
            await connection.aclose()

    # ---- receiving ----

    async def _serve(self, stream: Stream) -> None:
        peer_id = stream.connection.remote_peer
        if (peer := self._peers.get(peer_id)) is None:
            stream.reset()
            return
        with anyio.move_on_after(TURN_TIMEOUT) as waiting:
            await peer.turns.acquire()
        if waiting.cancelled_caught:
            stream.reset()
            return
        reader = MessageReader(
            stream,
            self._budget,
            is_asked=lambda: peer.was_asked_anything,
            on_bytes=lambda: self._on_bytes(peer_id),
        )
        last: Delivery | None = None
        try:
            while True:
                await self._verifier.room()
                try:
                    data = await reader.receive()
                except anyio.EndOfStream:
                    break
                last = await self._take(peer, data, last)
            if last is not None:
                await last.wait()
        except WrongBlockError as exc:
            await self._refuse(peer_id, exc)
            stream.reset()
        finally:
            peer.turns.release()

    def _on_bytes(self, peer_id: PeerId) -> None:
        now = anyio.current_time()
        for session in self._sessions.values():
            session.strategy.active(peer_id, now)

    async def _take(self, peer: ExchangePeer, data: bytes, last: Delivery | None) -> Delivery | None:
        """Take one message; return what of it is being verified, after `last`, which came before it, has been."""
        self._messages += 1
        message = decode(data)
        if message.wants or message.full:
            await self._take_wants(peer, message)
        if message.haves or message.dont_haves:
            self._take_presences(peer, message)
        if not message.blocks:
            return last
        if not peer.was_asked_anything:
            raise WrongBlockError(peer.peer_id, None)
        if last is not None:
            await last.wait()
        delivery = Delivery(peer, message.blocks)
        self._verifier.submit(delivery)
        return delivery

    async def _take_wants(self, peer: ExchangePeer, message: Message) -> None:
        wanted = [entry.cid for entry in message.wants if not entry.cancel]
        before = self._last_commit()
        sizes = await self._local.sizes(wanted) if self._serves else {}
        self._seen_commit = min(self._seen_commit, before)  # what came meanwhile is looked for with these wants
        self._engine.receive_wants(peer.peer_id, message.wants, full=message.full, sizes=sizes, now=self._wall())
        self._answering.start()

    def _delivered(self, deliveries: Sequence[Delivery]) -> None:
        """Tell sessions of blocks that were verified and stored for them."""
        now = anyio.current_time()
        changed: dict[BlockSession, None] = {}
        for delivery in deliveries:
            peer = delivery.peer
            counted: dict[bytes, int] = {}
            again: dict[bytes, int] = {}
            for session, arrival in delivery.arrivals:
                if self._peers.get(peer.peer_id) is peer:
                    self._telling.touch(peer)
                    peer.wantlist.fulfilled(session.number, arrival.cid)
                if session.arrived(peer.peer_id, arrival, now):
                    counted[arrival.cid.multihash] = arrival.size
                    changed[session] = None
                else:
                    again[arrival.cid.multihash] = arrival.size
            for key in again.keys() - counted.keys():  # came twice; not if another session still wanted it
                delivery.duplicates += 1
                delivery.duplicate_bytes += again[key]
            size = sum(counted.values())
            self._blocks += len(counted) + delivery.duplicates
            self._bytes += size + delivery.duplicate_bytes
            self._duplicates += delivery.duplicates
            self._duplicate_bytes += delivery.duplicate_bytes
            if counted:
                self._ledgers.received(peer.peer_id, size, self._wall(), blocks=len(counted))
        self.pump(changed)

    def _take_presences(self, peer: ExchangePeer, message: Message) -> None:
        now = anyio.current_time()
        changed: dict[BlockSession, None] = {}
        for cids, is_there in ((message.haves, True), (message.dont_haves, False)):
            for cid in cids:
                for session, wanted in self._wanted.get(cid.multihash, {}).items():
                    if is_there:
                        session.strategy.have(peer.peer_id, wanted, now)
                    else:
                        session.strategy.dont_have(peer.peer_id, wanted, now)
                    changed[session] = None
        self.pump(changed)

    # ---- time ----

    async def _tick(self) -> None:
        """Look after what only time changes."""
        self._seen_commit = self._last_commit()
        while True:
            await anyio.sleep(TICK)
            if self._sessions:
                self.pump(self._sessions.values())
            commit = self._last_commit()
            seen, self._seen_commit = self._seen_commit, commit
            if commit != seen and self._serves and self._engine.waiting():
                keys = set(self._engine.waiting())
                try:
                    sizes = await self._local.run(lambda keys=keys: self._local.store.sizes(keys))  # type: ignore[misc]
                except IpvcsError as exc:  # a disk in trouble: who reads next is told; it is no reason to end
                    _log.warning("cannot look for blocks that peers wait for: %s", exc)
                else:
                    self._engine.blocks_arrived(sizes, self._wall())
            self._answering.start()
            for peer in tuple(self._peers.values()):
                if peer.speaks_bitswap and peer.retry_at is not None and peer.retry_at <= anyio.current_time():
                    peer.retry_at = None
                    for session in self._sessions.values():
                        session.strategy.connected(peer.peer_id, anyio.current_time())
                for outbound in (peer.wants_out, peer.answers_out):
                    if outbound.is_resting:
                        await outbound.aclose()
