"""The queue of unread bytes."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.network.receive_buffer import ReceiveBuffer


@given(
    pieces=st.lists(st.binary(max_size=40_000), max_size=8),
    sizes=st.lists(st.integers(1, 30_000), max_size=20),
    front=st.binary(max_size=10),
)
def test_what_goes_in_comes_out_in_order(pieces: list[bytes], sizes: list[int], front: bytes) -> None:
    buffer = ReceiveBuffer()
    for piece in pieces:
        buffer.append(memoryview(piece))
    buffer.prepend(front)
    out = b""
    for size in sizes:
        if buffer.size:
            taken = buffer.take(size)
            assert 0 < len(taken) <= size
            out += taken
    while buffer.size:
        out += buffer.take()
    assert out == front + b"".join(pieces)


def test_large_pieces_are_not_copied() -> None:
    data = bytes(60_000)
    buffer = ReceiveBuffer()
    buffer.append(memoryview(data))
    taken = buffer.take()
    assert isinstance(taken, memoryview)
    assert taken.obj is data


def test_small_pieces_hold_neither_their_message_nor_an_object_each() -> None:
    buffer = ReceiveBuffer()
    message = bytes(65_000)
    before = sys.getrefcount(message)
    for _ in range(10_000):
        buffer.append(memoryview(message)[:1])
    assert sys.getrefcount(message) == before
    taken = buffer.take()
    assert len(taken) == 10_000


def test_what_was_taken_does_not_change_when_more_arrives() -> None:
    buffer = ReceiveBuffer()
    buffer.append(b"abc")
    taken = buffer.take(2)
    buffer.append(b"def")
    assert bytes(taken) == b"ab"
    assert b"".join([bytes(buffer.take()), bytes(buffer.take())]) == b"cdef"


def test_clearing_tells_what_was_dropped() -> None:
    buffer = ReceiveBuffer()
    buffer.append(b"abc")
    buffer.append(bytes(20_000))
    assert buffer.clear() == 20_003
    assert buffer.size == 0
