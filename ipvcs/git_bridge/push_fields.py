"""The fields of a push message, read within bounds and written: proto3, as far as `push_messages.py` needs it.

What a peer sends is counted before anything is made of it. A megabyte has room for half a million empty fields, which
would take most of a second to walk through, so all fields of a message are counted together, those inside others and
those that nobody knows included. Stricter than proto3, which lets the last of several win: a field that is there once
comes once.

Spec: https://protobuf.dev/programming-guides/encoding/; docs/protocols/push.md, "Messages"
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import RemoteProtocolError
from ipvcs.objects.protobuf import BYTES, VARINT, ProtobufError, encode_varint, iter_fields

MAX_FIELDS: Final = 40_000
"""Of one message: an offer of 5,000 updates has 30,100, and takes some 70 ms to read."""
MAX_NUMBER: Final = (1 << 64) - 1


class PushMessageError(RemoteProtocolError):
    """The peer's message is none of the protocol's, or beyond its bounds. The sentence is fit to be told to the peer:
    it is about the message alone.
    """


@dataclass(frozen=True, slots=True)
class Field:
    """A field that is known: `BYTES` of at most `limit` bytes, or a `VARINT` of at most `limit`; `most` of them."""

    name: str
    wire_type: int
    limit: int
    most: int = 1


class FieldCount:
    """How many fields a message may still have."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = MAX_FIELDS

    def spend(self) -> None:
        """Count one more. Raises PushMessageError."""
        self._left -= 1
        if self._left < 0:
            raise PushMessageError(f"the message has more than {MAX_FIELDS:,} fields")


class Fields:
    """What a message has of the fields that are known. Those that are not there are zero or empty."""

    __slots__ = ("_data", "_numbers", "_what")

    def __init__(self, what: str, numbers: Mapping[str, int], data: Mapping[str, list[bytes]]) -> None:
        self._what = what
        self._numbers = numbers
        self._data = data

    @property
    def names(self) -> list[str]:
        """Which are there."""
        return [*self._numbers, *self._data]

    def number(self, name: str) -> int:
        """Return the number `name`."""
        return self._numbers.get(name, 0)

    def all(self, name: str) -> list[bytes]:
        """Return every field `name`, in order."""
        return self._data.get(name, [])

    def data(self, name: str) -> bytes:
        """Return the one field `name`."""
        return self._data.get(name, [b""])[0]

    def text(self, name: str) -> str:
        """Return the one field `name` as text. Raises PushMessageError: it is not UTF-8."""
        return decode_text(self.data(name), f"'{name}' of the {self._what}")


def read_fields(data: bytes, schema: Mapping[int, Field], what: str, count: FieldCount) -> Fields:
    """Read a message; fields that `schema` does not know are skipped.

    Args:
        data: the message.
        schema: the fields that are known, by number.
        what: the message's name, as in "the <what> is malformed".
        count: of all fields of the outermost message.

    Raises:
        PushMessageError: not protobuf, too many fields, or one that is not as the schema says.
    """
    numbers: dict[str, int] = {}
    found: dict[str, list[bytes]] = {}
    try:
        for number, wire_type, value in iter_fields(data):
            count.spend()
            if (field := schema.get(number)) is None:
                continue
            if wire_type != field.wire_type:
                raise PushMessageError(f"'{field.name}' of the {what} is of another type")
            if isinstance(value, int):
                _check(value <= field.limit, f"'{field.name}' of the {what} is {value:,}", field.limit)
                _check(field.name not in numbers, f"'{field.name}' of the {what} comes twice", 1)
                numbers[field.name] = value
            else:
                _check(len(value) <= field.limit, f"'{field.name}' of the {what} has {len(value):,} bytes", field.limit)
                values = found.setdefault(field.name, [])
                _check(len(values) < field.most, f"'{field.name}' of the {what} comes too often", field.most)
                values.append(value)
    except ProtobufError as exc:
        raise PushMessageError(f"the {what} is malformed: {exc}") from exc
    return Fields(what, numbers, found)


def _check(is_within: bool, problem: str, most: int) -> None:
    if not is_within:
        raise PushMessageError(f"{problem}, {most:,} is the most")


def decode_text(data: bytes, what: str) -> str:
    """Return what a string field says. Raises PushMessageError: it is not UTF-8, as proto3 demands."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise PushMessageError(f"{what} is not UTF-8") from None


def clip(text: str, limit: int) -> bytes:
    """Return `text`, whatever it has, as at most `limit` bytes of UTF-8; that it was cut shows."""
    data = text.encode("utf-8", "backslashreplace")
    return data if len(data) <= limit else data[: limit - 3].decode(errors="ignore").encode() + "…".encode()


def data_field(number: int, value: bytes) -> bytes:
    """Return a field of bytes, or of a string; nothing when it is empty, as proto3 has it."""
    return message_field(number, value) if value else b""


def data_fields(number: int, values: Iterable[bytes]) -> bytes:
    """Return a repeated field, empty ones too."""
    return b"".join(message_field(number, value) for value in values)


def message_field(number: int, body: bytes) -> bytes:
    """Return a message as a field, an empty one too."""
    return encode_varint(number << 3 | BYTES) + encode_varint(len(body)) + body


def number_field(number: int, value: int) -> bytes:
    """Return a field of a number from 0 to `MAX_NUMBER`, or of a truth value; nothing for 0."""
    assert 0 <= value <= MAX_NUMBER
    return encode_varint(number << 3 | VARINT) + encode_varint(value) if value else b""
