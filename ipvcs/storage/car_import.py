"""CARs into the store: all of one or nothing.

A CAR is read twice. The first pass checks every section, so a damaged CAR is refused before a block is stored; what
can't be read twice (a pipe) is kept in a temporary file meanwhile. The second pass stores the blocks and pins roots.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from ipvcs.errors import LimitError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import MAX_BIG_BLOCK, MAX_BLOCK_SIZE, Block
from ipvcs.objects.car import MAX_SECTION, CarReader
from ipvcs.storage.closure import rely_on_closures
from ipvcs.storage.disk import disk_errors
from ipvcs.storage.home import Home
from ipvcs.storage.pins import Pin, PinMode

_MAX_BIG_SECTION: Final = MAX_BIG_BLOCK + 4096
"""Bytes of a section where big blocks are wanted: one of those, and its CID."""
_COPY_SIZE: Final = 1024 * 1024


class BigBlockError(LimitError):
    """A CAR has a block that not every peer would take."""

    def __init__(self, cid: Cid, size: int) -> None:
        super().__init__(
            f"block '{cid}' has {size} bytes, over the limit of {MAX_BLOCK_SIZE}",
            hint="`--allow-big-block` takes it, but it may not travel over Bitswap",
        )
        self.cid = cid
        self.size = size


@dataclass(slots=True)
class CarReport:
    """What was imported: sections and their bytes of data, and the roots that the headers name."""

    blocks: int = 0
    size: int = 0
    roots: list[Cid] = field(default_factory=list)


def import_cars(
    home: Home,
    files: list[IO[bytes]],
    *,
    pin: bool = True,
    allow_big_block: bool = False,
    on_bytes: Callable[[int], None] | None = None,
) -> CarReport:
    """Store the blocks of all `files`, or of none if one of them is damaged, and pin their roots recursively.

    `on_bytes` is told how many bytes of blocks were checked or stored, each counted twice in all.

    Raises:
        CarError: not a CAR, or damaged.
        BlockMismatchError: a section's bytes are not what its CID says.
        BigBlockError: a block over 2 MiB, unless `allow_big_block`.
        IncompleteError: to pin a root, the home lacks a block; no root is pinned, and the blocks stay until `repo gc`.
    """
    report = CarReport()
    limit = None if allow_big_block else MAX_BLOCK_SIZE
    max_section = _MAX_BIG_SECTION if allow_big_block else MAX_SECTION
    with _all_seekable(home, files) as seekable:
        starts = [file.tell() for file in seekable]
        roots: dict[Cid, None] = {}
        for file in seekable:
            reader = CarReader(file, max_section=max_section)
            roots.update(dict.fromkeys(reader.roots))
            for block in _checked(reader, limit, on_bytes):
                report.blocks += 1
                report.size += len(block.data)
        report.roots += roots
        with home.blocks.writing() as session:
            for file, start in zip(seekable, starts, strict=True):
                file.seek(start)
                for block in _checked(CarReader(file, max_section=max_section), limit, on_bytes):
                    session.put(block)
            session.flush()
            if pin:
                rely_on_closures(session, report.roots)
                home.pins.add(Pin(root, PinMode.RECURSIVE) for root in report.roots)
    return report


def _checked(reader: CarReader, limit: int | None, on_bytes: Callable[[int], None] | None) -> Iterator[Block]:
    for block in reader.iter_blocks():
        if limit is not None and len(block.data) > limit:
            raise BigBlockError(block.cid, len(block.data))
        if on_bytes is not None:
            on_bytes(len(block.data))
        yield block


@contextmanager
def _all_seekable(home: Home, files: list[IO[bytes]]) -> Iterator[list[IO[bytes]]]:
    """Yield `files`, those that can't be read twice copied to files without a name in the home."""
    copies: list[IO[bytes]] = []
    try:
        seekable: list[IO[bytes]] = []
        for file in files:
            if file.seekable():
                seekable.append(file)
                continue
            with disk_errors(home.temporary):
                copy: IO[bytes] = tempfile.TemporaryFile(dir=home.temporary)  # noqa: SIM115 - closed below
                copies.append(copy)
                shutil.copyfileobj(file, copy, _COPY_SIZE)
                copy.seek(0, os.SEEK_SET)
            seekable.append(copy)
        yield seekable
    finally:
        for copy in copies:
            copy.close()


def open_car(path: Path) -> IO[bytes]:
    """Open a CAR file. Raises DiskError."""
    with disk_errors(path):
        return path.open("rb")
