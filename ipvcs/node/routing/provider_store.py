"""Who said to have what: the provider records that others leave with us, and our own.

Goals: every record and address that strangers send is bounded and forgotten in time; one hot key, or one peer with a
million keys, does not crowd out the rest; what we announced ourselves stays. Non-goals: whether a peer really has what
it says (nobody can know), whom to tell which addresses (the server's business), and the disk (`store_service`).

A record is (multihash, peer, when). Addresses belong to the peer, not to the record: those told last count for all that
it provides, and beside them older ones of another reach, since a peer tells the public DHT only its public addresses.
They end sooner than the record, which then is still worth something to whoever finds the peer.

Time is an argument: wall-clock seconds since 1970, as on disk.

Spec: https://specs.ipfs.tech/routing/kad-dht/#content-provider-advertisement-and-discovery
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import LimitError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import scope_of, without_peer
from ipvcs.node.network.interface import PeerInfo

MAX_AGE: Final = 48 * 3600.0
"""Seconds that a record counts; it is announced again every 22 hours. The specification's."""
ADDRESS_AGE: Final = 24 * 3600.0
"""Seconds that a provider's addresses count. The specification's."""
MAX_RECORDS: Final = 100_000
"""50 MiB when every record is of another key, 65 when also of another peer (measured)."""
MAX_PER_KEY: Final = 256
"""More providers than anybody asks, of one key."""
MAX_PER_PEER: Final = 50_000
"""Half of all: on a small network everybody keeps everything, and no peer may take the whole table."""
MAX_ADDRESSES: Final = 16
"""Of one provider. Most have two to six."""
MAX_ADDRESS_SIZE: Final = 512
"""Bytes, as in the address book."""
MAX_ADDRESS_MEMORY: Final = 16 * 1024 * 1024
"""Bytes of all addresses, each counted with `_ADDRESS_OVERHEAD`."""
MAX_KEY: Final = 80
"""Bytes of a multihash, at least one. The specification's bound of a provider key."""

_ADDRESS_OVERHEAD: Final = 120
"""Bytes that an address takes beside its own: 84 as an object (measured), and its part of the tables."""


class ProviderKeyError(LimitError):
    """A provider key is empty, or longer than any multihash that is in use."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"a provider key has 1 to {MAX_KEY} bytes, not {len(key)}")
        self.key = key


@dataclass(eq=False, slots=True)
class _Record:
    key: bytes
    peer_id: PeerId
    received: float


@dataclass(frozen=True, slots=True)
class StoredAddresses:
    """A provider's addresses as they are kept on disk: `received`, seconds since 1970, is when they were told."""

    addrs: tuple[Multiaddr, ...]
    received: float
    others: tuple[Multiaddr, ...] = ()
    """Told before, of another reach than `addrs`; not kept on disk: the peer tells them again."""
    others_received: float = 0.0


RecordKey = tuple[bytes, PeerId]


@dataclass(frozen=True, slots=True)
class UnsavedProviders:
    """What changed: records by multihash and peer, with the time they were received, and addresses by peer; None: it
    is gone.
    """

    records: dict[RecordKey, float | None]
    addresses: dict[PeerId, StoredAddresses | None]


class ProviderStore:
    """The table. Every size is bounded. `own` is who we are: strangers' records never displace ours."""

    def __init__(
        self,
        own: PeerId | None = None,
        *,
        max_records: int = MAX_RECORDS,
        max_per_key: int = MAX_PER_KEY,
        max_per_peer: int = MAX_PER_PEER,
        max_address_memory: int = MAX_ADDRESS_MEMORY,
    ) -> None:
        self._own_id = own
        self._max_records = max_records
        self._max_per_key = max_per_key
        self._max_per_peer = max_per_peer
        self._max_address_memory = max_address_memory
        self._by_key: dict[bytes, dict[PeerId, _Record]] = {}  # of one key, the oldest first
        # By age, the oldest first.
        self._others: OrderedDict[_Record, None] = OrderedDict()
        self._own: OrderedDict[_Record, None] = OrderedDict()
        self._per_peer: Counter[PeerId] = Counter()
        self._addresses: OrderedDict[PeerId, StoredAddresses] = OrderedDict()
        self._address_memory = 0
        self._unsaved_records: set[RecordKey] = set()
        self._unsaved_addresses: set[PeerId] = set()

    def __len__(self) -> int:
        """Return the number of records in the table, some perhaps expired."""
        return len(self._others) + len(self._own)

    def add(self, multihash: bytes, provider: PeerInfo, now: float) -> None:
        """Note that `provider` says to have the block of `multihash`, for 48 hours from `now`.

        The first `MAX_ADDRESSES` usable addresses replace those known of it that reach as far (in the LAN, everywhere);
        none at all leave them as they are. There may be no room for it, if the peer has more than its share, or all
        records are our own: then it is not kept.

        Raises:
            ProviderKeyError: `multihash` is empty or too long.
        """
        if not 1 <= len(multihash) <= MAX_KEY:
            raise ProviderKeyError(multihash)
        if self._keep(multihash, provider.peer_id, now):
            self._set_addresses(provider.peer_id, provider.addrs, now)

    def providers(self, multihash: bytes, now: float) -> list[PeerInfo]:
        """Return who is said to have the block of `multihash`, who said so last first; some without addresses."""
        records = list(self._by_key.get(multihash, {}).values())
        return [
            PeerInfo(record.peer_id, self._addrs(record.peer_id, now))
            for record in reversed(records)
            if record.received + MAX_AGE > now
        ]

    def drop_expired(self, now: float) -> None:
        """Drop all that has expired. Now and then is enough: reads look at the time anyway."""
        for table in (self._others, self._own):
            while table and (oldest := next(iter(table))).received + MAX_AGE <= now:
                self._drop(oldest)
        while self._addresses:
            peer_id, stored = next(iter(self._addresses.items()))
            if stored.received + ADDRESS_AGE > now:
                break
            self._drop_addresses(peer_id)

    # For the disk

    def take_unsaved(self) -> UnsavedProviders:
        """Return what changed since the last call."""
        records, self._unsaved_records = self._unsaved_records, set()
        peers, self._unsaved_addresses = self._unsaved_addresses, set()
        return UnsavedProviders(
            {each: self._received(*each) for each in records}, {each: self._addresses.get(each) for each in peers}
        )

    def mark_unsaved(self, unsaved: UnsavedProviders) -> None:
        """Let `take_unsaved` return these again: saving them failed."""
        # Those that are gone since would grow without end on a full disk; their rows go when they are next loaded.
        self._unsaved_records |= {each for each in unsaved.records if self._received(*each) is not None}
        self._unsaved_addresses |= unsaved.addresses.keys() & self._addresses.keys()

    def restore_record(self, multihash: bytes, peer_id: PeerId, received: float, now: float) -> None:
        """Take back a record of an earlier run; the oldest comes first. What there is no room for is unsaved: gone."""
        unsaved = (multihash, peer_id) in self._unsaved_records
        received = min(received, now)  # a clock that was wrong makes nothing last longer
        kept = 1 <= len(multihash) <= MAX_KEY and received + MAX_AGE > now and self._keep(multihash, peer_id, received)
        if not kept:
            self._unsaved_records.add((multihash, peer_id))
        elif not unsaved:
            self._unsaved_records.discard((multihash, peer_id))

    def restore_addresses(self, peer_id: PeerId, stored: StoredAddresses, now: float) -> None:
        """Take back a provider's addresses, after its records; those of nobody's are unsaved: gone."""
        unsaved = peer_id in self._unsaved_addresses
        received = min(stored.received, now)
        if peer_id not in self._per_peer or received + ADDRESS_AGE <= now:
            self._unsaved_addresses.add(peer_id)
            return
        self._set_addresses(peer_id, stored.addrs, received)
        if not unsaved and peer_id in self._addresses:
            self._unsaved_addresses.discard(peer_id)

    # Inside

    def _keep(self, multihash: bytes, peer_id: PeerId, received: float) -> bool:
        """Note or renew a record, as the newest of all; tell whether there was room for it."""
        own = peer_id == self._own_id
        of_key = self._by_key.get(multihash, {})
        if (known := of_key.get(peer_id)) is not None:
            self._drop(known, renewed=True)
        else:
            if not own and self._per_peer[peer_id] >= self._max_per_peer:
                return False
            if len(of_key) >= self._max_per_key:
                self._drop(next(record for record in of_key.values() if record.peer_id != self._own_id))
            if len(self) >= self._max_records:
                if not self._others and not (own and self._own):
                    return False
                self._drop(next(iter(self._others or self._own)))
        record = _Record(multihash, peer_id, received)
        self._by_key.setdefault(multihash, {})[peer_id] = record
        (self._own if own else self._others)[record] = None
        self._per_peer[peer_id] += 1
        self._unsaved_records.add((multihash, peer_id))
        return True

    def _drop(self, record: _Record, *, renewed: bool = False) -> None:
        """Take a record out of the table. `renewed`: it comes back, so its peer's addresses stay."""
        of_key = self._by_key[record.key]
        del of_key[record.peer_id]
        if not of_key:
            del self._by_key[record.key]
        del (self._own if record.peer_id == self._own_id else self._others)[record]
        self._unsaved_records.add((record.key, record.peer_id))
        self._per_peer[record.peer_id] -= 1
        if not self._per_peer[record.peer_id]:
            del self._per_peer[record.peer_id]
            if not renewed:
                self._drop_addresses(record.peer_id)

    def _received(self, multihash: bytes, peer_id: PeerId) -> float | None:
        record = self._by_key.get(multihash, {}).get(peer_id)
        return None if record is None else record.received

    def _addrs(self, peer_id: PeerId, now: float) -> tuple[Multiaddr, ...]:
        stored = self._addresses.get(peer_id)
        if stored is None or stored.received + ADDRESS_AGE <= now:
            return ()
        return stored.addrs + (stored.others if stored.others_received + ADDRESS_AGE > now else ())

    def _set_addresses(self, peer_id: PeerId, addrs: Iterable[Multiaddr], received: float) -> None:
        usable = tuple(_usable(peer_id, addrs))
        if not usable:
            return
        stored = _beside(usable, received, self._addresses.get(peer_id))
        self._drop_addresses(peer_id)
        self._addresses[peer_id] = stored
        self._address_memory += _memory(stored)
        self._unsaved_addresses.add(peer_id)
        while self._address_memory > self._max_address_memory:
            self._drop_addresses(next(iter(self._addresses)))

    def _drop_addresses(self, peer_id: PeerId) -> None:
        if (stored := self._addresses.pop(peer_id, None)) is not None:
            self._address_memory -= _memory(stored)
            self._unsaved_addresses.add(peer_id)


def _usable(peer_id: PeerId, addrs: Iterable[Multiaddr]) -> list[Multiaddr]:
    """Return the first addresses, each once, that are not too long and lead to the peer itself; without its `/p2p`."""
    found: dict[Multiaddr, None] = {}
    for given in addrs:
        addr = without_peer(given, peer_id) if len(given.raw) <= MAX_ADDRESS_SIZE else None
        if addr is not None:
            found[addr] = None
        if len(found) == MAX_ADDRESSES:
            break
    return list(found)


def _beside(addrs: tuple[Multiaddr, ...], received: float, before: StoredAddresses | None) -> StoredAddresses:
    """Return `addrs` and, of those told before, the ones of another reach, as old as they are."""
    if before is None:
        return StoredAddresses(addrs, received)
    told = {scope_of(addr) for addr in addrs}
    older = [addr for addr in before.others if scope_of(addr) not in told]
    others_received = before.others_received if older else before.received
    older = [addr for addr in before.addrs if scope_of(addr) not in told] + older
    return StoredAddresses(addrs, received, tuple(older[: MAX_ADDRESSES - len(addrs)]), others_received)


def _memory(stored: StoredAddresses) -> int:
    return sum(len(addr.raw) + _ADDRESS_OVERHEAD for addr in stored.addrs + stored.others)
