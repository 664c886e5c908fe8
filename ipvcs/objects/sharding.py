"""When a directory is sharded: the estimate of its size, and the limits it is held against.

The decision is part of the CID, so the estimates are boxo's to the byte. `links` is the old one: names and binary
CIDs, nothing else. `block` is exact: the length of the block that the plain directory would have. Sharded is what is
*above* a limit; on it, a directory stays plain.

Spec: https://specs.ipfs.tech/ipips/ipip-0499/, "HAMT directory threshold"; boxo's DynamicDirectory.
"""

from collections.abc import Iterable

from ipvcs.objects import dag_pb, unixfs
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.profile import HamtEstimate, ImportOptions
from ipvcs.objects.protobuf import encode_varint
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData


def link_size(link: PBLink, estimate: HamtEstimate) -> int:
    """Return how many bytes one entry counts."""
    if estimate == "links":
        return len(link.name or b"") + len(link.cid.raw)
    if estimate == "block":
        return _field_size(len(dag_pb.encode_link(link)))
    return 0


def data_size(estimate: HamtEstimate, mode: int | None, mtime: Mtime | None) -> int:
    """Return how many bytes a directory counts before its first entry."""
    if estimate != "block":
        return 0
    return _field_size(len(unixfs.encode(UnixfsData(DataType.DIRECTORY, mode=mode, mtime=mtime))))


def fits_plain(
    links: Iterable[PBLink],
    options: ImportOptions,
    *,
    mode: int | None = None,
    mtime: Mtime | None = None,
    count_links: bool = True,
) -> bool:
    """Tell whether a directory with these entries stays in one block; draws only as many `links` as it takes."""
    limit, estimate = options.hamt_threshold, options.hamt_estimate
    if limit == 0:
        return True
    max_links = options.max_directory_links if count_links else 0
    size = data_size(estimate, mode, mtime)
    for count, link in enumerate(links, 1):
        size += link_size(link, estimate)
        if size > limit or (max_links and count > max_links):
            return False
    return True


def turns_plain(
    remaining: Iterable[PBLink],
    growth: int,
    options: ImportOptions,
    *,
    mode: int | None = None,
    mtime: Mtime | None = None,
) -> bool:
    """Tell whether a sharded directory turns back into a plain one by a change that leaves it with `remaining`.

    `growth` is by how many estimated bytes the change makes it larger. Like boxo, one that grows is left sharded
    without a look at how large it is.
    """
    if options.hamt_threshold == 0:
        return False
    if options.hamt_estimate == "disabled":
        return options.max_directory_links > 0 and fits_plain(remaining, options)
    return growth < 0 and fits_plain(remaining, options, mode=mode, mtime=mtime)


def _field_size(length: int) -> int:
    """Return the size of a protobuf field of `length` bytes with a one-byte tag."""
    return 1 + len(encode_varint(length)) + length
