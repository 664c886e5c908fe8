"""Deterministic byte streams: the inputs that the published UnixFS and chunker vectors are made of.

A vector names its input as a kind and a few parameters, `{"chacha8": "41", "size": 5242880}`; `from_input` makes the
bytes. Large streams are needed, so all kinds are built from operations on whole arrays or whole integers.

Spec: ChaCha20, RFC 8439; chacha8rand, https://c2sp.org/chacha8rand (the generator of Go's `math/rand/v2.ChaCha8`).
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

# chacha8rand makes 16 ChaCha blocks a refill. Their 4 x 4 states are kept as four Python integers, one a row, in which
# lane `group * 16 + column * 4 + block % 4` is that word of block `group * 4 + block % 4`: 64 lanes in the very order
# in which chacha8rand writes the row out. A lane is 64 bits wide, of which the upper 32 catch carries.
_LANES = 64
_LANE_BITS = 64
_ROW_BYTES = _LANES * _LANE_BITS // 8
_ONES = sum(1 << (_LANE_BITS * lane) for lane in range(_LANES))
_WORDS = _ONES * 0xFFFFFFFF
_COLUMN = [sum(1 << (_LANE_BITS * (g * 16 + c * 4 + j)) for g in range(4) for j in range(4)) for c in range(4)]
_BLOCK_COUNTER = sum((g * 4 + j) << (_LANE_BITS * (g * 16 + j)) for g in range(4) for j in range(4))
_REFILL = 1024
_NEXT_KEY = 32  # the end of a refill is not output: it is the key of the next


def zeros(size: int) -> bytes:
    """Return `size` zero bytes."""
    return bytes(size)


def text_repeat(text: str, count: int) -> bytes:
    """Return `text` in UTF-8, `count` times."""
    return text.encode() * count


def chacha20_stream(seed: str, size: int) -> bytes:
    """Return the ChaCha20 key stream under SHA-256(`seed`) with a zero nonce, from block 0 on."""
    cipher = Cipher(algorithms.ChaCha20(hashlib.sha256(seed.encode()).digest(), bytes(16)), mode=None)
    return cipher.encryptor().update(bytes(size))


def chacha8_stream(seed: int | str, size: int) -> bytes:
    """Return what go-test's `random-data -seed=SEED` writes; SHA-256 of the decimal is the key."""
    return chacha8_rawseed(hashlib.sha256(str(int(seed)).encode()).digest(), size)


def chacha8_rawseed(seed: bytes | str, size: int) -> bytes:
    """Return the first `size` bytes of the chacha8rand stream whose key is `seed` itself, 32 bytes or characters."""
    key = seed.encode() if isinstance(seed, str) else seed
    if len(key) != 32:
        raise ValueError(f"a chacha8rand seed is 32 bytes, not {len(key)}")
    refills: list[bytes] = []
    for _ in range(-(-size // (_REFILL - _NEXT_KEY))):
        words = np.frombuffer(_chacha8_refill(key), dtype="<u8").astype("<u4")
        # A row holds all four groups of blocks; the output has a group's four rows before the next group.
        refill = words.reshape(4, 4, 16).transpose(1, 0, 2).tobytes()
        refills.append(refill[:-_NEXT_KEY])
        key = refill[-_NEXT_KEY:]
    return b"".join(refills)[:size]


def from_input(spec: Mapping[str, Any]) -> bytes:
    """Return the bytes that a vector's `input` describes.

    Raises:
        KeyError: a kind that is not a plain stream of bytes (a tree, a symlink), or an unknown one.
    """
    if "text" in spec:
        return str(spec["text"]).encode()
    if "zeros" in spec:
        return zeros(spec["zeros"])
    if "text_repeat" in spec:
        return text_repeat(*spec["text_repeat"])
    if "chacha20" in spec:
        return chacha20_stream(spec["chacha20"], spec["size"])
    if "chacha8" in spec:
        return chacha8_stream(spec["chacha8"], spec["size"])
    if "chacha8_rawseed" in spec:
        return chacha8_rawseed(spec["chacha8_rawseed"], spec["size"])
    raise KeyError(f"no stream kind in {sorted(spec)}")


def _chacha8_refill(key: bytes) -> bytes:
    """Return the 16 ChaCha8 blocks with counters 0..15: row by row, each lane as 8 bytes little endian."""
    word = [int.from_bytes(key[i : i + 4], "little") for i in range(0, 32, 4)]
    constants = (0x61707865, 0x3320646E, 0x79622D32, 0x6B206574)  # "expand 32-byte k"
    a = sum(constants[c] * _COLUMN[c] for c in range(4))
    key_b = b = sum(word[c] * _COLUMN[c] for c in range(4))
    key_c = c = sum(word[4 + c] * _COLUMN[c] for c in range(4))
    d = _BLOCK_COUNTER
    for _ in range(4):
        a, b, c, d = _quarter_rounds(a, b, c, d)
        a, b, c, d = _quarter_rounds(a, _turn(b, 1), _turn(c, 2), _turn(d, 3))
        b, c, d = _turn(b, 3), _turn(c, 2), _turn(d, 1)
    # Of the input only the key is added back (and not the constants and the counter, as ChaCha20 does).
    rows = (a, (b + key_b) & _WORDS, (c + key_c) & _WORDS, d)
    return b"".join(row.to_bytes(_ROW_BYTES, "little") for row in rows)


def _quarter_rounds(a: int, b: int, c: int, d: int) -> tuple[int, int, int, int]:
    """Apply ChaCha's quarter round to the four columns of every block."""
    for first, second in ((16, 12), (8, 7)):
        a = (a + b) & _WORDS
        d ^= a
        d = (d << first | d >> (32 - first)) & _WORDS
        c = (c + d) & _WORDS
        b ^= c
        b = (b << second | b >> (32 - second)) & _WORDS
    return a, b, c, d


def _turn_masks() -> list[tuple[int, int]]:
    """Return, for turns by 0..3, the lanes that stay in their group when moved down and those that wrap around."""
    kept = [sum(_COLUMN[c] for c in range(4 - n)) * 0xFFFFFFFF for n in range(4)]
    return [(mask, _WORDS ^ mask) for mask in kept]


_TURN_MASKS = _turn_masks()


def _turn(row: int, columns: int) -> int:
    """Rotate the four words of the row of every block left by `columns`."""
    kept, wrapped = _TURN_MASKS[columns]
    lane_bits = 4 * _LANE_BITS
    return (row >> (columns * lane_bits)) & kept | (row << ((4 - columns) * lane_bits)) & wrapped
