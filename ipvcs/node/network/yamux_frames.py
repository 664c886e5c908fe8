"""Yamux frame headers: twelve bytes, big endian: version, type, flags, stream id, length.

Spec: https://github.com/hashicorp/yamux/blob/master/spec.md, "Framing"
"""

import struct
from typing import Final

HEADER_SIZE: Final = 12
_HEADER: Final = struct.Struct(">BBHII")

DATA: Final = 0
WINDOW_UPDATE: Final = 1
PING: Final = 2
GO_AWAY: Final = 3

SYN: Final = 1
ACK: Final = 2
FIN: Final = 4
RST: Final = 8

NORMAL: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2

INITIAL_WINDOW: Final = 256 * 1024
"""Bytes each side may send on a new stream: "Both sides assume the initial 256KB window"."""
MAX_WINDOW: Final = (1 << 32) - 1
"""What a window field can say; credit beyond is a peer that overflows it."""
MAX_ID: Final = (1 << 32) - 1
MAX_PAYLOAD: Final = 4 * 65519
"""Bytes of the data frames we send: what fills four Noise messages. Their plaintext is then a piece of the payload and
nothing else, encrypted from where it lies; the header goes in front in a small message of its own. One frame a message
(65,507 bytes) has header and payload copied together first, which costs both sides together 8 % of their CPU. Go sends
64 KiB at most, js up to a whole window; all take what fits the window."""

encode_header = _HEADER.pack
"""(version, type, flags, stream id, length) to twelve bytes; the version is always 0."""
decode_header = _HEADER.unpack_from


def window_update(stream_id: int, delta: int, flags: int = 0) -> bytes:
    """Return a frame that lets the peer send `delta` more bytes on the stream."""
    return encode_header(0, WINDOW_UPDATE, flags, stream_id, delta)


def ping(value: int, flags: int) -> bytes:
    """Return a ping (`SYN`) or its answer (`ACK`); `value` is opaque, 32 bits."""
    return encode_header(0, PING, flags, 0, value)


def go_away(code: int) -> bytes:
    """Return the frame that ends a session."""
    return encode_header(0, GO_AWAY, 0, 0, code)
