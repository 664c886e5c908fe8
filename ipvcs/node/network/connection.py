"""The shell around a connection's cores: a link, a cipher and a multiplexer, and the streams on top.

    link ── wire_received ─► SecureChannel.open ─► MuxerSession.receive_data ─► events ─► streams
    link ◄─ write ─ SecureChannel.seal ◄─ MuxerSession.data_to_send ◄─ streams' send, answers

There is no task here: bytes that arrive are decrypted, parsed and handed to the streams in the call that brings them,
and answers leave in the same call. Streams write straight through while the link takes it; when it is full they wait,
in order. So a reader that does not read fills its stream's window and nothing else, and pongs wait for nobody.

This file is tied to asyncio; the cores are not. Their clock is the system's, not the event loop's: uvloop's goes in
steps of a millisecond, longer than a round trip on loopback.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import takewhile
from time import monotonic
from typing import Final

import anyio

from ipvcs.errors import LocalProtocolError, ProtocolError, UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PublicKey
from ipvcs.node.network.interface import Buffer, ConnectionOwner, Direction
from ipvcs.node.network.limits import PeerShare, Resources
from ipvcs.node.network.link import Link
from ipvcs.node.network.muxer import (
    DataReceived,
    GoAwayReceived,
    MuxerEvent,
    MuxerSession,
    PongReceived,
    SendReady,
    StreamEnded,
    StreamKey,
    StreamOpened,
    StreamReset,
    TooManyStreamsError,
)
from ipvcs.node.network.security import SecureChannel, Secured
from ipvcs.node.network.stream import MuxedStream

_log = logging.getLogger(__name__)

_TURN: Final = 256 * 1024
"""Bytes that streams write before the event loop looks at anything else."""
_SMALL: Final = 4 * 1024
"""Bytes. Sends up to this size leave together, at the end of a turn of the event loop: an answer, the end of its stream
and a window update are then one message and one system call."""
_SEND_COST: Final = 4 * 1024
"""What a small send counts for in a turn."""
_GOODBYE_TIMEOUT: Final = 2.0
"""Seconds for a peer to take our last bytes."""
_LINGER: Final = 600.0
"""Seconds for a peer to end its side of a stream that we closed; then it is reset, and what its reader has not read yet
of ours may be lost."""
_MAX_LINGERING: Final = 4096
"""Streams that we closed and may still wait for; the oldest is reset earlier when there are more."""
_WRITE_LIMIT: Final = 1024 * 1024 + _TURN
"""Bytes that streams alone can have waiting: the link's high-water mark and a write across it."""


class KeepAlive:
    """When to ask whether the peer is there, in seconds. Go and js ask every 30 s."""

    __slots__ = ("interval", "timeout")

    def __init__(self, interval: float = 30.0, timeout: float = 10.0) -> None:
        self.interval = interval
        self.timeout = timeout


class PeerSilentError(UnavailableError):
    """The peer does not answer keep-alives."""

    def __init__(self, peer_id: PeerId, seconds: float) -> None:
        super().__init__(f"peer '{peer_id}' did not answer for {seconds:g} s")
        self.peer_id = peer_id


class WriteBacklogError(ProtocolError):
    """The peer makes us answer and does not read the answers."""


class MuxedConnection:
    """A secured, multiplexed connection; implements `interface.Connection`."""

    def __init__(
        self,
        link: Link,
        secured: Secured,
        session: MuxerSession,
        *,
        local_peer: PeerId,
        direction: Direction,
        security: str,
        resources: Resources,
        keep_alive: KeepAlive,
    ) -> None:
        self.local_peer = local_peer
        self.remote_peer = secured.remote_peer
        self.remote_key: PublicKey = secured.remote_key
        self.local_addr: Multiaddr = link.local_addr
        self.remote_addr: Multiaddr = link.remote_addr
        self.direction = direction
        self.security = security
        self.muxer = session.protocol_id
        self.rtt: float | None = None
        self.is_write_paused = False
        self._loop = asyncio.get_running_loop()
        self.opened = self.last_used = self._loop.time()
        self._link = link
        self._channel: SecureChannel = secured.channel
        self._session = session
        self._owner: ConnectionOwner
        self._resources = resources
        self._keep_alive = keep_alive
        self._streams: dict[StreamKey, MuxedStream] = {}
        self._received = 0
        self._progress = (0, 0)
        self.unread = 0
        self._share: PeerShare
        self._turn = 0
        self._flush_scheduled = False
        self._writers: deque[asyncio.Future[None]] = deque()
        self._openers: deque[asyncio.Future[None]] = deque()
        self._lingering: dict[StreamKey, float] = {}  # streams that we closed and the peer has not, oldest first
        self._negotiations: dict[StreamKey, float] = {}  # deadlines of streams that the peer opened, oldest first
        self._sweeper: asyncio.TimerHandle | None = None
        self._pinger: asyncio.TimerHandle | None = None
        self._goodbye: asyncio.TimerHandle | None = None
        self._closing = False
        self._reason: Exception | None = None
        self._gone_away = False
        self._closed = asyncio.Event()

    def start(self, owner: ConnectionOwner, plaintext: Sequence[Buffer], wire: Buffer) -> None:
        """Begin to work for `owner`: `plaintext` and `wire` are what came behind the handshakes, decrypted and not."""
        self._owner = owner
        self._share = self._resources.join(self.remote_peer, self)
        self._ping()
        try:
            for data in plaintext:
                self._session.receive_data(data, monotonic())
            self._dispatch()
        except ProtocolError as exc:
            self._fail(exc)
        self._link.attach(self, wire)  # in any case: the link's end must reach us

    # ---- Connection ----

    @property
    def streams(self) -> Collection[MuxedStream]:
        """The live streams."""
        return self._streams.values()

    @property
    def is_closed(self) -> bool:
        """Whether it has ended, or is about to."""
        return self._closing

    async def open_stream(self, protocols: Sequence[str], *, lazy: bool = False) -> MuxedStream:
        """Open a stream and agree on a protocol. See `Connection.open_stream`."""
        seconds = self._resources.limits.negotiation_timeout
        try:
            with anyio.fail_after(seconds):
                stream = await self._open()
                if lazy and len(protocols) == 1:
                    stream.propose_lazily(protocols[0])
                else:
                    await self._propose(stream, protocols)
                return stream
        except TimeoutError:
            raise UnavailableError(f"peer '{self.remote_peer}' did not agree on a stream in {seconds:g} s") from None

    async def _propose(self, stream: MuxedStream, protocols: Sequence[str]) -> None:
        try:
            await stream.propose(tuple(protocols))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as exc:
            raise UnavailableError(f"stream to '{self.remote_peer}' broke during its negotiation: {exc}") from exc
        except BaseException:
            stream.reset()
            raise

    async def _open(self) -> MuxedStream:
        while True:
            if self._closing or self._gone_away:
                raise UnavailableError(f"the connection to '{self.remote_peer}' is going down")
            if not self._resources.reserve_stream(self._share, inbound=False):
                raise TooManyStreamsError(f"we have {self._resources.outbound_streams} streams open")
            try:
                key = self._session.open_stream()
                break
            except TooManyStreamsError:
                # The peer is slow to acknowledge; each event may be it.
                self._resources.release_stream(self._share, inbound=False)
                waiter = self._loop.create_future()
                self._openers.append(waiter)
                await waiter
            except LocalProtocolError as exc:
                self._resources.release_stream(self._share, inbound=False)
                raise UnavailableError(f"the connection to '{self.remote_peer}' takes no new streams") from exc
        stream = MuxedStream(self, key, "outbound")
        self._streams[key] = stream
        return stream

    async def aclose(self) -> None:
        """Tell the peer that we leave, and end everything. See `Connection.aclose`."""
        self._say_goodbye(None)
        await self._closed.wait()

    async def wait_closed(self) -> None:
        """Return when the connection has ended."""
        await self._closed.wait()

    # ---- WireSink ----

    def wire_received(self, data: memoryview) -> int:
        """Decrypt, parse, deliver, answer. See `WireSink.wire_received`."""
        if self._closing:
            return len(data)
        try:
            plaintexts, used = self._channel.open(data)
            now = monotonic()
            for plaintext in plaintexts:
                self._session.receive_data(plaintext, now)
                self._dispatch()
            self._flush()
            self._received += used
            if self._link.write_backlog > _WRITE_LIMIT + self._resources.limits.control_backlog:
                raise WriteBacklogError(f"peer '{self.remote_peer}' causes answers that it does not read")
        except ProtocolError as exc:
            self._fail(exc)
            return len(data)
        if self._channel.ended:
            self._say_goodbye(None)
        return used

    def wire_lost(self, error: Exception | None) -> None:
        """End everything: nothing arrives any more."""
        self._end(error)

    def wire_paused(self) -> None:
        """Let streams wait."""
        self.is_write_paused = True

    def wire_resumed(self) -> None:
        """Let the streams that wait go on, in order."""
        self.is_write_paused = False
        _wake_all(self._writers)

    # ---- events of the muxer ----

    def _dispatch(self) -> None:
        while (event := self._session.next_event()) is not None:
            if type(event) is DataReceived:
                if (stream := self._streams.get(event.key)) is not None:
                    stream.on_data(event.data)
            else:
                self._dispatch_rare(event)
        if self._openers:
            _wake_all(self._openers)

    def _dispatch_rare(self, event: MuxerEvent) -> None:
        if isinstance(event, StreamOpened):
            self._accept(event.key)
        elif isinstance(event, StreamEnded):
            self._lingering.pop(event.key, None)
            if (stream := self._streams.get(event.key)) is not None:
                stream.on_ended()
        elif isinstance(event, StreamReset):
            self._lingering.pop(event.key, None)
            if (stream := self._streams.get(event.key)) is not None:
                self._remove(stream)
                stream.on_broken(event.reason)
        elif isinstance(event, SendReady):
            if (stream := self._streams.get(event.key)) is not None:
                stream.on_sendable()
        elif isinstance(event, PongReceived):
            self._on_pong(event.rtt)
        elif isinstance(event, GoAwayReceived):
            self._gone_away = True
            if event.code:
                _log.debug("peer %s goes away: code %d", self.remote_peer, event.code)

    def _accept(self, key: StreamKey) -> None:
        too_many = len(self._negotiations) >= self._resources.limits.negotiating
        if too_many or not self._resources.reserve_stream(self._share, inbound=True):
            self._session.refuse(key)
            return
        stream = MuxedStream(self, key, "inbound")
        self._streams[key] = stream
        self._negotiations[key] = self._loop.time() + self._resources.limits.negotiation_timeout
        self._schedule_sweep(self._negotiations[key])
        served = self._owner.served_protocols()
        stream.respond(lambda protocol: protocol in served)

    # ---- for the streams ----

    def negotiated(self, stream: MuxedStream) -> None:
        """`stream`, opened by the peer, has a protocol."""
        del self._negotiations[stream.key]
        self._owner.on_stream(stream)

    def send(self, key: StreamKey, data: memoryview) -> int:
        """Send as much of `data` as the peer's window takes; return how much."""
        if self._closing:
            return len(data)  # the stream hears of the end soon
        small = len(data) <= _SMALL
        if small:
            data = memoryview(bytes(data))  # it leaves a little later, and the caller may change it by then
        try:
            taken = self._session.send(key, data)
        except LocalProtocolError:
            return len(data)  # the peer has reset it: that event is on its way to the stream
        if small:
            self._schedule_flush()
        else:
            self._flush()
        return taken

    async def wait_writable(self) -> None:
        """Wait for the link to take more."""
        waiter = self._loop.create_future()
        self._writers.append(waiter)
        await waiter

    def is_turn_over(self, taken: int) -> bool:
        """Whether the writer of `taken` bytes should let others run."""
        self._turn += max(taken, _SEND_COST)
        if self._turn < _TURN:
            return False
        self._turn = 0
        return True

    def keep(self, size: int) -> bool:
        """Make room for `size` unread bytes; False when the connection or the node holds too many."""
        if not self._resources.reserve_memory(self._share, size):
            return False
        self.unread += size
        return True

    def shed(self) -> None:
        """Give up the stream with most unread bytes. See `limits.Holder`."""
        stream = max(self._streams.values(), key=lambda each: each.unread, default=None)
        if stream is not None:
            stream.fail("too many unread bytes")

    def dropped(self, size: int) -> None:
        """`size` unread bytes are no longer kept."""
        self.unread -= size
        self._resources.release_memory(self._share, size)

    def consumed(self, key: StreamKey, size: int, *, kept: bool = True) -> None:
        """A reader took `size` bytes: the peer may send more."""
        if kept:
            self.dropped(size)
        if not self._closing:
            self._session.consumed(key, size, monotonic())
            self._schedule_flush()

    def end(self, key: StreamKey) -> None:
        """A stream sends no more."""
        if not self._closing:
            self._session.end(key)
            self._schedule_flush()

    def abandon(self, stream: MuxedStream, *, peer_ended: bool) -> None:
        """A stream, which has sent its end, is read no more."""
        self._remove(stream)
        if not self._closing and not peer_ended:
            self._session.discard(stream.key)
            self._lingering[stream.key] = self._loop.time() + _LINGER
            if len(self._lingering) > _MAX_LINGERING:
                oldest = next(iter(self._lingering))
                del self._lingering[oldest]
                self._session.reset(oldest)
            self._schedule_sweep(self._lingering[stream.key])

    def reset(self, stream: MuxedStream) -> None:
        """Abandon a stream."""
        self._remove(stream)
        if not self._closing:
            self._session.reset(stream.key)
            self._schedule_flush()

    def _remove(self, stream: MuxedStream) -> None:
        if self._streams.pop(stream.key, None) is not None:
            self._resources.release_stream(self._share, inbound=stream.direction == "inbound")
            self._negotiations.pop(stream.key, None)
            self.last_used = self._loop.time()
            _wake_all(self._openers)

    # ---- sending ----

    def _flush(self) -> None:
        parts = self._session.data_to_send()
        if parts:
            self._link.write(self._channel.seal(parts))

    def _schedule_flush(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_now)

    def _flush_now(self) -> None:
        self._flush_scheduled = False
        if not self._closing:
            self._flush()

    # ---- time ----

    def _ping(self) -> None:
        """Ask now; look for the answer after the time-out."""
        if self._session.ping(monotonic()):
            self._schedule_flush()
            self._progress = self._measure_progress()
            self._pinger = self._loop.call_later(self._keep_alive.timeout, self._on_silence)

    def _on_pong(self, rtt: float) -> None:
        self.rtt = rtt
        if self._pinger is not None:
            self._pinger.cancel()
        self._pinger = self._loop.call_later(self._keep_alive.interval, self._ping)

    def _on_silence(self) -> None:
        """No pong came. On a slow line it may be behind a lot of data: bytes that move are an answer, too."""
        progress = self._measure_progress()
        if progress == self._progress:
            self._fail(PeerSilentError(self.remote_peer, self._keep_alive.timeout))
            return
        self._progress = progress
        self._pinger = self._loop.call_later(self._keep_alive.timeout, self._on_silence)

    def _measure_progress(self) -> tuple[int, int]:
        return self._received, self._link.bytes_sent

    def _schedule_sweep(self, due: float) -> None:
        if self._sweeper is not None:
            if self._sweeper.when() <= due:
                return
            self._sweeper.cancel()
        self._sweeper = self._loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        """Reset the streams whose time is over."""
        self._sweeper = None
        now = self._loop.time()
        for key in list(takewhile(lambda key: self._negotiations[key] <= now, self._negotiations)):
            stream = self._streams[key]
            self._remove(stream)
            self._session.refuse(key)
            stream.on_broken("the peer did not say in time what the stream is for")
        for key in list(takewhile(lambda key: self._lingering[key] <= now, self._lingering)):
            del self._lingering[key]
            self._session.reset(key)
        try:
            self._dispatch()  # a peer that is refused too often ends here
        except ProtocolError as exc:
            self._fail(exc)
            return
        self._schedule_flush()
        for deadlines in (self._negotiations, self._lingering):
            if deadlines:
                self._schedule_sweep(next(iter(deadlines.values())))

    # ---- the end ----

    def _fail(self, error: Exception) -> None:
        """End because of `error`; the peer hears what the muxer has to say about it."""
        _log.debug("connection to %s ends: %s", self.remote_peer, error)
        self._say_goodbye(error)

    def _say_goodbye(self, error: Exception | None) -> None:
        if self._closing:
            return
        self._session.go_away()
        with suppress(ProtocolError):  # a cipher that failed seals nothing more
            self._flush()
        with suppress(ProtocolError):  # but TLS still has an alert to send
            if last := self._channel.close():
                self._link.write(last)
        self._closing = True
        self._link.close()
        self._goodbye = self._loop.call_later(_GOODBYE_TIMEOUT, self._link.abort)
        self._reason = error
        self._break_streams(error)

    def _end(self, error: Exception | None) -> None:
        if self._closed.is_set():
            return
        was_closing, self._closing = self._closing, True
        for timer in (self._pinger, self._sweeper, self._goodbye):
            if timer is not None:
                timer.cancel()
        if not was_closing:
            self._reason = error
            self._break_streams(error)
        self._closed.set()
        self._resources.leave(self._share, self)
        self._owner.on_closed(self, self._reason)

    def _break_streams(self, error: Exception | None) -> None:
        reason = str(error) if error is not None else "the connection was closed"
        for stream in list(self._streams.values()):
            self._remove(stream)
            stream.on_broken(reason)
        self._lingering.clear()
        _wake_all(self._writers)
        _wake_all(self._openers)


def _wake_all(waiters: "deque[asyncio.Future[None]]") -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
