"""CAR: content-addressable archives, read as a stream. Version 1 whole, version 2 by going forward to what it wraps.

    v1:  header section section …             header = varint length, dag-cbor {roots, version: 1}
                                              section = varint length, CID, data
    v2:  pragma characteristics  … v1 …  index?

Goals: any input gives sections and then either the end or a `CarError` that names the byte; memory is bounded by
`MAX_SECTION` whatever the input claims. Non-goals: random access, and order or completeness of the DAG.

Spec: https://ipld.io/specs/transport/car/carv1/ and https://ipld.io/specs/transport/car/carv2/
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from ipvcs.errors import DecodeError
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.objects import car_index, dag_cbor
from ipvcs.objects.block import Block
from ipvcs.objects.car_index import IndexEntry
from ipvcs.objects.car_source import ByteSource, CarError, CarSource, TruncatedCarError
from ipvcs.objects.data_model import Value

MAX_SECTION: Final = 8 * 1024 * 1024
"""Bytes of the largest section (CID and data) that is read; go-car's default. Blocks that travel have 2 MiB."""
MAX_HEADER: Final = 1024 * 1024
"""Bytes of the largest header that is read, good for 25,000 roots; go-car takes 32 MiB."""

_V2_HEADER: Final = struct.Struct("<16sQQQ")  # characteristics, data offset, data size, index offset
_V2_DATA_START: Final = 11 + _V2_HEADER.size  # pragma and header
_UNLIMITED: Final = 1 << 63


class CarSection(NamedTuple):
    """One block of a CAR, not verified. `offset` counts from the start of the v1 part, as a v2 index counts."""

    offset: int
    cid: Cid
    data: bytes


@dataclass(frozen=True, slots=True)
class CarV2Header:
    """Where a CARv2 keeps its parts, in bytes from the start of the stream. `index_offset` 0 means no index."""

    characteristics: bytes
    data_offset: int
    data_size: int
    index_offset: int


class CarReader:
    """Reads one CAR from a source, once, forwards. The header is read when the reader is made.

    `version` is the container's, 1 or 2; `roots` are the CIDs the header names, which need not be among the blocks;
    `v2` is set for version 2.
    """

    def __init__(self, source: ByteSource, *, max_section: int = MAX_SECTION, max_header: int = MAX_HEADER) -> None:
        """Read the header.

        Raises:
            CarError: not a CAR, a version other than 1 and 2, no roots key, offsets that cannot be.
            TruncatedCarError: the stream ends inside the header.
        """
        self._source = CarSource(source)
        self._max_section = max_section
        self._max_header = max_header
        self._start = 0
        self._end = _UNLIMITED
        self.v2: CarV2Header | None = None
        header = self._read_header()
        self.version = _version_of(header)
        if self.version == 2:
            self.v2 = self._enter_v2()
            self._start = self.v2.data_offset
            self._end = self._start + self.v2.data_size
            header = self._read_header()
        if _version_of(header) != 1:
            raise CarError(f"unsupported version {_version_of(header)}", self._start)
        self.roots = _roots_of(header, self._start)

    def __iter__(self) -> Iterator[tuple[Cid, bytes]]:
        """Yield (CID, data) of each section, not verified; errors as `iter_sections`."""
        return ((cid, data) for _, cid, data in self.iter_sections())

    def iter_blocks(self) -> Iterator[Block]:
        """Yield each section as a block that has been checked against its CID.

        Raises:
            CarError: as `iter_sections`.
            BlockMismatchError: the data of a section is not what its CID says.
            UnknownHashError, MultihashError: the CID's hash function cannot be checked.
        """
        return (Block(cid, data) for _, cid, data in self.iter_sections())

    def iter_sections(self) -> Iterator[CarSection]:
        """Yield the sections that have not been read yet.

        Raises:
            CarError: a section of length zero, over the limit, beyond the end that a v2 header names, or not starting
                with a CID.
            TruncatedCarError: the stream ends inside a section, or before the end that a v2 header names.
        """
        source = self._source
        while True:
            offset = source.offset
            length = source.take_varint(self._end - offset)
            if length is None:
                if offset < self._end < _UNLIMITED:
                    raise TruncatedCarError(f"data ends {self._end - offset} bytes early", offset)
                return
            yield self._read_section(offset, length)

    def iter_index(self) -> Iterator[IndexEntry]:
        """Yield the entries of a v2 index, after passing over the sections not read; none when there is no index.

        Raises:
            CarError: an index of an unknown format, or a damaged one.
        """
        if self.v2 is None or not self.v2.index_offset:
            return iter(())
        self._skip_to(self.v2.index_offset)
        return car_index.iter_entries(self._source)

    def _read_header(self) -> dict[str, Value]:
        start = self._source.offset
        length = self._source.take_varint(self._end - start)
        if length is None:
            raise TruncatedCarError("no header", start)
        if not 0 < length <= self._max_header:
            raise CarError(f"header of {length} bytes", start)
        raw = self._take("header", length, start)
        try:
            header = dag_cbor.decode(raw, strict=False)
        except DecodeError as exc:
            raise CarError(f"header: {exc}", start) from exc
        if not isinstance(header, dict):
            raise CarError("header is not a map", start)
        return header

    def _enter_v2(self) -> CarV2Header:
        """Read the header of version 2 and go forward to the data."""
        start = self._source.offset
        raw = self._source.take(_V2_HEADER.size)
        if len(raw) < _V2_HEADER.size:
            raise TruncatedCarError("version 2 header is cut short", start)
        header = CarV2Header(*_V2_HEADER.unpack(raw))
        data_end = header.data_offset + header.data_size
        if header.data_offset < _V2_DATA_START or data_end >= _UNLIMITED:
            raise CarError(f"data of {header.data_size} bytes at byte {header.data_offset} cannot be", start)
        if header.index_offset and not data_end <= header.index_offset < _UNLIMITED:
            raise CarError(f"index at byte {header.index_offset} lies before the end of the data", start)
        self._skip_to(header.data_offset)
        return header

    def _skip_to(self, offset: int) -> None:
        start = self._source.offset
        if start > offset or self._source.skip(offset - start) < offset - start:
            raise TruncatedCarError(f"stream does not reach byte {offset}", start)

    def _read_section(self, offset: int, length: int) -> CarSection:
        if length == 0:
            raise CarError("section of length zero", offset)
        if length > self._max_section:
            raise CarError(f"section of {length} bytes is over the limit of {self._max_section}", offset)
        section = self._take("section", length, offset)
        try:
            cid, position = Cid.read(section)
        except CidError as exc:
            raise CarError(f"section: {exc}", offset) from exc
        return CarSection(offset - self._start, cid, section[position:])

    def _take(self, what: str, length: int, start: int) -> bytes:
        """Return the next `length` bytes, which hold the `what` that began at byte `start`."""
        if length > self._end - self._source.offset:
            raise CarError(f"{what} runs past the end of the data", start)
        data = self._source.take(length)
        if len(data) < length:
            raise TruncatedCarError(f"{what} runs past the end", start)
        return data


def _version_of(header: dict[str, Value]) -> int:
    version = header.get("version")
    return version if isinstance(version, int) and not isinstance(version, bool) else 0


def _roots_of(header: dict[str, Value], start: int) -> tuple[Cid, ...]:
    """Return the roots; an empty list is taken, as go-car and js-car take it."""
    roots = header.get("roots")
    if not isinstance(roots, list):
        raise CarError("header has no list of roots", start)
    cids = [root for root in roots if isinstance(root, Cid)]
    if len(cids) < len(roots):
        raise CarError("a root is not a CID", start)
    return tuple(cids)
