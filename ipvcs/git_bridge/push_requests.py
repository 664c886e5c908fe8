"""What a pusher asks of a name's owner: where a repository stands, or to take a push.

Bytes to values and back, no I/O. What is read was sent by a stranger: a value that comes out of `decode_request` keeps
all bounds of the protocol, and all that can be known of an offer without a repository.

Spec: docs/protocols/push.md, "Messages" and "Bounds"
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ipvcs.errors import IpvcsError, LimitError
from ipvcs.git_bridge.push_fields import (
    MAX_NUMBER,
    Field,
    FieldCount,
    Fields,
    PushMessageError,
    data_field,
    data_fields,
    message_field,
    number_field,
    read_fields,
)
from ipvcs.git_bridge.refname import BRANCHES, MAX_REFNAME, RefName, RefNameError, parse_refname, show
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects.git.layout import MAPPING_VERSION
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.protobuf import BYTES, VARINT
from ipvcs.storage.access import MAX_COMPONENTS, MAX_PATH, check_repository_path

MAX_REQUEST: Final = 1024 * 1024
"""Bytes of a request. 5,000 updates of usual names have about 700 KB."""
MAX_QUERY: Final = 1024
"""Bytes of a query: one for the longest path there may be has 306."""
MAX_UPDATES: Final = 5_000
MAX_OPTIONS: Final = 64
MAX_OPTION: Final = 1_024
"""Bytes of one `git push -o`."""
KEY_SIZE: Final = 16
_MAX_PROFILE: Final = 64
"""Bytes of a profile's name; the longest has 14."""
_MAX_CID: Final = 64
_CID_PREFIXES: Final = tuple(bytes((1, codec, 0x12, 0x20)) for codec in (codecs.RAW, codecs.DAG_PB))
_CID_SIZE: Final = 36
_PACK_NAME: Final = re.compile(r"pack-[0-9a-f]+")


class OfferTooLargeError(LimitError):
    """A push is more than one offer has room for."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot offer this push: {why}", hint="push fewer refs at a time")


@dataclass(frozen=True, slots=True)
class Query:
    """Where does the repository at `path` stand, and what may I do there? () is the name itself."""

    path: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Update:
    """One ref's step from `old`, what the pusher saw there (None: nothing), to `new` (None: it is to go).

    `name` is raw: git may refuse it yet. `cid` is what `new` is mapped as; None without it, and in a dry run.
    """

    name: bytes
    old: ObjectId | None
    new: ObjectId | None
    force: bool = False
    cid: Cid | None = None


@dataclass(frozen=True, slots=True)
class OfferedPack:
    """A pack as its pusher describes it: its `name` without suffix, the CIDs of the file and of its table of commits,
    `size` in bytes, how many objects. Nothing of it is proved.
    """

    name: str
    pack: Cid
    commits: Cid
    size: int
    objects: int


@dataclass(frozen=True, slots=True)
class Offer:
    """A push. `key` is the same for every try of it; `pack` is None when the owner has every object already."""

    path: tuple[bytes, ...]
    key: bytes
    object_format: ObjectFormat
    mapping: int
    profile: str
    updates: tuple[Update, ...]
    pack: OfferedPack | None = None
    atomic: bool = False
    dry_run: bool = False
    head: RefName | None = None
    push_options: tuple[bytes, ...] = ()


Request: TypeAlias = Query | Offer

_REQUEST: Final = {1: Field("query", BYTES, MAX_QUERY), 2: Field("offer", BYTES, MAX_REQUEST)}
_QUERY: Final = {1: Field("path", BYTES, MAX_PATH, MAX_COMPONENTS)}
_OFFER: Final[Mapping[int, Field]] = {
    1: Field("path", BYTES, MAX_PATH, MAX_COMPONENTS),
    2: Field("key", BYTES, KEY_SIZE),
    3: Field("object_format", BYTES, 16),
    4: Field("mapping", VARINT, MAX_NUMBER),
    5: Field("profile", BYTES, _MAX_PROFILE),
    6: Field("updates", BYTES, MAX_REQUEST, MAX_UPDATES),
    7: Field("pack", BYTES, 1024),
    8: Field("atomic", VARINT, MAX_NUMBER),
    9: Field("dry_run", VARINT, MAX_NUMBER),
    10: Field("head", BYTES, MAX_REFNAME),
    11: Field("push_options", BYTES, MAX_OPTION, MAX_OPTIONS),
}
_UPDATE: Final[Mapping[int, Field]] = {
    1: Field("name", BYTES, MAX_REFNAME),
    2: Field("old", BYTES, ObjectFormat.SHA256.size),
    3: Field("new", BYTES, ObjectFormat.SHA256.size),
    4: Field("force", VARINT, MAX_NUMBER),
    5: Field("cid", BYTES, _MAX_CID),
}
_PACK: Final[Mapping[int, Field]] = {
    1: Field("name", BYTES, 5 + 2 * ObjectFormat.SHA256.size),
    2: Field("pack", BYTES, _MAX_CID),
    3: Field("commits", BYTES, _MAX_CID),
    4: Field("size", VARINT, (1 << 63) - 1),
    5: Field("objects", VARINT, (1 << 32) - 1),
}


def encode_request(request: Request) -> bytes:
    """Return the message of `request`, without its length.

    Raises:
        OfferTooLargeError: more updates or push options than an offer has room for, or more bytes.
    """
    if isinstance(request, Query):
        return message_field(1, data_fields(1, request.path))
    for name, values, most in (("refs", request.updates, MAX_UPDATES), ("options", request.push_options, MAX_OPTIONS)):
        if len(values) > most:
            raise OfferTooLargeError(f"it has {len(values):,} {name}, {most:,} are the most")
    data = message_field(2, _encode_offer(request))
    if len(data) > MAX_REQUEST:
        raise OfferTooLargeError(f"its refs and options take {len(data):,} bytes, {MAX_REQUEST:,} are the most")
    return data


def decode_request(data: bytes) -> Request:
    """Read a request without its length.

    Raises:
        PushMessageError: it is none, or beyond a bound; the sentence can be told to the peer.
    """
    if len(data) > MAX_REQUEST:
        raise PushMessageError(f"the request has {len(data):,} bytes, {MAX_REQUEST:,} is the most")
    count = FieldCount()
    fields = read_fields(data, _REQUEST, "request", count)
    if len(fields.names) != 1:
        raise PushMessageError("the request is neither a query nor an offer")
    if fields.names == ["query"]:
        return Query(_path(read_fields(fields.data("query"), _QUERY, "query", count)))
    return _decode_offer(fields.data("offer"), count)


def is_query(data: bytes) -> bool:
    """Tell whether a request, which may be malformed, is a query: what is said about it can be told before it is read.

    Raises:
        PushMessageError: it is neither that nor an offer.
    """
    fields = read_fields(data, _REQUEST, "request", FieldCount())
    if len(fields.names) != 1:
        raise PushMessageError("the request is neither a query nor an offer")
    return fields.names == ["query"]


def _encode_offer(offer: Offer) -> bytes:
    return b"".join(
        (
            data_fields(1, offer.path),
            data_field(2, offer.key),
            data_field(3, offer.object_format.encode()),
            number_field(4, offer.mapping),
            data_field(5, offer.profile.encode()),
            data_fields(6, map(_encode_update, offer.updates)),
            b"" if offer.pack is None else message_field(7, _encode_pack(offer.pack)),
            number_field(8, offer.atomic),
            number_field(9, offer.dry_run),
            data_field(10, offer.head or b""),
            data_fields(11, offer.push_options),
        )
    )


def _encode_update(update: Update) -> bytes:
    return (
        data_field(1, update.name)
        + data_field(2, b"" if update.old is None else update.old.raw)
        + data_field(3, b"" if update.new is None else update.new.raw)
        + number_field(4, update.force)
        + data_field(5, b"" if update.cid is None else update.cid.raw)
    )


def _encode_pack(pack: OfferedPack) -> bytes:
    return (
        data_field(1, pack.name.encode())
        + data_field(2, pack.pack.raw)
        + data_field(3, pack.commits.raw)
        + number_field(4, pack.size)
        + number_field(5, pack.objects)
    )


def _decode_offer(data: bytes, count: FieldCount) -> Offer:
    fields = read_fields(data, _OFFER, "offer", count)
    path = _path(fields)
    try:
        object_format = ObjectFormat(fields.text("object_format"))
    except ValueError:
        raise PushMessageError(f"'{fields.text('object_format')}' is not an object format") from None
    if (mapping := fields.number("mapping")) != MAPPING_VERSION:
        raise PushMessageError(f"the offer's objects have mapping {mapping}, this owner has {MAPPING_VERSION}")
    if len(fields.data("key")) != KEY_SIZE:
        raise PushMessageError(f"the offer's key does not have {KEY_SIZE} bytes")
    if not (profile := fields.text("profile")):
        raise PushMessageError("the offer names no profile")
    is_dry = bool(fields.number("dry_run"))
    pack = None
    if "pack" in fields.names:
        if is_dry:
            raise PushMessageError("a dry run offers a pack")
        pack = _decode_pack(fields.data("pack"), object_format, count)
    return Offer(
        path=path,
        key=fields.data("key"),
        object_format=object_format,
        mapping=mapping,
        profile=profile,
        updates=_decode_updates(fields.all("updates"), object_format, count, is_dry=is_dry),
        pack=pack,
        atomic=bool(fields.number("atomic")),
        dry_run=is_dry,
        head=_head(fields.data("head")),
        push_options=_options(fields.all("push_options")),
    )


def _decode_updates(
    found: Sequence[bytes], object_format: ObjectFormat, count: FieldCount, *, is_dry: bool
) -> tuple[Update, ...]:
    updates: dict[bytes, Update] = {}
    for each in found:
        update = _decode_update(each, object_format, count, is_dry=is_dry)
        if update.name in updates:
            raise PushMessageError(f"the offer updates '{show(update.name[:200])}' twice")
        updates[update.name] = update
    if not updates:
        raise PushMessageError("the offer updates nothing")
    return tuple(updates.values())


def _decode_update(data: bytes, object_format: ObjectFormat, count: FieldCount, *, is_dry: bool) -> Update:
    fields = read_fields(data, _UPDATE, "update", count)
    if not (name := fields.data("name")):
        raise PushMessageError("an update has no name")
    old, new = (_oid(fields, each, object_format) for each in ("old", "new"))
    if old is None and new is None:
        raise PushMessageError(f"the offer deletes '{show(name[:200])}', which it says is not there")
    if ("cid" in fields.names) != (new is not None and not is_dry):
        raise PushMessageError(
            "an update that deletes, or of a dry run, has a CID" if "cid" in fields.names else "an update has no CID"
        )
    cid = _cid(fields, "cid") if "cid" in fields.names else None
    return Update(name, old, new, bool(fields.number("force")), cid)


def _decode_pack(data: bytes, object_format: ObjectFormat, count: FieldCount) -> OfferedPack:
    fields = read_fields(data, _PACK, "pack", count)
    name = fields.text("name")
    if not _PACK_NAME.fullmatch(name) or len(name) != len("pack-") + 2 * object_format.size:
        raise PushMessageError(f"'{name}' is not the name of a {object_format} pack")
    size, objects = fields.number("size"), fields.number("objects")
    if not size or not objects:
        raise PushMessageError("the offered pack is empty")
    return OfferedPack(name, _cid(fields, "pack"), _cid(fields, "commits"), size, objects)


def _path(fields: Fields) -> tuple[bytes, ...]:
    path = tuple(fields.all("path"))
    try:
        check_repository_path(path)
    except IpvcsError as exc:
        raise PushMessageError(str(exc), hint=exc.hint) from exc
    return path


def _oid(fields: Fields, name: str, object_format: ObjectFormat) -> ObjectId | None:
    raw = fields.data(name)
    if len(raw) not in (0, object_format.size):
        raise PushMessageError(f"'{name}' of an update is not a {object_format} id")
    return ObjectId(raw) if raw else None


def _cid(fields: Fields, name: str) -> Cid:
    """Return a CID as the mapping makes them: version 1, raw or dag-pb, sha2-256."""
    raw = fields.data(name)
    try:
        Cid.decode(raw)
    except CidError as exc:
        raise PushMessageError(f"'{name}' is not a CID: {exc}") from exc
    if len(raw) != _CID_SIZE or raw[:4] not in _CID_PREFIXES:
        raise PushMessageError(f"'{name}' is not a CIDv1 of raw or dag-pb by sha2-256")
    return Cid(raw)


def _head(name: bytes) -> RefName | None:
    if not name:
        return None
    try:
        head = parse_refname(name)
    except RefNameError as exc:
        raise PushMessageError(f"'head' of the offer: {exc}") from exc
    if not head.startswith(BRANCHES):
        raise PushMessageError("'head' of the offer is not a branch")
    return head


def _options(found: Sequence[bytes]) -> tuple[bytes, ...]:
    if any(b"\n" in option or b"\0" in option for option in found):
        raise PushMessageError("a push option has a line feed or NUL in it")
    return tuple(found)
