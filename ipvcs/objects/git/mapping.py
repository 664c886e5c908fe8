"""Git objects to blocks: the writing side of Git mapping v1.

    payload bytes ──► parsed references ──► lookup(oid, kind) of each ──► node ──► BlockWriter
                      (headers, entries)    (the caller's memo)           (blob, tree, opaque, commit)

The same object, profile and object format give the same blocks on every machine. Children come before parents: the
caller converts in any order in which `lookup` can answer. Nothing is mapped whose bytes do not hash to its id.

Goals: determinism, losslessness, bounded memory for blobs of any size.
Non-goal: finding and ordering objects; git does that (`rev-list --objects`).

Spec: DESIGN §3.1; docs/git-mapping.md
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import UsageError
from ipvcs.objects.block import Block, BlockWriter
from ipvcs.objects.chunkers.interface import Read
from ipvcs.objects.chunkers.registry import parse_chunker
from ipvcs.objects.chunkers.size import SizeChunker
from ipvcs.objects.file_layout import build_file
from ipvcs.objects.git.blob import HashedRead, build_blob, reader_of
from ipvcs.objects.git.commit import build_commit, build_tag
from ipvcs.objects.git.entry_links import EntryLinks
from ipvcs.objects.git.headers import CommitHeader, HeaderError, TagHeader, parse_commit, parse_tag
from ipvcs.objects.git.layout import LAYOUT, MAPPING_VERSION, PIECE_SIZE, Mapped, saturate
from ipvcs.objects.git.modes import KIND_OF_TYPE, NodeKind
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, ObjectIdMismatchError, verify_oid
from ipvcs.objects.git.payload import GitType, PayloadError, encode_header, split_payload
from ipvcs.objects.git.tree import ParsedTree, build_tree
from ipvcs.objects.git.tree_entries import TreeEntry
from ipvcs.objects.profile import PROFILES

Lookup = Callable[[ObjectId, NodeKind], Mapped]
"""Returns what an object is mapped as. Its `kind` is the one asked for, or VERBATIM when the object's type is another
than that kind's (see `Mapper.map_verbatim`). Raises what the caller likes when it does not know the object."""

_VERBATIM_CHUNKER: Final = SizeChunker(PIECE_SIZE)


class ProfileError(UsageError):
    """A profile that the mapping cannot use."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What an object leads to: the id of another, and what it should be, going by the mode, type or place."""

    oid: ObjectId
    kind: NodeKind


class Mapper:
    """Maps objects of one repository. Not for use by two threads at a time."""

    def __init__(self, object_format: ObjectFormat, profile: str, writer: BlockWriter, lookup: Lookup) -> None:
        """Take `profile` by name; it chooses the chunker of blobs and nothing else.

        Raises:
            ProfileError: no such profile, or its chunks can be over 1 MiB.
        """
        if profile not in PROFILES:
            raise ProfileError(f"unknown profile '{profile}'", hint=f"one of: {', '.join(PROFILES)}")
        self.object_format: Final = object_format
        self.profile: Final = profile
        self._chunker = parse_chunker(PROFILES[profile].chunker)
        if self._chunker.max_size > PIECE_SIZE:
            raise ProfileError(f"profile '{profile}' cuts chunks of more than 1 MiB")
        self._uncut = self._chunker.size if isinstance(self._chunker, SizeChunker) else 0
        self._memo_prefix = f"{MAPPING_VERSION}/{object_format}/{profile}/".encode()
        self._writer = writer
        self._lookup = lookup
        self._links = EntryLinks(object_format)

    def memo_key(self, oid: ObjectId, kind: NodeKind) -> bytes:
        """Return a key for tables of what objects became: it says all that a CID and size depend on, for ever."""
        return self._memo_prefix + oid.raw.hex().encode() + b"/" + kind.encode()

    def map_blob(self, oid: ObjectId, kind: NodeKind, size: int, read: Read) -> Mapped:
        """Map the blob `oid`, whose `size` bytes `read` gives, as REGULAR, EXECUTABLE or SYMLINK.

        Blocks are written while the bytes stream by; when it raises they are garbage.

        Raises:
            ObjectIdMismatchError: the bytes are another object's.
        """
        hashed = HashedRead(self.object_format, encode_header(GitType.BLOB, size), size, read)
        mapped = build_blob(kind, size, hashed, self._chunker, self._writer)
        hashed.finish(oid)
        return mapped

    def map_held_blob(self, oid: ObjectId, kind: NodeKind, body: bytes) -> Mapped:
        """Map a blob whose `body` is in memory; else as `map_blob`."""
        if kind is not NodeKind.REGULAR or len(body) > self._uncut:
            return self.map_blob(oid, kind, len(body), reader_of(body))
        hasher = self.object_format.hasher()
        hasher.update(encode_header(GitType.BLOB, len(body)))
        hasher.update(body)
        if (digest := hasher.digest()) != oid.raw:
            raise ObjectIdMismatchError(oid, ObjectId(digest))
        block = Block.of(body)
        self._writer.put(block)
        return Mapped(block.cid, len(body), kind)

    def split_tree(self, body: bytes) -> list[bytes] | None:
        """Return the entries of a tree's body, each as it is written, None when it does not parse."""
        return self._links.split(body)

    def unlinked(self, entries: Iterable[bytes]) -> list[bytes]:
        """Return those of `entries`, as `split_tree` gives them, of which `lookup` may be asked when their tree
        is mapped. What the others lead to has been mapped here.
        """
        return self._links.unknown(entries)

    def map_tree(self, oid: ObjectId, payload: bytes, entries: Sequence[bytes] | None = None) -> Mapped:
        """Map the tree `oid` after its children; `entries` is what `split_tree` gave, if it was asked.

        Arguments and errors else as `map_commit`.
        """
        body = self._body(oid, payload, GitType.TREE)
        if entries is None:
            entries = self._links.split(body)
        if entries is not None:
            mapped = self._links.try_build(entries, payload, self._target, self._writer)
            if mapped is not None:
                return mapped
        tree = ParsedTree.of(body, self.object_format)
        return build_tree(tree, payload, [self._target(entry) for entry in tree.entries], self._writer)

    def map_commit(self, oid: ObjectId, payload: bytes) -> Mapped:
        """Map the commit `oid` after its tree and parents. `payload` is header and body, as git hashes them.

        Raises:
            ObjectIdMismatchError: `payload` is another object's.
            PayloadError: the header is not that of a commit of that size.
        """
        header = try_parse_commit(self._body(oid, payload, GitType.COMMIT), self.object_format)
        if header is None:
            return build_commit(None, payload, None, (), self._writer)
        tree = self._mapped(header.tree, NodeKind.DIRECTORY)
        parents = [self._mapped(parent, NodeKind.COMMIT) for parent in header.parents]
        return build_commit(header, payload, tree, parents, self._writer)

    def map_tag(self, oid: ObjectId, payload: bytes) -> Mapped:
        """Map the tag `oid` after what it tags; arguments and errors as `map_commit`."""
        header = try_parse_tag(self._body(oid, payload, GitType.TAG), self.object_format)
        if header is None:
            return build_tag(None, payload, None, self._writer)
        target = self._mapped(header.object, KIND_OF_TYPE[header.type])
        return build_tag(header, payload, target, self._writer)

    def map_verbatim(self, oid: ObjectId, size: int, read: Read) -> Mapped:
        """Map an object of any type, whose payload of `size` bytes `read` gives, as a plain file that leads nowhere.

        For an object of another type than what refers to it says. Git does not follow such a reference either.

        Raises:
            ObjectIdMismatchError: the bytes are another object's.
        """
        hashed = HashedRead(self.object_format, b"", size, read)
        built = build_file(_VERBATIM_CHUNKER.chunks(hashed), LAYOUT, self._writer)
        hashed.finish(oid)
        return Mapped(built.cid, saturate(built.size), NodeKind.VERBATIM)

    def map_payload(self, oid: ObjectId, kind: NodeKind, payload: bytes) -> Mapped:
        """Map an object whose payload is in memory as `kind`; errors as the methods for each."""
        if kind is NodeKind.VERBATIM:
            return self.map_verbatim(oid, len(payload), reader_of(payload))
        if kind is NodeKind.DIRECTORY:
            return self.map_tree(oid, payload)
        if kind is NodeKind.COMMIT:
            return self.map_commit(oid, payload)
        if kind is NodeKind.TAG:
            return self.map_tag(oid, payload)
        git_type, body = split_payload(payload)
        if git_type is not GitType.BLOB:
            raise PayloadError(f"object '{oid}' is a {git_type}, not a blob")
        return self.map_held_blob(oid, kind, body)

    def _body(self, oid: ObjectId, payload: bytes, expected: GitType) -> bytes:
        verify_oid(self.object_format, payload, oid)
        git_type, body = split_payload(payload)
        if git_type is not expected:
            raise PayloadError(f"object '{oid}' is a {git_type}, not a {expected}")
        return body

    def _target(self, entry: TreeEntry) -> Mapped | None:
        return None if (kind := entry.kind) is None else self._mapped(entry.oid, kind)

    def _mapped(self, oid: ObjectId, kind: NodeKind) -> Mapped:
        mapped = self._lookup(oid, kind)
        assert mapped.kind is kind or mapped.kind is NodeKind.VERBATIM
        return mapped


def references(git_type: GitType, body: bytes, object_format: ObjectFormat) -> list[Reference]:
    """Return what an object leads to, in order, repeats included: what has to be mapped before it.

    Gitlinks are left out. A commit or tag whose header does not parse leads nowhere; a tree as far as it parses.
    """
    if git_type is GitType.TREE:
        entries = ParsedTree.of(body, object_format).entries
        return [Reference(entry.oid, kind) for entry in entries if (kind := entry.kind) is not None]
    if git_type is GitType.COMMIT and (commit := try_parse_commit(body, object_format)):
        parents = [Reference(parent, NodeKind.COMMIT) for parent in commit.parents]
        return [Reference(commit.tree, NodeKind.DIRECTORY), *parents]
    if git_type is GitType.TAG and (tag := try_parse_tag(body, object_format)):
        return [Reference(tag.object, KIND_OF_TYPE[tag.type])]
    return []


def try_parse_commit(body: bytes, object_format: ObjectFormat) -> CommitHeader | None:
    """Return a commit's header, None when it does not parse."""
    try:
        return parse_commit(body, object_format)
    except HeaderError:
        return None


def try_parse_tag(body: bytes, object_format: ObjectFormat) -> TagHeader | None:
    """Return a tag's header, None when it does not parse."""
    try:
        return parse_tag(body, object_format)
    except HeaderError:
        return None
