"""Encodings that give each character a fixed number of bits: base2, base8, base16, the base32 and base64 families.

The bits of the data are cut into digits from the front; the last digit is filled up with zero bits. Each base differs
only in alphabet, padding and whether it minds upper and lower case, so one class does them all, in linear time.

A decoder refuses a length that no data encodes to. It does not insist that the fill bits are zero: go-multibase does
not either, and texts with such bits are in circulation.

Spec: RFC 4648, and https://github.com/multiformats/multibase/blob/master/rfcs/Base8.md
"""

from binascii import a2b_base64, b2a_base64
from typing import Final

_BASE64: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_INT_DIGITS: Final = "0123456789abcdefghijklmnopqrstuv"  # as int(text, 32) reads them
_WRITTEN: Final = {1: "01", 3: "01234567", 4: "0123456789abcdef", 5: "".join(map(chr, range(32))), 6: _BASE64}
"""For each number of bits, the alphabet that `encode` translates from: the standard library's, or the bare values."""
_GROUP: Final = {5: 8, 6: 4}
"""Padding fills the text up to a multiple of this many characters."""


class BitBase:
    """One base of `bits` bits a character. `encode` and `decode` know nothing of multibase prefixes."""

    def __init__(self, bits: int, alphabet: str, *, padded: bool = False, any_case: bool = False) -> None:
        assert len(alphabet) == 1 << bits
        self._bits = bits
        self._padded = padded
        accepted, values = (alphabet.lower() + alphabet.upper(), 2) if any_case else (alphabet, 1)
        self._accepted = (accepted + "=" * padded).encode()
        self._to_alphabet = bytes.maketrans(_WRITTEN[bits].encode(), alphabet.encode())
        read = _BASE64 if bits == 6 else _INT_DIGITS[: 1 << bits]
        self._from_alphabet = bytes.maketrans(accepted.encode(), (read * values).encode())

    def encode(self, data: bytes) -> str:
        """Return the text of `data`."""
        bits = self._bits
        if bits == 6:
            text = b2a_base64(data, newline=False)
        elif bits == 5:
            text = b"".join([_cut_in_fives(data[start : start + 40]) for start in range(0, len(data), 40)])
        elif bits == 4:
            text = data.hex().encode()
        else:
            digits = -(-8 * len(data) // bits)
            number = int.from_bytes(data, "big") << (digits * bits - 8 * len(data))
            text = format(number, f"0{digits}{'b' if bits == 1 else 'o'}").encode() if digits else b""
        text = text.rstrip(b"=").translate(self._to_alphabet)
        if self._padded:
            text += b"=" * (-len(text) % _GROUP[bits])
        return text.decode()

    def decode(self, text: str) -> bytes:
        """Return the bytes that `text` writes.

        Raises:
            ValueError: a character outside the alphabet, wrong padding, or a length that no data has.
        """
        digits = self._unpadded(text)
        size, fill = divmod(len(digits) * self._bits, 8)
        if fill >= self._bits:
            raise ValueError(f"no data is {len(digits)} characters long")
        if self._bits == 6:
            return a2b_base64(digits.translate(self._from_alphabet) + b"=" * (-len(digits) % 4))
        if not digits:
            return b""
        return (int(digits.translate(self._from_alphabet), 1 << self._bits) >> fill).to_bytes(size, "big")

    def _unpadded(self, text: str) -> bytes:
        raw = text.encode("ascii", "replace")  # to '?', which no base has
        if foreign := raw.translate(None, self._accepted):
            raise ValueError(f"character {text[raw.index(foreign[0])]!r} is not in its alphabet")
        if not self._padded:
            return raw
        digits = raw.rstrip(b"=")
        if len(raw) - len(digits) != -len(digits) % _GROUP[self._bits] or b"=" in digits:
            raise ValueError("wrong padding")
        return digits


def _lane_masks() -> list[tuple[int, int, int]]:
    """Return the halving steps of `_cut_in_fives`: (bits to move, bits to leave, how far to move)."""
    steps: list[tuple[int, int, int]] = []
    digits = 64
    while digits > 1:
        lane, half = 8 * digits, 5 * digits // 2  # each lane of `lane` bits holds two halves, to be parted
        lows = sum(((1 << half) - 1) << start for start in range(0, 512, lane))
        steps.append((lows << half, lows, lane // 2 - half))
        digits //= 2
    return steps


_LANE_MASKS: Final = _lane_masks()


def _cut_in_fives(data: bytes) -> bytes:
    """Return the 5-bit digits of at most 40 bytes, each as a byte.

    All 64 digits are moved into their bytes at once, by parting halves, quarters, … of one large integer: a CID prints
    three times as fast as with base64.b32encode.
    """
    number = int.from_bytes(data, "big") << (320 - 8 * len(data))
    for moved, left, distance in _LANE_MASKS:
        number = (number & moved) << distance | number & left
    return number.to_bytes(64, "big")[: -(-8 * len(data) // 5)]
