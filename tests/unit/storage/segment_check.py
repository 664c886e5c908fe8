"""What must hold for segments and their table at any quiet moment, checked by code that shares none with the store."""

from pathlib import Path

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.storage.home import Home

CAR_HEADER = bytes.fromhex("11a265726f6f7473806776657273696f6e01")  # {"roots": [], "version": 1}, varint-prefixed


def read_car(data: bytes) -> list[tuple[bytes, int, bytes]]:
    """Read a CARv1 without roots: (CID, offset of the data, data) of each section."""
    assert data.startswith(CAR_HEADER)
    position = len(CAR_HEADER)
    sections = []
    while position < len(data):
        length, start = _varint(data, position)
        end = start + length
        assert end <= len(data), "a section is cut short"
        cid_end = _end_of_cid(data, start)
        sections.append((data[start:cid_end], cid_end, data[cid_end:end]))
        position = end
    return sections


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        shift += 7
        if byte < 0x80:
            return value, position


def _end_of_cid(data: bytes, start: int) -> int:
    if data[start : start + 2] == b"\x12\x20":  # CIDv0
        return start + 34
    position = start
    for _ in ("version", "codec", "hash function"):
        _, position = _varint(data, position)
    digest_length, position = _varint(data, position)
    return position + digest_length


def check_segments(home: Home) -> None:
    """Recount everything by scanning the files, and compare with the tables."""
    locations = {key: found for rows in home.blocks.index.iter_slices() for key, found in rows}
    rows = home.blocks.index.segment_rows()
    live = dict.fromkeys(rows, 0)
    found_keys = set()
    for number, row in rows.items():
        path: Path = home.blocks.segments.path_of(number)
        data = path.read_bytes()
        assert len(data) >= row.length
        for raw, offset, content in read_car(data[: row.length]):
            cid = Cid(raw)
            location = locations.get(cid.multihash)
            if location is not None and (location.segment, location.offset) == (number, offset):
                assert Block(cid, content).data == content
                assert location.size == len(content)
                assert location.cid(cid.multihash) == cid
                live[number] += offset - _start_of_section(raw, offset, content) + len(content)
                found_keys.add(cid.multihash)
    assert found_keys == set(locations), "the index names bytes that no segment has"
    assert {number: row.live for number, row in rows.items()} == live
    assert home.blocks.stat().blocks == len(locations)


def _start_of_section(raw: bytes, offset: int, content: bytes) -> int:
    length = len(raw) + len(content)
    varint_size = max(1, (length.bit_length() + 6) // 7)
    return offset - len(raw) - varint_size
