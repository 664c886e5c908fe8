"""One shard: hash, slots, names, bitfield, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import unixfs
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.hamt_shard import HamtError, decode_shard, encode_shard, hash_name, shape_of
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData

VECTORS = Path(__file__).parents[2] / "vectors" / "hamt"
FANOUTS = [8, 16, 32, 64, 128, 256, 512, 1024]
CID = Cid.of(bytes(32))
SHAPE = shape_of(256)


def entry(name: bytes, size: int = 1) -> tuple[int, PBLink]:
    return SHAPE.slot(hash_name(name), 0), PBLink(CID, name, size)


def node_of(*names: bytes) -> PBNode:
    """Make a well-formed root shard; names must not share slots."""
    links, data = encode_shard(SHAPE, sorted(entry(name) for name in names))
    return PBNode(tuple(links), data)


def data_of(**changes: Any) -> bytes:
    """Make the data of a root that holds `name` alone, changed."""
    return unixfs.encode(replace(unixfs.decode(node_of(b"name").data or b""), **changes))


@pytest.mark.parametrize("case", json.loads((VECTORS / "murmur3_x64_128.json").read_text()))
def test_names_are_hashed_with_the_first_half_of_murmur3_x64_128_of_seed_0(case: dict[str, Any]) -> None:
    agrees = hash_name(case["text"].encode()) == int(case["h1"], 16)
    assert agrees == (case["seed"] == 0)


def test_slots_are_read_from_the_hash_most_significant_bit_first() -> None:
    vector = json.loads((VECTORS / "hashbits.json").read_text())
    value = int.from_bytes(bytes(vector["bytes"]), "big")
    assert [shape_of(256).slot(value, depth) for depth in range(8)] == vector["next_8"]
    bits = "".join(f"{byte:08b}" for byte in vector["bytes"])
    for count, expected in vector["next_sequence"]:
        taken, bits = bits[:count], bits[count:]
        assert int(taken, 2) == expected


@given(value=st.integers(0, (1 << 64) - 1), fanout=st.sampled_from(FANOUTS))
def test_slots_of_all_levels_are_the_hash_in_order(value: int, fanout: int) -> None:
    shape = shape_of(fanout)
    bits = "".join(f"{shape.slot(value, depth):0{shape.bits}b}" for depth in range(shape.max_depth))
    assert f"{value:064b}".startswith(bits)
    assert len(bits) > 64 - shape.bits
    assert all(shape.path(value, depth) == int("0" + bits[: shape.bits * depth], 2) for depth in range(shape.max_depth))


@pytest.mark.parametrize(("fanout", "width"), [(8, 1), (16, 1), (32, 2), (256, 2), (512, 3), (1024, 3)])
def test_prefixes_are_upper_case_hex_as_wide_as_the_last_slot_needs(fanout: int, width: int) -> None:
    shape = shape_of(fanout)
    assert shape.prefix_width == width
    links, _ = encode_shard(shape, [(0, PBLink(CID, b"a")), (fanout - 1, PBLink(CID, b""))])
    assert [link.name for link in links] == [b"0" * width + b"a", f"{fanout - 1:X}".encode()]


@pytest.mark.parametrize(
    ("slots", "bitfield"),
    [([0], b"\x01"), ([7], b"\x80"), ([8], b"\x01\x00"), ([0, 255], b"\x80" + bytes(30) + b"\x01")],
)
def test_the_bitfield_is_big_endian_without_leading_zero_bytes(slots: list[int], bitfield: bytes) -> None:
    _, data = encode_shard(SHAPE, [(slot, PBLink(CID, b"n")) for slot in slots])
    assert unixfs.decode(data).data == bitfield


def test_the_data_of_a_shard_has_fanout_hash_function_and_metadata_but_no_size() -> None:
    _, data = encode_shard(SHAPE, [], 0o755, Mtime(5))
    assert unixfs.decode(data) == UnixfsData(
        DataType.HAMT_SHARD, hash_type=0x22, fanout=256, mode=0o755, mtime=Mtime(5)
    )


@given(names=st.sets(st.binary(min_size=1, max_size=12), max_size=40))
def test_decoding_is_the_inverse_of_encoding(names: set[bytes]) -> None:
    slots = sorted(dict(entry(name) for name in names).items())
    links, data = encode_shard(SHAPE, slots)
    shard = decode_shard(PBNode(tuple(links), data))
    assert shard.shape is SHAPE
    assert list(shard.slots) == slots


def test_links_without_a_size_count_as_size_zero() -> None:
    node = node_of(b"name")
    shard = decode_shard(PBNode((node.links[0]._replace(size=None),), node.data))
    assert shard.slots[0][1].size == 0


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        (PBNode((), b"\x08\x01"), "not a HAMT shard"),
        (PBNode((), data_of(hash_type=0x23)), "hash function 35"),
        (PBNode((), data_of(hash_type=None)), "hash function None"),
        (PBNode((), data_of(fanout=None)), "without a fanout"),
        (PBNode((), data_of()), "0 links, its bitfield 1"),
        (PBNode(node_of(b"name").links * 2, data_of()), "2 links, its bitfield 1"),
        (PBNode(node_of(b"name").links, data_of(data=bytes(33))), "33 bytes is too long"),
        (PBNode(node_of(b"name").links, data_of(data=b"\x01")), "not in slot 0"),
        (PBNode((PBLink(CID, b"0"),), data_of(data=b"\x01")), "not in slot 0"),
        (PBNode((PBLink(CID, None),), data_of(data=b"\x01")), "not in slot 0"),
        (PBNode((PBLink(CID, b"0a"), PBLink(CID, b"0B")), data_of(data=b"\x0c\x00")), "not in slot A"),
        (PBNode((PBLink(CID, b"0B"), PBLink(CID, b"0A")), data_of(data=b"\x0c\x00")), "not in slot A"),
        (PBNode((PBLink(CID, b"00name"),), data_of(data=b"\x01")), "where its hash does not lead"),
    ],
)
def test_malformed_shards_are_refused(node: PBNode, problem: str) -> None:
    with pytest.raises(HamtError, match=problem):
        decode_shard(node)


def test_a_sub_shard_must_have_its_roots_fanout_entries_and_a_depth_that_hashes_reach() -> None:
    node = node_of(b"name")
    with pytest.raises(HamtError, match="fanout 256 in a HAMT of fanout 16"):
        decode_shard(node, shape_of(16), 1, 0)
    with pytest.raises(HamtError, match="empty sub-shard"):
        decode_shard(PBNode((), data_of(data=None)), SHAPE, 1, 0)
    with pytest.raises(HamtError, match="deeper than 8 levels"):
        decode_shard(node, SHAPE, 8, 0)


def test_an_entry_in_a_shard_off_its_path_is_refused() -> None:
    name = b"name"
    slot = SHAPE.slot(hash_name(name), 1)
    links, data = encode_shard(SHAPE, [(slot, PBLink(CID, name))])
    node = PBNode(tuple(links), data)
    right = SHAPE.slot(hash_name(name), 0)
    assert decode_shard(node, SHAPE, 1, right).slots[0][1].name == name
    with pytest.raises(HamtError, match="where its hash does not lead"):
        decode_shard(node, SHAPE, 1, right ^ 1)


@given(
    links=st.lists(st.builds(PBLink, st.just(CID), st.binary(max_size=5) | st.none()), max_size=5),
    data=st.binary(max_size=20)
    | st.builds(
        lambda **fields: unixfs.encode(UnixfsData(DataType.HAMT_SHARD, **fields)),
        data=st.binary(max_size=40),
        hash_type=st.sampled_from([0x22, 0]),
        fanout=st.sampled_from([*FANOUTS, 0, 7, 2048]),
    ),
    depth=st.integers(0, 30),
)
def test_garbage_raises_only_decode_errors(links: list[PBLink], data: bytes, depth: int) -> None:
    node = PBNode(tuple(links), data)
    for parent in (None, SHAPE):
        try:
            decode_shard(node, parent, depth, 0)
        except DecodeError:
            continue
