"""The index of a CARv2: from digests to the sections that have them.

Two formats, both of fixed-width records `digest, offset` sorted by digest, in buckets by width: IndexSorted (0x0400),
and MultihashIndexSorted (0x0401), which groups the buckets by hash function. Offsets count from the start of the v1
part. The spec's sketch leaves out what go-car writes: the number of buckets (and of groups) comes first, and a bucket
gives its length in bytes, not in records.

Spec: https://ipld.io/specs/transport/car/carv2/#index-format
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from ipvcs.objects.car_source import CarError, CarSource, TruncatedCarError

INDEX_SORTED: Final = 0x0400
MULTIHASH_INDEX_SORTED: Final = 0x0401

_OFFSET_SIZE: Final = 8
_MAX_WIDTH: Final = 2048 + _OFFSET_SIZE  # go-car indexes CIDs of up to 2 KiB
_COUNT: Final = struct.Struct("<i")  # buckets or groups
_BUCKET: Final = struct.Struct("<IQ")  # width of a record, bytes of all its records
_CODE: Final = struct.Struct("<Q")
_OFFSET: Final = struct.Struct("<Q")


class IndexEntry(NamedTuple):
    """Where the section of a digest starts. `hash_code` is None in the format that does not keep it."""

    hash_code: int | None
    digest: bytes
    offset: int


def iter_entries(source: CarSource) -> Iterator[IndexEntry]:
    """Yield the entries of the index that `source` is at, in their order; one record is held at a time.

    Raises:
        CarError: an unknown format, an impossible width, a length that is no multiple of it, records out of order.
        TruncatedCarError: the stream ends inside the index.
    """
    start = source.offset
    codec = source.take_varint(_OFFSET_SIZE)
    if codec == INDEX_SORTED:
        yield from _iter_buckets(source, None)
    elif codec == MULTIHASH_INDEX_SORTED:
        for _ in range(_take_count(source)):
            (code,) = _take(source, _CODE)
            yield from _iter_buckets(source, int(code))
    elif codec is None:
        raise TruncatedCarError("no index", start)
    else:
        raise CarError(f"unknown index format {codec:#x}", start)


def _iter_buckets(source: CarSource, code: int | None) -> Iterator[IndexEntry]:
    for _ in range(_take_count(source)):
        start = source.offset
        width, size = _take(source, _BUCKET)
        if not _OFFSET_SIZE <= width <= _MAX_WIDTH or size % width:
            raise CarError(f"index bucket of {size} bytes in records of {width}", start)
        last = b""
        for _ in range(size // width):
            start = source.offset
            record = source.take(width)
            if len(record) < width:
                raise TruncatedCarError("index is cut short", start)
            digest = record[:-_OFFSET_SIZE]
            if digest < last:
                raise CarError("index is not sorted", start)
            last = digest
            yield IndexEntry(code, digest, _OFFSET.unpack_from(record, len(digest))[0])


def _take_count(source: CarSource) -> int:
    start = source.offset
    count = int(_take(source, _COUNT)[0])
    if count < 0:
        raise CarError(f"index of {count} parts", start)
    return count


def _take(source: CarSource, layout: struct.Struct) -> tuple[int, ...]:
    start = source.offset
    raw = source.take(layout.size)
    if len(raw) < layout.size:
        raise TruncatedCarError("index is cut short", start)
    return layout.unpack(raw)
