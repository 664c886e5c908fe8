"""What the objects of one repository are mapped as: this session's conversions, and those that the home remembers.

The home takes a memo only of a block that it has, so those of this session wait until their blocks are flushed. What
is looked up most was used lately: two generations of entries are kept in memory, the rest is asked of the home.
"""

from collections.abc import Callable, Iterable
from typing import Final

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Reference
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.interface import BlockWriting
from ipvcs.storage.memos import Memos

GENERATION: Final = 100_000
"""Entries after which the older half is forgotten: some 25 MB each."""
BATCH: Final = 20_000
"""New memos that wait for a flush at most."""


class MemoTable:
    """(oid, kind) to what it is mapped as."""

    def __init__(
        self,
        memos: Memos,
        writer: BlockWriting,
        key: Callable[[ObjectId, NodeKind], bytes],
        flush: Callable[[], None],
    ) -> None:
        """Remember in `memos` under what `key` gives; `flush` flushes the mapped blocks, `writer` protects old ones."""
        self._memos = memos
        self._writer = writer
        self._key = key
        self._flush = flush
        self._young: dict[bytes, Mapped] = {}
        self._old: dict[bytes, Mapped] = {}
        self._new: dict[bytes, tuple[Cid, int]] = {}

    def find(self, oid: ObjectId, kind: NodeKind) -> Mapped | None:
        """Return what `oid` is mapped as, under just that kind; None when it has not been, or was collected since.

        What an earlier session mapped is protected from now on, its own block only: what it reaches is the caller's.
        """
        key = oid.raw + kind.encode()
        if (found := self._young.get(key)) is not None:
            return found
        reference = Reference(oid, kind)
        return self.find_many([reference]).get(reference)

    def find_many(self, references: Iterable[Reference]) -> dict[Reference, Mapped]:
        """Return what is known of `references`; see `find`."""
        found: dict[Reference, Mapped] = {}
        names: dict[bytes, Reference] = {}
        for each in references:
            key = each.oid.raw + each.kind.encode()
            if (mapped := self._young.get(key) or self._old.get(key)) is not None:
                found[each] = mapped
            elif (entry := self._new.get(name := self._key(each.oid, each.kind))) is not None:
                found[each] = Mapped(*entry, each.kind)
            else:
                names[name] = each
        entries = self._memos.get_many(names)
        gone = set(self._writer.rely_on([cid for cid, _size in entries.values()])) if entries else ()
        found |= {
            names[name]: Mapped(*entry, names[name].kind) for name, entry in entries.items() if entry[0] not in gone
        }
        for each, mapped in found.items():
            self._remember(each.oid.raw + each.kind.encode(), mapped)
        return found

    def add(self, oid: ObjectId, mapped: Mapped) -> None:
        """Remember a conversion of this session."""
        self._remember(oid.raw + mapped.kind.encode(), mapped)
        self._new[self._key(oid, mapped.kind)] = (mapped.cid, mapped.size)
        if len(self._new) >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Return when all that was added, and the blocks, are durable."""
        self._flush()
        self._memos.put_many(self._new)
        self._new.clear()

    def _remember(self, key: bytes, mapped: Mapped) -> None:
        self._young[key] = mapped
        if len(self._young) >= GENERATION:
            self._old, self._young = self._young, {}
