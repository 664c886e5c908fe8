"""What fetches need of the home's blocks, behind which are the network's: each takes the narrowest."""

from collections.abc import Iterable
from typing import Protocol

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader


class ExpectingReader(BlockReader, Protocol):
    """A reader that can be told what will be read as a whole, to have all of it under way at once."""

    def expect(self, root: Cid) -> None:
        """Everything that `root` reaches will be read."""


class FetchingReader(BlockReader, Protocol):
    """A reader that can bring many blocks at once; threads may use it together."""

    def missing_of(self, cids: Iterable[Cid]) -> list[Cid]:
        """Return those of `cids` whose blocks are not here."""

    def fetch_all(self, roots: Iterable[Cid], *, recursive: bool = True, timeout: float | None = None) -> None:
        """Return when `roots`, and what they reach if `recursive`, are here. `timeout`: seconds without a block."""


class CancellableReader(FetchingReader, Protocol):
    """One whose requests other threads wait for."""

    def cancel(self) -> None:
        """Let what is under way end soon, with an error."""


class FetchReader(ExpectingReader, CancellableReader, Protocol):
    """All of it."""
