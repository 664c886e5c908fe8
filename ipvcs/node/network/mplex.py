"""mplex: many streams over one connection, without windows. Pure: bytes and time in, events and bytes out.

    open_stream ─► New ──► [open] ── end: Close ─► half closed ── their Close ─► gone
    their New ──────────►  [open] ── their Close ─► half closed ── end: Close ─► gone
                           reset: Reset, or their Reset, from anywhere ────────► gone

Deprecated, for the lack of flow control: a reader that is slow can't hold its writer back. Kubo 0.22 and js-libp2p
still speak it. What nobody has read yet is bounded by resetting the stream it is on.

Goals: payloads handed on as they arrive, never gathered into messages; a peer that merely asks for too much has the
stream refused, until it does so too often. Non-goals: which of several streams sends first, and how much is queued in
all. The shell decides both.

Spec: https://github.com/libp2p/specs/blob/master/mplex/README.md
"""

from collections import deque
from typing import Final

from ipvcs.errors import LocalProtocolError
from ipvcs.node.network import mplex_frames as frames
from ipvcs.node.network.chatter import Chatter
from ipvcs.node.network.interface import Buffer
from ipvcs.node.network.muxer import (
    DataReceived,
    MuxerError,
    MuxerEvent,
    StreamEnded,
    StreamKey,
    StreamOpened,
    StreamReset,
)
from ipvcs.node.network.token_bucket import TokenBucket

PROTOCOL_ID: Final = "/mplex/6.7.0"
MAX_UNREAD: Final = 4 * 1024 * 1024
"""Bytes that wait on one stream for their reader: as many as js-libp2p holds, four of the largest messages, so that the
largest Bitswap block (2 MiB) is never lost for coming at once. Go's mplex holds less, but stalls all streams for up to
5 s before it resets like we do."""
_DISCARD_LIMIT: Final = 256 * 1024
"""Bytes dropped on a stream that nobody reads any more before it is reset: enough for an answer that was on its way."""
_REFUSAL_BURST: Final = 2048
_REFUSALS_PER_SECOND: Final = 100.0
"""Streams that a peer may open only to have them refused, or to reset them itself: what a burst of cancelled requests
needs. Beyond, it is a flood (as HTTP/2's "rapid reset"), and the connection ends. js-libp2p takes five new a second."""


class _Stream:
    """One stream, and its own key: ids may be used again once both sides are done, these objects are not."""

    __slots__ = ("discarding", "dropped", "ended", "gone", "ours", "peer_ended", "stream_id", "unread")

    def __init__(self, stream_id: int, *, ours: bool) -> None:
        self.stream_id = stream_id
        self.ours = ours  # we opened it
        self.ended = False
        self.peer_ended = False
        self.gone = False
        self.discarding = False
        self.unread = 0  # bytes reported and not yet consumed
        self.dropped = 0  # bytes, since nobody reads

    def __repr__(self) -> str:
        return f"<mplex stream {self.stream_id} of {'ours' if self.ours else 'the peer'}>"

    def header(self, kind: int, length: int = 0) -> bytes:
        """Return the header of a frame that we send."""
        return frames.encode_header(self.stream_id, kind + frames.OPENER * self.ours, length)


class MplexSession:
    """One side of an mplex connection; implements `muxer.MuxerSession`."""

    protocol_id = PROTOCOL_ID

    def __init__(
        self, *, initiator: bool, max_inbound_streams: int, max_unread: int = MAX_UNREAD, now: float = 0.0
    ) -> None:
        """Begin a session.

        Args:
            initiator: whether we dialled; mplex makes no difference of it.
            max_inbound_streams: streams of the peer's that are open at once; more are refused.
            max_unread: bytes that wait on one stream for its reader; a stream with more is reset.
            now: seconds, on the clock of all other calls.
        """
        del initiator
        self._next_id = 0
        self._streams: dict[tuple[int, bool], _Stream] = {}
        self._max_inbound = max_inbound_streams
        self._inbound = 0
        self._max_unread = max_unread
        self._now = now
        self._chatter = Chatter(now)
        self._refusals = TokenBucket(_REFUSAL_BURST, _REFUSALS_PER_SECOND, now)
        self._events: deque[MuxerEvent] = deque()
        self._outbox: list[Buffer] = []
        self._header = b""  # of a frame whose header is not complete
        self._payload_left = 0
        self._payload_stream: _Stream | None = None  # None: dropped
        self._gone_away = False
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

    def next_event(self) -> MuxerEvent | None:
        """Return the oldest unreported event. See `MuxerSession.next_event`."""
        if self._events:
            return self._events.popleft()
        if self._error is not None:
            raise self._error
        return None

    def _parse(self, view: memoryview) -> None:
        position, end = 0, len(view)
        if self._header:
            joined = self._header + view[: frames.MAX_HEADER]
            header = frames.decode_header(joined)
            if header is None:
                self._header = joined
                return
            position = header[3] - len(self._header)
            self._header = b""
            self._on_header(*header[:3])
        while position < end:
            if self._payload_left:
                size = min(self._payload_left, end - position)
                self._payload_left -= size
                if self._payload_stream is not None:
                    self._on_payload(self._payload_stream, view[position : position + size])
                position += size
                continue
            header = frames.decode_header(view, position)
            if header is None:
                self._header = bytes(view[position:])
                return
            position = header[3]
            self._on_header(*header[:3])

    def _on_header(self, stream_id: int, flag: int, length: int) -> None:
        self._payload_left = length
        self._payload_stream = None  # a new stream's name, or nothing that matters
        if flag == frames.NEW_STREAM:
            self._on_new_stream(stream_id)
            return
        ours = flag & 1 == 1  # not sent by the opener
        stream = self._streams.get((stream_id, ours))
        if stream is None:
            if flag < frames.CLOSE:
                self._chatter.count_data(length, self._now)
            if ours and stream_id >= self._next_id:
                raise MuxerError(f"mplex frame for stream {stream_id}, which we never opened")
            return  # Refused, or reset by us a moment ago: the peer could not know. Not a violation.
        if flag < frames.CLOSE:
            self._chatter.count_data(length, self._now)
            if not stream.peer_ended:
                self._payload_stream = stream
        elif flag < frames.RESET:
            if not stream.peer_ended:
                stream.peer_ended = True
                self._events.append(StreamEnded(stream))
                if stream.ended:
                    self._forget(stream)
        else:
            if not ours:
                self._count_refusal()
            self._forget(stream)
            self._events.append(StreamReset(stream))

    def _on_new_stream(self, stream_id: int) -> None:
        if (stream_id, False) in self._streams:
            raise MuxerError(f"mplex stream {stream_id} is opened twice")
        stream = _Stream(stream_id, ours=False)
        if self._gone_away or self._inbound >= self._max_inbound:
            self._count_refusal()
            self._outbox.append(stream.header(frames.RESET))
            return
        self._streams[stream_id, False] = stream
        self._inbound += 1
        self._events.append(StreamOpened(stream))

    def _on_payload(self, stream: _Stream, data: memoryview) -> None:
        if stream.gone:
            return
        if stream.discarding:
            stream.dropped += len(data)
            if stream.dropped > _DISCARD_LIMIT:
                self._break(stream, "the peer goes on sending what nobody reads")
            return
        stream.unread += len(data)
        if stream.unread > self._max_unread:
            self._break(
                stream, f"more than {self._max_unread} bytes wait to be read, and mplex can't make the peer wait"
            )
        else:
            self._events.append(DataReceived(stream, data))

    def _break(self, stream: _Stream, reason: str) -> None:
        self._outbox.append(stream.header(frames.RESET))
        self._forget(stream)
        self._events.append(StreamReset(stream, reason))

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
        return not self._gone_away and self._error is None

    def open_stream(self) -> StreamKey:
        """Open a stream, which takes data at once. Raises LocalProtocolError once over; mplex itself has no bound."""
        if not self.can_open:
            raise LocalProtocolError("the mplex session takes no new streams")
        stream = _Stream(self._next_id, ours=True)
        self._next_id += 1
        self._streams[stream.stream_id, True] = stream
        name = b"%d" % stream.stream_id  # as Go names it; nobody reads it
        self._outbox.append(frames.encode_header(stream.stream_id, frames.NEW_STREAM, len(name)) + name)
        return stream

    def send(self, key: StreamKey, data: memoryview) -> int:
        """Queue all of `data`: there is no window, so no SendReady ever. Returns its size.

        Raises:
            LocalProtocolError: the stream is gone, or we ended it.
        """
        assert isinstance(key, _Stream)
        if key.gone or key.ended:
            raise LocalProtocolError(f"{key} takes no more data")
        for start in range(0, len(data), frames.MAX_PAYLOAD):
            part = data[start : start + frames.MAX_PAYLOAD]
            self._outbox.append(key.header(frames.MESSAGE, len(part)))
            self._outbox.append(part)
        return len(data)

    def end(self, key: StreamKey) -> None:
        """Send Close."""
        assert isinstance(key, _Stream)
        if key.gone or key.ended:
            return
        key.ended = True
        self._outbox.append(key.header(frames.CLOSE))
        if key.peer_ended:
            self._forget(key)

    def reset(self, key: StreamKey) -> None:
        """Send Reset and forget the stream. Never for one that the peer reset: js-libp2p counts frames for streams
        that are gone, and ends the connection at the sixth within a second.
        """
        assert isinstance(key, _Stream)
        if key.gone:
            return
        self._outbox.append(key.header(frames.RESET))
        self._forget(key)

    def refuse(self, key: StreamKey) -> None:
        """Reset a stream that there is no room for. See `MuxerSession.refuse`."""
        self.reset(key)
        try:
            self._count_refusal()
        except MuxerError as exc:
            self._error = self._error or exc

    def consumed(self, key: StreamKey, size: int, now: float) -> None:
        """Count what the reader took; the peer does not hear of it."""
        assert isinstance(key, _Stream)
        self._now = now
        if not key.gone:
            assert 0 <= size <= key.unread
            key.unread -= size

    def discard(self, key: StreamKey) -> None:
        """Drop what arrives from now on; a peer that goes on sending has the stream reset."""
        assert isinstance(key, _Stream)
        key.discarding = True

    def ping(self, now: float) -> bool:
        """Return False: mplex has no pings."""
        self._now = now
        return False

    def go_away(self) -> None:
        """Open and accept no more streams. mplex has no word for it; the peer learns by its streams being refused."""
        self._gone_away = True

    def _forget(self, stream: _Stream) -> None:
        assert not stream.gone
        stream.gone = True
        del self._streams[stream.stream_id, stream.ours]
        if not stream.ours:
            self._inbound -= 1
