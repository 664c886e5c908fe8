"""Opaque trees: carried whole, shown as nothing but their payload.

A name that is there twice, no UTF-8 or `..` would make a gateway show other content than git does, or harm whoever
downloads it. So such a tree is a Directory of two entries: the file `payload`, and the directory `links` of what its
entries lead to, named by the decimal index of the entry among all entries that parse, from 0, gitlinks counted.

Spec: DESIGN §3.1 "opaque tree"; docs/git-mapping.md §5.3
"""

from collections.abc import Mapping
from typing import Final

from ipvcs.objects import unixfs
from ipvcs.objects.block import BlockWriter
from ipvcs.objects.git.directory_node import FlatLinks, put_directory, put_flat
from ipvcs.objects.git.layout import Mapped, put_file

LINKS_ENTRY: Final = b"links"
OPAQUE_PAYLOAD_ENTRY: Final = b"payload"


def index_name(index: int) -> bytes:
    """Return the name in `links` of what the entry at `index` leads to."""
    return b"%d" % index


def put_opaque(payload: bytes, children: Mapping[int, Mapped], writer: BlockWriter) -> Mapped:
    """Store the opaque tree of `payload`; `children` by entry index. `links` is there even if it is empty."""
    links = put_directory([child.link(index_name(index)) for index, child in children.items()], writer)
    file = put_file(payload, writer)
    entries = FlatLinks.of([links.link(LINKS_ENTRY), file.link(OPAQUE_PAYLOAD_ENTRY)])
    return put_flat(entries, unixfs.EMPTY_DIRECTORY, writer)
