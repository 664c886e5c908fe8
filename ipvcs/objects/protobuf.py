"""The two protobuf wire types that dag-pb and UnixFS use, read strictly.

The general protobuf library writes fields in number order and accepts what canonical dag-pb refuses, so both codecs are
written by hand on these few functions.

Spec: https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Final

from ipvcs.errors import DecodeError, TruncatedError

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5

_MAX_VARINT: Final = 10  # protobuf varints hold 64 bits, one byte more than multiformats' own
_U64: Final = (1 << 64) - 1


class ProtobufError(DecodeError):
    """Bytes are not a protobuf message of the expected shape."""


class TruncatedProtobufError(ProtobufError, TruncatedError):
    """The message ends inside a field."""


def encode_varint(value: int) -> bytes:
    """Return the minimal varint of `value`, taken modulo 2**64 as protobuf does with negative numbers."""
    if 0 <= value < 0x80:
        return bytes((value,))
    value &= _U64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return (value, end) of the varint at `offset`: unsigned, below 2**64.

    Raises:
        TruncatedProtobufError, ProtobufError: cut short, or over ten bytes or 64 bits.
    """
    end = len(data)
    if offset < end and (byte := data[offset]) < 0x80:
        return byte, offset + 1
    value = shift = 0
    for position in range(offset, min(end, offset + _MAX_VARINT)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _U64:
                raise ProtobufError("varint is over 64 bits")
            return value, position + 1
        shift += 7
    if end - offset >= _MAX_VARINT:
        raise ProtobufError("varint is over ten bytes")
    raise TruncatedProtobufError("message is cut short inside a varint")


def iter_fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (field number, wire type, value) of each field in order; value is an int, or bytes for `BYTES`.

    Raises:
        ProtobufError: field number 0, a wire type other than 0, 1, 2, 5, or a truncated field.
    """
    position, end = 0, len(data)
    while position < end:
        key, position = decode_varint(data, position)
        number, wire_type = key >> 3, key & 7
        if number == 0 or number >= 1 << 29:
            raise ProtobufError(f"field number {number} is out of range")
        value: int | bytes
        if wire_type == VARINT:
            value, position = decode_varint(data, position)
        elif wire_type == BYTES:
            length, position = decode_varint(data, position)
            if length > end - position:
                raise TruncatedProtobufError(f"field {number} is cut short")
            value = data[position : position + length]
            position += length
        elif wire_type in (FIXED32, FIXED64):
            width = 4 if wire_type == FIXED32 else 8
            if width > end - position:
                raise TruncatedProtobufError(f"field {number} is cut short")
            value = int.from_bytes(data[position : position + width], "little")
            position += width
        else:
            raise ProtobufError(f"field {number} has unsupported wire type {wire_type}")
        yield number, wire_type, value
