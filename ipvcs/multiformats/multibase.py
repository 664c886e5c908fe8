"""Multibase: a character that names the base, then the bytes written in it.

The encodings themselves are in modules of their own; here is the table of prefixes. Only base58btc is ever written
without one (CIDv0, peer ids), so it has functions of its own.

Spec: https://github.com/multiformats/multibase
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from ipvcs.errors import DecodeError, UsageError
from ipvcs.multiformats import base45, base256emoji, proquint
from ipvcs.multiformats.bit_bases import BitBase
from ipvcs.multiformats.integer_bases import IntegerBase


class MultibaseError(DecodeError):
    """Text is not what its multibase says, or no such base."""


class UnknownBaseError(MultibaseError, UsageError):
    """No base has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown multibase '{name}'", hint=f"one of: {', '.join(base.name for base in _TABLE)}")
        self.name = name


class _Base(NamedTuple):
    code: str
    name: str
    encode: Callable[[bytes], str]
    decode: Callable[[str], bytes]


def _decode_identity(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _encode_identity(data: bytes) -> str:
    """Bytes that are no UTF-8 travel in a Python string as surrogates, as file names do."""
    return data.decode("utf-8", "surrogateescape")


def _decode_proquint(text: str) -> bytes:
    if not text.startswith("ro-"):
        raise ValueError("it does not start with 'pro-'")
    return proquint.decode(text[3:])


def _bits(code: str, name: str, bits: int, alphabet: str, *, padded: bool = False, any_case: bool = False) -> _Base:
    base = BitBase(bits, alphabet, padded=padded, any_case=any_case)
    return _Base(code, name, base.encode, base.decode)


def _integer(code: str, name: str, alphabet: str, *, any_case: bool = False) -> _Base:
    base = IntegerBase(alphabet, any_case=any_case)
    return _Base(code, name, base.encode, base.decode)


_DECIMAL: Final = "0123456789"
_LOWER: Final = "abcdefghijklmnopqrstuvwxyz"
_UPPER: Final = _LOWER.upper()
_HEX: Final = _DECIMAL + "abcdef"
_BASE32: Final = _LOWER + "234567"
_BASE32HEX: Final = _DECIMAL + _LOWER[:22]
_BASE64: Final = _UPPER + _LOWER + _DECIMAL + "+/"
_BASE64URL: Final = _UPPER + _LOWER + _DECIMAL + "-_"
_BITCOIN: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_FLICKR: Final = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"

# In the order of `ipfs cid bases`: by code, capitals behind their small letter. base8, base10, base32z, base45 and
# proquint are in the registry but not in go-multibase.
_TABLE: Final = (
    _Base("\0", "identity", _encode_identity, _decode_identity),
    _bits("0", "base2", 1, "01"),
    _bits("7", "base8", 3, "01234567"),
    _integer("9", "base10", _DECIMAL),
    _bits("b", "base32", 5, _BASE32, any_case=True),
    _bits("B", "base32upper", 5, _BASE32.upper(), any_case=True),
    _bits("c", "base32pad", 5, _BASE32, padded=True, any_case=True),
    _bits("C", "base32padupper", 5, _BASE32.upper(), padded=True, any_case=True),
    _bits("f", "base16", 4, _HEX, any_case=True),
    _bits("F", "base16upper", 4, _HEX.upper(), any_case=True),
    _bits("h", "base32z", 5, "ybndrfg8ejkmcpqxot1uwisza345h769"),
    _integer("k", "base36", _DECIMAL + _LOWER, any_case=True),
    _integer("K", "base36upper", _DECIMAL + _UPPER, any_case=True),
    _bits("m", "base64", 6, _BASE64),
    _bits("M", "base64pad", 6, _BASE64, padded=True),
    _Base("p", "proquint", lambda data: "ro-" + proquint.encode(data), _decode_proquint),
    _Base("R", "base45", base45.encode, base45.decode),
    _bits("t", "base32hexpad", 5, _BASE32HEX, padded=True, any_case=True),
    _bits("T", "base32hexpadupper", 5, _BASE32HEX.upper(), padded=True, any_case=True),
    _bits("u", "base64url", 6, _BASE64URL),
    _bits("U", "base64urlpad", 6, _BASE64URL, padded=True),
    _bits("v", "base32hex", 5, _BASE32HEX, any_case=True),
    _bits("V", "base32hexupper", 5, _BASE32HEX.upper(), any_case=True),
    _integer("z", "base58btc", _BITCOIN),
    _integer("Z", "base58flickr", _FLICKR),
    _Base("🚀", "base256emoji", base256emoji.encode, base256emoji.decode),
)
_BY_CODE: Final = {base.code: base for base in _TABLE}
_BY_NAME: Final = {base.name: base for base in _TABLE}

BASES: Final[tuple[tuple[str, str], ...]] = tuple((base.code, base.name) for base in _TABLE)
"""(code character, name) of every base, in the order in which `ipfs cid bases` lists them."""


def encode(data: bytes, base: str) -> str:
    """Return `data` in the multibase named `base`, its prefix first.

    Raises:
        UnknownBaseError: no such base.
        MultibaseError: more data than a base with quadratic cost takes: `integer_bases.MAX_BYTES`.
    """
    if (found := _BY_NAME.get(base)) is None:
        raise UnknownBaseError(base)
    try:
        return found.code + found.encode(data)
    except ValueError as exc:
        raise MultibaseError(f"cannot encode in {base}: {exc}") from exc


def decode(text: str) -> bytes:
    """Return the bytes of a multibase text, in time linear in its length (the integer bases: bounded).

    Raises:
        MultibaseError: empty, an unknown prefix, or not what its base writes.
    """
    if (base := _BY_CODE.get(text[:1])) is None:
        raise MultibaseError(f"unknown multibase prefix {text[0]!r}" if text else "empty text has no multibase prefix")
    try:
        return base.decode(text[1:])
    except ValueError as exc:
        raise MultibaseError(f"invalid {base.name}: {exc}") from exc


def decode_with_base(text: str) -> tuple[str, bytes]:
    """Return (name of the base, bytes) of a multibase text; raises as `decode`."""
    data = decode(text)
    return _BY_CODE[text[0]].name, data


def encode_base58(data: bytes) -> str:
    """Return `data` in base58btc, without a prefix.

    Raises:
        MultibaseError: as `encode`.
    """
    return encode(data, "base58btc")[1:]


def decode_base58(text: str) -> bytes:
    """Return the bytes that base58btc `text`, without a prefix, writes.

    Raises:
        MultibaseError: a character outside the alphabet, or over `integer_bases.MAX_DIGITS` of them.
    """
    return decode("z" + text)
