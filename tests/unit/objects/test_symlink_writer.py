"""Symlinks as Kubo stores them; their CIDs are among the vectors of `test_kubo_add_vectors`."""

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.profile import UNIXFS_V1_2025
from ipvcs.objects.symlink_writer import build_symlink
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData
from tests.fakes.memory_blocks import MemoryBlocks


@given(target=st.binary(min_size=1, max_size=100), mtime=st.none() | st.builds(Mtime, st.integers(-9, 9)))
def test_a_symlink_holds_its_target_and_mtime_and_no_size(target: bytes, mtime: Mtime | None) -> None:
    blocks = MemoryBlocks()
    built = build_symlink(target, UNIXFS_V1_2025, blocks, mtime=mtime)
    node = dag_pb.decode(blocks.get(built.cid))
    assert unixfs.decode(node.data or b"") == UnixfsData(DataType.SYMLINK, data=target, mtime=mtime)
    assert (node.links, built.filesize, built.size) == ((), 0, len(blocks.get(built.cid)))
