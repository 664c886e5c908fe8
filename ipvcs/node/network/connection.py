"""The shell around a connection's cores: a link, a cipher and a multiplexer, and the streams on top.

    link ── wire_received ─► SecureChannel.open ─► MuxerSession.receive_data ─► events ─► streams
    link ◄─ write ─ SecureChannel.seal ◄─ MuxerSession.data_to_send ◄─ streams' send, answers

There is no task here: bytes that arrive are decrypted, parsed and handed to the streams in the call that brings them,
and answers leave in the same call; only what takes longer than a turn waits for the next one (`turns`). Streams write
straight through while the link takes it; when it is full they wait, in order. So a reader that does not read fills its
stream's window and nothing else, and pongs wait for nobody.

This file is tied to asyncio; the cores are not. Their clock is the system's, not the event loop's: uvloop's goes in
steps of a millisecond, longer than a round trip on loopback.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from time import monotonic
from typing import Final

import anyio

from ipvcs.errors import LocalProtocolError, ProtocolError, UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PublicKey
from ipvcs.node.network.interface import Buffer, ConnectionOwner, Direction
from ipvcs.node.network.keep_alive import Heartbeat, KeepAlive, PeerSilentError
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
from ipvcs.node.network.stream_deadlines import StreamDeadlines
from ipvcs.node.network.turns import TURN, Portions, Turns

_log = logging.getLogger(__name__)

_WRITE_TURN: Final = 256 * 1024
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
_WRITE_LIMIT: Final = 1024 * 1024 + _WRITE_TURN
"""Bytes that streams alone can have waiting: the link's high-water mark and a write across it."""


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
        turns: Turns,
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
        self._turns = turns
        self._portions = Portions()
        self._waits = False  # for its turn
        self._heartbeat = Heartbeat(
            keep_alive,
            ask=self._ping,
            measure_progress=lambda: (self._received, link.bytes_sent),
            on_silence=lambda: self._fail(PeerSilentError(self.remote_peer, keep_alive.timeout)),
        )
        self._streams: dict[StreamKey, MuxedStream] = {}
        self._received = 0
        self.unread = 0
        self._share: PeerShare
        self._turn = 0
        self._flush_scheduled = False
        self._writers: deque[asyncio.Future[None]] = deque()
        self._openers: deque[asyncio.Future[None]] = deque()
        self._lingering = StreamDeadlines(_LINGER, self._on_lingered)  # we closed them and the peer has not
        self._negotiations = StreamDeadlines(resources.limits.negotiation_timeout, self._on_undecided)
        self._goodbye: asyncio.TimerHandle | None = None
        self._closing = False
        self._reason: Exception | None = None
        self._gone_away = False
        self._closed = asyncio.Event()

    def start(self, owner: ConnectionOwner, plaintext: Sequence[Buffer], wire: Buffer) -> None:
        """Begin to work for `owner`: `plaintext` and `wire` are what came behind the handshakes, decrypted and not."""
        self._owner = owner
        self._share = self._resources.join(self.remote_peer, self)
        self._heartbeat.start()
        for data in plaintext:
            self._portions.add(data)
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
            self._received += used
            for plaintext in plaintexts:
                self._portions.add(plaintext)
            if not self._waits:
                self._work()
                if self._portions.size:
                    self._wait_for_turn()
        except ProtocolError as exc:
            self._fail(exc)
            return len(data)
        return used

    def _work(self) -> None:
        """Parse, deliver and answer until nothing is left or the turn is over. Raises ProtocolError."""
        began = now = monotonic()
        while size := self._portions.size:
            self._session.receive_data(self._portions.take(), now)
            self._dispatch()
            before, now = now, monotonic()
            self._portions.adapt(size - self._portions.size, now - before)
            if now - began > TURN:
                break
        self._flush()
        if self._link.write_backlog > _WRITE_LIMIT + self._resources.limits.control_backlog:
            raise WriteBacklogError(f"peer '{self.remote_peer}' causes answers that it does not read")
        if self._channel.ended and not self._portions.size:
            self._say_goodbye(None)

    def _wait_for_turn(self) -> None:
        if self._turns.wait(self, self._portions.size):
            self._waits = True
            self._link.pause_reading()
        else:
            while self._portions.size:
                self._work()

    def work_on(self) -> bool:
        """Go on where the last turn ended. See `turns.Worker`."""
        if self._closing:
            return False
        try:
            self._work()
        except ProtocolError as exc:
            self._fail(exc)
        if self._portions.size:
            return True
        self._waits = False
        self._link.resume_reading()
        return False

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
            self._lingering.discard(event.key)
            if (stream := self._streams.get(event.key)) is not None:
                stream.on_ended()
        elif isinstance(event, StreamReset):
            self._lingering.discard(event.key)
            if (stream := self._streams.get(event.key)) is not None:
                self._remove(stream)
                stream.on_broken(event.reason)
        elif isinstance(event, SendReady):
            if (stream := self._streams.get(event.key)) is not None:
                stream.on_sendable()
        elif isinstance(event, PongReceived):
            self.rtt = event.rtt
            self._heartbeat.on_pong()
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
        self._negotiations.add(key)
        served = self._owner.served_protocols()
        stream.respond(lambda protocol: protocol in served)

    # ---- for the streams ----

    def negotiated(self, stream: MuxedStream) -> None:
        """`stream`, opened by the peer, has a protocol."""
        self._negotiations.discard(stream.key)
        if not self._owner.on_stream(stream):
            self._refuse(stream, "it is refused")

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
        if self._turn < _WRITE_TURN:
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
            self._lingering.add(stream.key)
            if len(self._lingering) > _MAX_LINGERING:
                self._session.reset(self._lingering.pop_oldest())

    def reset(self, stream: MuxedStream) -> None:
        """Abandon a stream."""
        self._remove(stream)
        if not self._closing:
            self._session.reset(stream.key)
            self._schedule_flush()

    def _remove(self, stream: MuxedStream) -> None:
        if self._streams.pop(stream.key, None) is not None:
            self._resources.release_stream(self._share, inbound=stream.direction == "inbound")
            self._negotiations.discard(stream.key)
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

    def _ping(self) -> bool:
        if not self._session.ping(monotonic()):
            return False
        self._schedule_flush()
        return True

    def _on_undecided(self, keys: list[StreamKey]) -> None:
        for key in keys:
            self._refuse(self._streams[key], "the peer did not say in time what the stream is for")
        try:
            self._dispatch()  # a peer that is refused too often ends here
        except ProtocolError as exc:
            self._fail(exc)

    def _on_lingered(self, keys: list[StreamKey]) -> None:
        for key in keys:
            self._session.reset(key)
        self._schedule_flush()

    def _refuse(self, stream: MuxedStream, reason: str) -> None:
        self._remove(stream)
        self._session.refuse(stream.key)
        self._schedule_flush()
        stream.on_broken(reason)

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
        self._heartbeat.stop()
        if self._goodbye is not None:
            self._goodbye.cancel()
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
        self._negotiations.clear()
        self._portions.clear()
        _wake_all(self._writers)
        _wake_all(self._openers)


def _wake_all(waiters: "deque[asyncio.Future[None]]") -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
