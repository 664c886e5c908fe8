"""Which root was pushed on top of which, as far as it can be told."""

from dataclasses import replace

from ipvcs.git_bridge.manifest import Manifest
from ipvcs.git_bridge.published_tree import PublishedTree, write_published
from ipvcs.git_bridge.root_history import MAX_STEPS, descends
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.objects.git.object_id import ObjectFormat
from tests.fakes.memory_blocks import MemoryBlocks
from tests.fakes.memory_network import key_of

FIRST = Manifest(ObjectFormat.SHA1, "unixfs-v1-2025", None, (), None, 1, 0, key_of("alice").peer_id)


def publish(blocks: MemoryBlocks, count: int, previous: Cid | None = None) -> list[Cid]:
    """Store roots that replaced each other; return them, the oldest first."""
    roots: list[Cid] = []
    for number in range(count):
        manifest = replace(FIRST, previous=roots[-1] if roots else previous, sequence=number)
        roots.append(write_published(PublishedTree(manifest, {}, {}, ()), {}, blocks).cid)
    return roots


def test_a_root_descends_from_itself_and_from_those_before_it_and_from_no_other() -> None:
    blocks = MemoryBlocks()
    roots = publish(blocks, 4)
    other = publish(blocks, 2, previous=roots[1])
    assert all(descends(blocks, roots[3], each) for each in roots)
    assert not descends(blocks, roots[2], roots[3])
    assert descends(blocks, other[1], roots[1])
    assert not descends(blocks, other[1], roots[2])


def test_it_goes_back_only_so_far_and_a_circle_is_no_trap() -> None:
    blocks = MemoryBlocks()
    roots = publish(blocks, MAX_STEPS + 2)
    assert descends(blocks, roots[-1], roots[1])
    assert not descends(blocks, roots[-1], roots[0])
    assert len(blocks.gets) < 10 * MAX_STEPS


def test_what_cannot_be_read_descends_from_nothing() -> None:
    blocks = MemoryBlocks()
    nothing = Block.of(b"no directory")
    blocks.put(nothing)
    (root,) = publish(blocks, 1)
    assert not descends(blocks, nothing.cid, root)
    assert not descends(blocks, Block.of(b"nowhere").cid, root)
