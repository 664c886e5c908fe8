"""What the store does when the disk, a backup or a fork has done something to it: never lose, never lie."""

import os
import shutil
from pathlib import Path

import pytest

from ipvcs.objects.block import Block
from ipvcs.storage.datastore import IndexLostError
from ipvcs.storage.embedded import DamagedBlockError
from ipvcs.storage.gc import NOT_FOUND, collect, remove
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.pins import Pin, PinMode
from ipvcs.storage.segments import HEADER, UnknownSegmentError
from ipvcs.storage.verify import iter_damaged

BLOCKS = [Block.of(b"block %d " % index * 50) for index in range(20)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A home that holds and pins `BLOCKS`, closed."""
    path = tmp_path / "home"
    with open_home(path) as home:
        home.blocks.put_many(BLOCKS)
        home.pins.add(Pin(block.cid, PinMode.DIRECT) for block in BLOCKS)
    return path


def flip_a_bit(path: Path, block: Block) -> None:
    segment = next((path / "blocks").glob("*.car"))
    data = bytearray(segment.read_bytes())
    data[data.index(block.data)] ^= 1
    segment.write_bytes(data)


@pytest.mark.parametrize("how", ["emptied", "removed", "replaced by a new one"])
def test_a_home_whose_index_is_lost_is_refused_and_keeps_its_blocks(path: Path, tmp_path: Path, how: str) -> None:
    index = path / "datastore" / "data.mdb"
    if how == "emptied":
        index.write_bytes(b"")
    elif how == "removed":
        index.unlink()
    else:
        import lmdb

        index.unlink()
        with lmdb.open(str(path / "datastore"), max_dbs=8):
            pass
    before = {file.name: file.read_bytes() for file in (path / "blocks").iterdir()}
    with pytest.raises(IndexLostError) as caught:
        open_home(path)
    assert caught.value.hint
    assert "dag import" in caught.value.hint
    assert {file.name: file.read_bytes() for file in (path / "blocks").iterdir()} == before


def test_an_old_index_put_back_makes_no_garbage_of_newer_segments(path: Path, tmp_path: Path) -> None:
    shutil.copytree(path / "datastore", tmp_path / "backup")
    with open_home(path) as home:
        with home.blocks.writing() as held:  # so that the next writer makes a segment of its own
            held.put(Block.of(b"held"))
            held.flush()
            home.blocks.put_many([Block.of(b"newer")])
        newest = max(home.blocks.segments.iter_ids())
    shutil.rmtree(path / "datastore")
    shutil.copytree(tmp_path / "backup", path / "datastore")
    with open_home(path) as home:
        collect(home)
        assert b"newer" in home.blocks.segments.path_of(newest).read_bytes()
        with home.blocks.writing() as first:
            first.put(Block.of(b"one"))
            first.flush()
            with pytest.raises(UnknownSegmentError):  # the second writer would have to make that file
                home.blocks.put_many([Block.of(b"two")])
        assert all(home.blocks.get(block.cid) == block.data for block in BLOCKS)


def test_a_file_of_an_interrupted_making_is_cleared_away(path: Path) -> None:
    with open_home(path) as home:
        stray = home.blocks.segments.path_of(99)
        stray.write_bytes(HEADER)
        collect(home)
        assert not stray.exists()


def test_a_damaged_block_is_an_error_and_not_its_bytes(path: Path) -> None:
    flip_a_bit(path, BLOCKS[3])
    with open_home(path) as home:
        with pytest.raises(DamagedBlockError) as caught:
            home.blocks.get(BLOCKS[3].cid)
        assert caught.value.cid == BLOCKS[3].cid
        assert [problem.cid for problem in iter_damaged(home.blocks)] == [BLOCKS[3].cid]


def test_reading_does_not_hash_when_told_so_but_verify_does(path: Path) -> None:
    with open_home(path) as home:
        home.config.set("Datastore.HashOnRead", False)
    flip_a_bit(path, BLOCKS[3])
    with open_home(path) as home:
        assert home.blocks.get(BLOCKS[3].cid) != BLOCKS[3].data
        assert [problem.cid for problem in iter_damaged(home.blocks)] == [BLOCKS[3].cid]


@pytest.mark.parametrize("how", ["a bit flipped", "the file cut short"])
def test_putting_a_damaged_block_again_mends_it(path: Path, how: str) -> None:
    if how == "a bit flipped":
        flip_a_bit(path, BLOCKS[3])
    else:
        segment = next((path / "blocks").glob("*.car"))
        os.truncate(segment, segment.read_bytes().index(BLOCKS[10].data))
    with open_home(path) as home:
        home.blocks.put_many(BLOCKS)
        assert list(iter_damaged(home.blocks)) == []
        collect(home)
        assert all(home.blocks.get(block.cid) == block.data for block in BLOCKS)


def test_a_forked_child_that_ends_leaves_its_parents_lease_and_lock_alone(path: Path) -> None:
    with open_home(path) as home:
        home.pins.remove([block.cid for block in BLOCKS])
        with home.blocks.writing() as session:
            session.put(Block.of(b"not flushed yet"))
            assert session.rely_on([BLOCKS[0].cid]) == []
            child = os.fork()
            if child == 0:
                try:
                    session.close()
                finally:
                    os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            collect(home)
            assert home.blocks.has(BLOCKS[0].cid)
        assert home.blocks.get(Block.of(b"not flushed yet").cid)


def test_removing_a_block_by_name_asks_pins_and_writers_first(path: Path) -> None:
    pinned, relied, free, missing = BLOCKS[0], BLOCKS[1], BLOCKS[2], Block.of(b"missing")
    with open_home(path) as home:
        home.pins.remove([relied.cid, free.cid])
        remove(home, [])  # a new epoch: what has the stamp of an old one is nobody's
        with home.blocks.writing() as session:
            assert session.rely_on([relied.cid]) == []
            found = dict(remove(home, [pinned.cid, relied.cid, free.cid, missing.cid]))
        assert found[pinned.cid] == "it is pinned (direct)"
        assert "running" in found[relied.cid]
        assert found[free.cid] == ""
        assert found[missing.cid] == NOT_FOUND
        assert [home.blocks.has(block.cid) for block in (pinned, relied, free)] == [True, True, False]


def test_pinning_again_without_a_name_keeps_the_name(path: Path) -> None:
    with open_home(path) as home:
        home.pins.add([Pin(BLOCKS[0].cid, PinMode.RECURSIVE, "named")])
        home.pins.add([Pin(BLOCKS[0].cid, PinMode.RECURSIVE)])
        assert home.pins.get(BLOCKS[0].cid).name == "named"


def test_the_names_of_a_new_home_and_of_all_above_it_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[Path] = set()
    real = os.fsync

    def record(fd: int) -> None:
        synced.add(Path(f"/proc/self/fd/{fd}").readlink())
        real(fd)

    monkeypatch.setattr(os, "fsync", record)
    path = tmp_path / "new" / "sub" / "home"
    home: Home = open_home(path)
    home.close()
    assert {tmp_path, tmp_path / "new", tmp_path / "new" / "sub", path, path / "blocks", path / "datastore"} <= synced
