"""One entry of a stored directory added, replaced or removed; everything else is shared with the old directory.

A directory turns into a HAMT, and back, where boxo's DynamicDirectory does if it is loaded anew for each change. So a
directory made by changes has the CID that `build_directory` gives to the same entries, provided that it was made with
the same options from the start.

Mode, mtime and a HAMT's fanout are those of the old directory, and blocks that do not change keep their CID version.
"""

from collections.abc import Iterable
from itertools import chain

from ipvcs.errors import NotFoundError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.block import BlockReader, BlockWriter
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.directory import (
    NotADirectoryNodeError,
    build_plain_directory,
    build_sharded_directory,
    directory_data,
    iter_directory,
    normalized_entry,
    sorted_entries,
)
from ipvcs.objects.hamt import Hamt
from ipvcs.objects.inline import read_block
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.profile import ImportOptions
from ipvcs.objects.sharding import fits_plain, link_size, turns_plain
from ipvcs.objects.unixfs import DataType, UnixfsData


class EntryNotFoundError(NotFoundError):
    """A directory has no entry of that name."""

    def __init__(self, cid: Cid, name: bytes) -> None:
        super().__init__(f"directory '{cid}' has no entry '{name.decode(errors='replace')}'")
        self.cid = cid
        self.name = name


def add_entry(reader: BlockReader, writer: BlockWriter, cid: Cid, entry: PBLink, options: ImportOptions) -> Built:
    """Store the directory `cid` with `entry` added, or in the place of the entry that has its name.

    Raises:
        EntryNameError: its name is empty or holds `/` or NUL.
        HamtCollisionError: another name's hash is the same, in a directory that has to be sharded.
        NotADirectoryNodeError, DirectoryError, HamtError, BlockNotFoundError: the directory cannot be read.
    """
    entry = normalized_entry(entry)
    name = entry.name or b""
    node, message = _read(reader, cid)
    if message.type is DataType.HAMT_SHARD:
        trie = Hamt.load(reader, node)
        old = trie.try_get(name)
        remaining = chain(_without(trie, name), (entry,))
        growth = _size(entry, options) - _size(old, options)
        if turns_plain(remaining, growth, options, mode=message.mode, mtime=message.mtime):
            return _write_plain(chain(_without(trie, name), (entry,)), message, options, writer)
        trie.set(entry)
        return trie.write(NodeWriter(options, writer), mode=message.mode, mtime=message.mtime)
    kept = [link for link in iter_directory(reader, node) if link.name != name]
    # A replacement makes no directory longer, so it is not what shards one that is too long already.
    is_new = len(kept) == len(node.links)
    links = sorted_entries((*kept, entry))
    if fits_plain(links, options, mode=message.mode, mtime=message.mtime, count_links=is_new):
        return _write_plain(links, message, options, writer)
    return build_sharded_directory(links, options, writer, mode=message.mode, mtime=message.mtime)


def remove_entry(reader: BlockReader, writer: BlockWriter, cid: Cid, name: bytes, options: ImportOptions) -> Built:
    """Store the directory `cid` without its entry `name`.

    Raises:
        EntryNotFoundError: there is no such entry.
        NotADirectoryNodeError, DirectoryError, HamtError, BlockNotFoundError: the directory cannot be read.
    """
    node, message = _read(reader, cid)
    if message.type is DataType.DIRECTORY:
        kept = [link for link in iter_directory(reader, node) if link.name != name]
        if len(kept) == len(node.links):
            raise EntryNotFoundError(cid, name)
        return _write_plain(kept, message, options, writer)
    trie = Hamt.load(reader, node)
    old = trie.remove(name)
    if old is None:
        raise EntryNotFoundError(cid, name)
    if turns_plain(trie, -_size(old, options), options, mode=message.mode, mtime=message.mtime):
        return _write_plain(trie, message, options, writer)
    return trie.write(NodeWriter(options, writer), mode=message.mode, mtime=message.mtime)


def _read(reader: BlockReader, cid: Cid) -> tuple[PBNode, UnixfsData]:
    if cid.codec != codecs.DAG_PB:
        raise NotADirectoryNodeError(f"'{cid}' is not a directory")
    node = dag_pb.decode(read_block(reader, cid))
    return node, directory_data(node)


def _without(links: Iterable[PBLink], name: bytes) -> Iterable[PBLink]:
    return (link for link in links if link.name != name)


def _size(link: PBLink | None, options: ImportOptions) -> int:
    return link_size(link, options.hamt_estimate) if link else 0


def _write_plain(links: Iterable[PBLink], old: UnixfsData, options: ImportOptions, writer: BlockWriter) -> Built:
    # A HAMT's data field is its bitfield; a plain directory's is somebody's payload, which is kept.
    data = old.data if old.type is DataType.DIRECTORY else None
    return build_plain_directory(links, options, writer, mode=old.mode, mtime=old.mtime, data=data)
