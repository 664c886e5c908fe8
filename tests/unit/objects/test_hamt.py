"""The trie: one root for one set of entries, laziness, hostile shards, collisions."""

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, hamt
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.hamt import Hamt, HamtCollisionError
from ipvcs.objects.hamt_shard import HamtError, encode_shard, hash_name, shape_of
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.profile import UNIXFS_V1_2025
from ipvcs.objects.unixfs import Mtime
from tests.fakes.memory_blocks import DiscardingWriter, MemoryBlocks

CIDS = [Cid.of(bytes([number]) * 32) for number in range(4)]
CID = CIDS[0]
NAMES = st.binary(min_size=1, max_size=3)
FANOUTS = st.sampled_from([8, 16, 32, 256, 1024])


def names_below(*slots: int, count: int, shape: int = 256) -> list[bytes]:
    """Find `count` names whose hashes start with `slots`."""
    found: list[bytes] = []
    number = 0
    while len(found) < count:
        name = b"n%d" % number
        if all(shape_of(shape).slot(hash_name(name), depth) == slot for depth, slot in enumerate(slots)):
            found.append(name)
        number += 1
    return found


def build(names: Iterable[bytes], fanout: int = 256) -> tuple[Hamt, MemoryBlocks, Built]:
    trie = Hamt(fanout)
    for name in names:
        trie.set(PBLink(CID, name, 7))
    blocks = MemoryBlocks()
    return trie, blocks, trie.write(NodeWriter(UNIXFS_V1_2025, blocks))


def root_of(blocks: MemoryBlocks, built: Built) -> PBNode:
    return dag_pb.decode(blocks.blocks[built.cid])


@given(names=st.sets(NAMES, max_size=60), fanout=FANOUTS, data=st.data())
def test_the_order_of_insertion_does_not_show(names: set[bytes], fanout: int, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(sorted(names)))
    assert build(sorted(names), fanout)[2] == build(shuffled, fanout)[2]


@given(names=st.sets(NAMES, max_size=60), fanout=FANOUTS, others=st.lists(NAMES, max_size=5))
def test_every_entry_is_found_and_listed_and_no_other(names: set[bytes], fanout: int, others: list[bytes]) -> None:
    _, blocks, built = build(names, fanout)
    root = root_of(blocks, built)
    listed = list(hamt.iter_entries(blocks, root))
    assert sorted(link.name or b"" for link in listed) == sorted(names)
    assert [hash_name(link.name or b"") for link in listed] == sorted(map(hash_name, names))
    loaded = Hamt.load(blocks, root)
    assert list(loaded) == listed
    for name in [*names, *others]:
        expected = PBLink(CID, name, 7) if name in names else None
        assert hamt.lookup(blocks, root, name) == expected
        assert loaded.try_get(name) == expected


@given(names=st.sets(NAMES, min_size=1, max_size=60), fanout=FANOUTS)
def test_sizes_are_the_sum_of_all_blocks_and_entries(names: set[bytes], fanout: int) -> None:
    _, blocks, built = build(names, fanout)
    assert built.size == sum(map(len, blocks.blocks.values())) + 7 * len(names)


class HamtMachine(RuleBasedStateMachine):
    """A HAMT that is changed, written and loaded has the root of one built afresh from the same entries."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = MemoryBlocks()
        self.model: dict[bytes, PBLink] = {}

    @initialize(fanout=FANOUTS)
    def start(self, fanout: int) -> None:
        self.fanout = fanout
        self.trie = Hamt(fanout)

    @rule(name=NAMES, cid=st.sampled_from(CIDS))
    def set(self, name: bytes, cid: Cid) -> None:
        link = PBLink(cid, name, 1)
        assert self.trie.set(link) == self.model.get(name)
        self.model[name] = link

    @rule(names=st.lists(NAMES, max_size=20))
    def set_many(self, names: list[bytes]) -> None:
        for name in names:
            self.set(name, CID)

    @rule(name=NAMES)
    def remove_any(self, name: bytes) -> None:
        assert self.trie.remove(name) == self.model.pop(name, None)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove_some(self, data: st.DataObject) -> None:
        for name in data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True)):
            self.remove_any(name)

    @rule()
    def reload(self) -> None:
        built = self.trie.write(NodeWriter(UNIXFS_V1_2025, self.blocks))
        self.trie = Hamt.load(self.blocks, root_of(self.blocks, built))

    @invariant()
    def has_the_root_of_a_fresh_one(self) -> None:
        fresh = Hamt(self.fanout)
        for link in self.model.values():
            fresh.set(link)
        nodes = NodeWriter(UNIXFS_V1_2025, self.blocks)
        assert self.trie.write(nodes) == fresh.write(NodeWriter(UNIXFS_V1_2025, DiscardingWriter()))
        assert sorted(link.name or b"" for link in self.trie) == sorted(self.model)


HamtMachine.TestCase.settings = settings(stateful_step_count=10)
TestHamtMachine = HamtMachine.TestCase


def test_a_lookup_reads_only_the_shards_on_its_way() -> None:
    names = [b"file%d" % number for number in range(2000)]
    _, blocks, built = build(names)
    root = root_of(blocks, built)
    for name in names[:50]:
        blocks.gets.clear()
        assert hamt.lookup(blocks, root, name) == PBLink(CID, name, 7)
        assert len(blocks.gets) <= 2


def test_a_change_reads_and_writes_only_the_shards_on_its_way() -> None:
    _, blocks, built = build(b"file%d" % number for number in range(2000))
    changes: list[Callable[[Hamt], object]] = [
        lambda trie: trie.set(PBLink(CID, b"new", 1)),
        lambda trie: trie.remove(b"file7"),
    ]
    for change in changes:
        trie = Hamt.load(blocks, root_of(blocks, built))
        blocks.gets.clear()
        blocks.puts.clear()
        change(trie)
        trie.write(NodeWriter(UNIXFS_V1_2025, blocks))
        assert 1 <= len(blocks.gets) <= 2
        assert 2 <= len(blocks.puts) <= 3


def test_removing_what_is_not_there_writes_no_sub_shard() -> None:
    _, blocks, built = build(b"file%d" % number for number in range(2000))
    trie = Hamt.load(blocks, root_of(blocks, built))
    blocks.puts.clear()
    assert trie.remove(b"absent") is None
    assert trie.write(NodeWriter(UNIXFS_V1_2025, blocks)) == built
    assert blocks.puts == [built.cid]


def test_a_shard_is_read_when_the_listing_gets_to_it() -> None:
    _, blocks, built = build(b"file%d" % number for number in range(2000))
    entries = hamt.iter_entries(blocks, root_of(blocks, built))
    next(entries)
    assert len(blocks.gets) <= 1


def test_mode_and_mtime_are_the_roots_alone() -> None:
    trie, blocks, plain = build(names_below(3, count=2))
    built = trie.write(NodeWriter(UNIXFS_V1_2025, blocks), mode=0o700, mtime=Mtime(1))
    assert built.cid != plain.cid
    assert root_of(blocks, built).links == root_of(blocks, plain).links


def test_names_that_share_their_whole_hash_are_refused_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = {b"a": 5 << 4, b"b": (5 << 4) + 1, b"c": 9 << 4, b"d": (5 << 4) + 15}
    monkeypatch.setattr(hamt, "hash_name", lambda name: fake[name])
    trie, _, built = build([b"a", b"c"], 1024)  # of 64 bits, 6 levels of 10 use 60
    for name in (b"b", b"d"):
        with pytest.raises(HamtCollisionError, match=f"'{name.decode()}' and 'a'"):
            trie.set(PBLink(CID, name, 1))
    assert trie.write(NodeWriter(UNIXFS_V1_2025, DiscardingWriter())) == built
    other, _, _ = build([b"a"], 256)
    other.set(PBLink(CID, b"b", 1))  # 8 levels of 8 bits use all 64
    assert other.try_get(b"a") is not None
    assert other.try_get(b"b") is not None


def test_a_missing_shard_is_an_error_and_the_rest_can_be_read() -> None:
    names = [*names_below(3, count=2), *names_below(4, count=1)]
    _, blocks, built = build(names)
    root = root_of(blocks, built)
    shard = next(link for link in root.links if len(link.name or b"") == 2)
    del blocks.blocks[shard.cid]
    with pytest.raises(BlockNotFoundError):
        hamt.lookup(blocks, root, names[0])
    assert hamt.lookup(blocks, root, names[2]) is not None


def stored_shard(blocks: MemoryBlocks, slots: list[tuple[int, PBLink]], codec: int = codecs.DAG_PB) -> Cid:
    links, data = encode_shard(shape_of(256), slots)
    block = Block.of(dag_pb.encode_parts(links, data), codec)
    blocks.put(block)
    return block.cid


def test_one_sub_shard_linked_from_two_slots_is_refused() -> None:
    # Without a check, a dozen such shards would list more entries than there are atoms.
    blocks = MemoryBlocks()
    inner, _ = names_below(3, count=2)
    shape = shape_of(256)
    cid = stored_shard(blocks, [(shape.slot(hash_name(inner), 1), PBLink(CID, inner))])
    links, data = encode_shard(shape, [(slot, PBLink(cid, b"")) for slot in range(256)])
    with pytest.raises(HamtError, match="where its hash does not lead"):
        list(hamt.iter_entries(blocks, PBNode(tuple(links), data)))


def test_a_chain_deeper_than_the_hash_is_refused() -> None:
    blocks = MemoryBlocks()
    name_hash = hash_name(b"name")
    cid = Cid.of(bytes(32), codecs.DAG_PB)
    for depth in reversed(range(20)):
        cid = stored_shard(blocks, [(shape_of(256).slot(name_hash, depth % 8), PBLink(cid, b""))])
    root = dag_pb.decode(blocks.blocks[cid])
    with pytest.raises(HamtError, match="deeper than 8"):
        list(hamt.iter_entries(blocks, root))
    with pytest.raises(HamtError, match="deeper than 8"):
        hamt.lookup(blocks, root, b"name")
    with pytest.raises(HamtError, match="deeper than 8"):
        Hamt.load(blocks, root).set(PBLink(CID, b"name", 1))


def test_a_sub_shard_that_is_no_node_is_refused() -> None:
    blocks = MemoryBlocks()
    links, data = encode_shard(shape_of(256), [(0, PBLink(Cid.of(bytes(32), codecs.RAW), b""))])
    with pytest.raises(HamtError, match="not a dag-pb block"):
        list(hamt.iter_entries(blocks, PBNode(tuple(links), data)))


def test_a_strangers_shard_of_one_entry_folds_away_when_it_is_changed() -> None:
    blocks = MemoryBlocks()
    shape = shape_of(256)
    first, second = names_below(3, count=2)
    lonely = stored_shard(blocks, [(shape.slot(hash_name(first), 1), PBLink(CID, first, 7))])
    links, data = encode_shard(shape, [(3, PBLink(lonely, b""))])
    root = PBNode(tuple(links), data)
    trie = Hamt.load(blocks, root)
    trie.remove(first)
    assert trie.write(NodeWriter(UNIXFS_V1_2025, blocks)) == build([])[2]
    trie = Hamt.load(blocks, root)
    trie.set(PBLink(CID, second, 7))
    assert trie.write(NodeWriter(UNIXFS_V1_2025, blocks)) == build([first, second])[2]


@pytest.mark.long
def test_sixty_thousand_entries() -> None:
    names = [b"file-%d.txt" % number for number in range(60_000)]
    _, blocks, built = build(names)
    assert len(list(hamt.iter_entries(blocks, root_of(blocks, built)))) == 60_000
