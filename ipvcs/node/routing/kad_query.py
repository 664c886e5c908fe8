"""Running a lookup: its queries as tasks, its deadlines on the clock.

Every answer is looked at in three ways, whatever it answers: the peer is alive and serves this DHT; it names peers that
are nearer; and maybe it holds what is looked for.
"""

import logging
from collections.abc import Callable
from typing import Final

from anyio import CancelScope, Event, Semaphore, create_task_group, current_time, move_on_after
from anyio.abc import TaskGroup

from ipvcs.errors import IpvcsError, LimitError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.delimited import MessageTooLargeError
from ipvcs.node.network.errors import ProtocolNotSupportedError
from ipvcs.node.network.interface import Host, PeerInfo
from ipvcs.node.network.peer_facts import useful_addrs
from ipvcs.node.routing.kad_message import KadMessage
from ipvcs.node.routing.kad_profile import KadProfile
from ipvcs.node.routing.kad_rpc import TIMEOUT, Answer, KadRpc
from ipvcs.node.routing.lookup import SLOW_AFTER, Lookup
from ipvcs.node.routing.routing_table import RoutingTable

LOOKUP_TIMEOUT: Final = 60.0
"""Seconds for a lookup, the wait for its turn included. As go-libp2p's refresh; honest networks need two or three."""
MAX_LOOKUPS: Final = 16
"""At once; further ones wait. Each has up to thirty requests under way."""

_log = logging.getLogger(__name__)


class Queries:
    """Asks peers, and tells the table what became of it."""

    def __init__(
        self,
        host: Host,
        profile: KadProfile,
        table: RoutingTable,
        rpc: KadRpc,
        on_alive: Callable[[PeerInfo, Multiaddr], None],
    ) -> None:
        """Put it together. `on_alive` hears of each peer that has answered, and at which address it did."""
        self._host = host
        self._profile = profile
        self._table = table
        self._rpc = rpc
        self._on_alive = on_alive
        self._turns = Semaphore(MAX_LOOKUPS)

    async def ask(
        self, peer: PeerInfo, request: KadMessage, *, timeout: float = TIMEOUT, blame: bool = True
    ) -> Answer | None:
        """Return the answer of `peer` to `request`; None, and with `blame` the table knows, when there is none."""
        asked = current_time()
        try:
            answer = await self._rpc.ask(peer, request, timeout=timeout)
        except ProtocolNotSupportedError:
            self._table.remove(peer.peer_id)
            return None
        except IpvcsError as exc:
            _log.debug("asking %s: %s", peer.peer_id, exc)
            if blame and not _is_ours(exc):
                self._table.fail(peer.peer_id, asked)
            return None
        self._on_alive(peer, answer.remote_addr)
        return answer

    def give_up(self, peer_id: PeerId) -> None:
        """Note that nobody waits any more for an answer of `peer_id`, which is slow."""
        self._table.fail(peer_id, current_time() - SLOW_AFTER)

    async def tell(self, peer: PeerInfo, *requests: KadMessage) -> bool:
        """Send `requests`, which are not answered, to `peer`, and tell whether that worked."""
        try:
            await self._rpc.tell(peer, *requests)
        except IpvcsError as exc:
            _log.debug("telling %s: %s", peer.peer_id, exc)
            return False
        return True

    async def run(
        self,
        lookup: Lookup,
        request: KadMessage,
        on_answer: Callable[[PeerInfo, Answer], bool] = lambda _peer, _answer: False,
        *,
        is_enough: Callable[[], bool] = lambda: True,
    ) -> None:
        """Run `lookup` to its end, or for `LOOKUP_TIMEOUT`. Cancelling ends every query.

        Args:
            lookup: a new one.
            request: what each peer is asked.
            on_answer: told each answer, its peers with the addresses that mean something to us; True: that will do.
            is_enough: asked at the end; False: go on until the k nearest have answered.
        """
        with move_on_after(LOOKUP_TIMEOUT):
            async with self._turns, create_task_group() as tasks:
                await _Run(self, lookup, request, on_answer).drive(tasks, is_enough)
                tasks.cancel_scope.cancel()
        for peer_id in lookup.slow():  # its answer is not waited for, so this is the last that is known of it
            self.give_up(peer_id)
        if lookup.queries:  # else it never got its turn
            self._table.looked_up(lookup.target, current_time())

    def usable(self, peers: tuple[PeerInfo, ...], remote_addr: Multiaddr) -> tuple[PeerInfo, ...]:
        """Return `peers`, named by somebody at `remote_addr`, with the addresses that belong into this DHT and mean the
        same host to us; of some that may be none.
        """
        return tuple(
            PeerInfo(peer.peer_id, useful_addrs(filter(self._profile.accepts_addr, peer.addrs), remote_addr))
            for peer in peers
        )

    def can_reach(self, peer: PeerInfo) -> bool:
        """Tell whether there is any way to `peer`."""
        return bool(peer.addrs or self._host.connections(peer.peer_id))


class _Run:
    """One lookup under way."""

    def __init__(
        self, queries: Queries, lookup: Lookup, request: KadMessage, on_answer: Callable[[PeerInfo, Answer], bool]
    ) -> None:
        self._queries = queries
        self._lookup = lookup
        self._request = request
        self._on_answer = on_answer
        self._scopes: dict[PeerId, CancelScope] = {}
        self._changed = Event()
        self._is_done = False

    async def drive(self, tasks: TaskGroup, is_enough: Callable[[], bool]) -> None:
        lookup = self._lookup
        while not self._is_done:
            lookup.handle_deadline(current_time())
            if lookup.is_finished:
                if is_enough() or lookup.is_wide:
                    return
                lookup.widen()
                continue
            while (peer_id := lookup.next_given_up()) is not None:
                self._scopes[peer_id].cancel()
                self._fail(peer_id)
            while (peer := lookup.next_query(current_time())) is not None:
                scope = self._scopes[peer.peer_id] = CancelScope()
                tasks.start_soon(self._query, peer, scope, name="kad query")
            self._changed = Event()
            deadline = lookup.next_deadline()
            with CancelScope(deadline=float("inf") if deadline is None else deadline):
                await self._changed.wait()

    async def _query(self, peer: PeerInfo, scope: CancelScope) -> None:
        answer = None
        with scope:
            answer = await self._queries.ask(peer, self._request)
        if scope.cancel_called:
            return  # given up, and the lookup knows
        self._scopes.pop(peer.peer_id)
        if answer is None:
            self._lookup.failed(peer.peer_id)
        else:
            closer = self._queries.usable(answer.message.closer_peers, answer.remote_addr)
            self._lookup.answered(peer.peer_id, filter(self._queries.can_reach, closer))
            self._is_done |= self._on_answer(peer, answer)
        self._changed.set()

    def _fail(self, peer_id: PeerId) -> None:
        self._scopes.pop(peer_id)
        self._queries.give_up(peer_id)
        self._lookup.failed(peer_id)


def _is_ours(error: IpvcsError) -> bool:
    """Tell whether a request failed by a bound of our own, as of dials or of memory, and not by what the peer did."""
    return isinstance(error, LimitError) and not isinstance(error, MessageTooLargeError)
