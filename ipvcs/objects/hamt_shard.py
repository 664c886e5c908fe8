"""One shard of a HAMT directory: its slots, its link names, its bitfield.

A shard has `fanout` slots. The hash of an entry's name (murmur3 x64_128, seed 0, the first 64 bits) is consumed from
its most significant bit on, log2(fanout) bits a level, and says in which slot of each level the entry belongs. A slot
holds nothing, an entry, or a sub-shard over the entries whose hashes agree so far. Link names start with the slot
number in upper-case hex, of fixed width; what follows is the entry's name, and nothing follows for a sub-shard. The
bitfield in the shard's data says which slots are taken: a big-endian number, bit i for slot i, leading zero bytes
stripped.

Shards come from strangers. `decode_shard` refuses whatever a lookup by name and a listing could see differently: slots
that do not match the bitfield, entries in a slot where their hash does not lead. The latter also bounds a walk: a shard
linked from two places can be right in one of them only.

Spec: https://specs.ipfs.tech/unixfs/#dag-pb-hamtdirectory; where its text is ambiguous, what boxo writes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.objects import unixfs
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.unixfs import MURMUR3, DataType, Mtime, UnixfsData

HASH_BITS: Final = 64
"""Bits of a name's hash; when they are used up, two names cannot be told apart."""
_HASH_MASK: Final = (1 << HASH_BITS) - 1


class HamtError(DecodeError):
    """A HAMT shard is malformed."""


@dataclass(frozen=True, slots=True)
class ShardShape:
    """What follows from a fanout, a power of two from 8 to 1024."""

    fanout: int
    bits: int
    """Bits of the hash that each level consumes."""
    prefix_width: int
    """Hex digits of a slot number in link names."""
    max_depth: int
    """Levels after which the hash is used up; the root is level 0."""

    def slot(self, name_hash: int, depth: int) -> int:
        """Return the slot of a name at the level `depth`, below `max_depth`."""
        return name_hash >> (HASH_BITS - self.bits * (depth + 1)) & (self.fanout - 1)

    def path(self, name_hash: int, depth: int) -> int:
        """Return the first `depth` slots of a name as one number, the root's slot most significant."""
        return name_hash >> (HASH_BITS - self.bits * depth)


@cache
def shape_of(fanout: int) -> ShardShape:
    """Return the shape of shards with `fanout` slots."""
    assert unixfs.is_fanout(fanout)
    bits = fanout.bit_length() - 1
    return ShardShape(fanout, bits, len(f"{fanout - 1:X}"), HASH_BITS // bits)


def hash_name(name: bytes) -> int:
    """Return the 64-bit hash that places an entry."""
    return _murmur3()(name)[0] & _HASH_MASK


@cache
def _murmur3() -> Callable[[bytes], tuple[int, int]]:
    from mmh3 import hash64  # both halves of the 128-bit hash, as signed integers

    return hash64


@dataclass(frozen=True, slots=True)
class Shard:
    """A decoded shard: taken slots in ascending order, each with a link whose name has lost its prefix.

    An empty name marks a sub-shard.
    """

    shape: ShardShape
    slots: Sequence[tuple[int, PBLink]]


def encode_shard(
    shape: ShardShape, slots: Iterable[tuple[int, PBLink]], mode: int | None = None, mtime: Mtime | None = None
) -> tuple[list[PBLink], bytes]:
    """Return the links and the data of the node that holds `slots`, which ascend and are named as in `Shard`."""
    links = []
    bitfield = 0
    width = shape.prefix_width
    for slot, link in slots:
        links.append(PBLink(link.cid, b"%0*X" % (width, slot) + (link.name or b""), link.size))
        bitfield |= 1 << slot
    data = UnixfsData(
        DataType.HAMT_SHARD,
        data=bitfield.to_bytes((bitfield.bit_length() + 7) // 8, "big") or None,
        hash_type=MURMUR3,
        fanout=shape.fanout,
        mode=mode,
        mtime=mtime,
    )
    return links, unixfs.encode(data)


def decode_shard(node: PBNode, parent: ShardShape | None = None, depth: int = 0, path: int = 0) -> Shard:
    """Return the shard that `node` holds.

    Args:
        node: from anybody.
        parent: the shape that the root has; None for the root itself.
        depth: the level of this shard, 0 for the root.
        path: the slots on the way to it, as `ShardShape.path` gives them.

    Raises:
        HamtError: no shard, another hash function or fanout, links that do not match the bitfield, an entry that does
            not belong here, an empty sub-shard, or one deeper than hashes reach.
        UnixfsError: the node's data is not UnixFS.
    """
    shape, bitfield = _decode_data(node)
    if parent is not None:
        if shape is not parent:
            raise HamtError(f"sub-shard of fanout {shape.fanout} in a HAMT of fanout {parent.fanout}")
        if depth >= shape.max_depth:
            raise HamtError(f"HAMT is deeper than {shape.max_depth} levels")
        if not node.links:
            raise HamtError("empty sub-shard")
    if bitfield.bit_count() != len(node.links):
        raise HamtError(f"shard has {len(node.links)} links, its bitfield {bitfield.bit_count()}")
    width = shape.prefix_width
    slots = []
    for link in node.links:
        # Slots come off the bitfield in ascending order; matching each link's prefix to it also refuses duplicates.
        slot = (bitfield & -bitfield).bit_length() - 1
        bitfield &= bitfield - 1
        label = link.name or b""
        if label[:width] != b"%0*X" % (width, slot):
            raise HamtError(f"link '{label.decode(errors='replace')}' is not in slot {slot:X} of its shard")
        name = label[width:]
        if name and shape.path(hash_name(name), depth + 1) != path << shape.bits | slot:
            raise HamtError(f"entry '{name.decode(errors='replace')}' is in a shard where its hash does not lead")
        slots.append((slot, PBLink(link.cid, name, link.size or 0)))
    return Shard(shape, slots)


def _decode_data(node: PBNode) -> tuple[ShardShape, int]:
    """Return a shard's shape and bitfield."""
    message = unixfs.decode(node.data or b"")
    if message.type is not DataType.HAMT_SHARD:
        raise HamtError("node is not a HAMT shard")
    if message.hash_type != MURMUR3:
        raise HamtError(f"unsupported HAMT hash function {message.hash_type}")
    if message.fanout is None:
        raise HamtError("HAMT shard without a fanout")
    bitfield = message.data or b""
    if len(bitfield) > message.fanout // 8:
        raise HamtError(f"bitfield of {len(bitfield)} bytes is too long for a fanout of {message.fanout}")
    return shape_of(message.fanout), int.from_bytes(bitfield, "big")
