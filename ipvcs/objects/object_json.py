"""Objects as JSON, the white paper's way: `{"data": {"type": …}, "links": [{"name", "hash", "size"}]}`.

Export and import are inverse: the JSON of a block gives back the block and the CID. Where the fields alone would not
(a node written by an encoder of other habits), the field `block` holds the exact bytes, and the others must agree.

`date` and `message` of a commit or tag are there to be read: they come from its payload, and an import that gives other
ones than the payload has is refused.

Spec: white paper §3.5.1 and §3.6; docs/formats.md lists the fields.
"""

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from ipvcs.errors import DecodeError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, directory, unixfs
from ipvcs.objects.block import Block
from ipvcs.objects.commit import CommitObject, ObjectData, ObjectKind, encode_object_data
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.json_fields import Fields, ObjectJsonError, put_bytes
from ipvcs.objects.object import NotAnObjectError, decode_object, type_name, view
from ipvcs.objects.tag import TagObject
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData

_KINDS: Final = {"commit": ObjectKind.COMMIT, "tag": ObjectKind.TAG}
_UNIXFS_NAMES: Final = {
    DataType.RAW: "raw",
    DataType.FILE: "file",
    DataType.DIRECTORY: "directory",
    DataType.HAMT_SHARD: "hamt-shard",
    DataType.SYMLINK: "symlink",
}
_UNIXFS_TYPES: Final = {name: kind for kind, name in _UNIXFS_NAMES.items()}
_DEFAULT_UNIXFS: Final = {"list": DataType.FILE, "tree": DataType.DIRECTORY, "symlink": DataType.SYMLINK}
_ALLOWED_UNIXFS: Final = {
    "blob": (DataType.FILE, DataType.RAW),
    "list": (DataType.FILE, DataType.RAW),
    "tree": (DataType.DIRECTORY, DataType.HAMT_SHARD),
    "symlink": (DataType.SYMLINK,),
}
_CONTENT_FIELD: Final = {
    DataType.RAW: "content",
    DataType.FILE: "content",
    DataType.DIRECTORY: "payload",
    DataType.HAMT_SHARD: "bitfield",
    DataType.SYMLINK: "target",
}
_DATED_LINE: Final = re.compile(rb"^(?:committer|tagger) .*> (-?\d{1,15}) ([+-])(\d\d)(\d\d)$", re.MULTILINE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def export_object(cid: Cid, data: bytes) -> dict[str, Any]:
    """Return the JSON document of the block (`cid`, `data`), which belong together.

    Raises:
        NotAnObjectError: neither raw nor dag-pb.
        DagPbError: not decodable.
        UnknownHashError: the CID's function is not one we compute, so an import could not make it.
    """
    document = _document_of(cid, data)
    try:
        exact = import_object(document).data == data
    except DecodeError:
        exact = False
    if not exact:
        put_bytes(document, "block", data)
    return document


def import_object(document: object) -> Block:
    """Return the block that a JSON document writes.

    The CID is version 1 with sha2-256 unless `cid-version`, `mhtype` or `mhlen` say otherwise.

    Raises:
        ObjectJsonError: a field is missing, misspelt, of the wrong type, or contradicts another.
        UnixfsError: `fanout` is none that a HAMT can have.
        CidError, CommitError: a link's hash is no CID; a commit or tag has other links than one can have.
        UnknownHashError: `mhtype` is not a function we compute.
    """
    top = Fields(document, "")
    version = top.take_size("cid-version") if "cid-version" in top else 1
    hash_code = multihash.code_of(top.take_text("mhtype")) if "mhtype" in top else multihash.SHA2_256
    length = top.take_size("mhlen") if "mhlen" in top else -1
    fields = Fields(top.take("data", dict, "an object in braces"), "data")
    links = [_take_link(link, f"links[{index}]") for index, link in enumerate(top.take("links", list, "a list"))]
    exact = top.take_bytes("block")
    top.finish()
    codec = codecs.DAG_PB
    if exact is not None:
        data = exact
        if fields.take_text("type") == "blob" and "unixfs" not in fields:
            codec = codecs.RAW
    else:
        codec, data = _encode(fields, links)
    cid = Cid.make(multihash.sum_(data, hash_code, length), codec, version)
    if exact is not None and _document_of(cid, data) != _without_block(document):
        raise ObjectJsonError("block", "holds other bytes than the other fields say", hint="leave out one of the two")
    return Block(cid, data)


def _without_block(document: object) -> dict[str, Any]:
    assert isinstance(document, dict)
    return {name: value for name, value in document.items() if name not in ("block", "blockBase64")}


def _document_of(cid: Cid, data: bytes) -> dict[str, Any]:
    """Return the document without `block`."""
    if cid.codec not in (codecs.RAW, codecs.DAG_PB):
        raise NotAnObjectError(cid)
    document: dict[str, Any] = {}
    if cid.version != 1:
        document["cid-version"] = cid.version
    if cid.hash_code != multihash.SHA2_256:
        document["mhtype"] = multihash.name_of(cid.hash_code)
        if len(cid.digest) != len(multihash.digest(data, cid.hash_code)):
            document["mhlen"] = len(cid.digest)
    fields: dict[str, Any] = {"type": "blob"}
    document["data"] = fields
    links: list[dict[str, Any]] = []
    document["links"] = links
    if cid.codec == codecs.RAW:
        put_bytes(fields, "content", data)
        return document
    node = dag_pb.decode(data)
    try:
        obj = view(cid, data)
    except DecodeError:
        obj = node  # damaged: shown as links and bytes
    fields["type"] = type_name(obj)
    if isinstance(obj, CommitObject | TagObject):
        fields |= _dated(obj.payload)
        put_bytes(fields, "payload", obj.payload)
        links += map(_link_document, obj.iter_links())
        return document
    links += map(_link_document, node.links)
    if isinstance(obj, PBNode):
        put_bytes(fields, "content", node.data)
    else:
        assert node.data is not None
        fields |= _unixfs_fields(fields["type"], unixfs.decode(node.data))
    return document


def _encode(fields: Fields, links: list[PBLink]) -> tuple[int, bytes]:
    """Return (codec, block) of an object from its `data` fields and its links."""
    kind = fields.take_text("type")
    if kind in _KINDS:
        return codecs.DAG_PB, _encode_commit_or_tag(kind, fields, links)
    if kind == "node" or (kind == "blob" and "unixfs" not in fields):
        content = fields.take_bytes("content")
        fields.finish()
        if kind == "node":
            return codecs.DAG_PB, dag_pb.encode(PBNode(tuple(links), content))
        if links:
            raise ObjectJsonError("links", "are not empty, and a blob has none", hint="a file in parts is a 'list'")
        return codecs.RAW, content or b""
    if kind not in _ALLOWED_UNIXFS:
        raise ObjectJsonError("data.type", f"is '{kind}'", hint="one of: blob, list, tree, symlink, commit, tag, node")
    message = unixfs.encode(_take_unixfs(kind, fields, links))
    fields.finish()
    if unixfs.decode(message).type is DataType.DIRECTORY:
        try:
            directory.sorted_entries(links)
        except directory.EntryNameError as exc:
            raise ObjectJsonError("links", f"are no directory: {exc}") from exc
    return codecs.DAG_PB, dag_pb.encode(PBNode(tuple(links), message))


def _encode_commit_or_tag(kind: str, fields: Fields, links: list[PBLink]) -> bytes:
    payload = fields.take_bytes("payload")
    if payload is None and all(link.name != b"payload" for link in links):
        raise ObjectJsonError(
            "data.payload",
            "is missing",
            hint=f"a {kind} is its Git object's bytes; 'date' and 'message' are read out of them",
        )
    for name, value in _dated(payload).items():
        if name in fields and fields.take_text(name) != value:
            raise ObjectJsonError(f"data.{name}", "is not what the payload says", hint=f"leave '{name}' out")
    fields.finish()
    block = dag_pb.encode(PBNode(tuple(links), encode_object_data(ObjectData(_KINDS[kind], payload))))
    decode_object(block)
    return block


def _unixfs_fields(kind: str, message: UnixfsData) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if message.type is not _DEFAULT_UNIXFS.get(kind):
        fields["unixfs"] = _UNIXFS_NAMES[message.type]
    put_bytes(fields, _CONTENT_FIELD[message.type], message.data)
    if kind in ("blob", "list"):
        if kind == "list":
            fields["blocksizes"] = list(message.blocksizes)
        if message.filesize is None:
            fields["filesize"] = None  # the default is the true size
    if message.hash_type is not None:
        fields["hashType"] = message.hash_type
    if message.fanout is not None:
        fields["fanout"] = message.fanout
    if message.mode is not None:
        fields["mode"] = f"{message.mode:04o}"
    if message.mtime is not None:
        fields["mtime"] = {"seconds": message.mtime.seconds, "nanoseconds": message.mtime.nanoseconds}
    return fields


def _take_unixfs(kind: str, fields: Fields, links: list[PBLink]) -> UnixfsData:
    data_type = _DEFAULT_UNIXFS.get(kind)
    if "unixfs" in fields:
        data_type = _UNIXFS_TYPES.get(fields.take_text("unixfs"))
    if data_type not in _ALLOWED_UNIXFS[kind] or data_type is None:
        raise ObjectJsonError("data.unixfs", f"is not what a {kind} can be")
    if (kind == "list") != bool(links) and kind != "tree":
        raise ObjectJsonError("links", "are empty" if kind == "list" else f"are not empty, and a {kind} has none")
    content = fields.take_bytes(_CONTENT_FIELD[data_type])
    filesize: int | None = None
    blocksizes: tuple[int, ...] = ()
    if kind in ("blob", "list"):
        blocksizes = _take_blocksizes(fields, links)
        if not fields.take_null("filesize"):
            filesize = len(content or b"") + sum(blocksizes)
    return UnixfsData(
        data_type,
        content,
        filesize,
        blocksizes,
        fields.take_size("hashType") if "hashType" in fields else None,
        fields.take_size("fanout") if "fanout" in fields else None,
        _take_mode(fields) if "mode" in fields else None,
        _take_mtime(Fields(fields.take("mtime", dict, "an object in braces"), "data.mtime"))
        if "mtime" in fields
        else None,
    )


def _take_blocksizes(fields: Fields, links: list[PBLink]) -> tuple[int, ...]:
    """Return the bytes of the file below each link: given, or the size on the link where the child is a raw block."""
    if "blocksizes" in fields:
        sizes = fields.take("blocksizes", list, "a list")
        if len(sizes) != len(links):
            raise ObjectJsonError("data.blocksizes", f"has {len(sizes)} items for {len(links)} links")
        if not all(type(size) is int and 0 <= size < 1 << 63 for size in sizes):
            raise ObjectJsonError("data.blocksizes", "has an item that is no size")
        return tuple(sizes)
    if any(link.cid.codec != codecs.RAW for link in links):
        raise ObjectJsonError(
            "data.blocksizes", "is missing", hint="only links to raw blocks say how long the file part is"
        )
    return tuple(link.size or 0 for link in links)


def _take_mode(fields: Fields) -> int:
    text = fields.take_text("mode")
    if not re.fullmatch("[0-7]{1,11}", text):
        raise ObjectJsonError(fields.at("mode"), "is not an octal number")
    return int(text, 8)


def _take_mtime(fields: Fields) -> Mtime:
    seconds = int(fields.take("seconds", int, "an integer"))
    nanoseconds = fields.take_size("nanoseconds") if "nanoseconds" in fields else 0
    fields.finish()
    if not -(1 << 63) <= seconds < 1 << 63 or nanoseconds >= 10**9:
        raise ObjectJsonError(fields.where, "is out of range")
    return Mtime(seconds, nanoseconds)


def _link_document(link: PBLink) -> dict[str, Any]:
    """Return the JSON of one link. No name is the empty one, as in a list; an absent name or size is null."""
    fields: dict[str, Any] = {}
    if link.name is None:
        fields["name"] = None
    elif link.name:
        put_bytes(fields, "name", link.name)
    return fields | {"hash": str(link.cid), "size": link.size}


def _take_link(document: object, where: str) -> PBLink:
    fields = Fields(document, where)
    name = None if fields.take_null("name") else fields.take_bytes("name") or b""
    cid = Cid.parse(fields.take_text("hash"))
    size = None if fields.take_null("size") else fields.take_size("size")
    fields.finish()
    return PBLink(cid, name, size)


def _dated(payload: bytes | None) -> dict[str, str]:
    """Return the `date` and `message` that a Git commit's or tag's payload says, as far as it does, in UTF-8."""
    if payload is None:
        return {}
    fields: dict[str, str] = {}
    header, _, message = payload.partition(b"\0")[2].partition(b"\n\n")
    if match := _DATED_LINE.search(header):
        seconds, sign, hours, minutes = match.groups()
        try:
            offset = timedelta(hours=int(hours), minutes=int(minutes)) * (-1 if sign == b"-" else 1)
            date = (_EPOCH + timedelta(seconds=int(seconds))).astimezone(timezone(offset))
        except (OverflowError, ValueError):
            pass  # no such date in this calendar, or no such zone
        else:
            fields["date"] = date.isoformat(" ").replace("+00:00", "Z")
    try:
        text = message.decode()
    except UnicodeDecodeError:
        return fields
    return fields | {"message": text} if text else fields
