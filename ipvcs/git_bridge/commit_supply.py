"""Commits of a published repository for whoever walks its history: found by id, and fetched many at once.

A commit names its parents, so a walk alone waits a round trip a generation. The packs' tables of commits name all. The
first few commits are fetched as they come, since many who ask want no more; from then on all that a table names. Tables
are hints: what they say is believed of no commit, and of what they name some may be gone by now.

Spec: DESIGN §5 "fetch commits without a round trip per generation"
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from ipvcs.client.client import RemoteCommandError
from ipvcs.errors import DecodeError, IntegrityError, NotFoundError
from ipvcs.git_bridge.commits_table import CommitsTable, read_commits
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.git_bridge.readers import FetchingReader
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.check import Claim
from ipvcs.objects.git.node import read_node
from ipvcs.objects.git.object_id import ObjectId

ALONE: Final = 16
"""Commits that are fetched as they come: as many as somebody looks at who wants the newest."""
ALL: Final = 1 << 62
"""So many that tables are never looked into."""
_BATCH: Final = 1000
"""Nodes of one request."""
_THREADS: Final = 2
"""Requests under way."""
_LINKED: Final = frozenset({b"author", b"committer", b"payload"})
"""What of a commit lies in further blocks if it is long."""

Watch = Callable[[int], AbstractContextManager[Callable[[int], None]]]
"""Shows, while its block runs, that so many commits are fetched; the function is called with how many have come."""


class CommitSupply:
    """Fetches commits for a walk; `tree` is the repository they are of, None when only a commit is known."""

    def __init__(
        self,
        reader: FetchingReader,
        tree: PublishedTree | None = None,
        watch: Watch | None = None,
        *,
        alone: int = ALONE,
        wants: Callable[[ObjectId], bool] = lambda _oid: True,
    ) -> None:
        """Fetch `alone` commits as they come, and then what tables name and `wants` says yes to."""
        self._alone = alone
        self._wants = wants
        self._reader = reader
        self._tree = tree
        self._watch = watch or (lambda _total: nullcontext(lambda _count: None))
        self._links = (
            [] if tree is None else [tree.packs[f"{pack.name}.commits".encode()] for pack in tree.manifest.packs]
        )
        self._tables: list[CommitsTable] = []
        self._used: set[int] = set()
        self._fetched = 0

    def find(self, oid: ObjectId) -> Cid | None:
        """Return the node that a table claims to be the commit or tag `oid`. Errors as `read_commits`."""
        return next((row[0] for table in self._read_tables() if (row := table.find(oid)) is not None), None)

    def find_abbreviated(self, digits: str) -> dict[ObjectId, Cid]:
        """Return all commits and tags whose ids begin with these hex digits. Errors as `read_commits`."""
        rows = (row for table in self._read_tables() for row in table)
        return {oid: cid for oid, cid, _size in rows if oid.hex.startswith(digits)}

    def bring(self, claims: Sequence[Claim]) -> None:
        """Have the nodes of `claims` in the home, and maybe more commits of the same repository.

        Raises:
            MissingLocallyError, RemoteCommandError: one of them can't be had.
            CommitsTableError, CommitsTableTooLargeError: a table is malformed.
        """
        missing = self._reader.missing_of(claim.cid for claim in claims)
        if not missing:
            return
        self._fetched += len(missing)
        if self._fetched > self._alone and self._tree is not None:
            for claim in claims:
                if self._reader.missing_of([claim.cid]):
                    self._bring_table(claim)
            missing = self._reader.missing_of(missing)
        self._fetch(missing)

    def _bring_table(self, claim: Claim) -> None:
        """Fetch all commits of the table that names the commit of `claim`, once."""
        for number, table in enumerate(self._read_tables()):
            if number not in self._used and (row := table.find(claim.oid)) is not None and row[0] == claim.cid:
                self._used.add(number)
                try:
                    self._fetch_many(self._reader.missing_of(cid for oid, cid, _size in table if self._wants(oid)))
                except (NotFoundError, RemoteCommandError, DecodeError, IntegrityError):
                    continue  # some may be of refs that are long gone: then each that is needed is fetched by itself
                return

    def _fetch_many(self, cids: Sequence[Cid]) -> None:
        batches = [cids[start : start + _BATCH] for start in range(0, len(cids), _BATCH)]
        threads = ThreadPoolExecutor(_THREADS)
        with self._watch(len(cids)) as advance:
            try:
                for batch, _done in zip(batches, threads.map(self._fetch, batches), strict=True):
                    advance(len(batch))
            finally:
                threads.shutdown(wait=False, cancel_futures=True)  # the reader ends what is under way when it is closed

    def _fetch(self, cids: Sequence[Cid]) -> None:
        """Fetch the nodes `cids`, and what else of the commits lies in blocks of its own. Threads may."""
        if not cids:
            return
        self._reader.fetch_all(cids, recursive=False)
        linked = {
            link.cid
            for cid in cids
            if (block := read_node(self._reader, cid).block) is not None
            for link in block.links
            if link.name in _LINKED
        }
        if missing := self._reader.missing_of(sorted(linked)):
            self._reader.fetch_all(missing)

    def _read_tables(self) -> Iterator[CommitsTable]:
        """Yield the tables, that of the newest pack first, each read when it is asked for."""
        yield from self._tables
        while self._tree is not None and len(self._tables) < len(self._links):
            link = self._links[-1 - len(self._tables)]
            self._tables.append(read_commits(self._reader, link.cid, self._tree.manifest.object_format))
            yield self._tables[-1]
