"""Multihashes: a hash function's number, the digest's length, the digest.

Spec: https://github.com/multiformats/multihash
"""

import hashlib
from collections.abc import Callable
from typing import Final

from ipvcs.errors import DecodeError, IntegrityError, UsageError
from ipvcs.multiformats import varint

IDENTITY: Final = 0x00
SHA1: Final = 0x11
SHA2_256: Final = 0x12
SHA2_512: Final = 0x13
BLAKE3: Final = 0x1E
MURMUR3_X64_64: Final = 0x22

MIN_DIGEST: Final = 20
"""Shorter digests are refused where a CID is *verified* (go-verifcid): they can be forged."""
MAX_IDENTITY: Final = 128
"""The longest identity multihash that counts as a CID (go-verifcid)."""
MAX_DIGEST: Final = 128
"""Longer digests are refused when parsed; blake3 is the one function whose output can be that long."""

_DEFAULT_LENGTHS: Final[dict[int, int]] = {
    SHA1: 20, SHA2_256: 32, SHA2_512: 64,
    0x14: 64, 0x15: 48, 0x16: 32, 0x17: 28,  # sha3-512, -384, -256, -224
    0x18: 32, 0x19: 64,  # shake-128, shake-256
    BLAKE3: 32, 0x20: 48, 0x56: 32, 0x1013: 28, 0x1014: 28, 0x1015: 32,
}  # fmt: skip
"""Digest length in bytes of each function, blake2b and blake2s aside (theirs is in the code)."""

NAMES: Final[dict[str, int]] = {
    "identity": IDENTITY,
    "sha1": SHA1,
    "sha2-256": SHA2_256,
    "sha2-512": SHA2_512,
    "sha3-512": 0x14,
    "sha3-384": 0x15,
    "sha3-256": 0x16,
    "sha3-224": 0x17,
    "shake-128": 0x18,
    "shake-256": 0x19,
    "blake3": BLAKE3,
    "sha2-384": 0x20,
    "dbl-sha2-256": 0x56,
    "sha2-224": 0x1013,
    "sha2-512-224": 0x1014,
    "sha2-512-256": 0x1015,
    **{f"blake2b-{8 * size}": 0xB200 + size for size in range(1, 65)},
    **{f"blake2s-{8 * size}": 0xB240 + size for size in range(1, 33)},
}
"""Hash functions by multicodec name: those that `digest` computes."""

_BY_CODE: Final = {code: name for name, code in NAMES.items()}


class MultihashError(DecodeError):
    """Bytes are not a multihash."""


class UnknownHashError(UsageError):
    """The hash function is not one that ipvcs computes."""

    def __init__(self, function: str | int) -> None:
        shown = hex(function) if isinstance(function, int) else function
        super().__init__(
            f"unknown hash function '{shown}'",
            hint="one of: identity, sha1, sha2-256, sha2-512, sha3-*, blake2b-*, blake2s-*, blake3",
        )
        self.function = function


class DigestMismatchError(IntegrityError):
    """Data does not hash to the digest that names it."""


def skip(data: bytes | memoryview, offset: int = 0) -> int:
    """Return the offset of the first byte after the multihash at `offset`.

    Raises:
        MultihashError: truncated, a digest over `MAX_DIGEST` bytes, or a sha2-256 digest that is not 32 bytes.
        VarintError: a bad varint.
    """
    code, position = varint.decode(data, offset)
    length, position = varint.decode(data, position)
    if length > MAX_DIGEST:
        raise MultihashError(f"digest of {length} bytes is over the limit of {MAX_DIGEST}")
    if code == SHA2_256 and length != 32:
        raise MultihashError(f"sha2-256 digest has {length} bytes instead of 32")
    end = position + length
    if end > len(data):
        raise MultihashError("multihash is cut short")
    return end


def decode(data: bytes) -> tuple[int, bytes]:
    """Return (function code, digest) of a multihash, whole and alone.

    Raises:
        MultihashError: as `skip`, or trailing bytes.
    """
    end = skip(data)
    if end != len(data):
        raise MultihashError(f"{len(data) - end} bytes follow the multihash")
    return varint.decode(data)[0], digest_of(data)


def digest_of(multihash: bytes) -> bytes:
    """Return the digest of a multihash that is known to be well formed."""
    position = varint.decode(multihash)[1]
    return multihash[varint.decode(multihash, position)[1] :]


def wrap(code: int, digest: bytes) -> bytes:
    """Return the multihash of a digest already computed."""
    return varint.encode(code) + varint.encode(len(digest)) + digest


def sum_(data: bytes | bytearray | memoryview, code: int = SHA2_256, length: int = -1) -> bytes:
    """Return the multihash of `data` with function `code`, cut to `length` bytes (-1: the function's own length).

    Raises:
        UnknownHashError: the function is not one of `NAMES`.
        MultihashError: `length` is more than the function gives, or is not an identity digest's.
    """
    if code == SHA2_256 and length < 0:
        return b"\x12\x20" + hashlib.sha256(data).digest()
    return wrap(code, digest(data, code, length))


def digest(data: bytes | bytearray | memoryview, code: int, length: int = -1) -> bytes:
    """Return the bare digest of `data`; arguments and errors as `sum_`."""
    if code == IDENTITY:
        if length >= 0 and length != len(data):
            raise MultihashError(f"identity digest of {len(data)} bytes can't have length {length}")
        return bytes(data)
    if code in (0x18, 0x19, BLAKE3):
        return _extendable(data, code, _DEFAULT_LENGTHS[code] if length < 0 else length)
    full = _fixed_function(code)(data)
    if length > len(full):
        raise MultihashError(f"{name_of(code)} gives {len(full)} bytes, not {length}")
    return full if length < 0 else full[:length]


def verify(data: bytes | bytearray | memoryview, multihash: bytes) -> bool:
    """Tell whether `data` hashes to `multihash`, a digest of at least `MIN_DIGEST` bytes or an identity one.

    Raises:
        UnknownHashError: a function that can't be computed here, so nothing can be said.
        MultihashError: not a multihash, or a digest too short to prove anything.
    """
    if multihash[:2] == b"\x12\x20" and len(multihash) == 34:
        return hashlib.sha256(data).digest() == multihash[2:]
    code, expected = decode(multihash)
    if code == IDENTITY:
        if len(expected) > MAX_IDENTITY:
            raise MultihashError(f"identity digest is over {MAX_IDENTITY} bytes")
        return expected == bytes(data)
    if len(expected) < MIN_DIGEST:
        raise MultihashError(f"digest of {len(expected)} bytes is below the safe minimum of {MIN_DIGEST}")
    return digest(data, code, len(expected)) == expected


def name_of(code: int) -> str:
    """Return the function's name, or its number as `0x…` when unknown."""
    return _BY_CODE.get(code) or hex(code)


def code_of(name: str) -> int:
    """Return the function's number; raises UnknownHashError."""
    try:
        return NAMES[name]
    except KeyError:
        raise UnknownHashError(name) from None


def _extendable(data: bytes | bytearray | memoryview, code: int, length: int) -> bytes:
    if length > MAX_DIGEST:
        raise MultihashError(f"digest of {length} bytes is over the limit of {MAX_DIGEST}")
    if code == BLAKE3:
        from blake3 import blake3

        return blake3(data).digest(length=length)
    shake = hashlib.shake_128 if code == 0x18 else hashlib.shake_256
    return shake(data).digest(length)


_HASHLIB_NAMES: Final[dict[int, str]] = {
    SHA1: "sha1", SHA2_256: "sha256", SHA2_512: "sha512", 0x14: "sha3_512", 0x15: "sha3_384", 0x16: "sha3_256",
    0x17: "sha3_224", 0x20: "sha384", 0x1013: "sha224", 0x1014: "sha512_224", 0x1015: "sha512_256",
}  # fmt: skip


def _fixed_function(code: int) -> Callable[[bytes | bytearray | memoryview], bytes]:
    if name := _HASHLIB_NAMES.get(code):
        return lambda data: hashlib.new(name, data).digest()
    if code == 0x56:
        return lambda data: hashlib.sha256(hashlib.sha256(data).digest()).digest()
    if 0xB201 <= code <= 0xB240:
        return lambda data: hashlib.blake2b(data, digest_size=code - 0xB200).digest()
    if 0xB241 <= code <= 0xB260:
        return lambda data: hashlib.blake2s(data, digest_size=code - 0xB240).digest()
    raise UnknownHashError(code)
