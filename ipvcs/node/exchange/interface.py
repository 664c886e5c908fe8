"""What the exchange offers to the rest of the program: sessions that fetch blocks into the home's store."""

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ipvcs.errors import UnavailableError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.local_blocks import Arrival
from ipvcs.storage.interface import BlockWriting


@dataclass(frozen=True, slots=True)
class SessionStat:
    """How a session stands: blocks and bytes received, and whom it has asked."""

    blocks: int
    bytes: int
    sources: int
    """Connected peers that have shown to have some of it."""
    asked: int
    """Connected peers that may be asked."""
    providers: int
    """Peers that routing named as providers."""
    reached: int
    """Those of them that could be connected to."""


class BlockUnavailableError(UnavailableError):
    """Nobody who could be reached sends a block."""

    def __init__(self, cid: Cid, seconds: float, stat: SessionStat) -> None:
        who = f"{_count(stat.asked, 'connected peer was', 'connected peers were')} asked"
        if stat.providers:
            found = _count(stat.providers, "provider was", "providers were")
            who += f", and {found} found, of which {stat.reached} could be reached"
        else:
            who += ", and no provider was found"
        super().__init__(
            f"nobody sent block '{cid}' within {_count(round(seconds), 'second', 'seconds')}: {who}",
            hint="is a peer that has it online? `ipvcs swarm connect <address>` reaches one that you know; what was "
            "fetched is kept, so trying again goes on from there",
        )
        self.cid = cid
        self.stat = stat


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


class FetchSession(Protocol):
    """Blocks on their way into a writer of the store."""

    def want(self, cids: Iterable[Cid]) -> None:
        """Fetch the blocks of `cids`, in this order as far as that costs no time."""

    @property
    def wanted(self) -> int:
        """How many are wanted and not here."""

    def oldest_wanted(self) -> Cid | None:
        """Return what has been wanted longest, None when nothing is."""

    def has_hope(self) -> bool:
        """Whether there is a connected peer to ask, or somebody to ask for providers."""

    async def arrivals(self) -> Sequence[Arrival]:
        """Wait for blocks that were verified and put to the writer, and return those not returned before.

        Cancelling loses nothing. Raises what the writer raised, as DiskFullError.
        """

    def stat(self) -> SessionStat:
        """Return how it stands."""


class Exchange(Protocol):
    """Where blocks that the store lacks come from."""

    def session(self, root: Cid, writer: BlockWriting) -> AbstractAsyncContextManager[FetchSession]:
        """Open a session for what `root` reaches. Blocks go to `writer`, which outlives it; leaving the block forgets
        what is still wanted.
        """
