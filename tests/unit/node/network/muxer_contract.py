"""What every multiplexer promises: the promises of `ipvcs.node.network.muxer`, each as a test of two sessions.

Subclass `MuxerContract` and `MuxerMachine` and say how a session is made.
"""

from collections.abc import Iterable
from random import Random
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from ipvcs.errors import LocalProtocolError
from ipvcs.node.network.muxer import DataReceived, MuxerError, MuxerEvent, MuxerSession, StreamKey
from tests.fakes.muxer_pair import LATENCY, Pair, Side, StreamLog

KIB = 1024
# Hypothesis fears that an example saved for one subclass is replayed with another: it is as good there.
EACH = settings(suppress_health_check=[HealthCheck.differing_executors])

MANY = 10_000
SEEDS = st.integers(0, 2**32)
SIZES = st.one_of(st.integers(0, 300), st.sampled_from((65_507, 65_508, 262_144, 262_145, 600_000)))


def drain(session: MuxerSession) -> tuple[list[tuple[object, ...]], bytes, bool]:
    """Return the session's events, keys numbered and neighbouring data joined; what it sends; whether it failed."""
    events: list[tuple[object, ...]] = []
    numbers: dict[StreamKey, int] = {}
    failed = False
    while True:
        try:
            event: MuxerEvent | None = session.next_event()
        except MuxerError:
            failed = True
            break
        if event is None:
            break
        number = numbers.setdefault(event.key, len(numbers)) if hasattr(event, "key") else None
        if isinstance(event, DataReceived):
            data = bytes(event.data)
            if events and events[-1][:2] == (DataReceived, number):
                data = events.pop()[2] + data  # type: ignore[operator]
            events.append((DataReceived, number, data))
        else:
            rest = [value for name in ("reason", "code") if (value := getattr(event, name, None)) is not None]
            events.append((type(event), number, *rest))
    return events, b"".join(session.data_to_send()), failed


def write_randomly(side: Side, random: Random, count: int) -> None:
    """Have `side` open, write to, end and reset streams, `count` times in all."""
    keys: list[StreamKey] = []
    for _ in range(count):
        what = random.randrange(6)
        if what == 0 or not keys:
            keys.append(side.open())
        elif what < 4:
            side.write(random.choice(keys), random.randbytes(random.choice((1, 20, 300))))
        elif what == 4:
            side.end(keys.pop(random.randrange(len(keys))))
        else:
            side.reset(keys.pop(random.randrange(len(keys))))
        side.session.ping(0.0)


class MuxerContract:
    """What every MuxerSession promises."""

    max_unread: ClassVar[int]
    """Bytes that a stream may hold for a reader that does not read."""
    stalls_writers: ClassVar[bool]
    """Whether such a reader makes the writer wait, rather than lose the stream."""
    has_pings: ClassVar[bool]

    def make(self, initiator: bool, max_inbound_streams: int = MANY) -> MuxerSession:
        """Return a new session."""
        raise NotImplementedError

    def pair(self, seed: int = 0, max_inbound_streams: int = MANY) -> Pair:
        """Return two sessions."""
        return Pair(lambda initiator: self.make(initiator, max_inbound_streams), seed)

    # ---- streams carry data ----

    @given(st.lists(st.tuples(st.booleans(), SIZES, SIZES), max_size=8), SEEDS)
    @EACH
    def test_what_is_written_arrives_on_every_stream_both_ways(
        self, plan: list[tuple[bool, int, int]], seed: int
    ) -> None:
        pair = self.pair(seed)
        content = Random(seed)
        logs: list[tuple[StreamLog, bytes, Side]] = []
        for by_dialer, there, back in plan:
            side = pair.dialer if by_dialer else pair.listener
            key = side.open()
            data = content.randbytes(there)
            side.write(key, data)
            side.end(key)
            if content.random() < 0.5:
                pair.run()  # otherwise all are on their way at once
            logs.append((side.streams[key], data, side))
            content.randbytes(back)
        pair.run()
        for (log, data, side), (_, _, back) in zip(logs, plan, strict=True):
            twin = pair.twin(side, log.key)
            assert twin.data == data
            assert twin.ended
            answer = content.randbytes(back)
            pair.other(side).write(twin.key, answer)
            pair.other(side).end(twin.key)
            pair.run()
            assert log.data == answer
            assert log.ended
        assert pair.dialer.error is pair.listener.error is None

    @given(SEEDS, st.lists(st.integers(0, 100_000), max_size=20))
    @EACH
    def test_any_chunking_gives_the_same_events_and_answers(self, seed: int, cuts: list[int]) -> None:
        pair = self.pair()
        write_randomly(pair.dialer, Random(seed), 30)
        pair.dialer.flush()
        wire = bytes(pair.dialer.wire)
        places = sorted({cut % len(wire) for cut in cuts})
        pieces = [wire[start:end] for start, end in zip([0, *places], [*places, len(wire)], strict=True)]
        whole, split, bytewise = self.make(False), self.make(False), self.make(False)
        whole.receive_data(wire, 0.0)
        for piece in pieces:
            split.receive_data(piece, 0.0)
        for place in range(len(wire)):
            bytewise.receive_data(wire[place : place + 1], 0.0)
        expected = drain(whole)
        assert expected[0]
        assert not expected[2]
        assert drain(split) == expected
        assert drain(bytewise) == expected

    def test_data_is_handed_on_as_it_arrives(self) -> None:
        pair = self.pair()
        key = pair.dialer.open()
        pair.dialer.write(key, bytes(50_000))
        pair.dialer.flush()
        pair.listener.receive(bytes(pair.dialer.wire[:20_000]))
        assert 19_000 < len(pair.twin(pair.dialer, key).data) < 20_000

    def test_an_ended_stream_still_receives(self) -> None:
        pair = self.pair()
        key = pair.dialer.open()
        pair.dialer.end(key)
        pair.run()
        twin = pair.twin(pair.dialer, key)
        assert twin.ended
        pair.listener.write(twin.key, b"answer")
        pair.run()
        assert pair.dialer.streams[key].data == b"answer"
        assert not pair.dialer.streams[key].ended

    def test_writing_nothing_sends_nothing(self) -> None:
        pair = self.pair()
        key = pair.dialer.open()
        pair.run()
        assert pair.dialer.session.send(key, memoryview(b"")) == 0
        assert pair.dialer.session.data_to_send() == []

    def test_what_is_to_be_sent_is_said_once(self) -> None:
        session = self.make(True)
        session.open_stream()
        assert session.data_to_send()
        assert session.data_to_send() == []

    # ---- streams go ----

    @pytest.mark.parametrize("by_opener", [True, False])
    def test_a_reset_reaches_the_peer(self, by_opener: bool) -> None:
        pair = self.pair()
        key = pair.dialer.open()
        pair.run()
        twin = pair.twin(pair.dialer, key)
        if by_opener:
            pair.dialer.reset(key)
        else:
            pair.listener.reset(twin.key)
        pair.run()
        assert pair.dialer.streams[key].reset == ("by us" if by_opener else "the peer reset the stream")
        assert twin.reset == ("the peer reset the stream" if by_opener else "by us")

    @pytest.mark.parametrize("how", ["both ended", "reset", "reset by the peer"])
    def test_nothing_is_sent_for_a_stream_that_is_gone(self, how: str) -> None:
        pair = self.pair()
        key = pair.dialer.open()
        pair.run()
        twin = pair.twin(pair.dialer, key)
        if how == "both ended":
            pair.dialer.end(key)
            pair.listener.end(twin.key)
        elif how == "reset":
            pair.dialer.reset(key)
        else:
            pair.listener.reset(twin.key)
        pair.run()
        session = pair.dialer.session
        session.end(key)
        session.reset(key)
        session.consumed(key, 5, pair.now)
        session.discard(key)
        assert session.data_to_send() == []
        with pytest.raises(LocalProtocolError):
            session.send(key, memoryview(b"late"))

    def test_sending_behind_the_end_is_our_own_error(self) -> None:
        session = self.make(True)
        key = session.open_stream()
        session.end(key)
        session.data_to_send()
        session.end(key)
        assert session.data_to_send() == []
        with pytest.raises(LocalProtocolError):
            session.send(key, memoryview(b"late"))

    @given(SEEDS)
    @EACH
    def test_frames_that_cross_a_reset_are_dropped(self, seed: int) -> None:
        pair = self.pair(seed)
        key, other = pair.dialer.open(), pair.dialer.open()
        pair.run()
        twin = pair.twin(pair.dialer, key)
        pair.dialer.write(key, bytes(200 * KIB))
        pair.dialer.write(other, b"unharmed")
        pair.dialer.end(key)
        pair.listener.reset(twin.key)
        pair.run()
        assert pair.dialer.error is pair.listener.error is None
        assert pair.twin(pair.dialer, other).data == b"unharmed"

    # ---- bounds ----

    def test_too_many_streams_are_refused_one_by_one(self) -> None:
        pair = self.pair(max_inbound_streams=4)
        keys = [pair.dialer.open() for _ in range(6)]
        pair.run()
        logs = [pair.dialer.streams[key] for key in keys]
        assert [log.reset is not None for log in logs] == [False] * 4 + [True] * 2
        assert len(pair.listener.accepted) == 4
        pair.dialer.reset(keys[0])
        pair.run()
        late = pair.dialer.open()
        pair.dialer.write(late, b"now there is room")
        pair.run()
        assert pair.listener.streams[pair.listener.accepted[-1]].data == b"now there is room"

    def test_our_own_streams_do_not_count_for_the_bound(self) -> None:
        pair = self.pair(max_inbound_streams=1)
        gone = pair.listener.open()
        pair.listener.open()
        pair.run()
        pair.listener.reset(gone)
        keys = [pair.dialer.open(), pair.dialer.open()]
        pair.run()
        assert [pair.dialer.streams[key].reset is None for key in keys] == [True, False]

    def test_a_reader_that_does_not_read_holds_a_bounded_amount_and_nobody_up(self) -> None:
        pair = self.pair()
        pair.listener.reads = False
        flood, other = pair.dialer.open(), pair.dialer.open()
        for _ in range(3):
            pair.dialer.write(flood, bytes(self.max_unread // 2))
        pair.run()
        log = pair.twin(pair.dialer, flood)
        assert log.unread <= self.max_unread
        assert (pair.dialer.streams[flood].reset is None) == (log.reset is None) == self.stalls_writers
        pair.dialer.write(other, b"through")
        pair.run()
        assert pair.twin(pair.dialer, other).data == b"through"

    def test_a_reader_that_reads_in_the_end_gets_all_that_fits(self) -> None:
        pair = self.pair()
        pair.listener.reads = False
        data = Random(1).randbytes(self.max_unread)
        key = pair.dialer.open()
        for _ in range(5):
            pair.dialer.write(key, data)
            pair.run()
            pair.listener.read(pair.twin(pair.dialer, key).key)
            pair.run()
        assert pair.twin(pair.dialer, key).data == data * 5
        assert pair.dialer.streams[key].reset is None

    def test_what_is_on_its_way_when_nobody_reads_any_more_is_dropped(self) -> None:
        pair = self.pair()
        key = pair.dialer.open()
        pair.dialer.write(key, b"read")
        pair.run()
        twin = pair.twin(pair.dialer, key)
        pair.listener.discard(twin.key)
        pair.dialer.write(key, bytes(60 * KIB))
        pair.dialer.end(key)
        pair.run()
        assert twin.data == b"read"
        assert twin.reset is pair.dialer.streams[key].reset is None
        assert pair.dialer.streams[key].ended

    def test_a_peer_that_goes_on_sending_what_nobody_reads_is_told_to_stop(self) -> None:
        pair = self.pair()
        key = pair.dialer.open()
        pair.run()
        twin = pair.twin(pair.dialer, key)
        pair.listener.discard(twin.key)
        pair.dialer.write(key, bytes(4096 * KIB))
        pair.run()
        assert pair.dialer.streams[key].reset is not None
        assert pair.dialer.error is pair.listener.error is None

    @pytest.mark.parametrize("max_inbound_streams", [0, MANY])
    def test_a_flood_of_streams_that_are_reset_at_once_ends_the_connection(self, max_inbound_streams: int) -> None:
        pair = self.pair(max_inbound_streams=max_inbound_streams)
        for _ in range(5000):
            pair.dialer.reset(pair.dialer.open())
        pair.dialer.flush()
        pair.listener.receive(bytes(pair.dialer.wire))
        assert pair.listener.error is not None
        assert "reset" in str(pair.listener.error)
        assert len(pair.listener.accepted) < 3000
        pair.listener.flush()
        assert pair.listener.sent < len(pair.dialer.wire)

    def test_cancelled_requests_at_a_human_pace_are_no_flood(self) -> None:
        pair = self.pair()
        for _ in range(5000):
            pair.dialer.reset(pair.dialer.open())
            pair.now += 1 / 90
            pair.run()
        assert pair.listener.error is None

    # ---- the connection ----

    def test_a_ping_measures_a_round_trip(self) -> None:
        pair = self.pair()
        assert pair.dialer.session.ping(pair.now) == self.has_pings
        pair.run()
        assert len(pair.dialer.rtts) == self.has_pings
        assert all(rtt >= 2 * LATENCY - 1e-9 for rtt in pair.dialer.rtts)
        assert pair.listener.rtts == []

    def test_who_goes_away_finishes_what_runs_and_begins_nothing(self) -> None:
        pair = self.pair()
        key, theirs = pair.dialer.open(), pair.listener.open()
        pair.run()
        pair.dialer.session.go_away()
        with pytest.raises(LocalProtocolError):
            pair.dialer.session.open_stream()
        refused = pair.listener.open()  # it does not know yet
        pair.run()
        assert pair.listener.streams[refused].reset is not None
        pair.dialer.write(key, b"goes")
        pair.listener.write(theirs, b"on")
        pair.run()
        assert pair.twin(pair.dialer, key).data == b"goes"
        assert pair.twin(pair.listener, theirs).data == b"on"

    @given(SEEDS, st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=8))
    @EACH
    def test_damaged_bytes_raise_only_muxer_errors_and_chunks_do_not_matter(
        self, seed: int, damage: Iterable[tuple[int, int]]
    ) -> None:
        pair = self.pair()
        write_randomly(pair.dialer, Random(seed), 20)
        pair.dialer.flush()
        wire = pair.dialer.wire
        for place, value in damage:
            wire[place % len(wire)] = value
        whole, bytewise = self.make(False, 5), self.make(False, 5)
        whole.receive_data(bytes(wire), 0.0)
        for place in range(len(wire)):
            bytewise.receive_data(bytes(wire[place : place + 1]), 0.0)
        assert drain(whole) == drain(bytewise)

    @given(st.binary(max_size=200))
    @EACH
    def test_garbage_raises_only_muxer_errors_again_and_again(self, garbage: bytes) -> None:
        session = self.make(False)
        session.receive_data(garbage, 0.0)
        _, _, failed = drain(session)
        if failed:
            session.receive_data(garbage, 0.0)
            assert drain(session) == ([], b"", True)
            with pytest.raises(LocalProtocolError):
                session.open_stream()


class MuxerMachine(RuleBasedStateMachine):
    """Two applications do what they like, chunks arrive when they like; what arrives is what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair(self.make)
        self.streams: list[tuple[Side, StreamKey]] = []
        self.written: dict[tuple[Side, StreamKey], bytearray] = {}

    def make(self, initiator: bool) -> MuxerSession:
        """Return a new session."""
        raise NotImplementedError

    def ends(self) -> list[tuple[Side, StreamLog]]:
        """Return both ends of every stream, as far as they are open to their side."""
        logs = [(side, side.streams[key]) for side, key in self.streams]
        for side, key in self.streams:
            other = self.pair.other(side)
            opened = [stream for opener, stream in self.streams if opener is side].index(key)
            if opened < len(other.accepted):
                logs.append((other, other.streams[other.accepted[opened]]))
        return [(side, log) for side, log in logs if log.reset is None and not log.discarded]

    @rule(by_dialer=st.booleans())
    def open(self, by_dialer: bool) -> None:
        side = self.pair.dialer if by_dialer else self.pair.listener
        self.streams.append((side, side.open()))

    @precondition(lambda self: any(not log.ends for _, log in self.ends()))
    @rule(data=st.data(), size=SIZES)
    def write(self, data: st.DataObject, size: int) -> None:
        side, log = data.draw(st.sampled_from([end for end in self.ends() if not end[1].ends]))
        content = self.pair.random.randbytes(size)
        side.write(log.key, content)
        self.written.setdefault((side, log.key), bytearray()).extend(content)

    @precondition(lambda self: self.ends())
    @rule(data=st.data(), what=st.sampled_from(("end", "end", "reset", "discard")))
    def leave(self, data: st.DataObject, what: str) -> None:
        side, log = data.draw(st.sampled_from(self.ends()))
        {"end": side.end, "reset": side.reset, "discard": side.discard}[what](log.key)

    @rule(count=st.integers(1, 20))
    def deliver(self, count: int) -> None:
        for _ in range(count):
            self.pair.deliver()

    def teardown(self) -> None:
        self.pair.run()
        assert self.pair.dialer.error is self.pair.listener.error is None
        for side, key in self.streams:
            here, there = side.streams[key], self.pair.twin(side, key)
            for sender, writer, reader in ((side, here, there), (self.pair.other(side), there, here)):
                written = self.written.get((sender, writer.key), b"")
                assert written[: len(reader.data)] == reader.data
                if here.reset is there.reset is None and not reader.discarded:
                    assert reader.data == written
                    assert reader.ended == writer.ends


MACHINE_SETTINGS = settings(max_examples=40, stateful_step_count=40, deadline=None)
