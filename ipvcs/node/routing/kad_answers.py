"""What a DHT server answers: a request and its sender in, an answer or a refusal out. Pure; the stores are passed in.

| request | what is done, and said |
|---|---|
| PING | said back |
| FIND_NODE | the k nearest we know; and the very peer asked for, if we know it: a client, too, or ourselves |
| GET_VALUE | the record, unless it is no longer valid; and the k nearest |
| PUT_VALUE | the record is kept and said back if it is valid and no worse than the one we have; else refused |
| GET_PROVIDERS | who has announced it to us, and the k nearest |
| ADD_PROVIDER | the sender is noted, and nobody else it names; nothing is said |

A peer is told of neither itself nor, among the nearest, us; not of peers without an address that means to it what it
means to us; and in the public DHT not of private addresses.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#rpc-messages
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, Protocol

from ipvcs.errors import RemoteProtocolError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId, PeerIdError
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.network.peer_facts import useful_addrs
from ipvcs.node.routing.kad_message import MAX_ADDRS, MAX_PEERS, KadMessage, MessageType, Record
from ipvcs.node.routing.keyspace import point_of
from ipvcs.node.routing.routing_table import K, RoutingTable

MAX_PROVIDER_KEY: Final = 80
"""Bytes of a multihash in GET_PROVIDERS and ADD_PROVIDER, and at least one. As go-libp2p-kad-dht."""
MAX_KEY: Final = 1024
"""Bytes of any other key. A namespace and a multihash have under 100."""


MAX_TOLD: Final = 32 * 1024
"""Bytes of providers in one answer: 100 with six usual addresses each. A peer may have 32 answers on the way,
and providers with the longest addresses there are would make each of them 800 KiB."""


class RefusedRequestError(RemoteProtocolError):
    """A request that is answered by resetting its stream."""


class ValueStore(Protocol):
    """Values under keys. `now` is in seconds since 1970."""

    def try_get(self, key: bytes, now: float) -> bytes | None:
        """Return the value kept under `key`; None when there is none that is valid and not too old."""

    def put(self, key: bytes, value: bytes, now: float, *, source: PeerId | None = None, own: bool = False) -> None:
        """Keep `value`, as put by the peer `source`, or as our own.

        Raises InvalidValueError: it is not valid, or worse than what is there. LimitError: there is no room.
        """


class ProviderStore(Protocol):
    """Who has announced what. `now` is in seconds since 1970."""

    def add(self, multihash: bytes, provider: PeerInfo, now: float) -> None:
        """Note that `provider` says it has the block of `multihash`."""

    def providers(self, multihash: bytes, now: float) -> list[PeerInfo]:
        """Return who said so lately enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """What answers are made of."""

    table: RoutingTable
    values: ValueStore
    providers: ProviderStore
    own_addrs: Callable[[], Sequence[Multiaddr]]
    """Where we can be reached."""
    find_known: Callable[[PeerId], PeerInfo | None]
    """Returns a peer that we are connected to or have met, client or server."""
    accepts_addr: Callable[[Multiaddr], bool]
    """Whether an address has a place in this DHT."""


class Answerer:
    """Answers requests."""

    def __init__(self, knowledge: Knowledge, *, k: int = K) -> None:
        self._know = knowledge
        self._k = k

    def answer(self, request: KadMessage, sender: PeerInfo, now: float) -> KadMessage | None:
        """Return the answer to `request`, None where none is due.

        Args:
            request: what is asked.
            sender: who asks, and as its one address the far end of the connection.
            now: seconds since 1970.

        Raises:
            RefusedRequestError, InvalidValueError, LimitError: nothing is answered or kept.
        """
        if request.type is MessageType.PING:
            return KadMessage(MessageType.PING)
        if not 0 < len(request.key) <= MAX_KEY:
            raise RefusedRequestError(f"{request.type.name} with a key of {len(request.key)} bytes")
        if request.type is MessageType.FIND_NODE:
            return self._find_node(request, sender)
        if request.type is MessageType.GET_VALUE:
            return self._get_value(request, sender, now)
        if request.type is MessageType.PUT_VALUE:
            return self._put_value(request, sender, now)
        if len(request.key) > MAX_PROVIDER_KEY:
            raise RefusedRequestError(f"{request.type.name} with a key of {len(request.key)} bytes")
        if request.type is MessageType.GET_PROVIDERS:
            return self._get_providers(request, sender, now)
        self._add_provider(request, sender, now)
        return None

    def _find_node(self, request: KadMessage, sender: PeerInfo) -> KadMessage:
        closest = self._closest(request.key, sender)
        try:
            wanted = PeerId.decode(request.key)
        except PeerIdError:  # the key of a value, or a random one
            wanted = None
        if wanted is not None and wanted != sender.peer_id and all(peer.peer_id != wanted for peer in closest):
            known = self._own_info() if wanted == self._know.table.own_id else self._know.find_known(wanted)
            if known is not None:
                closest = (*self._iter_told([known], sender), *closest)
        return KadMessage(request.type, request.key, closer_peers=closest)

    def _get_value(self, request: KadMessage, sender: PeerInfo, now: float) -> KadMessage:
        value = self._know.values.try_get(request.key, now)
        record = None if value is None else Record(request.key, value)
        return KadMessage(request.type, request.key, record, self._closest(request.key, sender))

    def _put_value(self, request: KadMessage, sender: PeerInfo, now: float) -> KadMessage:
        record = request.record
        if record is None or record.key != request.key:
            raise RefusedRequestError("PUT_VALUE without a record of its key")
        self._know.values.put(request.key, record.value, now, source=sender.peer_id)
        return request

    def _get_providers(self, request: KadMessage, sender: PeerInfo, now: float) -> KadMessage:
        known = self._know.providers.providers(request.key, now)
        own_id = self._know.table.own_id  # where we are we know better than our own record
        named = (self._own_info() if peer.peer_id == own_id else peer for peer in known)
        return KadMessage(
            request.type,
            request.key,
            closer_peers=self._closest(request.key, sender),
            provider_peers=tuple(_within(MAX_TOLD, islice(self._iter_told(named, sender), MAX_PEERS))),
        )

    def _add_provider(self, request: KadMessage, sender: PeerInfo, now: float) -> None:
        for peer in request.provider_peers:
            if peer.peer_id == sender.peer_id and (addrs := self._means(peer.addrs, sender)):
                self._know.providers.add(request.key, PeerInfo(peer.peer_id, addrs), now)

    def _closest(self, key: bytes, sender: PeerInfo) -> tuple[PeerInfo, ...]:
        # Some may have no address to tell: then the next ones are told instead.
        nearest = self._know.table.closest(point_of(key), 2 * self._k, without=[sender.peer_id])
        return tuple(islice(self._iter_told(nearest, sender), self._k))

    def _own_info(self) -> PeerInfo:
        return PeerInfo(self._know.table.own_id, tuple(self._know.own_addrs()))

    def _iter_told(self, peers: Iterable[PeerInfo], sender: PeerInfo) -> Iterator[PeerInfo]:
        """Yield `peers` as the sender may be told of them, those that it can't reach left out."""
        for peer in peers:
            if peer.peer_id != sender.peer_id and (addrs := self._means(peer.addrs, sender)):
                yield PeerInfo(peer.peer_id, addrs)

    def _means(self, addrs: Iterable[Multiaddr], sender: PeerInfo) -> tuple[Multiaddr, ...]:
        """Return those of `addrs` that belong into this DHT and mean the same host to the sender as to us."""
        accepted = [addr for addr in addrs if self._know.accepts_addr(addr)]
        return useful_addrs(accepted, sender.addrs[0])[:MAX_ADDRS]


def _within(size: int, peers: Iterable[PeerInfo]) -> Iterator[PeerInfo]:
    """Yield the first `peers` that take `size` bytes together."""
    for peer in peers:
        size -= len(peer.peer_id.raw) + sum(len(addr.raw) + 3 for addr in peer.addrs) + 6
        if size < 0:
            return
        yield peer
