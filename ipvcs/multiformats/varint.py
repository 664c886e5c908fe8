"""Unsigned varints: LEB128, seven bits a byte, least significant first.

Minimal encodings only and at most nine bytes, so a value is below 2**63.

Spec: https://github.com/multiformats/unsigned-varint
"""

from ipvcs.errors import DecodeError, TruncatedError

MAX_BYTES = 9
"""The spec's practical maximum: nine bytes hold 63 bits."""

_ONE_BYTE = [bytes((value,)) for value in range(0x80)]


class VarintError(DecodeError):
    """A varint is not minimal or longer than nine bytes."""


class TruncatedVarintError(VarintError, TruncatedError):
    """The input ends inside a varint."""


def encode(value: int) -> bytes:
    """Return the minimal encoding of `value`, 1 to 9 bytes.

    Raises:
        ValueError: `value` is negative or not below 2**63.
    """
    if 0 <= value < 0x80:
        return _ONE_BYTE[value]
    if not 0 <= value < 1 << 63:
        raise ValueError(f"varint out of range: {value}")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode(data: bytes | bytearray | memoryview, offset: int = 0) -> tuple[int, int]:
    """Read the varint at byte `offset` of `data`.

    Returns:
        (value, end): `end` is the offset of the first byte after the varint.

    Raises:
        TruncatedVarintError: `data` ends inside the varint (or before it).
        VarintError: more than nine bytes, or a last byte of zero (not minimal).
    """
    end = len(data)
    if offset < end and (byte := data[offset]) < 0x80:
        return byte, offset + 1
    value = shift = 0
    for position in range(offset, min(end, offset + MAX_BYTES)):
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if byte == 0:  # only reached in a multi-byte varint: the fast path took a lone zero
                raise VarintError("varint is not minimal")
            return value, position + 1
        shift += 7
    if end - offset >= MAX_BYTES:
        raise VarintError(f"varint is longer than {MAX_BYTES} bytes")
    raise TruncatedVarintError("varint is cut short")
