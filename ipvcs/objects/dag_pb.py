"""dag-pb: the codec of IPFS objects, `{links: [{name, hash, size}], data}`.

Canonical form: Links (field 2) before Data (field 1), each PBLink's fields in order, links sorted by the bytes of their
names. The encoder sorts; the decoder takes links in the order they have and never re-sorts.

Spec: https://ipld.io/specs/codecs/dag-pb/spec/
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar

from ipvcs.errors import DecodeError
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects.data_model import EncodeError, Value, shown
from ipvcs.objects.protobuf import BYTES, VARINT, decode_varint, encode_varint

_LINKS: Final = 0x12  # PBNode.Links = 2
_DATA: Final = 0x0A  # PBNode.Data = 1
_HASH: Final = 0x0A  # PBLink.Hash = 1
_NAME: Final = 0x12  # PBLink.Name = 2
_TSIZE: Final = 0x18  # PBLink.Tsize = 3
_MAX_TSIZE: Final = (1 << 63) - 1  # the data model's integers are signed 64-bit


class DagPbError(DecodeError):
    """Bytes are not a dag-pb node."""


class PBLink(NamedTuple):
    """A link: `name` is bytes (UnixFS names need not be UTF-8), None when absent, which differs from empty.

    `size` (Tsize) is the cumulative size of what the link leads to, as its maker claims: untrusted, below 2**63.
    A named tuple, because nodes of a thousand links are made and read all the time.
    """

    cid: Cid
    name: bytes | None = b""
    size: int | None = 0


@dataclass(frozen=True, slots=True)
class PBNode:
    """A node. `data` None is absent, which encodes differently from empty."""

    links: tuple[PBLink, ...] = ()
    data: bytes | None = None


def encode(node: PBNode) -> bytes:
    """Return the canonical bytes of `node`, its links stably sorted by name (absent counts as empty)."""
    return encode_parts(sort_links(node.links), node.data)


def sort_links(links: Iterable[PBLink]) -> list[PBLink]:
    """Return `links` in canonical order: by the bytes of their names, absent as empty, equal ones as they were."""
    links = tuple(links)
    try:
        return sorted(links, key=_name_of)
    except TypeError:  # some names are absent
        return sorted(links, key=lambda link: link.name or b"")


def encode_parts(links: Iterable[PBLink], data: bytes | None) -> bytes:
    """Return the bytes of a node whose `links` are already in canonical order."""
    parts: list[bytes] = []
    for link in links:
        body = encode_link(link)
        length = len(body)
        parts += (_LINK_HEADS[length] if length < 0x80 else b"\x12" + encode_varint(length), body)
    if data is not None:
        parts += (b"\x0a", encode_varint(len(data)), data)
    return b"".join(parts)


def encode_link(link: PBLink) -> bytes:
    """Return the bytes of one PBLink message."""
    cid, name, size = link
    raw = cid.raw
    body = _HASH_HEADS[len(raw)] + raw if len(raw) < 0x80 else b"\x0a" + encode_varint(len(raw)) + raw
    if name is not None:
        length = len(name)
        body += _NAME_HEADS[length] + name if length < 0x80 else b"\x12" + encode_varint(length) + name
    if size is not None:
        body += b"\x18" + encode_varint(size)
    return body


def decode(data: bytes) -> PBNode:
    """Return the node that `data` holds, its links in the order they have there.

    Either order of the Links and Data groups is accepted, as old encoders wrote them.

    Raises:
        DagPbError: unknown or repeated fields, links split by Data, fields of a link out of order, a link without
            Hash or with a bad CID, a Tsize over 63 bits, or cut short.
    """
    try:
        node = _decode_common(data)
    except (DecodeError, IndexError):
        node = None
    return _decode_any(data) if node is None else node


def link_cids(data: bytes) -> list[Cid]:
    """Return the CIDs that the links of the node `data` name, in their order there; Data, which may be all that a leaf
    has, is not copied.

    Raises:
        DagPbError: as `decode`.
    """
    try:
        node = _decode_common(data, with_data=False)
    except (DecodeError, IndexError):
        node = None
    return [link[0] for link in (_decode_any(data) if node is None else node).links]


def to_data_model(node: PBNode) -> dict[str, Value]:
    """Return `node` as the map `{"Data": bytes, "Links": [{"Hash": link, "Name": str, "Tsize": int}]}`.

    What is absent has no key, but `Links` is always there. A name that is not UTF-8 is a `surrogateescape` string.

    Spec: https://ipld.io/specs/codecs/dag-pb/spec/#logical-format
    """
    links: list[Value] = []
    for cid, name, size in node.links:
        link: dict[str, Value] = {"Hash": cid}
        if name is not None:
            link["Name"] = name.decode("utf-8", "surrogateescape")
        if size is not None:
            link["Tsize"] = size
        links.append(link)
    return {"Links": links} if node.data is None else {"Data": node.data, "Links": links}


def from_data_model(value: Value) -> PBNode:
    """Return the node that `value`, a map in the form of `to_data_model`, stands for; its links in their order there.

    Raises:
        EncodeError: any other form: wrong kinds, other keys, no `Links`, a link without `Hash`, a negative Tsize.
    """
    fields = _fields(value, "node", ("Data", "Links"))
    links = _field(fields, "Links", list)
    if links is None:
        raise EncodeError("dag-pb", "node without Links")
    return PBNode(tuple(_link_from_data_model(link) for link in links), _field(fields, "Data", bytes))


_Kind = TypeVar("_Kind", bound="list[Value] | bytes | str | int | Cid")
_new_link = partial(tuple.__new__, PBLink)  # PBLink((cid, name, size)), without the cost of a Python-level __new__
_name_of = itemgetter(1)
_LINK_HEADS: Final = [bytes((_LINKS, length)) for length in range(0x80)]
_HASH_HEADS: Final = [bytes((_HASH, length)) for length in range(0x80)]
_NAME_HEADS: Final = [bytes((_NAME, length)) for length in range(0x80)]
_V1_HASHES: Final = (b"\x0a\x24\x01\x70\x12\x20", b"\x0a\x24\x01\x55\x12\x20")  # Hash: v1, dag-pb or raw, sha2-256
_V0_HASH: Final = b"\x0a\x22\x12\x20"  # Hash: v0


def _decode_common(data: bytes, *, with_data: bool = True) -> PBNode | None:
    """Return the node if it has the form that nearly all have: sha2-256 CIDs, Links before Data; else None.

    Without `with_data` the node says nothing of its Data.

    None says nothing about `data`, nor do the IndexError and DecodeError that it may raise: `_decode_any` decides. So
    this loop checks only what keeps it from accepting what the other would not.
    """
    links: list[PBLink] = []
    payload: bytes | None = None
    position, end = 0, len(data)
    while position < end:
        key = data[position]
        length = data[position + 1]
        position += 2
        if length >= 0x80:
            length, position = decode_varint(data, position - 1)
        stop = position + length
        if stop > end:
            return None
        if key == _LINKS:
            prefix = data[position : position + 6]
            if prefix in _V1_HASHES:
                cid = Cid(data[position + 2 : position + 38])
                position += 38
            elif prefix[:4] == _V0_HASH:
                cid = Cid(data[position + 2 : position + 36])
                position += 36
            else:
                return None
            name = size = None
            if position < stop and data[position] == _NAME:
                length = data[position + 1]
                position += 2
                if length >= 0x80:
                    length, position = decode_varint(data, position - 1)
                name = data[position : position + length]
                position += length
            if position < stop and data[position] == _TSIZE:
                size, position = decode_varint(data, position + 1)
                if size > _MAX_TSIZE:
                    return None
            if position != stop:  # whatever was read beyond the link's end ends here as well
                return None
            links.append(_new_link((cid, name, size)))
        elif key == _DATA and stop == end:
            if with_data:
                payload = data[position:stop]
            position = stop
        else:
            return None
    return PBNode(tuple(links), payload)


def _decode_any(data: bytes) -> PBNode:
    links: list[PBLink] = []
    payload: bytes | None = None
    links_before_data = False
    position, end = 0, len(data)
    try:
        while position < end:
            key, position = decode_varint(data, position)
            if key not in (_LINKS, _DATA):
                raise DagPbError(f"unexpected field {key >> 3} of wire type {key & 7} in a node")
            length, position = decode_varint(data, position)
            stop = position + length
            if stop > end:
                raise DagPbError("node is cut short")
            if key == _LINKS:
                if payload is not None and links_before_data:
                    raise DagPbError("links before and after the data")
                links.append(_decode_link(data, position, stop))
            else:
                if payload is not None:
                    raise DagPbError("two data fields in a node")
                payload = data[position:stop]
                links_before_data = bool(links)
            position = stop
    except DagPbError:
        raise
    except DecodeError as exc:
        raise DagPbError(f"bad dag-pb node: {exc}") from exc
    return PBNode(tuple(links), payload)


def _decode_link(data: bytes, position: int, end: int) -> PBLink:
    cid: Cid | None = None
    name: bytes | None = None
    size: int | None = None
    last = 0
    while position < end:
        key, position = decode_varint(data, position)
        number, wire_type = key >> 3, key & 7
        if number <= last:
            raise DagPbError(f"field {number} of a link is repeated or out of order")
        last = number
        if number == 3 and wire_type == VARINT:
            size, position = decode_varint(data, position)
            if size > _MAX_TSIZE:
                raise DagPbError("size of a link is over 63 bits")
            continue
        if number not in (1, 2) or wire_type != BYTES:
            raise DagPbError(f"unexpected field {number} of wire type {wire_type} in a link")
        length, position = decode_varint(data, position)
        stop = position + length
        if stop > end:
            raise DagPbError("link is cut short")
        if number == 1:
            try:
                cid = Cid.decode(data[position:stop])
            except CidError as exc:
                raise DagPbError(f"bad CID in a link: {exc}") from exc
        else:
            name = data[position:stop]
        position = stop
    if position != end:
        raise DagPbError("link is cut short")
    if cid is None:
        raise DagPbError("link without a CID")
    return PBLink(cid, name, size)


def _link_from_data_model(value: Value) -> PBLink:
    fields = _fields(value, "link", ("Hash", "Name", "Tsize"))
    cid, name, size = _field(fields, "Hash", Cid), _field(fields, "Name", str), _field(fields, "Tsize", int)
    if cid is None:
        raise EncodeError("dag-pb", "link without a Hash")
    if size is not None and not 0 <= size <= _MAX_TSIZE:
        raise EncodeError("dag-pb", "Tsize is negative or over 63 bits")
    try:
        return PBLink(cid, None if name is None else name.encode("utf-8", "surrogateescape"), size)
    except UnicodeEncodeError as exc:
        raise EncodeError("dag-pb", f"Name is not Unicode: {name!a}") from exc


def _fields(value: Value, what: str, known: tuple[str, ...]) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise EncodeError("dag-pb", f"{what} is not a map but {shown(value)}")
    if others := [key for key in value if key not in known]:
        raise EncodeError("dag-pb", f"unknown key {others[0]!a} in a {what}")
    return value


def _field(fields: dict[str, Value], key: str, kind: type[_Kind]) -> _Kind | None:
    """Return the item under `key`, None when there is no such key; null is not absence."""
    if key not in fields:
        return None
    item = fields[key]
    if not isinstance(item, kind) or isinstance(item, bool):
        raise EncodeError("dag-pb", f"{key} is {shown(item)}")
    return item
