"""A Git repository in memory: objects by id, made by type and body, mapped children first."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from ipvcs.objects.git.check import Checker, Claim
from ipvcs.objects.git.closure import verify_closure
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Mapper, references
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, git_oid
from ipvcs.objects.git.payload import GitType, make_payload, split_payload
from ipvcs.objects.git.read import open_object
from tests.fakes.memory_blocks import MemoryBlocks

Entry = tuple[bytes, bytes, ObjectId]
"""(mode, name, id) of a tree entry, the mode as it is written."""


@dataclass
class Repository:
    """Objects and their mapping into `store`."""

    object_format: ObjectFormat = ObjectFormat.SHA1
    profile: str = "unixfs-v1-2025"
    store: MemoryBlocks = field(default_factory=MemoryBlocks)
    payloads: dict[ObjectId, bytes] = field(default_factory=dict)
    memo: dict[tuple[ObjectId, NodeKind], Mapped] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mapper = Mapper(
            self.object_format, self.profile, self.store, lambda oid, kind: self.memo[oid, self._kind(oid, kind)]
        )
        self.checker = Checker(self.store, self.object_format, self.profile)

    def add(self, git_type: GitType, body: bytes) -> ObjectId:
        payload = make_payload(git_type, body)
        oid = git_oid(self.object_format, payload)
        self.payloads[oid] = payload
        return oid

    def blob(self, body: bytes) -> ObjectId:
        return self.add(GitType.BLOB, body)

    def tree(self, entries: Iterable[Entry]) -> ObjectId:
        return self.add(GitType.TREE, b"".join(b"%b %b\0%b" % (mode, name, oid.raw) for mode, name, oid in entries))

    def commit(self, tree: ObjectId, *parents: ObjectId, rest: bytes | None = None) -> ObjectId:
        """Add a commit; `rest` is what follows the parents."""
        lines = [b"tree %b\n" % tree.hex.encode(), *(b"parent %b\n" % parent.hex.encode() for parent in parents)]
        return self.add(GitType.COMMIT, b"".join(lines) + (PEOPLE + b"\nmessage\n" if rest is None else rest))

    def tag(self, target: ObjectId, git_type: GitType, rest: bytes | None = None) -> ObjectId:
        """Add a tag; `rest` is what follows its name."""
        tagger = b"tagger T <t@example.com> 1 +0000\n\nmessage\n"
        head = b"object %b\ntype %b\ntag name\n" % (target.hex.encode(), git_type.encode())
        return self.add(GitType.TAG, head + (tagger if rest is None else rest))

    def map(self, oid: ObjectId, kind: NodeKind) -> Mapped:
        """Map `oid` as `kind`, after all that it leads to."""
        pending = [(oid, self._kind(oid, kind))]
        while pending:
            key = pending[-1]
            if key in self.memo:
                pending.pop()
                continue
            missing = [child for child in self._children(*key) if child not in self.memo]
            if missing:
                pending += missing
                continue
            self.memo[key] = self.mapper.map_payload(*key, self.payloads[key[0]])
            pending.pop()
        return self.memo[oid, self._kind(oid, kind)]

    def claim(self, oid: ObjectId, kind: NodeKind) -> Claim:
        mapped = self.map(oid, kind)
        return Claim(oid, kind, mapped.cid, mapped.size)

    def round_trip(self, oid: ObjectId, kind: NodeKind) -> Mapped:
        """Map `oid`, read it and all that it leads to back, and check the closure."""
        mapped = self.map(oid, kind)
        for (each, _kind), node in self.memo.items():
            assert open_object(self.store, node.cid, each, self.object_format).payload() == self.payloads[each]
        verify_closure(self.checker, [Claim(oid, kind, mapped.cid, mapped.size)])
        return mapped

    def _kind(self, oid: ObjectId, kind: NodeKind) -> NodeKind:
        git_type, _body = split_payload(self.payloads[oid])
        return kind if kind.git_type is git_type else NodeKind.VERBATIM

    def _children(self, oid: ObjectId, kind: NodeKind) -> list[tuple[ObjectId, NodeKind]]:
        if kind is NodeKind.VERBATIM:
            return []
        git_type, body = split_payload(self.payloads[oid])
        return [(ref.oid, self._kind(ref.oid, ref.kind)) for ref in references(git_type, body, self.object_format)]


PEOPLE = b"author A U Thor <a@example.com> 1 +0000\ncommitter C O Mitter <c@example.com> 2 +0000\n"
