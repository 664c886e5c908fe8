"""UnixFS nodes made by hand, well-formed or hostile, for the tests of what writes DAGs to the disk."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ipvcs.multiformats.cid import Cid
from ipvcs.objects import unixfs
from ipvcs.objects.commit import ObjectData, ObjectKind, encode_object_data
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.unixfs import DataType, UnixfsData
from tests.unit.objects.dags import Blocks


class Trees(Blocks):
    """Blocks in memory, with short ways to make directories that no importer would make."""

    def directory(self, entries: Iterable[tuple[bytes, Cid]], **data: Any) -> Cid:
        """A directory with just these entries, in this order."""
        links = [PBLink(cid, name, 0) for name, cid in entries]
        return self.add_node(links, unixfs.encode(UnixfsData(DataType.DIRECTORY, **data)))

    def symlink(self, target: bytes, **data: Any) -> Cid:
        return self.add_node((), unixfs.encode(UnixfsData(DataType.SYMLINK, data=target, **data)))

    def file(self, content: bytes, **data: Any) -> Cid:
        return self.add_node((), unixfs.encode(UnixfsData(DataType.FILE, content, len(content), **data)))

    def nested(self, depth: int, innermost: Cid, name: bytes = b"d") -> Cid:
        """`depth` directories, each the one entry of the one around it."""
        cid = innermost
        for _ in range(depth):
            cid = self.directory([(name, cid)])
        return cid

    def commit(self, snapshot: Cid) -> Cid:
        return self.add_node([PBLink(snapshot, b"object", 0)], encode_object_data(ObjectData(ObjectKind.COMMIT, b"c")))


def listing(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Return all that is at and below `root`: kind, permission bits, content, by path; no symlink is followed."""
    found: dict[bytes, tuple[object, ...]] = {}
    for below, path in _paths(root):
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            found[below] = ("symlink", os.fsencode(path.readlink()))
        elif stat.S_ISDIR(status.st_mode):
            found[below] = ("directory", stat.S_IMODE(status.st_mode))
        else:
            found[below] = ("file", stat.S_IMODE(status.st_mode), path.read_bytes())
    return found


def times(root: Path) -> dict[bytes, int]:
    """Return the modification times of all that is at and below `root`, in nanoseconds."""
    return {below: path.lstat().st_mtime_ns for below, path in _paths(root)}


def _paths(root: Path) -> Iterator[tuple[bytes, Path]]:
    """Yield each path twice, from `root` and whole."""
    yield b"", root
    if root.is_symlink():
        return  # `os.walk` follows the path it begins at, even to "/"
    for directory, names, files in os.walk(root):
        for name in names + files:
            path = Path(directory) / name
            yield os.fsencode(path.relative_to(root)), path
