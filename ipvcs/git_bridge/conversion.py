"""Converting what is new in a repository into IPFS objects, by Git mapping v1.

    rev-list --objects --in-commit-order --reverse ─► a file of ids ─► cat-file --batch ─► groups ─► Mapper ─► blocks
              (oldest commit first, each followed by what came with it)                     ▲
                                                       objects asked for one by one ────────┘ what no group holds

A *group* is a commit and the objects that no older commit has: its trees arrive before what they lead to, so the kinds
of its blobs are known when these stream by, and when it is whole the trees are mapped from the leaves up. What a tree
leads to beyond its group was converted with an older commit. The rest is rare and read again: a blob that gets a second
kind by a change of its mode, what only a tag leads to.

Memory: the trees of one commit, and two generations of memos.

Spec: DESIGN §5 "Push" (3); git-rev-list(1), "Object Traversal"
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from tempfile import TemporaryFile
from typing import IO, Final

from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.memo_table import MemoTable
from ipvcs.git_bridge.object_feed import FedObject, ObjectReader, feeding
from ipvcs.objects.chunkers.interface import Read
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Mapper, Reference, references
from ipvcs.objects.git.modes import KIND_OF_TYPE, NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType, encode_header, make_payload
from ipvcs.objects.git.tree_entries import TreeEntry
from ipvcs.storage.home import Home
from ipvcs.storage.interface import BlockWriting

OnProgress = Callable[[int, int], None]
"""Told how many of how many objects are done; of 0: nobody knows yet of how many."""
_SMALL: Final = 1024 * 1024
"""Bytes of a blob that is held whole, to be mapped as several kinds."""
_COPY_SIZE: Final = 1024 * 1024


@dataclass(slots=True)
class _Tree:
    """A tree that waits to be mapped; `entries` and `new` as `Mapper.split_tree` gives them."""

    oid: ObjectId
    payload: bytes
    entries: list[bytes] | None
    new: list[TreeEntry]


@dataclass(slots=True)
class _Group:
    """A commit and what came with it, until it is whole."""

    commit: tuple[ObjectId, bytes] | None = None
    trees: dict[bytes, _Tree] = field(default_factory=dict)
    kinds: dict[bytes, set[NodeKind]] = field(default_factory=dict)
    """By id, as what blobs that are to come are needed."""


class Converter:
    """Converts objects of one repository into `writer`, and remembers in the home what they became."""

    def __init__(
        self, repository: GitRepository, home: Home, writer: BlockWriting, reader: ObjectReader, profile: str
    ) -> None:
        """Put it together; see `converting`, which brings the reader. Raises ProfileError."""
        self._repository = repository
        self._home = home
        self._reader = reader
        self._format = repository.object_format
        self._mapper = Mapper(self._format, profile, writer, self._lookup)
        self._memos = MemoTable(home.memos, writer, self._mapper.memo_key)

    def find(self, oid: ObjectId, kind: NodeKind) -> Mapped | None:
        """Return what `oid` was mapped as, None when it was not, or when it is of another type than `kind` says."""
        return self._memos.find(oid, kind)

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
            ObjectIdMismatchError: the repository is damaged.
        """
        with TemporaryFile(dir=self._home.temporary) as names:
            total = self._list(tips, known, names)
            with feeding(self._repository, names) as objects:
                self._convert_groups(objects, total, progress)
        mapped = [self._convert_tip(tip) for tip in tips]
        self._memos.flush()
        return mapped

    def _convert_tip(self, tip: ObjectId) -> Mapped:
        for kind in (NodeKind.COMMIT, NodeKind.TAG):  # nearly all are, and then git need not be asked
            if (found := self._memos.find(tip, kind)) is not None:
                return found
        return self._convert_one(tip, KIND_OF_TYPE[self._reader.get(tip).type])

    def _list(self, tips: Iterable[ObjectId], known: Iterable[ObjectId], names: IO[bytes]) -> int:
        """Write the ids of what is new to the file `names`, for it to be read from the start; return how many."""
        revisions = [tip.hex for tip in tips] + [f"^{each.hex}" for each in known]
        self._repository.run(
            "rev-list", "--objects", "--in-commit-order", "--topo-order", "--reverse", "--stdin",
            stdin="".join(f"{each}\n" for each in revisions).encode(), stdout=names,
        )  # fmt: skip
        names.seek(0)
        count = sum(piece.count(b"\n") for piece in iter(lambda: names.read(_COPY_SIZE), b""))
        names.seek(0)
        return count

    def _convert_groups(self, objects: Iterator[FedObject], total: int, progress: OnProgress) -> None:
        group = _Group()
        for done, fed in enumerate(objects):
            if fed.type is GitType.COMMIT:
                self._finish(group)
                group = _Group((fed.oid, make_payload(GitType.COMMIT, fed.body())))
            elif fed.type is GitType.TREE:
                self._take_tree(group, fed)
            elif fed.type is GitType.BLOB:
                self._convert_blob(fed, group.kinds.pop(fed.oid.raw, ()))
            progress(done + 1, total)
        self._finish(group)

    def _take_tree(self, group: _Group, fed: FedObject) -> None:
        body = fed.body()
        tree = _Tree(fed.oid, make_payload(GitType.TREE, body), *self._mapper.split_tree(body))
        group.trees[fed.oid.raw] = tree
        for entry in tree.new:
            kind = entry.kind
            if kind is not None and kind is not NodeKind.DIRECTORY:
                group.kinds.setdefault(entry.oid.raw, set()).add(kind)

    def _convert_blob(self, fed: FedObject, kinds: Iterable[NodeKind]) -> None:
        wanted = sorted(kinds)
        if fed.size > _SMALL:
            wanted, read = wanted[:1], fed.read  # as anything else it is read again when that is looked up
            for kind in wanted:
                self._memos.add(fed.oid, self._mapper.map_blob(fed.oid, kind, fed.size, read))
            return
        body = fed.body() if wanted else b""
        for kind in wanted:
            self._memos.add(fed.oid, self._mapper.map_held_blob(fed.oid, kind, body))

    def _finish(self, group: _Group) -> None:
        """Map the group's trees, those that others lead to first, and its commit."""
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
        header = encode_header(fed.type, fed.size)
        mapped = self._mapper.map_verbatim(fed.oid, len(header) + fed.size, _after(header, fed.read))
        self._memos.add(fed.oid, mapped)
        return mapped


def _after(start: bytes, read: Read) -> Read:
    """Return a `read` function that gives `start` and then what `read` gives."""
    left = [start]

    def read_both(size: int) -> bytes:
        if not left:
            return read(size)
        piece, rest = left[0][:size], left[0][size:]
        left[:] = [rest] if rest else []
        return piece

    return read_both


@contextmanager
def converting(repository: GitRepository, home: Home, writer: BlockWriting, profile: str) -> Iterator[Converter]:
    """Convert objects of `repository` while the block runs. Raises ProfileError, GitNotFoundError."""
    with ObjectReader.open(repository) as reader:
        yield Converter(repository, home, writer, reader, profile)
