"""The embedded store: segments and their index."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ipvcs.multiformats import codecs
from ipvcs.objects.block import Block
from ipvcs.storage import gc
from ipvcs.storage.disk import DiskError
from ipvcs.storage.home import Home, open_home
from ipvcs.storage.interface import Blockstore
from ipvcs.storage.segments import DamagedSegmentError
from tests.contracts.blockstore import (
    EMPTY,
    HELLO,
    BlockstoreContract,
    SharedSessionContract,
    some_blocks,
)
from tests.unit.storage.segment_check import check_segments

CHECKOUT = Path(__file__).parents[3]


class TestEmbeddedBlockstore(BlockstoreContract, SharedSessionContract):
    @pytest.fixture
    def store(self, home: Home) -> Blockstore:
        return home.blocks


def in_another_process(home: Home, code: str) -> str:
    """Run `code` in a process that has the home open as `home`; return what it prints."""
    script = (
        f"from ipvcs.storage.home import open_home\nhome = open_home(__import__('pathlib').Path({str(home.path)!r}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script + code], cwd=CHECKOUT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_other_processes_see_blocks_after_the_flush_and_not_before(home: Home) -> None:
    ask = f"from ipvcs.multiformats.cid import Cid; print(home.blocks.has(Cid.parse('{HELLO.cid}')))"

    with home.blocks.writing() as session:
        session.put(HELLO)
        assert in_another_process(home, ask) == "False\n"
        session.flush()
        assert in_another_process(home, ask) == "True\n"


def test_what_another_process_stores_is_seen_here(home: Home) -> None:
    assert not home.blocks.has(HELLO.cid)

    in_another_process(home, "from ipvcs.objects.block import Block; home.blocks.put_many([Block.of(b'hello')])")

    assert home.blocks.get(HELLO.cid) == b"hello"


def test_content_is_the_same_after_reopening(fast_path: Path) -> None:
    blocks = [Block.of(os.urandom(200), codecs.DAG_PB) for _ in range(300)]
    with open_home(fast_path / "h") as home:
        home.blocks.put_many(blocks)
        before = home.blocks.stat()

    with open_home(fast_path / "h") as home:
        assert home.blocks.stat() == before
        assert all(home.blocks.get(block.cid) == block.data for block in blocks)
        assert set(home.blocks.iter_cids()) == {block.cid for block in blocks}
        check_segments(home)


def test_a_reader_that_looked_up_a_location_before_its_segment_was_removed_still_gets_the_bytes(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look-up and the open of the file are two steps; a whole collection fits in between."""
    keep, waste = Block.of(b"keep"), Block.of(bytes(10_000))
    home.blocks.put_many([keep, waste])
    home.blocks.delete([waste.cid])
    with home.blocks.writing() as session:
        assert session.rely_on([keep.cid]) == []  # no pin needed
        old = home.blocks.index.locate(keep.cid.multihash)
        home.blocks.segments.forget()

        real = home.blocks.index.locate
        answers = iter([old])
        monkeypatch.setattr(home.blocks.index, "locate", lambda key: next(answers, None) or real(key))
        assert old[0] is not None
        gc_report = _collect_with(home, real, monkeypatch)

        assert gc_report.freed > 0
        assert not home.blocks.segments.path_of(old[0].segment).exists()
        assert home.blocks.get(keep.cid) == b"keep"


def _collect_with(home: Home, real: object, monkeypatch: pytest.MonkeyPatch) -> gc.GcReport:
    """Collect while look-ups are real, then put the faked one back."""
    faked = home.blocks.index.locate
    monkeypatch.setattr(home.blocks.index, "locate", real)
    report = gc.collect(home)
    monkeypatch.setattr(home.blocks.index, "locate", faked)
    return report


def test_a_reader_with_the_segment_open_keeps_its_bytes_while_it_is_removed(home: Home) -> None:
    keep, waste = Block.of(b"keep"), Block.of(bytes(10_000))
    home.blocks.put_many([keep, waste])
    home.blocks.delete([waste.cid])
    with home.blocks.writing() as session:
        session.rely_on([keep.cid])
        found, _ = home.blocks.index.locate(keep.cid.multihash)
        assert found is not None
        file = home.blocks.segments.open(found.segment)

        gc.collect(home)

        assert not file.path.exists()
        assert file.read(found.offset, found.size) == b"keep"


def test_a_process_lets_go_of_segments_that_another_one_removed(home: Home) -> None:
    home.blocks.put_many([HELLO])
    assert home.blocks.get(HELLO.cid) == b"hello"
    files = _open_segments()
    assert len(files) == 1

    in_another_process(home, "from ipvcs.storage import gc; assert gc.collect(home).removed == 1")

    assert not home.blocks.has(HELLO.cid)
    assert _open_segments() == []


def _open_segments() -> list[str]:
    links = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the listing's own
            links.append(str(entry.readlink()))
    return [link for link in links if ".car" in link]


def test_a_segment_that_was_cut_short_is_reported_and_does_not_stop_writers(home: Home) -> None:
    home.blocks.put_many([HELLO, EMPTY])
    found, _ = home.blocks.index.locate(HELLO.cid.multihash)
    assert found is not None
    path = home.blocks.segments.path_of(found.segment)
    os.truncate(path, found.offset + 2)

    with pytest.raises(DamagedSegmentError, match=r"is damaged at byte \d+: it ends after 2 of 5 bytes"):
        home.blocks.get(HELLO.cid)
    more = some_blocks(10)
    home.blocks.put_many(more)

    assert all(home.blocks.get(block.cid) == block.data for block in more)
    assert path.stat().st_size == found.offset + 2, "damage is left as it is"


def test_a_segment_that_is_missing_is_an_error_and_not_an_absent_block(home: Home) -> None:
    home.blocks.put_many([HELLO])
    found, _ = home.blocks.index.locate(HELLO.cid.multihash)
    assert found is not None
    home.blocks.segments.path_of(found.segment).unlink()

    with pytest.raises(DiskError, match="No such file"):
        home.blocks.get(HELLO.cid)


def test_stat_survives_that_a_segment_goes_meanwhile(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.blocks.put_many([HELLO])
    ghost = home.blocks.segments.path / "0000ffff.car"
    real = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: [*real(path), ghost])

    assert home.blocks.stat().blocks == 1
