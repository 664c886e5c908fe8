"""Annotated tags: dag-pb nodes that name an object, who tagged it, and carry the exact Git payload.

Built as commits are (see `commit.py`): data is `Object {kind = TAG, payload}`, links are `object`, `tagger`, and
`payload` when it is too large to be inline. A tag may lead to a commit, another tag, a tree or a blob.

Spec: DESIGN §3 and §3.1; docs/formats.md has the encoding byte by byte.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ipvcs.objects.commit import ObjectKind, encode_kind, named, refuse_leftovers, saturating_sum, take_links
from ipvcs.objects.dag_pb import PBLink, PBNode


@dataclass(frozen=True, slots=True)
class TagObject:
    """A tag. The names of the links given are ignored: a field's place is its name.

    One of `payload` and `payload_link` is given. A tag may lack a tagger; one whose Git header does not parse is its
    payload alone.
    """

    object: PBLink | None = None
    tagger: PBLink | None = None
    payload: bytes | None = None
    payload_link: PBLink | None = None

    def iter_links(self) -> Iterator[PBLink]:
        """Yield the links under their names: `object`, `tagger`, `payload`."""
        yield from named(b"object", self.object)
        yield from named(b"tagger", self.tagger)
        yield from named(b"payload", self.payload_link)

    def cumulative_size(self, block_size: int) -> int:
        """Return the size that links to this tag carry: its block and `object` (DESIGN §3.1)."""
        return saturating_sum(block_size, self.object)


def encode_tag(tag: TagObject) -> bytes:
    """Return the block of `tag`.

    Raises:
        CommitError: not exactly one of `payload` and `payload_link`.
    """
    return encode_kind(ObjectKind.TAG, tag.iter_links(), tag.payload, tag.payload_link)


def tag_of(node: PBNode) -> TagObject:
    """Return the tag that `node` is. Its structure is checked; whether its links say what its payload says is not.

    Raises:
        CommitError, ObjectDataError: as `commit.commit_of`.
    """
    payload, links = take_links(node, ObjectKind.TAG)
    tag = TagObject(links.pop(b"object", None), links.pop(b"tagger", None), payload, links.pop(b"payload", None))
    refuse_leftovers("tag", links)
    return tag
