"""What a root reaches: walked to protect it, to check it, or to mark it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import IpvcsError, NotFoundError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block, BlockNotFoundError, BlockReader
from ipvcs.objects.codec_registry import links_of
from ipvcs.storage.interface import BlockWriting

_BATCH: Final = 1000
"""Blocks relied on in one transaction."""


class IncompleteError(NotFoundError):
    """A DAG lacks a block."""

    def __init__(self, root: Cid, missing: Cid) -> None:
        of_root = "" if missing == root else f" of '{root}'"
        super().__init__(
            f"block '{missing}'{of_root} not found",
            hint="it is not in this home's store; put or import it again",
        )
        self.root = root
        self.missing = missing


@dataclass(frozen=True, slots=True)
class Problem:
    """A block of a DAG that can't be used, and why."""

    cid: Cid
    reason: str


def rely_on_closure(session: BlockWriting, root: Cid, progress: Callable[[int], None] | None = None) -> int:
    """Protect every block that `root` reaches; see `rely_on_closures`."""
    return rely_on_closures(session, [root], progress)


def rely_on_closures(session: BlockWriting, roots: Iterable[Cid], progress: Callable[[int], None] | None = None) -> int:
    """Protect every block that `roots` reach for as long as `session` lasts; return how many there are.

    What several roots share is walked once. `progress` is called with the number of blocks so far, once a batch.

    Raises:
        IncompleteError: a block is not there.
        IntegrityError, DecodeError: a block is damaged or its links can't be read.
    """
    seen: set[bytes] = set()
    for root in roots:
        waiting = [] if _identity(root) in seen else [root]
        seen.add(_identity(root))
        while waiting:
            batch = waiting[-_BATCH:]
            del waiting[-_BATCH:]
            for missing in session.rely_on(batch):
                raise IncompleteError(root, missing)
            for cid in batch:
                for child in read_links(session, cid):
                    if (name := _identity(child)) not in seen:
                        seen.add(name)
                        waiting.append(child)
            if progress:
                progress(len(seen))
    return len(seen)


class Marks:
    """What some pins keep: `keys` are multihashes, some 120 bytes of memory a block."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self._walked: set[bytes] = set()

    def add_closure(self, blocks: BlockReader, root: Cid, *, complete: bool) -> None:
        """Mark every block that `root` reaches.

        `complete` False skips what is missing, as an unfinished pin keeps what is there. Mark complete pins first: what
        one walk has seen the next does not look at again.

        Raises:
            IncompleteError: a block is missing though the pin was complete, so what it links to can't be known.
        """
        waiting = [root]
        while waiting:
            cid = waiting.pop()
            if cid.codec == codecs.RAW:
                self.keys.add(cid.multihash)
                continue
            if (name := _identity(cid)) in self._walked:
                continue
            self._walked.add(name)
            self.keys.add(cid.multihash)
            try:
                waiting += read_links(blocks, cid)
            except BlockNotFoundError as exc:
                if complete:
                    raise IncompleteError(root, exc.cid) from exc


def iter_problems(blocks: BlockReader, roots: Iterable[Cid]) -> Iterator[Problem]:
    """Walk all that `roots` reach, checking each block against its CID; yield those missing or damaged, each once."""
    waiting = list(roots)
    seen = {_identity(root) for root in waiting}
    while waiting:
        cid = waiting.pop()
        try:
            links = links_of(cid, Block(cid, blocks.get(cid)).data)
        except IpvcsError as exc:
            yield Problem(cid, str(exc))
            continue
        for child in links:
            if (name := _identity(child)) not in seen:
                seen.add(name)
                waiting.append(child)


def iter_closure(blocks: BlockReader, roots: Iterable[Cid]) -> Iterator[Cid]:
    """Yield each CID that `roots` reach, themselves included, once; what is missing is yielded but not followed."""
    seen: set[bytes] = set()
    waiting = list(roots)
    while waiting:
        cid = waiting.pop()
        if (name := _identity(cid)) in seen:
            continue
        seen.add(name)
        yield cid
        with suppress(BlockNotFoundError):
            waiting += reversed(read_links(blocks, cid))


def read_links(blocks: BlockReader | BlockWriting, cid: Cid) -> list[Cid]:
    """Return the links of a block; a raw block is not even read."""
    if cid.codec == codecs.RAW:
        return []
    return links_of(cid, blocks.get(cid))


def _identity(cid: Cid) -> bytes:
    """Return what tells two blocks' links apart: the same bytes read as another codec have other links."""
    return cid.raw if cid.version else b"\x01\x70" + cid.raw
