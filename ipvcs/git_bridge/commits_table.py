r"""`pack-*.commits`: what the commits and tags of one pack are mapped as, so that nobody has to walk to find out.

    "ipvcs commits 1\n"     16 bytes
    records                sorted by id, each: the id (20 or 32 bytes), the sha2-256 of the node's block (32), the size
                           that links to it carry (8, big-endian)

Every commit and tag is a dag-pb block under a CIDv1, so the digest is all that is new in its CID. A table says what its
publisher claims: whoever links to a CID from it checks the block first.

Spec: DESIGN §5
"""

from collections.abc import Iterable, Iterator
from typing import Final

from ipvcs.errors import DecodeError, LimitError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId

MAX_SIZE: Final = 256 * 1024 * 1024
"""Bytes of a table that is read: some four million commits."""
_MAGIC: Final = b"ipvcs commits 1\n"
_DIGEST: Final = 32
_SIZE: Final = 8
_MULTIHASH_HEAD: Final = bytes((multihash.SHA2_256, _DIGEST))
MAX_LINK_SIZE: Final = (1 << 53) - 1


class CommitsTableError(DecodeError):
    """Bytes are no table of commits."""


class CommitsTableTooLargeError(LimitError):
    """A table of commits is larger than any that is read."""

    def __init__(self, cid: Cid, size: int) -> None:
        super().__init__(
            f"table of commits '{cid}' has {size:,} bytes; {MAX_SIZE:,} are the most",
            hint="packs need no such table: unset IPVCS_FETCH to fetch by them",
        )
        self.cid = cid
        self.size = size


def read_commits(reader: BlockReader, cid: Cid, object_format: ObjectFormat) -> "CommitsTable":
    """Read the table that the file `cid` holds.

    Raises:
        CommitsTableTooLargeError: over `MAX_SIZE`.
        CommitsTableError: as `CommitsTable`. BlockNotFoundError, DecodeError: the file can't be read.
    """
    file = FileReader(reader, cid)
    if file.size > MAX_SIZE:
        raise CommitsTableTooLargeError(cid, file.size)
    return CommitsTable(file.readall(), object_format)


def encode_commits(rows: Iterable[tuple[ObjectId, Cid, int]]) -> bytes:
    """Return the table of `rows`, each an id, its node's CID (v1, dag-pb, sha2-256) and the size of links to it."""
    records = []
    for oid, cid, size in rows:
        assert cid.codec == codecs.DAG_PB
        assert cid.multihash[: len(_MULTIHASH_HEAD)] == _MULTIHASH_HEAD
        assert 0 <= size <= MAX_LINK_SIZE
        records.append(oid.raw + cid.multihash[len(_MULTIHASH_HEAD) :] + size.to_bytes(_SIZE, "big"))
    return _MAGIC + b"".join(sorted(records))


class CommitsTable:
    """A table in memory; lookups search its bytes."""

    def __init__(self, data: bytes, object_format: ObjectFormat) -> None:
        """Take the bytes of a table.

        Raises:
            CommitsTableError: another format or version, cut short, or records out of order.
        """
        self._width = object_format.size + _DIGEST + _SIZE
        self._id_size = object_format.size
        if not data.startswith(_MAGIC):
            raise CommitsTableError("not a table of commits, or of a version that this ipvcs does not read")
        if (len(data) - len(_MAGIC)) % self._width:
            raise CommitsTableError(f"table of {object_format} commits is cut short")
        self._data = data
        last = bytes(self._id_size)  # Git's word for "no object"
        for start in range(len(_MAGIC), len(data), self._width):
            raw = data[start : start + self._id_size]
            if raw <= last:
                raise CommitsTableError("records of a table of commits are out of order")
            last = raw

    def __len__(self) -> int:
        return (len(self._data) - len(_MAGIC)) // self._width

    def __iter__(self) -> Iterator[tuple[ObjectId, Cid, int]]:
        return (self._row(index) for index in range(len(self)))

    def find(self, oid: ObjectId) -> tuple[Cid, int] | None:
        """Return the CID and the size of links of `oid`, None when it is not in the table."""
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._id_at(middle) < oid.raw:
                low = middle + 1
            else:
                high = middle
        if low == len(self) or self._id_at(low) != oid.raw:
            return None
        _oid, cid, size = self._row(low)
        return cid, size

    def _id_at(self, index: int) -> bytes:
        start = len(_MAGIC) + index * self._width
        return self._data[start : start + self._id_size]

    def _row(self, index: int) -> tuple[ObjectId, Cid, int]:
        start = len(_MAGIC) + index * self._width
        record = self._data[start : start + self._width]
        digest, size = record[self._id_size : -_SIZE], record[-_SIZE:]
        cid = Cid.make(_MULTIHASH_HEAD + digest, codecs.DAG_PB)
        return ObjectId(record[: self._id_size]), cid, min(int.from_bytes(size, "big"), MAX_LINK_SIZE)
