"""Kademlia's key space: everything has a place in it, and the distance of two places is their XOR.

Peers, blocks and values share one space. What is hashed is the raw key: the bytes of a peer id; the *multihash* of a
CID, so that all CIDs of the same bytes meet in one place; the whole key of a value, namespace included.

Spec: https://github.com/libp2p/specs/blob/master/kad-dht/README.md#distance
"""

import hashlib
from collections.abc import Iterable
from heapq import nsmallest
from typing import Final, NewType

from ipvcs.multiformats.peer_id import PeerId

BITS: Final = 256

Point = NewType("Point", int)
"""A place in the key space: the SHA-256 of a key, read as a big-endian number."""

MAX_SOUGHT_PREFIX: Final = 12
"""The longest common prefix that `key_near` looks for: 8,192 hashes on average, some 5 ms."""


def point_of(key: bytes) -> Point:
    """Return the place of `key`."""
    return Point(int.from_bytes(hashlib.sha256(key).digest(), "big"))


def point_of_peer(peer_id: PeerId) -> Point:
    """Return the place of a peer."""
    return point_of(peer_id.raw)


def distance(a: Point, b: Point) -> int:
    """Return how far apart two places are, from 0 to 2**256 - 1."""
    return a ^ b


def common_prefix_length(a: Point, b: Point) -> int:
    """Return how many leading bits two places share, 256 for the same one: a k-bucket's number."""
    return BITS - (a ^ b).bit_length()


def nearest(target: Point, peers: Iterable[PeerId], number: int) -> list[PeerId]:
    """Return at most `number` of `peers`, nearest to `target` first."""
    return nsmallest(number, peers, key=lambda peer_id: point_of_peer(peer_id) ^ target)


def key_near(own: Point, prefix_length: int, seed: bytes) -> bytes:
    """Return a key whose place shares exactly `prefix_length` bits with `own`; `seed` makes it unpredictable.

    A lookup names a key, not a place, so one that leads into a certain bucket has to be found by trying.
    """
    assert 0 <= prefix_length <= MAX_SOUGHT_PREFIX
    number = 0
    while True:
        key = hashlib.sha256(seed + number.to_bytes(8, "big")).digest()
        if common_prefix_length(own, point_of(key)) == prefix_length:
            return key
        number += 1
