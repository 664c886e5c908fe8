"""Bounds on everything a peer can make us hold, and the count of what is held now.

`Limits` are the numbers; `Resources` counts against them for one swarm. Whoever holds something for a peer reserves it
first and releases it after: a failed reservation is that peer's problem alone (its stream is reset or its connection
refused), never an exception in somebody else's path.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from ipvcs.errors import LimitError

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
    """Of all connections, both directions."""
    streams_per_connection: int = 2048
    """Opened by the peer. One of ours holds over a thousand in the test."""
    stream_memory: int = 16 * MIB
    """The largest window of a stream: 400 Mbit/s at 300 ms. As go-yamux."""
    connection_memory: int = 32 * MIB
    """Unread bytes of one connection; a frame beyond resets the stream it is for."""
    memory: int = 96 * MIB
    """Unread bytes of all connections."""
    control_backlog: int = 256 * KIB
    """Answers (window updates, pongs, resets) that a peer causes but does not read; beyond, its connection ends."""


class ConnectionLimitError(LimitError):
    """No room for another connection."""


@dataclass(slots=True)
class Resources:
    """What one swarm holds. Every `reserve_*` that returned True is to be released once."""

    limits: Limits = field(default_factory=Limits)
    streams: int = 0
    memory: int = 0
    half_open: int = 0
    half_open_by_ip: Counter[str] = field(default_factory=Counter)

    def reserve_stream(self) -> bool:
        """Count one stream more, if there is room."""
        if self.streams >= self.limits.streams:
            return False
        self.streams += 1
        return True

    def release_stream(self) -> None:
        """Count one stream less."""
        assert self.streams > 0
        self.streams -= 1

    def reserve_memory(self, size: int) -> bool:
        """Count `size` unread bytes, if there is room."""
        if self.memory + size > self.limits.memory:
            return False
        self.memory += size
        return True

    def release_memory(self, size: int) -> None:
        """Count `size` unread bytes less."""
        assert 0 <= size <= self.memory
        self.memory -= size

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
