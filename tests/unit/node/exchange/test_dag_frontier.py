"""The order in which a DAG is looked at."""

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.dag_frontier import DagFrontier
from ipvcs.objects.block import Block

CIDS = [Block.of(b"%d" % number, codecs.DAG_PB).cid for number in range(40)]


def test_depth_comes_first_and_siblings_while_it_is_waited_for() -> None:
    root, a, b, a1, a2 = CIDS[:5]
    frontier = DagFrontier([root])
    assert frontier.take(10) == [root]
    frontier.expand([a, b])
    assert frontier.take(1) == [a]
    frontier.expand([a1, a2])
    assert frontier.take(10) == [a1, a2, b]
    assert frontier.take(10) == []


def test_links_of_several_blocks_come_in_the_order_of_the_blocks() -> None:
    frontier = DagFrontier(CIDS[:1])
    frontier.take(1)
    frontier.expand_all([CIDS[1:3], CIDS[3:5]])
    assert frontier.take(10) == CIDS[1:5]


def test_each_block_comes_once_in_either_version_and_again_as_another_codec() -> None:
    cid = CIDS[0]
    raw = cid.with_codec(codecs.RAW)
    frontier = DagFrontier([cid, cid.to_v0(), raw, cid])
    assert frontier.take(10) == [cid, raw]
    assert frontier.seen == 2


def test_inline_blocks_are_not_looked_for() -> None:
    inline = Block.of(b"tiny", hash_code=multihash.IDENTITY).cid
    assert DagFrontier([inline]).take(1) == []


@given(st.lists(st.lists(st.integers(0, 39), max_size=6), min_size=40, max_size=40), st.integers(1, 7))
def test_everything_that_is_reached_is_taken_once(edges: list[list[int]], count: int) -> None:
    links = {CIDS[number]: [CIDS[other] for other in others] for number, others in enumerate(edges)}
    reached: set[Cid] = set()
    waiting = [CIDS[0]]
    while waiting:
        cid = waiting.pop()
        if cid not in reached:
            reached.add(cid)
            waiting += links[cid]
    frontier = DagFrontier([CIDS[0]])
    taken: list[Cid] = []
    while batch := frontier.take(count):
        taken += batch
        frontier.expand_all(links[cid] for cid in batch)
    assert len(taken) == len(reached)
    assert set(taken) == reached
