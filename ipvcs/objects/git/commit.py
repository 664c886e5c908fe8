"""Commits and tags: dag-pb nodes that are no UnixFS, with the payload and links to what the header names.

    commit   object, parent, parent2, …, author, committer
    tag      object, tagger

A payload over 256 KiB is a file behind the link `payload`. One whose header does not parse is its payload alone.

Spec: DESIGN §3.1 "commit, tag"; docs/git-mapping.md §6, §7; objects/commit.py and objects/tag.py for the encoding
"""

from collections.abc import Sequence
from typing import Final

from ipvcs.multiformats import codecs
from ipvcs.objects import dag_pb
from ipvcs.objects.block import Block, BlockWriter
from ipvcs.objects.commit import (
    MAX_INLINE_PAYLOAD,
    MAX_PERSON,
    CommitObject,
    ObjectData,
    ObjectKind,
    encode_kind,
    encode_object_data,
    parent_name,
    person_link,
)
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.git.headers import CommitHeader, TagHeader
from ipvcs.objects.git.layout import Mapped, put_file
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.tag import TagObject, encode_tag

MAX_PARENTS: Final = 16 * 1024
"""Parent links in one node. Each is at most 62 bytes, so that many are below 1 MiB; more are spread over pages."""


def build_commit(
    header: CommitHeader | None, payload: bytes, tree: Mapped | None, parents: Sequence[Mapped], writer: BlockWriter
) -> Mapped:
    """Store the node of a commit. A `header` of None did not parse; then there are no `tree` and no `parents`."""
    inline, payload_link = _place_payload(payload, writer)
    commit = CommitObject(
        object=tree.link(b"object") if tree else None,
        author=_put_person(b"author", header.author if header else None, writer),
        committer=_put_person(b"committer", header.committer if header else None, writer),
        payload=inline,
        payload_link=payload_link,
    )
    links = [*commit.iter_links(), *_parent_links(parents, writer)]
    block = Block.of(encode_kind(ObjectKind.COMMIT, links, inline, payload_link), codecs.DAG_PB)
    writer.put(block)
    return Mapped(block.cid, commit.cumulative_size(len(block.data)), NodeKind.COMMIT)


def build_tag(header: TagHeader | None, payload: bytes, target: Mapped | None, writer: BlockWriter) -> Mapped:
    """Store the node of a tag. A `header` of None did not parse; then there is no `target`."""
    inline, payload_link = _place_payload(payload, writer)
    tag = TagObject(
        object=target.link(b"object") if target else None,
        tagger=_put_person(b"tagger", header.tagger if header else None, writer),
        payload=inline,
        payload_link=payload_link,
    )
    block = Block.of(encode_tag(tag), codecs.DAG_PB)
    writer.put(block)
    return Mapped(block.cid, tag.cumulative_size(len(block.data)), NodeKind.TAG)


def page_name(index: int) -> bytes:
    """Return the link name of the page of parents at `index`, from 0: `parents`, `parents2`, `parents3`, …."""
    return b"parents%d" % (index + 1) if index else b"parents"


def _parent_links(parents: Sequence[Mapped], writer: BlockWriter) -> list[PBLink]:
    """Return the links to `parents`, or, when they are more than one block holds, to pages of them.

    A page is a commit node without payload. The size on the link to it is its block's: history never counts.
    """
    links = [parent.link(parent_name(index)) for index, parent in enumerate(parents)]
    if len(links) <= MAX_PARENTS:
        return links
    pages: list[PBLink] = []
    for start in range(0, len(links), MAX_PARENTS):
        node = PBNode(tuple(links[start : start + MAX_PARENTS]), encode_object_data(ObjectData(ObjectKind.COMMIT)))
        page = Block.of(dag_pb.encode(node), codecs.DAG_PB)
        writer.put(page)
        pages.append(PBLink(page.cid, page_name(len(pages)), len(page.data)))
    return pages


def _place_payload(payload: bytes, writer: BlockWriter) -> tuple[bytes | None, PBLink | None]:
    """Return (`payload`, None), or (None, the link to it) when it is too large to be inline."""
    if len(payload) <= MAX_INLINE_PAYLOAD:
        return payload, None
    return None, put_file(payload, writer).link(b"payload")


def _put_person(name: bytes, person: bytes | None, writer: BlockWriter) -> PBLink | None:
    if person is None:
        return None
    if len(person) > MAX_PERSON:  # a list, like any file of that size
        return put_file(person, writer).link(name)
    link, block = person_link(name, person)
    if block is not None:
        writer.put(block)
    return link
