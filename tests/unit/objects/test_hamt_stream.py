"""Writing a HAMT in the order of hashes gives what building the trie gives, block for block."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.directory import EntryNameError, build_directory_by_hash
from ipvcs.objects.hamt import Hamt, HamtCollisionError
from ipvcs.objects.hamt_shard import hash_name
from ipvcs.objects.hamt_stream import write_by_hash
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.profile import resolve_options
from ipvcs.objects.unixfs import Mtime
from tests.fakes.memory_blocks import MemoryBlocks

LEAF = Cid.parse("bafkreiebzrnroamgos2adnbpgw5apo3z4iishhbdx77gldnbk57d4zdio4")


def both(names: set[bytes], fanout: int) -> tuple[tuple[Built, MemoryBlocks], tuple[Built, MemoryBlocks]]:
    options = resolve_options("unixfs-v1-2025", hamt_fanout=fanout)
    links = [PBLink(LEAF, name, len(name)) for name in names]
    streamed, built = MemoryBlocks(), MemoryBlocks()
    by_hash = sorted((hash_name(link.name or b""), link) for link in links)
    root = write_by_hash(by_hash, NodeWriter(options, streamed), mode=0o755, mtime=Mtime(1))
    trie = Hamt(fanout)
    for link in links:
        trie.set(link)
    return (root, streamed), (trie.write(NodeWriter(options, built), mode=0o755, mtime=Mtime(1)), built)


@given(
    names=st.sets(st.binary(min_size=1, max_size=6).filter(lambda name: not set(name) & {0, 47}), max_size=300),
    fanout=st.sampled_from([8, 16, 256, 1024]),
)
def test_the_blocks_are_those_of_the_trie(names: set[bytes], fanout: int) -> None:
    (streamed, stored), (built, expected) = both(names, fanout)
    assert streamed == built
    assert stored.blocks == expected.blocks


def test_many_entries_agree_with_the_trie() -> None:
    (streamed, stored), (built, expected) = both({b"%d" % number for number in range(5000)}, 8)
    assert streamed == built
    assert stored.blocks == expected.blocks


def test_names_with_one_hash_are_refused() -> None:
    options = resolve_options("unixfs-v1-2025")
    entries = [(7, PBLink(LEAF, b"a", 1)), (7, PBLink(LEAF, b"b", 1))]
    with pytest.raises(HamtCollisionError):
        write_by_hash(entries, NodeWriter(options, MemoryBlocks()))


def test_bad_names_are_refused() -> None:
    with pytest.raises(EntryNameError):
        build_directory_by_hash([(1, PBLink(LEAF, b"a/b", 1))], resolve_options("unixfs-v1-2025"), MemoryBlocks())
