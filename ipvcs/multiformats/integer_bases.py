"""Encodings that read the data as one big number: base10, base36, the base58 family.

Each leading zero byte becomes one leading zero digit. Converting a number between bases takes quadratic time, so both
directions are bounded; what these bases are used for (CIDs, peer ids, IPNS names) is below 200 bytes.

Spec: https://github.com/multiformats/multibase/blob/master/rfcs/Base36.md and, for base58,
https://datatracker.ietf.org/doc/html/draft-msporny-base58-03
"""

from typing import Final

MAX_DIGITS: Final = 16 * 1024
"""Longer texts are refused; this many characters of base58 take a few milliseconds."""
MAX_BYTES: Final = 6 * 1024
"""Longer data is refused: in base10, the widest of these bases, it is the most that fits in `MAX_DIGITS`, rounded."""

_GROUP: Final = 10
"""Digits handled at a time: 58**10 is below 2**60, so most steps are on small numbers."""


class IntegerBase:
    """One base of any size. `encode` and `decode` know nothing of multibase prefixes."""

    def __init__(self, alphabet: str, *, any_case: bool = False) -> None:
        self._alphabet = alphabet
        self._base = len(alphabet)
        self._group = self._base**_GROUP
        self._values = {char: value for value, char in enumerate(alphabet)}
        if any_case:
            self._values |= {char.swapcase(): value for char, value in self._values.items()}

    def encode(self, data: bytes) -> str:
        """Return the text of `data`.

        Raises:
            ValueError: more than `MAX_BYTES`.
        """
        if len(data) > MAX_BYTES:
            raise ValueError(f"{len(data)} bytes are over the limit of {MAX_BYTES}")
        alphabet, base = self._alphabet, self._base
        number = int.from_bytes(data, "big")
        reversed_digits: list[str] = []
        while number:
            number, group = divmod(number, self._group)
            for _ in range(_GROUP):
                group, digit = divmod(group, base)
                reversed_digits.append(alphabet[digit])
        digits = "".join(reversed_digits).rstrip(alphabet[0])[::-1]
        return alphabet[0] * (len(data) - len(data.lstrip(b"\0"))) + digits

    def decode(self, text: str) -> bytes:
        """Return the bytes that `text` writes.

        Raises:
            ValueError: a character outside the alphabet, or more than `MAX_DIGITS` of them.
        """
        if len(text) > MAX_DIGITS:
            raise ValueError(f"{len(text)} characters are over the limit of {MAX_DIGITS}")
        try:
            values = [self._values[char] for char in text]
        except KeyError as exc:
            raise ValueError(f"character {exc.args[0]!r} is not in its alphabet") from None
        base, number = self._base, 0
        for start in range(0, len(values), _GROUP):
            chunk = values[start : start + _GROUP]
            group = 0
            for value in chunk:
                group = group * base + value
            number = number * (self._group if len(chunk) == _GROUP else base ** len(chunk)) + group
        zeros = len(text) - len(text.lstrip(self._alphabet[0]))
        return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
