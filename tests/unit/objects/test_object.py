import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.blob import Blob, BlobList, FileNodeError, ListPart
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.objects.commit import CommitError, CommitObject, ObjectData, ObjectKind, encode_commit, encode_object_data
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.directory import build_sharded_directory
from ipvcs.objects.inline import read_block
from ipvcs.objects.object import NotAnObjectError, Object, type_name, view
from ipvcs.objects.profile import UNIXFS_V1_2025
from ipvcs.objects.symlink import Symlink, SymlinkError
from ipvcs.objects.tag import TagObject, encode_tag
from ipvcs.objects.tree import Tree
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData
from tests.unit.objects.dags import Blocks, inline


def see(blocks: Blocks, cid: Cid) -> Object:
    return view(cid, blocks.get(cid))


def test_each_type_of_object_is_seen_as_what_it_is() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    link = PBLink(leaf, b"", 4)
    symlink = unixfs.encode(UnixfsData(DataType.SYMLINK, b"\xff", mtime=Mtime(1)))
    commit, tag = CommitObject(payload=b"c"), TagObject(payload=b"t")
    for cid, name, obj in [
        (leaf, "blob", Blob(b"leaf")),
        (blocks.add_file([], b"x", mode=0o600), "blob", Blob(b"x", 0o600)),
        (blocks.add_file([(leaf, 4)], b"x"), "list", BlobList(b"x", (ListPart(leaf, 4),), 5)),
        (blocks.add_node([link], unixfs.EMPTY_DIRECTORY), "tree", Tree(PBNode((link,), b"\x08\x01"), sharded=False)),
        (blocks.add_node((), symlink), "symlink", Symlink(b"\xff", mtime=Mtime(1))),
        (blocks.add(encode_commit(commit), codecs.DAG_PB), "commit", commit),
        (blocks.add(encode_tag(tag), codecs.DAG_PB), "tag", tag),
        (blocks.add_node([link]), "node", PBNode((link,))),
        (blocks.add_node([link], b"bytes"), "node", PBNode((link,), b"bytes")),
        (blocks.add_node((), b"\x08\x03"), "node", PBNode((), b"\x08\x03")),  # metadata
    ]:
        assert see(blocks, cid) == obj
        assert type_name(obj) == name


@pytest.mark.parametrize("sharded", [False, True])
def test_a_tree_lists_and_finds_its_entries_however_it_is_stored(sharded: bool) -> None:
    blocks = Blocks()
    links = [PBLink(blocks.add(b"%d" % number), b"%03d" % number, 1) for number in range(300)]
    if sharded:
        cid = build_sharded_directory(links, UNIXFS_V1_2025, blocks).cid
    else:
        cid = blocks.add_node(links, unixfs.EMPTY_DIRECTORY)
    tree = see(blocks, cid)
    assert isinstance(tree, Tree)
    assert tree.sharded is sharded
    assert sorted(tree.iter_entries(blocks), key=lambda link: link.name or b"") == links
    assert tree.try_get(blocks, b"007") == links[7]
    assert tree.try_get(blocks, b"7") is None


def test_damaged_objects_are_refused() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"x")
    symlink = unixfs.encode(UnixfsData(DataType.SYMLINK, b"target"))
    with pytest.raises(SymlinkError, match="it has links"):
        see(blocks, blocks.add_node([PBLink(leaf)], symlink))
    with pytest.raises(SymlinkError, match="it has no target"):
        see(blocks, blocks.add_node((), unixfs.encode(UnixfsData(DataType.SYMLINK))))
    with pytest.raises(FileNodeError):
        see(blocks, blocks.add_file([(leaf, 1)], blocksizes=()))
    with pytest.raises(CommitError):
        see(blocks, blocks.add_node([PBLink(leaf, b"x")], encode_object_data(ObjectData(ObjectKind.TAG, b""))))


def test_other_codecs_are_no_objects() -> None:
    cid = Block.of(b"\xa0", codecs.DAG_CBOR).cid
    with pytest.raises(NotAnObjectError, match="is a dag-cbor node"):
        view(cid, b"\xa0")


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda data: dag_pb.encode(PBNode((), data))))
def test_any_dag_pb_block_is_an_object_or_one_of_our_errors(data: bytes) -> None:
    try:
        obj = view(Block.of(data, codecs.DAG_PB).cid, data)
    except DecodeError:
        return
    assert type_name(obj) in {"blob", "list", "tree", "symlink", "commit", "tag", "node"}


@given(st.binary(max_size=128))
def test_an_inline_block_is_read_from_its_cid(data: bytes) -> None:
    blocks = Blocks()
    assert read_block(blocks, inline(data)) == data
    assert blocks.gets == []


def test_other_blocks_are_read_from_the_reader() -> None:
    blocks = Blocks()
    assert read_block(blocks, blocks.add(b"x")) == b"x"
    with pytest.raises(BlockNotFoundError):
        read_block(blocks, Block.of(b"y").cid)


def test_an_inline_block_over_128_bytes_is_refused() -> None:
    with pytest.raises(DecodeError):
        read_block(Blocks(), Cid(b"\x01\x55\x00\x81\x01" + bytes(129)))
