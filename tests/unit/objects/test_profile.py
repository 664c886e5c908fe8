"""Profiles, and the implications that Kubo draws between options."""

from dataclasses import asdict, replace
from typing import Any

import pytest

from ipvcs.errors import UsageError
from ipvcs.multiformats import multihash
from ipvcs.objects.profile import (
    MAX_FILE_LINKS,
    PROFILES,
    UNIXFS_V0_2015,
    UNIXFS_V1_2025,
    ImportOptions,
    ImportOptionsError,
    resolve_options,
)

BLAKE2B_256 = multihash.code_of("blake2b-256")


def test_the_profiles_are_those_of_ipip_499() -> None:
    assert asdict(UNIXFS_V0_2015) == asdict(
        ImportOptions(0, False, "size-262144", 174, "links", 0x12, 0, 256, 262144, False, False, 32)
    )
    assert asdict(UNIXFS_V1_2025) == asdict(
        ImportOptions(1, True, "size-1048576", 1024, "block", 0x12, 0, 256, 262144, False, False, 32)
    )


def test_cdc_1_is_v1_2025_cut_by_content() -> None:
    assert PROFILES["cdc-1"] == replace(UNIXFS_V1_2025, chunker="fastcdc")


def test_the_wide_test_profile_is_kubos() -> None:
    wide = PROFILES["test-cid-v1-wide"]
    assert (wide.max_file_links, wide.hamt_fanout, wide.hamt_threshold) == (1024, 1024, 1 << 20)
    assert wide.hamt_estimate == "links"


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_alone_resolves_to_itself(name: str) -> None:
    assert resolve_options(name) == PROFILES[name]


def test_no_profile_is_v1_2025() -> None:
    assert resolve_options() == UNIXFS_V1_2025


@pytest.mark.parametrize(
    ("profile", "given", "version", "raw"),
    [
        ("unixfs-v0-2015", {}, 0, False),
        ("unixfs-v0-2015", {"cid_version": 1}, 1, True),
        ("unixfs-v0-2015", {"cid_version": 1, "raw_leaves": False}, 1, False),
        ("unixfs-v0-2015", {"raw_leaves": True}, 0, True),
        ("unixfs-v0-2015", {"hash_code": BLAKE2B_256}, 1, True),
        ("unixfs-v0-2015", {"hash_code": BLAKE2B_256, "raw_leaves": False}, 1, False),
        ("unixfs-v0-2015", {"hash_code": BLAKE2B_256, "metadata": True}, 1, False),
        ("unixfs-v0-2015", {"cid_version": 1, "metadata": True}, 1, False),
        ("unixfs-v0-2015", {"hash_code": multihash.SHA2_256}, 0, False),
        ("unixfs-v1-2025", {"cid_version": 0}, 0, True),
        ("unixfs-v1-2025", {"cid_version": 0, "raw_leaves": False}, 0, False),
        ("unixfs-v1-2025", {"metadata": True}, 1, True),
        ("unixfs-v1-2025", {"metadata": True, "raw_leaves": False}, 1, False),
    ],
)
def test_version_and_raw_leaves_follow_as_in_kubo(profile: str, given: dict[str, Any], version: int, raw: bool) -> None:
    options = resolve_options(profile, **given)
    assert (options.cid_version, options.raw_leaves) == (version, raw)


def test_what_is_given_overrides_the_profile_and_nothing_else_changes() -> None:
    given: dict[str, Any] = {
        "chunker": "rabin",
        "max_file_links": 2,
        "max_directory_links": 9,
        "hamt_fanout": 8,
        "hamt_threshold": 0,
        "hamt_estimate": "disabled",
        "trickle": True,
        "inline": True,
        "inline_limit": 0,
    }
    assert resolve_options("unixfs-v1-2025", **given) == replace(UNIXFS_V1_2025, **given)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"cid_version": 2}, "unknown CID version 2"),
        ({"cid_version": 0, "hash_code": BLAKE2B_256}, "only sha2-256"),
        ({"raw_leaves": True, "metadata": True}, "cannot hold a mode"),
        ({"hash_code": multihash.code_of("blake2b-152")}, "gives 19 bytes"),
        ({"hash_code": 0x7FFF}, "hash function .0x7fff."),
        ({"max_file_links": 1}, "from 2 to"),
        ({"max_file_links": MAX_FILE_LINKS + 1}, "from 2 to"),
        ({"max_directory_links": -1}, "at least 0"),
        ({"hamt_threshold": -1}, "at least 0"),
        ({"hamt_fanout": 4}, "power of two"),
        ({"hamt_fanout": 100}, "power of two"),
        ({"hamt_fanout": 2048}, "power of two"),
        ({"hamt_estimate": "bytes"}, "unknown size estimate 'bytes'"),
        ({"inline_limit": 129}, "from 0 to 128"),
        ({"inline_limit": -1}, "from 0 to 128"),
        ({"chunker": "size-0"}, "bad chunker"),
        ({"chunker": "rabin-12-512-1024"}, "bad chunker"),
    ],
)
def test_contradictions_and_bad_values_are_refused(given: dict[str, Any], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        resolve_options("unixfs-v0-2015", **given)


def test_an_unknown_profile_names_the_known_ones() -> None:
    with pytest.raises(ImportOptionsError, match="unknown profile 'unixfs-v2'") as caught:
        resolve_options("unixfs-v2")
    assert "cdc-1" in (caught.value.hint or "")


def test_the_shortest_digest_that_readers_trust_is_accepted() -> None:
    assert resolve_options(hash_code=multihash.SHA1).hash_code == multihash.SHA1
