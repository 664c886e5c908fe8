"""Commits: dag-pb nodes that name a snapshot, its parents and its people, and carry the exact Git payload.

A commit's data is the protobuf message `Object {kind = 17; payload = 18}`. It has no field 1, which UnixFS requires, so
no UnixFS reader mistakes a commit for a directory and copies out a tree for each of the paths through its history.

Links are given in this order: `object`, `parent`, `parent2`, `parent3`, …, `author`, `committer`, and `payload` when it
is too large to be inline. dag-pb sorts links by the bytes of their names, so in the block `author` comes first and
`parent10` before `parent2`; readers go by name.

Spec: DESIGN §3 and §3.1; docs/formats.md has the encoding byte by byte. White paper §3.6.4.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from ipvcs.errors import DecodeError, LimitError
from ipvcs.multiformats import multihash
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import Block
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.dag_pb import encode as encode_node
from ipvcs.objects.protobuf import decode_varint, encode_varint

MAX_INLINE_PAYLOAD: Final = 256 * 1024
"""Bytes; a longer payload is a blob or list of its own behind the link `payload`. Part of the frozen mapping v1."""
MAX_INLINE_PERSON: Final = 64
"""Bytes; a longer `Name <email>` is a block of its own. Part of the frozen mapping v1."""
MAX_PERSON: Final = 1024 * 1024
"""Bytes; no block is larger than 1 MiB plus framing (DESIGN §3.1)."""
MAX_LINK_SIZE: Final = (1 << 53) - 1
"""Where sizes on links saturate: the largest integer that every JSON reader has."""

_KIND_TAG: Final = b"\x88\x01"  # field 17, varint
_PAYLOAD_TAG: Final = b"\x92\x01"  # field 18, length-delimited


class ObjectKind(IntEnum):
    """What `Object.kind` says. The numbers are on disk and never change."""

    COMMIT = 1
    TAG = 2


class ObjectDataError(DecodeError):
    """A node's data is not an `Object` message in its one canonical form."""


class CommitError(DecodeError):
    """A node is not a well-formed commit or tag: wrong kind, unknown or repeated links, no payload or two."""


class PersonTooLongError(LimitError):
    """`Name <email>` does not fit in one block."""

    def __init__(self, length: int) -> None:
        super().__init__(f"name and address of {length} bytes are over the limit of {MAX_PERSON}")
        self.length = length


@dataclass(frozen=True, slots=True)
class ObjectData:
    """The `Object` message. `payload` None is absent: the payload is behind the link `payload`."""

    kind: ObjectKind
    payload: bytes | None = None


def encode_object_data(message: ObjectData) -> bytes:
    """Return the bytes of `message`: kind, then payload if present."""
    start = _KIND_TAG + bytes((message.kind,))
    if message.payload is None:
        return start
    return b"".join((start, _PAYLOAD_TAG, encode_varint(len(message.payload)), message.payload))


def decode_object_data(data: bytes) -> ObjectData:
    """Return the message that `data` holds. There is one encoding of each message; any other is refused.

    Raises:
        ObjectDataError: not an `Object`, an unknown kind, other fields, another order, or cut short.
    """
    if not is_object_data(data):
        raise ObjectDataError("data is not an Object message")
    try:
        kind = ObjectKind(data[2])
    except (IndexError, ValueError):
        raise ObjectDataError("Object message has no known kind") from None
    if len(data) == 3:
        return ObjectData(kind)
    if data[3:5] != _PAYLOAD_TAG:
        raise ObjectDataError("Object message has an unexpected field")
    try:
        length, start = decode_varint(data, 5)
    except DecodeError as exc:
        raise ObjectDataError(f"bad Object message: {exc}") from exc
    if start + length != len(data):
        raise ObjectDataError(f"Object payload of {length} bytes does not end where the message does")
    if data[5:start] != encode_varint(length):
        raise ObjectDataError("Object payload's length is not minimal")
    return ObjectData(kind, data[start:])


def is_object_data(data: bytes | None) -> bool:
    """Tell whether a node's data starts as an `Object` message does, and UnixFS never."""
    return data is not None and data[:2] == _KIND_TAG


def person_link(name: bytes, person: bytes) -> tuple[PBLink, Block | None]:
    """Return the link `name` to the blob of `person` (`Name <email>`, any bytes), and its block unless it is inline.

    Up to `MAX_INLINE_PERSON` bytes the CID is an identity CID and there is no block to store. The size on the link is
    the length of `person` either way.

    Raises:
        PersonTooLongError: over `MAX_PERSON` bytes.
    """
    if len(person) <= MAX_INLINE_PERSON:
        return PBLink(Cid.make(multihash.sum_(person, multihash.IDENTITY)), name, len(person)), None
    if len(person) > MAX_PERSON:
        raise PersonTooLongError(len(person))
    block = Block.of(person)
    return PBLink(block.cid, name, len(person)), block


@dataclass(frozen=True, slots=True)
class CommitObject:
    """A commit. The names of the links given are ignored: a field's place is its name.

    One of `payload` and `payload_link` is given. A commit whose Git header does not parse is its payload and nothing
    else. Sizes on links are as their maker claims.
    """

    object: PBLink | None = None
    parents: tuple[PBLink, ...] = ()
    author: PBLink | None = None
    committer: PBLink | None = None
    payload: bytes | None = None
    payload_link: PBLink | None = None

    def iter_links(self) -> Iterator[PBLink]:
        """Yield the links under their names, in the order of this module's docstring, not the block's."""
        yield from named(b"object", self.object)
        for index, parent in enumerate(self.parents):
            yield from named(parent_name(index), parent)
        yield from named(b"author", self.author)
        yield from named(b"committer", self.committer)
        yield from named(b"payload", self.payload_link)

    def cumulative_size(self, block_size: int) -> int:
        """Return the size that links to this commit carry: its block, `object` and people; never its history."""
        return saturating_sum(block_size, self.object, self.author, self.committer)


def encode_commit(commit: CommitObject) -> bytes:
    """Return the block of `commit`.

    Raises:
        CommitError: not exactly one of `payload` and `payload_link`.
    """
    return encode_kind(ObjectKind.COMMIT, commit.iter_links(), commit.payload, commit.payload_link)


def commit_of(node: PBNode) -> CommitObject:
    """Return the commit that `node` is. Its structure is checked; whether its links say what its payload says is not.

    Raises:
        CommitError, ObjectDataError: not a commit, links unknown, repeated, unnamed or not in canonical order, a gap in
            the numbers of parents, or not exactly one of payload and link `payload`.
    """
    payload, links = take_links(node, ObjectKind.COMMIT)
    parents: list[PBLink] = []
    while (parent := links.pop(parent_name(len(parents)), None)) is not None:
        parents.append(parent)
    commit = CommitObject(
        links.pop(b"object", None),
        tuple(parents),
        links.pop(b"author", None),
        links.pop(b"committer", None),
        payload,
        links.pop(b"payload", None),
    )
    refuse_leftovers("commit", links)
    return commit


def parent_name(index: int) -> bytes:
    """Return the link name of the parent at `index`, from 0: `parent`, `parent2`, `parent3`, …."""
    return b"parent%d" % (index + 1) if index else b"parent"


def named(name: bytes, link: PBLink | None) -> tuple[PBLink, ...]:
    """Return `link` under `name`, or nothing."""
    if link is None:
        return ()
    return (link if link.name == name else PBLink(link.cid, name, link.size),)


def saturating_sum(block_size: int, *links: PBLink | None) -> int:
    """Return `block_size` plus the sizes on `links`, at most `MAX_LINK_SIZE`."""
    return min(MAX_LINK_SIZE, block_size + sum(link.size or 0 for link in links if link is not None))


def encode_kind(kind: ObjectKind, links: Iterable[PBLink], payload: bytes | None, payload_link: PBLink | None) -> bytes:
    """Return the block of a commit or tag from its parts; raises CommitError unless it has one payload."""
    _check_one_payload(kind, payload, payload_link)
    return encode_node(PBNode(tuple(links), encode_object_data(ObjectData(kind, payload))))


def take_links(node: PBNode, kind: ObjectKind) -> tuple[bytes | None, dict[bytes, PBLink]]:
    """Return (inline payload, links by name) of a commit or tag after the checks that both need.

    Raises:
        CommitError, ObjectDataError: as `commit_of`.
    """
    message = decode_object_data(node.data or b"")
    if message.kind is not kind:
        raise CommitError(f"object is a {message.kind.name.lower()}, not a {kind.name.lower()}")
    links: dict[bytes, PBLink] = {}
    last = b""
    for link in node.links:
        if not link.name or link.size is None:
            raise CommitError(f"{kind.name.lower()} has a link without name or size")
        if link.name <= last:
            raise CommitError(f"links of the {kind.name.lower()} are repeated or not sorted")
        links[link.name] = link
        last = link.name
    _check_one_payload(kind, message.payload, links.get(b"payload"))
    return message.payload, links


def refuse_leftovers(what: str, links: dict[bytes, PBLink]) -> None:
    """Raise CommitError if any links are left that a commit or tag does not have."""
    if links:
        name = min(links).decode(errors="backslashreplace")
        raise CommitError(f"{what} has an unexpected link '{name}'")


def _check_one_payload(kind: ObjectKind, payload: bytes | None, payload_link: PBLink | None) -> None:
    if (payload is None) == (payload_link is None):
        raise CommitError(f"{kind.name.lower()} needs either an inline payload or a link to one")
