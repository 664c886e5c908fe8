"""What frames that carry next to nothing may cost: they take as long to parse as full ones.

Every frame that a peer sends costs microseconds, whatever is in it; a message of 64 KiB holds 5,000 empty ones. Frames
that mean nothing (empty data, windows that grow by nothing, a second goodbye) and questions (pings) draw on a token
bucket, frames with a few bytes of data on the same one, for a fiftieth. Who empties it loses the connection.
"""

from typing import Final

from ipvcs.node.network.muxer import MuxerError
from ipvcs.node.network.token_bucket import TokenBucket

_BURST: Final = 4000.0
_PER_SECOND: Final = 200.0
"""Empty frames: one every 5 ms for ever is far more than keep-alives and acknowledgements need."""
_SMALL: Final = 64
_SMALL_COST: Final = 0.02
"""Frames with less than 64 bytes of data: 10,000 a second for ever, 200,000 at once: what one core can use."""


class Chatter:
    """Counts one connection's frames of little use."""

    __slots__ = ("_bucket",)

    def __init__(self, now: float) -> None:
        self._bucket = TokenBucket(_BURST, _PER_SECOND, now)

    def count(self, now: float) -> None:
        """Count a frame that carries nothing. Raises MuxerError when there were too many."""
        self._take(now, 1.0)

    def count_data(self, size: int, now: float) -> None:
        """Count a frame with `size` bytes of data. Raises MuxerError when too many were too small."""
        if size < _SMALL:
            self._take(now, _SMALL_COST if size else 1.0)

    def _take(self, now: float, cost: float) -> None:
        if not self._bucket.take(now, cost):
            raise MuxerError("the peer sends countless frames that carry next to nothing")
