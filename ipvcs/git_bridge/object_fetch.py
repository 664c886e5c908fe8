"""One fetch from the object graph: every object by its own node, proven from the refs down, into a pack of our making.

    refs ─► tags ─► commits ─┬─► trees ─► trees and blobs, level by level
                             └─► parents

Slower than packs, and independent of them: it needs no publisher's pack, only the objects. Nobody waits a round trip a
generation: the tables of commits name all commits at once, and each level of trees is asked for as a whole.

Spec: DESIGN §5 "Fetch", §3.1 "Fetch checks as it descends"
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, Protocol

from ipvcs.git_bridge.commits_table import read_commits
from ipvcs.git_bridge.fetch import LyingRepositoryError
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.object_feed import ObjectReader
from ipvcs.git_bridge.pack_writer import PackWriter
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
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


_FILES: Final = frozenset({NodeKind.REGULAR, NodeKind.EXECUTABLE, NodeKind.VERBATIM})
_BATCH: Final = 100
"""Nodes of one request."""
_THREADS: Final = 4
"""Requests under way: what is read is then seldom waited for."""


class FetchingReader(BlockReader, Protocol):
    """A reader that can bring many blocks at once; threads may use it together."""

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
        threads = stack.enter_context(ThreadPoolExecutor(_THREADS))
        pack = PackWriter(file, tree.manifest.object_format, threads)
        walk = _Walk(reader, tree, LocalObjects(repository, objects), pack, threads, progress)
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
        threads: Executor,
        progress: Callable[[int], None],
    ) -> None:
        self._reader = reader
        self._tree = tree
        self._facts = None if facts.is_empty() else facts
        self._pack = pack
        self._threads = threads
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
        if missing := [cids[oid] for oid in wanted if not self._reader.has(cids[oid])]:
            self._reader.fetch_all(missing, recursive=False)
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
                table = read_commits(self._reader, link.cid, self._format)
                new = [Claim(oid, NodeKind.COMMIT, cid, size) for oid, cid, size in table if not self._has(oid)]
                for _claim in self._bring(new):
                    pass

    def _walk_content(self, level: Sequence[Claim]) -> None:
        while level:
            new = {claim_record(claim): claim for claim in level}
            level = [claim for record, claim in new.items() if record not in self._checked and not self._is_here(claim)]
            level = [child for claim in self._bring(level) for child in self._take(claim)]

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
        return claim.oid.raw not in self._packed and self._has(claim.oid)

    def _has(self, oid: ObjectId) -> bool:
        return self._facts is not None and self._facts.has(oid)

    def _bring(self, claims: Sequence[Claim]) -> Iterator[Claim]:
        """Yield `claims` when their nodes are here; those that are not are fetched, some batches ahead."""
        batches = [claims[start : start + _BATCH] for start in range(0, len(claims), _BATCH)]
        ahead: deque[Future[None]] = deque()
        for index, batch in enumerate(batches):
            for coming in batches[index + len(ahead) : index + _THREADS]:
                ahead.append(self._threads.submit(self._fetch, coming))
            ahead.popleft().result()
            yield from batch

    def _fetch(self, claims: Sequence[Claim]) -> None:
        """Have the nodes of `claims` fetched: of files all that they reach. Runs in a thread."""
        missing = [claim for claim in claims if not claim.cid.is_identity and not self._reader.has(claim.cid)]
        for recursive in (False, True):
            if cids := [claim.cid for claim in missing if (claim.kind in _FILES) is recursive]:
                self._reader.fetch_all(cids, recursive=recursive)
