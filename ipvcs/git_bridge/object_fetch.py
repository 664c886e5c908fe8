"""One fetch from the object graph: every object by its own node, proven from the refs down, into a pack of our making.

    refs ─► tags ─► commits ─┬─► trees ─► trees and blobs, level by level
                             └─► parents

Slower than packs, and independent of them: it needs no publisher's pack, only the objects. Nobody waits a round trip a
generation: the tables of commits name all commits at once, and each level of trees is asked for as a whole.

Spec: DESIGN §5 "Fetch", §3.1 "Fetch checks as it descends"
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, Protocol

from ipvcs.git_bridge.commits_table import CommitsTable
from ipvcs.git_bridge.fetch import LyingRepositoryError
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.object_feed import ObjectReader
from ipvcs.git_bridge.pack_writer import PackWriter
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.check import Checker, Claim
from ipvcs.objects.git.closure import claim_record
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.node import NodeForm, read_node
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.read import open_object

_CHUNK: Final = 1000
"""Commits whose trees are walked together: what bounds the memory for levels of trees."""
_KINDS: Final = {
    NodeForm.COMMIT: NodeKind.COMMIT,
    NodeForm.TAG: NodeKind.TAG,
    NodeForm.FILE: NodeKind.REGULAR,
    NodeForm.TREE: NodeKind.DIRECTORY,
    NodeForm.OPAQUE_TREE: NodeKind.DIRECTORY,
    NodeForm.SYMLINK: NodeKind.SYMLINK,
}


class FetchingReader(BlockReader, Protocol):
    """A reader that can bring many blocks at once."""

    def has(self, cid: Cid) -> bool:
        """Whether the block is here already."""

    def fetch_all(self, roots: Iterable[Cid], *, recursive: bool = True) -> None:
        """Return when `roots`, and what they reach if `recursive`, are here."""


def fetch_objects(
    repository: GitRepository,
    reader: FetchingReader,
    tree: PublishedTree,
    wanted: Sequence[ObjectId],
    directory: Path,
    progress: Callable[[int], None],
) -> None:
    """Bring what `wanted` reach, and `repository` lacks, into it. `directory` takes a temporary file.

    Raises:
        LyingRepositoryError: one of `wanted` is no ref's.
        GitNodeError, ObjectIdMismatchError, DecodeError: a node is not what it should be; nothing was changed.
        MissingLocallyError, RemoteCommandError: a block can't be had.
    """
    with ExitStack() as stack:
        objects = stack.enter_context(ObjectReader.open(repository))
        file = stack.enter_context(TemporaryFile(dir=directory))
        pack = PackWriter(file, tree.manifest.object_format)
        walk = _Walk(reader, tree, LocalObjects(repository, objects), pack, progress)
        walk.run(wanted)
        if pack.count:
            pack.finish()
            with repository.start("index-pack", "--stdin", *repository.index_pack_options(), stdin=file) as process:
                assert process.stdout is not None
                process.stdout.read()


class _Walk:
    def __init__(
        self,
        reader: FetchingReader,
        tree: PublishedTree,
        facts: LocalObjects,
        pack: PackWriter,
        progress: Callable[[int], None],
    ) -> None:
        self._reader = reader
        self._tree = tree
        self._facts = facts
        self._pack = pack
        self._progress = progress
        self._format = tree.manifest.object_format
        self._checker = Checker(reader, self._format, tree.manifest.profile)
        self._checked: set[bytes] = set()
        """What was proven, by its record."""
        self._packed: set[bytes] = set()

    def run(self, wanted: Sequence[ObjectId]) -> None:
        """Pack all that `wanted` reach."""
        cids = {ref.oid: ref.cid for ref in self._tree.refs.values()}
        if lost := [oid for oid in wanted if oid not in cids]:
            raise LyingRepositoryError(lost[0])
        self._bring([cids[oid] for oid in wanted], recursive=False)
        self._bring_commits()
        pending = [Claim(oid, self._kind(cids[oid]), cids[oid]) for oid in wanted]
        content: list[Claim] = []
        commits = 0
        while pending:
            claim = pending.pop()
            if claim.kind not in (NodeKind.COMMIT, NodeKind.TAG):
                content.append(claim)
                continue
            pending += self._take(claim)
            commits += 1
            if commits % _CHUNK == 0:
                self._walk_content(content)
                content = []
        self._walk_content(content)

    def _kind(self, cid: Cid) -> NodeKind:
        return _KINDS[read_node(self._reader, cid).form]

    def _bring_commits(self) -> None:
        """Have all commits on the way that git has not: each names its parents, and nobody should wait for that."""
        for name, link in self._tree.packs.items():
            if name.endswith(b".commits"):
                table = CommitsTable(FileReader(self._reader, link.cid).readall(), self._format)
                self._bring((cid for oid, cid, _size in table if not self._facts.has(oid)), recursive=False)

    def _walk_content(self, level: Sequence[Claim]) -> None:
        while level:
            new = {claim_record(claim): claim for claim in level}
            level = [claim for record, claim in new.items() if record not in self._checked and not self._is_here(claim)]
            files = (claim.cid for claim in level if claim.kind is not NodeKind.DIRECTORY)
            self._bring(files, recursive=True)
            self._bring((claim.cid for claim in level if claim.kind is NodeKind.DIRECTORY), recursive=False)
            level = [child for claim in level for child in self._take(claim)]

    def _take(self, claim: Claim) -> list[Claim]:
        """Prove a node and pack its object; return the claims on what it leads to, or none if git has it."""
        record = claim_record(claim)
        if record in self._checked or self._is_here(claim):
            return []
        children = self._checker.check(claim)
        self._checked.add(record)
        if claim.oid.raw not in self._packed:
            self._packed.add(claim.oid.raw)
            found = open_object(self._reader, claim.cid, claim.oid, self._format)
            self._pack.add(found.type, found.size, found.read)
            self._progress(self._pack.count)
        return children

    def _is_here(self, claim: Claim) -> bool:
        return claim.oid.raw not in self._packed and self._facts.has(claim.oid)

    def _bring(self, cids: Iterable[Cid], *, recursive: bool) -> None:
        """Have blocks that are not here fetched, all at once."""
        if missing := [cid for cid in cids if not cid.is_identity and not self._reader.has(cid)]:
            self._reader.fetch_all(missing, recursive=recursive)
