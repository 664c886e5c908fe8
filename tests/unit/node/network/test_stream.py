"""A stream alone, with a connection by script: the orders of events that real ones only sometimes have."""

import asyncio

import anyio
import pytest

from ipvcs.node.network.stream import MuxedStream

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class FullOnce:
    """A connection that takes nothing at first and has room as soon as anybody else runs."""

    is_write_paused = False

    def __init__(self) -> None:
        self.sent = b""
        self._is_full = True

    def send(self, _key: object, data: memoryview) -> int:
        if self._is_full:
            self._is_full = False
            asyncio.get_running_loop().call_soon(self.stream.on_sendable)
            return 0
        self.sent += data
        return len(data)

    def is_turn_over(self, _taken: int) -> bool:
        return True

    stream: MuxedStream


async def test_room_that_comes_while_others_have_their_turn_is_noticed() -> None:
    connection = FullOnce()
    connection.stream = MuxedStream(connection, "key", "outbound")  # type: ignore[arg-type]
    with anyio.fail_after(5):
        await connection.stream.send(b"data")
    assert connection.sent == b"data"
