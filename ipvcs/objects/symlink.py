"""Symlinks: UnixFS nodes whose data is the target.

Spec: https://specs.ipfs.tech/unixfs/ (symlink)
"""

from dataclasses import dataclass

from ipvcs.errors import DecodeError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.dag_pb import PBNode
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData


class SymlinkError(DecodeError):
    """A node is not a well-formed symlink."""

    def __init__(self, cid: Cid, problem: str) -> None:
        super().__init__(f"symlink '{cid}' is damaged: {problem}")
        self.cid = cid


@dataclass(frozen=True, slots=True)
class Symlink:
    """A symlink. `target` is any bytes, untrusted: it may be absolute, climb, or lead nowhere."""

    target: bytes
    mode: int | None = None
    mtime: Mtime | None = None


def symlink_of(cid: Cid, node: PBNode, message: UnixfsData) -> Symlink:
    """Return the symlink that a decoded Symlink node is; `cid` names it in errors.

    Raises:
        SymlinkError: it has links, or no target.
    """
    assert message.type is DataType.SYMLINK
    if node.links:
        raise SymlinkError(cid, "it has links")
    if message.data is None:
        raise SymlinkError(cid, "it has no target")
    return Symlink(message.data, message.mode, message.mtime)
