"""mplex frame headers: a varint of stream id and flag, a varint of the payload's length.

A flag says who sends: a frame's stream is named by its id *and* by who opened it, since both sides count from zero.

Spec: https://github.com/libp2p/specs/blob/master/mplex/README.md, "Message format"
"""

from typing import Final

from ipvcs.multiformats import varint
from ipvcs.node.network.interface import Buffer
from ipvcs.node.network.muxer import MuxerError

NEW_STREAM: Final = 0
MESSAGE: Final = 1
CLOSE: Final = 3
RESET: Final = 5
"""As sent by the side that did not open the stream (the specification's "Receiver"); one more when the opener sends."""
OPENER: Final = 1
"""What the opener ("Initiator") adds."""
_LAST_FLAG: Final = RESET + OPENER

MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of a frame's payload, by the specification."""
MAX_PAYLOAD: Final = 65507
"""Bytes of the messages we send: with its header (at most 12 bytes) one fills a Noise message (65,519 of plaintext), so
the receiver decrypts it at once and whole."""
MAX_HEADER: Final = 2 * varint.MAX_BYTES
"""Bytes that may look like an unfinished header."""


def encode_header(stream_id: int, flag: int, length: int) -> bytes:
    """Return the header of a frame with `length` bytes of payload."""
    return varint.encode(stream_id << 3 | flag) + varint.encode(length)


def decode_header(data: Buffer, offset: int = 0) -> tuple[int, int, int, int] | None:
    """Read the header at byte `offset` of `data`.

    Returns:
        (stream id, flag, payload length, end), or None when `data` ends inside it.

    Raises:
        MuxerError: a flag that there is not, a payload over the bound, a varint that is not minimal or too long.
    """
    try:
        tag, position = varint.decode(data, offset)
        if tag & 7 > _LAST_FLAG:
            raise MuxerError(f"mplex frame has unknown flag {tag & 7}")
        length, end = varint.decode(data, position)
    except varint.TruncatedVarintError:
        return None
    except varint.VarintError as exc:
        raise MuxerError(f"mplex frame header: {exc}") from exc
    if length > MAX_MESSAGE:
        raise MuxerError(f"mplex frame has {length} bytes, more than {MAX_MESSAGE}")
    return tag >> 3, tag & 7, length, end
