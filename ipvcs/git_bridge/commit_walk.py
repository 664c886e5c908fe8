"""Which commits a fetch from the object graph brings: from what is wanted down to what is here, or so many generations.

    wanted ─► tags ─► commits of the first generation ─► their parents: the second ─► …
                        └─► root trees, in chunks

Without a depth the walk ends at commits that the repository has. With one it does not, since what is here may be cut
off sooner or later than is now wanted; a commit of the last generation becomes one whose parents are left out, even if
it has none, as git has it. To deepen what is here, a second walk starts from where it is cut off.

Spec: git's upload-pack.c `deepen`, shallow.c `get_shallow_commits`; DESIGN §5 "Fetch"
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from ipvcs.git_bridge.object_intake import ObjectIntake
from ipvcs.git_bridge.shallow import Depth
from ipvcs.objects.git.check import Claim
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId

_CHUNK: Final = 4000
"""Commits whose trees are handed on together: what bounds the memory for levels of trees."""


class CommitWalk:
    """One walk. When it is over, `met` has the commits that were here, where a walk without a depth ended; after one
    with a depth, `cut` those whose parents were left out, and `whole` those that have theirs.
    """

    def __init__(
        self,
        intake: ObjectIntake,
        bring: Callable[[Sequence[Claim]], None],
        depth: Depth | None = None,
        ends: Sequence[Claim] = (),
    ) -> None:
        """Walk by `intake`.

        Args:
            intake: takes the commits.
            bring: has commits and tags fetched; told of a generation at a time, it may know of those to come.
            depth: how far; None: to what is here.
            ends: the commits at which the history that is here is cut off, and is to be deepened.
        """
        self.cut: set[ObjectId] = set()
        self.whole: set[ObjectId] = set()
        self.met: set[ObjectId] = set()
        self._intake = intake
        self._bring = bring
        self._depth = depth
        self._ends = ends
        self._content: list[Claim] = []

    def iter_content(self, wanted: Sequence[Claim]) -> Iterator[Sequence[Claim]]:
        """Take commits and tags from `wanted` down; yield the claims on trees and blobs that they lead to, in chunks.

        Errors as `ObjectIntake.take`.
        """
        depth = self._depth
        if depth is None:
            yield from self._walk(wanted)
        elif not depth.deepens:
            yield from self._walk(wanted, depth.generations)
        else:
            yield from self._walk(wanted)
            yield from self._walk(self._ends, depth.generations + 1)
        self.cut -= self.whole
        if self._content:
            yield self._content

    def _walk(self, level: Sequence[Claim], generations: int | None = None) -> Iterator[Sequence[Claim]]:
        """Walk for so many generations, or else until what is here."""
        generation = 0
        while level:
            generation += 1
            following: list[Claim] = []
            for claim in self._peel(level, all_of_it=generations is not None):
                is_here = self._intake.has(claim.oid)
                if is_here:
                    self.met.add(claim.oid)
                    if generations is None:
                        continue
                children = self._intake.take(claim)  # the tree and the parents; none if its header does not parse
                if not is_here:
                    self._content += children[:1]
                if generation == generations:
                    self.cut.add(claim.oid)
                    continue
                following += children[1:]
                if self._depth is not None:
                    self.whole.add(claim.oid)
                if len(self._content) >= _CHUNK:
                    yield self._content
                    self._content = []
            level = following

    def _peel(self, level: Sequence[Claim], *, all_of_it: bool) -> Iterator[Claim]:
        """Yield the commits of a generation that were not taken before, behind tags too; the rest is content."""
        while level:
            self._bring([claim for claim in level if all_of_it or not self._intake.has(claim.oid)])
            behind: list[Claim] = []
            for claim in level:
                if self._intake.is_taken(claim):
                    continue
                if claim.kind is NodeKind.TAG:
                    behind += self._intake.take(claim)
                elif claim.kind is NodeKind.COMMIT:
                    yield claim
                else:
                    self._content.append(claim)
            level = behind
