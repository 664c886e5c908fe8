from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import NotFoundError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb
from ipvcs.objects.codec_registry import UnsupportedCodecError, links_of
from ipvcs.objects.dag_pb import DagPbError, PBLink, PBNode
from ipvcs.objects.pending_links import PendingLinks
from ipvcs.objects.walk import MissingBlocksError, walk
from tests.unit.objects.dags import Blocks, build, chain, inline, shapes


def pre_order(blocks: Blocks, cid: Cid, seen: set[Cid]) -> list[Cid]:
    """The order by its definition, for DAGs that are not deep."""
    if cid in seen:
        return []
    seen.add(cid)
    below = [pre_order(blocks, link, seen) for link in links_of(cid, blocks.blocks[cid])]
    return [cid, *(found for found_below in below for found in found_below)]


def cids(steps: Iterable[tuple[Cid, bytes]]) -> list[Cid]:
    return [cid for cid, _ in steps]


@given(shapes())
def test_blocks_come_once_each_parents_first_in_the_order_of_their_links(shape: list[list[int]]) -> None:
    blocks = Blocks()
    root = build(blocks, shape)[-1]
    found = list(walk(blocks, [root]))
    assert cids(found) == pre_order(blocks, root, set())
    assert all(blocks.blocks[cid] == data for cid, data in found)
    assert blocks.gets == cids(found)  # each read once


@given(shapes(), st.lists(st.integers(0, 11), max_size=4))
def test_further_roots_add_what_the_ones_before_did_not_show(shape: list[list[int]], picks: list[int]) -> None:
    blocks = Blocks()
    nodes = build(blocks, shape)
    roots = [nodes[pick % len(nodes)] for pick in picks]
    seen: set[Cid] = set()
    assert cids(walk(blocks, roots)) == [cid for root in roots for cid in pre_order(blocks, root, seen)]


@given(shapes(), st.integers(1, 6))
def test_levels_that_were_forgotten_are_followed_in_the_same_order(shape: list[list[int]], max_held: int) -> None:
    blocks = Blocks()
    nodes = build(blocks, shape)

    def links(cid: Cid) -> Sequence[Cid]:
        return links_of(cid, blocks.get(cid))

    def paths(cid: Cid) -> list[Cid]:
        return [step for link in links(cid) for step in (link, *paths(link))]

    pending = PendingLinks(links, max_held)
    pending.push(nodes[-1], 1, links(nodes[-1]))
    found: list[Cid] = []
    while (step := pending.pop()) is not None and len(found) < 500:
        node, depth, link = step
        assert link in links(node)
        found.append(link)
        pending.push(link, depth + 1, links(link))
    assert found == paths(nodes[-1])[:500]


def test_wide_levels_are_forgotten_and_read_again() -> None:
    blocks = Blocks()
    cid = blocks.add(b"bottom")
    spine = [cid]
    for level in range(20):
        leaves = [blocks.add(b"%d-%d" % (level, place)) for place in range(10)]
        cid = blocks.add_node([PBLink(cid), *map(PBLink, leaves)])
        spine.append(cid)
    reloaded: list[Cid] = []

    def reload(node: Cid) -> Sequence[Cid]:
        reloaded.append(node)
        return links_of(node, blocks.get(node))

    pending = PendingLinks(reload, 50)
    pending.push(cid, 1, links_of(cid, blocks.get(cid)))
    held = found = 0
    while (step := pending.pop()) is not None:
        found += 1
        _, depth, link = step
        pending.push(link, depth + 1, links_of(link, blocks.get(link)))
        held = max(held, pending.held)
    assert found == 20 * 11
    assert held <= 50 + 11
    assert reloaded == spine[5:]


def test_a_chain_far_beyond_the_recursion_limit_is_walked() -> None:
    blocks = Blocks()
    root = chain(blocks, 20_000)
    assert sum(1 for _ in walk(blocks, [root])) == 20_000


@pytest.mark.long
def test_a_chain_of_a_million_blocks_is_walked() -> None:
    blocks = Blocks()
    root = chain(blocks, 1_000_000)
    assert sum(1 for _ in walk(blocks, [root])) == 1_000_000


def test_a_tower_with_more_paths_than_atoms_is_walked_once() -> None:
    blocks = Blocks()
    cid = blocks.add(b"x")
    for _ in range(300):
        cid = blocks.add_node([PBLink(cid, b"a"), PBLink(cid, b"b")])
    assert len(list(walk(blocks, [cid]))) == 301


def test_a_missing_block_is_named_with_its_parent() -> None:
    blocks = Blocks()
    lost = blocks.add(b"lost")
    root = blocks.add_node([PBLink(lost), PBLink(blocks.add(b"kept"))])
    del blocks.blocks[lost]
    with pytest.raises(MissingBlocksError) as caught:
        list(walk(blocks, [root]))
    assert (caught.value.cid, caught.value.parent) == (lost, root)
    assert isinstance(caught.value, NotFoundError)
    missing: list[tuple[Cid, Cid | None]] = []
    found = cids(walk(blocks, [root, lost], on_missing=lambda cid, parent: missing.append((cid, parent))))
    assert len(found) == 2
    assert missing == [(lost, root)]  # once, like any other block
    with pytest.raises(MissingBlocksError, match=f"^block '{lost}' not found$"):
        list(walk(blocks, [lost]))


def test_inline_blocks_are_passed_through_and_yielded_on_request() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    inner = inline(dag_pb.encode(PBNode((PBLink(leaf),))), codecs.DAG_PB)
    root = blocks.add_node([PBLink(inner), PBLink(inline(b"x"))])
    assert cids(walk(blocks, [root])) == [root, leaf]
    assert cids(walk(blocks, [root], inline=True)) == [root, inner, leaf, inline(b"x")]
    assert set(blocks.gets) == {root, leaf}


def test_a_seen_set_joins_walks_and_prunes_them() -> None:
    blocks = Blocks()
    shared = blocks.add_node([PBLink(blocks.add(b"below"))])
    first = blocks.add_node([PBLink(shared)], b"1")
    second = blocks.add_node([PBLink(shared)], b"2")
    seen: set[bytes] = set()
    assert len(list(walk(blocks, [first], seen=seen))) == 3
    assert cids(walk(blocks, [second], seen=seen)) == [second]
    assert {first.raw, second.raw, shared.raw} < seen


def test_new_links_of_a_node_are_announced_before_they_are_read() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    inner = blocks.add_node([PBLink(leaf)])
    root = blocks.add_node([PBLink(inner, b"a"), PBLink(leaf, b"b"), PBLink(inner, b"c")])
    announced: list[list[Cid]] = []
    for _ in walk(blocks, [root], prefetch=announced.append):
        pass
    assert announced == [[inner, leaf, inner], [leaf]]


def test_links_in_dag_cbor_are_followed() -> None:
    blocks = Blocks()
    leaf = blocks.add(b"leaf")
    root = blocks.add(b"\xa1\x61a\x81\xd8\x2a\x58\x25\x00" + leaf.raw, codecs.DAG_CBOR)
    assert cids(walk(blocks, [root])) == [root, leaf]


def test_damaged_and_unreadable_blocks_end_the_walk() -> None:
    blocks = Blocks()
    with pytest.raises(DagPbError):
        list(walk(blocks, [blocks.add(b"\xff", codecs.DAG_PB)]))
    with pytest.raises(UnsupportedCodecError):
        list(walk(blocks, [blocks.add(b"", 0x90)]))
