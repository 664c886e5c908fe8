"""Proquints: sixteen bits as five letters that can be read aloud, as in the white paper's human-readable addresses.

A quint is consonant, vowel, consonant, vowel, consonant, of 4, 2, 4, 2 and 4 bits; quints are joined by hyphens:
127.0.0.1 is `lusab-babad`. The paper knows even lengths only. An odd last byte is written here as multibase libraries
write it: consonant, vowel, consonant, with two zero bits after the byte.

Spec: https://arxiv.org/html/0901.4016
"""

from typing import Final

_CONSONANTS: Final = "bdfghjklmnprstvz"
_VOWELS: Final = "aiou"
_CONSONANT_VALUES: Final = {char: value for value, char in enumerate(_CONSONANTS)}
_VOWEL_VALUES: Final = {char: value for value, char in enumerate(_VOWELS)}


def encode(data: bytes) -> str:
    """Return the quints of `data`; the last is three letters when the length is odd."""
    quints: list[str] = []
    for start in range(0, len(data), 2):
        pair = data[start : start + 2]
        number, letters = (int.from_bytes(pair, "big"), 5) if len(pair) == 2 else (pair[0] << 2, 3)
        quint = ""
        for position in range(letters):
            if position % 2:
                number, digit = divmod(number, 4)
                quint = _VOWELS[digit] + quint
            else:
                number, digit = divmod(number, 16)
                quint = _CONSONANTS[digit] + quint
        quints.append(quint)
    return "-".join(quints)


def decode(text: str) -> bytes:
    """Return the bytes that `text` writes.

    Raises:
        ValueError: a letter that can't be where it is, a quint of other length, or fill bits that are not zero.
    """
    if not text:
        return b""
    quints = text.split("-")
    out = bytearray()
    for index, quint in enumerate(quints):
        last = index == len(quints) - 1
        if len(quint) != 5 and not (last and len(quint) == 3):
            raise ValueError(f"proquint '{quint[:20]}' is {len(quint)} letters long")
        number = 0
        for position, char in enumerate(quint):
            values, bits = (_VOWEL_VALUES, 2) if position % 2 else (_CONSONANT_VALUES, 4)
            if char not in values:
                raise ValueError(f"letter {char!r} can't be there in the proquint '{quint}'")
            number = number << bits | values[char]
        if len(quint) == 5:
            out += number.to_bytes(2, "big")
        elif number & 3:
            raise ValueError(f"fill bits of the proquint '{quint}' are not zero")
        else:
            out.append(number >> 2)
    return bytes(out)
