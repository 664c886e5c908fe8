"""Memos live as long as the blocks they name."""

from ipvcs.multiformats import multihash
from ipvcs.objects.block import Block
from ipvcs.storage import gc
from ipvcs.storage.home import Home
from ipvcs.storage.pins import Pin, PinMode
from tests.contracts.blockstore import ABSENT, HELLO
from tests.unit.storage.dags import ROOT, TREE


def test_memos_come_back_and_unknown_keys_are_left_out(home: Home) -> None:
    home.blocks.put_many([HELLO])
    home.memos.put_many({b"a": (HELLO.cid, 5), b"b": (HELLO.cid, 2**53 - 1)})

    assert home.memos.get_many([b"a", b"b", b"c"]) == {b"a": (HELLO.cid, 5), b"b": (HELLO.cid, 2**53 - 1)}


def test_a_memo_of_an_absent_block_is_not_taken(home: Home) -> None:
    home.memos.put_many({b"a": (ABSENT, 5)})
    assert home.memos.get_many([b"a"]) == {}


def test_a_memo_of_an_identity_cid_needs_no_block(home: Home) -> None:
    inline = Block.of(b"A U Thor <a@example.com>", hash_code=multihash.IDENTITY)
    home.memos.put_many({b"author": (inline.cid, 24)})
    assert home.memos.get_many([b"author"]) == {b"author": (inline.cid, 24)}


def test_deleting_a_block_deletes_all_of_its_memos_and_no_others(home: Home) -> None:
    other = Block.of(b"other")
    home.blocks.put_many([HELLO, other])
    home.memos.put_many({bytes([n]): (HELLO.cid, n) for n in range(50)} | {b"other": (other.cid, 5)})

    home.blocks.delete([HELLO.cid])

    assert home.memos.get_many([*(bytes([n]) for n in range(50)), b"other"]) == {b"other": (other.cid, 5)}
    home.blocks.put_many([HELLO])
    assert home.memos.get_many([b"\0"]) == {}


def test_a_memo_and_its_block_go_in_one_transaction(home: Home) -> None:
    """At whatever point of a collection one looks: who finds the memo finds the block."""
    home.blocks.put_many(TREE)
    home.memos.put_many({block.cid.raw: (block.cid, 1) for block in TREE})
    home.pins.add([Pin(ROOT.cid, PinMode.DIRECT)])

    def look(*_args: object) -> None:
        known = home.memos.get_many(block.cid.raw for block in TREE)
        assert all(home.blocks.has(cid) for cid, _ in known.values())

    assert gc.collect(home, on_removed=look, progress=look).removed == len(TREE) - 1
    assert home.memos.get_many(block.cid.raw for block in TREE) == {ROOT.cid.raw: (ROOT.cid, 1)}


def test_a_memo_that_moved_to_another_block_outlives_the_first(home: Home) -> None:
    other = Block.of(b"other")
    home.blocks.put_many([HELLO, other])
    home.memos.put_many({b"key": (HELLO.cid, 5)})
    home.memos.put_many({b"key": (other.cid, 5)})

    home.blocks.delete([HELLO.cid])

    assert home.memos.get_many([b"key"]) == {b"key": (other.cid, 5)}
