"""Yamux by hand-made frames: what each means, and what ends the connection."""

import struct
from dataclasses import replace
from itertools import pairwise
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import LocalProtocolError
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
from ipvcs.node.network.yamux import MAX_UNACKNOWLEDGED, YamuxSession, YamuxStream
from ipvcs.node.network.yamux_frames import INITIAL_WINDOW, MAX_PAYLOAD
from tests.unit.node.network.muxer_contract import MACHINE_SETTINGS, MANY, MuxerContract, MuxerMachine

KIB = 1024
MIB = 1024 * KIB
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8


def frame(kind: int, flags: int = 0, stream: int = 0, length: int = 0, payload: bytes = b"", version: int = 0) -> bytes:
    """A frame, packed without our own code."""
    return struct.pack("!BBHII", version, kind, flags, stream, length) + payload


def data(stream: int, payload: bytes, flags: int = 0) -> bytes:
    return frame(DATA, flags, stream, len(payload), payload)


class Session(YamuxSession):
    """Names streams by their ids: those of the streams that had them last."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._by_id: dict[int, YamuxStream] = {}

    def next_event(self) -> MuxerEvent | None:
        event = super().next_event()
        if event is None or isinstance(event, PongReceived | GoAwayReceived):
            return event
        assert isinstance(event.key, YamuxStream)
        self._by_id[event.key.stream_id] = event.key
        return replace(event, key=event.key.stream_id)

    def open_stream(self) -> int:
        stream = super().open_stream()
        assert isinstance(stream, YamuxStream)
        self._by_id[stream.stream_id] = stream
        return stream.stream_id

    def _key(self, key: StreamKey) -> YamuxStream:
        return self._by_id[key] if isinstance(key, int) else cast("YamuxStream", key)

    def send(self, key: StreamKey, data: memoryview) -> int:
        return super().send(self._key(key), data)

    def end(self, key: StreamKey) -> None:
        super().end(self._key(key))

    def reset(self, key: StreamKey) -> None:
        super().reset(self._key(key))

    def consumed(self, key: StreamKey, size: int, now: float) -> None:
        super().consumed(self._key(key), size, now)

    def discard(self, key: StreamKey) -> None:
        super().discard(self._key(key))


def server(max_inbound: int = 100, max_window: int = 16 * MIB, growth: int = 32 * MIB) -> Session:
    return Session(
        initiator=False, max_inbound_streams=max_inbound, max_window=max_window, window_growth=growth, now=0.0
    )


def client() -> Session:
    return Session(initiator=True, max_inbound_streams=100, max_window=16 * MIB, window_growth=32 * MIB, now=0.0)


def events(session: Session) -> list[MuxerEvent]:
    found = []
    while (event := session.next_event()) is not None:
        found.append(event)
    return found


def sent(session: Session) -> bytes:
    return b"".join(session.data_to_send())


def opened(session: Session, stream: int = 1) -> Session:
    """A server's session with one stream of the peer's."""
    session.receive_data(frame(WINDOW, SYN, stream), 0.0)
    events(session)
    sent(session)
    return session


def violation(session: Session, wire: bytes) -> str:
    """Feed `wire`, which must end the connection with a go-away of 1; return why."""
    session.receive_data(wire, 0.0)
    with pytest.raises(MuxerError) as caught:
        events(session)
    assert sent(session).endswith(frame(GO_AWAY, length=1))
    with pytest.raises(MuxerError):
        session.next_event()
    return str(caught.value)


def test_a_stream_of_the_peers_is_acknowledged_at_once() -> None:
    session = server()
    session.receive_data(frame(WINDOW, SYN, 1), 0.0)
    assert events(session) == [StreamOpened(1)]
    assert sent(session) == frame(WINDOW, ACK, 1)


def test_data_may_travel_with_the_syn() -> None:
    session = server()
    session.receive_data(data(1, b"hello", SYN), 0.0)
    assert events(session) == [StreamOpened(1), DataReceived(1, memoryview(b"hello"))]


def test_a_data_frame_with_fin_delivers_its_payload_first() -> None:
    session = opened(server())
    session.receive_data(data(1, b"bye", FIN), 0.0)
    assert events(session) == [DataReceived(1, memoryview(b"bye")), StreamEnded(1)]


def test_our_stream_announces_itself_before_its_data_and_ends_in_a_frame_of_its_own() -> None:
    session = client()
    key = session.open_stream()
    assert session.send(key, memoryview(b"abc")) == 3
    session.end(key)
    # js-libp2p drops the payload of a data frame that carries FIN.
    assert sent(session) == frame(WINDOW, SYN, 1) + data(1, b"abc") + frame(WINDOW, FIN, 1)


def test_ids_go_up_by_two_from_one_or_two() -> None:
    assert [client().open_stream(), server().open_stream()] == [1, 2]
    session = client()
    assert [session.open_stream() for _ in range(3)] == [1, 3, 5]


def test_a_window_update_with_syn_or_ack_adds_to_the_initial_window() -> None:
    session = server()
    session.receive_data(frame(WINDOW, SYN, 1, 100), 0.0)
    events(session)
    assert session.send(1, memoryview(bytes(INITIAL_WINDOW + 1000))) == INITIAL_WINDOW + 100


def test_sending_stops_at_the_window_and_goes_on_with_an_update() -> None:
    session = client()
    key = session.open_stream()
    assert session.send(key, memoryview(bytes(INITIAL_WINDOW + 5))) == INITIAL_WINDOW
    assert session.send(key, memoryview(b"12345")) == 0
    session.receive_data(frame(WINDOW, ACK, 1, 0), 0.0)
    assert events(session) == []
    session.receive_data(frame(WINDOW, 0, 1, 3), 0.0)
    assert events(session) == [SendReady(1)]
    assert session.send(key, memoryview(b"12345")) == 3


def test_frames_we_send_carry_at_most_what_fills_four_noise_messages() -> None:
    session = client()
    key = session.open_stream()
    session.receive_data(frame(WINDOW, ACK, 1, MIB), 0.0)
    session.send(key, memoryview(bytes(600_000)))
    sizes = [len(part) for part in session.data_to_send()[1:]]
    assert sizes == [12, MAX_PAYLOAD, 12, MAX_PAYLOAD, 12, 600_000 - 2 * MAX_PAYLOAD]
    assert MAX_PAYLOAD == 4 * 65519


def test_reading_gives_credit_in_updates_of_half_a_window() -> None:
    session = opened(server())
    session.receive_data(data(1, bytes(200 * KIB)), 0.0)
    for _ in range(127):
        session.consumed(1, KIB, 100.0)
    assert sent(session) == b""
    session.consumed(1, KIB, 100.0)
    assert sent(session) == frame(WINDOW, 0, 1, 128 * KIB)


def test_twenty_thousand_tiny_reads_give_hardly_any_updates() -> None:
    session = opened(server())
    session.receive_data(data(1, bytes(20_000)), 0.0)
    for _ in range(20_000):
        session.consumed(1, 1, 0.0)
    assert sent(session) == b""


def measured(session: Session, rtt: float) -> Session:
    """The session with a round trip measured, ending at time `rtt`."""
    session.ping(0.0)
    (ping,) = session.data_to_send()
    session.receive_data(frame(PING, ACK, 0, struct.unpack("!BBHII", ping)[4]), rtt)
    assert events(session) == [PongReceived(rtt)]
    return session


def test_a_window_read_within_a_few_round_trips_doubles_up_to_its_maximum() -> None:
    session = measured(opened(server(max_window=MIB)), rtt=0.1)
    window, updates = INITIAL_WINDOW, []
    for _ in range(4):
        session.receive_data(data(1, bytes(window // 2)), 0.2)
        events(session)
        session.consumed(1, window // 2, 0.3)
        updates.append(struct.unpack("!BBHII", sent(session))[4])
        window = min(window * 2, MIB)
    assert updates == [128 * KIB + 256 * KIB, 256 * KIB + 512 * KIB, 512 * KIB, 512 * KIB]


def test_a_window_does_not_grow_for_a_slow_reader() -> None:
    session = measured(opened(server()), rtt=0.1)
    session.receive_data(data(1, bytes(128 * KIB)), 0.2)
    session.consumed(1, 128 * KIB, 10.0)
    assert sent(session) == frame(WINDOW, 0, 1, 128 * KIB)


def test_a_window_does_not_grow_before_anything_is_read() -> None:
    session = measured(opened(server()), rtt=0.1)
    session.receive_data(data(1, bytes(INITIAL_WINDOW)), 0.2)
    events(session)
    assert sent(session) == b""
    assert "beyond its window" in violation(session, data(1, b"x"))


def test_windows_together_grow_no_further_than_the_connection_may_promise() -> None:
    session = measured(opened(opened(server(growth=256 * KIB), 1), 3), rtt=0.1)
    for stream in (1, 3):
        session.receive_data(data(stream, bytes(128 * KIB)), 0.2)
        session.consumed(stream, 128 * KIB, 0.3)
    assert sent(session) == frame(WINDOW, 0, 1, 384 * KIB) + frame(WINDOW, 0, 3, 128 * KIB)
    session.reset(1)  # what it had grown by is there for others again
    sent(session)
    session.receive_data(data(3, bytes(128 * KIB)), 0.3)
    session.consumed(3, 128 * KIB, 0.4)
    assert sent(session) == frame(WINDOW, 0, 3, 384 * KIB)


@pytest.mark.parametrize(
    ("wire", "why"),
    [
        (frame(DATA, version=1, stream=1), "version"),
        (frame(4), "unknown type"),
        (frame(255), "unknown type"),
        (frame(DATA, SYN, 0), "id 0"),
        (frame(WINDOW, SYN, 0), "id 0"),
        (frame(WINDOW, SYN, 2), "parity"),
        (frame(WINDOW, SYN, 1) * 2, "opened twice"),
        (data(1, bytes(INITIAL_WINDOW), SYN) + data(1, b"x"), "beyond its window"),
        (frame(DATA, SYN, 1, INITIAL_WINDOW + 1), "beyond its window"),
        (frame(DATA, SYN, 1, 0xFFFFFFFF), "beyond its window"),
        (frame(WINDOW, SYN, 1, 0xFFFFFFFF), "overflows"),
        (frame(DATA, 0, 2), "never opened"),
        (frame(PING, ACK, 0, 7), "pong"),
        (frame(PING, 0, 0, 7), "neither"),
        (frame(PING, SYN, 1, 7), "session frame for stream"),
        (frame(GO_AWAY, 0, 1), "session frame for stream"),
        (data(1, b"a", SYN | FIN) + data(1, b"b"), "after its end"),
    ],
)
def test_a_violation_ends_the_connection_with_a_go_away(wire: bytes, why: str) -> None:
    assert why in violation(server(), wire)


def test_events_before_a_violation_are_not_lost() -> None:
    session = server()
    session.receive_data(data(1, b"kept", SYN) + frame(9), 0.0)
    assert session.next_event() == StreamOpened(1)
    assert session.next_event() == DataReceived(1, memoryview(b"kept"))
    with pytest.raises(MuxerError):
        session.next_event()


def test_a_pong_is_accepted_once() -> None:
    session = client()
    session.ping(1.0)
    value = struct.unpack("!BBHII", sent(session))[4]
    session.receive_data(frame(PING, ACK, 0, value), 1.5)
    assert events(session) == [PongReceived(0.5)]
    assert "pong" in violation(session, frame(PING, ACK, 0, value))


def test_a_ping_is_answered_with_its_value() -> None:
    session = server()
    session.receive_data(frame(PING, SYN, 0, 0xDEADBEEF), 0.0)
    assert sent(session) == frame(PING, ACK, 0, 0xDEADBEEF)


def test_frames_of_a_stream_we_just_reset_are_dropped_with_their_payload() -> None:
    session = opened(server())
    session.reset(1)
    assert sent(session) == frame(WINDOW, RST, 1)
    session.receive_data(data(1, b"late") + frame(WINDOW, 0, 1, 5) + frame(WINDOW, FIN, 1) + data(3, b"new", SYN), 0.0)
    assert events(session) == [StreamOpened(3), DataReceived(3, memoryview(b"new"))]


def test_a_reset_by_the_peer_ends_the_stream_at_once() -> None:
    session = opened(server())
    session.receive_data(frame(WINDOW, RST, 1), 0.0)
    assert events(session) == [StreamReset(1)]
    with pytest.raises(LocalProtocolError):
        session.send(1, memoryview(b"x"))
    session.consumed(1, 10, 0.0)
    session.end(1)
    session.reset(1)
    assert sent(session) == b""


def test_a_reset_that_carries_data_drops_it() -> None:
    session = opened(server())
    session.receive_data(data(1, b"junk", RST) + frame(PING, SYN, 0, 1), 0.0)
    assert events(session) == [StreamReset(1)]
    assert sent(session) == frame(PING, ACK, 0, 1)


def test_streams_beyond_the_bound_are_refused_and_the_others_live() -> None:
    session = server(max_inbound=2)
    session.receive_data(b"".join(frame(WINDOW, SYN, stream) for stream in (1, 3, 5)), 0.0)
    assert events(session) == [StreamOpened(1), StreamOpened(3)]
    assert sent(session) == frame(WINDOW, ACK, 1) + frame(WINDOW, ACK, 3) + frame(WINDOW, RST, 5)
    session.receive_data(data(1, b"fine"), 0.0)
    assert events(session) == [DataReceived(1, memoryview(b"fine"))]
    session.receive_data(frame(WINDOW, RST, 1) + frame(WINDOW, SYN, 7), 0.0)  # one gone, one more may come
    assert events(session) == [StreamReset(1), StreamOpened(7)]


def test_a_hundred_thousand_syns_end_the_connection_with_bounded_answers() -> None:
    session = server(max_inbound=100)
    wire = b"".join(frame(WINDOW, SYN, 2 * number + 1) for number in range(100_000))
    session.receive_data(wire, 0.0)
    with pytest.raises(MuxerError):
        events(session)
    assert len(sent(session)) < 3000 * 12


def test_opening_and_resetting_without_end_ends_the_connection() -> None:
    session = server()
    wire = b"".join(frame(WINDOW, SYN, 2 * n + 1) + frame(WINDOW, RST, 2 * n + 1) for n in range(100_000))
    session.receive_data(wire, 0.0)
    with pytest.raises(MuxerError, match="reset"):
        events(session)


def test_a_peer_that_resets_streams_now_and_then_may_do_so_for_ever() -> None:
    session = server()
    for number in range(5000):
        session.receive_data(
            frame(WINDOW, SYN, 2 * number + 1) + frame(WINDOW, RST, 2 * number + 1), float(number) / 50
        )
        events(session)
        sent(session)


def test_a_stream_ended_on_both_sides_is_gone() -> None:
    session = server(max_inbound=1)
    for number in (1, 3, 5):
        session.receive_data(frame(WINDOW, SYN, number) + frame(WINDOW, FIN, number), 0.0)
        assert events(session) == [StreamOpened(number), StreamEnded(number)]
        session.end(number)


def test_data_for_a_stream_nobody_reads_is_dropped_and_then_the_stream_reset() -> None:
    session = opened(server())
    session.receive_data(data(1, bytes(120 * KIB)), 0.0)
    events(session)
    session.consumed(1, 120 * KIB, 0.0)  # before its reader left: does not count
    session.end(1)
    session.discard(1)
    sent(session)
    session.receive_data(data(1, bytes(100 * KIB)), 0.0)
    assert events(session) == []
    assert sent(session) == b""
    session.receive_data(data(1, bytes(30 * KIB)), 0.0)
    assert events(session) == [StreamReset(1, "the peer goes on sending what nobody reads")]
    assert sent(session) == frame(WINDOW, RST, 1)


def test_a_peer_that_used_up_the_window_of_a_stream_nobody_reads_is_not_left_waiting() -> None:
    session = opened(server())
    session.receive_data(data(1, bytes(200 * KIB)), 0.0)
    events(session)
    session.discard(1)
    session.receive_data(data(1, bytes(56 * KIB)), 0.0)
    assert [type(event) for event in events(session)] == [StreamReset]


def test_who_has_streams_refused_for_lack_of_room_loses_the_session_in_the_end() -> None:
    session = server(max_inbound=10_000)
    for number in range(1, 6001, 2):
        session.receive_data(frame(WINDOW, SYN, number), 0.0)
        try:
            events(session)
        except MuxerError:
            break
        session.refuse(session._by_id[number])
    assert 2000 < number // 2 < 2100
    assert sent(session).endswith(frame(GO_AWAY, length=1))


def test_an_id_that_is_used_again_is_another_stream() -> None:
    session = opened(server())
    first = session._by_id[1]
    session.receive_data(data(1, bytes(200 * KIB), FIN), 0.0)
    events(session)
    session.end(first)
    session.receive_data(data(1, b"again", SYN), 0.0)
    assert events(session) == [StreamOpened(1), DataReceived(1, memoryview(b"again"))]
    sent(session)
    session.consumed(first, 200 * KIB, 0.0)  # the old one is still being read
    session.reset(first)
    session.end(first)
    assert sent(session) == b""
    session.receive_data(data(1, b"!"), 0.0)
    assert events(session) == [DataReceived(1, memoryview(b"!"))]


def test_our_streams_wait_for_acknowledgement_beyond_the_backlog() -> None:
    session = client()
    keys = [session.open_stream() for _ in range(MAX_UNACKNOWLEDGED)]
    assert not session.can_open
    with pytest.raises(TooManyStreamsError):
        session.open_stream()
    session.receive_data(frame(WINDOW, ACK, 1), 0.0)
    session.reset(keys[1])
    assert [session.open_stream(), session.open_stream()] == [2 * MAX_UNACKNOWLEDGED + 1, 2 * MAX_UNACKNOWLEDGED + 3]
    with pytest.raises(TooManyStreamsError):
        session.open_stream()


def test_after_a_go_away_streams_go_on_and_no_new_ones_open() -> None:
    session = opened(client(), 2)
    session.receive_data(frame(GO_AWAY, 0, 0, 0) + data(2, b"more"), 0.0)
    assert events(session) == [GoAwayReceived(0), DataReceived(2, memoryview(b"more"))]
    with pytest.raises(LocalProtocolError):
        session.open_stream()


def test_after_our_go_away_new_streams_are_refused() -> None:
    session = server()
    session.go_away()
    session.go_away()
    session.receive_data(frame(WINDOW, SYN, 1), 0.0)
    assert sent(session) == frame(GO_AWAY) + frame(WINDOW, RST, 1)


valid_frames = st.one_of(
    st.binary(max_size=40).map(lambda payload: data(1, payload)),
    st.binary(max_size=40).map(lambda payload: data(3, payload)),
    st.integers(0, 1000).map(lambda delta: frame(WINDOW, 0, 1, delta)),
    st.integers(0, 2**32 - 1).map(lambda value: frame(PING, SYN, 0, value)),
    st.sampled_from(
        [frame(WINDOW, FIN, 1), frame(WINDOW, RST, 3), frame(WINDOW, SYN, 5), data(7, b"seven", SYN | FIN)]
    ),
)


def outcome(pieces: list[bytes]) -> tuple[dict[object, bytes], list[object], bytes, str | None]:
    """What a session makes of `pieces`: data by stream, all other events, what it sends, and how it fails."""
    session = server()
    received: dict[object, bytes] = {}
    others: list[object] = []
    error = None
    out = b""
    for piece in pieces:
        session.receive_data(piece, 0.0)
        try:
            for event in iter(session.next_event, None):
                if isinstance(event, DataReceived):
                    received[event.key] = received.get(event.key, b"") + bytes(event.data)
                else:
                    others.append(event)
        except MuxerError as exc:
            error = str(exc)
        out += sent(session)
        if error:
            break
    return received, others, out, error


@given(wire=st.lists(valid_frames, max_size=20), cuts=st.lists(st.integers(0, 600), max_size=10))
def test_chunking_never_changes_the_events(wire: list[bytes], cuts: list[int]) -> None:
    whole = frame(WINDOW, SYN, 1) + frame(WINDOW, SYN, 3) + b"".join(wire)
    points = sorted({min(cut, len(whole)) for cut in cuts} | {0, len(whole)})
    pieces = [whole[start:end] for start, end in pairwise(points)]
    assert outcome(pieces) == outcome([whole])


@given(st.binary(max_size=300))
def test_garbage_raises_only_our_error(wire: bytes) -> None:
    outcome([wire[:100], wire[100:]])


class TestContract(MuxerContract):
    """Yamux keeps what every multiplexer promises."""

    max_unread = INITIAL_WINDOW
    stalls_writers = True
    has_pings = True

    def make(self, initiator: bool, max_inbound_streams: int = MANY) -> YamuxSession:
        return make_yamux(initiator, max_inbound_streams)


def make_yamux(initiator: bool, max_inbound_streams: int = MANY) -> YamuxSession:
    return YamuxSession(
        initiator=initiator, max_inbound_streams=max_inbound_streams, max_window=MIB, window_growth=4 * MIB
    )


class Machine(MuxerMachine):
    """Two yamux sessions and a link, in any order of events."""

    def make(self, initiator: bool) -> YamuxSession:
        return make_yamux(initiator)


TestMachine = Machine.TestCase
TestMachine.settings = MACHINE_SETTINGS
