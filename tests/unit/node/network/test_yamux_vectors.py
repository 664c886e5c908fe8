"""Whole yamux sessions that Kubo and Helia once spoke with us, replayed: see tests/vectors/yamux/SOURCE.md.

What is expected is read from the peer's frames by a parser of five lines, not by ours.
"""

import json
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ipvcs.node.network.muxer import (
    DataReceived,
    GoAwayReceived,
    MuxerEvent,
    PongReceived,
    StreamEnded,
    StreamKey,
    StreamOpened,
    StreamReset,
)
from ipvcs.node.network.yamux import YamuxSession, YamuxStream

VECTORS = Path(__file__).parents[3] / "vectors" / "yamux"
DATA, WINDOW, PING, GO_AWAY = range(4)
SYN, ACK, FIN, RST = 1, 2, 4, 8
MIB = 1024 * 1024
NAMES = ["kubo", "helia"]
CUTS: dict[str, Callable[[bytes], Iterable[bytes]]] = {
    "as it came": lambda data: [data],
    "byte by byte": lambda data: [data[at : at + 1] for at in range(len(data))],
}


@dataclass
class Account:
    """What happened in a session, by stream id."""

    opened: list[int] = field(default_factory=list)
    content: dict[int, bytes] = field(default_factory=lambda: defaultdict(bytes))
    ended: list[int] = field(default_factory=list)
    reset: list[int] = field(default_factory=list)
    pongs: int = 0
    goodbyes: list[int] = field(default_factory=list)


def load(name: str) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return vector


def frames(wire: bytes) -> list[tuple[int, int, int, int, bytes]]:
    """Return (type, flags, stream id, length, payload) of each frame."""
    found = []
    while wire:
        version, kind, flags, stream_id, length = struct.unpack_from("!BBHII", wire)
        assert version == 0
        end = 12 + (length if kind == DATA else 0)
        found.append((kind, flags, stream_id, length, wire[12:end]))
        wire = wire[end:]
    return found


def peers_frames(vector: dict[str, Any]) -> list[tuple[int, int, int, int, bytes]]:
    return frames(b"".join(bytes.fromhex(step[1]) for step in vector["steps"] if step[0] == "receive"))


def expected(vector: dict[str, Any]) -> Account:
    """Return what the peer's frames say."""
    account = Account()
    for kind, flags, stream_id, length, payload in peers_frames(vector):
        if kind in (DATA, WINDOW):
            if flags & SYN:
                account.opened.append(stream_id)
            if payload:
                account.content[stream_id] += payload
            if flags & FIN:
                account.ended.append(stream_id)
            if flags & RST:
                account.reset.append(stream_id)
        elif kind == PING and flags & ACK:
            account.pongs += 1
        elif kind == GO_AWAY:
            account.goodbyes.append(length)
    return account


def stream_id(key: StreamKey) -> int:
    assert isinstance(key, YamuxStream)
    return key.stream_id


def replay(vector: dict[str, Any], cut: Callable[[bytes], Iterable[bytes]]) -> tuple[Account, bytes]:
    """Live the session again; return what our side reports of it, and what it sends."""
    session = YamuxSession(
        initiator=vector["initiator"], max_inbound_streams=16, max_window=MIB, window_growth=MIB, now=0.0
    )
    keys: dict[int, StreamKey] = {}
    account, sent = Account(), b""

    def note(event: MuxerEvent) -> None:
        match event:
            case StreamOpened(key):
                keys[stream_id(key)] = key
                account.opened.append(stream_id(key))
            case DataReceived(key, data):
                account.content[stream_id(key)] += data
            case StreamEnded(key):
                account.ended.append(stream_id(key))
            case StreamReset(key):
                account.reset.append(stream_id(key))
            case PongReceived():
                account.pongs += 1
            case GoAwayReceived(code):
                account.goodbyes.append(code)

    for verb, *arguments in vector["steps"]:
        match verb:
            case "receive":
                for part in cut(bytes.fromhex(arguments[0])):
                    session.receive_data(part, 0.0)
                    while (event := session.next_event()) is not None:
                        note(event)
            case "open":
                key = session.open_stream()
                assert stream_id(key) == arguments[0]
                keys[arguments[0]] = key
            case "send":
                assert session.send(keys[arguments[0]], memoryview(bytes(arguments[1]))) == arguments[1]
            case "end":
                session.end(keys[arguments[0]])
            case "reset":
                session.reset(keys[arguments[0]])
            case "ping":
                assert session.ping(0.0)
        sent += b"".join(session.data_to_send())
    return account, sent


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("name", NAMES)
def test_our_side_reports_what_the_peers_frames_say(name: str, cut: Callable[[bytes], Iterable[bytes]]) -> None:
    vector = load(name)
    account, _sent = replay(vector, cut)
    assert account == expected(vector)
    assert account.pongs == 1


@pytest.mark.parametrize("name", NAMES)
def test_our_side_answers_each_ping_and_acknowledges_each_stream(name: str) -> None:
    vector = load(name)
    _account, wire = replay(vector, CUTS["as it came"])
    sent, received = frames(wire), peers_frames(vector)
    asked = [value for kind, flags, _id, value, _payload in received if kind == PING and flags & SYN]
    opened = [each for kind, flags, each, _length, _payload in received if kind in (DATA, WINDOW) and flags & SYN]
    assert asked
    assert [value for kind, flags, _id, value, _payload in sent if kind == PING and flags & ACK] == asked
    assert [each for kind, flags, each, _length, _payload in sent if kind == WINDOW and flags & ACK] == opened


@pytest.mark.parametrize(("name", "agent"), [("kubo", b"kubo/0.22.0/"), ("helia", b"helia/7.1.15 js-libp2p/3.3.11")])
def test_the_first_stream_of_ours_carries_who_the_peer_is(name: str, agent: bytes) -> None:
    vector = load(name)
    account, _sent = replay(vector, CUTS["as it came"])
    content = account.content[1 if vector["initiator"] else 2]
    assert content.startswith(b"\x13/multistream/1.0.0\n\x0f/ipfs/id/1.0.0\n")
    assert agent in content
