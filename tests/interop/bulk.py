"""Content by the hundred MiB that nobody holds: made piece by piece, checked by hash, and the memory it took."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import anyio
from anyio.abc import ByteStream

MIB = 1024 * 1024
_DONE = b"!"


def pieces(seed: int, size: int) -> Iterator[bytes]:
    """Yield `size` bytes, whole MiB, that depend on `seed` and of which no two MiB are the same."""
    assert size % MIB == 0
    filler = random.Random(seed).randbytes(MIB - 8)
    for number in range(size // MIB):
        yield number.to_bytes(8) + filler


@cache
def digest(seed: int, size: int) -> str:
    """Return the sha256 of all of them."""
    sha256 = hashlib.sha256()
    for piece in pieces(seed, size):
        sha256.update(piece)
    return sha256.hexdigest()


class Received:
    """What came through a stream, as a count and a hash."""

    def __init__(self) -> None:
        self.size = 0
        self._sha256 = hashlib.sha256()

    async def take(self, stream: ByteStream, size: int) -> None:
        """Receive `size` bytes more, or up to the end."""
        end = self.size + size
        with suppress(anyio.EndOfStream):
            while self.size < end:
                data = await stream.receive(min(end - self.size, MIB))
                self.size += len(data)
                self._sha256.update(data)

    @property
    def digest(self) -> str:
        return self._sha256.hexdigest()


class Sent:
    """How much went into a stream."""

    def __init__(self) -> None:
        self.size = 0

    async def give(self, stream: ByteStream, seed: int, size: int) -> None:
        """Send the content, and leave the stream open."""
        for piece in pieces(seed, size):
            await stream.send(piece)
            self.size += len(piece)


async def exchange(stream: ByteStream, sent: int, expected: int, size: int) -> None:
    """Send the content of seed `sent` while receiving that of seed `expected`; returns when both sides have all of it.

    For two that do this to each other over something that knows no half-closed streams, as Kubo's bridge.
    """
    received = Received()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Sent().give, stream, sent, size)
        await received.take(stream, size)
    assert (received.size, received.digest) == (size, digest(expected, size))
    await stream.send(_DONE)
    assert await stream.receive(1) == _DONE


@contextmanager
def flat_memory(growth: int) -> Iterator[None]:
    """Fail unless this process's resident memory stays within `growth` bytes of what it is now at every moment."""
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak
    before = _status("VmRSS")
    yield
    grown = _status("VmHWM") - before
    assert grown < growth, f"grew by {grown / MIB:.0f} MiB"


def _status(field: str) -> int:
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024
