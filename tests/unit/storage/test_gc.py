"""Garbage collection: what it keeps, what it takes, and what space it gives back."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.storage import gc, session, verify
from ipvcs.storage.gc import GcRunningError, UnreadablePinError, collect
from ipvcs.storage.home import Home
from ipvcs.storage.index import Location
from ipvcs.storage.lease import Lease, oldest_epoch
from ipvcs.storage.pins import Pin, PinMode
from ipvcs.storage.segments import SegmentRow
from tests.contracts.blockstore import HELLO, some_blocks
from tests.unit.storage.dags import LEAVES, LEFT, RIGHT, ROOT, TREE
from tests.unit.storage.segment_check import check_segments

RECURSIVE, DIRECT = PinMode.RECURSIVE, PinMode.DIRECT


def kept(home: Home) -> set[bytes]:
    return {cid.multihash for cid in home.blocks.iter_cids()}


def keys(*blocks: Block) -> set[bytes]:
    return {block.cid.multihash for block in blocks}


def test_what_pins_reach_is_kept_and_the_rest_goes(home: Home) -> None:
    home.blocks.put_many([*TREE, HELLO])
    home.pins.add([Pin(LEFT.cid, RECURSIVE), Pin(ROOT.cid, DIRECT)])
    removed: list[Cid] = []

    report = collect(home, on_removed=removed.append)

    assert kept(home) == keys(ROOT, LEFT, *LEAVES[:2])
    assert set(removed) == {RIGHT.cid, LEAVES[2].cid, LEAVES[3].cid, HELLO.cid}
    assert (report.removed, report.kept, report.damaged) == (4, 4, 0)
    check_segments(home)


def test_unpinning_is_enough(home: Home) -> None:
    home.blocks.put_many(TREE)
    home.pins.add([Pin(ROOT.cid, RECURSIVE)])
    assert collect(home).removed == 0
    home.pins.remove([ROOT.cid])
    assert collect(home).removed == len(TREE)
    assert home.blocks.stat().size == 0


def test_a_pin_by_another_version_or_codec_keeps_the_block(home: Home) -> None:
    home.blocks.put_many([LEFT, *LEAVES[:2], HELLO])
    home.pins.add([Pin(LEFT.cid.to_v0(), RECURSIVE), Pin(HELLO.cid.with_codec(codecs.DAG_CBOR), DIRECT)])

    assert collect(home).removed == 0


@pytest.mark.parametrize("absent", [ROOT, LEFT])
def test_a_pinned_dag_with_a_hole_stops_the_collection_before_it_deletes_anything(home: Home, absent: Block) -> None:
    home.blocks.put_many([block for block in [*TREE, HELLO] if block is not absent])
    home.pins.add([Pin(ROOT.cid, RECURSIVE)])
    before = kept(home)

    with pytest.raises(UnreadablePinError, match=r"is not readable: block .* not found") as caught:
        collect(home)

    assert kept(home) == before
    assert f"ipvcs pin rm {ROOT.cid}" in str(caught.value.hint)
    home.pins.remove([ROOT.cid])
    collect(home)
    assert kept(home) == set()


def test_a_pinned_dag_with_a_node_that_does_not_parse_stops_it_too(home: Home) -> None:
    broken = Block.of(b"\xff\xff\xff", codecs.DAG_PB)
    home.blocks.put_many([broken, HELLO])
    home.pins.add([Pin(broken.cid, RECURSIVE)])

    with pytest.raises(UnreadablePinError):
        collect(home)
    assert home.blocks.has(HELLO.cid)


def test_an_incomplete_pin_keeps_what_is_there(home: Home) -> None:
    home.blocks.put_many([block for block in [*TREE, HELLO] if block is not LEFT])
    home.pins.add([Pin(ROOT.cid, RECURSIVE, complete=False)])

    collect(home)

    assert kept(home) == keys(ROOT, RIGHT, *LEAVES[1:])


def test_an_incomplete_pin_does_not_hide_a_hole_from_a_complete_one(home: Home) -> None:
    home.blocks.put_many([block for block in TREE if block is not LEFT])
    home.pins.add([Pin(ROOT.cid, RECURSIVE, complete=False), Pin(LEFT.cid, RECURSIVE)])

    with pytest.raises(UnreadablePinError):
        collect(home)


def test_two_collections_do_not_run_at_once(home: Home) -> None:
    home.blocks.put_many([HELLO])
    refused = []

    def collect_again(*_args: object) -> None:
        with pytest.raises(GcRunningError, match="already running"):
            collect(home)
        refused.append(True)

    collect(home, progress=collect_again)
    assert refused


def test_space_comes_back_and_readers_go_on(home: Home) -> None:
    blocks = [Block.of(os.urandom(100_000)) for _ in range(20)]
    home.blocks.put_many(blocks)
    home.pins.add(Pin(block.cid, DIRECT) for block in blocks[:5])

    report = collect(home)

    assert report.removed == 15
    assert report.freed >= 1_400_000
    assert report.wasted == 0
    assert home.blocks.stat().disk < 700_000 + 200_000
    assert all(home.blocks.get(block.cid) == block.data for block in blocks[:5])
    check_segments(home)


def test_little_waste_is_left_and_reported(home: Home) -> None:
    blocks = [Block.of(os.urandom(1000)) for _ in range(10)]
    home.blocks.put_many(blocks)
    home.pins.add(Pin(block.cid, DIRECT) for block in blocks[2:])
    (number,) = home.blocks.index.segment_rows()

    report = collect(home)

    assert list(home.blocks.index.segment_rows()) == [number]
    assert 2000 <= report.wasted <= 2100


def test_repeated_collections_settle(home: Home) -> None:
    home.blocks.put_many(some_blocks(200))
    home.pins.add(Pin(block.cid, DIRECT) for block in some_blocks(20))
    collect(home)
    before = home.blocks.index.segment_rows()
    for _ in range(3):
        assert collect(home).removed == 0
    assert home.blocks.index.segment_rows() == before


def test_segments_that_a_writer_holds_are_left_alone(home: Home) -> None:
    with home.blocks.writing() as writing:
        writing.put(HELLO)
        writing.flush()
        home.blocks.delete([HELLO.cid])
        collect(home)
        writing.put(Block.of(b"later"))
    assert home.blocks.get(Block.of(b"later").cid) == b"later"
    check_segments(home)


def test_files_without_a_row_are_removed_and_other_files_are_not(home: Home) -> None:
    home.blocks.put_many([HELLO])
    home.pins.add([Pin(HELLO.cid, DIRECT)])
    stray, foreign = home.blocks.segments.path_of(77), home.blocks.segments.path / "notes.txt"
    stray.write_bytes(b"left by a crash")
    foreign.write_bytes(b"not ours")

    collect(home)

    assert not stray.exists()
    assert foreign.exists()
    assert home.blocks.get(HELLO.cid) == b"hello"


def test_compaction_moves_blocks_in_batches_and_fills_segments(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "SEGMENT_SIZE", 20_000)
    monkeypatch.setattr(gc, "SEGMENT_SIZE", 20_000)
    monkeypatch.setattr(gc, "_COPY_COUNT", 7)
    monkeypatch.setattr(gc, "_COPY_SIZE", 1000)
    blocks = [Block.of(os.urandom(100)) for _ in range(1000)]
    with home.blocks.writing() as writing:
        for number, block in enumerate(blocks):
            writing.put(block)
            if number % 50 == 49:
                writing.flush()
    home.pins.add(Pin(block.cid, DIRECT) for block in blocks[::4])

    report = collect(home)

    assert report.removed == 750
    assert all(home.blocks.get(block.cid) == block.data for block in blocks[::4])
    assert len(home.blocks.index.segment_rows()) <= 4
    check_segments(home)


def test_a_damaged_segment_is_counted_and_kept_as_it_is(home: Home) -> None:
    keep, waste = Block.of(b"keep"), Block.of(bytes(10_000))
    home.blocks.put_many([keep, waste])
    home.pins.add([Pin(keep.cid, DIRECT)])
    (number,) = home.blocks.index.segment_rows()
    path = home.blocks.segments.path_of(number)
    with path.open("r+b") as file:
        file.seek(20)
        file.write(b"\xff" * 8)

    report = collect(home)

    assert report.damaged == 1
    assert path.exists()
    assert home.blocks.get(keep.cid) == b"keep"
    home.blocks.put_many([HELLO])
    assert list(verify.iter_damaged(home.blocks)) == []


def test_blocks_that_are_deleted_while_they_are_copied_stay_deleted(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [Block.of(os.urandom(1000)) for _ in range(10)]
    home.blocks.put_many(blocks)
    home.pins.add(Pin(block.cid, DIRECT) for block in blocks[:3])
    real = gc._name_copies

    def delete_first(home: Home, *rest: object) -> None:
        home.blocks.delete([blocks[0].cid])
        real(home, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(gc, "_name_copies", delete_first)
    collect(home)

    assert kept(home) == keys(*blocks[1:3])
    check_segments(home)


def test_blocks_that_are_deleted_and_stored_again_while_they_are_copied_stay_where_they_are(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = [Block.of(os.urandom(1000)) for _ in range(10)]
    home.blocks.put_many(blocks)
    home.pins.add(Pin(block.cid, DIRECT) for block in blocks[:3])
    real = gc._name_copies
    places: list[Location | None] = []

    def store_again_first(home: Home, *rest: object) -> None:
        home.blocks.delete([blocks[0].cid])
        home.blocks.put_many(blocks[:1])
        places.append(home.blocks.index.locate(blocks[0].cid.multihash)[0])
        real(home, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(gc, "_name_copies", store_again_first)
    collect(home)

    assert home.blocks.index.locate(blocks[0].cid.multihash)[0] == places[0]
    assert kept(home) == keys(*blocks[:3])
    check_segments(home)


@pytest.mark.parametrize("live", [0, 1], ids=["dead", "mostly waste"])
def test_a_segment_that_a_writer_took_up_after_it_was_chosen_is_not_dropped(
    home: Home, monkeypatch: pytest.MonkeyPatch, live: int
) -> None:
    """The rows are read first and the segment is locked after: a whole session fits in between."""
    blocks = [Block.of(os.urandom(1000)) for _ in range(5)]
    home.blocks.put_many(blocks)
    home.blocks.delete(block.cid for block in blocks[live:])
    home.pins.add(Pin(block.cid, DIRECT) for block in [*blocks[:live], HELLO])
    rows = home.blocks.index.segment_rows
    stages = iter([False, True, False, False] if live else [True])

    def stale() -> dict[int, SegmentRow]:
        before = rows()
        if next(stages, False):
            home.blocks.put_many([HELLO])
        return before

    with monkeypatch.context() as patch:
        patch.setattr(home.blocks.index, "segment_rows", stale)
        gc._drop_dead(home)
        gc._compact(home, gc.GcReport())

    assert kept(home) == keys(*blocks[:live], HELLO)
    assert home.blocks.get(HELLO.cid) == b"hello"
    check_segments(home)


@pytest.mark.parametrize("call", ["writev", "fdatasync"])
def test_a_disk_too_full_to_copy_keeps_everything_and_ends_well(
    home: Home, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    blocks = [Block.of(os.urandom(1000)) for _ in range(10)]
    home.blocks.put_many(blocks)
    home.pins.add(Pin(block.cid, DIRECT) for block in blocks[:3])

    def refuse(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, refuse)
        report = collect(home)

    assert report.removed == 7
    assert report.wasted >= 7000
    assert all(home.blocks.get(block.cid) == block.data for block in blocks[:3])
    check_segments(home)
    assert collect(home).wasted == 0
    check_segments(home)


STAGES: list[tuple[str, Callable[..., object]]] = [
    (name, getattr(gc, name)) for name in ("_mark", "_sweep", "_drop_dead", "_drop", "_compact", "_name_copies")
]


@pytest.mark.parametrize(("name", "stage"), STAGES, ids=[name for name, _ in STAGES])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_an_interrupted_collection_leaves_a_sound_store_and_the_next_one_finishes(
    home: Home, monkeypatch: pytest.MonkeyPatch, name: str, stage: Callable[..., object], after: bool
) -> None:
    blocks = [Block.of(os.urandom(1000)) for _ in range(12)]
    with home.blocks.writing() as first, home.blocks.writing() as second:  # two segments: one dead, one to compact
        for block in blocks[:4]:
            first.put(block)
        for block in blocks[4:]:
            second.put(block)
    home.pins.add(Pin(block.cid, DIRECT) for block in blocks[-2:])

    def stop(*args: object) -> None:
        if after:
            stage(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gc, name, stop)
        with pytest.raises(KeyboardInterrupt):
            collect(home)
    check_segments(home)
    assert keys(*blocks[-2:]) <= kept(home)
    home.blocks.put_many([HELLO])
    check_segments(home)

    collect(home)

    assert kept(home) == keys(*blocks[-2:])
    check_segments(home)
    assert home.blocks.stat().disk < 200_000


def test_the_epoch_begins_before_leases_are_asked_for_and_pins_are_read_after(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order that lease.py's argument rests on."""
    order: list[str] = []

    def note(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def noted(*args: object, **options: object) -> object:
            order.append(f"{name} {home.blocks.index.epoch()}")
            return real(*args, **options)

        return noted

    monkeypatch.setattr(gc, "oldest_epoch", note("leases", oldest_epoch))
    monkeypatch.setattr(home.pins, "iter_pins", note("pins", home.pins.iter_pins))
    monkeypatch.setattr(home.blocks.index, "iter_slices", note("blocks", home.blocks.index.iter_slices))
    collect(home)

    assert order == ["leases 1", "pins 1", "blocks 1"]


def test_a_lease_without_an_epoch_yet_protects_everything(home: Home) -> None:
    home.blocks.put_many([HELLO])
    during: list[int] = []

    def collect_meanwhile() -> int:
        during.append(collect(home).removed)
        return home.blocks.index.epoch()

    Lease.acquire(home.blocks.leases, collect_meanwhile).release()
    assert during == [0]
    assert collect(home).removed == 1


def test_the_slot_of_a_killed_reader_is_cleared(home: Home) -> None:
    """Until then it pins every index page of its moment, and the index grows."""
    code = (
        "import os, pathlib, sys; from ipvcs.storage.home import open_home;"
        "home = open_home(pathlib.Path(sys.argv[1])); txn = home.datastore.begin(); os.kill(os.getpid(), 9)"
    )
    killed = subprocess.run([sys.executable, "-c", code, home.path], cwd=Path(__file__).parents[3], check=False)
    assert killed.returncode == -9

    def slots() -> int:
        return len(home.datastore.env.readers().splitlines()) - 1  # a heading, or "(no active readers)"

    before = slots()
    collect(home)
    assert slots() == before - 1
