"""How a receiver speaks: whole messages, not too often, and never silent for long."""

import io
import os
import signal
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.cli import push_receiver
from ipvcs.cli.push_receiver import ReplyWriter, _limits
from ipvcs.git_bridge.push_replies import Progress, Reply, Text, decode_reply
from ipvcs.multiformats import varint
from ipvcs.objects.chunkers.size import SizeChunker
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.git.layout import LAYOUT, PIECE_SIZE
from tests.fakes.memory_blocks import MemoryBlocks


def replies_in(data: bytes) -> list[Reply]:
    found = []
    while data:
        size, start = varint.decode(data)
        found.append(decode_reply(data[start : start + size]))
        data = data[start + size :]
    return found


def test_one_stage_is_told_of_now_and_then_and_at_its_end() -> None:
    out = io.BytesIO()
    with ReplyWriter(out) as replies:
        for done in range(1, 1001):
            replies.send(Progress("converting", done, 1000))
        for _ in range(1000):
            replies.send(Progress("waiting"))
        replies.send(Text(b"said\n"))
    told = replies_in(out.getvalue())
    assert told[0] == Progress("converting", 1, 1000)
    assert Progress("converting", 1000, 1000) in told
    assert told[-1] == Text(b"said\n")
    assert len(told) < 50


def test_silence_is_broken_by_what_was_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push_receiver, "_HEARTBEAT", 0.05)
    out = io.BytesIO()
    with ReplyWriter(out) as replies:
        deadline = time.monotonic() + 10
        while len(replies_in(out.getvalue())) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        replies.send(Progress("hooks"))
        while Progress("hooks") not in replies_in(out.getvalue())[-1:]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert replies_in(out.getvalue())[0] == Progress("starting")


def test_nobody_listening_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(push_receiver, "_HEARTBEAT", 0.05)
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: killed.append((group, number)))
    with ReplyWriter(Gone()):
        deadline = time.monotonic() + 10
        while not killed:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert killed == [(0, signal.SIGTERM)]


@given(st.sampled_from([1, PIECE_SIZE - 1, PIECE_SIZE, PIECE_SIZE + 1, 3 * PIECE_SIZE, 40 * PIECE_SIZE + 7]))
def test_a_file_as_the_mapping_lays_it_out_is_within_its_limits(size: int) -> None:
    store = MemoryBlocks()
    data = io.BytesIO(os.urandom(size))
    build_file(SizeChunker(PIECE_SIZE).chunks(data.read), LAYOUT, store)
    most, links = _limits(size)
    assert sum(len(block) for block in store.blocks.values()) <= most
    assert len(store.blocks) - 1 <= links
