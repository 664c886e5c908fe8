import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IntegrityError, NotFoundError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid, CidError
from ipvcs.multiformats.multihash import MultihashError, UnknownHashError
from ipvcs.objects.block import Block, BlockMismatchError, BlockNotFoundError

FUNCTIONS = [multihash.SHA2_256, multihash.SHA2_512, multihash.SHA1, multihash.BLAKE3, multihash.code_of("blake2b-256")]


@given(
    st.binary(max_size=100), st.sampled_from(FUNCTIONS), st.sampled_from([codecs.RAW, codecs.DAG_PB, codecs.DAG_JSON])
)
def test_a_block_made_by_hashing_passes_its_own_check(data: bytes, function: int, codec: int) -> None:
    block = Block.of(data, codec, function)
    checked = Block(block.cid, data)
    assert checked.data == data
    assert (checked.cid.codec, checked.cid.hash_code) == (codec, function)


@given(st.binary(max_size=100), st.sampled_from(FUNCTIONS), st.data())
def test_a_flipped_bit_is_noticed(data: bytes, function: int, draw: st.DataObject) -> None:
    block = Block.of(data + b"\0", codecs.RAW, function)
    flipped = bytearray(block.data)
    flipped[draw.draw(st.integers(0, len(data)))] ^= 1 << draw.draw(st.integers(0, 7))
    with pytest.raises(BlockMismatchError, match=f"block '{block.cid}' is damaged") as caught:
        Block(block.cid, bytes(flipped))
    assert isinstance(caught.value, IntegrityError)
    assert caught.value.cid == block.cid


def test_a_v0_block_has_the_digest_of_its_v1_twin() -> None:
    v0, v1 = Block.of(b"", codecs.DAG_PB, version=0), Block.of(b"", codecs.DAG_PB)
    assert str(v0.cid) == "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"
    assert v0.cid.multihash == v1.cid.multihash
    with pytest.raises(CidError):
        Block.of(b"", codecs.RAW, version=0)


def test_an_identity_block_is_checked_against_the_cid_itself() -> None:
    block = Block.of(b"inline", hash_code=multihash.IDENTITY)
    assert Block(block.cid, b"inline").data == b"inline"
    with pytest.raises(BlockMismatchError):
        Block(block.cid, b"other")


def test_what_cannot_be_checked_is_not_taken() -> None:
    with pytest.raises(UnknownHashError):
        Block(Cid.make(multihash.wrap(0x9999, bytes(32))), b"")
    short = hashlib.sha512(b"").digest()[:19]
    with pytest.raises(MultihashError, match="below the safe minimum"):
        Block(Cid.make(multihash.wrap(multihash.SHA2_512, short)), b"")


def test_a_missing_block_is_named() -> None:
    cid = Block.of(b"x").cid
    error = BlockNotFoundError(cid)
    assert str(error) == f"block '{cid}' not found"
    assert isinstance(error, NotFoundError)
    assert error.cid == cid


def test_a_block_prints_its_cid_and_size_and_not_its_bytes() -> None:
    block = Block.of(b"x" * 1000)
    assert repr(block) == f"Block({block.cid}, 1000 bytes)"
