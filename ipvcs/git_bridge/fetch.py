"""One fetch: by packs or from the object graph, whichever suits what is asked for.

    a part of a history (`--depth`), or a repository that has a part     objects: a pack has more than is wanted
    packs that nobody has any more, while objects can be had             objects
    all else                                                             packs: a twentieth of the bytes

Spec: DESIGN §5 "Fetch"
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, Protocol

from ipvcs.client.client import RemoteCommandError
from ipvcs.git_bridge.conversion import OnProgress
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.object_feed import TypeReader
from ipvcs.git_bridge.object_fetch import CancellableReader, ObjectFetch
from ipvcs.git_bridge.pack_fetch import ExpectingReader, PackFetch
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.git_bridge.shallow import WHOLE, Depth, read_shallow, write_shallow
from ipvcs.objects.git.object_id import ObjectId

_SECOND_TRY: Final = 5.0
"""Seconds without a block that are added to those after which packs were given up."""


class FetchWay(StrEnum):
    """How a fetch gets objects."""

    PACKS = "packs"
    OBJECTS = "objects"


class FetchReader(ExpectingReader, CancellableReader, Protocol):
    """The home's blocks and, behind them, the network's."""


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """What git asks for: what `wanted` reach, `depth` generations of it at most.

    `way` is what the user insists on. `follows_tags`: tags of what comes are wanted, too. `checks`: git would take our
    word for it that nothing is missing.
    """

    wanted: Sequence[ObjectId]
    depth: Depth | None = None
    way: FetchWay | None = None
    follows_tags: bool = False
    checks: bool = False
    quiet: bool = False


def fetch(
    request: FetchRequest,
    repository: GitRepository,
    reader: FetchReader,
    tree: PublishedTree,
    directory: Path,
    progress: OnProgress,
) -> bool:
    """Bring what is asked for into `repository`; return whether it was checked that nothing of it is missing.

    Args:
        request: what.
        repository: whereto.
        reader: wherefrom.
        tree: the published repository.
        directory: takes temporary files.
        progress: told how many objects have come by themselves; git shows it for packs.

    Raises:
        LyingRepositoryError, GitNodeError: the published repository is not what it says.
        GitError: a pack is damaged, or an object in it malformed.
        MissingLocallyError, RemoteCommandError: a block can't be had.
    """
    is_checked = _fetch(request, repository, reader, tree, directory, progress)
    if request.follows_tags:
        with TypeReader.open(repository) as types:
            tags = _tags_to_follow(tree, types)
        if tags:
            ObjectFetch(repository, reader, tree, tags, directory, None, progress).run()
            return False
    return is_checked


def _tags_to_follow(tree: PublishedTree, types: TypeReader) -> list[ObjectId]:
    """Return the tag objects that are not here although what they lead to is."""
    tags = {tree.refs[name].oid: oid for name, oid in tree.peeled.items() if name in tree.refs}
    return [tag for tag, oid in tags.items() if types.try_get(tag) is None and types.try_get(oid) is not None]


def _fetch(
    request: FetchRequest,
    repository: GitRepository,
    reader: FetchReader,
    tree: PublishedTree,
    directory: Path,
    progress: OnProgress,
) -> bool:
    shallow = read_shallow(repository)
    if choose_way(request, is_shallow=bool(shallow)) is FetchWay.OBJECTS:
        ObjectFetch(repository, reader, tree, request.wanted, directory, request.depth, progress).run()
        return False
    trusts = not shallow  # else an object may be here without its history
    packs = PackFetch(repository, reader, tree, request.wanted, trusts=trusts, quiet=request.quiet)
    try:
        is_checked = packs.run(checks=request.checks)
    except RemoteCommandError:
        if request.way is not None or not _has_objects(reader, tree, request.wanted):
            raise
        ObjectFetch(repository, reader, tree, request.wanted, directory, request.depth, progress).run()
        return False
    if shallow and request.depth is not None:
        write_shallow(repository, packs.still_cut(shallow))
    return is_checked


def _has_objects(reader: FetchReader, tree: PublishedTree, wanted: Sequence[ObjectId]) -> bool:
    """Tell whether somebody has the nodes of what is wanted: then packs are not missing because nobody is there."""
    cids = {ref.oid: ref.cid for ref in tree.refs.values()}
    try:
        reader.fetch_all([cids[oid] for oid in wanted if oid in cids], recursive=False, timeout=_SECOND_TRY)
    except RemoteCommandError:
        return False
    return True


def choose_way(request: FetchRequest, *, is_shallow: bool) -> FetchWay:
    """Return how to fetch into a repository whose history is cut off, or not."""
    depth = request.depth
    if depth is not None and (depth.deepens or depth.generations < WHOLE):
        return FetchWay.OBJECTS  # packs can't do it
    if request.way is not None:
        return request.way
    return FetchWay.OBJECTS if is_shallow and depth is None else FetchWay.PACKS
