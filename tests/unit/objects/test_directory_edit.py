"""Single changes to stored directories: they end where a fresh build ends, and turn plain and sharded on the way."""

from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.directory import (
    DirectoryError,
    EntryNameError,
    NotADirectoryNodeError,
    build_directory,
    build_plain_directory,
    build_sharded_directory,
    directory_data,
)
from ipvcs.objects.directory_edit import EntryNotFoundError, add_entry, remove_entry
from ipvcs.objects.hamt import Hamt
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, ImportOptions
from ipvcs.objects.unixfs import EMPTY_DIRECTORY, DataType, Mtime
from tests.fakes.memory_blocks import DiscardingWriter, MemoryBlocks

CID = Cid.of(bytes(32))
SHORT = Cid(b"\x12\x20" + bytes(32))  # a link to it is 2 bytes shorter
NAMES = st.integers(0, 99).map(lambda number: b"%d" % number)
SMALL = replace(UNIXFS_V1_2025, hamt_threshold=300)
OPTIONS = [
    SMALL,
    replace(SMALL, hamt_fanout=8),
    replace(UNIXFS_V0_2015, hamt_threshold=300),
    replace(SMALL, max_directory_links=4),
    replace(SMALL, hamt_estimate="disabled", max_directory_links=4),
    replace(SMALL, hamt_estimate="disabled"),
    replace(SMALL, hamt_threshold=0),
    replace(SMALL, inline=True, inline_limit=128),
]


class DirectoryMachine(RuleBasedStateMachine):
    """After any changes, a directory is the one that `build_directory` makes of its entries."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = MemoryBlocks()
        self.model: dict[bytes, PBLink] = {}

    @initialize(options=st.sampled_from(OPTIONS), mode=st.none() | st.just(0o755))
    def start(self, options: ImportOptions, mode: int | None) -> None:
        self.options = options
        self.mode = mode
        self.built = build_directory([], options, self.blocks, mode=mode)

    @rule(name=NAMES, cid=st.sampled_from([CID, SHORT]), size=st.sampled_from([0, 200, 1 << 40]))
    def add(self, name: bytes, cid: Cid, size: int) -> None:
        self.model[name] = PBLink(cid, name, size)
        self.built = add_entry(self.blocks, self.blocks, self.built.cid, self.model[name], self.options)

    @rule(names=st.lists(NAMES, max_size=8))
    def add_many(self, names: list[bytes]) -> None:
        for name in names:
            self.add(name, CID, 1)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        for name in data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True, max_size=8)):
            del self.model[name]
            self.built = remove_entry(self.blocks, self.blocks, self.built.cid, name, self.options)

    @rule(name=NAMES)
    def remove_absent(self, name: bytes) -> None:
        if name not in self.model:
            with pytest.raises(EntryNotFoundError, match="has no entry"):
                remove_entry(self.blocks, self.blocks, self.built.cid, name, self.options)

    @invariant()
    def equals_a_fresh_build(self) -> None:
        fresh = build_directory(self.model.values(), self.options, DiscardingWriter(), mode=self.mode)
        assert self.built == fresh


DirectoryMachine.TestCase.settings = settings(stateful_step_count=10)
TestDirectoryMachine = DirectoryMachine.TestCase


def root(blocks: MemoryBlocks, built: Built) -> PBNode:
    return dag_pb.decode(blocks.get(built.cid))


def kind(blocks: MemoryBlocks, built: Built) -> DataType:
    return directory_data(root(blocks, built)).type


def links(count: int) -> list[PBLink]:
    return [PBLink(CID, b"%d" % number, 1) for number in range(count)]


def test_the_entry_that_crosses_the_threshold_shards_and_its_removal_turns_back() -> None:
    blocks = MemoryBlocks()
    plain = build_directory(links(6), SMALL, blocks, mode=0o700, mtime=Mtime(1))
    tight = replace(SMALL, hamt_threshold=len(blocks.get(plain.cid)) + 44)  # an entry takes 45
    assert kind(blocks, plain) is DataType.DIRECTORY
    sharded = add_entry(blocks, blocks, plain.cid, PBLink(CID, b"7", 1), tight)
    assert kind(blocks, sharded) is DataType.HAMT_SHARD
    message = directory_data(root(blocks, sharded))
    assert (message.mode, message.mtime) == (0o700, Mtime(1))
    assert remove_entry(blocks, blocks, sharded.cid, b"7", tight) == plain
    fits = replace(tight, hamt_threshold=tight.hamt_threshold + 1)
    assert kind(blocks, add_entry(blocks, blocks, plain.cid, PBLink(CID, b"7", 1), fits)) is DataType.DIRECTORY


def test_a_small_sharded_directory_stays_sharded_until_it_shrinks() -> None:
    # As boxo: below the threshold, but nobody looks as long as it grows.
    blocks = MemoryBlocks()
    small = build_sharded_directory(links(2), SMALL, blocks)
    grown = add_entry(blocks, blocks, small.cid, PBLink(CID, b"new", 1), SMALL)
    assert kind(blocks, grown) is DataType.HAMT_SHARD
    assert remove_entry(blocks, blocks, grown.cid, b"new", SMALL) == build_directory(links(2), SMALL, blocks)
    shorter = add_entry(blocks, blocks, grown.cid, PBLink(SHORT, b"new", 1), SMALL)
    assert kind(blocks, shorter) is DataType.DIRECTORY


def test_a_replacement_does_not_shard_a_directory_that_is_over_the_maximum_already() -> None:
    blocks = MemoryBlocks()
    options = replace(UNIXFS_V1_2025, max_directory_links=3)
    long = build_plain_directory(links(5), options, blocks)
    replaced = add_entry(blocks, blocks, long.cid, PBLink(SHORT, b"0", 1), options)
    assert kind(blocks, replaced) is DataType.DIRECTORY
    assert kind(blocks, add_entry(blocks, blocks, long.cid, PBLink(SHORT, b"5", 1), options)) is DataType.HAMT_SHARD


def test_a_sharded_directory_keeps_its_fanout() -> None:
    blocks = MemoryBlocks()
    sharded = build_sharded_directory(links(20), replace(SMALL, hamt_fanout=16), blocks)
    added = add_entry(blocks, blocks, sharded.cid, PBLink(CID, b"new", 1), SMALL)
    assert directory_data(root(blocks, added)).fanout == 16


def test_a_payload_in_a_plain_directory_is_kept() -> None:
    blocks = MemoryBlocks()
    plain = build_plain_directory(links(1), UNIXFS_V1_2025, blocks, data=b"payload", mtime=Mtime(9, 1))
    for changed in (
        add_entry(blocks, blocks, plain.cid, PBLink(CID, b"new", 1), UNIXFS_V1_2025),
        remove_entry(blocks, blocks, plain.cid, b"0", UNIXFS_V1_2025),
    ):
        message = directory_data(root(blocks, changed))
        assert (message.data, message.mtime) == (b"payload", Mtime(9, 1))


def test_a_change_in_a_large_directory_touches_few_shards() -> None:
    blocks = MemoryBlocks()
    trie = Hamt(256)
    for number in range(6000):
        trie.set(PBLink(CID, b"%030d" % number, 1))
    built = trie.write(NodeWriter(UNIXFS_V1_2025, blocks))
    blocks.puts.clear()
    blocks.gets.clear()
    added = add_entry(blocks, blocks, built.cid, PBLink(CID, b"new", 1), UNIXFS_V1_2025)
    assert len(blocks.puts) <= 3
    assert len(blocks.gets) <= 3
    blocks.puts.clear()
    assert remove_entry(blocks, blocks, added.cid, b"new", UNIXFS_V1_2025) == built
    assert len(blocks.puts) <= 3


@pytest.mark.parametrize("name", [None, b"", b"a/b", b"\0"])
def test_a_bad_name_is_refused(name: bytes | None) -> None:
    blocks = MemoryBlocks()
    empty = build_directory([], SMALL, blocks)
    with pytest.raises(EntryNameError):
        add_entry(blocks, blocks, empty.cid, PBLink(CID, name), SMALL)


def test_what_is_no_directory_is_refused() -> None:
    with pytest.raises(NotADirectoryNodeError, match="is not a directory"):
        add_entry(MemoryBlocks(), MemoryBlocks(), CID, PBLink(CID, b"a"), SMALL)


def test_a_strangers_directory_with_a_name_twice_is_not_changed() -> None:
    blocks = MemoryBlocks()
    twice = NodeWriter(SMALL, blocks).put_node([PBLink(CID, b"a"), PBLink(CID, b"a")], EMPTY_DIRECTORY)
    with pytest.raises(DirectoryError, match="two entries"):
        remove_entry(blocks, blocks, twice.cid, b"a", SMALL)
