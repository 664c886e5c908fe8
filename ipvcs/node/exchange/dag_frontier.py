"""Which blocks of a DAG to look at next: depth first, in the order in which files are read, and each once.

While blocks are on their way their siblings are taken, so the order is not strict: it is that of a reader with a long
lookahead. What is remembered is the links of nodes that were read and not yet followed, and an entry for each block
seen.
"""

from collections.abc import Iterable, Iterator

from ipvcs.multiformats.cid import Cid


class DagFrontier:
    """What is known of a DAG and not yet looked at."""

    def __init__(self, roots: Iterable[Cid]) -> None:
        self._seen: set[bytes] = set()
        self.linked = 0
        """Links of all blocks that were looked at, each as often as it is there."""
        self._stack: list[Iterator[Cid]] = [iter(tuple(roots))]

    @property
    def seen(self) -> int:
        """How many different blocks are known of, those taken."""
        return len(self._seen)

    def take(self, count: int) -> list[Cid]:
        """Return up to `count` CIDs that were not returned before; none: nothing is known beyond what was taken."""
        taken: list[Cid] = []
        while self._stack and len(taken) < count:
            for cid in self._stack[-1]:
                if cid.is_identity:
                    continue
                name = cid.raw if cid.version else b"\x01\x70" + cid.raw  # v0 and v1 of a block have the same links
                if name not in self._seen:
                    self._seen.add(name)
                    taken.append(cid)
                    break
            else:
                self._stack.pop()
        return taken

    def expand(self, links: Iterable[Cid]) -> None:
        """Look at `links`, of a block that was taken, before what is left of its siblings."""
        below = tuple(links)
        self.linked += len(below)
        self._stack.append(iter(below))

    def expand_all(self, links: Iterable[Iterable[Cid]]) -> None:
        """Look at the links of several blocks, those of the first block first."""
        for each in reversed(tuple(links)):
            self.expand(each)
