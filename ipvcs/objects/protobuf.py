"""Protobuf's wire format, as far as dag-pb and UnixFS need it, read strictly.

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


_ONE_BYTE: Final = [bytes((value,)) for value in range(0x80)]


def encode_varint(value: int) -> bytes:
    """Return the minimal varint of `value`, taken modulo 2**64 as protobuf does with negative numbers."""
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if 0 < value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    if 0 < value < 0x200000:  # sizes of chunks
        return bytes((value & 0x7F | 0x80, value >> 7 & 0x7F | 0x80, value >> 14))
    value &= _U64
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return (value, end) of the varint at `offset`: unsigned, below 2**64, not necessarily minimal.

    Raises:
        TruncatedProtobufError, ProtobufError: cut short, or over ten bytes or 64 bits.
    """
    try:
        value = data[offset]
        if value < 0x80:
            return value, offset + 1
        byte = data[offset + 1]
        if byte < 0x80:
            return value & 0x7F | byte << 7, offset + 2
        value = value & 0x7F | (byte & 0x7F) << 7
        shift = 14
        for position in range(offset + 2, offset + _MAX_VARINT):
            byte = data[position]
            if byte < 0x80:
                value |= byte << shift
                if value > _U64:
                    raise ProtobufError("varint is over 64 bits")
                return value, position + 1
            value |= (byte & 0x7F) << shift
            shift += 7
    except IndexError:
        raise TruncatedProtobufError("message is cut short inside a varint") from None
    raise ProtobufError("varint is over ten bytes")


def read_field(data: bytes, offset: int) -> tuple[int, int, int | bytes, int]:
    """Return (field number, wire type, value, end) of the field at `offset`; value is an int, or bytes for `BYTES`.

    Raises:
        ProtobufError: field number 0 or over 29 bits, a wire type other than 0, 1, 2, 5, or a truncated field.
    """
    key, position = decode_varint(data, offset)
    number, wire_type = key >> 3, key & 7
    if number == 0 or number >= 1 << 29:
        raise ProtobufError(f"field number {number} is out of range")
    if wire_type == VARINT:
        value, position = decode_varint(data, position)
        return number, wire_type, value, position
    if wire_type == BYTES:
        length, position = decode_varint(data, position)
    elif wire_type in (FIXED32, FIXED64):
        length = 4 if wire_type == FIXED32 else 8
    else:
        raise ProtobufError(f"field {number} has unsupported wire type {wire_type}")
    end = position + length
    if end > len(data):
        raise TruncatedProtobufError(f"field {number} is cut short")
    raw = data[position:end]
    return number, wire_type, raw if wire_type == BYTES else int.from_bytes(raw, "little"), end


def iter_fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield (field number, wire type, value) of each field in order; errors as `read_field`."""
    position, end = 0, len(data)
    while position < end:
        number, wire_type, value, position = read_field(data, position)
        yield number, wire_type, value
