"""Reading what the home lacks: when the node is asked, for what, and what becomes of its answers and errors."""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ipvcs.cli import fetching
from ipvcs.cli.fetching import FetchingBlocks, MissingLocallyError
from ipvcs.cli.ui import Ui
from ipvcs.client.client import Client, RemoteCommandError
from ipvcs.errors import NotFoundError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_cbor, walk
from ipvcs.objects.block import Block
from ipvcs.storage.home import Home
from ipvcs.storage.memory import MemoryBlockstore, MemoryWriting


def leaf(number: int) -> Block:
    return Block.of(b"leaf %d" % number)


def node(*children: Block) -> Block:
    return Block.of(dag_cbor.encode([child.cid for child in children]), codecs.DAG_CBOR)


LEAVES = [leaf(number) for number in range(6)]
ONE, OTHER = node(*LEAVES[:3]), node(*LEAVES[3:])
EVERYTHING = [ONE, OTHER, *LEAVES]


class LeasedBlocks(MemoryBlockstore):
    """A store that counts who holds a lease."""

    def __init__(self) -> None:
        super().__init__()
        self.leases = self.taken = 0

    @contextmanager
    def writing(self) -> Iterator[MemoryWriting]:
        self.leases += 1
        self.taken += 1
        with super().writing() as session:
            yield session
        self.leases -= 1


class FakeNode:
    """A client of a node that has `EVERYTHING` within its reach and puts into `store` what it is asked for.

    `before_block` is called before each; what it raises ends the stream.
    """

    def __init__(self, store: LeasedBlocks) -> None:
        self.store = store
        self.blocks = {block.cid: block for block in EVERYTHING}
        self.requests: list[tuple[list[Cid], bool]] = []
        self.options: list[dict[str, Any]] = []
        self.before_block: Callable[[Cid], None] = lambda _cid: None
        self.ended = threading.Event()

    def stream(self, route: str, *args: str, recursive: bool, **options: Any) -> Iterator[Mapping[str, Any]]:
        assert route == "fetch"
        assert self.store.leases == 1, "what comes must be protected from the moment it is there"
        roots = [Cid.parse(text) for text in args]
        self.requests.append((roots, recursive))
        self.options.append(options)
        count = size = 0
        try:
            for cid in self._all(roots) if recursive else roots:
                self.before_block(cid)
                self.store.put_many([self.blocks[cid]])
                count += 1
                size += len(self.blocks[cid].data)
                yield {"Blocks": count, "Bytes": size, "Local": 0, "Known": count, "Peers": 1}
        finally:
            self.ended.set()

    def _all(self, roots: list[Cid]) -> Iterator[Cid]:
        for root in roots:
            yield root
            if root.codec == codecs.DAG_CBOR:
                yield from cast("list[Cid]", dag_cbor.decode(self.blocks[root].data))


def holding(held: Cid, until: threading.Event) -> Callable[[Cid], None]:
    """Return what holds one block back."""

    def hold(cid: Cid) -> None:
        if cid == held:
            assert until.wait(10)

    return hold


@pytest.fixture
def store() -> LeasedBlocks:
    return LeasedBlocks()


@pytest.fixture
def remote(store: LeasedBlocks) -> FakeNode:
    return FakeNode(store)


def reader_of(
    store: LeasedBlocks, connect: Callable[[Cid], FakeNode], *, timeout: float | None = None
) -> FetchingBlocks:
    home = cast("Home", SimpleNamespace(blocks=store))
    return FetchingBlocks(home, cast("Callable[[Cid], Client]", connect), Ui(), timeout=timeout)


@pytest.fixture
def blocks(store: LeasedBlocks, remote: FakeNode) -> Iterator[FetchingBlocks]:
    reader = reader_of(store, lambda _cid: remote)
    yield reader
    reader.close()
    assert store.leases == 0


# ---- when the node is asked ----


def test_what_is_there_is_read_and_nobody_is_asked(store: LeasedBlocks) -> None:
    def refuse(_cid: Cid) -> FakeNode:
        raise AssertionError

    blocks = reader_of(store, refuse)
    store.put_many(EVERYTHING)
    blocks.expect(ONE.cid)
    assert [blocks.get(block.cid) for block in EVERYTHING] == [block.data for block in EVERYTHING]
    assert blocks.size(ONE.cid) == len(ONE.data)
    assert blocks.missing_of([ONE.cid]) == []
    blocks.close()
    assert store.taken == 0


def test_whether_a_block_is_there_is_no_reason_to_fetch_it(blocks: FetchingBlocks, remote: FakeNode) -> None:
    assert blocks.missing_of([ONE.cid]) == [ONE.cid]
    assert remote.requests == []


def test_a_block_that_is_missing_is_fetched_by_itself(blocks: FetchingBlocks, remote: FakeNode) -> None:
    assert blocks.get(ONE.cid) == ONE.data
    assert blocks.size(LEAVES[0].cid) == len(LEAVES[0].data)
    assert blocks.try_get(LEAVES[0].cid) == LEAVES[0].data
    assert remote.requests == [([ONE.cid], False), ([LEAVES[0].cid], False)]


def test_what_is_expected_is_fetched_as_a_whole_by_one_request(blocks: FetchingBlocks, remote: FakeNode) -> None:
    blocks.expect(ONE.cid)
    blocks.expect(OTHER.cid)
    assert [cid for cid, _ in walk.walk(blocks, [ONE.cid, OTHER.cid])] == [
        block.cid for block in (ONE, *LEAVES[:3], OTHER, *LEAVES[3:])
    ]
    assert remote.requests == [([ONE.cid, OTHER.cid], True)]


def test_blocks_are_read_while_the_fetch_goes_on(blocks: FetchingBlocks, remote: FakeNode) -> None:
    may_go_on = threading.Event()
    remote.before_block = holding(LEAVES[2].cid, may_go_on)
    blocks.expect(ONE.cid)
    assert blocks.get(ONE.cid) == ONE.data
    assert blocks.get(LEAVES[1].cid) == LEAVES[1].data
    assert not remote.ended.is_set()
    may_go_on.set()
    assert blocks.get(LEAVES[2].cid) == LEAVES[2].data


def test_what_is_expected_later_is_fetched_as_a_whole_too(blocks: FetchingBlocks, remote: FakeNode) -> None:
    for root in (ONE, OTHER):
        blocks.get(root.cid)
        blocks.expect(root.cid)
        list(walk.walk(blocks, [root.cid]))
    assert remote.requests == [([ONE.cid], False), ([ONE.cid], True), ([OTHER.cid], False), ([OTHER.cid], True)]


def test_what_nobody_expected_is_fetched_by_itself_behind_the_others(blocks: FetchingBlocks, remote: FakeNode) -> None:
    blocks.expect(ONE.cid)
    assert blocks.get(OTHER.cid) == OTHER.data
    assert remote.requests == [([ONE.cid], True), ([OTHER.cid], False)]
    assert remote.store.has(LEAVES[0].cid)


def test_a_request_has_so_many_roots_at_most(
    blocks: FetchingBlocks, remote: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "_MAX_ROOTS", 100)
    many = [leaf(number) for number in range(250)]
    remote.blocks |= {block.cid: block for block in many}
    cids = [block.cid for block in many]
    for cid in cids:
        blocks.expect(cid)
    assert [blocks.get(cid) for cid in cids] == [block.data for block in many]
    batches = [cids[:100], cids[100:200], cids[200:]]
    assert remote.requests == [(batch, True) for batch in batches]
    remote.requests.clear()
    blocks.fetch_all(cids, recursive=False)
    assert remote.requests == [(batch, False) for batch in batches]


# ---- what comes of it ----


def test_one_lease_is_held_from_the_first_request_to_the_end(store: LeasedBlocks, remote: FakeNode) -> None:
    blocks = reader_of(store, lambda _cid: remote)
    blocks.get(ONE.cid)
    blocks.get(OTHER.cid)
    assert (store.leases, store.taken) == (1, 1)
    blocks.close()
    assert store.leases == 0


@pytest.mark.parametrize("expected", [True, False])
def test_what_the_node_says_of_a_block_that_nobody_has_reaches_the_reader(
    blocks: FetchingBlocks, remote: FakeNode, expected: bool
) -> None:
    def fail(cid: Cid) -> None:
        if cid == LEAVES[1].cid:
            raise RemoteCommandError("nobody sent it", hint="wait")

    remote.before_block = fail
    if expected:
        blocks.expect(ONE.cid)
    assert blocks.get(ONE.cid) == ONE.data
    assert blocks.get(LEAVES[0].cid) == LEAVES[0].data
    with pytest.raises(RemoteCommandError, match="nobody sent it") as caught:
        blocks.get(LEAVES[1].cid)
    assert caught.value.hint == "wait"


def test_an_error_is_no_obstacle_to_reading_what_came_before(blocks: FetchingBlocks, remote: FakeNode) -> None:
    def fail(cid: Cid) -> None:
        if cid == LEAVES[2].cid:
            raise RemoteCommandError("nobody sent it")

    remote.before_block = fail
    blocks.expect(ONE.cid)
    blocks.get(ONE.cid)
    assert remote.ended.wait(10)
    assert blocks.get(LEAVES[1].cid) == LEAVES[1].data


def test_a_fetch_that_ends_without_the_block_is_followed_by_one_for_it_alone(
    blocks: FetchingBlocks, remote: FakeNode
) -> None:
    """As when garbage was collected under another program's hands."""
    blocks.expect(ONE.cid)
    blocks.get(LEAVES[2].cid)
    remote.store.delete([LEAVES[0].cid])
    assert blocks.get(LEAVES[0].cid) == LEAVES[0].data
    assert remote.requests == [([ONE.cid], True), ([LEAVES[0].cid], False)]


def test_closing_ends_a_fetch_that_goes_on(store: LeasedBlocks, remote: FakeNode) -> None:
    blocks = reader_of(store, lambda _cid: remote)
    may_go_on = threading.Event()
    remote.before_block = holding(LEAVES[1].cid, may_go_on)
    blocks.expect(ONE.cid)
    blocks.get(LEAVES[0].cid)
    blocks.close()
    may_go_on.set()
    assert remote.ended.wait(10)
    assert not store.has(LEAVES[2].cid)
    blocks.close()


@pytest.mark.parametrize(
    ("timeout", "stall"), [(None, None), (3.0, "3000ms"), (0.0001, "1ms"), (0.0, "1ms"), (9e9, "9000000000000ms")]
)
def test_the_time_to_wait_for_a_block_is_the_nodes_unless_it_is_given(
    store: LeasedBlocks, remote: FakeNode, timeout: float | None, stall: str | None
) -> None:
    blocks = reader_of(store, lambda _cid: remote, timeout=timeout)
    blocks.get(ONE.cid)
    blocks.expect(ONE.cid)
    blocks.get(LEAVES[0].cid)
    assert remote.options == [{"stall": stall}] * 2
    blocks.close()


# ---- when nobody is to be asked ----


def test_a_block_that_nobody_is_asked_for_is_named_with_the_reason(store: LeasedBlocks) -> None:
    def refuse(cid: Cid) -> FakeNode:
        raise MissingLocallyError(cid, "the line is down")

    blocks = reader_of(store, refuse)
    store.put_many([ONE])
    blocks.expect(ONE.cid)
    readings: list[Callable[[], object]] = [
        lambda: blocks.get(LEAVES[0].cid),
        lambda: blocks.try_get(LEAVES[0].cid),
        lambda: blocks.size(LEAVES[0].cid),
        lambda: list(walk.walk(blocks, [ONE.cid])),
        lambda: blocks.fetch_all([LEAVES[0].cid]),
    ]
    for read in readings:
        with pytest.raises(NotFoundError, match=f"block '{LEAVES[0].cid}' not found") as caught:
            read()
        assert caught.value.hint == "it is not in this home's store, and the line is down"
    assert store.taken == 0
    blocks.close()


def test_after_a_fetch_that_failed_the_next_one_asks_anew(blocks: FetchingBlocks, remote: FakeNode) -> None:
    def fail(_cid: Cid) -> None:
        raise RemoteCommandError("nobody has it")

    remote.before_block = fail
    blocks.expect(ONE.cid)
    with pytest.raises(RemoteCommandError):
        blocks.get(ONE.cid)
    remote.before_block = lambda _cid: None
    assert blocks.get(ONE.cid) == ONE.data
    assert remote.requests == [([ONE.cid], True), ([ONE.cid], False)]


def test_only_what_is_not_here_is_missing(blocks: FetchingBlocks, remote: FakeNode) -> None:
    remote.store.put_many([ONE])
    other = leaf(1).cid
    assert blocks.missing_of([ONE.cid, other, Cid.parse("bafkqaaa")]) == [other]
