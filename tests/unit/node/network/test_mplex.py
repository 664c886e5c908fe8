"""mplex: the contract of all multiplexers, js-libp2p's frames, and what peers may not do."""

import json
from pathlib import Path

import pytest

from ipvcs.node.network import mplex_frames as frames
from ipvcs.node.network.interface import Buffer
from ipvcs.node.network.mplex import MAX_UNREAD, MplexSession
from ipvcs.node.network.muxer import (
    DataReceived,
    MuxerError,
    MuxerEvent,
    MuxerSession,
    StreamEnded,
    StreamOpened,
    StreamReset,
)
from tests.unit.node.network.muxer_contract import MACHINE_SETTINGS, MANY, MuxerContract, MuxerMachine

VECTORS = json.loads((Path(__file__).parents[3] / "vectors" / "mplex" / "js_frames.json").read_text())
FLAGS = {
    "new": frames.NEW_STREAM,
    "message_receiver": frames.MESSAGE,
    "message_initiator": frames.MESSAGE + frames.OPENER,
    "close_receiver": frames.CLOSE,
    "close_initiator": frames.CLOSE + frames.OPENER,
    "reset_receiver": frames.RESET,
    "reset_initiator": frames.RESET + frames.OPENER,
}


class TestContract(MuxerContract):
    max_unread = MAX_UNREAD
    stalls_writers = False
    has_pings = False

    def make(self, initiator: bool, max_inbound_streams: int = MANY) -> MuxerSession:
        return MplexSession(initiator=initiator, max_inbound_streams=max_inbound_streams)


class Machine(MuxerMachine):
    def make(self, initiator: bool) -> MuxerSession:
        return MplexSession(initiator=initiator, max_inbound_streams=MANY)


TestMachine = Machine.TestCase
TestMachine.settings = MACHINE_SETTINGS


def new_session(max_inbound_streams: int = MANY, max_unread: int = MAX_UNREAD) -> MplexSession:
    return MplexSession(initiator=False, max_inbound_streams=max_inbound_streams, max_unread=max_unread)


def receive(session: MplexSession, wire: str | Buffer, now: float = 0.0) -> list[MuxerEvent]:
    """Hand `wire`, in hex or not, to `session` and return its events."""
    session.receive_data(bytes.fromhex(wire) if isinstance(wire, str) else wire, now)
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


def sent(session: MplexSession) -> str:
    """Return what `session` sends, in hex."""
    return b"".join(session.data_to_send()).hex()


# --- somebody else's bytes


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['type']}-{vector['id']}")
def test_headers_are_those_of_js_libp2p_both_ways(vector: dict[str, str | int]) -> None:
    wire, data = bytes.fromhex(str(vector["wire_hex"])), bytes.fromhex(str(vector["data_hex"]))
    stream_id, flag = int(vector["id"]), FLAGS[str(vector["type"])]
    header = frames.encode_header(stream_id, flag, len(data))
    assert header + data == wire
    assert frames.decode_header(wire) == (stream_id, flag, len(data), len(header))


@pytest.mark.parametrize(
    "stream_id", sorted({vector["id"] for vector in VECTORS if vector["type"] == "reset_receiver"})
)
def test_a_session_understands_js_libp2p_and_says_the_same(stream_id: int) -> None:
    wire = {vector["type"]: vector for vector in VECTORS if vector["id"] == stream_id}
    session = new_session()

    opened, data, ended = receive(
        session, "".join(wire[kind]["wire_hex"] for kind in ("new", "message_initiator", "close_initiator"))
    )
    assert isinstance(opened, StreamOpened)
    assert isinstance(data, DataReceived)
    assert (data.key, bytes(data.data)) == (opened.key, b"from the opener")
    assert ended == StreamEnded(opened.key)
    session.send(opened.key, memoryview(b"from the other"))
    session.reset(opened.key)
    assert sent(session) == wire["message_receiver"]["wire_hex"] + wire["reset_receiver"]["wire_hex"]

    (reopened,) = receive(session, wire["new"]["wire_hex"])
    assert isinstance(reopened, StreamOpened)
    session.end(reopened.key)
    assert sent(session) == wire["close_receiver"]["wire_hex"]
    assert receive(session, wire["reset_initiator"]["wire_hex"]) == [StreamReset(reopened.key)]

    session._next_id = stream_id
    ours = session.open_stream()
    assert sent(session) == wire["new"]["wire_hex"]
    session.send(ours, memoryview(b"from the opener"))
    session.end(ours)
    assert sent(session) == wire["message_initiator"]["wire_hex"] + wire["close_initiator"]["wire_hex"]
    data, ended = receive(session, wire["message_receiver"]["wire_hex"] + wire["close_receiver"]["wire_hex"])
    assert isinstance(data, DataReceived)
    assert (data.key, bytes(data.data)) == (ours, b"from the other")
    assert ended == StreamEnded(ours)


# --- what is special about mplex


def test_both_sides_use_the_same_ids_for_different_streams() -> None:
    session = new_session()
    ours = session.open_stream()
    opened, theirs, to_ours = receive(session, "000130 020161 010162")
    assert isinstance(opened, StreamOpened)
    assert isinstance(theirs, DataReceived)
    assert isinstance(to_ours, DataReceived)
    assert opened.key == theirs.key != ours == to_ours.key
    assert (bytes(theirs.data), bytes(to_ours.data)) == (b"a", b"b")


def test_an_id_that_is_used_again_is_another_stream() -> None:
    """Whoever still reads the old one must not count against the new one, or end it."""
    session = new_session(max_unread=10)
    old, *_ = receive(session, "000130 020a" + "61" * 10 + "0400")
    assert isinstance(old, StreamOpened)
    session.end(old.key)
    new = receive(session, "000130 020a" + "62" * 10)[0]
    assert isinstance(new, StreamOpened)
    assert new.key != old.key
    sent(session)
    session.consumed(old.key, 10, 0.0)
    session.reset(old.key)
    assert sent(session) == ""
    assert isinstance(receive(session, "020163")[0], StreamReset)  # the 11th byte


def test_data_is_a_view_into_what_was_received() -> None:
    session = new_session()
    wire = bytes.fromhex("000130 0205") + b"hello"
    _, data = receive(session, wire)
    assert isinstance(data, DataReceived)
    assert isinstance(data.data, memoryview)
    assert data.data.obj is wire


def test_a_name_is_skipped_however_long() -> None:
    session = new_session()
    wire = frames.encode_header(0, frames.NEW_STREAM, frames.MAX_MESSAGE) + bytes(frames.MAX_MESSAGE)
    assert len(receive(session, wire)) == 1
    assert isinstance(receive(session, "020161")[0], DataReceived)
    assert len(receive(session, "0400")) == 1


def test_empty_messages_are_not_events() -> None:
    session = new_session()
    assert len(receive(session, "000130" + "0200" * 1000)) == 1


def test_what_we_send_fits_one_noise_message_a_frame() -> None:
    session = new_session()
    session._next_id = 1 << 20
    key = session.open_stream()
    session.data_to_send()
    data = bytes(200_000)
    assert session.send(key, memoryview(data)) == len(data)
    parts = session.data_to_send()
    assert all(len(header) + len(payload) <= 65_519 for header, payload in zip(parts[::2], parts[1::2], strict=True))
    assert sum(len(payload) for payload in parts[1::2]) == len(data)
    assert all(isinstance(payload, memoryview) and payload.obj is data for payload in parts[1::2])


def test_data_behind_the_end_is_ignored() -> None:
    session = new_session()
    assert len(receive(session, "000130 0400")) == 2
    assert receive(session, "020161 0400") == []


@pytest.mark.parametrize("kind", ["020161", "0400", "0600"])
def test_frames_for_streams_that_we_refused_are_dropped(kind: str) -> None:
    session = new_session(max_inbound_streams=0)
    assert receive(session, "000130") == []
    assert sent(session) == "0500"
    assert receive(session, kind) == []
    assert sent(session) == ""


def test_a_stream_that_nobody_reads_is_reset_with_a_reason() -> None:
    session = new_session(max_unread=1000)
    opened = receive(session, bytes.fromhex("000130 02e807") + bytes(1000))[0]
    assert isinstance(opened, StreamOpened)
    session.consumed(opened.key, 400, 0.0)
    receive(session, bytes.fromhex("029003") + bytes(400))
    (event,) = receive(session, "020561")
    assert event == StreamReset(opened.key, "more than 1000 bytes wait to be read, and mplex can't make the peer wait")
    assert sent(session) == "0500"
    assert receive(session, "61626364") == []  # the rest of the message that was too much
    assert receive(session, "080131")


def test_a_reset_of_the_peers_is_not_answered() -> None:
    """js-libp2p ends the connection when it hears too often of streams that are gone."""
    session = new_session()
    ours = session.open_stream()
    sent(session)
    assert receive(session, "0500") == [StreamReset(ours)]
    session.end(ours)
    session.reset(ours)
    assert sent(session) == ""


# --- what peers may not do


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        ("0700", "unknown flag 7"),
        ("000130 000130", "opened twice"),
        ("010161", "never opened"),
        ("0300", "never opened"),
        ("02818040", "1048577 bytes"),
        ("02ffffffffffffffff7f", "bytes, more than"),
        ("8000", "not minimal"),
        ("028000", "not minimal"),
        ("ffffffffffffffffff01", "longer than 9"),
        ("02ffffffffffffffffff", "longer than 9"),
    ],
)
def test_a_violation_ends_the_connection(wire: str, reason: str) -> None:
    session = new_session()
    with pytest.raises(MuxerError, match=reason):
        receive(session, wire)
    assert sent(session) == ""


def test_what_came_before_a_violation_is_reported_first() -> None:
    session = new_session()
    session.receive_data(bytes.fromhex("000130 020161 0700"), 0.0)
    assert isinstance(session.next_event(), StreamOpened)
    assert isinstance(session.next_event(), DataReceived)
    for _ in range(2):
        with pytest.raises(MuxerError):
            session.next_event()
        session.receive_data(bytes.fromhex("080131"), 0.0)  # too late


def test_a_message_of_the_largest_size_is_taken() -> None:
    session = new_session()
    wire = frames.encode_header(0, 2, frames.MAX_MESSAGE) + bytes(frames.MAX_MESSAGE)
    _, data = receive(session, bytes.fromhex("000130") + wire)
    assert isinstance(data, DataReceived)
    assert len(data.data) == frames.MAX_MESSAGE
