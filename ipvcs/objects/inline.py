"""Identity CIDs: blocks that lie in their own name and need no store.

Kubo's `--inline` makes them of small leaves, ipvcs of authors. A store need not know them, so whoever reads a DAG reads
through `read_block`.

Spec: https://github.com/multiformats/cid and verifcid's limit of 128 bytes (`multihash.MAX_IDENTITY`).
"""

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block, BlockReader


def read_block(reader: BlockReader, cid: Cid) -> bytes:
    """Return the bytes of `cid`: the CID's own if it holds them, else what `reader` has.

    Raises:
        BlockNotFoundError: as `reader.get`.
        MultihashError: an identity CID too long to be trusted.
    """
    if cid.is_identity:
        return Block(cid, cid.digest).data
    return reader.get(cid)
