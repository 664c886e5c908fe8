"""Yamux: many streams over one connection, each with a window. Pure: bytes and time in, events and bytes out.

    open_stream ─► SYN ──► [open] ── end: FIN ──► half closed ── their FIN ──► gone
    their SYN ─► ACK ──►   [open] ── their FIN ─► half closed ── end: FIN ───► gone
                           reset: RST, or their RST, from anywhere ──────────► gone

Goals: frames handed on as views; one frame a Noise message; answers (pongs, acknowledgements, window updates) that do
not wait for any reader. A peer that breaks the protocol ends its connection; one that merely asks for too much has the
stream refused, until it does so too often.

Non-goals: which of several streams sends first, and how much is queued in all. The shell decides both.

Spec: https://github.com/hashicorp/yamux/blob/master/spec.md and
https://github.com/libp2p/specs/blob/master/yamux/README.md
"""

from collections import deque
from typing import Final

from ipvcs.errors import LocalProtocolError
from ipvcs.node.network import yamux_frames as frames
from ipvcs.node.network.chatter import Chatter
from ipvcs.node.network.interface import Buffer
from ipvcs.node.network.muxer import (
    DataReceived,
    GoAwayReceived,
    MuxerError,
    MuxerEvent,
    PongReceived,
    SendReady,
    StreamEnded,
    StreamKey,
    StreamOpened,
    StreamReset,
    TooManyStreamsError,
)
from ipvcs.node.network.token_bucket import TokenBucket
from ipvcs.node.network.yamux_window import GrowthBudget, ReceiveWindow

PROTOCOL_ID: Final = "/yamux/1.0.0"
MAX_UNACKNOWLEDGED: Final = 256
"""Streams of ours that the peer has not acknowledged yet. Go refuses more as a backlog (libp2p's yamux specification,
"ACK backlog")."""
_REFUSAL_BURST: Final = 2048
_REFUSALS_PER_SECOND: Final = 100.0
"""Streams that a peer may open only to have them refused, or to reset them itself: what a burst of cancelled requests
needs. Beyond, it is a flood (as HTTP/2's "rapid reset"), and the connection ends."""
_DISCARD_LIMIT: Final = frames.INITIAL_WINDOW // 2
"""Bytes taken on a stream after its reader has left before it is reset: enough for an answer that was on its way."""


class YamuxStream:
    """A stream's state, and its key outside: an id may be used again once both sides have ended it."""

    __slots__ = (
        "acknowledged",
        "discarded",
        "discarding",
        "ended",
        "gone",
        "inbound",
        "peer_ended",
        "send_credit",
        "starved",
        "stream_id",
        "window",
    )

    def __init__(self, stream_id: int, *, inbound: bool, window: ReceiveWindow) -> None:
        self.stream_id = stream_id
        self.gone = False
        self.inbound = inbound
        self.window = window
        self.send_credit = frames.INITIAL_WINDOW
        self.starved = False  # a send was refused for lack of credit
        self.acknowledged = inbound
        self.ended = False
        self.peer_ended = False
        self.discarding = False
        self.discarded = 0

    def is_pointless(self, size: int) -> bool:
        """Count `size` bytes that nobody reads; tell whether the peer goes on, or is stuck, instead of ending."""
        self.discarded += size
        return self.discarded > _DISCARD_LIMIT or not self.window.credit


class YamuxSession:
    """One side of a yamux connection; implements `muxer.MuxerSession`. Stream keys are `YamuxStream`s."""

    protocol_id = PROTOCOL_ID

    def __init__(
        self, *, initiator: bool, max_inbound_streams: int, max_window: int, window_growth: int, now: float = 0.0
    ) -> None:
        """Begin a session.

        Args:
            initiator: whether we dialled; such a side opens odd ids.
            max_inbound_streams: streams of the peer's that are open at once; more are refused.
            max_window: bytes, to which a stream's window may grow; at least the initial 256 KiB.
            window_growth: bytes, by which all windows together may exceed their initial size.
            now: seconds, on the clock of all other calls.
        """
        self._next_id = 1 if initiator else 2
        self._streams: dict[int, YamuxStream] = {}
        self._max_inbound = max_inbound_streams
        self._inbound = 0
        self._unacknowledged = 0
        self._max_window = max_window
        self._growth = GrowthBudget(window_growth)
        self._now = now
        self._refusals = TokenBucket(_REFUSAL_BURST, _REFUSALS_PER_SECOND, now)
        self._chatter = Chatter(now)
        self._events: deque[MuxerEvent] = deque()
        self._outbox: list[Buffer] = []
        self._header = bytearray()  # of a frame whose header is not complete
        self._payload_left = 0
        self._payload_stream: YamuxStream | None = None  # None: dropped
        self._payload_ends = False  # the frame carries FIN, which counts after its payload
        self._pings: dict[int, float] = {}
        self._ping_value = 0
        self._rtt: float | None = None
        self._gone_away = False
        self._peer_gone_away = False
        self._error: MuxerError | None = None

    # ---- what the peer sends ----

    def receive_data(self, data: Buffer, now: float) -> None:
        """Take bytes from the peer; `data` must never change again. See `MuxerSession.receive_data`."""
        self._now = now
        if self._error is not None:
            return
        try:
            self._parse(memoryview(data))
        except MuxerError as exc:
            self._error = exc
            self._outbox.append(frames.go_away(frames.PROTOCOL_ERROR))

    def next_event(self) -> MuxerEvent | None:
        """Return the oldest unreported event. See `MuxerSession.next_event`."""
        if self._events:
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _parse(self, view: memoryview) -> None:
        position, end = 0, len(view)
        while position < end:
            if self._payload_left:
                size = min(self._payload_left, end - position)
                self._on_payload(view[position : position + size])
                position += size
                continue
            if not self._header and end - position >= frames.HEADER_SIZE:
                header = frames.decode_header(view, position)
                position += frames.HEADER_SIZE
            else:
                size = min(frames.HEADER_SIZE - len(self._header), end - position)
                self._header += view[position : position + size]
                position += size
                if len(self._header) < frames.HEADER_SIZE:
                    return
                header = frames.decode_header(self._header)
                self._header.clear()
            self._on_header(*header)

    def _on_header(self, version: int, kind: int, flags: int, stream_id: int, length: int) -> None:
        if version != 0:
            raise MuxerError(f"yamux frame has version {version}")
        if kind in (frames.DATA, frames.WINDOW_UPDATE):
            if stream_id == 0:
                raise MuxerError("yamux stream frame for the session, id 0")
            self._on_stream_frame(kind, flags, stream_id, length)
        elif stream_id != 0:
            raise MuxerError(f"yamux session frame for stream {stream_id}")
        elif kind == frames.PING:
            self._on_ping(flags, length)
        elif kind == frames.GO_AWAY:
            self._chatter.count(self._now)
            self._peer_gone_away = True
            self._events.append(GoAwayReceived(length))
        else:
            raise MuxerError(f"yamux frame has unknown type {kind}")

    def _on_stream_frame(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        if flags & frames.SYN:
            self._on_syn(stream_id)
        if kind == frames.DATA and not flags & ~frames.ACK:
            self._chatter.count_data(length, self._now)
        elif not length and not flags:
            self._chatter.count(self._now)
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id % 2 == self._next_id % 2 and stream_id >= self._next_id:
                raise MuxerError(f"yamux frame for stream {stream_id}, which we never opened")
            # Refused, or reset by us a moment ago: the peer could not know. Not a violation.
            if kind == frames.DATA:
                self._start_payload(None, length, ends=False)
            return
        if flags & frames.ACK and not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1
        if flags & frames.RST:
            if stream.inbound:
                self._count_refusal()
            if kind == frames.DATA:
                self._start_payload(None, length, ends=False)
            self._forget(stream)
            self._events.append(StreamReset(stream))
            return
        ends = bool(flags & frames.FIN)
        if kind == frames.WINDOW_UPDATE:
            if stream.send_credit + length > frames.MAX_WINDOW:
                raise MuxerError(f"yamux window of stream {stream_id} overflows")
            stream.send_credit += length
            if stream.starved and length:
                stream.starved = False
                self._events.append(SendReady(stream))
            if ends:
                self._on_fin(stream)
            return
        if length and stream.peer_ended:
            raise MuxerError(f"yamux data on stream {stream_id} after its end")
        if not stream.window.receive(length):
            raise MuxerError(f"yamux data on stream {stream_id} beyond its window")
        self._start_payload(stream, length, ends=ends)

    def _on_syn(self, stream_id: int) -> None:
        if stream_id % 2 == self._next_id % 2:
            raise MuxerError(f"yamux stream {stream_id} has our parity")
        if stream_id in self._streams:
            raise MuxerError(f"yamux stream {stream_id} is opened twice")
        if self._gone_away or self._inbound >= self._max_inbound:
            self._count_refusal()
            self._outbox.append(frames.window_update(stream_id, 0, frames.RST))
            return
        window = ReceiveWindow(self._max_window, self._growth, self._now)
        stream = self._streams[stream_id] = YamuxStream(stream_id, inbound=True, window=window)
        self._inbound += 1
        self._outbox.append(frames.window_update(stream_id, 0, frames.ACK))
        self._events.append(StreamOpened(stream))

    def _start_payload(self, stream: YamuxStream | None, length: int, *, ends: bool) -> None:
        self._payload_stream = stream
        self._payload_left = length
        self._payload_ends = ends
        if not length:
            self._finish_payload()

    def _on_payload(self, data: memoryview) -> None:
        self._payload_left -= len(data)
        stream = self._payload_stream
        if stream is not None and not stream.gone:
            if not stream.discarding:
                self._events.append(DataReceived(stream, data))
            elif stream.is_pointless(len(data)):
                self.reset(stream)
                self._events.append(StreamReset(stream, "the peer goes on sending what nobody reads"))
        if not self._payload_left:
            self._finish_payload()

    def _finish_payload(self) -> None:
        stream, self._payload_stream = self._payload_stream, None
        if self._payload_ends and stream is not None and not stream.gone:
            self._on_fin(stream)

    def _on_fin(self, stream: YamuxStream) -> None:
        if stream.peer_ended:
            return
        stream.peer_ended = True
        self._events.append(StreamEnded(stream))
        if stream.ended:
            self._forget(stream)

    def _on_ping(self, flags: int, value: int) -> None:
        if flags & frames.SYN:
            self._chatter.count(self._now)
            self._outbox.append(frames.ping(value, frames.ACK))
        elif flags & frames.ACK:
            sent = self._pings.pop(value, None)
            if sent is None:
                raise MuxerError("yamux pong that answers no ping of ours")
            self._rtt = max(self._now - sent, 0.0)
            self._events.append(PongReceived(self._rtt))
        else:
            raise MuxerError("yamux ping is neither question nor answer")

    def _count_refusal(self) -> None:
        if not self._refusals.take(self._now):
            raise MuxerError("the peer opens streams only to see them refused or to reset them")

    # ---- what we send ----

    def data_to_send(self) -> list[Buffer]:
        """Return headers and payloads in order, and forget them. See `MuxerSession.data_to_send`."""
        outbox, self._outbox = self._outbox, []
        return outbox

    @property
    def can_open(self) -> bool:
        """Whether `open_stream` would work now."""
        return (
            not self._gone_away
            and not self._peer_gone_away
            and self._error is None
            and self._unacknowledged < MAX_UNACKNOWLEDGED
        )

    def open_stream(self) -> StreamKey:
        """Open a stream. Raises TooManyStreamsError when too many are unacknowledged, LocalProtocolError once over."""
        if self._gone_away or self._peer_gone_away or self._error is not None:
            raise LocalProtocolError("the yamux session takes no new streams")
        if self._unacknowledged >= MAX_UNACKNOWLEDGED:
            raise TooManyStreamsError(f"the peer has not acknowledged {self._unacknowledged} streams yet")
        stream_id = self._next_id
        if stream_id > frames.MAX_ID:
            raise LocalProtocolError("the yamux session has used up its stream ids")
        self._next_id += 2
        window = ReceiveWindow(self._max_window, self._growth, self._now)
        stream = self._streams[stream_id] = YamuxStream(stream_id, inbound=False, window=window)
        self._unacknowledged += 1
        self._outbox.append(frames.window_update(stream_id, 0, frames.SYN))
        return stream

    def send(self, key: StreamKey, data: memoryview) -> int:
        """Queue data frames as far as the peer's window allows; return the bytes taken.

        Raises:
            LocalProtocolError: the stream is gone, or we ended it.
        """
        assert isinstance(key, YamuxStream)
        if key.gone or key.ended:
            raise LocalProtocolError(f"yamux stream {key.stream_id} takes no more data")
        size = min(len(data), key.send_credit)
        for start in range(0, size, frames.MAX_PAYLOAD):
            part = data[start : min(start + frames.MAX_PAYLOAD, size)]
            self._outbox.append(frames.encode_header(0, frames.DATA, 0, key.stream_id, len(part)))
            self._outbox.append(part)
        key.send_credit -= size
        key.starved = size < len(data)
        return size

    def end(self, key: StreamKey) -> None:
        """Send FIN, in a frame of its own: js-libp2p loses the payload of a data frame that carries one."""
        assert isinstance(key, YamuxStream)
        if key.gone or key.ended:
            return
        key.ended = True
        self._outbox.append(frames.window_update(key.stream_id, 0, frames.FIN))
        if key.peer_ended:
            self._forget(key)

    def reset(self, key: StreamKey) -> None:
        """Send RST and forget the stream."""
        assert isinstance(key, YamuxStream)
        if not key.gone:
            self._outbox.append(frames.window_update(key.stream_id, 0, frames.RST))
            self._forget(key)

    def refuse(self, key: StreamKey) -> None:
        """Reset a stream that there is no room for. See `MuxerSession.refuse`."""
        self.reset(key)
        try:
            self._count_refusal()
        except MuxerError as exc:
            self._error = self._error or exc
            self._outbox.append(frames.go_away(frames.PROTOCOL_ERROR))

    def consumed(self, key: StreamKey, size: int, now: float) -> None:
        """Give the peer credit for what the reader took, when it is worth a frame."""
        assert isinstance(key, YamuxStream)
        if key.gone or key.peer_ended or key.discarding:
            return
        if delta := key.window.consume(size, now, self._rtt):
            self._outbox.append(frames.window_update(key.stream_id, delta))

    def discard(self, key: StreamKey) -> None:
        """Drop what arrives from now on; a peer that goes on sending has the stream reset."""
        assert isinstance(key, YamuxStream)
        key.discarding = True

    def ping(self, now: float) -> bool:
        """Ask for a PongReceived."""
        self._ping_value = (self._ping_value + 1) & 0xFFFFFFFF
        self._pings[self._ping_value] = now
        self._outbox.append(frames.ping(self._ping_value, frames.SYN))
        return True

    def go_away(self) -> None:
        """Tell the peer that we open and accept no more streams."""
        if not self._gone_away:
            self._gone_away = True
            self._outbox.append(frames.go_away(frames.NORMAL))

    def _forget(self, stream: YamuxStream) -> None:
        stream.gone = True
        del self._streams[stream.stream_id]
        stream.window.release()
        if stream.inbound:
            self._inbound -= 1
        if not stream.acknowledged:
            stream.acknowledged = True
            self._unacknowledged -= 1
