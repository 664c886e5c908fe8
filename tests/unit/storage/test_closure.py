"""Walking what a root reaches."""

import pytest

from ipvcs.multiformats import codecs, multihash
from ipvcs.objects.block import Block
from ipvcs.storage.closure import (
    IncompleteError,
    Marks,
    iter_closure,
    iter_problems,
    rely_on_closure,
    rely_on_closures,
)
from ipvcs.storage.home import Home
from ipvcs.storage.memory import MemoryBlockstore
from tests.unit.storage.dags import LEAVES, LEFT, RIGHT, ROOT, TREE, chain, node


def stored(*blocks: Block) -> MemoryBlockstore:
    store = MemoryBlockstore()
    store.put_many(blocks)
    return store


def test_a_closure_counts_each_block_once(home: Home) -> None:
    home.blocks.put_many(TREE)
    progress: list[int] = []
    with home.blocks.writing() as session:
        assert rely_on_closure(session, ROOT.cid, progress.append) == len(TREE)
    assert progress[-1] == len(TREE)


@pytest.mark.parametrize("absent", [ROOT, RIGHT, LEAVES[2], LEAVES[3]], ids=["root", "node", "leaf", "direct leaf"])
def test_a_closure_with_a_hole_is_refused_and_the_hole_named(home: Home, absent: Block) -> None:
    home.blocks.put_many([block for block in TREE if block is not absent])
    with home.blocks.writing() as session, pytest.raises(IncompleteError) as caught:
        rely_on_closure(session, ROOT.cid)
    assert caught.value.missing == absent.cid
    assert caught.value.root == ROOT.cid


def test_a_deep_chain_needs_no_recursion() -> None:
    blocks = chain(5000)
    store = stored(*blocks)
    marks = Marks()
    marks.add_closure(store, blocks[-1].cid, complete=True)
    assert len(marks.keys) == 5000
    with store.writing() as session:
        assert rely_on_closure(session, blocks[-1].cid) == 5000
    assert list(iter_problems(store, [blocks[-1].cid])) == []


def test_links_of_identity_blocks_are_followed() -> None:
    inline = Block.of(node(LEAVES[0]).data, codecs.DAG_PB, multihash.IDENTITY)
    root = node(inline)
    marks = Marks()
    marks.add_closure(stored(root, LEAVES[0]), root.cid, complete=True)
    assert LEAVES[0].cid.multihash in marks.keys


def test_a_block_that_is_raw_in_one_place_and_a_node_in_another_is_walked() -> None:
    """Marked first as a leaf, its links as a node must be followed all the same."""
    as_raw = Block(LEFT.cid.with_codec(codecs.RAW), LEFT.data)
    store = stored(*TREE)
    for children in ((as_raw, LEFT), (LEFT, as_raw)):
        root = node(*children)
        store.put_many([root])
        marks = Marks()
        marks.add_closure(store, root.cid, complete=True)
        assert {leaf.cid.multihash for leaf in LEAVES[:2]} <= marks.keys


def test_marking_stops_at_a_hole_in_a_complete_pin_and_passes_one_in_an_incomplete_pin() -> None:
    store = stored(*(block for block in TREE if block is not LEFT))
    with pytest.raises(IncompleteError):
        Marks().add_closure(store, ROOT.cid, complete=True)

    marks = Marks()
    marks.add_closure(store, ROOT.cid, complete=False)
    assert {block.cid.multihash for block in (ROOT, RIGHT, *LEAVES[1:])} <= marks.keys


def test_every_problem_below_a_root_is_listed_once() -> None:
    store = stored(*(block for block in TREE if block not in (LEFT, LEAVES[2])))
    store._blocks[LEAVES[3].cid.multihash] = (LEAVES[3].cid, b"rotten")

    problems = {problem.cid: problem.reason for problem in iter_problems(store, [ROOT.cid])}

    assert set(problems) == {LEFT.cid, LEAVES[2].cid, LEAVES[3].cid}
    assert "not found" in problems[LEFT.cid]
    assert "damaged" in problems[LEAVES[3].cid]


def test_what_several_roots_share_is_walked_once(home: Home) -> None:
    home.blocks.put_many(TREE)
    with home.blocks.writing() as session:
        assert rely_on_closures(session, [LEFT.cid, ROOT.cid, RIGHT.cid, LEFT.cid]) == len(TREE)


def test_of_several_roots_the_one_that_lacks_a_block_is_named(home: Home) -> None:
    home.blocks.put_many([block for block in TREE if block is not LEAVES[3]])
    with home.blocks.writing() as session, pytest.raises(IncompleteError) as caught:
        rely_on_closures(session, [LEFT.cid, ROOT.cid])
    assert (caught.value.root, caught.value.missing) == (ROOT.cid, LEAVES[3].cid)


def test_a_closure_of_no_roots_is_empty(home: Home) -> None:
    with home.blocks.writing() as session:
        assert rely_on_closures(session, []) == 0


def test_a_wide_node_is_walked_in_batches(home: Home) -> None:
    leaves = [Block.of(f"{number}".encode()) for number in range(2500)]
    root = node(*leaves)
    home.blocks.put_many([*leaves, root])
    progress: list[int] = []
    with home.blocks.writing() as session:
        assert rely_on_closure(session, root.cid, progress.append) == 2501
    assert len(progress) == 4
    assert {cid.multihash for cid in iter_closure(home.blocks, [root.cid])} == {
        block.cid.multihash for block in (*leaves, root)
    }


def test_what_is_missing_is_yielded_but_not_followed() -> None:
    store = stored(*(block for block in TREE if block is not LEFT))
    found = list(iter_closure(store, [ROOT.cid]))
    assert LEFT.cid in found
    assert LEAVES[0].cid not in found
    assert len(found) == len(set(found))
