"""Messages off a stream: whole whatever the pieces, and bounded in what they hold."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from ipvcs.errors import LimitError
from ipvcs.multiformats import varint
from ipvcs.node.exchange.message_reader import MAX_UNASKED, PATIENCE, SLOWEST, MessageReader
from ipvcs.node.exchange.messages import MAX_MESSAGE
from ipvcs.node.network.delimited import DelimitedError, MessageTooLargeError, encode_delimited
from ipvcs.node.network.message_budget import MessageBudget


def split(wire: bytes, cuts: list[int]) -> list[bytes]:
    """Return `wire` in pieces of the sizes `cuts`, and the rest."""
    pieces = []
    for size in cuts:
        pieces.append(wire[:size])
        wire = wire[size:]
    return [piece for piece in (*pieces, wire) if piece]


class Chunks:
    """A stream of given pieces; after them it ends, or rests for ever."""

    def __init__(self, pieces: list[bytes], *, ends: bool = True) -> None:
        self.pieces = list(pieces)
        self.ends = ends
        self.received = 0

    async def receive_chunk(self) -> bytes:
        await anyio.lowlevel.checkpoint()
        if not self.pieces:
            if self.ends:
                raise anyio.EndOfStream
            await anyio.sleep_forever()
        piece = self.pieces.pop(0)
        self.received += len(piece)
        return piece


def reader_of(stream: Chunks, budget: MessageBudget | None = None, *, asked: bool = True) -> MessageReader:
    return MessageReader(stream, budget or MessageBudget(), is_asked=lambda: asked)  # type: ignore[arg-type]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@given(st.lists(st.binary(max_size=400), max_size=6), st.lists(st.integers(1, 200), max_size=30))
def test_chunking_never_changes_the_messages(messages: list[bytes], cuts: list[int]) -> None:
    wire = encode_delimited(*messages)
    budget = MessageBudget()

    async def read_all() -> list[bytes]:
        reader = reader_of(Chunks(split(wire, cuts)), budget)
        found = []
        while True:
            try:
                found.append(await reader.receive())
            except anyio.EndOfStream:
                return found

    assert anyio.run(read_all) == messages
    assert budget.used == 0


@pytest.mark.anyio
@pytest.mark.parametrize("cut", [1, 2, 50, 101])
async def test_a_stream_that_ends_inside_a_message_is_an_error(cut: int) -> None:
    reader = reader_of(Chunks([encode_delimited(bytes(100))[:cut]] if cut < 101 else [b"\xff"]))
    with pytest.raises(DelimitedError, match="inside a message"):
        await reader.receive()


@pytest.mark.anyio
async def test_a_size_beyond_the_bound_is_refused_before_anything_of_it_is_waited_for() -> None:
    stream = Chunks([varint.encode(MAX_MESSAGE + 1)], ends=False)
    with anyio.fail_after(1), pytest.raises(MessageTooLargeError):
        await reader_of(stream).receive()


@pytest.mark.anyio
async def test_who_was_asked_for_nothing_may_send_less() -> None:
    wire = [encode_delimited(bytes(MAX_UNASKED + 1))]
    assert len(await reader_of(Chunks(list(wire))).receive()) == MAX_UNASKED + 1
    with pytest.raises(MessageTooLargeError):
        await reader_of(Chunks(list(wire)), asked=False).receive()
    assert len(await reader_of(Chunks([encode_delimited(bytes(MAX_UNASKED))]), asked=False).receive()) == MAX_UNASKED


@pytest.mark.anyio
async def test_announcing_costs_nothing_and_what_arrives_is_counted() -> None:
    budget = MessageBudget(limit=1000)
    async with anyio.create_task_group() as tasks:
        for _ in range(50):  # each announces four megabytes and sends ten bytes
            stream = Chunks([varint.encode(MAX_MESSAGE), bytes(10)], ends=False)
            tasks.start_soon(reader_of(stream, budget).receive)
        await anyio.sleep(1)
        assert budget.used == 500
        tasks.cancel_scope.cancel()
    assert budget.used == 0


@pytest.mark.anyio
async def test_when_too_much_is_held_the_message_that_was_begun_first_is_given_up() -> None:
    budget = MessageBudget(limit=1000)
    given_up: list[int] = []

    async def dawdle(number: int) -> None:
        with pytest.raises(LimitError, match="unfinished"):
            await reader_of(Chunks([varint.encode(5000), bytes(300)], ends=False), budget).receive()
        given_up.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(dawdle, number)
            await anyio.sleep(0.1)
        assert budget.used == 900
        message = await reader_of(Chunks([varint.encode(700), bytes(350), bytes(350)]), budget).receive()
        assert len(message) == 700, "who goes on is not held up by those who don't"
        await anyio.sleep(0.1)
        assert given_up == [0, 1]
        assert budget.used == 300
        await reader_of(Chunks([varint.encode(900), bytes(900)]), budget).receive()
    assert given_up == [0, 1, 2]
    assert budget.used == 0


@pytest.mark.anyio
async def test_silence_inside_a_message_is_an_error_and_between_messages_is_not() -> None:
    with anyio.move_on_after(10 * PATIENCE) as scope:
        await reader_of(Chunks([], ends=False)).receive()
    assert scope.cancelled_caught
    for wire in ([b"\x64", b"a"], [b"\x80"]):
        with anyio.fail_after(2 * PATIENCE), pytest.raises(DelimitedError, match="took over 30 seconds"):
            await reader_of(Chunks(wire, ends=False)).receive()


@pytest.mark.anyio
async def test_a_large_message_has_more_time() -> None:
    start = anyio.current_time()
    with pytest.raises(DelimitedError, match="took over"):
        await reader_of(Chunks([varint.encode(MAX_MESSAGE)], ends=False)).receive()
    assert anyio.current_time() - start == pytest.approx(PATIENCE + MAX_MESSAGE / SLOWEST)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [b"\x80\x00", b"\xff" * 10])
async def test_a_size_that_is_no_varint_is_an_error(size: bytes) -> None:
    with pytest.raises(DelimitedError):
        await reader_of(Chunks([size])).receive()
