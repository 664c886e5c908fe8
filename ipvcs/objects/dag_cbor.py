"""dag-cbor: the binary form of the IPLD data model.

CBOR with one encoding for each value: shortest integers and lengths, definite lengths, map keys that are strings,
unique and sorted by length and then bytes, 64-bit floats, no NaN and no infinity, tag 42 for links and no other tag.

Goals: strict by default; lenient on request, because blocks that looser encoders wrote exist and must be walked. Either
way nothing recurses, allocates by a length that the input merely claims, or raises anything but `DagCborError`.

Spec: https://ipld.io/specs/codecs/dag-cbor/spec/ and RFC 8949
"""

import struct
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Final

from ipvcs.errors import DecodeError, TruncatedError
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects.data_model import MAX_DEPTH, MAX_INT, MIN_INT, EncodeError, Value, shown

# Major types, the top three bits of an item's first byte (RFC 8949 §3.1).
_UNSIGNED: Final = 0
_NEGATIVE: Final = 1
_BYTES: Final = 2
_TEXT: Final = 3
_LIST: Final = 4
_MAP: Final = 5
_TAG: Final = 6

_LINK_TAG: Final = 42
_IDENTITY_BASE: Final = b"\x00"  # the multibase prefix that a link's bytes start with, "for historical reasons"
_MINIMUM: Final = {24: 24, 25: 1 << 8, 26: 1 << 16, 27: 1 << 32}  # the least argument that needs each width
_FLOATS: Final = {25: ">e", 26: ">f", 27: ">d"}
_SIMPLE: Final[dict[int, bool | None]] = {20: False, 21: True, 22: None}
_NO_KEY: Final = ""


class DagCborError(DecodeError):
    """Bytes are not dag-cbor. `offset` is the byte at which the offending item begins."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(f"bad dag-cbor at byte {offset}: {problem}")
        self.offset = offset


class TruncatedDagCborError(DagCborError, TruncatedError):
    """The input ends inside an item."""


class _Open:
    """A list or map that is still being filled."""

    __slots__ = ("container", "key", "missing")

    def __init__(self, container: "list[Value] | dict[str, Value]", missing: int) -> None:
        self.container = container
        self.missing = missing
        self.key = _NO_KEY


def decode(data: bytes, *, strict: bool = True) -> Value:
    """Return the value that `data` holds, whole and alone.

    With `strict` false, what the spec lets a decoder relax is accepted: any order of keys, integers, lengths and tags
    longer than need be, 16- and 32-bit floats; and strings that are not UTF-8, as `surrogateescape` strings. Encoding
    the result gives the canonical bytes.

    Raises:
        DagCborError: not canonical, not in the data model, a duplicate key, nested deeper than `MAX_DEPTH`, or more
            than one item. Even when lenient: indefinite lengths, tags other than 42, NaN, infinities, undefined.
        TruncatedDagCborError: the input ends inside the item.
    """
    stack: list[_Open] = []
    position = 0
    while True:
        start = position
        major, info, argument, position = _read_head(data, position, strict)
        value: Value
        if major == _UNSIGNED:
            value = argument
        elif major == _NEGATIVE:
            value = -1 - argument
        elif major == _BYTES:
            value, position = _take(data, position, argument, start)
        elif major == _TEXT:
            value, position = _read_text(data, position, argument, start, strict)
        elif major == _TAG:
            value, position = _read_link(data, position, argument, start, strict)
        elif major in (_LIST, _MAP):
            # An element is at least one byte and an entry two: a claim beyond that is refused before it costs anything.
            if argument * (major - _LIST + 1) > len(data) - position:
                raise TruncatedDagCborError(f"input ends inside a collection of {argument}", start)
            if len(stack) == MAX_DEPTH:
                raise DagCborError(f"nested deeper than {MAX_DEPTH}", start)
            value = [] if major == _LIST else {}
            if argument:
                stack.append(opened := _Open(value, argument))
                if major == _MAP:
                    position = _read_key(data, position, opened, strict)
                continue
        else:
            value, position = _read_simple(data, info, argument, start, strict), position
        # The value is whole: hand it to the collection around it, which may be whole with it, and so on outwards.
        while stack:
            opened = stack[-1]
            opened.missing -= 1
            if isinstance(opened.container, list):
                opened.container.append(value)
            else:
                opened.container[opened.key] = value
                if opened.missing:
                    position = _read_key(data, position, opened, strict)
            if opened.missing:
                break
            value = opened.container
            stack.pop()
        else:
            if position != len(data):
                raise DagCborError(f"{len(data) - position} bytes follow the item", position)
            return value


def encode(value: Value) -> bytes:
    """Return the canonical bytes of `value`.

    Raises:
        EncodeError: an integer beyond 64 bits, a float that is not finite, a string with lone surrogates, a map key
            that is no string, an object of no kind, or nesting deeper than `MAX_DEPTH` (a cycle, for one).
    """
    parts: list[bytes] = []
    stack: list[Iterator[Value]] = [iter((value,))]
    while stack:
        for item in stack[-1]:
            if isinstance(item, str):
                text = _utf8(item)
                parts += (_head(_TEXT, len(text)), text)
            elif item is None or isinstance(item, bool):
                parts.append(b"\xf6" if item is None else b"\xf5" if item else b"\xf4")
            elif isinstance(item, int):
                if not MIN_INT <= item <= MAX_INT:
                    raise EncodeError("dag-cbor", f"integer of {item.bit_length()} bits is beyond 64")
                parts.append(_head(_UNSIGNED, item) if item >= 0 else _head(_NEGATIVE, -1 - item))
            elif isinstance(item, bytes):
                parts += (_head(_BYTES, len(item)), item)
            elif isinstance(item, Cid):
                parts += (b"\xd8\x2a", _head(_BYTES, len(item.raw) + 1), _IDENTITY_BASE, item.raw)
            elif isinstance(item, float):
                if not isfinite(item):
                    raise EncodeError("dag-cbor", f"float {item} is not finite")
                parts.append(b"\xfb" + struct.pack(">d", item))
            elif isinstance(item, (list, dict)):
                if len(stack) > MAX_DEPTH:
                    raise EncodeError("dag-cbor", f"nested deeper than {MAX_DEPTH}")
                parts.append(_head(_LIST if isinstance(item, list) else _MAP, len(item)))
                stack.append(iter(item if isinstance(item, list) else _entries(item)))
                break
            else:
                raise EncodeError("dag-cbor", f"{shown(item)} is not in the data model")
        else:
            stack.pop()
    return b"".join(parts)


def _read_head(data: bytes, position: int, strict: bool) -> tuple[int, int, int, int]:
    """Return (major type, low five bits, argument, end) of the item at `position`."""
    if position >= len(data):
        raise TruncatedDagCborError("input ends before an item", position)
    initial = data[position]
    info = initial & 0x1F
    if info < 24:
        return initial >> 5, info, info, position + 1
    if info > 27:
        raise DagCborError("indefinite length" if info == 31 else f"reserved length {info}", position)
    end = position + 1 + (1 << (info - 24))
    if end > len(data):
        raise TruncatedDagCborError("input ends inside an item's head", position)
    argument = int.from_bytes(data[position + 1 : end], "big")
    if strict and argument < _MINIMUM[info] and initial >> 5 <= _TAG:
        raise DagCborError("integer or length is not the shortest", position)
    return initial >> 5, info, argument, end


def _take(data: bytes, position: int, length: int, start: int) -> tuple[bytes, int]:
    end = position + length
    if end > len(data):
        raise TruncatedDagCborError(f"input ends inside a string of {length} bytes", start)
    return data[position:end], end


def _read_text(data: bytes, position: int, length: int, start: int, strict: bool) -> tuple[str, int]:
    raw, end = _take(data, position, length, start)
    try:
        return raw.decode("utf-8", "strict" if strict else "surrogateescape"), end
    except UnicodeDecodeError as exc:
        raise DagCborError("string is not UTF-8", start) from exc


def _read_key(data: bytes, position: int, opened: _Open, strict: bool) -> int:
    """Read the map key at `position` into `opened.key` and return where its value begins."""
    assert isinstance(opened.container, dict)
    major, _, length, end = _read_head(data, position, strict)
    if major != _TEXT:
        raise DagCborError("map key is not a string", position)
    key, end = _read_text(data, end, length, position, strict)
    if key in opened.container:
        raise DagCborError(f"duplicate map key {key!a}", position)
    if strict and opened.container and _order(key) < _order(opened.key):
        raise DagCborError(f"map key {key!a} is out of order", position)
    opened.key = key
    return end


def _read_link(data: bytes, position: int, tag: int, start: int, strict: bool) -> tuple[Cid, int]:
    if tag != _LINK_TAG:
        raise DagCborError(f"tag {tag} is not allowed", start)
    major, _, length, position = _read_head(data, position, strict)
    if major != _BYTES:
        raise DagCborError("tag 42 is not on bytes", start)
    raw, position = _take(data, position, length, start)
    if raw[:1] != _IDENTITY_BASE:
        raise DagCborError("link does not start with a zero byte", start)
    try:
        return Cid.decode(raw[1:]), position
    except CidError as exc:
        raise DagCborError(f"link is not a CID: {exc}", start) from exc


def _read_simple(data: bytes, info: int, argument: int, start: int, strict: bool) -> Value:
    if info in _SIMPLE:
        return _SIMPLE[info]
    if info not in _FLOATS:
        raise DagCborError("undefined value" if info == 23 else f"simple value {argument}", start)
    if strict and info != 27:
        raise DagCborError("float is not 64 bits wide", start)
    number = float(struct.unpack_from(_FLOATS[info], data, start + 1)[0])
    if not isfinite(number):
        raise DagCborError(f"float {number} is not finite", start)
    return number


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes((major << 5 | argument,))
    for info, width in ((24, 1), (25, 2), (26, 4)):
        if argument < 1 << 8 * width:
            return bytes((major << 5 | info,)) + argument.to_bytes(width, "big")
    return bytes((major << 5 | 27,)) + argument.to_bytes(8, "big")


def _entries(mapping: dict[str, Value]) -> Iterable[Value]:
    """Return key, value, key, value, … in canonical order."""
    for key in mapping:
        if not isinstance(key, str):
            raise EncodeError("dag-cbor", f"map key is not a string but {shown(key)}")
    return (item for key in sorted(mapping, key=_order) for item in (key, mapping[key]))


def _order(key: str) -> tuple[int, bytes]:
    # A key with lone surrogates is refused by `_utf8` when its turn comes; until then any order will do.
    raw = key.encode("utf-8", "surrogatepass")
    return len(raw), raw


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise EncodeError("dag-cbor", f"string {text[:40]!a} is not Unicode") from exc
