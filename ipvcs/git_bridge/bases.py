"""What a push builds on: commits that the name's repository has, and whose nodes new commits may link to.

Those that this home converted are remembered, and pinned with the refs that the name had. A home that cloned the packs
alone, or lost its memory, finds their nodes in the packs' tables of commits; each is fetched and checked first.
"""

from ipvcs.git_bridge.commits_table import CommitsTable, read_commits
from ipvcs.git_bridge.conversion import Converter
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.object_feed import TypeReader
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block, BlockReader
from ipvcs.objects.git.check import Checker, Claim
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.closure import IncompleteError, rely_on_closure
from ipvcs.storage.home import Home
from ipvcs.storage.interface import BlockWriting


class Bases:
    """`commits` are what refs of the published repository point at, here and mapped. `complete` tells whether all that
    their nodes reach is in the home, protected while the session lasts.
    """

    def __init__(
        self,
        home: Home,
        repository: GitRepository,
        reader: BlockReader,
        writer: BlockWriting,
        converter: Converter,
        tree: PublishedTree,
    ) -> None:
        self._home = home
        self._reader = reader
        self._writer = writer
        self._converter = converter
        self._tree = tree
        self._tables: list[CommitsTable] | None = None
        self.commits: list[ObjectId] = []
        self.complete = True
        with TypeReader.open(repository) as objects:
            facts = LocalObjects(repository, objects)
            here = [oid for oid in sorted({ref.oid for ref in tree.refs.values()}) if facts.is_commit(oid)]
        for oid in here:
            if self._is_mapped(oid):
                self.commits.append(oid)

    def _is_mapped(self, oid: ObjectId) -> bool:
        """Whether the node of `oid` may be linked to, after finding out which it is."""
        if (found := self._converter.find(oid, NodeKind.COMMIT)) is not None:
            self.complete = self._protect(found.cid) and self.complete
            return True
        if (claim := self._look_up(oid)) is None:
            return False
        Checker(self._reader, self._tree.manifest.object_format, self._tree.manifest.profile).check(claim)
        self._writer.put(Block(claim.cid, self._reader.get(claim.cid)))
        assert claim.size is not None
        self._converter.add(oid, Mapped(claim.cid, claim.size, NodeKind.COMMIT))
        self.complete = False
        return True

    def _protect(self, cid: Cid) -> bool:
        """Protect all that `cid` reaches; False when some of it is not here. What is pinned needs no walk."""
        pin = self._home.pins.try_get(cid)
        if pin is not None:
            return pin.complete
        try:
            rely_on_closure(self._writer, cid)
        except IncompleteError:
            return False
        return True

    def _look_up(self, oid: ObjectId) -> Claim | None:
        if self._tables is None:
            self._tables = [
                read_commits(self._reader, link.cid, self._tree.manifest.object_format)
                for name, link in self._tree.packs.items()
                if name.endswith(b".commits")
            ]
        for table in reversed(self._tables):
            if (row := table.find(oid)) is not None:
                return Claim(oid, NodeKind.COMMIT, *row)
        return None
