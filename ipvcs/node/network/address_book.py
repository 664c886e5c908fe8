"""Where peers may be reached: who said so, until when it counts, and what is forgotten first.

Goals: a peer we met is found again; what a peer signed is not undone by what others say of it; strangers, whom anybody
can name by the thousand, never crowd out those we know. Non-goals: keys, protocols and agent versions (identify keeps
those), disk (`address_store`), and the order of dialling (`addresses.dial_order`).

While a peer is connected, what it said itself or we found true does not expire; its lifetime begins at the disconnect.
What others say of it is kept, but listed behind and dropped first: refusing it, as go-libp2p once did in the presence
of a signed record, would lock out a peer that moved until its old record expires.

Time is an argument, in seconds of any clock that never goes back.
"""

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import without_peer

MAX_PEERS: Final = 50_000
"""A full Kademlia table and the peers of many lookups; with `MAX_ADDRESSES`, 40 MiB when full,
90 MiB when every address is as long as it may be (measured)."""
MAX_ADDRESSES: Final = 100_000
"""Of all peers. Most have two to six."""
MAX_PER_PEER: Final = 32
"""An honest peer with many interfaces, transports and relays has about twenty."""
MAX_ADDRESS_SIZE: Final = 512
"""Bytes. WebTransport over a relay with two certificate hashes has 200, and a DNS name at most 253 more."""


class Source(IntEnum):
    """Who vouches for an address, the more convincing the higher."""

    HEARSAY = 0
    """Another peer named it, as in a routing answer."""
    ADVERTISED = 1
    """The peer said so itself on a connection, unsigned (identify)."""
    CERTIFIED = 2
    """It is in the peer's signed record; only `set_record` uses this."""
    REACHED = 3
    """We dialled it and met the peer."""
    USER = 4
    """The user named it, as in `swarm connect`."""
    CONFIGURED = 5
    """It is in the configuration; never expires and is never dropped."""


LIFETIMES: Final = {
    Source.HEARSAY: 120.0,
    Source.ADVERTISED: 3600.0,
    Source.CERTIFIED: 3600.0,
    Source.REACHED: 1800.0,
    Source.USER: 3600.0,
    Source.CONFIGURED: math.inf,
}
"""Seconds: go-libp2p's TempAddrTTL, AddressTTL, RecentlyConnectedAddrTTL and PermanentAddrTTL."""


@dataclass(frozen=True, slots=True)
class KnownAddress:
    """An address as it is kept on disk: `remaining` seconds are left of it."""

    addr: Multiaddr
    source: Source
    remaining: float


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """What is worth keeping of a peer. `sequence` is that of its newest signed record, None without one."""

    peer_id: PeerId
    sequence: int | None
    addrs: tuple[KnownAddress, ...]


@dataclass(slots=True)
class _Entry:
    source: Source
    expires: float


@dataclass(slots=True)
class _Peer:
    addrs: dict[Multiaddr, _Entry] = field(default_factory=dict)
    sequence: int | None = None
    connected: bool = False

    def is_live(self, entry: _Entry, now: float) -> bool:
        return entry.expires > now or (self.connected and entry.source > Source.HEARSAY)

    @property
    def is_stranger(self) -> bool:
        """Nobody but others ever spoke of it."""
        return self.sequence is None and all(entry.source is Source.HEARSAY for entry in self.addrs.values())

    @property
    def is_held(self) -> bool:
        """It is not forgotten to make room."""
        return self.connected or any(entry.source is Source.CONFIGURED for entry in self.addrs.values())


class AddressBook:
    """The table. Every size is bounded.

    To make room, strangers go first, then whom we have not met for longest; but hearsay makes only strangers go.
    """

    def __init__(
        self, *, max_peers: int = MAX_PEERS, max_addresses: int = MAX_ADDRESSES, max_per_peer: int = MAX_PER_PEER
    ) -> None:
        self._max_peers = max_peers
        self._max_addresses = max_addresses
        self._max_per_peer = max_per_peer
        self._peers: dict[PeerId, _Peer] = {}
        self._count = 0
        # Who may be forgotten, least recently useful first. A held peer is in neither.
        self._strangers: OrderedDict[PeerId, None] = OrderedDict()
        self._met: OrderedDict[PeerId, None] = OrderedDict()
        self._unsaved: set[PeerId] = set()

    def __len__(self) -> int:
        """Return the number of peers in the table, some perhaps with nothing but expired addresses."""
        return len(self._peers)

    def add(self, peer_id: PeerId, addrs: Iterable[Multiaddr], source: Source, now: float) -> int:
        """Note that `source` says `peer_id` is at `addrs`, and return how many of them were taken.

        What is known already keeps the better source and the later expiry. A `/p2p` of the peer itself is stripped;
        addresses that lead to another peer or are too long are not taken, nor more than a peer may have.
        """
        assert source is not Source.CERTIFIED, "certified addresses come in by set_record"
        return self._add(peer_id, addrs, source, now)

    def set_record(self, peer_id: PeerId, sequence: int, addrs: Iterable[Multiaddr], now: float) -> bool:
        """Take the addresses of a signed record of `peer_id`, whose signature the caller has checked.

        They replace all that the peer said before, signed or not; what we, the user or others found out stays.

        Returns:
            False for a record older than the newest known, which changes nothing. The same one again starts the
            lifetimes anew.
        """
        peer = self._peers.get(peer_id)
        if peer is not None:
            if peer.sequence is not None and sequence < peer.sequence:
                return False
            for addr, entry in list(peer.addrs.items()):
                if entry.source in (Source.ADVERTISED, Source.CERTIFIED):
                    self._drop_address(peer, addr)
        self._add(peer_id, addrs, Source.CERTIFIED, now, sequence=sequence)
        return True

    def addrs(self, peer_id: PeerId, now: float) -> tuple[Multiaddr, ...]:
        """Return where `peer_id` may be reached, the best vouched for first; those of equal rank as they came."""
        if (peer := self._peers.get(peer_id)) is None:
            return ()
        live = [(entry.source, addr) for addr, entry in peer.addrs.items() if peer.is_live(entry, now)]
        live.sort(key=lambda item: -item[0])
        return tuple(addr for _source, addr in live)

    def peers(self, now: float) -> Iterator[PeerId]:
        """Yield the peers that have an address now. The book must not change meanwhile."""
        for peer_id, peer in self._peers.items():
            if any(peer.is_live(entry, now) for entry in peer.addrs.values()):
                yield peer_id

    def sequence(self, peer_id: PeerId) -> int | None:
        """Return the sequence number of the newest signed record of `peer_id`, None when there is none."""
        peer = self._peers.get(peer_id)
        return None if peer is None else peer.sequence

    def connected(self, peer_id: PeerId, now: float) -> None:
        """Note the first connection to `peer_id`: from now on what it says of itself does not expire."""
        self._drop_expired(peer_id, now)
        if peer_id not in self._peers:
            self._has_room_for_peer(Source.REACHED)  # if not, connections are what fills the table: they are bounded
            self._peers[peer_id] = _Peer()
        self._peers[peer_id].connected = True
        self._settle(peer_id)

    def disconnected(self, peer_id: PeerId, now: float) -> None:
        """Note the end of the last connection to `peer_id`: lifetimes begin."""
        peer = self._peers.get(peer_id)
        if peer is None or not peer.connected:
            return
        peer.connected = False
        for entry in peer.addrs.values():
            if entry.source > Source.HEARSAY:
                entry.expires = now + LIFETIMES[entry.source]
        self._unsaved.add(peer_id)
        self._settle(peer_id)
        self._drop_expired(peer_id, now)

    def forget(self, peer_id: PeerId) -> None:
        """Drop all that is known of `peer_id`, whoever said it. That it is connected is not forgotten."""
        if (peer := self._peers.get(peer_id)) is None:
            return
        if not peer.is_stranger:
            self._unsaved.add(peer_id)
        for addr in list(peer.addrs):
            self._drop_address(peer, addr)
        peer.sequence = None
        self._settle(peer_id)

    def drop_expired(self, now: float) -> None:
        """Drop all that has expired. Once a minute is enough: reads look at the time anyway."""
        for peer_id in list(self._peers):
            self._drop_expired(peer_id, now)

    # For the disk

    def take_unsaved(self) -> set[PeerId]:
        """Return the peers of which something worth keeping changed since the last call, and all connected ones."""
        unsaved, self._unsaved = self._unsaved, set()
        return unsaved | {peer_id for peer_id, peer in self._peers.items() if peer.connected}

    def mark_unsaved(self, peer_ids: Iterable[PeerId]) -> None:
        """Let `take_unsaved` return these again: saving them failed."""
        self._unsaved.update(peer_ids)

    def known(self, peer_id: PeerId, now: float) -> KnownPeer | None:
        """Return what is worth keeping of `peer_id`: neither hearsay, which is gone in minutes, nor configuration."""
        if (peer := self._peers.get(peer_id)) is None:
            return None
        kept = tuple(
            KnownAddress(addr, entry.source, LIFETIMES[entry.source] if peer.connected else entry.expires - now)
            for addr, entry in peer.addrs.items()
            if Source.HEARSAY < entry.source < Source.CONFIGURED and peer.is_live(entry, now)
        )
        return KnownPeer(peer_id, peer.sequence, kept) if kept else None

    def restore(self, known: KnownPeer, now: float) -> None:
        """Take back what `known` returned, in an earlier run maybe. Nothing lives longer than if it were new."""
        newest = self.sequence(known.peer_id)
        outdated = newest is not None and (known.sequence is None or known.sequence < newest)
        unsaved = known.peer_id in self._unsaved
        for each in known.addrs:
            if Source.HEARSAY < each.source < Source.CONFIGURED and not (outdated and each.source is Source.CERTIFIED):
                lifetime = min(each.remaining, LIFETIMES[each.source])
                self._add(known.peer_id, (each.addr,), each.source, now, lifetime=lifetime, sequence=known.sequence)
        if not unsaved:
            self._unsaved.discard(known.peer_id)

    # Inside

    def _add(
        self,
        peer_id: PeerId,
        addrs: Iterable[Multiaddr],
        source: Source,
        now: float,
        *,
        lifetime: float | None = None,
        sequence: int | None = None,
    ) -> int:
        self._drop_expired(peer_id, now)
        if (peer := self._peers.get(peer_id)) is None:
            if not self._has_room_for_peer(source):
                return 0
            peer = self._peers[peer_id] = _Peer()
        if sequence is not None:
            peer.sequence = max(sequence, peer.sequence or 0)
        expires = now + (LIFETIMES[source] if lifetime is None else lifetime)
        taken = 0
        for given in addrs:
            if taken == self._max_per_peer:
                break
            addr = without_peer(given, peer_id) if len(given.raw) <= MAX_ADDRESS_SIZE else None
            if addr is None:
                continue
            if (entry := peer.addrs.get(addr)) is not None:
                if source > Source.HEARSAY or entry.source is Source.HEARSAY:  # what others say prolongs no better word
                    entry.expires = max(entry.expires, expires)
                entry.source = max(entry.source, source)
            elif self._has_room_for_address(peer_id, peer, source):
                peer.addrs[addr] = _Entry(source, expires)
                self._count += 1
            else:
                continue
            taken += 1
        if source > Source.HEARSAY:
            self._unsaved.add(peer_id)
        self._settle(peer_id, touch=source > Source.HEARSAY or peer.is_stranger)
        return taken

    def _has_room_for_peer(self, source: Source) -> bool:
        """Forget as many peers as it takes to note one more on the word of `source`."""
        while len(self._peers) >= self._max_peers:
            if not self._forget_one(source):
                return source is Source.CONFIGURED  # settings are few
        return True

    def _has_room_for_address(self, peer_id: PeerId, peer: _Peer, source: Source) -> bool:
        """Drop as many addresses as it takes to note one more of `peer` on the word of `source`: its own worst, if it
        has as many as it may, then other peers'.
        """
        if len(peer.addrs) >= self._max_per_peer:
            worst = min(peer.addrs, key=lambda addr: (peer.addrs[addr].source, peer.addrs[addr].expires))
            if peer.addrs[worst].source > source or peer.addrs[worst].source is Source.CONFIGURED:
                return False
            self._drop_address(peer, worst)
        while self._count >= self._max_addresses:
            if not self._forget_one(source, spare=peer_id):
                return source is Source.CONFIGURED
        return True

    def _forget_one(self, source: Source, spare: PeerId | None = None) -> bool:
        """Forget the least useful peer but `spare`, if there is one that `source` may displace."""
        for queue in (self._strangers,) if source is Source.HEARSAY else (self._strangers, self._met):
            for peer_id in queue:
                if peer_id != spare:
                    self.forget(peer_id)
                    return True
        return False

    def _drop_address(self, peer: _Peer, addr: Multiaddr) -> None:
        del peer.addrs[addr]
        self._count -= 1

    def _drop_expired(self, peer_id: PeerId, now: float) -> None:
        if (peer := self._peers.get(peer_id)) is None:
            return
        gone = [addr for addr, entry in peer.addrs.items() if not peer.is_live(entry, now)]
        for addr in gone:
            if peer.addrs[addr].source > Source.HEARSAY:
                self._unsaved.add(peer_id)
            self._drop_address(peer, addr)
        if gone:
            self._settle(peer_id, touch=False)

    def _settle(self, peer_id: PeerId, *, touch: bool = True) -> None:
        """Put the peer where it belongs now: at the useful end of a queue, in none if held, out if nothing is left."""
        peer = self._peers[peer_id]
        if gone := not peer.addrs and not peer.connected:
            del self._peers[peer_id]
        held = gone or peer.is_held
        stranger = not held and peer.is_stranger
        for queue, here in ((self._strangers, stranger), (self._met, not held and not stranger)):
            if not here:
                queue.pop(peer_id, None)
            elif peer_id not in queue or touch:
                queue[peer_id] = None
                queue.move_to_end(peer_id)
