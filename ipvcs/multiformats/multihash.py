"""Multihashes: a hash function's number, the digest's length, the digest.

Spec: https://github.com/multiformats/multihash
"""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol, cast

from ipvcs.errors import DecodeError, UsageError
from ipvcs.multiformats import varint

IDENTITY: Final = 0x00
SHA1: Final = 0x11
SHA2_256: Final = 0x12
SHA2_512: Final = 0x13
BLAKE3: Final = 0x1E
MURMUR3_X64_64: Final = 0x22

MIN_DIGEST: Final = 20
"""Shorter digests are refused where a CID is *verified* (boxo's verifcid): they can be forged."""
MAX_DIGEST: Final = 128
"""Longer digests are refused: verifcid's limit, and go-multihash's for what blake3 may give out."""
MAX_IDENTITY: Final = MAX_DIGEST
"""The most data that an identity multihash holds (verifcid): a longer one is made on request and refused as a CID."""

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

ALLOWED: Final = frozenset(
    (
        *(IDENTITY, SHA1, SHA2_256, SHA2_512, 0x14, 0x15, 0x16, 0x17, 0x19, BLAKE3, 0x56),
        *range(0xB200 + MIN_DIGEST, 0xB241),
        *range(0xB240 + MIN_DIGEST, 0xB261),
    )
)
"""Those of them that `ipfs cid hashes` lists: Kubo refuses blocks named by any other as potentially insecure.

SHA-1 is broken for collisions and allowed for Git's sake. Kubo's list has the four keccak functions too.
"""

_NOT_COMPUTED: Final = {
    0x1A: "keccak-224",
    0x1B: "keccak-256",
    0x1C: "keccak-384",
    0x1D: "keccak-512",
    MURMUR3_X64_64: "murmur3-x64-64",
    0xD5: "md5",
    0x1012: "sha2-256-trunc254-padded",
    0x1100: "x11",
    0xB401: "poseidon-bls12_381-a2-fc1",
}
"""Functions that have a name only: too slow in Python, too weak, or (murmur3) no hash of content."""

_BY_CODE: Final = {code: name for name, code in NAMES.items()} | _NOT_COMPUTED


class MultihashError(DecodeError):
    """Bytes are not a multihash."""


class UnknownHashError(UsageError):
    """The hash function is not one that ipvcs computes."""

    def __init__(self, function: str | int) -> None:
        shown = name_of(function) if isinstance(function, int) else function
        super().__init__(
            f"hash function '{shown}' is not supported",
            hint="one of: identity, sha1, sha2-256, sha2-512, sha3-*, blake2b-*, blake2s-*, blake3",
        )
        self.function = function


def skip(data: bytes | memoryview, offset: int = 0) -> int:
    """Return the offset of the first byte after the multihash at `offset`.

    Raises:
        MultihashError: cut short, or a digest over `MAX_DIGEST` bytes. A digest shorter than its function's is legal.
        VarintError: a bad varint.
    """
    _code, position = varint.decode(data, offset)
    length, position = varint.decode(data, position)
    if length > MAX_DIGEST:
        raise MultihashError(f"digest of {length} bytes is over the limit of {MAX_DIGEST}")
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
        MultihashError: `length` is zero or more than the function gives, or is not an identity digest's.
    """
    if code == SHA2_256 and length < 0:
        return b"\x12\x20" + hashlib.sha256(data).digest()
    return wrap(code, digest(data, code, length))


def digest(data: bytes | bytearray | memoryview, code: int, length: int = -1) -> bytes:
    """Return the bare digest of `data`; arguments and errors as `sum_`."""
    if code == IDENTITY:
        if 0 <= length != len(data):
            raise MultihashError(f"identity digest of {len(data)} bytes can't have length {length}")
        return bytes(data)
    if (usual := _EXTENDABLE.get(code)) is not None:
        _check_length(code, length, MAX_DIGEST)
        return cast("_Extendable", _hash(code, data)).digest(usual if length < 0 else length)
    full = cast("_Hash", _hash(code, data)).digest()
    _check_length(code, length, len(full))
    return full if length < 0 else full[:length]


def verify(data: bytes | bytearray | memoryview, multihash: bytes) -> bool:
    """Tell whether `data` hashes to `multihash`, a digest of at least `MIN_DIGEST` bytes or an identity one.

    Raises:
        UnknownHashError: a function that can't be computed here, so nothing can be said.
        MultihashError: not a multihash, or a digest too short to prove anything or longer than the function's.
    """
    if multihash[:2] == b"\x12\x20" and len(multihash) == 34:
        return hashlib.sha256(data).digest() == multihash[2:]
    code, expected = decode(multihash)
    if code == IDENTITY:
        return expected == data
    if len(expected) < MIN_DIGEST:
        raise MultihashError(f"digest of {len(expected)} bytes is below the safe minimum of {MIN_DIGEST}")
    return digest(data, code, len(expected)) == expected


def name_of(code: int) -> str:
    """Return the function's name, or its number as `0x…` when unknown."""
    return _BY_CODE.get(code) or hex(code)


def code_of(name: str) -> int:
    """Return the function's number, its name in any case; raises UnknownHashError."""
    try:
        return NAMES[name.lower()]
    except KeyError:
        raise UnknownHashError(name) from None


class _Hash(Protocol):
    def digest(self) -> bytes: ...


class _Extendable(Protocol):
    def digest(self, length: int, /) -> bytes: ...


def _double_sha256(data: bytes | bytearray | memoryview) -> object:
    """SHA-256 of the SHA-256, as in Bitcoin."""
    return hashlib.sha256(hashlib.sha256(data).digest())


_EXTENDABLE: Final = {0x18: 32, 0x19: 64, BLAKE3: 32}
"""Functions that give digests of any length (shake-128, shake-256, blake3), and the length when none is asked for."""

_FUNCTIONS: Final[dict[int, Callable[..., object]]] = {
    SHA1: partial(hashlib.sha1, usedforsecurity=False),
    SHA2_256: hashlib.sha256,
    SHA2_512: hashlib.sha512,
    0x14: hashlib.sha3_512,
    0x15: hashlib.sha3_384,
    0x16: hashlib.sha3_256,
    0x17: hashlib.sha3_224,
    0x18: hashlib.shake_128,
    0x19: hashlib.shake_256,
    0x20: hashlib.sha384,
    0x56: _double_sha256,
    0x1013: hashlib.sha224,
    0x1014: partial(hashlib.new, "sha512_224"),
    0x1015: partial(hashlib.new, "sha512_256"),
}


def _hash(code: int, data: bytes | bytearray | memoryview) -> object:
    """Return what hashlib and its like make of `data`: an object to ask for the digest."""
    if function := _FUNCTIONS.get(code):
        try:
            return function(data)
        except ValueError:  # an OpenSSL built without the function
            raise UnknownHashError(code) from None
    if 0xB201 <= code <= 0xB240:
        return hashlib.blake2b(data, digest_size=code - 0xB200)
    if 0xB241 <= code <= 0xB260:
        return hashlib.blake2s(data, digest_size=code - 0xB240)
    if code == BLAKE3:
        from blake3 import blake3  # compiled, and rarely needed

        return blake3(data)
    raise UnknownHashError(code)


def _check_length(code: int, length: int, most: int) -> None:
    if length >= 0 and not 0 < length <= most:
        raise MultihashError(f"{name_of(code)} gives 1 to {most} bytes, not {length}")
