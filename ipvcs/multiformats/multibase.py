"""Multibase: a character that names the base, then the bytes in it.

Spec: https://github.com/multiformats/multibase
"""

from base64 import b32decode
from typing import Final

from ipvcs.errors import DecodeError

_BASE58: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_DIGITS: Final = {char: value for value, char in enumerate(_BASE58)}


class MultibaseError(DecodeError):
    """Text is not what its multibase says, or no such base."""


def encode_base58(data: bytes) -> str:
    """Return `data` in base58btc, without a prefix."""
    number, out = int.from_bytes(data, "big"), []
    while number:
        number, digit = divmod(number, 58)
        out.append(_BASE58[digit])
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + "".join(reversed(out))


def decode_base58(text: str) -> bytes:
    """Return the bytes that base58btc `text`, without a prefix, writes."""
    number = 0
    for char in text:
        digit = _BASE58_DIGITS.get(char)
        if digit is None:
            raise MultibaseError(f"character {char!r} is not in base58btc")
        number = number * 58 + digit
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def encode(data: bytes, base: str) -> str:
    """Return `data` in the multibase named `base`, its prefix first."""
    if base == "base58btc":
        return "z" + encode_base58(data)
    raise MultibaseError(f"unknown multibase '{base}'")


def decode(text: str) -> bytes:
    """Return the bytes of a multibase text."""
    if text[0] == "z":
        return decode_base58(text[1:])
    if text[0] in "bB":
        try:
            return b32decode(text[1:].upper() + "=" * (-len(text[1:]) % 8))
        except ValueError as exc:
            raise MultibaseError(f"bad base32: {exc}") from exc
    raise MultibaseError(f"unknown multibase prefix {text[0]!r}")
