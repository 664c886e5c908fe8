"""Two multiplexer sessions, a link between them and a clock: a connection with no socket, no task and no waiting.

The link keeps each direction's order, takes a while for each chunk, and cuts chunks anywhere. Everything that a
session promises about the order of its events is asserted on the way.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

from ipvcs.node.network.muxer import (
    DataReceived,
    GoAwayReceived,
    MuxerError,
    MuxerEvent,
    MuxerSession,
    PongReceived,
    SendReady,
    StreamEnded,
    StreamKey,
    StreamOpened,
    StreamReset,
)

LATENCY: Final = 0.02
"""Seconds that a chunk takes; half a round trip."""
_CHUNKS: Final = (1, 2, 13, 100, 1400, 65_536, 1 << 20)


@dataclass(eq=False)
class StreamLog:
    """What one side knows of a stream."""

    key: StreamKey
    inbound: bool
    data: bytearray = field(default_factory=bytearray)
    unread: int = 0
    ended: bool = False
    reset: str | None = None
    discarded: bool = False
    unsent: deque[memoryview] = field(default_factory=deque)
    ends: bool = False


class Side:
    """A session, and an application that reads what arrives, or does not."""

    def __init__(self, session: MuxerSession, pair: "Pair") -> None:
        self.session = session
        self.reads = True
        """Whether what arrives is consumed at once."""
        self.streams: dict[StreamKey, StreamLog] = {}
        self.accepted: list[StreamKey] = []
        """The peer's streams, in the order it opened them."""
        self.rtts: list[float] = []
        self.go_aways: list[int] = []
        self.error: MuxerError | None = None
        self.wire = bytearray()
        """What was sent and has not arrived."""
        self.sent = 0
        """Bytes put on the wire in all."""
        self._pair = pair

    def open(self) -> StreamKey:
        """Open a stream."""
        key = self.session.open_stream()
        assert key not in self.streams
        self.streams[key] = StreamLog(key, inbound=False)
        return key

    def write(self, key: StreamKey, data: bytes) -> None:
        """Send `data`, as the peer makes room."""
        log = self.streams[key]
        log.unsent.append(memoryview(data))
        if len(log.unsent) == 1:
            self._write_more(log)

    def end(self, key: StreamKey) -> None:
        """End our side behind what is written."""
        log = self.streams[key]
        log.ends = True
        if not log.unsent:
            self.session.end(key)

    def reset(self, key: StreamKey) -> None:
        """Abandon the stream."""
        log = self.streams[key]
        log.unsent.clear()
        log.reset = "by us"
        self.session.reset(key)

    def discard(self, key: StreamKey) -> None:
        """Read no more, and end our side, as a stream that is closed does."""
        self.streams[key].discarded = True
        self.end(key)
        self.session.discard(key)

    def read(self, key: StreamKey) -> None:
        """Consume what waits."""
        log = self.streams[key]
        size, log.unread = log.unread, 0
        self.session.consumed(key, size, self._pair.now)

    def receive(self, data: bytes) -> None:
        """Hand `data` to the session and work off its events."""
        if self.error is not None:
            return
        self.session.receive_data(data, self._pair.now)
        try:
            while (event := self.session.next_event()) is not None:
                self._on_event(event)
        except MuxerError as exc:
            self.error = exc

    def flush(self) -> None:
        """Put what the session owes on the wire."""
        for part in self.session.data_to_send():
            self.wire += part
            self.sent += len(part)

    def _on_event(self, event: MuxerEvent) -> None:
        if isinstance(event, StreamOpened):
            assert event.key not in self.streams, "a key names one stream only"
            self.streams[event.key] = StreamLog(event.key, inbound=True)
            self.accepted.append(event.key)
        elif isinstance(event, PongReceived):
            self.rtts.append(event.rtt)
        elif isinstance(event, GoAwayReceived):
            self.go_aways.append(event.code)
        else:
            log = self.streams[event.key]
            assert log.reset is None, f"{event} after the stream was gone"
            if isinstance(event, SendReady):
                self._write_more(log)
            elif isinstance(event, StreamReset):
                log.reset = event.reason
                log.unsent.clear()
            else:
                assert not log.ended, f"{event} after the stream's end"
                if isinstance(event, StreamEnded):
                    log.ended = True
                else:
                    self._on_data(log, event)

    def _on_data(self, log: StreamLog, event: DataReceived) -> None:
        assert len(event.data), "data without a byte"
        assert not log.discarded, "data that nobody reads"
        log.data += event.data
        if self.reads:
            self.session.consumed(log.key, len(event.data), self._pair.now)
        else:
            log.unread += len(event.data)

    def _write_more(self, log: StreamLog) -> None:
        while log.unsent:
            data = log.unsent[0]
            taken = self.session.send(log.key, data)
            assert 0 <= taken <= len(data)
            if taken < len(data):
                log.unsent[0] = data[taken:]
                if not taken:
                    return
            else:
                log.unsent.popleft()
        if log.ends:
            self.session.end(log.key)


class Pair:
    """A dialer and a listener over a link. `make(initiator)` gives a session; `seed` decides how bytes are cut."""

    def __init__(self, make: Callable[[bool], MuxerSession], seed: int = 0) -> None:
        self.now = 0.0
        self.random = Random(seed)
        self.dialer = Side(make(True), self)
        self.listener = Side(make(False), self)

    def other(self, side: Side) -> Side:
        """Return the other end."""
        return self.listener if side is self.dialer else self.dialer

    def deliver(self) -> bool:
        """Let one chunk arrive, in either direction; False when nothing is under way."""
        for side in self.dialer, self.listener:
            side.flush()
        ready = [side for side in (self.dialer, self.listener) if side.wire]
        if not ready:
            return False
        side = self.random.choice(ready)
        size = self.random.choice(_CHUNKS)
        chunk = bytes(side.wire[:size])
        del side.wire[:size]
        self.now += LATENCY
        self.other(side).receive(chunk)
        return True

    def run(self) -> None:
        """Let everything arrive that is or gets under way."""
        while self.deliver():
            pass

    def twin(self, side: Side, key: StreamKey) -> StreamLog:
        """Return what the other side knows of a stream that `side` opened: they are accepted in the order of opening.

        Refused streams have no twin and must not come before `key`.
        """
        opened = [log.key for log in side.streams.values() if not log.inbound]
        other = self.other(side)
        return other.streams[other.accepted[opened.index(key)]]
