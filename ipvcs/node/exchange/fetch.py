"""Fetches DAGs into the home: everything that roots reach and the store lacks, and nothing twice.

    frontier ─take─► here? (thread) ─┬─ yes: its links ─► frontier
                                     └─ no: want ─► arrivals ─► their links ─► frontier

What has arrived is flushed to the disk every `FLUSH_INTERVAL`, so that commands that wait for it can go on, and whoever
interrupts a fetch finds the most of it there the next time. The caller's lease protects it from garbage collection from
the moment it is flushed.
"""

import math
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, NoReturn

import anyio

from ipvcs.errors import IpvcsError, LimitError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.dag_frontier import DagFrontier
from ipvcs.node.exchange.interface import BlockUnavailableError, Exchange, FetchSession
from ipvcs.node.exchange.local_blocks import Arrival, LocalBlocks
from ipvcs.objects.codec_registry import links_of
from ipvcs.storage.interface import BlockWriting

WINDOW: Final = 2048
"""Blocks wanted at once: twice what one peer takes."""
_LOOK: Final = 512
"""Blocks looked up by one hop to a thread."""
FLUSH_INTERVAL: Final = 0.5
"""Seconds between flushes while blocks arrive."""
PROGRESS_INTERVAL: Final = 1.0
"""Seconds between words about the progress while nothing arrives."""
STALL_TIMEOUT: Final = 60.0
"""Seconds without a block after which a fetch gives up."""
LONELY_TIMEOUT: Final = 10.0
"""The same when no peer is connected and nobody can be asked for providers: long enough to come up and bootstrap."""


class DagTooLargeError(LimitError):
    """More belongs to what is fetched than whoever asked for it wants."""

    def __init__(self, root: Cid) -> None:
        super().__init__(f"more belongs to '{root}' than was to be fetched", hint="fetch it without limits")
        self.root = root


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What of a DAG is fetched at most: bytes of blocks that come, give or take those under way, and links of all its
    blocks, those that are here included.
    """

    bytes: float = math.inf
    links: float = math.inf


NO_LIMITS: Final = FetchLimits()


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How a fetch stands. Blocks that were here already count as `local`."""

    blocks: int
    bytes: int
    local: int
    known: int
    """Blocks known to belong to it, so far."""
    peers: int
    """Peers that send."""


OnProgress = Callable[[FetchProgress], Awaitable[None]]


async def _ignore(_progress: FetchProgress) -> None:
    """Tell nobody."""


async def fetch_dag(
    exchange: Exchange,
    local: LocalBlocks,
    roots: Sequence[Cid],
    *,
    recursive: bool = True,
    timeout: float = STALL_TIMEOUT,
    limits: FetchLimits = NO_LIMITS,
    on_progress: OnProgress = _ignore,
) -> FetchProgress:
    """Bring all that `roots` reach, or the roots alone, into the store, flushed and so visible to others on return.

    Args:
        exchange: where missing blocks come from.
        local: the store.
        roots: at least one; providers are searched for the first.
        recursive: follow links; blocks that are here are read for theirs.
        timeout: seconds without any block.
        limits: what more than that is not wanted of the DAG.
        on_progress: awaited after each flush, so what it tells of can be read.

    Raises:
        BlockUnavailableError: nobody sends a block; the message says whom we asked.
        DagTooLargeError: it is beyond `limits`.
        DecodeError, UnsupportedCodecError: a block whose links can't be read; what links nothing unreadable is here.
        DiskError: full, read-only.
    """
    fetch = _Fetch(local, roots, recursive=recursive, limits=limits)
    async with local.writing() as writer:
        try:
            async with exchange.session(roots[0], writer) as session:
                await fetch.run(session, writer, timeout, on_progress)
        finally:
            with anyio.CancelScope(shield=True):  # what did arrive is not to be fetched again
                await local.run(writer.flush)
        progress = fetch.progress(session)
    await on_progress(progress)
    return progress


class _Fetch:
    def __init__(self, local: LocalBlocks, roots: Sequence[Cid], *, recursive: bool, limits: FetchLimits) -> None:
        self._local = local
        self._root = roots[0]
        self._limits = limits
        self._frontier = DagFrontier(roots)
        self._recursive = recursive
        self._local_count = 0

    async def run(self, session: FetchSession, writer: BlockWriting, timeout: float, on_progress: OnProgress) -> None:
        told = anyio.current_time()
        waited = 0.0  # for blocks: looking at what is here, and a reader that is slow, may take as long as they like
        while True:
            while session.wanted < WINDOW and (batch := self._frontier.take(_LOOK)):
                missing, links = await self._local.run(partial(self._look, writer, batch))
                self._local_count += len(batch) - len(missing)
                if self._recursive:
                    self._expand(links)
                session.want(missing)
                if (now := anyio.current_time()) - told >= PROGRESS_INTERVAL:  # a large DAG that is here takes minutes
                    told = now
                    await on_progress(self.progress(session))
            if not session.wanted:
                return
            arrivals: Sequence[Arrival] = ()
            since = anyio.current_time()
            with anyio.move_on_after(PROGRESS_INTERVAL):
                arrivals = await session.arrivals()
            now = anyio.current_time()
            if arrivals:
                waited = 0.0
                self._follow(arrivals)
                if session.stat().bytes > self._limits.bytes:
                    raise DagTooLargeError(self._root)
            else:
                waited += now - since
                if waited >= min(timeout, timeout if session.has_hope() else LONELY_TIMEOUT):
                    self._give_up(session, waited)
            if now - told >= (FLUSH_INTERVAL if arrivals else PROGRESS_INTERVAL):
                progress = self.progress(session)  # not what comes during the flush: that is in no store yet
                await self._local.run(writer.flush)
                told = now
                await on_progress(progress)

    def _follow(self, arrivals: Sequence[Arrival]) -> None:
        for arrival in arrivals:
            if arrival.problem is not None:
                raise arrival.problem
        if self._recursive:
            self._expand(arrival.links for arrival in arrivals if arrival.links)

    def _expand(self, links: Iterable[Iterable[Cid]]) -> None:
        self._frontier.expand_all(links)
        if self._frontier.linked > self._limits.links:  # what is remembered of them is what costs memory
            raise DagTooLargeError(self._root)

    def _give_up(self, session: FetchSession, seconds: float) -> NoReturn:
        oldest = session.oldest_wanted()
        assert oldest is not None
        raise BlockUnavailableError(oldest, seconds, session.stat())

    def _look(self, writer: BlockWriting, batch: Sequence[Cid]) -> tuple[list[Cid], list[list[Cid]]]:
        """Protect what is here and return what is not, and the links of what is. Runs in a thread."""
        missing = writer.rely_on(batch)
        absent = set(missing)
        links: list[list[Cid]] = []
        if self._recursive:
            for cid in batch:
                if cid not in absent and cid.codec != codecs.RAW:
                    try:
                        links.append(links_of(cid, writer.get(cid)))
                    except IpvcsError as exc:
                        exc.add_note(f"while reading the links of {cid}")
                        raise
        return missing, links

    def progress(self, session: FetchSession) -> FetchProgress:
        stat = session.stat()
        return FetchProgress(stat.blocks, stat.bytes, self._local_count, self._frontier.seen, stat.sources)
