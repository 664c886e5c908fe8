"""The S/Kademlia static crypto puzzle: ids that cost work, so that nobody makes them by the million.

The white paper (§3.1) makes a node's key again and again until `count_preceding_zero_bits(hash(n.NodeId))` with
`NodeId = hash(PubKey)` is at least `difficulty`. S/Kademlia (Baumgart and Mies 2007, section 4.1) calls it the static
puzzle: the first bits of H(H(public key)) are zero. Here H is sha2-256 and the public key is its protobuf message, the
bytes from which libp2p makes the id; so the definition holds for ids that inline the key and for those that hash it.

Each bit doubles the expected number of keys that must be made, while checking is two hashes of the public key alone.
What makes keys and what reports progress are arguments: no clock, no randomness.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final

from ipvcs.node.identity.keys import PrivateKey, PublicKey

MAX_DIFFICULTY: Final = 64
"""Bits, far above what can be solved: at 15,000 keys a second 40 bits take two years."""


def difficulty_of(key: PublicKey) -> int:
    """Return the difficulty that `key` solves: the number of leading zero bits of sha2-256(sha2-256(key))."""
    digest = sha256(sha256(key.encode()).digest()).digest()
    return len(digest) * 8 - int.from_bytes(digest).bit_length()


def solve(difficulty: int, make_key: Callable[[], PrivateKey], report: Callable[[int], None]) -> PrivateKey:
    """Return the first key of `make_key` whose difficulty is at least `difficulty`.

    Expect 2**`difficulty` keys, any number of which may have been made without that changing. `report` is called with
    the number of keys tried, after each that does not solve the puzzle.
    """
    tries = 0
    while difficulty_of((key := make_key()).public_key) < difficulty:
        tries += 1
        report(tries)
    return key
