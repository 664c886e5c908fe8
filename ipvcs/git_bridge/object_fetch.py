"""One fetch from the object graph: every object by its own node, proven from the refs down, into a pack of our making.

    refs ─► commits (`commit_walk`) ─► trees ─► trees and blobs, level by level (`object_intake`) ─► pack ─► index-pack

Slower than packs, and independent of them: it brings no more than is wanted, and needs no publisher's pack.

What the repository has is not fetched. Objects may be there without what they lead to, which somebody interrupted or
pruned: if git finds in the end that below what was here something is missing, all is fetched as if nothing were there.

Spec: DESIGN §5 "Fetch"
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from ipvcs.git_bridge.commit_supply import ALL, ALONE, CommitSupply
from ipvcs.git_bridge.commit_walk import CommitWalk
from ipvcs.git_bridge.conversion import OnProgress
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.object_feed import TypeReader
from ipvcs.git_bridge.object_intake import AHEAD, ObjectIntake
from ipvcs.git_bridge.pack_sink import packing_apart
from ipvcs.git_bridge.published_tree import LyingRepositoryError, PublishedTree
from ipvcs.git_bridge.readers import CancellableReader
from ipvcs.git_bridge.shallow import Depth, read_shallow, shallow_file, write_shallow
from ipvcs.objects.git.check import Claim
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.node import NodeForm, read_node
from ipvcs.objects.git.object_id import ObjectId

_KINDS: Final = {
    NodeForm.COMMIT: NodeKind.COMMIT,
    NodeForm.TAG: NodeKind.TAG,
    NodeForm.FILE: NodeKind.REGULAR,
    NodeForm.TREE: NodeKind.DIRECTORY,
    NodeForm.OPAQUE_TREE: NodeKind.DIRECTORY,
    NodeForm.SYMLINK: NodeKind.SYMLINK,
}
_FEW: Final = 64
"""Generations for which the tables, which name the commits of all branches, would be too much."""
_PACKING_THREADS: Final = 2
"""For compression: more find no core."""


@dataclass(frozen=True, slots=True)
class ObjectFetch:
    """What to fetch: what `wanted` reach in the published `tree`, into `repository`; `directory` takes temporary files.

    `depth`: how far back; None: all of it. `progress` is told how many objects have come, and in the end of how many.
    """

    repository: GitRepository
    reader: CancellableReader
    tree: PublishedTree
    wanted: Sequence[ObjectId]
    directory: Path
    depth: Depth | None
    progress: OnProgress

    def run(self) -> bool:
        """Do it; return whether all that `wanted` reach was proven on the way, and is there: nothing need be checked.

        Raises:
            LyingRepositoryError: one of `wanted` is no ref's.
            GitNodeError, ObjectIdMismatchError, DecodeError: a node is not what it should be; nothing was changed.
            MissingLocallyError, RemoteCommandError: a block can't be had.
            ShallowLockedError: somebody else changes where the history is cut off.
        """
        with TypeReader.open(self.repository) as types:
            facts = LocalObjects(self.repository, types)
            if not facts.is_empty() and self._bring(facts):
                return False
            return self._bring(None) and self.depth is None

    def _bring(self, facts: LocalObjects | None) -> bool:
        """Fetch what `facts` do not know; False: something that they know lacks what it leads to."""
        object_format = self.tree.manifest.object_format
        shallow = read_shallow(self.repository)
        profile = self.tree.manifest.profile
        with (
            ThreadPoolExecutor(AHEAD) as requests,
            ThreadPoolExecutor(_PACKING_THREADS) as packers,
            _cancelling(self.reader),
            packing_apart(self.repository, object_format, self.directory, packers) as pack,
        ):
            intake = ObjectIntake(self.reader, object_format, profile, pack, facts, requests, self.progress)
            supply = CommitSupply(
                self.reader, self.tree, alone=self._alone(facts), wants=lambda oid: not intake.has(oid)
            )
            ends = self._look_up(supply, shallow) if self.depth is not None and self.depth.deepens else ()
            walk = CommitWalk(intake, supply.bring, self.depth, ends)
            for chunk in walk.iter_content(self._claims()):
                intake.take_all(chunk)
            cut = (shallow - walk.whole) | walk.cut
            if pack.count:
                self.progress(pack.count, pack.count)
                with NamedTemporaryFile(dir=self.directory) as file:
                    file.write(shallow_file(cut))
                    file.flush()
                    pack.finish(Path(file.name))
        if facts is not None and not facts.are_whole(walk.met | intake.met):
            return False
        if self.depth is not None and cut != shallow:
            write_shallow(self.repository, cut, shallow)
        return True

    def _claims(self) -> list[Claim]:
        """Return the claims on what is wanted, whose nodes are fetched to see what they are."""
        cids = {ref.oid: ref.cid for ref in self.tree.refs.values()}
        if lost := [oid for oid in self.wanted if oid not in cids]:
            raise LyingRepositoryError(lost[0])
        if missing := self.reader.missing_of(cids[oid] for oid in self.wanted):
            self.reader.fetch_all(missing, recursive=False)
        return [Claim(oid, _KINDS[read_node(self.reader, cids[oid]).form], cids[oid]) for oid in self.wanted]

    def _look_up(self, supply: CommitSupply, commits: Iterable[ObjectId]) -> list[Claim]:
        """Return the claims on those of `commits` that the repository has."""
        found = ((oid, supply.find(oid)) for oid in commits)
        return [Claim(oid, NodeKind.COMMIT, cid) for oid, cid in found if cid is not None]

    def _alone(self, facts: LocalObjects | None) -> int:
        """Return how many commits are to be fetched as they come, before all that the tables name are."""
        if self.depth is not None and self.depth.generations <= _FEW:
            return ALL
        return 0 if facts is None else ALONE


@contextmanager
def _cancelling(reader: CancellableReader) -> Iterator[None]:
    """Let what threads wait for end if the block fails."""
    try:
        yield
    except BaseException:
        reader.cancel()
        raise
