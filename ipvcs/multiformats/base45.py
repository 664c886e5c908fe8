"""Base45: two bytes in three characters of the alphabet that QR codes pack densely.

Spec: RFC 9285
"""

from typing import Final

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:"
_VALUES: Final = {char: value for value, char in enumerate(_ALPHABET)}


def encode(data: bytes) -> str:
    """Return the text of `data`: each pair of bytes is a number written as three digits, least significant first."""
    out: list[str] = []
    for start in range(0, len(data), 2):
        pair = data[start : start + 2]
        number = int.from_bytes(pair, "big")
        for _ in range(len(pair) + 1):
            number, digit = divmod(number, 45)
            out.append(_ALPHABET[digit])
    return "".join(out)


def decode(text: str) -> bytes:
    """Return the bytes that `text` writes.

    Raises:
        ValueError: a character outside the alphabet, a length that no data has, or a group over 65535 (255 at the end).
    """
    if len(text) % 3 == 1:
        raise ValueError(f"no data is {len(text)} characters long")
    out = bytearray()
    for start in range(0, len(text), 3):
        group = text[start : start + 3]
        number = 0
        for char in reversed(group):
            if char not in _VALUES:
                raise ValueError(f"character {char!r} is not in its alphabet")
            number = number * 45 + _VALUES[char]
        size = len(group) - 1
        if number >> (8 * size):
            raise ValueError(f"group {group!r} is over {(1 << 8 * size) - 1}")
        out += number.to_bytes(size, "big")
    return bytes(out)
