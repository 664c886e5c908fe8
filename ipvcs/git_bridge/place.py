"""Where in a name's tree a repository lies: found there, and put there with everything beside it kept.

    <root>/team/project     the directories on the way are anybody's; the last one is the repository

A repository may lie inside another's directory, but not behind the names that the other one needs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from ipvcs.errors import ConflictError
from ipvcs.git_bridge.published_tree import MANIFEST, RESERVED
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, directory
from ipvcs.objects.block import BlockReader, BlockWriter
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.directory import build_directory
from ipvcs.objects.directory_edit import add_entry
from ipvcs.objects.git.layout import LAYOUT
from ipvcs.objects.inline import read_block
from ipvcs.objects.node_writer import Built
from ipvcs.objects.unixfs import UnixfsError


class PlaceTakenError(ConflictError):
    """A repository can't be where it is wanted."""

    def __init__(self, path: Sequence[bytes], why: str) -> None:
        shown = "/".join(name.decode(errors="replace") for name in path) or "/"
        super().__init__(f"cannot have a repository at '{shown}': {why}", hint="choose another path behind the name")


@dataclass(frozen=True, slots=True)
class Place:
    """The directories from a name's root down to a repository: one CID for each level, None from where there is none.

    The last is the repository's own.
    """

    path: tuple[bytes, ...]
    levels: tuple[Cid | None, ...]

    @property
    def repository(self) -> Cid | None:
        """The directory of the repository, None if there is none yet."""
        return self.levels[-1]


def find_place(reader: BlockReader, root: Cid | None, path: tuple[bytes, ...]) -> Place:
    """Walk down `path` from `root`, None being nothing at all.

    Raises:
        PlaceTakenError: a file is in the way, or another repository's own entries.
        BlockNotFoundError: a block can't be had. DecodeError: it is malformed.
    """
    levels: list[Cid | None] = [root]
    for depth, name in enumerate(path):
        level = levels[-1]
        if level is None:
            levels.append(None)
            continue
        node = _directory(reader, level, path[:depth])
        if name in RESERVED and directory.lookup(reader, node, MANIFEST) is not None:
            raise PlaceTakenError(path, f"'{name.decode()}' belongs to the repository that lies there")
        link = directory.lookup(reader, node, name)
        levels.append(None if link is None else link.cid)
    if levels[-1] is not None:
        _directory(reader, levels[-1], path)
    return Place(path, tuple(levels))


def put_at(place: Place, repository: Built, reader: BlockReader, writer: BlockWriter) -> Built:
    """Store the directories that lead to `repository`, with all else that is in them; return the new root."""
    built = repository
    for name, level in zip(reversed(place.path), reversed(place.levels[:-1]), strict=True):
        entry = built.link(name)
        built = (
            build_directory([entry], LAYOUT, writer)
            if level is None
            else add_entry(reader, writer, level, entry, LAYOUT)
        )
    return built


def entries_of(reader: BlockReader, cid: Cid, path: tuple[bytes, ...]) -> tuple[PBLink, ...]:
    """Return the entries of a directory that is to become a repository.

    Raises:
        PlaceTakenError: one of them has a name that the repository needs.
    """
    entries = tuple(directory.iter_directory(reader, _directory(reader, cid, path)))
    if taken := sorted({link.name or b"" for link in entries} & RESERVED):
        raise PlaceTakenError(path, f"there is '{taken[0].decode()}' already, and no repository")
    return entries


def _directory(reader: BlockReader, cid: Cid, path: Sequence[bytes]) -> PBNode:
    if cid.codec == codecs.DAG_PB:
        node = dag_pb.decode(read_block(reader, cid))
        try:
            directory.directory_data(node)
        except (UnixfsError, directory.NotADirectoryNodeError):
            pass
        else:
            return node
    raise PlaceTakenError(path, "there is something else, which is no directory")
