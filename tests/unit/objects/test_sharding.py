"""Estimates to the byte, and both sides of every limit."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.cid import Cid
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.directory import build_plain_directory
from ipvcs.objects.profile import UNIXFS_V0_2015, UNIXFS_V1_2025, HamtEstimate
from ipvcs.objects.sharding import data_size, fits_plain, link_size, turns_plain
from ipvcs.objects.unixfs import Mtime
from tests.fakes.memory_blocks import MemoryBlocks

CIDS = [Cid.of(bytes(32)), Cid(b"\x12\x20" + bytes(32))]
NAMES = st.binary(min_size=1, max_size=200).filter(lambda name: not {0, 0x2F} & set(name))
LINKS = st.lists(
    st.builds(PBLink, st.sampled_from(CIDS), NAMES, st.integers(0, (1 << 63) - 1)),
    max_size=20,
    unique_by=lambda e: e.name,
)
MODES = st.none() | st.integers(0, 0o7777)
MTIMES = st.none() | st.builds(Mtime, st.integers(-(1 << 40), 1 << 40), st.integers(0, 999_999_999))


def links(count: int, name_length: int = 10) -> list[PBLink]:
    return [PBLink(CIDS[0], b"%0*d" % (name_length, number), 1) for number in range(count)]


def block_estimate(entries: list[PBLink], mode: int | None, mtime: Mtime | None) -> int:
    return data_size("block", mode, mtime) + sum(link_size(link, "block") for link in entries)


@given(entries=LINKS, mode=MODES, mtime=MTIMES)
def test_the_block_estimate_is_the_length_of_the_plain_block(
    entries: list[PBLink], mode: int | None, mtime: Mtime | None
) -> None:
    blocks = MemoryBlocks()
    built = build_plain_directory(entries, UNIXFS_V1_2025, blocks, mode=mode, mtime=mtime)
    assert block_estimate(entries, mode, mtime) == len(blocks.get(built.cid))


def test_the_links_estimate_is_name_and_cid() -> None:
    assert [link_size(PBLink(cid, b"four", 1 << 40), "links") for cid in CIDS] == [40, 38]


@given(entries=LINKS, mode=MODES, mtime=MTIMES)
def test_a_directory_at_the_block_limit_is_plain_and_one_byte_over_it_is_sharded(
    entries: list[PBLink], mode: int | None, mtime: Mtime | None
) -> None:
    size = block_estimate(entries, mode, mtime)
    for limit, plain in ((size, True), (size - 1, not entries)):
        options = replace(UNIXFS_V1_2025, hamt_threshold=limit)
        assert fits_plain(entries, options, mode=mode, mtime=mtime) == plain


@given(entries=LINKS, mode=MODES, mtime=MTIMES)
def test_the_links_estimate_leaves_mode_and_mtime_out(
    entries: list[PBLink], mode: int | None, mtime: Mtime | None
) -> None:
    size = sum(link_size(link, "links") for link in entries)
    for limit, plain in ((max(size, 1), True), (max(size - 1, 1), not entries)):
        options = replace(UNIXFS_V0_2015, hamt_threshold=limit)
        assert fits_plain(entries, options, mode=mode, mtime=mtime) == plain


@pytest.mark.parametrize("estimate", ["links", "block", "disabled"])
def test_more_entries_than_the_maximum_are_sharded(estimate: HamtEstimate) -> None:
    options = replace(UNIXFS_V1_2025, hamt_estimate=estimate, max_directory_links=5)
    assert fits_plain(links(5), options)
    assert not fits_plain(links(6), options)
    assert fits_plain(links(6), options, count_links=False)
    assert fits_plain(links(6), replace(options, max_directory_links=0))


def test_a_disabled_estimate_lets_a_directory_grow_without_bound() -> None:
    assert fits_plain(links(8000), replace(UNIXFS_V1_2025, hamt_estimate="disabled"))


def test_threshold_zero_turns_sharding_off_even_by_count() -> None:
    options = replace(UNIXFS_V1_2025, hamt_threshold=0, max_directory_links=2)
    assert fits_plain(links(8000), options)
    assert not turns_plain(links(1), -100, options)


def test_no_more_entries_are_looked_at_than_it_takes_to_tell() -> None:
    def endless() -> Iterator[PBLink]:
        number = 0
        while True:
            yield PBLink(CIDS[0], b"%d" % number, 1)
            number += 1

    assert not fits_plain(endless(), UNIXFS_V1_2025)


def test_only_a_change_that_shrinks_a_sharded_directory_turns_it_plain() -> None:
    assert turns_plain(links(3), -1, UNIXFS_V1_2025)
    assert not turns_plain(links(3), 0, UNIXFS_V1_2025)
    assert not turns_plain(links(8000), -1, UNIXFS_V1_2025)


def test_without_an_estimate_the_count_alone_turns_it_plain() -> None:
    options = replace(UNIXFS_V1_2025, hamt_estimate="disabled", max_directory_links=5)
    assert turns_plain(links(5), 1, options)
    assert not turns_plain(links(6), -1, options)
    assert not turns_plain(links(1), -1, replace(options, max_directory_links=0))
