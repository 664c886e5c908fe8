"""What of a DAG goes to a disk or an archive: its directories, files and symlinks, in the order in which they are made.

The DAG is a stranger's. Names that would lead out of where they are written are refused here, for every writer; so are
nodes that are no files, and directories nested deeper than a path can be long. The walk is a stack of our own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from ipvcs.errors import DecodeError, LimitError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.blob import Blob, BlobList, NotAFileError
from ipvcs.objects.block import BlockReader
from ipvcs.objects.commit import CommitObject
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.tree_entries import PAYLOAD_ENTRY
from ipvcs.objects.inline import read_block
from ipvcs.objects.object import NotAnObjectError, Object, type_name, view
from ipvcs.objects.symlink import Symlink
from ipvcs.objects.tag import TagObject
from ipvcs.objects.tree import Tree
from ipvcs.storage.directory_position import MAX_DEPTH

_MAX_TARGET: Final = 4095
"""Bytes of a symlink's target: PATH_MAX less the NUL."""
_MAX_NESTED_OBJECTS: Final = 64
_MAX_HEADER: Final = 32
"""Bytes that hold the `tree <size>` and NUL at the start of a Git tree of any size."""
_SHOWN_NAME: Final = 80


class BadEntryError(DecodeError):
    """An entry can't be written: it has a name that leads elsewhere, is there twice, or the file system refuses it."""

    def __init__(self, name: bytes, directory: Cid, problem: str) -> None:
        super().__init__(
            f"cannot write the entry '{_shown(name)}' of '{directory}': {problem}",
            hint="`ipvcs ls` and `ipvcs cat` read it without writing to the disk",
        )
        self.name = name
        self.directory = directory


class NotExportableError(DecodeError):
    """A node is no file, directory or symlink, nor a commit or tag that leads to one."""

    def __init__(self, cid: Cid, kind: str) -> None:
        super().__init__(f"cannot write '{cid}' to the disk: it is a {kind}", hint="`ipvcs dag get` shows it")
        self.cid = cid


@dataclass(frozen=True, slots=True)
class DirectoryEntered:
    """A directory begins: what follows, to its `DirectoryLeft`, is in it. `parent` is the directory that holds it."""

    name: bytes
    parent: Cid
    tree: Tree


@dataclass(frozen=True, slots=True)
class DirectoryLeft:
    """All entries of the directory have come."""

    tree: Tree


@dataclass(frozen=True, slots=True)
class LeafFound:
    """A file or symlink. The bytes of a file are not in `content`, but read by its `cid`."""

    name: bytes
    parent: Cid
    cid: Cid
    content: Blob | BlobList | Symlink


Step: TypeAlias = DirectoryEntered | DirectoryLeft | LeafFound


def iter_export(reader: BlockReader, root: Cid, name: bytes) -> Iterator[Step]:
    """Yield what is to be made to write `root` under `name`; of commits and tags, what they lead to.

    There is no bound on the number of entries: a small DAG may name one directory many times, and it is that many.

    Raises:
        BadEntryError: an entry named `..` or `.`.
        NotExportableError, NotAnObjectError, DecodeError, BlockNotFoundError: of the DAG.
        LimitError: directories more than `MAX_DEPTH` deep.
    """
    cid, obj = _content(reader, root)
    if not isinstance(obj, Tree):
        yield _leaf(name, cid, cid, obj)
        return
    yield DirectoryEntered(name, cid, obj)
    stack = [(cid, obj, obj.iter_entries(reader))]
    while stack:
        directory, tree, entries = stack[-1]
        link = next(entries, None)
        if link is None:
            yield DirectoryLeft(tree)
            stack.pop()
            continue
        if is_tree_payload(reader, link):
            continue
        entry = link.name or b""
        if entry in (b".", b".."):
            raise BadEntryError(entry, directory, "it would lead out of the directory")
        cid, obj = _content(reader, link.cid)
        if not isinstance(obj, Tree):
            yield _leaf(entry, directory, cid, obj)
        elif len(stack) >= MAX_DEPTH:
            raise LimitError(f"directories of '{root}' are nested more than {MAX_DEPTH} deep")
        else:
            yield DirectoryEntered(entry, directory, obj)
            stack.append((cid, obj, obj.iter_entries(reader)))


def is_tree_payload(reader: BlockReader, link: PBLink) -> bool:
    """Tell whether an entry is the exact Git tree that the mapping keeps beside the entries made of it.

    By its name and its content, `tree <size>`, NUL and as many bytes, so that a user's own file of that name is not
    hidden.
    """
    if link.name != PAYLOAD_ENTRY:
        return False
    try:
        file = FileReader(reader, link.cid)
    except (NotAFileError, NotAnObjectError):
        return False
    header, nul, _ = file.read(_MAX_HEADER).partition(b"\0")
    kind, _, size = header.partition(b" ")
    return kind == b"tree" and bool(nul) and size == b"%d" % (file.size - len(header) - 1)


def content_of(reader: BlockReader, root: Cid) -> Cid:
    """Return the CID of what is written for `root`: itself, or what a commit or tag leads to in the end.

    Raises:
        NotExportableError, NotAnObjectError, DecodeError, LimitError, BlockNotFoundError: as `iter_export`.
    """
    return _content(reader, root)[0]


def _content(reader: BlockReader, cid: Cid) -> tuple[Cid, Object]:
    """Return what is to be written for `cid`: of commits and tags, what they lead to in the end."""
    for _ in range(_MAX_NESTED_OBJECTS):
        if cid.codec == codecs.RAW:
            return cid, Blob(b"")  # read when it is written
        obj = view(cid, read_block(reader, cid))
        if not isinstance(obj, CommitObject | TagObject):
            return cid, obj
        if obj.object is None:
            raise NotExportableError(cid, f"{type_name(obj)} without an object")
        cid = obj.object.cid
    raise LimitError(f"tags of '{cid}' are nested more than {_MAX_NESTED_OBJECTS} deep")


def _leaf(name: bytes, parent: Cid, cid: Cid, obj: Object) -> LeafFound:
    if not isinstance(obj, Blob | BlobList | Symlink):
        raise NotExportableError(cid, type_name(obj))
    if isinstance(obj, Symlink) and not (0 < len(obj.target) <= _MAX_TARGET and b"\0" not in obj.target):
        raise NotExportableError(cid, "symlink whose target is no path")
    return LeafFound(name, parent, cid, obj)


def _shown(name: bytes) -> str:
    text = name.decode(errors="backslashreplace")
    return text if len(text) <= _SHOWN_NAME else text[: _SHOWN_NAME - 1] + "…"
