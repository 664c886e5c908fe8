"""Roots of a repository in the order in which they replaced each other, as their manifests tell it."""

from typing import Final

from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.kept_roots import KEPT_ROOTS
from ipvcs.git_bridge.published_tree import read_manifest
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader

MAX_STEPS: Final = KEPT_ROOTS
"""Roots that are read at most: their publisher keeps no more, and each one may have to be fetched."""


def descends(reader: BlockReader, newer: Cid, older: Cid) -> bool:
    """Tell whether the repository at `newer` was pushed on top of the one at `older`, or is the same.

    What can't be read, or goes back further than `MAX_STEPS`, does not count as such.
    """
    cid: Cid | None = newer
    for _ in range(MAX_STEPS):
        if cid is None or cid == older:
            break
        try:
            cid = read_manifest(reader, cid).previous
        except IpvcsError:
            return False
    return cid == older
