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
from typing import Final

from ipvcs.client.client import RemoteCommandError
from ipvcs.git_bridge.conversion import OnProgress
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.object_feed import TypeReader
from ipvcs.git_bridge.object_fetch import ObjectFetch
from ipvcs.git_bridge.pack_fetch import PackFetch
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.git_bridge.readers import FetchReader
from ipvcs.git_bridge.shallow import WHOLE, Depth, read_shallow, write_shallow
from ipvcs.objects.git.object_id import ObjectId

_SECOND_TRY: Final = 5.0
"""Seconds without a block that are added to those after which packs were given up."""


class FetchWay(StrEnum):
    """How a fetch gets objects."""

    PACKS = "packs"
    OBJECTS = "objects"


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


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches what `request` says of the published `tree` into `repository`; `directory` takes temporary files.

    `progress` is told how many objects have come by themselves; git shows it for packs.
    """

    request: FetchRequest
    repository: GitRepository
    reader: FetchReader
    tree: PublishedTree
    directory: Path
    progress: OnProgress

    def run(self) -> bool:
        """Do it; return whether it was checked that nothing is missing, if git would rely on that.

        Raises:
            LyingRepositoryError, GitNodeError: the published repository is not what it says.
            GitError: a pack is damaged, or an object in it malformed.
            MissingLocallyError, RemoteCommandError: a block can't be had.
        """
        shallow = read_shallow(self.repository)
        way = choose_way(self.request, is_shallow=bool(shallow))
        if way is FetchWay.OBJECTS:
            is_checked = self._by_objects(self.request.wanted, self.request.depth)
        else:
            is_checked = self._by_packs(shallow)
        if self.request.follows_tags and (tags := self._tags_to_follow()):
            self._by_objects(tags, None)
            return False
        return is_checked and self.request.checks

    def _by_objects(self, wanted: Sequence[ObjectId], depth: Depth | None) -> bool:
        return ObjectFetch(self.repository, self.reader, self.tree, wanted, self.directory, depth, self.progress).run()

    def _by_packs(self, shallow: frozenset[ObjectId]) -> bool:
        request = self.request
        trusts = not shallow  # else an object may be here without its history
        packs = PackFetch(self.repository, self.reader, self.tree, request.wanted, trusts=trusts, quiet=request.quiet)
        try:
            is_checked = packs.run(checks=request.checks)
        except RemoteCommandError:
            if request.way is not None or not self._has_objects():
                raise
            return self._by_objects(request.wanted, request.depth)
        if shallow and request.depth is not None:
            write_shallow(self.repository, packs.still_cut(shallow), shallow)
        return is_checked

    def _has_objects(self) -> bool:
        """Tell whether somebody has the nodes of what is wanted: then packs are not missing because nobody is there."""
        cids = {ref.oid: ref.cid for ref in self.tree.refs.values()}
        wanted = [cids[oid] for oid in self.request.wanted if oid in cids]
        try:
            self.reader.fetch_all(wanted, recursive=False, timeout=_SECOND_TRY)
        except RemoteCommandError:
            return False
        return True

    def _tags_to_follow(self) -> list[ObjectId]:
        """Return the tag objects that are not here although what they lead to is."""
        refs = self.tree.refs
        tags = {refs[name].oid: oid for name, oid in self.tree.peeled.items() if name in refs}
        with TypeReader.open(self.repository) as types:
            return [tag for tag, oid in tags.items() if types.try_get(tag) is None and types.try_get(oid) is not None]


def choose_way(request: FetchRequest, *, is_shallow: bool) -> FetchWay:
    """Return how to fetch into a repository whose history is cut off, or not."""
    depth = request.depth
    if depth is not None and (depth.deepens or depth.generations < WHOLE):
        return FetchWay.OBJECTS  # packs can't do it
    if request.way is not None:
        return request.way
    return FetchWay.OBJECTS if is_shallow and depth is None else FetchWay.PACKS
