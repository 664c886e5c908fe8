"""What a name's owner says to a pusher: where a repository stands, how far a push is, what became of it.

Bytes to values and back, no I/O. Texts that are too long are cut when they are written: they are for people.

Spec: docs/protocols/push.md, "Messages"
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, TypeAlias

from ipvcs.git_bridge.push_fields import (
    MAX_NUMBER,
    Field,
    FieldCount,
    Fields,
    PushMessageError,
    clip,
    data_field,
    data_fields,
    decode_text,
    message_field,
    number_field,
    read_fields,
)
from ipvcs.git_bridge.push_requests import MAX_UPDATES
from ipvcs.git_bridge.refname import MAX_REFNAME
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects.protobuf import BYTES, VARINT

MAX_REPLY: Final = 4 * 1024 * 1024
"""Bytes of a reply: an answer has the names of its offer, a megabyte at most, and may have a refusal for each."""
MAX_TEXT: Final = 64 * 1024
"""Bytes of one `Text`."""
MAX_REFUSAL: Final = 256
MAX_SENTENCE: Final = 1_024
"""Bytes of a failure's message, and of its hint."""
_MAX_STAGE: Final = 64
_MAX_RIGHT: Final = 32
_MAX_RIGHTS: Final = 16
"""There are five; a later version may have more."""
_MAX_CID: Final = 64


PUBLISHING: Final = "publishing"
"""The stage from which on a push is applied: it is not given up any more, whoever leaves."""


class FailureCode(IntEnum):
    """Why a query or an offer as a whole came to nothing."""

    DENIED = 1
    BAD_REQUEST = 2
    LIMIT = 3
    UNTRUE = 4
    UNAVAILABLE = 5
    FAILED = 6


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a repository stands: the CID of its directory now, None if nothing was pushed there yet; what this pusher
    may do there, by the names of the rights; and how many bytes and objects one pack may have.
    """

    repository: Cid | None
    rights: frozenset[str]
    max_bytes: int
    max_objects: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the owner is. `total` is 0 when nobody knows it."""

    stage: str
    done: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class Text:
    """Whole lines for the pusher to read, of hooks for the most part, at most `MAX_TEXT` bytes of anything."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Result:
    """What became of the update of ref `name`: done if `refusal` is None. `forced`: commits were left behind."""

    name: bytes
    refusal: str | None = None
    forced: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an offer: a result for each update, in order, and the repository's directory after it."""

    results: tuple[Result, ...]
    repository: Cid | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Nothing became of it."""

    code: FailureCode
    message: str
    hint: str = ""


Reply: TypeAlias = Standing | Progress | Text | Answer | Failure

_STANDING: Final[Mapping[int, Field]] = {
    1: Field("repository", BYTES, _MAX_CID),
    2: Field("rights", BYTES, _MAX_RIGHT, _MAX_RIGHTS),
    3: Field("max_bytes", VARINT, MAX_NUMBER),
    4: Field("max_objects", VARINT, MAX_NUMBER),
}
_PROGRESS: Final[Mapping[int, Field]] = {
    1: Field("stage", BYTES, _MAX_STAGE),
    2: Field("done", VARINT, MAX_NUMBER),
    3: Field("total", VARINT, MAX_NUMBER),
}
_TEXT: Final[Mapping[int, Field]] = {1: Field("text", BYTES, MAX_TEXT)}
_ANSWER: Final[Mapping[int, Field]] = {
    1: Field("results", BYTES, MAX_REPLY, MAX_UPDATES),
    2: Field("repository", BYTES, _MAX_CID),
}
_RESULT: Final[Mapping[int, Field]] = {
    1: Field("name", BYTES, MAX_REFNAME),
    2: Field("refusal", BYTES, MAX_REFUSAL),
    3: Field("forced", VARINT, MAX_NUMBER),
}
_FAILURE: Final[Mapping[int, Field]] = {
    1: Field("code", VARINT, MAX_NUMBER),
    2: Field("message", BYTES, MAX_SENTENCE),
    3: Field("hint", BYTES, MAX_SENTENCE),
}


def encode_reply(reply: Reply) -> bytes:
    """Return the message of `reply`, without its length. Refusals, messages, hints and stages are cut to size."""
    match reply:
        case Standing():
            rights = sorted(right.encode() for right in reply.rights)
            body = _encode_cid(1, reply.repository) + data_fields(2, rights)
            return message_field(1, body + number_field(3, reply.max_bytes) + number_field(4, reply.max_objects))
        case Progress():
            body = data_field(1, clip(reply.stage, _MAX_STAGE))
            return message_field(2, body + number_field(2, reply.done) + number_field(3, reply.total))
        case Text():
            assert len(reply.text) <= MAX_TEXT
            return message_field(3, data_field(1, reply.text))
        case Answer():
            results = data_fields(1, map(_encode_result, reply.results))
            return message_field(4, results + _encode_cid(2, reply.repository))
        case Failure():
            message, hint = clip(reply.message, MAX_SENTENCE), clip(reply.hint, MAX_SENTENCE)
            return message_field(5, number_field(1, reply.code) + data_field(2, message) + data_field(3, hint))


def decode_reply(data: bytes) -> Reply:
    """Read a reply without its length. Texts in it may have anything that is UTF-8, and `Text` any bytes.

    Raises:
        PushMessageError: it is none, or beyond a bound.
    """
    count = FieldCount()
    number, body = _open(data, count)
    kind, what, schema, decode = _KINDS[number]
    reply = decode(read_fields(body, schema, what, count), count)
    assert isinstance(reply, kind)
    return reply


def kind_of_reply(data: bytes) -> type[Reply]:
    """Return which kind of reply `data` is; what is inside it may be malformed. Errors as `decode_reply`."""
    return _KINDS[_open(data, FieldCount())[0]][0]


def _open(data: bytes, count: FieldCount) -> tuple[int, bytes]:
    """Return which of the replies a message has, by its number, and that."""
    if len(data) > MAX_REPLY:
        raise PushMessageError(f"the reply has {len(data):,} bytes, {MAX_REPLY:,} is the most")
    fields = read_fields(data, _REPLY, "reply", count)
    if len(fields.names) != 1:
        raise PushMessageError("the reply is of no kind that is known")
    (name,) = fields.names
    return next(number for number, field in _REPLY.items() if field.name == name), fields.data(name)


def _encode_result(result: Result) -> bytes:
    refusal = clip(result.refusal or "", MAX_REFUSAL)
    return data_field(1, result.name) + data_field(2, refusal) + number_field(3, result.forced)


def _encode_cid(number: int, cid: Cid | None) -> bytes:
    return b"" if cid is None else data_field(number, cid.raw)


def _decode_standing(fields: Fields, _count: FieldCount) -> Reply:
    rights = frozenset(decode_text(raw, "a right") for raw in fields.all("rights"))
    return Standing(_cid(fields, "repository"), rights, fields.number("max_bytes"), fields.number("max_objects"))


def _decode_progress(fields: Fields, _count: FieldCount) -> Reply:
    return Progress(fields.text("stage"), fields.number("done"), fields.number("total"))


def _decode_text(fields: Fields, _count: FieldCount) -> Reply:
    return Text(fields.data("text"))


def _decode_answer(fields: Fields, count: FieldCount) -> Reply:
    return Answer(tuple(_decode_result(raw, count) for raw in fields.all("results")), _cid(fields, "repository"))


def _decode_result(data: bytes, count: FieldCount) -> Result:
    fields = read_fields(data, _RESULT, "result", count)
    return Result(fields.data("name"), fields.text("refusal") or None, bool(fields.number("forced")))


def _decode_failure(fields: Fields, _count: FieldCount) -> Reply:
    try:
        code = FailureCode(fields.number("code"))
    except ValueError:  # of a later version; what it says is to be shown all the same
        code = FailureCode.FAILED
    return Failure(code, fields.text("message"), fields.text("hint"))


def _cid(fields: Fields, name: str) -> Cid | None:
    raw = fields.data(name)
    try:
        return Cid.decode(raw) if raw else None
    except CidError as exc:
        raise PushMessageError(f"'{name}' is not a CID: {exc}") from exc


_KINDS: Final[Mapping[int, tuple[type[Reply], str, Mapping[int, Field], Callable[[Fields, FieldCount], Reply]]]] = {
    1: (Standing, "standing", _STANDING, _decode_standing),
    2: (Progress, "progress", _PROGRESS, _decode_progress),
    3: (Text, "text", _TEXT, _decode_text),
    4: (Answer, "answer", _ANSWER, _decode_answer),
    5: (Failure, "failure", _FAILURE, _decode_failure),
}
_REPLY: Final[Mapping[int, Field]] = {
    number: Field(what, BYTES, MAX_REPLY) for number, (_kind, what, _schema, _decode) in _KINDS.items()
}
