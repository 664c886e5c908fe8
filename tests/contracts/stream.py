"""What every Stream promises: the promises of `ipvcs.node.network.interface.Stream`, each as a test."""

from contextlib import AbstractAsyncContextManager, suppress

import anyio
import pytest
from anyio.abc import ByteStream

from ipvcs.node.network.interface import Stream

KIB = 1024


async def read_all(stream: Stream) -> bytes:
    """Return everything up to the end that the peer sets."""
    out = bytearray()
    with suppress(anyio.EndOfStream):
        while True:
            out += await stream.receive_chunk()
    return bytes(out)


async def read_exactly(stream: Stream, size: int) -> bytes:
    """Return the next `size` bytes."""
    out = bytearray()
    while len(out) < size:
        out += await stream.receive(size - len(out))
    return bytes(out)


def pattern(size: int) -> bytes:
    """Return `size` bytes in which a lost, doubled or swapped piece shows."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


@pytest.mark.anyio
class StreamContract:
    """What every Stream promises. Subclass it, supply `streams` and, if need be, an `anyio_backend` fixture."""

    more_than_any_window = 4 * 1024 * KIB
    """Bytes that no window and no buffer on the way takes before the reader has read anything."""
    patience = 10.0
    """Seconds after which something that should have happened did not."""
    pause = 0.2
    """Seconds in which something that should not happen would have."""

    def streams(self) -> AbstractAsyncContextManager[tuple[Stream, Stream]]:
        """Return the two ends of a fresh stream: (who opened it, who accepted it)."""
        raise NotImplementedError

    async def test_bytes_arrive_in_order_both_ways(self) -> None:
        data = pattern(300 * KIB)
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                for source, sink in ((near, far), (far, near)):
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(source.send, data)
                        assert await read_exactly(sink, len(data)) == data

    async def test_both_sides_may_send_at_once(self) -> None:
        data = pattern(self.more_than_any_window)
        async with self.streams() as (near, far):
            received: dict[str, bytes] = {}

            async def read(name: str, stream: Stream) -> None:
                received[name] = await read_exactly(stream, len(data))

            with anyio.fail_after(self.patience):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(near.send, data)
                    tasks.start_soon(far.send, data)
                    tasks.start_soon(read, "near", near)
                    tasks.start_soon(read, "far", far)
            assert received == {"near": data, "far": data}

    async def test_receive_returns_at_least_one_and_at_most_max_bytes(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.send(b"0123456789")
                await near.send_eof()
                pieces = []
                with suppress(anyio.EndOfStream):
                    while True:
                        pieces.append(await far.receive(3))
            assert all(1 <= len(piece) <= 3 for piece in pieces)
            assert all(type(piece) is bytes for piece in pieces)
            assert b"".join(pieces) == b"0123456789"

    async def test_a_chunk_is_read_only_and_stays_what_it_is(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.send(b"first")
                chunk = memoryview(await far.receive_chunk())
                seen = bytes(chunk)
                await near.send(pattern(100 * KIB))
                await read_exactly(far, 5 - len(seen) + 100 * KIB)
            assert chunk.readonly
            assert seen
            assert bytes(chunk) == seen

    async def test_receive_and_receive_chunk_share_one_row_of_bytes(self) -> None:
        data = pattern(10 * KIB)
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.send(data)
                await near.send_eof()
                first = await far.receive(100)
                assert first + await read_all(far) == data

    async def test_any_buffer_can_be_sent_and_an_empty_one_sends_nothing(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.send(b"")
                await near.send(bytearray(b"bytearray "))
                await near.send(memoryview(b"a view")[2:])
                await near.send_eof()
                assert await read_all(far) == b"bytearray view"

    async def test_what_is_sent_may_change_afterwards(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                data = bytearray(b"before")
                await near.send(data)
                data[:] = b"after!"
                await near.send_eof()
                assert await read_all(far) == b"before"

    async def test_the_end_of_one_side_leaves_the_other_open(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.send(b"question")
                await near.send_eof()
                assert await read_all(far) == b"question"
                await far.send(b"answer")
                await far.send_eof()
                assert await read_all(near) == b"answer"
                with pytest.raises(anyio.EndOfStream):  # and it stays ended
                    await near.receive()

    async def test_an_end_twice_is_as_good_as_once(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.send_eof()
                await near.send_eof()
                assert await read_all(far) == b""

    async def test_nothing_can_be_sent_after_the_end(self) -> None:
        async with self.streams() as (near, _far):
            await near.send_eof()
            with pytest.raises(anyio.ClosedResourceError):
                await near.send(b"more")

    async def test_after_aclose_our_own_calls_say_closed(self) -> None:
        async with self.streams() as (near, _far):
            await near.aclose()
            for call in (near.receive, near.receive_chunk, lambda: near.send(b"x")):
                with pytest.raises(anyio.ClosedResourceError):
                    await call()
            await near.aclose()  # twice is as good as once
            near.reset()  # and a reset after it is nothing

    async def test_what_was_sent_before_aclose_arrives_and_then_the_end(self) -> None:
        data = pattern(64 * KIB)
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.send(data)
                await near.aclose()
                assert await read_all(far) == data

    async def test_what_the_peer_sends_after_our_aclose_is_dropped(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.aclose()
                assert await read_all(far) == b""
                await far.send(pattern(100 * KIB))
                await far.aclose()

    async def test_aclose_never_waits_for_the_peer(self) -> None:
        async with self.streams() as (near, _far):
            with anyio.move_on_after(self.pause):
                await near.send(bytes(self.more_than_any_window))
            with anyio.fail_after(self.pause):
                await near.aclose()

    async def test_aclose_wakes_our_own_reader_and_writer(self) -> None:
        async with self.streams() as (near, _far):
            ended: list[str] = []

            async def read() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await near.receive()
                ended.append("reader")

            async def write() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await near.send(bytes(self.more_than_any_window))
                ended.append("writer")

            with anyio.fail_after(self.patience):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read)
                    tasks.start_soon(write)
                    await anyio.sleep(self.pause)
                    assert ended == []
                    await near.aclose()
            assert sorted(ended) == ["reader", "writer"]

    async def test_after_a_reset_our_own_calls_say_closed(self) -> None:
        async with self.streams() as (near, _far):
            near.reset()
            for call in (near.receive, near.receive_chunk, lambda: near.send(b"x")):
                with pytest.raises(anyio.ClosedResourceError):
                    await call()
            near.reset()
            await near.aclose()

    async def test_after_a_reset_the_peer_finds_the_stream_broken(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                near.reset()
                with pytest.raises(anyio.BrokenResourceError):
                    await far.receive()
                with pytest.raises(anyio.BrokenResourceError):
                    await far.send(b"x")
                await far.aclose()
                far.reset()

    async def test_a_reset_wakes_the_peers_reader_and_writer(self) -> None:
        async with self.streams() as (near, far):
            ended: list[str] = []

            async def read() -> None:
                with pytest.raises(anyio.BrokenResourceError):
                    await far.receive()
                ended.append("reader")

            async def write() -> None:
                with pytest.raises(anyio.BrokenResourceError):
                    await far.send(bytes(self.more_than_any_window))
                ended.append("writer")

            with anyio.fail_after(self.patience):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(read)
                    tasks.start_soon(write)
                    await anyio.sleep(self.pause)
                    assert ended == []
                    near.reset()
            assert sorted(ended) == ["reader", "writer"]

    async def test_a_cancelled_receive_loses_nothing(self) -> None:
        data = pattern(20 * KIB)
        async with self.streams() as (near, far):
            received = bytearray()

            async def trickle() -> None:
                for start in range(0, len(data), KIB):
                    await near.send(data[start : start + KIB])
                    await anyio.sleep(0.003)
                await near.send_eof()

            with anyio.fail_after(self.patience):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(trickle)
                    with suppress(anyio.EndOfStream):
                        while True:
                            with anyio.move_on_after(0.002):
                                while True:
                                    received += await far.receive(700)
            assert bytes(received) == data

    async def test_a_cancelled_send_leaves_whole_bytes_in_order(self) -> None:
        data = pattern(self.more_than_any_window)
        async with self.streams() as (near, far):
            with anyio.move_on_after(self.pause) as scope:
                await near.send(data)
            assert scope.cancelled_caught
            with anyio.fail_after(self.patience):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._send_then_end, near, b"and on")
                    received = await read_all(far)
            assert received.endswith(b"and on")
            assert data.startswith(received.removesuffix(b"and on"))

    async def _send_then_end(self, stream: Stream, data: bytes) -> None:
        await stream.send(data)
        await stream.send_eof()

    async def test_a_sender_waits_for_its_reader(self) -> None:
        data = pattern(self.more_than_any_window)
        async with self.streams() as (near, far):
            sent = anyio.Event()

            async def send() -> None:
                await near.send(data)
                sent.set()

            with anyio.fail_after(self.patience):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(send)
                    await anyio.sleep(self.pause)
                    assert not sent.is_set()
                    assert await read_exactly(far, len(data)) == data
                    await sent.wait()

    async def test_twenty_thousand_single_bytes_are_read_one_by_one(self) -> None:
        """A read of a byte must not cost a message; nor may a row of small reads end the stream."""
        data = pattern(20_000)
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.send(data)
                await near.send_eof()
                assert b"".join([await far.receive(1) for _ in data]) == data

    async def test_one_task_may_read_while_another_writes_but_not_two_at_once(self) -> None:
        async with self.streams() as (near, _far):
            with anyio.fail_after(self.patience):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._ignore_errors, near)
                    await anyio.sleep(self.pause)
                    with pytest.raises(anyio.BusyResourceError):
                        await near.receive()
                    tasks.cancel_scope.cancel()

    async def _ignore_errors(self, stream: ByteStream) -> None:
        with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
            await stream.receive()

    async def test_a_stream_knows_its_protocol_connection_and_direction(self) -> None:
        async with self.streams() as (near, far):
            assert near.protocol == far.protocol
            assert near.protocol.startswith("/")
            assert (near.direction, far.direction) == ("outbound", "inbound")
            assert near in near.connection.streams
            assert far in far.connection.streams
            assert near.connection.remote_peer == far.connection.local_peer

    async def test_a_closed_stream_leaves_its_connection(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.aclose()
                await far.aclose()
                while near.connection.streams or far.connection.streams:
                    await anyio.sleep(0.01)

    async def test_the_end_of_the_connection_breaks_its_streams(self) -> None:
        async with self.streams() as (near, far):
            with anyio.fail_after(self.patience):
                await near.connection.aclose()
                for stream in (near, far):
                    with pytest.raises(anyio.BrokenResourceError):
                        await read_all(stream)
                    with pytest.raises(anyio.BrokenResourceError):
                        await stream.send(b"x")
