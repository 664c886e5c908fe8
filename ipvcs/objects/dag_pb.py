"""dag-pb: the codec of IPFS objects, `{links: [{name, hash, size}], data}`.

Canonical form: Links (field 2) before Data (field 1), each PBLink's fields in order, links sorted by the bytes of their
names. The encoder sorts; the decoder takes links in the order they have and never re-sorts.

Spec: https://ipld.io/specs/codecs/dag-pb/spec/
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects.protobuf import BYTES, VARINT, decode_varint, encode_varint

_LINK_TAG: Final = b"\x12"  # PBNode.Links = 2
_DATA_TAG: Final = b"\x0a"  # PBNode.Data = 1
_MAX_TSIZE: Final = (1 << 63) - 1  # the data model's integers are signed 64-bit


class DagPbError(DecodeError):
    """Bytes are not a dag-pb node."""


@dataclass(frozen=True, slots=True)
class PBLink:
    """A link: `name` is bytes (UnixFS names need not be UTF-8), None when absent, which differs from empty.

    `size` (Tsize) is the cumulative size of what the link leads to, as its maker claims: untrusted.
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
    links = node.links
    if len(links) > 1:
        links = tuple(sorted(links, key=_sort_key))
    return encode_parts(links, node.data)


def encode_parts(links: Iterable[PBLink], data: bytes | None) -> bytes:
    """Return the bytes of a node whose `links` are already in canonical order."""
    parts: list[bytes] = []
    for link in links:
        body = encode_link(link)
        parts += (_LINK_TAG, encode_varint(len(body)), body)
    if data is not None:
        parts += (_DATA_TAG, encode_varint(len(data)), data)
    return b"".join(parts)


def encode_link(link: PBLink) -> bytes:
    """Return the bytes of one PBLink message."""
    raw = link.cid.raw
    body = b"\x0a" + encode_varint(len(raw)) + raw
    if (name := link.name) is not None:
        body += b"\x12" + encode_varint(len(name)) + name
    if link.size is not None:
        body += b"\x18" + encode_varint(link.size)
    return body


def decode(data: bytes) -> PBNode:
    """Return the node that `data` holds.

    Either order of the Links and Data groups is accepted, as old encoders wrote them.

    Raises:
        DagPbError: unknown or repeated fields, links split by Data, fields of a link out of order, a link without
            Hash or with a bad CID, or cut short.
    """
    links: list[PBLink] = []
    payload: bytes | None = None
    links_before_data = False
    position, end = 0, len(data)
    try:
        while position < end:
            key, position = decode_varint(data, position)
            if key not in (0x0A, 0x12):
                raise DagPbError(f"unexpected field {key >> 3} of wire type {key & 7} in a node")
            length, position = decode_varint(data, position)
            stop = position + length
            if stop > end:
                raise DagPbError("node is cut short")
            if key == 0x12:
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


def _sort_key(link: PBLink) -> bytes:
    return link.name or b""


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
