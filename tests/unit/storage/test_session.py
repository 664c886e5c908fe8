"""Write sessions beside collections, failures and interrupts, each interleaving forced."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import lmdb
import pytest

from ipvcs.errors import LocalProtocolError
from ipvcs.objects.block import Block
from ipvcs.storage import gc, session
from ipvcs.storage.datastore import COUNTER_EPOCH
from ipvcs.storage.disk import DiskError, DiskFullError
from ipvcs.storage.home import Home
from ipvcs.storage.index import Location
from ipvcs.storage.pins import Pin, PinMode
from ipvcs.storage.segments import SegmentRow
from ipvcs.storage.session import WriteSession
from tests.contracts.blockstore import ABSENT, HELLO, some_blocks
from tests.unit.storage.segment_check import check_segments, read_car


def test_what_is_already_there_is_not_written_again(home: Home) -> None:
    home.blocks.put_many([HELLO])
    before = home.blocks.index.segment_rows()

    home.blocks.put_many([HELLO])

    assert home.blocks.index.segment_rows() == before


def test_a_block_that_is_taken_before_the_flush_is_written_again(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session counted on the stored copy, the copy went, the data is still at hand."""
    home.blocks.put_many([HELLO])
    gc_epoch(home)
    monkeypatch.setattr(session, "WRITE_SIZE", 1)
    with home.blocks.writing() as writing:
        writing.put(HELLO)
        assert list(writing._relied) == [HELLO.cid.multihash]
        assert home.blocks.delete([HELLO.cid]) == 1
        assert writing.get(HELLO.cid) == b"hello"
        writing.flush()
        assert home.blocks.get(HELLO.cid) == b"hello"
    check_segments(home)


def test_a_block_that_is_put_again_after_the_sweep_chose_it_stays(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sweep decides by a snapshot; the stamp is read again in the transaction that deletes."""
    home.blocks.put_many([HELLO])
    real = home.blocks.index.iter_slices
    sessions: list[AbstractContextManager[WriteSession]] = []

    def put_again_after_reading() -> Iterator[list[tuple[bytes, Location]]]:
        for rows in real():
            sessions.append(home.blocks.writing())
            writing = sessions[-1].__enter__()
            writing.put(HELLO)
            writing.flush()
            yield rows

    with monkeypatch.context() as patch:
        patch.setattr(home.blocks.index, "iter_slices", put_again_after_reading)
        assert gc.collect(home).removed == 0

    assert home.blocks.get(HELLO.cid) == b"hello"
    for session_ in sessions:
        session_.__exit__(None, None, None)


def test_relying_on_a_stored_block_keeps_it_from_a_collection_that_began_before(home: Home) -> None:
    home.blocks.put_many([HELLO])
    root = some_blocks(1, "root")[0]
    missing = []

    def rely(stage: str, _count: int) -> None:
        if stage == "Marking":
            sessions.append(home.blocks.writing())
            missing.extend(sessions[0].__enter__().rely_on([HELLO.cid, ABSENT]))

    sessions: list[AbstractContextManager[WriteSession]] = []
    with home.blocks.writing() as writing:
        writing.put(root)
        writing.flush()
        home.pins.add([pin(root)])
    gc.collect(home, progress=rely)

    assert missing == [ABSENT]
    assert home.blocks.has(HELLO.cid)
    gc.collect(home)
    assert home.blocks.has(HELLO.cid), "the session still lasts"
    sessions[0].__exit__(None, None, None)
    gc.collect(home)
    assert not home.blocks.has(HELLO.cid)


def test_what_a_session_flushed_stays_while_it_lasts_however_often_garbage_is_collected(home: Home) -> None:
    blocks = some_blocks(50)
    with home.blocks.writing() as writing:
        for block in blocks:
            writing.put(block)
        writing.flush()
        for _ in range(3):
            assert gc.collect(home).removed == 0
        assert all(home.blocks.has(block.cid) for block in blocks)
    assert gc.collect(home).removed == 50


def test_a_block_that_another_session_stores_first_is_not_stored_twice_after_all(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relied-on copy went, and before it is written again somebody else has."""
    home.blocks.put_many([HELLO])
    gc_epoch(home)
    monkeypatch.setattr(session, "WRITE_SIZE", 1)
    with home.blocks.writing() as writing:
        writing.put(HELLO)
        home.blocks.delete([HELLO.cid])
        real = writing._commit

        def commit_and_lose_the_race() -> list[Block]:
            gone = real()
            home.blocks.put_many([HELLO])
            return gone

        monkeypatch.setattr(writing, "_commit", commit_and_lose_the_race)
        writing.flush()
    assert home.blocks.get(HELLO.cid) == b"hello"
    check_segments(home)


def test_two_sessions_that_put_the_same_block_store_it_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "WRITE_SIZE", 1)  # both have looked, and written, before one commits
    with home.blocks.writing() as first, home.blocks.writing() as second:
        first.put(HELLO)
        second.put(HELLO)
        second.put(Block.of(b"more"))
        first.flush()
        second.flush()

    assert home.blocks.stat().blocks == 2
    check_segments(home)
    assert sum(row.waste for row in home.blocks.index.segment_rows().values()) > 0, "the second copy counts as waste"


def test_sessions_append_to_segments_of_their_own_and_take_up_old_ones(home: Home) -> None:
    with home.blocks.writing() as first, home.blocks.writing() as second:
        first.put(HELLO)
        second.put(Block.of(b"more"))
        first.flush()
        second.flush()
    assert len(home.blocks.index.segment_rows()) == 2

    for number in range(5):
        home.blocks.put_many(some_blocks(3, f"{number}-"))

    assert len(home.blocks.index.segment_rows()) == 2
    check_segments(home)


def test_a_full_segment_is_followed_by_a_new_one(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SEGMENT_SIZE", 5000)
    blocks = [Block.of(os.urandom(1000)) for _ in range(20)]

    with home.blocks.writing() as writing:
        for block in blocks:
            writing.put(block)
            writing.flush()

    assert len(home.blocks.index.segment_rows()) == 4
    assert all(home.blocks.get(block.cid) == block.data for block in blocks)
    check_segments(home)


def test_memory_is_bounded_by_flushing_at_a_number_of_bytes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "WRITE_SIZE", 3000)
    monkeypatch.setattr(session, "FLUSH_SIZE", 10_000)
    with home.blocks.writing() as writing:
        for block in [Block.of(os.urandom(1000)) for _ in range(25)]:
            writing.put(block)
        assert home.blocks.stat().blocks == 24


def test_what_is_relied_on_counts_towards_a_flush_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [Block.of(os.urandom(1000)) for _ in range(25)]
    home.blocks.put_many(blocks)
    gc_epoch(home)
    monkeypatch.setattr(session, "WRITE_SIZE", 3000)
    monkeypatch.setattr(session, "FLUSH_SIZE", 10_000)
    with home.blocks.writing() as writing:
        for block in blocks:
            writing.put(block)
        assert sum(found.epoch == 1 for rows in home.blocks.index.iter_slices() for _key, found in rows) == 24


def test_unflushed_bytes_of_a_session_that_failed_leave_the_segment(home: Home) -> None:
    home.blocks.put_many([HELLO])
    with pytest.raises(KeyboardInterrupt):
        _put_and_stop(home)

    (number,) = home.blocks.index.segment_rows()
    assert [content for _, _, content in read_car(home.blocks.segments.path_of(number).read_bytes())] == [b"hello"]


def _put_and_stop(home: Home) -> None:
    with home.blocks.writing() as writing:
        for _ in range(6):
            writing.put(Block.of(os.urandom(1024 * 1024)))
        raise KeyboardInterrupt


def test_an_interrupt_right_after_the_commit_takes_nothing_back(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the commit's fsync is delivered when it returns, before any line of ours: the blocks are named."""
    real = home.datastore.write

    class Interrupted:
        def __enter__(self) -> object:
            self.context = real()
            return self.context.__enter__()

        def __exit__(self, *exc: object) -> None:
            self.context.__exit__(*exc)  # type: ignore[arg-type]
            raise KeyboardInterrupt

    def put() -> None:
        with home.blocks.writing() as writing:
            writing.put(HELLO)
            writing._segment()
            monkeypatch.setattr(home.datastore, "write", Interrupted)
            writing.flush()

    with pytest.raises(KeyboardInterrupt):
        put()
    monkeypatch.undo()

    assert home.blocks.get(HELLO.cid) == b"hello"
    check_segments(home)


def test_after_a_failed_sync_no_later_flush_of_the_session_succeeds(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a lost write once: a second fdatasync would say that all is well."""

    def fail(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(DiskError, match="Input/output error"):
        _flush_twice(home, monkeypatch, fail)
    assert not home.blocks.has(HELLO.cid)
    home.blocks.put_many([HELLO])
    assert home.blocks.get(HELLO.cid) == b"hello"
    check_segments(home)


def _flush_twice(home: Home, monkeypatch: pytest.MonkeyPatch, fail: object) -> None:
    with home.blocks.writing() as writing:
        writing.put(HELLO)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(DiskError):
                writing.flush()
        with pytest.raises(DiskError):
            writing.put(Block.of(b"another thread's"))
        writing.flush()


@pytest.mark.parametrize("fail_after", [0, 1, 700])
def test_a_write_that_fails_half_way_leaves_the_segment_as_it_was(
    home: Home, monkeypatch: pytest.MonkeyPatch, fail_after: int
) -> None:
    home.blocks.put_many([HELLO])
    real = os.writev

    def fill_up(fd: int, parts: list[bytes]) -> int:
        if fail_after:
            os.write(fd, b"".join(parts)[:fail_after])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", fill_up)
    with pytest.raises(DiskFullError) as caught:
        home.blocks.put_many([Block.of(os.urandom(2000))])
    monkeypatch.setattr(os, "writev", real)

    assert "repo gc" in str(caught.value.hint)
    home.blocks.put_many([Block.of(b"next")])
    check_segments(home)
    assert home.blocks.stat().blocks == 2


def test_the_index_never_names_bytes_that_are_not_synced(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a power cut would show: at each commit, a segment is durable up to the length that its row will have."""
    synced: dict[Path, int] = {}
    commits = 0

    def note_sync(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            real(fd)
            synced[Path(f"/proc/self/fd/{fd}").readlink()] = os.fstat(fd).st_size

        return sync

    real_write = home.datastore.write

    @contextmanager
    def write() -> Iterator[lmdb.Transaction]:
        nonlocal commits
        with real_write() as txn:
            yield txn
            commits += 1
            with txn.cursor(db=home.datastore.segments) as cursor:
                for key, value in cursor:
                    path = home.blocks.segments.path_of(int.from_bytes(key, "big"))
                    assert synced[path] >= SegmentRow.unpack(value).length
                    assert path.parent in synced, "the name is durable, too"

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, note_sync(getattr(os, name)))
    monkeypatch.setattr(home.datastore, "write", write)
    monkeypatch.setattr(session, "WRITE_SIZE", 2000)
    blocks = [Block.of(os.urandom(700)) for _ in range(60)]
    with home.blocks.writing() as first, home.blocks.writing() as second:
        for number, block in enumerate(blocks):
            (first if number % 3 else second).put(block)
            if number % 10 == 0:
                first.flush()
    home.pins.add(pin(block) for block in blocks[::7])
    assert gc.collect(home).freed > 0

    assert commits > 10


def test_short_writes_are_completed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.writev
    monkeypatch.setattr(os, "writev", lambda fd, parts: os.write(fd, b"".join(parts)[:10]) if parts else 0)
    blocks = [Block.of(os.urandom(100)) for _ in range(20)]

    home.blocks.put_many(blocks)
    monkeypatch.setattr(os, "writev", real)

    assert all(home.blocks.get(block.cid) == block.data for block in blocks)
    check_segments(home)


def test_a_segment_file_without_a_row_is_replaced(home: Home) -> None:
    """A crash between making the file and committing its number leaves the file; the number comes again."""
    leftover = home.blocks.segments.path_of(1)
    leftover.write_bytes(b"cut short")

    home.blocks.put_many([HELLO])

    assert leftover.read_bytes().endswith(b"hello")
    check_segments(home)


def test_a_closed_session_refuses_and_closes_again_quietly(home: Home) -> None:
    with home.blocks.writing() as writing:
        pass
    writing.close()
    for act in (lambda: writing.put(HELLO), writing.flush, lambda: writing.rely_on([HELLO.cid])):
        with pytest.raises(LocalProtocolError, match="closed"):
            act()


def test_leases_go_with_their_sessions(home: Home) -> None:
    def leases() -> list[Path]:
        return list(home.blocks.leases.glob("*.lease"))

    with home.blocks.writing(), home.blocks.writing():
        assert len(leases()) == 2
    with pytest.raises(KeyboardInterrupt):
        _put_and_stop(home)
    assert leases() == []


def gc_epoch(home: Home) -> None:
    """Begin a new epoch, so that what was stored before must be relied on anew."""

    with home.datastore.write() as txn:
        home.datastore.bump(txn, COUNTER_EPOCH)


def pin(block: Block) -> Pin:
    """Return a pin of `block`."""

    return Pin(block.cid, PinMode.RECURSIVE)
