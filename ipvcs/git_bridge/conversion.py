"""Converting what is new in a repository into IPFS objects, by Git mapping v1.

    rev-list --objects --in-commit-order --topo-order --reverse --filter=blob:none
        │  (oldest commit first, each followed by the trees that came with it)
        ▼
    a file of ids ─► cat-file --batch ─► groups ─────────────────────► Mapper ─► blocks
                                           └─► blobs they ask for ─► BlobQueue ─┘

A *group* is a commit and the trees that no older commit has. What the entries of these trees say tells which blobs are
needed, and as what kind; once these are mapped, so are the trees, from the leaves up, and the commit. Blobs are asked
for ahead of the groups that wait for them, so that a second process can convert them when there are many. The rest is
rare and read one by one: what only a tag leads to, or an object of another type than its entry says.

Memory: the trees of the groups that wait, `_WAITING_SIZE` of them; two generations of memos, and of links to entries.

Spec: DESIGN §5 "Push" (3); git-rev-list(1), "Object Traversal"
"""

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Final

from ipvcs.git_bridge.blob_conversion import (
    BATCH,
    UNDER_WAY,
    BlobConverter,
    BlobQueue,
    BlobsHere,
    map_verbatim,
)
from ipvcs.git_bridge.blob_worker import BlobWorker
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.memo_table import MemoTable
from ipvcs.git_bridge.object_feed import FedObject, ObjectReader, feeding
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Mapper, Reference, references
from ipvcs.objects.git.modes import KIND_OF_TYPE, NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType, make_payload
from ipvcs.objects.git.tree import ParsedTree
from ipvcs.objects.git.tree_entries import TreeEntry, parse_tree
from ipvcs.storage.home import Home
from ipvcs.storage.interface import BlockWriting

OnProgress = Callable[[int, int], None]
"""Told how many of how many objects are done; of 0: nobody knows yet of how many."""
_WAITING_SIZE: Final = 8 * 1024 * 1024
"""Bytes of trees that wait for blobs. What is made of them for the while takes some four times as much."""
_AHEAD: Final = BATCH * (UNDER_WAY + 1)
"""Blobs asked for after those that a group waits for: enough to keep a second process busy."""
MANY_BLOBS: Final = 2000
"""From so many on a second process pays: it takes 0.2 s to start, and converts some 10,000 a second."""


@dataclass(slots=True)
class _Tree:
    """A tree that waits to be mapped. Of its `entries`, None if it does not parse, `new` came with its group."""

    oid: ObjectId
    payload: bytes
    entries: list[bytes] | None
    new: list[TreeEntry]


@dataclass(slots=True)
class _Group:
    """A commit and the trees that came with it; `asked` blobs have to be done before it can be mapped."""

    commit: tuple[ObjectId, bytes] | None = None
    trees: dict[bytes, _Tree] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    """Those that no group before has, or none that is finished."""
    size: int = 0
    asked: int = 0


@dataclass(frozen=True, slots=True)
class _Listing:
    """How many objects are new: `ordered` ones whose ids are in the file of names, and blobs."""

    ordered: int
    blobs: int


class Converter:
    """Converts objects of one repository into `writer`, and remembers in the home what they became."""

    def __init__(
        self, repository: GitRepository, home: Home, writer: BlockWriting, reader: ObjectReader, profile: str
    ) -> None:
        """Put it together; see `converting`, which brings the reader and closes `resources`. Raises ProfileError."""
        self._repository = repository
        self._home = home
        self._writer = writer
        self._reader = reader
        self._format = repository.object_format
        self._mapper = Mapper(self._format, profile, writer, self._lookup)
        self._memos = MemoTable(home.memos, writer, self._mapper.memo_key, self._flush)
        self._blobs: BlobConverter = BlobsHere(self._mapper, reader)
        self._coming: dict[bytes, _Group] = {}
        """Entries of trees that wait, by what is written, and the first group that has them."""
        self.resources: Final = ExitStack()

    def find(self, oid: ObjectId, kind: NodeKind) -> Mapped | None:
        """Return what `oid` was mapped as, None when it was not, or when it is of another type than `kind` says."""
        return self._memos.find(oid, kind)

    def find_many(self, references: Iterable[Reference]) -> dict[Reference, Mapped]:
        """Return what is known of `references`; see `find`."""
        return self._memos.find_many(references)

    def add(self, oid: ObjectId, mapped: Mapped) -> None:
        """Take over what somebody else says `oid` is mapped as, whose block the caller has checked and stored."""
        self._memos.add(oid, mapped)

    def convert(self, tips: Sequence[ObjectId], known: Sequence[ObjectId], progress: OnProgress) -> list[Mapped]:
        """Map all that `tips` reach and return what they became, in order; durable, and remembered, on return.

        Args:
            tips: objects of any type.
            known: commits whose mapping, and all that it reaches, is stored and protected by the caller.
            progress: told as it goes.

        Raises:
            GitError: git can't list or read the objects. GitObjectMissingError: one is not there.
            ObjectIdMismatchError: the repository is damaged. DiskError: the blocks can't be stored.
            BlobWorkerError: the second process was ended.
        """
        with TemporaryFile(dir=self._home.temporary) as names:
            listing = self._list(tips, known, names)
            if listing.blobs >= MANY_BLOBS and _cores() > 1 and sys.executable:
                worker = BlobWorker.running(self._repository, self._home, self._mapper.profile)
                self._blobs = self.resources.enter_context(worker)
            with feeding(self._repository, names) as objects:
                self._convert_groups(objects, listing, progress)
        mapped = [self._convert_tip(tip) for tip in tips]
        self._memos.flush()
        return mapped

    def _convert_tip(self, tip: ObjectId) -> Mapped:
        for kind in (NodeKind.COMMIT, NodeKind.TAG):  # nearly all are, and then git need not be asked
            if (found := self._memos.find(tip, kind)) is not None:
                return found
        return self._convert_one(tip, KIND_OF_TYPE[self._reader.get(tip).type])

    def _flush(self) -> None:
        self._blobs.flush()
        self._writer.flush()

    def _list(self, tips: Iterable[ObjectId], known: Iterable[ObjectId], names: IO[bytes]) -> _Listing:
        """Write the ids of what is new, but for blobs, to the file `names`, for it to be read from the start."""
        revisions = [tip.hex for tip in tips] + [f"^{each.hex}" for each in known]
        self._repository.run(
            "rev-list", "--objects", "--in-commit-order", "--topo-order", "--reverse",
            "--filter=blob:none", "--filter-print-omitted", "--stdin",
            stdin="".join(f"{each}\n" for each in revisions).encode(), stdout=names,
        )  # fmt: skip
        names.seek(0)
        ordered = end = blobs = 0
        for line in names:
            if line.startswith(b"~"):  # blobs are listed at the end
                blobs += 1
            else:
                ordered += 1
                end += len(line)
        names.truncate(end)
        names.seek(0)
        return _Listing(ordered, blobs)

    def _convert_groups(self, objects: Iterator[FedObject], listing: _Listing, progress: OnProgress) -> None:
        count = _Count(listing, progress)
        blobs = BlobQueue(self._memos, self._blobs, self._writer, count.blobs_are_done)
        waiting = _WaitingGroups(blobs, self._finish)
        group = _Group()
        for fed in objects:
            if fed.type is GitType.COMMIT:
                waiting.add(group)
                group = _Group((fed.oid, make_payload(GitType.COMMIT, fed.body())), size=fed.size)
            elif fed.type is GitType.TREE:
                self._take_tree(group, fed, blobs)
            count.one_was_read()
        waiting.add(group)
        waiting.finish_all()
        count.all_is_done()

    def _take_tree(self, group: _Group, fed: FedObject, blobs: BlobQueue) -> None:
        body = fed.body()
        entries = self._mapper.split_tree(body)
        if entries is None:
            new = list(ParsedTree.of(body, self._format).entries)
        else:
            # What waiting groups bring is asked for, and will be mapped before this one.
            written = [each for each in self._mapper.unlinked(entries) if self._coming.get(each, group) is group]
            self._coming.update(dict.fromkeys(written, group))
            group.entries += written
            new = [parse_tree(each, self._format)[0] for each in written]
        group.trees[fed.oid.raw] = _Tree(fed.oid, make_payload(GitType.TREE, body), entries, new)
        group.size += fed.size
        for entry in new:
            kind = entry.kind
            if kind is not None and kind is not NodeKind.DIRECTORY:
                blobs.ask(Reference(entry.oid, kind))

    def _finish(self, group: _Group) -> None:
        """Map the group's trees, those that others lead to first, and its commit. Its blobs are mapped."""
        pending = list(group.trees)
        while pending:
            tree = group.trees.get(pending[-1])
            if tree is None:
                pending.pop()
                continue
            if waiting := [entry.oid.raw for entry in tree.new if entry.oid.raw in group.trees]:
                pending += waiting
                continue
            pending.pop()
            self._memos.add(tree.oid, self._mapper.map_tree(tree.oid, tree.payload, tree.entries))
            del group.trees[tree.oid.raw]
        if group.commit is not None:
            oid, payload = group.commit
            self._memos.add(oid, self._mapper.map_commit(oid, payload))
        for written in group.entries:
            self._coming.pop(written, None)

    # ---- one by one ----

    def _lookup(self, oid: ObjectId, kind: NodeKind) -> Mapped:
        return self._memos.find(oid, kind) or self._convert_one(oid, kind)

    def _convert_one(self, oid: ObjectId, kind: NodeKind) -> Mapped:
        """Return what `oid` is mapped as, mapping it, and what it leads to, if it was not. See `Lookup` for `kind`."""
        pending = [Reference(oid, kind)]
        found: Mapped | None = None
        while pending:
            found, missing = self._try_one(pending[-1])
            if found is not None:
                pending.pop()
            pending += missing
        assert found is not None
        return found

    def _try_one(self, reference: Reference) -> tuple[Mapped | None, list[Reference]]:
        """Return what it is mapped as, or else what has to be mapped before."""
        oid, kind = reference.oid, reference.kind
        if (found := self._memos.find(oid, kind)) is not None:
            return found, []
        fed = self._reader.get(oid)
        if kind.git_type is not fed.type:
            return self._convert_verbatim(fed), []
        if fed.type is GitType.BLOB:
            mapped = self._mapper.map_blob(oid, kind, fed.size, fed.read)
        else:
            body = fed.body()
            missing = [each for each in references(fed.type, body, self._format) if not self._is_mapped(each)]
            if missing:
                return None, missing
            mapped = self._mapper.map_payload(oid, kind, make_payload(fed.type, body))
        self._memos.add(oid, mapped)
        return mapped, []

    def _is_mapped(self, reference: Reference) -> bool:
        if self._memos.find(reference.oid, reference.kind) is not None:
            return True
        fed = self._reader.get(reference.oid)
        if reference.kind.git_type is fed.type:
            return False
        self._convert_verbatim(fed)
        return True

    def _convert_verbatim(self, fed: FedObject) -> Mapped:
        """Map an object of another type than what refers to it says."""
        if (found := self._memos.find(fed.oid, NodeKind.VERBATIM)) is not None:
            return found
        mapped = map_verbatim(self._mapper, fed)
        self._memos.add(fed.oid, mapped)
        return mapped


class _WaitingGroups:
    """Groups that are read but wait for blobs, oldest first; `finish` is called with each, in that order."""

    def __init__(self, blobs: BlobQueue, finish: Callable[[_Group], None]) -> None:
        self._blobs = blobs
        self._finish = finish
        self._groups: deque[_Group] = deque()
        self._size = 0

    def add(self, group: _Group) -> None:
        """Take a group that is whole, and finish those that have waited long enough."""
        group.asked = self._blobs.asked
        self._groups.append(group)
        self._size += group.size
        while self._groups and self._is_due(self._groups[0]):
            self._finish_oldest()

    def finish_all(self) -> None:
        """Finish all that wait."""
        while self._groups:
            self._finish_oldest()

    def _is_due(self, group: _Group) -> bool:
        ahead = self._blobs.asked - group.asked
        return group.asked <= self._blobs.done or ahead >= _AHEAD or self._size > _WAITING_SIZE

    def _finish_oldest(self) -> None:
        group = self._groups.popleft()
        self._size -= group.size
        self._blobs.wait(group.asked)
        self._finish(group)


class _Count:
    """Adds up what is done of what is listed. Blobs may be fewer, remembered, or more: two kinds of one."""

    def __init__(self, listing: _Listing, progress: OnProgress) -> None:
        self._listing = listing
        self._progress = progress
        self._read = 0
        self._blobs = 0
        self._told = 0

    def one_was_read(self) -> None:
        """A commit or tree was."""
        self._read += 1
        self._tell(self._read + self._blobs)

    def blobs_are_done(self, count: int) -> None:
        """`count` were asked for and are done."""
        self._blobs = min(count, self._listing.blobs)
        self._tell(self._read + self._blobs)

    def all_is_done(self) -> None:
        """So it is, whatever was counted."""
        self._tell(self._listing.ordered + self._listing.blobs)

    def _tell(self, done: int) -> None:
        if done > self._told:
            self._told = done
            self._progress(done, self._listing.ordered + self._listing.blobs)


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def converting(repository: GitRepository, home: Home, writer: BlockWriting, profile: str) -> Iterator[Converter]:
    """Convert objects of `repository` while the block runs. Raises ProfileError, GitNotFoundError."""
    with ObjectReader.open(repository) as reader:
        converter = Converter(repository, home, writer, reader, profile)
        with converter.resources:
            yield converter
