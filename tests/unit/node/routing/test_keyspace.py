import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.routing.keyspace import (
    BITS,
    MAX_SOUGHT_PREFIX,
    Point,
    common_prefix_length,
    distance,
    key_near,
    nearest,
    point_of,
    point_of_peer,
)
from tests.strategies import peer_ids

VECTORS = Path("tests/vectors/kad-dht")
KEYSPACE = json.loads((VECTORS / "keyspace.json").read_text())

points = st.integers(0, (1 << BITS) - 1).map(Point)


@pytest.mark.parametrize(
    "vector", json.loads((VECTORS / "spec_kad_ids.json").read_text()), ids=lambda each: each["kind"]
)
def test_peers_and_contents_have_the_places_that_the_specification_gives(vector: dict[str, str]) -> None:
    if vector["kind"] == "peer":
        key = PeerId.parse(vector["b58"]).raw
        assert point_of_peer(PeerId.parse(vector["cid_b36"])) == point_of(key)
    else:
        key = Cid.parse(vector["cid"]).multihash
    assert key.hex() == vector["key_hex"]
    assert point_of(key).to_bytes(32, "big").hex() == vector["kad_id"]


def test_the_order_by_distance_is_that_of_go() -> None:
    keys = [Point(int(key, 16)) for key in KEYSPACE["distance_order"]["keys"]]
    center = keys[KEYSPACE["distance_order"]["center_index"]]
    order = sorted(range(len(keys)), key=lambda index: distance(keys[index], center))
    assert order == KEYSPACE["distance_order"]["sorted_indices"]


@pytest.mark.parametrize("vector", KEYSPACE["zero_prefix_len"], ids=lambda each: str(each["len"]))
def test_common_prefixes_are_as_long_as_those_of_go(vector: dict[str, Any]) -> None:
    raw = bytes(vector["bytes"])
    if any(raw):
        assert common_prefix_length(Point(0), Point(int.from_bytes(raw.ljust(32, b"\0"), "big"))) == vector["len"]


@given(a=points, b=points, c=points)
def test_distance_is_a_metric_and_determines_the_other_point(a: Point, b: Point, c: Point) -> None:
    assert distance(a, a) == 0
    assert distance(a, b) == distance(b, a)
    assert distance(a, c) <= distance(a, b) + distance(b, c)
    assert distance(a, distance(a, b)) == b  # type: ignore[arg-type]
    assert common_prefix_length(a, b) == BITS - distance(a, b).bit_length()


@given(target=points, peers=st.lists(peer_ids(), max_size=30, unique=True), number=st.integers(0, 30))
def test_the_nearest_are_the_first_in_order_of_distance(target: Point, peers: list[PeerId], number: int) -> None:
    order = sorted(peers, key=lambda peer: distance(point_of_peer(peer), target))
    assert nearest(target, peers, number) == order[:number]


@pytest.mark.parametrize("length", range(MAX_SOUGHT_PREFIX + 1))
def test_a_key_in_a_bucket_shares_just_so_many_bits(length: int) -> None:
    own = point_of(b"us")
    key = key_near(own, length, b"seed")
    assert common_prefix_length(own, point_of(key)) == length
    assert key != key_near(own, length, b"another seed")
