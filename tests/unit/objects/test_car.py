import hashlib
import io
import json
import re
import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IpvcsError
from ipvcs.multiformats import codecs, multihash, varint
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import car_index, codec_registry, dag_cbor, dag_json
from ipvcs.objects.block import Block, BlockMismatchError
from ipvcs.objects.car import MAX_HEADER, MAX_SECTION, CarReader, CarSection
from ipvcs.objects.car_source import ByteSource, CarError, CarSource, TruncatedCarError
from ipvcs.objects.car_writer import CarWriter, encode_header, write_car
from tests.strategies import cids

VECTORS = Path(__file__).parents[2] / "vectors" / "car"
EXPECTED: dict[str, dict[str, Any]] = json.loads((VECTORS / "expected.json").read_text())
WHOLE = [name for name, expected in EXPECTED.items() if "error" not in expected]
DAMAGED = [name for name, expected in EXPECTED.items() if "error" in expected]

BLOCKS = [Block.of(data) for data in (b"", b"a", b"b" * 127, b"c" * 20_000)]
ROOTS = [BLOCKS[1].cid, Block.of(b"not in it").cid]


@dataclass
class Dribble:
    """A source that gives what it likes: reads of the sizes in `sizes`, over and over."""

    data: bytes
    sizes: list[int]
    position: int = 0
    reads: int = 0
    largest: int = field(default=0)

    def read(self, size: int, /) -> bytes:
        self.largest = max(self.largest, size)
        size = min(size, self.sizes[self.reads % len(self.sizes)]) if self.sizes else size
        self.reads += 1
        chunk = self.data[self.position : self.position + size]
        self.position += len(chunk)
        return chunk


def make_car(blocks: list[Block] = BLOCKS, roots: list[Cid] = ROOTS) -> bytes:
    out = io.BytesIO()
    assert write_car(roots, blocks, out.write) == len(out.getvalue())
    return out.getvalue()


def make_v2(inner: bytes, padding: int = 0, index: bytes = b"", **changes: int) -> bytes:
    places = {"offset": 51 + padding, "size": len(inner), "index_offset": 51 + 2 * padding + len(inner) if index else 0}
    head = bytes.fromhex("0aa16776657273696f6e02") + struct.pack("<16xQQQ", *(places | changes).values())
    return head + bytes(padding) + inner + bytes(padding) + index


def events_of(source: ByteSource) -> list[object]:
    """Return what reading a CAR gives: the header, the sections, the index; an error is the last event."""
    events: list[object] = []
    try:
        reader = CarReader(source)
        events += [reader.version, reader.roots, reader.v2]
        events += reader.iter_sections()
        events += reader.iter_index()
    except IpvcsError as exc:
        events.append((type(exc), str(exc)))
    return events


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_car_gives_what_another_reader_found(name: str) -> None:
    expected = EXPECTED[name]
    with (VECTORS / name).open("rb") as file:
        reader = CarReader(file)
        names = [str(block.cid) for block in reader.iter_blocks()]
    assert [str(root) for root in reader.roots] == expected["roots"]
    assert len(names) == expected["blocks"]
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == expected["cids_sha256"]
    assert reader.version == expected["container"]
    if reader.v2 is not None:
        assert reader.v2.characteristics.hex() == expected["characteristics"]
        places = (reader.v2.data_offset, reader.v2.data_size, reader.v2.index_offset)
        assert places == (expected["data_offset"], expected["data_size"], expected["index_offset"])


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_car_is_refused_or_stopped_at(name: str) -> None:
    *events, error = events_of(io.BytesIO((VECTORS / name).read_bytes()))
    assert isinstance(error, tuple)
    assert issubclass(error[0], CarError)
    assert re.match(r"damaged CAR at byte \d+: ", error[1])
    assert sum(isinstance(event, CarSection) for event in events) == EXPECTED[name].get("blocks_before_error", 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("badheaderlength.car", "damaged CAR at byte 0: header of 216830324832 bytes"),
        ("badsectionlength.car", "damaged CAR at byte 18: section of 216830324832 bytes is over the limit of 8388608"),
        ("sample-corrupt-pragma.car", "damaged CAR at byte 0: header runs past the end"),
        ("sample-rootless-v42.car", "damaged CAR at byte 0: unsupported version 42"),
        ("sample-v1-tailing-corrupt-section.car", "damaged CAR at byte 479518: section runs past the end"),
        ("sample-v1-with-zero-len-section2.car", "damaged CAR at byte 20819: section of length zero"),
    ],
)
def test_an_error_says_what_and_where(name: str, message: str) -> None:
    assert events_of(io.BytesIO((VECTORS / "go-car" / name).read_bytes()))[-1] in (
        (CarError, message),
        (TruncatedCarError, message),
    )


@pytest.mark.parametrize("name", ["carv1-basic", "carv2-basic"])
def test_every_block_lies_where_the_spec_says(name: str) -> None:
    expected = json.loads((VECTORS / f"{name}.json").read_text())
    with (VECTORS / f"{name}.car").open("rb") as file:
        reader = CarReader(file)
        start = reader.v2.data_offset if reader.v2 else 0
        for section, block in zip(reader.iter_sections(), expected["blocks"], strict=True):
            assert start + section.offset == block["offset"]
            assert len(section.data) == block["blockLength"]
            assert str(section.cid) == block["cid"]["/"]
            content = dag_json.decode(json.dumps(block["content"]).encode())
            assert codec_registry.decode(section.cid, section.data) == content


@pytest.mark.parametrize("name", ["carv1-basic.car", "go-car/sample-v1.car", "kubo/TestDagStat.car"])
def test_a_car_of_others_is_written_again_byte_for_byte(name: str) -> None:
    original = (VECTORS / name).read_bytes()
    reader = CarReader(io.BytesIO(original))
    out = io.BytesIO()
    write_car(reader.roots, reader.iter_blocks(), out.write)
    assert out.getvalue() == original


@pytest.mark.parametrize("name", ["sample-index", "sample-multihash-index-sorted"])
def test_an_index_of_go_car_leads_to_the_sections(name: str) -> None:
    with (VECTORS / "go-car" / "sample-v1.car").open("rb") as file:
        sections = {section.offset: section.cid for section in CarReader(file).iter_sections()}
    with (VECTORS / "go-car" / f"{name}.carindex").open("rb") as file:
        entries = list(car_index.iter_entries(CarSource(file)))
    identities = 6 if name == "sample-multihash-index-sorted" else 0
    assert len(entries) == len(sections) - identities
    for code, digest, offset in entries:
        assert sections[offset].digest == digest
        assert code in (None, sections[offset].hash_code)


def test_a_v2_index_is_read_after_the_sections_or_instead_of_them() -> None:
    data = (VECTORS / "go-car" / "sample-wrapped-v2.car").read_bytes()
    reader = CarReader(io.BytesIO(data))
    sections = {section.offset for section in reader.iter_sections()}
    after = list(reader.iter_index())
    assert {entry.offset for entry in after} <= sections
    assert list(CarReader(Dribble(data, [])).iter_index()) == after
    assert len(after) == 1043


def test_an_index_of_an_unknown_format_is_refused() -> None:
    reader = CarReader(io.BytesIO((VECTORS / "carv2-basic.car").read_bytes()))
    with pytest.raises(CarError, match="at byte 499: unknown index format 0x1"):
        list(reader.iter_index())


@given(st.lists(st.binary(max_size=300), max_size=6), st.lists(cids(), max_size=4), st.integers(0, 300))
def test_what_was_written_is_read(data: list[bytes], roots: list[Cid], padding: int) -> None:
    blocks = [Block.of(item, codecs.DAG_CBOR) for item in data]
    car = make_car(blocks, roots)
    for version, stream in ((1, car), (2, make_v2(car, padding))):
        reader = CarReader(io.BytesIO(stream))
        assert (reader.version, reader.roots) == (version, tuple(roots))
        assert list(reader) == [(block.cid, block.data) for block in blocks]


@given(st.lists(st.integers(1, 90), min_size=1, max_size=8), st.integers(0, 100), st.integers(0, 500))
def test_chunking_never_changes_the_events(sizes: list[int], padding: int, cut: int) -> None:
    index = bytes.fromhex("800801000000090000000900000000000000070000000000000000")
    for car in (make_car(BLOCKS[:3]), make_v2(make_car(BLOCKS[:3]), padding, index)):
        for stream in (car, car[:cut]):
            assert events_of(Dribble(stream, sizes)) == events_of(io.BytesIO(stream))


@pytest.mark.parametrize("wrap", [lambda car: car, lambda car: make_v2(car, 3)])
def test_a_car_cut_anywhere_but_between_sections_is_truncated(wrap: Callable[[bytes], bytes]) -> None:
    inner = make_car(BLOCKS[:3])
    whole = wrap(inner)
    ends = {section.offset for section in CarReader(io.BytesIO(inner)).iter_sections()} if whole is inner else set()
    for cut in range(len(whole)):
        events = events_of(io.BytesIO(whole[:cut]))
        if cut in ends:
            assert isinstance(events[-1], CarSection | type(None))
        elif cut < len(whole) - 3 or whole is inner:  # the padding at the end belongs to nothing
            assert isinstance(events[-1], tuple)
            assert events[-1][0] is TruncatedCarError


def test_the_writer_gives_the_offsets_that_an_index_names() -> None:
    out = io.BytesIO()
    writer = CarWriter(ROOTS, out.write)
    offsets = [writer.put(block) for block in BLOCKS]
    assert offsets == [section.offset for section in CarReader(io.BytesIO(out.getvalue())).iter_sections()]
    assert writer.size == len(out.getvalue())


def test_a_header_without_roots_and_blocks_is_a_car() -> None:
    assert encode_header([]).hex() == "11a265726f6f7473806776657273696f6e01"
    assert list(CarReader(io.BytesIO(encode_header([])))) == []


def test_a_block_that_is_not_what_its_cid_says_is_noticed_only_when_asked() -> None:
    car = make_car()
    tampered = car.replace(b"b" * 127, b"b" * 126 + b"x")
    assert len(list(CarReader(io.BytesIO(tampered)))) == len(BLOCKS)
    reader = CarReader(io.BytesIO(tampered)).iter_blocks()
    assert [next(reader).data, next(reader).data] == [b"", b"a"]
    with pytest.raises(BlockMismatchError):
        next(reader)


def header_of(value: object) -> bytes:
    encoded = value if isinstance(value, bytes) else dag_cbor.encode(value)  # type: ignore[arg-type]
    return varint.encode(len(encoded)) + encoded


@pytest.mark.parametrize(
    ("stream", "problem"),
    [
        (b"", "at byte 0: no header"),
        (b"\x00", "header of 0 bytes"),
        (varint.encode(MAX_HEADER + 1) + b"\xa0", "header of 1048577 bytes"),
        (b"\x80\x00", "varint is not minimal"),
        (header_of(b"\xa0\xa0"), "header: bad dag-cbor"),
        (header_of([1]), "header is not a map"),
        (header_of({"roots": []}), "unsupported version 0"),
        (header_of({"roots": [], "version": True}), "unsupported version 0"),
        (header_of({"roots": [], "version": 3}), "unsupported version 3"),
        (header_of({"version": 1}), "no list of roots"),
        (header_of({"roots": None, "version": 1}), "no list of roots"),
        (header_of({"roots": [b"x"], "version": 1}), "a root is not a CID"),
        (make_car() + b"\x00", "section of length zero"),
        (encode_header([]) + b"\x80\x00", "at byte 18: varint is not minimal"),
        (encode_header([]) + b"\x03\x01\x55\x12", "section: "),
        (encode_header([]) + b"\x24" + bytes(36), "section: "),
        (encode_header([]) + varint.encode(MAX_SECTION + 1), "over the limit"),
        (make_v2(make_v2(make_car())), "unsupported version 2"),
        (make_v2(make_car(), offset=50), "cannot be"),
        (make_v2(make_car(), size=1 << 63), "cannot be"),
        (make_v2(make_car(), offset=(1 << 64) - 1), "cannot be"),
        (make_v2(make_car(), size=0), "no header|cut short"),
        (make_v2(make_car(), size=10), "runs past the end of the data"),
        (make_v2(make_car(), index_offset=60), "before the end of the data"),
        (make_v2(make_car(), size=1 << 40), "data ends"),
        (make_v2(make_car(), offset=1 << 40), "does not reach byte"),
        (make_v2(make_car(), size=len(make_car()) - 1), "runs past the end of the data"),
    ],
)
def test_a_malformed_car_is_refused(stream: bytes, problem: str) -> None:
    with pytest.raises(CarError, match=problem):
        list(CarReader(io.BytesIO(stream)))


@pytest.mark.parametrize(
    ("index", "problem"),
    [
        (b"\x81", "varint is cut short"),
        (b"\x82\x08", "unknown index format 0x402"),
        (b"\x80\x08\x01\x00", "cut short"),
        (b"\x80\x08\xff\xff\xff\xff", "index of -1 parts"),
        (b"\x80\x08\x01\x00\x00\x00" + struct.pack("<IQ", 7, 7), "in records of 7"),
        (b"\x80\x08\x01\x00\x00\x00" + struct.pack("<IQ", 40, 41), "bucket of 41 bytes in records of 40"),
        (b"\x80\x08\x01\x00\x00\x00" + struct.pack("<IQ", 1 << 31, 1 << 31), "in records of"),
        (b"\x80\x08\x01\x00\x00\x00" + struct.pack("<IQ", 40, 40 << 40), "cut short"),
        (b"\x80\x08\x01\x00\x00\x00" + struct.pack("<IQ", 9, 18) + b"b" + bytes(8) + b"a" + bytes(8), "not sorted"),
    ],
)
def test_a_malformed_index_is_refused(index: bytes, problem: str) -> None:
    reader = CarReader(io.BytesIO(make_v2(make_car(), 0, index)))
    with pytest.raises(CarError, match=problem):
        list(reader.iter_index())


def test_a_claimed_length_is_not_allocated() -> None:
    stream = encode_header([]) + varint.encode(MAX_SECTION) + bytes(100)
    tracemalloc.start()
    try:
        assert isinstance(events_of(io.BytesIO(stream))[-1], tuple)
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


def test_the_limits_can_be_moved() -> None:
    stream = make_car()
    with pytest.raises(CarError, match="over the limit of 100"):
        list(CarReader(io.BytesIO(stream), max_section=100))
    with pytest.raises(CarError, match="header of"):
        CarReader(io.BytesIO(stream), max_header=10)


def test_a_car_of_any_length_is_read_in_bounded_memory_from_a_pipe() -> None:
    block = Block.of(bytes(100_000))
    section = make_car([block], [])[len(encode_header([])) :]

    class Endless:
        def __init__(self) -> None:
            self.left = encode_header([]) + section

        def read(self, size: int, /) -> bytes:
            chunk, self.left = self.left[:size], self.left[size:] or section
            return chunk

    tracemalloc.start()
    try:
        sections = CarReader(Endless()).iter_sections()
        for _ in range(100):
            assert next(sections).cid == block.cid
        assert tracemalloc.get_traced_memory()[1] < 3 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_an_identity_cid_may_be_a_section() -> None:
    block = Block.of(b"inline", hash_code=multihash.IDENTITY)
    assert list(CarReader(io.BytesIO(make_car([block], [block.cid])))) == [(block.cid, b"inline")]
