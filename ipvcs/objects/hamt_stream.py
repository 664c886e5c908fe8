"""A HAMT directory written from its entries in the order of their hashes, with only the open shards in memory.

In that order the entries of a shard follow each other, so one look at the neighbours says where an entry belongs: in
the shard at the level of the longest path that it shares with one of them. A shard is complete, and written, when the
next entry does not share its path. The result is what `hamt.Hamt` writes for the same entries.

Spec: https://specs.ipfs.tech/unixfs/#dag-pb-hamtdirectory
"""

from collections.abc import Iterable

from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.hamt import HamtCollisionError
from ipvcs.objects.hamt_shard import HASH_BITS, ShardShape, encode_shard, shape_of
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.unixfs import Mtime


def write_by_hash(
    entries: Iterable[tuple[int, PBLink]], nodes: NodeWriter, *, mode: int | None = None, mtime: Mtime | None = None
) -> Built:
    """Write the HAMT of `entries`, each with the hash of its name (`hash_name`), ascending; return the root.

    Shards are put children first. The root carries `mode` and `mtime`.

    Raises:
        HamtCollisionError: two names agree in all bits of their hashes that a HAMT can use.
    """
    shape = shape_of(nodes.options.hamt_fanout)
    open_shards: list[list[tuple[int, PBLink]]] = [[]]  # from the root down: the slots filled so far
    waiting: tuple[int, PBLink] | None = None
    shared_before = 0  # how many slots of their paths the waiting entry and the one before it have in common
    for following in entries:
        if waiting is not None:
            shared = _shared_path(shape, waiting, following)
            _place(open_shards, waiting, max(shared_before, shared), shared, shape, nodes)
            shared_before = shared
        waiting = following
    if waiting is not None:
        _place(open_shards, waiting, shared_before, 0, shape, nodes)
    links, data = encode_shard(shape, open_shards[0], mode, mtime)
    return nodes.put_node(links, data)


def _shared_path(shape: ShardShape, first: tuple[int, PBLink], second: tuple[int, PBLink]) -> int:
    """Return how many slots, from the root's on, two entries have in common."""
    assert first[0] <= second[0]
    shared = (HASH_BITS - (first[0] ^ second[0]).bit_length()) // shape.bits
    if shared >= shape.max_depth:
        raise HamtCollisionError(second[1].name or b"", first[1].name or b"")
    return shared


def _place(
    open_shards: list[list[tuple[int, PBLink]]],
    entry: tuple[int, PBLink],
    level: int,
    remain: int,
    shape: ShardShape,
    nodes: NodeWriter,
) -> None:
    """Put an entry into the shard at `level`, opening those on the way, and write the shards below level `remain`."""
    name_hash, link = entry
    while len(open_shards) <= level:
        open_shards.append([])
    open_shards[level].append((shape.slot(name_hash, level), link))
    while len(open_shards) > remain + 1:
        links, data = encode_shard(shape, open_shards.pop())
        above = len(open_shards) - 1
        open_shards[above].append((shape.slot(name_hash, above), nodes.put_node(links, data).link()))
