"""`ipvcs.refs`: every ref of a published repository, as lines `<oid> <cid> <name>` sorted by the names' bytes.

The CID is that of what the ref's object is mapped as, so a reader reaches every object from here.

Spec: DESIGN §5
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from ipvcs.errors import DecodeError
from ipvcs.git_bridge.refname import RefName, parse_refname
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId

MAX_SIZE: Final = 256 * 1024 * 1024
"""Bytes of a table that is read: some two million refs."""


class RefsTableError(DecodeError):
    """Bytes are no table of refs."""


class Ref(NamedTuple):
    """Where a ref points: the object, and the node that it is mapped as."""

    oid: ObjectId
    cid: Cid


def encode_refs(refs: Mapping[RefName, Ref]) -> bytes:
    """Return the table of `refs`."""
    return b"".join(
        b"%b %b %b\n" % (refs[name].oid.hex.encode(), str(refs[name].cid).encode(), name) for name in sorted(refs)
    )


def decode_refs(data: bytes, object_format: ObjectFormat) -> dict[RefName, Ref]:
    """Return the refs of a table, in the order of their names.

    Raises:
        RefsTableError: a malformed line, an id of another format, names out of order or twice.
        RefNameError: a name that Git would refuse. CidError: a bad CID.
    """
    if data and not data.endswith(b"\n"):
        raise RefsTableError("table of refs ends inside a line")
    refs: dict[RefName, Ref] = {}
    last = b""
    for line in data.split(b"\n")[:-1]:
        words = line.split(b" ", 2)
        if len(words) != 3:
            raise RefsTableError(f"malformed line '{line[:200].decode(errors='backslashreplace')}' in a table of refs")
        oid, cid, name = ObjectId.parse(words[0].decode(errors="replace")), words[1].decode(errors="replace"), words[2]
        if len(oid.raw) != object_format.size:
            raise RefsTableError(f"id '{oid}' in a table of refs is not a {object_format} id")
        if name <= last:
            raise RefsTableError("names in a table of refs are out of order or occur twice")
        last = name
        refs[parse_refname(name)] = Ref(oid, Cid.parse(cid))
    return refs
