"""Bounds on everything a peer can make us hold, and the count of what is held now.

`Limits` are the numbers; `Resources` counts against them for one swarm. Whoever holds something for a peer reserves it
first and releases it after: a failed reservation is that peer's problem alone (its stream is reset or its connection
refused), never an exception in somebody else's path. Peers are counted one by one: whoever holds most pays.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Protocol

from ipvcs.errors import LimitError
from ipvcs.multiformats.peer_id import PeerId

KIB: Final = 1024
MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The numbers. Sizes are bytes, durations seconds."""

    connections: int = 1024
    connections_per_peer: int = 8
    """Two sides that dial each other on several addresses at once make a few; more are of no use to anybody."""
    connections_per_ip: int = 32
    """Inbound, counted by IPv4 address or IPv6 /56. Loopback is not counted: it is this machine's own."""
    half_open: int = 128
    """Inbound connections in their handshake."""
    half_open_per_ip: int = 16
    """Loopback is not counted. A handshake costs milliseconds of CPU, so this bounds what one address can burn."""
    handshake_timeout: float = 15.0
    """From accept or connect to a multiplexed connection; Go allows 60 s for each part, js 10 s for all."""
    negotiation_timeout: float = 10.0
    """For an inbound stream to say what it wants."""
    streams: int = 8192
    """Opened by peers, on all connections; one may hold no more than are left for others. Ours do not count: nobody
    can keep us from opening."""
    outbound_streams: int = 8192
    """Opened by us, on all connections."""
    negotiating: int = 256
    """Streams that a connection's peer has opened without saying what for: yamux's backlog of unacknowledged ones."""
    streams_per_peer: int = 2048
    """Opened by one peer, on all its connections. One of ours holds over a thousand in the test."""
    stream_memory: int = 16 * MIB
    """The largest window of a stream: 400 Mbit/s at 300 ms. As go-yamux."""
    peer_memory: int = 32 * MIB
    """Unread bytes of one peer, on all its connections; beyond, the stream with most of them is reset."""
    memory: int = 96 * MIB
    """Unread bytes of all peers; beyond, the peer with most of them loses the stream with most of them."""
    control_backlog: int = 256 * KIB
    """Answers (window updates, pongs, resets) that a peer causes but does not read; beyond, its connection ends."""


class ConnectionLimitError(LimitError):
    """No room for another connection."""


class Holder(Protocol):
    """A connection, as far as its unread bytes are concerned."""

    unread: int
    """Bytes that arrived and were not read."""

    def shed(self) -> None:
        """Give up the stream with most unread bytes."""


@dataclass(slots=True, eq=False)
class PeerShare:
    """What one connected peer holds on all its connections together."""

    peer_id: PeerId
    streams: int = 0
    memory: int = 0
    holders: list[Holder] = field(default_factory=list)


@dataclass(slots=True)
class Resources:
    """What one swarm holds. Every `reserve_*` that returned True is to be released once."""

    limits: Limits = field(default_factory=Limits)
    streams: int = 0
    outbound_streams: int = 0
    memory: int = 0
    half_open: int = 0
    half_open_by_ip: Counter[str] = field(default_factory=Counter)
    shares: dict[PeerId, PeerShare] = field(default_factory=dict)

    def join(self, peer_id: PeerId, holder: Holder) -> PeerShare:
        """Return the share of `peer_id`, to which `holder`, a new connection, belongs from now on."""
        share = self.shares.setdefault(peer_id, PeerShare(peer_id))
        share.holders.append(holder)
        return share

    def leave(self, share: PeerShare, holder: Holder) -> None:
        """Forget `holder`, whose connection has ended; what it holds still counts until it is released."""
        share.holders.remove(holder)
        if not share.holders and self.shares.get(share.peer_id) is share:
            del self.shares[share.peer_id]

    def reserve_stream(self, share: PeerShare, *, inbound: bool) -> bool:
        """Count one stream more, if there is room."""
        if not inbound:
            if self.outbound_streams >= self.limits.outbound_streams:
                return False
            self.outbound_streams += 1
            return True
        # No peer may hold more than is left for all others: n greedy ones get an (n + 1)th each, and a newcomer always
        # finds as much (Choudhury and Hahne's dynamic thresholds, for buffers of a switch).
        if share.streams >= min(self.limits.streams_per_peer, self.limits.streams - self.streams):
            return False
        self.streams += 1
        share.streams += 1
        return True

    def release_stream(self, share: PeerShare, *, inbound: bool) -> None:
        """Count one stream less."""
        if inbound:
            assert self.streams > 0
            assert share.streams > 0
            self.streams -= 1
            share.streams -= 1
        else:
            assert self.outbound_streams > 0
            self.outbound_streams -= 1

    def reserve_memory(self, share: PeerShare, size: int) -> bool:
        """Count `size` unread bytes of a peer. For lack of room those who hold most give up some; False: they can't."""
        while share.memory + size > self.limits.peer_memory:
            if not _shed(share):
                return False
        while self.memory + size > self.limits.memory:
            if not _shed(max(self.shares.values(), key=lambda each: each.memory, default=share)):
                return False
        self.memory += size
        share.memory += size
        return True

    def release_memory(self, share: PeerShare, size: int) -> None:
        """Count `size` unread bytes less."""
        assert 0 <= size <= share.memory <= self.memory
        self.memory -= size
        share.memory -= size

    def reserve_handshake(self, ip: str | None) -> bool:
        """Count one inbound handshake from `ip` (None: not limited by address), if there is room."""
        if self.half_open >= self.limits.half_open:
            return False
        if ip is not None:
            if self.half_open_by_ip[ip] >= self.limits.half_open_per_ip:
                return False
            self.half_open_by_ip[ip] += 1
        self.half_open += 1
        return True

    def release_handshake(self, ip: str | None) -> None:
        """Count one inbound handshake from `ip` less."""
        assert self.half_open > 0
        self.half_open -= 1
        if ip is not None:
            self.half_open_by_ip[ip] -= 1
            if not self.half_open_by_ip[ip]:
                del self.half_open_by_ip[ip]


def _shed(share: PeerShare) -> bool:
    """Have the connection of `share` with most unread bytes give some up; tell whether it did."""
    holder = max(share.holders, key=lambda each: each.unread, default=None)
    if holder is None or not holder.unread:
        return False
    before = share.memory
    holder.shed()
    return share.memory < before
