"""Directories, plain or sharded: built from entries, looked up, listed.

A plain directory is one node whose links are its entries. One that would be too large for that is a HAMT (`sharding`
has the limits, `hamt` the trie). Readers here do not show which of the two a directory is.

Entry names are bytes: anything but `/` and NUL, and not empty. Whoever writes them to a disk has to check further.

Spec: https://specs.ipfs.tech/unixfs/#dag-pb-directory and #dag-pb-hamtdirectory
"""

from collections.abc import Iterable, Iterator
from operator import attrgetter

from ipvcs.errors import DecodeError, UsageError
from ipvcs.objects import hamt, unixfs
from ipvcs.objects.block import BlockReader, BlockWriter
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.hamt_shard import hash_name
from ipvcs.objects.hamt_stream import write_by_hash
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.profile import ImportOptions
from ipvcs.objects.sharding import fits_plain
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData, UnixfsError


class DirectoryError(DecodeError):
    """A directory's node is malformed: a name that cannot be, or twice the same."""


class NotADirectoryNodeError(DecodeError):
    """A node that was to be read as a directory is something else."""


class EntryNameError(UsageError):
    """A name that no entry of a directory can have, or that another has already."""

    def __init__(self, name: bytes, problem: str) -> None:
        super().__init__(f"bad entry name '{name.decode(errors='replace')}': {problem}")
        self.name = name


def build_directory(
    entries: Iterable[PBLink],
    options: ImportOptions,
    writer: BlockWriter,
    *,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Built:
    """Store the directory of `entries`, in any order, their blocks stored already; plain or sharded as `options` say.

    `mode` (its low 12 bits; 0 is none) and `mtime` are the directory's own.

    Raises:
        EntryNameError: a name that is empty or holds `/` or NUL, or two entries of one name.
        HamtCollisionError: names with equal hashes in a directory that has to be sharded.
    """
    links = sorted_entries(entries)
    if fits_plain(links, options, mode=mode, mtime=mtime):
        return _put_plain(links, NodeWriter(options, writer), mode, mtime)
    return _put_sharded(links, NodeWriter(options, writer), mode, mtime)


def build_plain_directory(
    entries: Iterable[PBLink],
    options: ImportOptions,
    writer: BlockWriter,
    *,
    mode: int | None = None,
    mtime: Mtime | None = None,
    data: bytes | None = None,
) -> Built:
    """Store a directory in one block, however large. `data` goes into its UnixFS data field, which readers ignore.

    Raises:
        EntryNameError: as `build_directory`.
    """
    return _put_plain(sorted_entries(entries), NodeWriter(options, writer), mode, mtime, data)


def build_sharded_directory(
    entries: Iterable[PBLink],
    options: ImportOptions,
    writer: BlockWriter,
    *,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Built:
    """Store a directory as a HAMT, however small.

    Raises:
        EntryNameError, HamtCollisionError: as `build_directory`.
    """
    return _put_sharded(sorted_entries(entries), NodeWriter(options, writer), mode, mtime)


def build_directory_by_hash(
    entries: Iterable[tuple[int, PBLink]],
    options: ImportOptions,
    writer: BlockWriter,
    *,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> Built:
    """Store a sharded directory of any number of entries in little memory.

    `entries` come with the hashes of their names (`hamt_shard.hash_name`), ascending, each name once.

    Raises:
        EntryNameError, HamtCollisionError: as `build_directory`; a name that comes twice is a collision.
    """
    checked = ((name_hash, normalized_entry(link)) for name_hash, link in entries)
    return write_by_hash(checked, NodeWriter(options, writer), mode=mode, mtime=mtime)


def iter_directory(reader: BlockReader, node: PBNode) -> Iterator[PBLink]:
    """Yield the links to the entries of the directory with the root `node`: plain ones in the order of the node,
    sharded ones in the order of their hashes, reading shards as the walk gets to them.

    Raises:
        NotADirectoryNodeError: `node` is no directory.
        DirectoryError, HamtError: names that cannot be, one name twice, or a malformed shard.
        BlockNotFoundError: a shard is not there.
    """
    if directory_data(node).type is DataType.HAMT_SHARD:
        for link in hamt.iter_entries(reader, node):
            _check_stored_name(link)
            yield link
        return
    seen: set[bytes] = set()
    for link in node.links:
        name = _check_stored_name(link)
        if name in seen:
            raise DirectoryError(f"directory has two entries '{name.decode(errors='replace')}'")
        seen.add(name)
        yield link


def lookup(reader: BlockReader, node: PBNode, name: bytes) -> PBLink | None:
    """Return the link to the entry `name` of the directory with the root `node`, None when there is none.

    Raises:
        NotADirectoryNodeError: `node` is no directory.
        DirectoryError: two entries have that name.
        HamtError, BlockNotFoundError: a shard on the way is malformed or not there.
    """
    if directory_data(node).type is DataType.HAMT_SHARD:
        return hamt.lookup(reader, node, name) if name else None
    found = [link for link in node.links if link.name == name]
    if len(found) > 1:
        raise DirectoryError(f"directory has two entries '{name.decode(errors='replace')}'")
    return found[0] if found and name else None


def directory_data(node: PBNode) -> UnixfsData:
    """Return the UnixFS data of a directory's root: its kind, mode and mtime.

    Raises:
        NotADirectoryNodeError: it is the root of something else.
    """
    try:
        message = unixfs.decode(node.data or b"")
    except UnixfsError as exc:
        raise NotADirectoryNodeError("node is not a directory, nor other UnixFS") from exc
    if message.type not in (DataType.DIRECTORY, DataType.HAMT_SHARD):
        raise NotADirectoryNodeError(f"node is not a directory but a {message.type.name.lower()}")
    return message


def sorted_entries(entries: Iterable[PBLink]) -> list[PBLink]:
    """Return `entries` by name, each with a size, as they are written.

    Raises:
        EntryNameError: as `build_directory`.
    """
    links = [normalized_entry(link) for link in entries]
    links.sort(key=attrgetter("name"))
    previous: bytes | None = None
    for link in links:
        if link.name == previous:
            raise EntryNameError(previous or b"", "another entry has it already")
        previous = link.name
    return links


def normalized_entry(link: PBLink) -> PBLink:
    """Return `link` as Kubo writes links of directories, which always have a size.

    Raises:
        EntryNameError: its name is absent or empty or holds `/` or NUL.
    """
    name = link.name or b""
    if problem := _name_problem(name):
        raise EntryNameError(name, problem)
    return link if link.size is not None else PBLink(link.cid, name, 0)


def _name_problem(name: bytes) -> str | None:
    if not name:
        return "it is empty"
    if b"/" in name:
        return "it holds a '/'"
    if b"\0" in name:
        return "it holds a NUL"
    return None


def _check_stored_name(link: PBLink) -> bytes:
    name = link.name or b""
    if problem := _name_problem(name):
        raise DirectoryError(f"directory has an entry with the bad name '{name.decode(errors='replace')}': {problem}")
    return name


def _put_plain(
    links: list[PBLink], nodes: NodeWriter, mode: int | None, mtime: Mtime | None, data: bytes | None = None
) -> Built:
    return nodes.put_node(links, unixfs.encode(UnixfsData(DataType.DIRECTORY, data=data, mode=mode, mtime=mtime)))


def _put_sharded(links: list[PBLink], nodes: NodeWriter, mode: int | None, mtime: Mtime | None) -> Built:
    entries = sorted((hash_name(link.name or b""), link) for link in links)
    return write_by_hash(entries, nodes, mode=mode, mtime=mtime)
