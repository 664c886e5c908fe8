"""Delimited messages: any chunking, ends in the right and in the wrong place, sizes that nobody may announce."""

import json
from collections.abc import Iterable
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import ByteStream
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from ipvcs.errors import IpvcsError, LimitError, RemoteProtocolError
from ipvcs.multiformats import varint
from ipvcs.node.network.delimited import (
    DelimitedError,
    DelimitedReader,
    MessageTooLargeError,
    encode_delimited,
    send_delimited,
)
from ipvcs.node.network.message_budget import MessageBudget

pytestmark = pytest.mark.anyio
MULTISTREAM = Path(__file__).parents[3] / "vectors" / "multistream"
VARINTS = json.loads((Path(__file__).parents[3] / "vectors" / "varint" / "vectors.json").read_text())
MESSAGES = st.lists(st.one_of(st.binary(max_size=5), st.binary(min_size=120, max_size=300)), max_size=6)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class ScriptedStream(ByteStream):
    """Hands out `chunks` and then the end, or waits for ever; keeps what is sent."""

    def __init__(self, chunks: Iterable[bytes] = (), *, ends: bool = True) -> None:
        self.chunks = list(chunks)
        self.ends = ends
        self.sent: list[bytes] = []

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self.chunks:
            return self.chunks.pop(0)
        if not self.ends:
            await anyio.sleep_forever()
        raise anyio.EndOfStream

    async def send(self, item: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.sent.append(item)

    async def send_eof(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError


async def read_all(chunks: Iterable[bytes], max_message: int = 1000) -> list[bytes]:
    """Return the messages up to the end."""
    reader = DelimitedReader(ScriptedStream(chunks), max_message)
    messages = []
    while True:
        try:
            messages.append(await reader.receive())
        except anyio.EndOfStream:
            assert reader.rest == b""
            return messages


@given(MESSAGES, st.lists(st.integers(0, 2000), max_size=8))
async def test_messages_arrive_whole_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    stream = ScriptedStream()
    await send_delimited(stream, *messages)
    wire = b"".join(stream.sent)
    assert stream.sent == ([wire] if messages else [])  # one send for all
    places = sorted({cut % len(wire) for cut in cuts}) if wire else []
    pieces = [wire[start:end] for start, end in zip([0, *places], [*places, len(wire)], strict=True)]
    assert await read_all(pieces) == messages
    assert await read_all(wire[place : place + 1] for place in range(len(wire))) == messages


async def test_messages_that_kubo_wrote_are_read() -> None:
    wire = (MULTISTREAM / "mss-tls.bin").read_bytes()  # multistream-select frames its lines this way, too
    assert await read_all([wire]) == [b"/multistream/1.0.0\n", b"/tls/1.0.0\n"]
    assert encode_delimited(b"/multistream/1.0.0\n", memoryview(b"/tls/1.0.0\n")) == wire


async def test_what_lies_behind_a_message_is_the_rest() -> None:
    reader = DelimitedReader(ScriptedStream([b"\x01a\x02bc..."]), 10)
    assert (await reader.receive(), reader.rest) == (b"a", b"\x02bc...")
    assert (await reader.receive(), reader.rest) == (b"bc", b"...")


async def test_empty_messages_are_messages() -> None:
    assert await read_all([b"\x00\x00\x01a\x00"]) == [b"", b"", b"a", b""]


@pytest.mark.parametrize("wire", [b"\x05", b"\x05abcd", b"\x80", b"\x01a\x81"])
async def test_an_end_inside_a_message_is_the_peers_error(wire: bytes) -> None:
    with pytest.raises(DelimitedError, match="ends inside a message"):
        await read_all([wire])


@pytest.mark.parametrize("vector", [bad for bad in VARINTS["invalid"] if bad["hex"]], ids=lambda bad: bad["hex"])
async def test_sizes_that_are_no_varints_are_refused(vector: dict[str, str]) -> None:
    with pytest.raises(RemoteProtocolError):
        await read_all([bytes.fromhex(vector["hex"])])


async def test_a_size_over_the_bound_is_refused_before_the_message_is_waited_for() -> None:
    stream = ScriptedStream([b"\xe9\x07", b"never read"], ends=False)
    with pytest.raises(MessageTooLargeError, match="1001 bytes, more than the 1000") as caught:
        await DelimitedReader(stream, 1000).receive()
    assert isinstance(caught.value, LimitError)
    assert (caught.value.size, caught.value.max_message) == (1001, 1000)
    assert stream.chunks == [b"never read"]


async def test_a_message_of_the_largest_size_is_read() -> None:
    assert await read_all([encode_delimited(bytes(1000))]) == [bytes(1000)]


async def test_a_cancelled_read_loses_nothing() -> None:
    stream = ScriptedStream([b"\x05ab"], ends=False)
    reader = DelimitedReader(stream, 10)
    with anyio.move_on_after(60) as scope:
        await reader.receive()
    assert scope.cancelled_caught
    assert reader.rest == b"\x05ab"
    stream.chunks = [b"cde"]
    assert await reader.receive() == b"abcde"


async def test_a_stream_that_breaks_stays_broken() -> None:
    class BrokenStream(ScriptedStream):
        async def receive(self, max_bytes: int = 65536) -> bytes:
            raise anyio.BrokenResourceError

    with pytest.raises(anyio.BrokenResourceError):
        await DelimitedReader(BrokenStream(), 10).receive()


@given(st.lists(st.binary(max_size=20), max_size=5))
async def test_garbage_raises_only_our_errors_and_chunks_do_not_matter(chunks: list[bytes]) -> None:
    wire = b"".join(chunks)
    outcomes = []
    for pieces in (chunks, [wire], [wire[place : place + 1] for place in range(len(wire))]):
        reader = DelimitedReader(ScriptedStream(pieces), 10)
        outcome: list[object] = []
        try:
            while True:
                outcome.append(await reader.receive())
        except anyio.EndOfStream:
            outcome.append("end")
        except IpvcsError as exc:
            outcome.append(str(exc))
        outcomes.append(outcome)
    assert outcomes == [outcomes[0]] * 3


# ---- a budget that many readers share ----


async def test_large_messages_take_their_declared_size_from_the_budget_and_small_ones_nothing() -> None:
    budget = MessageBudget(1000)
    small = DelimitedReader(ScriptedStream([varint.encode(100)], ends=False), 600, budget=budget, free=100)
    large = DelimitedReader(ScriptedStream([varint.encode(101)], ends=False), 600, budget=budget, free=100)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(small.receive)
        tasks.start_soon(large.receive)
        await anyio.sleep(1)
        assert budget.used == 101
        tasks.cancel_scope.cancel()
    assert budget.used == 0
    whole = DelimitedReader(ScriptedStream([encode_delimited(bytes(600))]), 600, budget=budget, free=100)
    assert await whole.receive() == bytes(600)
    assert budget.used == 0


async def test_when_the_budget_is_used_up_the_message_that_was_begun_first_is_given_up() -> None:
    budget = MessageBudget(1000)
    given_up: list[int] = []

    async def dawdle(number: int) -> None:
        reader = DelimitedReader(ScriptedStream([varint.encode(400)], ends=False), 600, budget=budget, free=100)
        with pytest.raises(LimitError):
            await reader.receive()
        given_up.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(dawdle, number)
            await anyio.sleep(1)
        assert given_up == [0, 1, 2]
        assert budget.used == 800
        whole = DelimitedReader(ScriptedStream([encode_delimited(bytes(600))]), 600, budget=budget, free=100)
        assert await whole.receive() == bytes(600)
        await anyio.sleep(1)
        assert given_up == [0, 1, 2, 3]
        await DelimitedReader(ScriptedStream([encode_delimited(bytes(600))]), 600, budget=budget, free=100).receive()
        tasks.cancel_scope.cancel()
    assert budget.used == 0
