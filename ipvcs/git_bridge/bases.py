"""What a push builds on: commits that the name's repository has, and whose nodes new commits may link to.

Those that this home converted are remembered, and pinned with the refs that the name had. A home that cloned the packs
alone, or lost its memory, finds their nodes in the packs' tables of commits; each is fetched and checked first.
"""

from ipvcs.git_bridge.commits_table import CommitsTable, read_commits
from ipvcs.git_bridge.conversion import Converter
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.local_objects import commits_among
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block, BlockReader
from ipvcs.objects.git.check import Checker, Claim
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Reference
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.closure import IncompleteError, rely_on_closure
from ipvcs.storage.home import Home
from ipvcs.storage.interface import BlockWriting
from ipvcs.storage.pins import Pin, PinMode


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
        *,
        protects: bool = True,
    ) -> None:
        """Find out which there are. `protects`: what they reach is to be kept here, since it is published from here."""
        self._reader = reader
        self._writer = writer
        self._converter = converter
        self._tree = tree
        self._tables: list[CommitsTable] | None = None
        self.commits: list[ObjectId] = []
        self.complete = True
        here = commits_among(repository, sorted({ref.oid for ref in tree.refs.values()}))
        # All at once: of refs there may be thousands, and each push looks at all of them.
        found = converter.find_many([Reference(oid, NodeKind.COMMIT) for oid in here])
        mapped = {reference.oid: each for reference, each in found.items()}
        pins = home.pins.get_many([each.cid for each in mapped.values()])
        for oid in here:
            if (each := mapped.get(oid)) is not None:
                self.complete = protects and self._protect(each.cid, pins.get(each.cid)) and self.complete
            if each is not None or self._take_from_table(oid):
                self.commits.append(oid)

    def _take_from_table(self, oid: ObjectId) -> bool:
        """Find out which node is that of `oid`, and whether it may be linked to."""
        if (claim := self._look_up(oid)) is None:
            return False
        Checker(self._reader, self._tree.manifest.object_format, self._tree.manifest.profile).check(claim)
        self._writer.put(Block(claim.cid, self._reader.get(claim.cid)))
        assert claim.size is not None
        self._converter.add(oid, Mapped(claim.cid, claim.size, NodeKind.COMMIT))
        self.complete = False
        return True

    def _protect(self, cid: Cid, pin: Pin | None) -> bool:
        """Protect all that `cid` reaches; False when some of it is not here. What is pinned needs no walk."""
        if pin is not None and pin.mode is PinMode.RECURSIVE:
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
