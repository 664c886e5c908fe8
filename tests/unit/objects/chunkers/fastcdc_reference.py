"""FastCDC as `cdc-1` means it, spelled out byte by byte: what docs/chunkers.md says, and slow.

It shares nothing with the implementation in use: the Gear table is made here from its definition.
"""

import hashlib
import struct

NORMALIZATION_LEVEL = 2
GEAR = [int.from_bytes(hashlib.md5(bytes([value]) * 64).digest()[:8], "big") for value in range(256)]
GEAR_SHA256 = hashlib.sha256(struct.pack(">256Q", *GEAR)).hexdigest()

# By the logarithm of the average size that a mask alone would give.
MASKS = {
    6: 0x0000000001803110,
    7: 0x0000000018035100,
    8: 0x0000001800035300,
    9: 0x0000019000353000,
    10: 0x0000590003530000,
    11: 0x0000D90003530000,
    12: 0x0000D90103530000,
    13: 0x0000D90303530000,
    14: 0x0000D90313530000,
    15: 0x0000D90F03530000,
    16: 0x0000D90303537000,
    17: 0x0000D90703537000,
    18: 0x0000D90707537000,
    19: 0x0000D91707537000,
    20: 0x0000D91747537000,
    21: 0x0000D91767537000,
    22: 0x0000D93767537000,
}


def reference_lengths(data: bytes, min_size: int, avg_size: int, max_size: int) -> list[int]:
    """Return the lengths of the chunks of `data`."""
    lengths = []
    start = 0
    while start < len(data):
        lengths.append(_first_length(data[start : start + max_size], min_size, avg_size))
        start += lengths[-1]
    return lengths


def _first_length(data: bytes, min_size: int, avg_size: int) -> int:
    bits = avg_size.bit_length() - 1
    harder, easier = MASKS[bits + NORMALIZATION_LEVEL], MASKS[bits - NORMALIZATION_LEVEL]
    gear_hash = 0
    for position in range(min_size, len(data) // 2 * 2):  # bytes come in pairs: an odd last one is not looked at
        gear_hash = ((gear_hash << 1) + GEAR[data[position]]) % 2**64
        if gear_hash & (harder if position < avg_size else easier) == 0:
            return position
    return len(data)
