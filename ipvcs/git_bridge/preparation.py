"""What a push brings, made ready in a session: what is new is converted, packed and stored; nothing is published yet.

    bases ─► git pack-objects (on another core) ─┐
          └► convert ─► table of commits ────────┴─► pack, index and table, stored

Spec: DESIGN §5 "Push" (3), (4)
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from ipvcs.errors import UsageError
from ipvcs.git_bridge.bases import Bases
from ipvcs.git_bridge.conversion import Converter, OnProgress, converting
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.packing import OnStored, StoredPack, revisions_of
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.git_bridge.shallow import read_shallow
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockNotFoundError, BlockReader, BlockWriter
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.home import Home
from ipvcs.storage.interface import BlockWriting


class ShallowPushError(UsageError):
    """What is pushed reaches commits whose parents are not here, so nobody could clone it."""

    exit_code = 128

    def __init__(self, oid: str) -> None:
        super().__init__(
            f"cannot push from this shallow repository: its history is cut off at '{oid}', which the remote lacks",
            hint="`git fetch --unshallow` brings the rest",
        )
        self.oid = oid


class PackSupply(Protocol):
    """A pack that is there, or will be."""

    def store(
        self, commits: Iterable[tuple[ObjectId, Cid, int]], writer: BlockWriter, on_stored: OnStored = ..., /
    ) -> StoredPack:
        """Store it, with its table of `commits`; `on_stored` is told how many bytes of how many are."""


MakePack: TypeAlias = Callable[[Sequence[ObjectId], Sequence[ObjectId]], AbstractContextManager[PackSupply | None]]
"""Supplies, as long as the block runs, a pack of what `tips` reach and `bases` do not; None: that is nothing."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is in the session. `complete`: all that the tips reach is in the home, protected while it lasts."""

    mapped: Mapping[ObjectId, Mapped]
    pack: StoredPack | None
    complete: bool


class SessionReader:
    """A `BlockReader` of what a session has written and what else there is."""

    def __init__(self, writer: BlockWriting, rest: BlockReader) -> None:
        self._writer = writer
        self._rest = rest

    def get(self, cid: Cid) -> bytes:
        """Return the block's bytes. Raises BlockNotFoundError."""
        try:
            return self._writer.get(cid)
        except BlockNotFoundError:
            return self._rest.get(cid)


@dataclass(frozen=True, slots=True)
class Preparation:
    """How to make ready what `repository` pushes; the pack comes from `make_pack`.

    `publishes`: it is published from this home, which then has to keep all that is published.
    """

    home: Home
    repository: GitRepository
    make_pack: MakePack
    progress: OnProgress
    storing: OnStored
    publishes: bool = True

    def run(
        self, tips: Sequence[ObjectId], tree: PublishedTree, reader: SessionReader, writer: BlockWriting
    ) -> Prepared:
        """Store in `writer` what `tips` reach and the published `tree` lacks.

        Raises:
            ShallowPushError: the history is cut off before it reaches what is published.
            GitError, GitObjectMissingError: the repository is damaged. DiskError: full.
        """
        with converting(self.repository, self.home, writer, tree.manifest.profile) as converter:
            bases = Bases(self.home, self.repository, reader, writer, converter, tree, protects=self.publishes)
            self._refuse_cut_history(tips, bases.commits)
            with self.make_pack(tips, bases.commits) as supply:
                converted = converter.convert(tips, bases.commits, self.progress) if tips else []
                pack = None
                if supply is not None:
                    pack = supply.store(self._rows(tips, bases.commits, converter), writer, self.storing)
            return Prepared(dict(zip(tips, converted, strict=True)), pack, bases.complete)

    def _rows(
        self, tips: Sequence[ObjectId], bases: Sequence[ObjectId], converter: Converter
    ) -> Iterator[tuple[ObjectId, Cid, int]]:
        """Yield what the new commits and tags are mapped as."""
        for line in self.repository.run("rev-list", "--stdin", stdin=revisions_of(tips, bases)).decode().split():
            found = converter.find(ObjectId.parse(line), NodeKind.COMMIT)
            assert found is not None, "it was converted just now"
            yield ObjectId.parse(line), found.cid, found.size
        for tip in tips:
            if (found := converter.find(tip, NodeKind.TAG)) is not None:
                yield tip, found.cid, found.size

    def _refuse_cut_history(self, tips: Sequence[ObjectId], bases: Sequence[ObjectId]) -> None:
        """Raise ShallowPushError if what is new reaches the end of a shallow history."""
        ends = {oid.hex for oid in read_shallow(self.repository)}
        if not ends or not tips:
            return
        for oid in self.repository.run("rev-list", "--stdin", stdin=revisions_of(tips, bases)).decode().split():
            if oid in ends:
                raise ShallowPushError(oid)
