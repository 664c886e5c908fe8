"""Receivers that a test drives: a coroutine in place of a process, with a pipe that is as small as a real one's."""

from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio import CancelScope, EndOfStream
from anyio.abc import ByteReceiveStream

from ipvcs.api.receiver_process import GRACE, Order, Receiver, ReceiverStartError
from ipvcs.git_bridge.push_replies import Reply, encode_reply
from ipvcs.node.network.delimited import encode_delimited

PIPE = 64 * 1024
"""Bytes that a pipe holds."""


class Pipe(ByteReceiveStream):
    """A pipe's reading end, and for the script its writing end."""

    def __init__(self) -> None:
        self.chunks: deque[bytes] = deque()
        self.written = 0
        self.ended = False
        self._changed = anyio.Event()

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            room = PIPE - sum(map(len, self.chunks))
            if room <= 0:
                await self._changed.wait()
                continue
            self.chunks.append(bytes(rest[:room]))
            self.written += len(rest[:room])
            rest = rest[room:]
            self._notify()

    def end(self) -> None:
        self.ended = True
        self._notify()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        while not self.chunks:
            if self.ended:
                raise EndOfStream
            await self._changed.wait()
        chunk = self.chunks.popleft()
        if len(chunk) > max_bytes:
            self.chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._notify()
        return chunk

    async def aclose(self) -> None:
        raise AssertionError("it is closed with the process")

    def _notify(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class FakeReceiver:
    """One receiver at work."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.output = Pipe()
        self.started = anyio.current_time()
        self.fate = "runs"
        """How it came to its end: "done", "abandoned", "terminated"."""
        self.ended: float | None = None
        self.is_abandoned = False
        self.status = "it ended with status 0"
        self.done = anyio.Event()

    async def say(self, *replies: Reply) -> None:
        for reply in replies:
            await self.output.write(encode_delimited(encode_reply(reply)))

    async def wait_ended(self) -> str:
        with anyio.move_on_after(GRACE):
            await self.done.wait()
            return self.status
        return "it said no more, and did not end"

    def abandon(self) -> None:
        self.is_abandoned = True


Script = Callable[[FakeReceiver], Awaitable[None]]


class Receivers:
    """Runs `script` for each order, as a `RunReceiver` does a process. Each ignores SIGTERM for `stubborn` seconds."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.all: list[FakeReceiver] = []
        self.stubborn = 0.0
        self.fails = ""

    @property
    def running(self) -> list[FakeReceiver]:
        return [each for each in self.all if each.fate == "runs"]

    @asynccontextmanager
    async def run(self, order: Order) -> AsyncGenerator[Receiver]:
        if self.fails:
            raise ReceiverStartError(self.fails)
        receiver = FakeReceiver(order)
        self.all.append(receiver)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run, receiver)
            fate = "terminated"
            try:
                yield receiver
                if receiver.is_abandoned:
                    fate = "abandoned"
                else:
                    with anyio.move_on_after(GRACE):
                        await receiver.done.wait()
                        fate = "done"
            finally:
                with CancelScope(shield=True):
                    if fate != "done":
                        await anyio.sleep(self.stubborn)
                    tasks.cancel_scope.cancel()
                receiver.fate = fate
                receiver.ended = anyio.current_time()

    async def _run(self, receiver: FakeReceiver) -> None:
        await self.script(receiver)
        receiver.output.end()
        receiver.done.set()
