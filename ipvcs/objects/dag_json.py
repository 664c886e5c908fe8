"""dag-json: the IPLD data model as JSON, for people and for `dag get`.

Bytes are `{"/": {"bytes": "<base64 without padding>"}}` and links `{"/": "<CID>"}`. Encoding is canonical: keys sorted
by their bytes, no white space. Decoding is lenient about order and white space, as the spec wants, and refuses
duplicate keys.

Where the spec leaves the bytes open we write what Kubo (go-ipld-prime) writes, so that CIDs agree: control characters
other than newline, return and tab as `u00xx` escapes, U+2028 and U+2029 escaped, floats as ECMAScript prints them. But
a whole float keeps its `.0`, as the spec says, for otherwise it would come back as an integer.

Spec: https://ipld.io/specs/codecs/dag-json/spec/ and RFC 8259
"""

import re
from base64 import b64decode, b64encode
from collections.abc import Iterator
from json import JSONDecodeError, JSONDecoder
from math import isfinite
from typing import Final, Literal

from ipvcs.errors import DecodeError, TruncatedError
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects.data_model import MAX_DEPTH, MAX_INT, MIN_INT, EncodeError, Value, shown

_SLASH: Final = "/"  # the key of the reserved namespace
_BYTES: Final = "bytes"
_JSON: Final = JSONDecoder()  # for strings only: it reads one value, and a value that starts with a quote is a string
_SPACE: Final = re.compile(r"[ \t\n\r]*")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_MAX_INT_DIGITS: Final = 21  # "-18446744073709551616"; longer ones are refused before they are converted
_LITERALS: Final[dict[str, bool | None]] = {"true": True, "false": False, "null": None}
_ESCAPED: Final = re.compile('[\x00-\x1f"\\\\\u2028\u2029]')
_SHORT_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


class DagJsonError(DecodeError):
    """Text is not dag-json. `offset` is the character at which the offending item begins."""

    def __init__(self, problem: str, offset: int) -> None:
        super().__init__(f"bad dag-json at character {offset}: {problem}")
        self.offset = offset


class TruncatedDagJsonError(DagJsonError, TruncatedError):
    """The text ends inside an item."""


class _Open:
    """A list, or a map as pairs in the order of the text, that is still being filled."""

    __slots__ = ("items", "key", "pairs", "start")

    def __init__(self, start: int, key: str | None) -> None:
        self.start = start
        self.key = key  # None in a list
        self.items: list[Value] = []
        self.pairs: list[tuple[str, Value]] = []


def decode(data: bytes) -> Value:
    """Return the value that `data` holds, whole and alone but for white space.

    A number with a decimal point or an exponent is a float, any other an integer. Links are read in every multibase.

    Raises:
        DagJsonError: not JSON or not UTF-8, lone surrogates, a duplicate key, a form of the reserved `/` namespace that
            is neither bytes nor a link, a number out of range, or nested deeper than `MAX_DEPTH`.
        TruncatedDagJsonError: the text ends inside the value.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise DagJsonError("not UTF-8", exc.start) from exc
    try:
        return _decode(text)
    except IndexError:
        raise TruncatedDagJsonError("text ends inside the value", len(text)) from None


def encode(value: Value, *, errors: Literal["strict", "replace"] = "strict") -> bytes:
    """Return the canonical bytes of `value`.

    With `errors` "replace", each byte of a string that is not UTF-8 is shown as U+FFFD, as Kubo shows it: for display,
    not for storage.

    Raises:
        EncodeError: a map that would read back as bytes or a link, an integer beyond 64 bits, a float that is not
            finite, a string that is not Unicode, an object of no kind, or nesting deeper than `MAX_DEPTH`.
    """
    parts: list[str] = []
    stack: list[tuple[Iterator[tuple[str, Value]], str]] = [(iter((("", value),)), "")]
    while stack:
        entries, closer = stack[-1]
        for prefix, item in entries:
            parts.append(prefix)
            if isinstance(item, (list, dict)):
                if len(stack) > MAX_DEPTH:
                    raise EncodeError("dag-json", f"nested deeper than {MAX_DEPTH}")
                if isinstance(item, list):
                    parts.append("[")
                    stack.append((_list_entries(item), "]"))
                else:
                    parts.append("{")
                    stack.append((_map_entries(item), "}"))
                break
            parts.append(_scalar(item))
        else:
            parts.append(closer)
            stack.pop()
    text = "".join(parts)
    if errors == "replace" and not text.isascii():
        text = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise EncodeError("dag-json", f"string {text[exc.start : exc.start + 40]!a} is not Unicode") from exc


def _decode(text: str) -> Value:
    """As `decode`; an IndexError means that the text is too short."""
    stack: list[_Open] = []
    position = _skip_space(text, 0)
    while True:
        start = position
        value: Value
        first = text[position]
        if first == '"':
            value, position = _string(text, position)
        elif first in "[{":
            if len(stack) == MAX_DEPTH:
                raise DagJsonError(f"nested deeper than {MAX_DEPTH}", start)
            position = _skip_space(text, position + 1)
            if text[position] != ("]" if first == "[" else "}"):
                key = None
                if first == "{":
                    key, position = _key(text, position)
                stack.append(_Open(start, key))
                continue
            value, position = ([] if first == "[" else {}), position + 1
        else:
            value, position = _number_or_literal(text, position)
        # The value is whole: hand it to the collection around it, which may be whole with it, and so on outwards.
        while stack:
            opened = stack[-1]
            position = _skip_space(text, position)
            separator = text[position]
            if opened.key is None:
                opened.items.append(value)
            else:
                opened.pairs.append((opened.key, value))
            if separator == ",":
                position = _skip_space(text, position + 1)
                if opened.key is not None:
                    opened.key, position = _key(text, position)
                break
            if separator != ("]" if opened.key is None else "}"):
                raise DagJsonError(f"unexpected character {separator!a}", position)
            value = opened.items if opened.key is None else _close_map(opened)
            position += 1
            stack.pop()
        else:
            position = _skip_space(text, position)
            if position != len(text):
                raise DagJsonError("text follows the value", position)
            return value


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None  # it matches nothing, too
    return match.end()


def _string(text: str, position: int) -> tuple[str, int]:
    """Read the string whose opening quote is at `position`."""
    try:
        value, end = _JSON.raw_decode(text, position)
    except JSONDecodeError as exc:
        if exc.msg.startswith("Unterminated"):
            raise TruncatedDagJsonError("text ends inside a string", position) from exc
        raise DagJsonError(exc.msg[0].lower() + exc.msg[1:], exc.pos) from exc
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as exc:
            raise DagJsonError("string has a lone surrogate", position) from exc
    return str(value), end


def _key(text: str, position: int) -> tuple[str, int]:
    """Read the map key at `position` and its colon; return it and where its value begins."""
    if text[position] != '"':
        raise DagJsonError("map key is not a string", position)
    key, position = _string(text, position)
    position = _skip_space(text, position)
    if text[position] != ":":
        raise DagJsonError(f"unexpected character {text[position]!a} after a map key", position)
    return key, _skip_space(text, position + 1)


def _number_or_literal(text: str, position: int) -> tuple[int | float | bool | None, int]:
    match = _NUMBER.match(text, position)
    if match is None:
        for word, value in _LITERALS.items():
            if text.startswith(word, position):
                return value, position + len(word)
        raise DagJsonError(f"unexpected character {text[position]!a}", position)
    end = match.end()
    if match[1] or match[2]:
        number = float(match[0])
        if not isfinite(number):
            raise DagJsonError("float is out of range", position)
        return number, end
    integer = int(match[0]) if end - position <= _MAX_INT_DIGITS else MAX_INT + 1
    if not MIN_INT <= integer <= MAX_INT:
        raise DagJsonError("integer is beyond 64 bits", position)
    return integer, end


def _close_map(opened: _Open) -> Value:
    """Return the map of the pairs read, or the link or the bytes that it stands for.

    Spec: "The Reserved Namespace". A map whose first key is `/`, in the text or once sorted, and whose value there
    looks like a link or bytes, must be exactly that.
    """
    mapping = dict(opened.pairs)
    if len(mapping) < len(opened.pairs):
        raise DagJsonError(f"duplicate map key {_first_repeated(opened.pairs)!a}", opened.start)
    if _SLASH not in mapping or _SLASH not in (opened.pairs[0][0], min(mapping)):
        return mapping
    inner = mapping[_SLASH]
    if isinstance(inner, str):
        if len(mapping) > 1:
            raise DagJsonError("map with a link has other keys", opened.start)
        try:
            return Cid.parse(inner)
        except CidError as exc:
            raise DagJsonError(f"link is not a CID: {exc}", opened.start) from exc
    if isinstance(inner, dict) and isinstance(inner.get(_BYTES), str) and _BYTES in (next(iter(inner)), min(inner)):
        if len(mapping) > 1 or len(inner) > 1:
            raise DagJsonError("map with bytes has other keys", opened.start)
        return _base64(str(inner[_BYTES]), opened.start)
    return mapping


def _first_repeated(pairs: list[tuple[str, Value]]) -> str:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            return key
        seen.add(key)
    raise AssertionError("no key is repeated")


def _base64(text: str, start: int) -> bytes:
    # Padding is against the spec, but go-ipld-prime takes it and older writers wrote it.
    try:
        return b64decode(text if text.endswith("=") else text + "=" * (-len(text) % 4), validate=True)
    except ValueError as exc:
        raise DagJsonError("bytes are not base64", start) from exc


def _scalar(item: Value) -> str:
    if isinstance(item, str):
        return _quote(item)
    if item is None or isinstance(item, bool):
        return "null" if item is None else "true" if item else "false"
    if isinstance(item, int):
        if not MIN_INT <= item <= MAX_INT:
            raise EncodeError("dag-json", f"integer of {item.bit_length()} bits is beyond 64")
        return str(int(item))
    if isinstance(item, float):
        return _print_float(item)
    if isinstance(item, bytes):
        return f'{{"/":{{"bytes":"{b64encode(item).rstrip(b"=").decode()}"}}}}'
    if isinstance(item, Cid):
        return f'{{"/":"{item}"}}'
    raise EncodeError("dag-json", f"{shown(item)} is not in the data model")


def _quote(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, text)}"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(match[0]) or f"\\u{ord(match[0]):04x}"


def _print_float(number: float) -> str:
    """Return the shortest decimal that reads back as `number`: plain from 1e-6 up to 1e21, else with an exponent."""
    if not isfinite(number):
        raise EncodeError("dag-json", f"float {number} is not finite")
    mantissa, _, exponent = repr(float(number)).partition("e")
    if not exponent:  # Python is plain from 1e-4 up to 1e16
        return mantissa
    power = int(exponent)
    if not -7 < power < 21:
        return f"{mantissa}e{power:+d}"
    sign = "-" if mantissa.startswith("-") else ""
    digits = mantissa.lstrip("-").replace(".", "")
    if power < 0:
        return f"{sign}0.{'0' * (-power - 1)}{digits}"
    return f"{sign}{digits.ljust(power + 1, '0')}.0"  # 16 to 21 places and at most 17 digits: a whole number


def _list_entries(items: list[Value]) -> Iterator[tuple[str, Value]]:
    return (("," if index else "", item) for index, item in enumerate(items))


def _map_entries(mapping: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    _check_keys(mapping)
    ordered = sorted(mapping)  # code points sort as their UTF-8 bytes do
    return ((("," if index else "") + _quote(key) + ":", mapping[key]) for index, key in enumerate(ordered))


def _check_keys(mapping: dict[str, Value]) -> None:
    """Refuse a map that is not in JSON or that would read back as something else."""
    for key in mapping:
        if not isinstance(key, str):
            raise EncodeError("dag-json", f"map key is not a string but {shown(key)}")
    if _SLASH not in mapping or min(mapping) != _SLASH:
        return
    inner = mapping[_SLASH]
    looks_like_bytes = isinstance(inner, dict) and isinstance(inner.get(_BYTES), str) and min(inner, key=str) == _BYTES
    if looks_like_bytes or isinstance(inner, str):
        raise EncodeError("dag-json", "map key '/' is reserved for links and bytes")
