"""Writing a CAR, version 1: a header with the roots, then the blocks in the order they come.

Spec: https://ipld.io/specs/transport/car/carv1/
"""

from collections.abc import Callable, Iterable

from ipvcs.multiformats import varint
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_cbor
from ipvcs.objects.block import Block


class CarWriter:
    """Writes one CARv1 through a function that takes bytes. The header is written when the writer is made.

    Which blocks, in which order and each only once is the caller's affair; Kubo leaves out identity CIDs.
    """

    def __init__(self, roots: Iterable[Cid], write: Callable[[bytes], object]) -> None:
        self._write = write
        self.size = 0
        """Bytes written so far."""
        header = encode_header(roots)
        write(header)
        self.size += len(header)

    def put(self, block: Block) -> int:
        """Write one section; return its offset, as an index would name it."""
        offset = self.size
        raw, data = block.cid.raw, block.data
        head = varint.encode(len(raw) + len(data)) + raw
        self._write(head)
        self._write(data)
        self.size += len(head) + len(data)
        return offset


def write_car(roots: Iterable[Cid], blocks: Iterable[Block], write: Callable[[bytes], object]) -> int:
    """Write a whole CAR and return its size in bytes. If `blocks` raises, what was written so far is a valid prefix."""
    writer = CarWriter(roots, write)
    for block in blocks:
        writer.put(block)
    return writer.size


def encode_header(roots: Iterable[Cid]) -> bytes:
    """Return the header of a CARv1 with its length: what a CAR without blocks is."""
    header = dag_cbor.encode({"roots": list(roots), "version": 1})
    return varint.encode(len(header)) + header
