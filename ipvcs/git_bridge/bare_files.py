"""The files by which `git` takes a published root for a bare repository, on a disk or over "dumb" HTTP.

Spec: gitrepository-layout(5), git-pack-refs(1), git-update-server-info(1), gitprotocol-http(5) "Dumb"
"""

from collections.abc import Iterable, Mapping

from ipvcs.errors import DecodeError
from ipvcs.git_bridge.refname import RefName
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId


class PackedRefsError(DecodeError):
    """Bytes are no `packed-refs`."""


def config_file(object_format: ObjectFormat) -> bytes:
    """Return `config`: bare, and the hash function where it is not the usual one."""
    version = 0 if object_format is ObjectFormat.SHA1 else 1
    text = f"[core]\n\trepositoryformatversion = {version}\n\tfilemode = true\n\tbare = true\n"
    if version:
        text += f"[extensions]\n\tobjectformat = {object_format}\n"
    return text.encode()


def head_file(head: RefName | ObjectId) -> bytes:
    """Return `HEAD`: a branch by its full name, or a detached commit."""
    return head.hex.encode() + b"\n" if isinstance(head, ObjectId) else b"ref: " + head + b"\n"


def packed_refs_file(refs: Mapping[RefName, ObjectId], peeled: Mapping[RefName, ObjectId]) -> bytes:
    """Return `packed-refs`; `peeled` has what each ref to a tag object leads to in the end."""
    lines = [b"# pack-refs with: peeled fully-peeled sorted \n"]
    for name in sorted(refs):
        lines.append(b"%b %b\n" % (refs[name].hex.encode(), name))
        if name in peeled:
            lines.append(b"^%b\n" % peeled[name].hex.encode())
    return b"".join(lines)


def decode_peeled(data: bytes) -> dict[RefName, ObjectId]:
    """Return what each ref to a tag object leads to in the end, as a `packed-refs` file says.

    Raises:
        PackedRefsError: a malformed line. ObjectIdError: a malformed id.
    """
    peeled: dict[RefName, ObjectId] = {}
    name: bytes | None = None
    for line in data.splitlines():
        if line.startswith(b"^") and name is not None:
            peeled[RefName(name)] = ObjectId.parse(line[1:].decode(errors="replace"))
        elif not line.startswith(b"#"):
            _oid, space, name = line.partition(b" ")
            if not space:
                shown = line[:200].decode(errors="backslashreplace")
                raise PackedRefsError(f"malformed line '{shown}' in packed-refs", hint="tell its publisher")
    return peeled


def info_refs_file(refs: Mapping[RefName, ObjectId], peeled: Mapping[RefName, ObjectId]) -> bytes:
    """Return `info/refs`; arguments as for `packed_refs_file`."""
    lines = []
    for name in sorted(refs):
        lines.append(b"%b\t%b\n" % (refs[name].hex.encode(), name))
        if name in peeled:
            lines.append(b"%b\t%b^{}\n" % (peeled[name].hex.encode(), name))
    return b"".join(lines)


def info_packs_file(packs: Iterable[str]) -> bytes:
    """Return `objects/info/packs`; `packs` are names without suffix, the newest first."""
    return b"".join(b"P %b.pack\n" % name.encode() for name in packs) + b"\n"
