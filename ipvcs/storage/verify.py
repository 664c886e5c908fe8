"""`repo verify`: is every block that the index names there, and does it match its CID?"""

from collections.abc import Callable, Iterator

from ipvcs.errors import IpvcsError
from ipvcs.multiformats import multihash
from ipvcs.storage.closure import Problem
from ipvcs.storage.embedded import EmbeddedBlockstore


def iter_damaged(blocks: EmbeddedBlockstore, progress: Callable[[int], None] | None = None) -> Iterator[Problem]:
    """Read and hash every block, yielding those that are damaged; `progress` gets the number of blocks checked."""
    checked = 0
    for rows in blocks.index.iter_slices():
        for key, found in sorted(rows, key=lambda row: row[1][:2]):  # in the order of the disk
            cid = found.cid(key)
            try:
                data = blocks.try_get(cid)
            except IpvcsError as exc:
                yield Problem(cid, str(exc))
                continue
            if data is None:
                continue  # deleted since the slice was read
            if not multihash.verify(data, key):
                yield Problem(cid, f"its bytes in segment {found.segment:08x}.car at {found.offset} are not its own")
        checked += len(rows)
        if progress:
            progress(checked)
