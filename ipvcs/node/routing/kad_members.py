"""Who is in the routing table, and keeping it that way.

    identify says a peer serves the DHT ─► it is asked once ─► it answers ─► offered to the table
    a full bucket questions a place     ─► that one is asked ─► stays or goes
    a first peer, few peers, 10 minutes ─► look up ourselves, and every bucket that nobody looked into lately

What connected peers say of themselves is kept while they are connected: clients are found through us as well.
"""

import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

from anyio import (
    AsyncContextManagerMixin,
    CapacityLimiter,
    Event,
    create_task_group,
    current_time,
    move_on_after,
    sleep,
)
from anyio.abc import TaskGroup

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import Connection, Host, PeerInfo
from ipvcs.node.network.peer_facts import PeerFacts
from ipvcs.node.routing.diversity import groups_of
from ipvcs.node.routing.interface import NoRoutingPeersError
from ipvcs.node.routing.kad_message import KadMessage, MessageType
from ipvcs.node.routing.kad_profile import KadProfile
from ipvcs.node.routing.kad_query import Queries
from ipvcs.node.routing.kad_rpc import KEEP_IDLE, KadRpc
from ipvcs.node.routing.keyspace import Point, key_near, point_of
from ipvcs.node.routing.lookup import BETA, Lookup
from ipvcs.node.routing.routing_table import REFRESH_INTERVAL, K, RoutingTable

CHECKS_AT_ONCE: Final = 8
MAX_CHECKS: Final = 256
"""Peers that are or wait to be asked for the table's sake; further ones have to be met again."""
FIRST_PEER_TIMEOUT: Final = 5.0
"""Seconds that an operation waits for the first peer to answer, if one is being asked: right after the start."""
QUIET_INTERVAL: Final = 10.0
"""Seconds between two rounds of refreshing: newcomers to a small table start one early, but not one each."""

_log = logging.getLogger(__name__)


class Members(AsyncContextManagerMixin):
    """Fills the table of one DHT while its `async with` block lasts."""

    def __init__(
        self,
        host: Host,
        profile: KadProfile,
        known: Callable[[PeerId], Sequence[Multiaddr]],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._host = host
        self._profile = profile
        self._known = known
        self._random_bytes = random_bytes
        self.table = RoutingTable(host.peer_id)
        self.rpc = KadRpc(host, profile.protocol)
        self.queries = Queries(host, profile, self.table, self.rpc, self._on_alive)
        self._facts: dict[PeerId, PeerFacts] = {}
        self._checks: set[PeerId] = set()
        self._check_slots = CapacityLimiter(CHECKS_AT_ONCE)
        self._check_done = Event()
        self._newcomer = Event()
        self.tasks: TaskGroup | None = None
        """Where background work of the DHT runs; None outside of the block."""

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        async with create_task_group() as tasks:
            self.tasks = tasks
            tasks.start_soon(self._keep_fresh)
            tasks.start_soon(self._drop_idle_streams)
            try:
                yield self
            finally:
                self.tasks = None
                tasks.cancel_scope.cancel()
                self.rpc.drop_idle()
                self._facts.clear()

    # ---- what is heard ----

    def identified(self, connection: Connection, facts: PeerFacts) -> None:
        """Note what a connected peer says of itself."""
        peer_id = connection.remote_peer
        if self.tasks is None or connection.is_closed:
            return
        self._facts[peer_id] = facts
        if not facts.speaks(self._profile.protocol):
            self.table.remove(peer_id)
        elif peer_id in self.table:
            self.table.update(self._described(peer_id))
        elif self._profile.accepts_remote(connection.remote_addr):
            self._check(peer_id)

    def disconnected(self, connection: Connection) -> None:
        """Forget what a peer said, with its last connection. Its place in the table is not touched."""
        peer_id = connection.remote_peer
        if not any(each is not connection for each in self._host.connections(peer_id)):
            self._facts.pop(peer_id, None)
            self.rpc.drop_idle(peer_id)

    # ---- what is known ----

    def find_known(self, peer_id: PeerId) -> PeerInfo | None:
        """Return a peer that we are connected to or met before, with addresses; None when there is none."""
        addrs = self._described(peer_id).addrs
        if not addrs and (known := self.table.get(peer_id)) is not None:
            addrs = known.addrs
        addrs = addrs or tuple(self._known(peer_id))
        return PeerInfo(peer_id, addrs) if addrs else None

    def connected(self, peer_id: PeerId) -> PeerInfo | None:
        """Return a peer that we are connected to; None when we have to look for it."""
        connections = self._host.connections(peer_id)
        if not connections:
            return None
        # An inbound one's far end is better than nothing.
        return PeerInfo(peer_id, self._described(peer_id).addrs or (connections[0].remote_addr,))

    def known(self, peer_id: PeerId) -> PeerInfo:
        """Return where a peer was: proved then, but it may have moved."""
        return PeerInfo(peer_id, tuple(self._known(peer_id)))

    async def wait_for_peers(self) -> bool:
        """Tell whether there is anybody to ask, as soon as that is known."""
        with move_on_after(FIRST_PEER_TIMEOUT):
            while not self.table and self._checks:
                await self._check_done.wait()
        return len(self.table) > 0

    async def require_peers(self) -> None:
        """Wait until there is somebody to ask. Raises NoRoutingPeersError: there is nobody."""
        if not await self.wait_for_peers():
            raise NoRoutingPeersError

    def _described(self, peer_id: PeerId) -> PeerInfo:
        """Return a connected peer with where we reached it and where it says it is."""
        reached = [each.remote_addr for each in self._host.connections(peer_id) if each.direction == "outbound"]
        facts = self._facts.get(peer_id)
        return PeerInfo(peer_id, tuple(dict.fromkeys((*reached, *(facts.listen_addrs if facts else ())))))

    # ---- the table ----

    def _on_alive(self, peer: PeerInfo, remote_addr: Multiaddr) -> None:
        """Offer a peer that has answered to the table."""
        if not self._profile.accepts_remote(remote_addr):
            return
        described = self._described(peer.peer_id)
        if not described.addrs:
            described = peer
        groups = groups_of([remote_addr], exempt_near=self._profile.exempt_near)
        questioned = self.table.offer(described, groups, current_time())
        if questioned is not None:
            self._check(questioned)

    def _check(self, peer_id: PeerId) -> None:
        """Ask `peer_id` something, to see whether it answers."""
        if self.tasks is None or peer_id in self._checks or len(self._checks) >= MAX_CHECKS:
            return
        self._checks.add(peer_id)
        self.tasks.start_soon(self._run_check, peer_id)

    async def _run_check(self, peer_id: PeerId) -> None:
        try:
            async with self._check_slots:
                was_known = peer_id in self.table
                peer = self.table.get(peer_id) or self._described(peer_id)
                own_key = self._host.peer_id.raw
                await self.queries.ask(peer, KadMessage(MessageType.FIND_NODE, own_key))
                if not was_known and peer_id in self.table and len(self.table) < K:
                    self._newcomer.set()
        finally:
            self._checks.discard(peer_id)
            self._check_done.set()
            self._check_done = Event()

    async def _keep_fresh(self) -> None:
        while True:
            with move_on_after(REFRESH_INTERVAL):
                await self._newcomer.wait()
            self._newcomer = Event()
            await self.refresh()
            await sleep(QUIET_INTERVAL)

    async def refresh(self) -> None:
        """Look up ourselves, and something in each bucket that is stale."""
        if not self.table:
            return
        await self.look_up(self._host.peer_id.raw)
        for number in self.table.stale_buckets(current_time()):
            # On the way there we meet those who are to be in the bucket; who is nearest of all does not matter.
            await self.look_up(key_near(self.table.own_point, number, self._random_bytes(32)), width=BETA)

    async def look_up(self, key: bytes, *, width: int = K) -> Lookup:
        """Go to the `width` nearest peers of `key`; return the lookup, which knows them."""
        lookup = self.start_lookup(point_of(key), width=width)
        await self.queries.run(lookup, KadMessage(MessageType.FIND_NODE, key))
        return lookup

    def start_lookup(self, target: Point, *, width: int, also: Sequence[PeerInfo] = ()) -> Lookup:
        """Return a lookup that begins at the nearest peers of the table, and at those in `also`."""
        return Lookup(target, [*also, *self.table.closest(target, K)], own_id=self._host.peer_id, width=width)

    async def _drop_idle_streams(self) -> None:
        while True:
            await sleep(KEEP_IDLE / 2)
            self.rpc.drop_expired()
