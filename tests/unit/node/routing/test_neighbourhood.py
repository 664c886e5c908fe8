"""Which keys a lookup serves: whatever it claims, the peers that it names are really the nearest, mostly."""

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.keyspace import nearest, point_of, point_of_peer
from ipvcs.node.routing.neighbourhood import Neighbourhood
from ipvcs.node.routing.routing_table import K
from tests.fakes.memory_network import key_of

NETWORK = [key_of(f"peer {number}").peer_id for number in range(600)]


def found(key: bytes, network: int = 600) -> tuple[Neighbourhood, list[PeerInfo]]:
    peers = [PeerInfo(peer_id) for peer_id in nearest(point_of(key), NETWORK[:network], K)]
    return Neighbourhood(point_of(key), peers), peers


@given(st.binary(min_size=1, max_size=8), st.lists(st.binary(min_size=1, max_size=8), max_size=60))
def test_for_a_key_that_is_served_at_least_half_of_the_nearest_peers_are_found(key: bytes, others: list[bytes]) -> None:
    near, _peers = found(key)
    for other in others:
        place = point_of(other)
        if near.serves(place):
            right = nearest(place, NETWORK, K)
            named = [peer.peer_id for peer in near.nearest(place)]
            assert named[: K // 2] == right[: K // 2], "and those in order"


def test_its_own_key_is_served_and_most_of_the_keyspace_is_not() -> None:
    keys = [hashlib.sha256(b"%d" % number).digest() for number in range(3000)]
    lookups = 0
    near = None
    for key in sorted(keys, key=point_of):
        if near is None or not near.serves(point_of(key)):
            near, _peers = found(key)
            lookups += 1
    assert 20 < lookups < 600, "a fifth of the keys or fewer, over the whole of the keyspace"


def test_a_network_of_fewer_than_k_peers_is_served_by_one_lookup() -> None:
    near, peers = found(b"a", network=K - 1)
    far = min(range(200), key=lambda number: -(point_of(b"%d" % number) ^ point_of(b"a")))
    place = point_of(b"%d" % far)
    assert near.serves(place)
    assert [peer.peer_id for peer in near.nearest(place)] == nearest(place, NETWORK[: K - 1], K)
    assert len(peers) == K - 1
    assert point_of_peer(near.nearest(place)[0].peer_id) ^ place <= point_of_peer(peers[0].peer_id) ^ place


def test_a_lookup_that_found_nobody_or_did_not_end_serves_its_own_key_alone() -> None:
    keys = [b"%d" % number for number in range(64)]
    for near in (
        Neighbourhood(point_of(keys[0]), []),
        Neighbourhood(point_of(keys[0]), found(keys[0], network=K - 1)[1], is_whole=False),
        Neighbourhood(point_of(keys[0]), found(keys[0])[1], is_whole=False),
    ):
        assert not any(near.serves(point_of(key)) for key in keys[1:])
