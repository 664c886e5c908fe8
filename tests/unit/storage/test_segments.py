"""Segment files: CARv1, one writer each, and damage that is noticed."""

import fcntl
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.objects.car import CarReader
from ipvcs.storage import segments
from ipvcs.storage.segments import (
    HEADER,
    DamagedSegmentError,
    SegmentAppender,
    SegmentDirectory,
    SegmentFile,
    SegmentRow,
    iter_sections,
    section_head,
)
from tests.unit.storage.segment_check import CAR_HEADER, read_car

BLOCKS = [
    Block.of(b"raw"),
    Block.of(b""),
    Block.of(b"node", codecs.DAG_PB, version=0),
    Block.of(b"long" * 5000, codecs.DAG_CBOR, multihash.SHA2_512),
    Block.of(b"blake", codecs.GIT_RAW, multihash.BLAKE3),
]


def write_segment(directory: SegmentDirectory, blocks: list[Block]) -> SegmentAppender:
    appender = SegmentAppender.create(directory, 1)
    appender.append([part for block in blocks for part in (section_head(block.cid, len(block.data)), block.data)])
    return appender


def test_a_segment_is_a_carv1_and_both_readers_agree(tmp_path: Path) -> None:
    directory = SegmentDirectory(tmp_path)
    appender = write_segment(directory, BLOCKS)
    file = directory.open(1)

    ours = [(cid.raw, offset, file.read(offset, size)) for cid, offset, size in iter_sections(file, appender.length)]

    assert ours == read_car(file.path.read_bytes())
    assert [(raw, data) for raw, _, data in ours] == [(block.cid.raw, block.data) for block in BLOCKS]
    assert appender.length == file.path.stat().st_size
    assert HEADER == CAR_HEADER


def test_the_car_reader_of_this_project_reads_a_segment(tmp_path: Path) -> None:
    directory = SegmentDirectory(tmp_path)
    write_segment(directory, BLOCKS)

    with directory.path_of(1).open("rb") as file:
        reader = CarReader(file)
        assert reader.roots == ()
        assert list(reader) == [(block.cid, block.data) for block in BLOCKS]


def test_a_segment_has_one_writer(tmp_path: Path) -> None:
    directory = SegmentDirectory(tmp_path)
    first = write_segment(directory, BLOCKS)

    assert SegmentAppender.try_lock(directory, 1) is None
    first.close()
    second = SegmentAppender.try_lock(directory, 1)
    assert second is not None
    assert SegmentAppender.try_lock(directory, 1) is None
    assert SegmentAppender.try_lock(directory, 2) is None, "there is no such segment"


def test_a_segment_that_is_removed_while_a_writer_opens_it_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = SegmentDirectory(tmp_path)
    write_segment(directory, BLOCKS).close()
    real = fcntl.flock

    def remove_first(fd: int, operation: int) -> None:
        directory.path_of(1).unlink()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", remove_first)
    assert SegmentAppender.try_lock(directory, 1) is None


def test_resuming_cuts_off_what_was_not_committed(tmp_path: Path) -> None:
    directory = SegmentDirectory(tmp_path)
    appender = write_segment(directory, BLOCKS)
    committed = appender.length
    appender.append([b"half a sec"])
    appender.close()

    again = SegmentAppender.try_lock(directory, 1)
    assert again is not None
    again.resume(committed)
    again.append([section_head(BLOCKS[0].cid, 3), b"raw"])

    assert [raw for raw, _, _ in read_car(directory.path_of(1).read_bytes())] == [
        block.cid.raw for block in [*BLOCKS, BLOCKS[0]]
    ]
    with pytest.raises(DamagedSegmentError, match=r"it has \d+ of 10000000 bytes"):
        again.resume(10_000_000)


def test_thousands_of_parts_are_one_append(tmp_path: Path) -> None:
    directory = SegmentDirectory(tmp_path)
    blocks = [Block.of(str(number).encode()) for number in range(3000)]
    write_segment(directory, blocks)

    assert [data for _, _, data in read_car(directory.path_of(1).read_bytes())] == [block.data for block in blocks]


@given(st.data())
def test_garbage_in_a_segment_is_reported_at_its_place(data: st.DataObject) -> None:
    """Any change is noticed, or gives sections that fit into the file; it is never another error and never a loop."""
    with tempfile.TemporaryDirectory() as path:
        directory = SegmentDirectory(Path(path))
        length = write_segment(directory, BLOCKS[:3]).length
        content = bytearray(directory.path_of(1).read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        directory.path_of(1).write_bytes(content[: data.draw(st.integers(0, len(content)))])
        sections: list[tuple[Cid, int, int]] = []
        with suppress(DamagedSegmentError):
            sections.extend(iter_sections(SegmentFile(directory.path_of(1)), length))
        assert all(offset + size <= length for _, offset, size in sections)


def test_files_stay_open_up_to_a_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "_OPEN_FILES", 3)
    directory = SegmentDirectory(tmp_path)
    for number in range(10):
        SegmentAppender.create(directory, number).close()
    first = directory.open(0)
    for number in range(10):
        directory.open(number)

    assert first.read(0, len(HEADER)) == HEADER, "whoever holds a file keeps it"
    assert _open_count(tmp_path) == 4
    directory.forget()
    assert _open_count(tmp_path) == 1
    assert list(directory.iter_ids()) == list(range(10))


def _open_count(path: Path) -> int:
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            count += entry.readlink().is_relative_to(path)
    return count


@given(st.integers(18, 2**63), st.integers(0, 2**63))
def test_rows_come_back(length: int, live: int) -> None:
    row = SegmentRow(length, live)
    assert SegmentRow.unpack(row.pack()) == row
    assert row.waste == length - 18 - live
