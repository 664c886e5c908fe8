"""CARs of all kinds into a home: all of them or nothing."""

import io
import json
import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ipvcs.errors import IpvcsError
from ipvcs.multiformats import codecs, multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_cbor
from ipvcs.objects.block import MAX_BLOCK_SIZE, Block, BlockMismatchError
from ipvcs.objects.car_source import CarError
from ipvcs.objects.car_writer import write_car
from ipvcs.storage.car_import import BigBlockError, import_cars, open_car
from ipvcs.storage.closure import IncompleteError
from ipvcs.storage.disk import DiskError
from ipvcs.storage.gc import collect
from ipvcs.storage.home import Home
from ipvcs.storage.pins import PinMode
from ipvcs.storage.verify import iter_damaged
from tests.unit.storage.dags import LEAVES, LEFT, ROOT, TREE, node

VECTORS = Path(__file__).parents[2] / "vectors" / "car"
EXPECTED: dict[str, dict[str, Any]] = json.loads((VECTORS / "expected.json").read_text())
WHOLE = [name for name, expected in EXPECTED.items() if "error" not in expected]
DAMAGED = [name for name, expected in EXPECTED.items() if "error" in expected]


def car(roots: Iterable[Cid], blocks: Iterable[Block]) -> io.BytesIO:
    file = io.BytesIO()
    write_car(list(roots), blocks, file.write)
    file.seek(0)
    return file


class Pipe(io.BytesIO):
    """What can be read once, as a pipe."""

    def seekable(self) -> bool:
        return False

    def seek(self, _offset: int, _whence: int = 0) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def pins(home: Home) -> dict[Cid, PinMode]:
    return {pin.cid: pin.mode for pin in home.pins.iter_pins()}


def assert_empty(home: Home) -> None:
    assert list(home.blocks.iter_cids()) == []
    assert pins(home) == {}
    assert list(home.temporary.iterdir()) == []


@pytest.mark.parametrize("source", [io.BytesIO, Pipe])
@pytest.mark.parametrize("name", WHOLE)
def test_cars_of_other_programs_are_imported(home: Home, name: str, source: type[io.BytesIO]) -> None:
    expected = EXPECTED[name]
    report = import_cars(home, [source((VECTORS / name).read_bytes())], pin=False, allow_big_block=True)
    assert report.blocks == expected["blocks"]
    assert list(map(str, report.roots)) == list(dict.fromkeys(expected["roots"]))
    assert list(iter_damaged(home.blocks)) == []
    assert pins(home) == {}


@pytest.mark.parametrize("source", [io.BytesIO, Pipe])
@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_cars_leave_nothing_not_even_of_the_good_one_before(
    home: Home, name: str, source: type[io.BytesIO]
) -> None:
    with pytest.raises(IpvcsError):
        import_cars(home, [car([ROOT.cid], TREE), source((VECTORS / name).read_bytes())])
    assert_empty(home)


@pytest.mark.parametrize("data", [b"", b"hello", b"\0", b"\xff" * 100, b"\x0a\xa1gversion\x02"])
def test_what_is_no_car_is_refused(home: Home, data: bytes) -> None:
    for source in (io.BytesIO, Pipe):
        with pytest.raises(CarError):
            import_cars(home, [source(data)])
    assert_empty(home)


def test_every_flipped_bit_is_noticed_or_does_no_harm(home: Home) -> None:
    """A bit of the header's roots may make another root, which is not there; no other is taken."""
    good = car([ROOT.cid], TREE).getvalue()
    for position in range(0, len(good) * 8, 37):
        bad = bytearray(good)
        bad[position // 8] ^= 1 << position % 8
        with pytest.raises(IpvcsError):
            import_cars(home, [io.BytesIO(bad)])
        assert pins(home) == {}
    assert list(iter_damaged(home.blocks)) == []


def test_a_car_cut_short_anywhere_leaves_nothing(home: Home) -> None:
    good = car([ROOT.cid], TREE).getvalue()
    ends = set()
    for length in range(len(good)):
        try:
            import_cars(home, [io.BytesIO(good[:length])])
        except IncompleteError:
            ends.add(length)  # between two sections: a CAR without the rest
        except CarError:
            continue
        assert pins(home) == {}
    assert len(ends) == len(TREE)


def test_sections_with_other_bytes_than_their_cid_says_are_refused(home: Home) -> None:
    data = car([], [LEAVES[0]]).getvalue().replace(b"leaf 0", b"leaf X")
    with pytest.raises(BlockMismatchError):
        import_cars(home, [io.BytesIO(data)])
    assert_empty(home)


def test_roots_are_pinned_once_with_all_that_they_reach(home: Home) -> None:
    report = import_cars(home, [car([ROOT.cid, LEFT.cid, ROOT.cid], [*TREE, *TREE]), car([ROOT.cid], [])])
    assert report.roots == [ROOT.cid, LEFT.cid]
    assert report.blocks == 2 * len(TREE)
    assert pins(home) == {ROOT.cid: PinMode.RECURSIVE, LEFT.cid: PinMode.RECURSIVE}
    assert set(home.blocks.iter_cids()) == {block.cid for block in TREE}
    collect(home)
    assert set(home.blocks.iter_cids()) == {block.cid for block in TREE}


def test_a_dag_may_be_spread_over_several_cars(home: Home) -> None:
    import_cars(home, [car([ROOT.cid], TREE[4:]), Pipe(car([], TREE[:4]).read()), car([], [])])
    assert pins(home) == {ROOT.cid: PinMode.RECURSIVE}


def test_without_roots_nothing_is_pinned(home: Home) -> None:
    assert import_cars(home, [car([], TREE)]).roots == []
    assert pins(home) == {}
    assert len(list(home.blocks.iter_cids())) == len(TREE)


def test_a_root_that_is_not_whole_is_not_pinned_nor_are_the_others(home: Home) -> None:
    with pytest.raises(IncompleteError) as caught:
        import_cars(home, [car([LEAVES[0].cid, ROOT.cid], [block for block in TREE if block is not LEAVES[2]])])
    assert caught.value.missing == LEAVES[2].cid
    assert pins(home) == {}
    collect(home)
    assert list(home.blocks.iter_cids()) == []


def test_blocks_inside_cids_are_roots_and_sections_like_others(home: Home) -> None:
    inline = Block.of(node(LEAVES[0]).data[:100], codecs.RAW, multihash.IDENTITY)
    parent = Block.of(dag_cbor.encode([inline.cid, LEAVES[1].cid]), codecs.DAG_CBOR)
    report = import_cars(home, [car([inline.cid, parent.cid], [inline, LEAVES[1], parent])])
    assert report.blocks == 3
    assert set(pins(home)) == {inline.cid, parent.cid}
    assert set(home.blocks.iter_cids()) == {LEAVES[1].cid, parent.cid}


def test_links_out_of_a_root_inside_a_cid_are_followed(home: Home) -> None:
    inline = Block.of(dag_cbor.encode([LEAVES[0].cid]), codecs.DAG_CBOR, multihash.IDENTITY)
    with pytest.raises(IncompleteError):
        import_cars(home, [car([inline.cid], [])])
    import_cars(home, [car([inline.cid], [LEAVES[0]])])
    collect(home)
    assert LEAVES[0].cid in set(home.blocks.iter_cids())


def test_blocks_too_big_to_travel_are_taken_only_if_asked(home: Home) -> None:
    fits, big = Block.of(bytes(MAX_BLOCK_SIZE)), Block.of(bytes(MAX_BLOCK_SIZE + 1))
    import_cars(home, [car([fits.cid], [fits])])
    with pytest.raises(BigBlockError, match=r"2097153 bytes.*limit of 2097152"):
        import_cars(home, [car([big.cid], [LEAVES[0], big])])
    assert set(home.blocks.iter_cids()) == {fits.cid}
    import_cars(home, [car([big.cid], [big])], allow_big_block=True)
    assert big.cid in set(home.blocks.iter_cids())


def test_reading_begins_where_the_file_is(home: Home) -> None:
    file = io.BytesIO(b"before" + car([ROOT.cid], TREE).read())
    file.seek(6)
    import_cars(home, [file])
    assert set(pins(home)) == {ROOT.cid}


def test_many_roots_that_share_what_they_reach_are_walked_once(home: Home) -> None:
    """More than a thousand roots, each over the same thousand leaves: a walk for each would take minutes."""
    leaves = [Block.of(b"%d" % number) for number in range(1000)]
    middle = Block.of(dag_cbor.encode([leaf.cid for leaf in leaves]), codecs.DAG_CBOR)
    roots = [Block.of(dag_cbor.encode([number, middle.cid]), codecs.DAG_CBOR) for number in range(1500)]
    report = import_cars(home, [car([root.cid for root in roots], [*leaves, middle, *roots])])
    assert len(report.roots) == len(pins(home)) == 1500


def test_progress_counts_every_byte_twice(home: Home) -> None:
    counted: list[int] = []
    report = import_cars(home, [car([], TREE)], on_bytes=counted.append)
    assert sum(counted) == 2 * report.size == 2 * sum(len(block.data) for block in TREE)


def test_a_named_pipe_is_read_like_a_file(home: Home, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(car([ROOT.cid], TREE).read()))
    writer.start()
    with open_car(tmp_path / "pipe") as file:
        import_cars(home, [file])
    writer.join()
    assert set(pins(home)) == {ROOT.cid}
    assert list(home.temporary.iterdir()) == []


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_file_that_can_not_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DiskError, match=str(tmp_path)):
        open_car(tmp_path / name)


def test_a_car_that_changes_between_the_passes_pins_nothing(home: Home) -> None:
    class Changing(io.BytesIO):
        passes = 0

        def seek(self, offset: int, whence: int = 0, /) -> int:
            self.getbuffer()[-1] ^= 1
            return super().seek(offset, whence)

    with pytest.raises(IpvcsError):
        import_cars(home, [Changing(car([ROOT.cid], TREE).read())])
    assert pins(home) == {}
    assert list(iter_damaged(home.blocks)) == []
