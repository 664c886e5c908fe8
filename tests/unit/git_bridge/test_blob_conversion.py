"""The queue of blobs: in order, in batches, never more under way than a pipe holds, each asked for once."""

from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ipvcs.git_bridge.blob_conversion import BATCH, UNDER_WAY, BlobQueue
from ipvcs.git_bridge.memo_table import MemoTable
from ipvcs.objects.block import Block
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Reference
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.interface import BlockWriting

REGULAR = NodeKind.REGULAR


class Converter:
    """Makes of each blob a block that holds its id."""

    def __init__(self, writer: BlockWriting) -> None:
        self.writer = writer
        self.under_way: deque[Sequence[Reference]] = deque()
        self.asked: list[Reference] = []

    def submit(self, batch: Sequence[Reference]) -> None:
        assert 0 < len(batch) <= BATCH
        self.under_way.append(batch)
        self.asked += batch
        assert len(self.under_way) <= UNDER_WAY

    def collect(self) -> list[Mapped]:
        return [self.map(each) for each in self.under_way.popleft()]

    def map(self, reference: Reference) -> Mapped:
        block = Block.of(reference.oid.raw)
        self.writer.put(block)
        return Mapped(block.cid, len(block.data), reference.kind)

    def flush(self) -> None:
        self.writer.flush()


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home") as home:
        yield home


def table(home: Home, writer: BlockWriting) -> MemoTable:
    return MemoTable(home.memos, writer, lambda oid, kind: f"{oid}/{kind}".encode(), writer.flush)


def reference(number: int, kind: NodeKind = REGULAR) -> Reference:
    return Reference(ObjectId(number.to_bytes(20, "big")), kind)


def test_blobs_are_done_in_the_order_in_which_they_were_asked_for(home: Home) -> None:
    with home.blocks.writing() as writer:
        memos, converter, done = table(home, writer), Converter(writer), list[int]()
        queue = BlobQueue(memos, converter, writer, done.append)
        wanted = [reference(number) for number in range(10 * BATCH + 3)]
        for number, each in enumerate(wanted, 1):
            queue.ask(each)
            assert queue.asked == number
            assert queue.asked - queue.done <= (UNDER_WAY + 1) * BATCH
        assert queue.done > 0
        queue.wait(queue.asked - 5)
        assert converter.asked == wanted[:-3], "the last batch is not full, and nobody waits for it"
        queue.wait(queue.asked)
        assert converter.asked == wanted
        assert queue.done == done[-1] == len(wanted)
        assert done == sorted(set(done))
        assert all(memos.find(each.oid, each.kind) == converter.map(each) for each in wanted)


def test_a_blob_under_way_is_not_asked_for_again_but_another_kind_of_it_is(home: Home) -> None:
    with home.blocks.writing() as writer:
        converter = Converter(writer)
        queue = BlobQueue(table(home, writer), converter, writer, lambda _done: None)
        for _ in range(2):
            queue.ask(reference(1))
            queue.ask(reference(1, NodeKind.SYMLINK))
            queue.wait(queue.asked)
        assert converter.asked == [reference(1), reference(1, NodeKind.SYMLINK)]


def test_what_an_earlier_session_made_is_taken_if_it_is_still_there(home: Home) -> None:
    wanted = [reference(number) for number in range(4)]
    for gone, expected in (((), wanted), ((), []), (wanted[1:2], wanted[1:2])):
        home.blocks.delete([Block.of(each.oid.raw).cid for each in gone])
        with home.blocks.writing() as writer:
            memos, converter = table(home, writer), Converter(writer)
            queue = BlobQueue(memos, converter, writer, lambda _done: None)
            for each in wanted:
                queue.ask(each)
            queue.wait(queue.asked)
            memos.flush()
            assert converter.asked == list(expected)
            assert queue.done == len(wanted)
