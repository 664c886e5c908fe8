"""`repo verify`: is every block that the index names there, and does it match its CID?"""

from collections.abc import Callable, Iterator

from ipvcs.errors import IpvcsError
from ipvcs.objects.block import Block
from ipvcs.storage.closure import Problem
from ipvcs.storage.embedded import EmbeddedBlockstore


def iter_damaged(blocks: EmbeddedBlockstore, progress: Callable[[int], None] | None = None) -> Iterator[Problem]:
    """Read and hash every block, yielding those that are damaged; `progress` gets the number of blocks checked."""
    checked = 0
    for rows in blocks.index.iter_slices():
        for key, found in sorted(rows, key=lambda row: row[1][:2]):  # in the order of the disk
            cid = found.cid(key)
            try:
                data = blocks.try_get(cid)  # None: deleted since the slice was read
                if data is not None and not blocks.hash_on_read:
                    Block(cid, data)
            except IpvcsError as exc:
                yield Problem(cid, str(exc))
        checked += len(rows)
        if progress:
            progress(checked)
