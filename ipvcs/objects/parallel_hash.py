"""An ordered map over chunks that hashes large ones in threads.

hashlib lets go of the interpreter while it hashes, so two threads hash almost twice as fast as one; but a hop to a
thread costs 100 to 200 us, the time to hash 256 KiB. Hence three regimes: the start of an input in the caller's thread,
so that small files never pay for threads; large chunks in a small pool, about 1 MiB a hop; small chunks, where the
interpreter is the bottleneck and threads would only fight for it, in the caller's thread again.

Memory: at most `_WINDOW + 1` batches, each of `_BATCH_BYTES` and one chunk more, are under way at any time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

_MIB: Final = 1024 * 1024
_INLINE_BYTES: Final = 2 * _MIB  # 1.5 ms of hashing: what the pool's start costs, about
_BATCH_BYTES: Final = _MIB
_BATCH_CHUNKS: Final = 1024  # bounds the list when chunks are a few bytes long
_SMALL_CHUNK: Final = 64 * 1024  # bytes, on average in a batch, below which a hop does not pay
_THREADS: Final = 4  # sha2-256 at 4 x 1.4 GB/s is faster than any chunker or disk that could feed it
_WINDOW: Final = 2 * _THREADS  # batches; enough that no thread waits while the caller writes one batch's blocks

T = TypeVar("T")


def map_chunks(function: Callable[[bytes], T], chunks: Iterable[bytes]) -> Iterator[T]:
    """Yield `function(chunk)` for each chunk, in order.

    `function` may run in several threads at once, and ahead of what has been yielded; chunks are drawn in the caller's
    thread. What either raises comes out of the iterator; no thread outlives it.
    """
    source = iter(chunks)
    left = _INLINE_BYTES
    for chunk in source:
        yield function(chunk)
        left -= len(chunk)
        if left <= 0:
            break
    else:
        return
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="hash") as pool:
        window: deque[Future[list[T]]] = deque()
        for batch, size in _batches(source):
            if size < _SMALL_CHUNK * len(batch):
                while window:
                    yield from window.popleft().result()
                yield from map(function, batch)
                continue
            window.append(pool.submit(_apply, function, batch))
            if len(window) > _WINDOW:
                yield from window.popleft().result()
        while window:
            yield from window.popleft().result()


def _apply(function: Callable[[bytes], T], batch: list[bytes]) -> list[T]:
    return [function(chunk) for chunk in batch]


def _batches(chunks: Iterator[bytes]) -> Iterator[tuple[list[bytes], int]]:
    """Group chunks; yield each group with the sum of its lengths."""
    batch: list[bytes] = []
    size = 0
    for chunk in chunks:
        batch.append(chunk)
        size += len(chunk)
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_CHUNKS:
            yield batch, size
            batch, size = [], 0
    if batch:
        yield batch, size
