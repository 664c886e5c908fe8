"""Takes objects in by their nodes: has them fetched, proves each, and packs those that the repository lacks.

Spec: DESIGN §3.1 "Fetch checks as it descends"
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Executor, Future
from hashlib import blake2b
from typing import Final

from ipvcs.git_bridge.conversion import OnProgress
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.pack_sink import PackSink
from ipvcs.git_bridge.readers import FetchingReader
from ipvcs.objects.git.check import Checker, Claim
from ipvcs.objects.git.closure import claim_record
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.git.read import open_object

_FILES: Final = frozenset({NodeKind.REGULAR, NodeKind.EXECUTABLE, NodeKind.VERBATIM})
_BATCH: Final = 1000
"""Nodes of one request."""
AHEAD: Final = 2
"""Requests under way, if so much is known: what is read is then seldom waited for."""
_RECORD_SIZE: Final = 16
"""Bytes of the digest by which a proven claim is remembered."""


class ObjectIntake:
    """Objects on their way into `pack`. `facts` knows what is in the repository already; None: nothing is."""

    def __init__(
        self,
        reader: FetchingReader,
        object_format: ObjectFormat,
        profile: str,
        pack: PackSink,
        facts: LocalObjects | None,
        threads: Executor,
        progress: OnProgress,
    ) -> None:
        self.met: set[ObjectId] = set()
        """Trees and blobs that were here, and so were not walked."""
        self._facts = facts
        self._reader = reader
        self._format = object_format
        self._checker = Checker(reader, object_format, profile, remembers=True)
        self._pack = pack
        self._threads = threads
        self._progress = progress
        self._taken: set[bytes] = set()
        self._packed: set[bytes] = set()
        self._here: set[bytes] = set()

    def has(self, oid: ObjectId) -> bool:
        """Whether the repository had `oid` before."""
        if self._facts is None or oid.raw in self._packed:
            return False
        if oid.raw in self._here:
            return True
        if found := self._facts.has(oid):
            self._here.add(oid.raw)
        return found

    def is_taken(self, claim: Claim) -> bool:
        """Whether just this was proven before."""
        return _record(claim) in self._taken

    def take(self, claim: Claim) -> list[Claim]:
        """Prove a node, and pack its object unless it is here; return the claims on what it leads to.

        Raises:
            GitNodeError: it is not what the claim says.
            MissingLocallyError, RemoteCommandError: a block can't be had.
        """
        proven = self._checker.prove(claim)
        self._taken.add(_record(claim))
        oid = claim.oid
        if oid.raw not in self._packed and not self.has(oid):
            self._packed.add(oid.raw)
            if proven.body is not None:
                self._pack.add_whole(proven.type, proven.body)
            else:
                found = open_object(self._reader, claim.cid, oid, self._format)
                self._pack.add(found.type, found.size, found.read)
            self._progress(self._pack.count, 0)
        return proven.children

    def take_all(self, claims: Iterable[Claim]) -> None:
        """Take trees and blobs, and all that they lead to; what is here, and below it, is left out.

        Nodes are fetched some batches before they are read.
        """
        on_the_way: deque[tuple[list[Claim], Future[None]]] = deque()
        waiting = deque(self._news(claims))
        while on_the_way or waiting:
            while waiting and len(on_the_way) < AHEAD:
                batch = [waiting.popleft() for _ in range(min(_BATCH, len(waiting)))]
                on_the_way.append((batch, self._threads.submit(self._bring, batch)))
            batch, brought = on_the_way.popleft()
            brought.result()
            for claim in batch:
                waiting += self._news(self.take(claim))
                if len(waiting) >= _BATCH and len(on_the_way) < AHEAD - 1:
                    more = [waiting.popleft() for _ in range(_BATCH)]
                    on_the_way.append((more, self._threads.submit(self._bring, more)))

    def _news(self, claims: Iterable[Claim]) -> Iterator[Claim]:
        """Yield those of `claims` that have not been taken, and are not here."""
        for claim in claims:
            record = _record(claim)
            if record in self._taken:
                continue
            if self.has(claim.oid):
                self.met.add(claim.oid)
            else:
                self._taken.add(record)
                yield claim

    def _bring(self, claims: Collection[Claim]) -> None:
        """Have the nodes of `claims` fetched: of files all that they reach. Runs in a thread."""
        for recursive in (False, True):
            cids = [claim.cid for claim in claims if (claim.kind in _FILES) is recursive]
            if missing := self._reader.missing_of(cids):
                self._reader.fetch_all(missing, recursive=recursive)


def _record(claim: Claim) -> bytes:
    """Return what tells `claim` from all others, short: there is one for every object."""
    return blake2b(claim_record(claim), digest_size=_RECORD_SIZE).digest()
