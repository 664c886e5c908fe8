"""What bytes from strangers are taken for, and how the store is reached from the event loop."""

import pytest

from ipvcs.errors import DecodeError, IpvcsError
from ipvcs.multiformats import codecs, multihash
from ipvcs.node.exchange.local_blocks import LocalBlocks, identify, store_and_read_links
from ipvcs.node.exchange.messages import ReceivedBlock
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block
from ipvcs.storage.memory import MemoryBlockstore

HELLO = Block.of(b"hello")


def received(block: Block) -> ReceivedBlock:
    return ReceivedBlock(block.cid.prefix, memoryview(block.data))


@pytest.mark.parametrize(
    "block",
    [
        HELLO,
        Block.of(dag_pb.encode(dag_pb.PBNode((), b"")), codecs.DAG_PB, version=0),
        Block.of(b"a", codecs.DAG_PB),
        Block.of(b"x", hash_code=multihash.code_of("sha2-512")),
        Block.of(b"x", hash_code=multihash.code_of("blake3")),
        Block.of(b"x", hash_code=multihash.code_of("sha2-256"), length=20),
        Block.of(b"git", codecs.GIT_RAW, multihash.code_of("sha1")),
    ],
    ids=str,
)
def test_a_block_is_what_its_bytes_hash_to(block: Block) -> None:
    (found,) = identify([received(block)])
    assert (found.cid, found.data) == (block.cid, block.data)


@pytest.mark.parametrize(
    "prefix", [b"", b"\x01", b"\x02\x55\x12\x20", b"\x01\x55\x12\x20\x00", b"\x01\x55\x00\x05", b"\x01\x55\x12\x21"]
)
def test_a_prefix_that_is_none_is_an_error_of_ours(prefix: bytes) -> None:
    with pytest.raises(IpvcsError):
        identify([ReceivedBlock(prefix, memoryview(b"hello"))])


def test_an_unknown_hash_function_is_an_error() -> None:
    with pytest.raises(IpvcsError, match="hash"):
        identify([ReceivedBlock(b"\x01\x55\x1b\x20", memoryview(b"hello"))])


def test_links_are_told_and_what_has_unreadable_ones_is_stored_and_told() -> None:
    store = MemoryBlockstore()
    node = Block.of(dag_pb.encode(dag_pb.PBNode((dag_pb.PBLink(HELLO.cid, b"", 5),), None)), codecs.DAG_PB)
    broken = Block.of(b"\xff\xff", codecs.DAG_PB)
    with store.writing() as writer:
        assert store_and_read_links(HELLO, (writer,)) == (HELLO.cid, 5, (), None)
        assert list(store_and_read_links(node, (writer,)).links) == [HELLO.cid]
        problem = store_and_read_links(broken, (writer,)).problem
    assert isinstance(problem, DecodeError)
    assert all(store.has(block.cid) for block in (HELLO, node, broken))


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_the_store_is_reached_in_threads() -> None:
    store = MemoryBlockstore()
    store.put_many([HELLO])
    local = LocalBlocks(store)
    other = Block.of(b"other").cid
    assert await local.sizes([HELLO.cid, other]) == {HELLO.cid.multihash: 5}
    assert await local.sizes([]) == {}
    assert await local.read([other, HELLO.cid]) == [(other, None), (HELLO.cid, b"hello")]
