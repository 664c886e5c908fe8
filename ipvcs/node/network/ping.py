"""The ping service: 32 random bytes there and back, on one stream as often as one likes.

It measures round trips for people and tells that a peer's program, not only its machine, is alive. That connections are
alive is checked below, by the muxer's own pings.

Spec: https://github.com/libp2p/specs/blob/master/ping/ping.md
"""

import itertools
import secrets
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from anyio import (
    CancelScope,
    EndOfStream,
    Lock,
    current_time,
    fail_after,
    move_on_after,
    sleep_until,
)

from ipvcs.errors import IpvcsError, RemoteProtocolError, UnavailableError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import DEAD_STREAM, Host, Stream

PING: Final = "/ipfs/ping/1.0.0"
SIZE: Final = 32
"""Bytes, fixed by the spec."""
TIMEOUT: Final = 10.0
"""Seconds for one ping. As go-libp2p and js-libp2p."""
INTERVAL: Final = 1.0
"""Seconds from one ping to the next. As Kubo's command."""
IDLE_TIMEOUT: Final = 60.0
"""Seconds in which an inbound stream must bring a ping and take the answer. As go-libp2p."""
INBOUND_STREAMS: Final = 2
"""Of one peer. "The listening peer SHOULD accept at most two streams per peer"."""


class PingError(UnavailableError):
    """A ping was not answered."""

    def __init__(self, peer_id: PeerId, reason: str) -> None:
        super().__init__(f"no answer to the ping from '{peer_id}': {reason}")
        self.peer_id = peer_id


class WrongEchoError(RemoteProtocolError):
    """A ping was answered with other bytes."""

    def __init__(self, peer_id: PeerId) -> None:
        super().__init__(f"'{peer_id}' answered the ping with other bytes than were sent")
        self.peer_id = peer_id


@dataclass(frozen=True, slots=True)
class PingResult:
    """One ping: a round-trip time in seconds, or the error that came instead."""

    rtt: float | None = None
    error: IpvcsError | None = None


@dataclass(eq=False, slots=True)
class _Outbound:
    """Our one ping stream to a peer. "The dialing peer MUST NOT keep more than one outbound stream"."""

    lock: Lock = field(default_factory=Lock)
    """Held for one ping: several who ping the same peer take turns."""
    stream: Stream | None = None
    users: int = 0


class PingService:
    """Answers pings from the moment it is made, and sends them."""

    def __init__(self, host: Host, *, random_bytes: Callable[[int], bytes] = secrets.token_bytes) -> None:
        self._host = host
        self._random_bytes = random_bytes
        self._inbound: Counter[PeerId] = Counter()
        self._outbound: dict[PeerId, _Outbound] = {}
        host.handle(PING, self._serve, admit=self._admit)

    def ping(
        self, peer_id: PeerId, *, count: int | None = None, timeout: float = TIMEOUT, interval: float = INTERVAL
    ) -> AbstractAsyncContextManager[AsyncIterator[PingResult]]:
        """Ping `peer_id`, connecting first if need be.

            async with service.ping(peer_id, count=4) as results:
                async for result in results: ...

        After a failed ping the next one gets a new stream. Leaving the block ends it at any point.

        Args:
            peer_id: whom to ping.
            count: how often; None: until the block is left.
            timeout: seconds for each, including a new stream if one is needed.
            interval: seconds from the start of one ping to the next.
        """
        return self._pinging(peer_id, count, timeout, interval)

    @asynccontextmanager
    async def _pinging(
        self, peer_id: PeerId, count: int | None, timeout: float, interval: float
    ) -> AsyncGenerator[AsyncIterator[PingResult]]:
        outbound = self._outbound.setdefault(peer_id, _Outbound())
        outbound.users += 1
        try:
            async with aclosing(self._results(outbound, peer_id, count, timeout, interval)) as results:
                yield results
        finally:
            outbound.users -= 1
            if not outbound.users:
                del self._outbound[peer_id]
                if outbound.stream is not None:
                    with CancelScope(shield=True):  # it does not wait for the peer
                        await outbound.stream.aclose()

    async def _results(
        self, outbound: _Outbound, peer_id: PeerId, count: int | None, timeout: float, interval: float
    ) -> AsyncGenerator[PingResult]:
        due = current_time()
        for _number in range(count) if count is not None else itertools.count():
            await sleep_until(due)
            due = current_time() + interval
            async with outbound.lock:
                result = await self._ping_once(outbound, peer_id, timeout)
            yield result

    async def _ping_once(self, outbound: _Outbound, peer_id: PeerId, timeout: float) -> PingResult:
        done = False
        try:
            with fail_after(timeout):
                if outbound.stream is None:
                    outbound.stream = await self._host.open_stream(peer_id, [PING])
                rtt = await self._exchange(outbound.stream, peer_id)
            done = True
            return PingResult(rtt=rtt)
        except TimeoutError:
            return PingResult(error=PingError(peer_id, f"it took over {timeout:g} seconds"))
        except EndOfStream:
            return PingResult(error=PingError(peer_id, "it ended the stream"))
        except DEAD_STREAM as exc:
            return PingResult(error=PingError(peer_id, str(exc) or "the stream broke"))
        except IpvcsError as exc:
            return PingResult(error=exc)
        finally:
            if not done and outbound.stream is not None:  # a late echo must not answer the next ping
                outbound.stream.reset()
                outbound.stream = None

    async def _exchange(self, stream: Stream, peer_id: PeerId) -> float:
        sent = self._random_bytes(SIZE)
        start = current_time()
        await stream.send(sent)
        echo = b""
        while len(echo) < SIZE:
            echo += await stream.receive(SIZE - len(echo))
            if not sent.startswith(echo):
                raise WrongEchoError(peer_id)
        return current_time() - start

    def _admit(self, peer_id: PeerId) -> bool:
        """Count one more stream of the peer's, which `_serve` gives back."""
        if self._inbound[peer_id] >= INBOUND_STREAMS:
            return False
        self._inbound[peer_id] += 1
        return True

    async def _serve(self, stream: Stream) -> None:
        peer_id = stream.connection.remote_peer
        try:
            with suppress(EndOfStream, *DEAD_STREAM):
                while True:
                    with move_on_after(IDLE_TIMEOUT) as scope:
                        await _echo(stream)
                    if scope.cancelled_caught:
                        stream.reset()
                        return
        finally:
            self._inbound[peer_id] -= 1
            if not self._inbound[peer_id]:
                del self._inbound[peer_id]


async def _echo(stream: Stream) -> None:
    """Echo one ping. The peer may have ended its side behind it, as js-libp2p does: it is answered all the same."""
    ping = b""
    while len(ping) < SIZE:
        ping += await stream.receive(SIZE - len(ping))
    await stream.send(ping)
