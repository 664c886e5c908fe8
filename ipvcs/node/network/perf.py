"""The perf protocol: how fast bytes go through a stream, measured against any implementation.

    client:  u64 big endian: how many bytes it wants back | its upload, zeros | end
    server:                                                                         that many zeros | end

Who is served can make us send without end: the service is off unless the configuration asks for it.

Spec: https://github.com/libp2p/specs/blob/master/perf/perf.md
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from anyio import EndOfStream, current_time, fail_after, move_on_after

from ipvcs.errors import RemoteProtocolError, UnavailableError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import DEAD_STREAM, Host, Stream

PERF: Final = "/perf/1.0.0"
STREAMS: Final = 4
"""Served at once, of all peers. Two measure both directions; more measure each other."""
DEADLINE: Final = 600.0
"""Seconds until a served stream is reset, so that nobody draws on us for ever: 75 GB at 1 Gbit/s."""
IDLE_TIMEOUT: Final = 30.0
"""Seconds for the next bytes to arrive, and for the next `_ZEROS` to leave; then a served stream is reset."""
MAX_U64: Final = (1 << 64) - 1

_HEADER: Final = 8
_ZEROS: Final = memoryview(bytes(1024 * 1024))
"""What is sent, again and again. A send of this size keeps the muxer busy with whole frames."""


class PerfError(UnavailableError):
    """A measurement broke off."""

    def __init__(self, peer_id: PeerId, reason: str) -> None:
        super().__init__(f"measurement with '{peer_id}' failed: {reason}")
        self.peer_id = peer_id


class PerfAmountError(RemoteProtocolError):
    """The peer sent another amount than it was asked for."""

    def __init__(self, peer_id: PeerId, wanted: int, got: int) -> None:
        some = "more than" if got > wanted else f"only {got} of"
        super().__init__(f"'{peer_id}' sent {some} the {wanted} bytes it was asked for")
        self.peer_id = peer_id
        self.wanted = wanted
        self.got = got


@dataclass(frozen=True, slots=True)
class PerfResult:
    """One measurement. The two times overlap by a round trip when there was an upload and a download."""

    uploaded: int
    downloaded: int
    upload_seconds: float
    """From the first byte to the peer's first byte, or its end if it was asked for none: it has all of ours then."""
    download_seconds: float
    """From our end to the peer's."""


class PerfService:
    """Serves measurements from the moment it is made."""

    def __init__(
        self, host: Host, *, streams: int = STREAMS, deadline: float = DEADLINE, idle_timeout: float = IDLE_TIMEOUT
    ) -> None:
        self._streams = streams
        self._deadline = deadline
        self._idle_timeout = idle_timeout
        self._active = 0
        host.handle(PERF, self._serve)

    async def _serve(self, stream: Stream) -> None:
        if self._active >= self._streams:
            stream.reset()
            return
        self._active += 1
        try:
            done = False
            with move_on_after(self._deadline):
                done = await self._measure(stream)
            if not done:
                stream.reset()
        except DEAD_STREAM:
            pass  # the client has left
        finally:
            self._active -= 1

    async def _measure(self, stream: Stream) -> bool:
        """Take the upload and send the download; False when the client breaks the protocol or stalls."""
        header = bytearray()
        try:
            while True:
                with move_on_after(self._idle_timeout) as scope:
                    chunk = await stream.receive_chunk()
                if scope.cancelled_caught:
                    return False
                if len(header) < _HEADER:
                    header += chunk[: _HEADER - len(header)]
        except EndOfStream:
            if len(header) < _HEADER:
                return False
        remaining = int.from_bytes(header, "big")
        while remaining:
            with move_on_after(self._idle_timeout) as scope:
                await stream.send(_ZEROS[:remaining])
            if scope.cancelled_caught:
                return False
            remaining -= min(remaining, len(_ZEROS))
        return True


async def measure(
    host: Host,
    peer_id: PeerId,
    *,
    upload: int = 0,
    download: int = 0,
    timeout: float | None = None,
    progress: Callable[[int], None] | None = None,
) -> PerfResult:
    """Send `upload` bytes to `peer_id`, then receive `download`, and take the time of each.

    Args:
        host: connects to the peer if need be; that is not measured.
        peer_id: must serve perf.
        upload: bytes.
        download: bytes.
        timeout: seconds for all of it; None: none.
        progress: called with the bytes that just moved, either way.

    Raises:
        PerfError: the stream broke, or the time is over.
        PerfAmountError: the peer sent less or more than asked.
        ProtocolNotSupportedError, DialError, …: as `Host.open_stream`.
    """
    assert upload >= 0
    assert 0 <= download <= MAX_U64
    stream = None
    try:
        with fail_after(timeout):
            stream = await host.open_stream(peer_id, [PERF])
            result = await _measure(stream, peer_id, upload, download, progress or (lambda _size: None))
            await stream.aclose()
            return result
    except TimeoutError:
        raise PerfError(peer_id, f"it was not done within {timeout:g} seconds") from None
    except DEAD_STREAM as exc:
        raise PerfError(peer_id, str(exc) or "the stream broke") from exc
    finally:
        if stream is not None:
            stream.reset()  # does nothing after a clean end


async def _measure(
    stream: Stream, peer_id: PeerId, upload: int, download: int, progress: Callable[[int], None]
) -> PerfResult:
    start = current_time()
    await stream.send(download.to_bytes(_HEADER, "big"))
    remaining = upload
    while remaining:
        size = min(remaining, len(_ZEROS))
        await stream.send(_ZEROS[:size])
        remaining -= size
        progress(size)
    await stream.send_eof()
    sent = current_time()
    answered = None
    received = 0
    try:
        while True:
            size = len(await stream.receive_chunk())
            if answered is None:
                answered = current_time()
            received += size
            if received > download:
                raise PerfAmountError(peer_id, download, received)
            progress(size)
    except EndOfStream:
        end = current_time()
    if received < download:
        raise PerfAmountError(peer_id, download, received)
    return PerfResult(upload, download, (answered or end) - start, end - sent)
