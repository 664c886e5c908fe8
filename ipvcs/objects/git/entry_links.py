"""Links of tree entries that were met before, encoded, to be joined into the blocks of further trees.

Of the entries of a tree nearly all are those of the tree that a commit changed: the same mode, name and id, byte for
byte. So each link is kept under the bytes of its entry, and a tree costs a look-up for each entry, a sort and a join.

Only plain trees that carry their payload are built here. Of any other tree `try_build` knows nothing, and `tree.py`,
which can build every one, builds these too, block for block the same.

Spec: docs/git-mapping.md §5.1
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.git.directory_node import FlatLinks, put_flat
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.objects.git.tree import MAX_INLINE_TREE
from ipvcs.objects.git.tree_entries import TreeEntry, opaque_reason, parse_tree
from ipvcs.objects.unixfs import DataType, UnixfsData

GENERATION: Final = 100_000
"""Links after which the older half is forgotten: some 40 MB each, and more entries than most trees have in all."""
_LONG: Final = 128
"""Bytes: a longer entry counts as several, as a hostile one may be as long as a tree."""

_Row = tuple[bytes, bytes, int]
"""(name, encoded link, size): they sort as dag-pb sorts links. Of a gitlink there is a name alone."""


class EntryLinks:
    """Encoded links by the bytes of their entries, `<mode> <name><NUL><raw id>`."""

    def __init__(self, object_format: ObjectFormat, generation: int = GENERATION) -> None:
        """Keep up to twice `generation` links of entries with ids of `object_format`."""
        self._format = object_format
        self._generation = generation
        entry = rb"[0-7]++ [^\0]*+\0.{%d}" % object_format.size  # possessive: what does not match is found out at once
        self._entry = re.compile(entry, re.DOTALL)
        self._entries = re.compile(rb"(?:%b)*+" % entry, re.DOTALL)
        self._young: dict[bytes, _Row] = {}
        self._young_size = 0
        self._old: dict[bytes, _Row] = {}

    def split(self, body: bytes) -> list[bytes] | None:
        """Return the entries of a tree's body, each as it is written; None when it does not parse."""
        # Found one by one in what is no tree, they would be looked for at every byte of it.
        return self._entry.findall(body) if self._entries.fullmatch(body) else None

    def unknown(self, entries: Iterable[bytes]) -> list[bytes]:
        """Return those of `entries`, as `split` gives them, whose links are not known. The others are young now."""
        young, old = self._young, self._old
        missing = [entry for entry in entries if entry not in young]
        if not old:
            return missing
        for entry in missing:
            if entry in old:
                self._keep(entry, old[entry])
        return [entry for entry in missing if entry not in old]

    def try_build(
        self,
        entries: Sequence[bytes],
        payload: bytes,
        lookup: Callable[[TreeEntry], Mapped | None],
        writer: BlockWriter,
    ) -> Mapped | None:
        """Store the tree of `entries` and return what it is; None, nothing stored, when others have to build it.

        Args:
            entries: as `split` gives them.
            payload: header and body, as git hashes them.
            lookup: returns what an entry leads to, None for a gitlink; asked of those whose links are not known.
            writer: where the block goes.
        """
        if len(payload) > MAX_INLINE_TREE:
            return None
        for written in self.unknown(entries):
            (entry,) = parse_tree(written, self._format)
            target = lookup(entry)
            if opaque_reason([entry]) is not None or (target is not None and target.kind is NodeKind.VERBATIM):
                return None
            self._add(written, entry.name, target)
        rows = [row for entry in entries if (row := self._young.get(entry)) is not None]
        names = {row[0] for row in rows}
        if len(names) != len(entries):  # a name is there twice, or a link was forgotten meanwhile
            return None
        rows.sort()
        flat = FlatLinks(b"".join([row[1] for row in rows]), sum([row[2] for row in rows]))
        if flat.is_too_large:
            return None
        return put_flat(flat, unixfs.encode(UnixfsData(DataType.DIRECTORY, data=payload)), writer)

    def _add(self, entry: bytes, name: bytes, target: Mapped | None) -> None:
        if target is None:
            self._keep(entry, (name, b"", 0))
        else:
            self._keep(entry, (name, dag_pb.encode_parts([target.link(name)], None), target.size))

    def _keep(self, entry: bytes, row: _Row) -> None:
        self._young[entry] = row
        self._young_size += 1 + len(entry) // _LONG
        if self._young_size >= self._generation:
            self._old, self._young, self._young_size = self._young, {}, 0
