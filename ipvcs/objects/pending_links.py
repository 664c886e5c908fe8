"""The stack of a depth-first walk: links not yet followed, in a bounded amount of memory.

A recursive walk dies at the first thousand levels, and a flat stack of links grows with every sibling on the way down:
a node of 2 MiB holds 50,000. Here each level keeps its links and a position, and is dropped before its last link is
followed, so a chain needs one level however long it is. Above a limit the levels nearest the root forget their links
and are read again when the walk comes back to them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from ipvcs.multiformats.cid import Cid

MAX_HELD: Final = 1024 * 1024
"""Links kept in memory over all levels, some 100 MiB at worst; above it levels are forgotten."""

LinkT = TypeVar("LinkT")


@dataclass(slots=True)
class _Level(Generic[LinkT]):
    node: Cid
    depth: int
    links: Sequence[LinkT] | None  # None: forgotten
    next: int = 0


class PendingLinks(Generic[LinkT]):
    """The links still to follow. `LinkT` is whatever the walk needs to know of one; `reload` reads a node's again."""

    def __init__(self, reload: Callable[[Cid], Sequence[LinkT]], max_held: int = MAX_HELD) -> None:
        self._reload = reload
        self._max_held = max_held
        self._levels: list[_Level[LinkT]] = []
        self.held = 0  # links in memory
        self._forgotten = 0  # the levels below this index have no links in memory

    def push(self, node: Cid, depth: int, links: Sequence[LinkT]) -> None:
        """Follow `links` of `node`, which is `depth` links from the root, before all others."""
        if not links:
            return
        self._levels.append(_Level(node, depth, links))
        self.held += len(links)
        while self.held > self._max_held and self._forgotten < len(self._levels) - 1:
            level = self._levels[self._forgotten]
            self._forgotten += 1
            if level.links is not None:
                self.held -= len(level.links)
                level.links = None

    def pop(self) -> tuple[Cid, int, LinkT] | None:
        """Return (node, its depth, the next of its links), or None when the walk is over.

        Raises:
            BlockNotFoundError: a forgotten level is no longer there to be read again.
        """
        if not self._levels:
            return None
        level = self._levels[-1]
        if level.links is None:
            level.links = self._reload(level.node)
            self.held += len(level.links)
            self._forgotten = len(self._levels) - 1
        link = level.links[level.next]
        level.next += 1
        if level.next == len(level.links):
            self._levels.pop()
            self.held -= len(level.links)
            self._forgotten = min(self._forgotten, len(self._levels))
        return level.node, level.depth, link
