"""Streams made to fit: full reads, and the cuts of a buffer turned into the chunks of a stream."""

from collections.abc import Callable, Iterator

from ipvcs.objects.chunkers.interface import Read

FindEnds = Callable[[memoryview, int], Iterator[int]]
"""`find_ends(buffer, stop)` cuts `buffer` as if it were a whole input, from offset 0 on, and yields the end offset of
each chunk that starts before `stop`, in order."""

_READ_SIZE = 256 * 1024  # small enough for the allocator to reuse its memory: fresh pages cost more than the copy
_MIN_CAPACITY = 1024 * 1024  # small chunks are cut from a large buffer, so that refills are rare


def read_full(read: Read, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the input.

    A read that returns everything at once is handed on without a copy.
    """
    data = read(size)
    if len(data) == size or not data:
        return data
    # A bytearray, not a list of parts: a pipe that dribbles single bytes must not cost 60 times their memory.
    joined = bytearray(data)
    while len(joined) < size and (data := read(size - len(joined))):
        joined += data
    return bytes(joined)


def cut_stream(read: Read, max_size: int, find_ends: FindEnds) -> Iterator[bytes]:
    """Cut a stream with an algorithm that cuts buffers.

    Whatever the algorithm, a chunk's end depends on no byte beyond `max_size` from its start. So all chunks that
    start at least that far before the end of the buffer are final, and only the rest waits for more input.

    Holds `3 * max_size` bytes, at least 1 MiB, besides one read and the chunk last yielded.
    """
    capacity = max(_MIN_CAPACITY, 3 * max_size)
    buffer = memoryview(bytearray(capacity))
    filled = 0
    at_end = False
    while not at_end:
        while filled < capacity:
            data = read(min(_READ_SIZE, capacity - filled))
            if not data:
                at_end = True
                break
            buffer[filled : filled + len(data)] = data
            filled += len(data)
        start = 0
        for end in find_ends(buffer[:filled], filled if at_end else filled - max_size + 1):
            yield buffer[start:end].tobytes()
            start = end
        buffer[: filled - start] = buffer[start:filled]
        filled -= start
