"""Symlinks stored: a UnixFS node whose data is the target.

Spec: https://specs.ipfs.tech/unixfs/#dag-pb-symlink
"""

from ipvcs.objects import unixfs
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.node_writer import Built, NodeWriter
from ipvcs.objects.profile import ImportOptions
from ipvcs.objects.unixfs import DataType, Mtime, UnixfsData


def build_symlink(target: bytes, options: ImportOptions, writer: BlockWriter, *, mtime: Mtime | None = None) -> Built:
    """Store a symlink to `target`, any bytes. It has no mode, as in Kubo: permissions of links mean nothing."""
    data = unixfs.encode(UnixfsData(DataType.SYMLINK, data=target, mtime=mtime))
    return NodeWriter(options, writer).put_node((), data)
