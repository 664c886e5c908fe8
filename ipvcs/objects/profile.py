"""Import profiles: every choice on which the CID of a file or directory depends, under a name.

Two nodes give the same bytes the same CID only if they make the same choices, so the choices are one frozen value,
`ImportOptions`, and the usual combinations have names that Kubo shares. `resolve_options` turns what a user said into
one, with the implications that `ipfs add` draws: CIDv1 and any hash but sha2-256 bring raw leaves, and so on.

Spec: https://specs.ipfs.tech/ipips/ipip-0499/ (profiles); `ipfs add --help` and Kubo's docs/config.md, "Import".
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

from ipvcs.errors import UsageError
from ipvcs.multiformats import multihash
from ipvcs.objects.chunkers.registry import parse_chunker
from ipvcs.objects.unixfs import MAX_FANOUT, is_fanout

HamtEstimate = Literal["links", "block", "disabled"]
"""How a directory's size is estimated before it is sharded: names and CIDs alone, its exact block, or not at all."""

MAX_FILE_LINKS: Final = 16 * 1024
"""The widest file node: with 64-byte digests it still is a block that every peer takes (2 MiB)."""

_KIB: Final = 1024


class ImportOptionsError(UsageError):
    """Options that contradict each other, or a value out of range."""


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """What decides the CIDs of an import. Make one with `resolve_options`, which checks it.

    Attributes:
        cid_version: of dag-pb blocks, 0 or 1; raw blocks are always version 1.
        raw_leaves: leaves of files are raw blocks instead of dag-pb nodes.
        chunker: as `parse_chunker` reads it.
        hash_code: multicodec number of the hash function.
        max_file_links: the width of a file's inner nodes, 2 to `MAX_FILE_LINKS`.
        max_directory_links: entries above which a plain directory is sharded; 0 is no such limit.
        hamt_fanout: slots of a shard, a power of two from 8 to 1024.
        hamt_threshold: estimated bytes above which a directory is sharded; 0 turns sharding off altogether.
        hamt_estimate: what `hamt_threshold` is compared with; when disabled, `max_directory_links` alone decides.
        trickle: lay files out for appending and streaming instead of balanced.
        inline: blocks of up to `inline_limit` bytes become identity CIDs.
        inline_limit: bytes, 0 to 128.
    """

    cid_version: int
    raw_leaves: bool
    chunker: str
    max_file_links: int
    hamt_estimate: HamtEstimate
    hash_code: int = multihash.SHA2_256
    max_directory_links: int = 0
    hamt_fanout: int = 256
    hamt_threshold: int = 256 * _KIB
    trickle: bool = False
    inline: bool = False
    inline_limit: int = 32


UNIXFS_V0_2015: Final = ImportOptions(
    cid_version=0, raw_leaves=False, chunker="size-262144", max_file_links=174, hamt_estimate="links"
)
"""Kubo's defaults."""
UNIXFS_V1_2025: Final = ImportOptions(
    cid_version=1, raw_leaves=True, chunker="size-1048576", max_file_links=1024, hamt_estimate="block"
)
"""IPIP-499's recommendation."""
CDC_1: Final = replace(UNIXFS_V1_2025, chunker="fastcdc")
"""For datasets: chunks cut by content, so that an insertion leaves most blocks of a file as they were."""
_TEST_CID_V1: Final = replace(UNIXFS_V1_2025, max_file_links=174, hamt_estimate="links")

DEFAULT_PROFILE: Final = "unixfs-v1-2025"
PROFILES: Final[dict[str, ImportOptions]] = {
    "unixfs-v1-2025": UNIXFS_V1_2025,
    "unixfs-v0-2015": UNIXFS_V0_2015,
    "cdc-1": CDC_1,
    "legacy-cid-v0": UNIXFS_V0_2015,  # Kubo's older name of unixfs-v0-2015
    # Kubo 0.29 to 0.39 had these two.
    "test-cid-v1": _TEST_CID_V1,
    "test-cid-v1-wide": replace(_TEST_CID_V1, max_file_links=1024, hamt_fanout=1024, hamt_threshold=1024 * _KIB),
}


def resolve_options(
    profile: str | None = None,
    *,
    cid_version: int | None = None,
    raw_leaves: bool | None = None,
    chunker: str | None = None,
    hash_code: int | None = None,
    max_file_links: int | None = None,
    max_directory_links: int | None = None,
    hamt_fanout: int | None = None,
    hamt_threshold: int | None = None,
    hamt_estimate: HamtEstimate | None = None,
    trickle: bool | None = None,
    inline: bool | None = None,
    inline_limit: int | None = None,
    metadata: bool = False,
) -> ImportOptions:
    """Return the options of `profile` (None: the default) with what was `given` besides; None is "not given".

    What is given wins over what the profile says, and both over what follows from them: a hash other than sha2-256
    means CIDv1, CIDv1 means raw leaves, and `metadata` (modes or times will be stored, for which a raw block has no
    room) means dag-pb leaves. A profile that has raw leaves keeps them: only the root of a file is then dag-pb.

    Raises:
        ImportOptionsError: unknown profile, value out of range, CIDv0 with another hash than sha2-256, or raw leaves
            asked for together with `metadata`.
        ChunkerError: not a chunker.
        UnknownHashError: not a hash function that is computed here.
    """
    base = _profile(profile)
    hash_code = base.hash_code if hash_code is None else hash_code
    if cid_version is None:
        cid_version = base.cid_version if hash_code == multihash.SHA2_256 else 1
    if raw_leaves and metadata:
        raise ImportOptionsError(
            "raw leaves cannot hold a mode or modification time", hint="leave out either the metadata or raw leaves"
        )
    if raw_leaves is None:
        raw_leaves = base.raw_leaves or (cid_version > 0 and not metadata)
    given = {
        "chunker": chunker,
        "max_file_links": max_file_links,
        "max_directory_links": max_directory_links,
        "hamt_fanout": hamt_fanout,
        "hamt_threshold": hamt_threshold,
        "hamt_estimate": hamt_estimate,
        "trickle": trickle,
        "inline": inline,
        "inline_limit": inline_limit,
    }
    options = ImportOptions(
        **{
            **{name: getattr(base, name) for name in ImportOptions.__slots__},
            **{name: value for name, value in given.items() if value is not None},
            "cid_version": cid_version,
            "hash_code": hash_code,
            "raw_leaves": raw_leaves,
        }
    )
    _check(options)
    return options


def _profile(name: str | None) -> ImportOptions:
    try:
        return PROFILES[name or DEFAULT_PROFILE]
    except KeyError:
        raise ImportOptionsError(f"unknown profile '{name}'", hint=f"one of: {', '.join(PROFILES)}") from None


def _check(options: ImportOptions) -> None:
    _check_hash(options.hash_code)
    if options.cid_version not in (0, 1):
        raise ImportOptionsError(f"unknown CID version {options.cid_version}", hint="use 0 or 1")
    if options.cid_version == 0 and options.hash_code != multihash.SHA2_256:
        name = multihash.name_of(options.hash_code)
        raise ImportOptionsError(f"CIDv0 cannot hold '{name}', only sha2-256", hint="use CID version 1")
    _check_range("maximum of links in a file node", options.max_file_links, 2, MAX_FILE_LINKS)
    _check_range("maximum of links in a directory", options.max_directory_links, 0, None)
    _check_range("sharding threshold", options.hamt_threshold, 0, None)
    _check_range("inline limit", options.inline_limit, 0, multihash.MAX_IDENTITY)
    if not is_fanout(options.hamt_fanout):
        raise ImportOptionsError(f"HAMT fanout {options.hamt_fanout} is not a power of two from 8 to {MAX_FANOUT}")
    if options.hamt_estimate not in get_args(HamtEstimate):
        raise ImportOptionsError(
            f"unknown size estimate '{options.hamt_estimate}'", hint=f"one of: {', '.join(get_args(HamtEstimate))}"
        )
    parse_chunker(options.chunker)


def _check_hash(code: int) -> None:
    """Refuse functions that we do not compute, and digests so short that no reader would trust them."""
    length = len(multihash.digest(b"", code))
    if code != multihash.IDENTITY and length < multihash.MIN_DIGEST:
        raise ImportOptionsError(
            f"hash function '{multihash.name_of(code)}' gives {length} bytes, less than {multihash.MIN_DIGEST}"
        )


def _check_range(what: str, value: int, lowest: int, highest: int | None) -> None:
    if value < lowest or (highest is not None and value > highest):
        wanted = f"at least {lowest}" if highest is None else f"from {lowest} to {highest}"
        raise ImportOptionsError(f"{what} is {value}, not {wanted}")
