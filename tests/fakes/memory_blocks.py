"""Blocks in a dict: what unit tests of the object layer read from and write to."""

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block, BlockNotFoundError


class MemoryBlocks:
    """A BlockReader and BlockWriter that remembers the order of what was put and got."""

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}
        self.puts: list[Cid] = []
        self.gets: list[Cid] = []

    def put(self, block: Block) -> None:
        self.blocks[block.cid] = block.data
        self.puts.append(block.cid)

    def get(self, cid: Cid) -> bytes:
        self.gets.append(cid)
        try:
            return self.blocks[cid]
        except KeyError:
            raise BlockNotFoundError(cid) from None


class DiscardingWriter:
    """A BlockWriter that keeps nothing, as `--only-hash` wants it."""

    def put(self, block: Block) -> None:
        pass
