"""Is a node what its payload implies? Nobody's links are believed.

A gateway shows a node's links, git its payload. A node that lies would show other content than git does, so "a node is
valid only if its links are exactly those its payload implies (names, order, kinds, sizes) and each child's Git id
matches". The check has nothing to enumerate: the node is made anew from its payload and from what its links say of the
children, and must come out with the same CID. What the links say is then a `Claim` on each child, checked in turn.

    Claim(oid, kind, cid, size) ──► Checker.prove ──► proven, provided these are: [Claim, …] on the children

Spec: DESIGN §3.1, last paragraphs; docs/git-mapping.md §9
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from ipvcs.errors import DecodeError, IntegrityError, LimitError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects import dag_pb, directory
from ipvcs.objects.blob import NotAFileError
from ipvcs.objects.block import Block, BlockReader
from ipvcs.objects.commit import parent_name
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.blob import reader_of
from ipvcs.objects.git.commit import MAX_PARENTS, build_commit, build_tag, page_name
from ipvcs.objects.git.entry_links import EntryLinks
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.mapping import Mapper, try_parse_commit, try_parse_tag
from ipvcs.objects.git.modes import KIND_OF_TYPE, NodeKind
from ipvcs.objects.git.node import MAX_PAYLOAD, GitNodeError, Node, NodeForm, read_node, read_payload
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, verify_oid
from ipvcs.objects.git.opaque import LINKS_ENTRY, index_name
from ipvcs.objects.git.payload import GitType, split_payload
from ipvcs.objects.git.read import verbatim_type
from ipvcs.objects.git.tree import ParsedTree, build_tree
from ipvcs.objects.git.tree_entries import PAYLOAD_ENTRY, TreeEntry
from ipvcs.objects.inline import read_block


class BlobTooLargeError(LimitError):
    """A blob is longer than the check was told to read."""

    def __init__(self, cid: Cid, size: int, limit: int) -> None:
        super().__init__(f"blob '{cid}' claims {size} bytes, over the limit of {limit}")
        self.cid = cid
        self.size = size


@dataclass(frozen=True, slots=True)
class Claim:
    """What a link, manifest or table says: that the node `cid` is the Git object `oid`, mapped as `kind`.

    `size` is what the link says, None when nothing does. `may_be_verbatim`: the place allows for an object of another
    type than `kind`'s. `parent` and `name` say where the link is, for errors alone.
    """

    oid: ObjectId
    kind: NodeKind
    cid: Cid
    size: int | None = None
    may_be_verbatim: bool = False
    parent: Cid | None = None
    name: bytes = b""


@dataclass(frozen=True, slots=True)
class Proven:
    """A node that was found right, and the object that it carries: `body` is None of a blob over `MAX_HELD` bytes.

    `children` are the claims on what it links to, in the payload's order: the node's claim holds if they all do. A
    checker that remembers leaves out those that an earlier tree has made.
    """

    type: GitType
    body: bytes | None
    children: list[Claim]


MAX_HELD: Final = 1024 * 1024
"""Bytes of a blob that are handed on with the proof. Larger ones are read again by who wants them."""


class Checker:
    """Checks nodes of one repository, one at a time, against their payload."""

    def __init__(
        self,
        reader: BlockReader,
        object_format: ObjectFormat,
        profile: str,
        *,
        max_payload: int = MAX_PAYLOAD,
        max_blob: int | None = None,
        remembers: bool = False,
    ) -> None:
        """Check nodes that `reader` has; it need not be trusted.

        Args:
            reader: the nodes.
            object_format: of their objects.
            profile: by which blobs were cut.
            max_payload: bytes that a tree, commit or tag may have.
            max_blob: bytes that a blob may have; None: any.
            remembers: for whoever proves all children: what a tree claims of an entry is not returned again for another
                tree with that entry, as most entries of a tree are those of the tree that a commit changed.

        Raises:
            ProfileError: not a profile of the mapping.
        """
        self._reader = _ProvenNodes(reader)
        self._object_format: Final = object_format
        self._max_payload = max_payload
        self._max_blob = max_blob
        self._root = _RootKeeper()
        self._mapper = Mapper(object_format, profile, self._root, _refuse_lookup)
        self._claimed = EntryLinks(object_format) if remembers else None

    def check(self, claim: Claim) -> list[Claim]:
        """Prove `claim` and return the claims on its children; see `prove`, which raises the same."""
        return self.prove(claim).children

    def prove(self, claim: Claim) -> Proven:
        """Prove `claim`, and with it every block of the node itself: shards, files of payload, content of blobs.

        Raises:
            GitNodeError: it is false, or the node malformed; says of which node and link, and why.
            BlockNotFoundError: a block of the node is not there; of a child, when the node is an opaque tree that only
                a child of another type can explain.
            PayloadTooLargeError, BlobTooLargeError: a limit was reached.
        """
        try:
            rebuilt, proven = self._rebuild(claim)
            if rebuilt.cid != claim.cid:
                raise GitNodeError(claim.cid, self._explain(claim))
            if claim.size is not None and rebuilt.size != claim.size:
                raise GitNodeError(claim.cid, f"its size is {rebuilt.size}, and the link to it says {claim.size}")
        except GitNodeError as exc:
            raise GitNodeError(claim.cid, exc.problem, parent=claim.parent, name=claim.name) from exc
        except (DecodeError, IntegrityError, NotAFileError) as exc:
            raise GitNodeError(claim.cid, str(exc), parent=claim.parent, name=claim.name) from exc
        return proven

    def _rebuild(self, claim: Claim) -> tuple[Mapped, Proven]:
        """Make the node of `claim` anew from its payload and its links."""
        node = read_node(self._reader, claim.cid)
        kind = claim.kind
        if node.form is NodeForm.FILE:
            return self._rebuild_file(claim)
        if node.form is NodeForm.SYMLINK and kind.git_type is GitType.BLOB:
            target = node.inline or b""
            mapped = self._mapper.map_blob(claim.oid, kind, len(target), reader_of(target))
            return mapped, Proven(GitType.BLOB, target, [])
        if node.form not in _FORMS.get(kind, ()):
            raise GitNodeError(claim.cid, f"it is a {node.form}, and should be a {kind}")
        payload = read_payload(self._reader, node, self._max_payload)
        verify_oid(self._object_format, payload, claim.oid)
        git_type, body = split_payload(payload)
        if git_type is not kind.git_type:
            raise GitNodeError(claim.cid, f"its payload is a {git_type}, and should be a {kind.git_type}")
        if kind is NodeKind.DIRECTORY:
            mapped, children = self._rebuild_known(node, payload, body) or self._rebuild_tree(
                node, payload, ParsedTree.of(body, self._object_format)
            )
        elif kind is NodeKind.COMMIT:
            mapped, children = self._rebuild_commit(node, payload, body)
        else:
            mapped, children = self._rebuild_tag(node, payload, body)
        return mapped, Proven(git_type, body, children)

    def _rebuild_file(self, claim: Claim) -> tuple[Mapped, Proven]:
        file = self._open_file(claim)
        if claim.may_be_verbatim or claim.kind is NodeKind.VERBATIM:
            git_type = verbatim_type(file, claim.oid, self._object_format)
            if git_type is not None and git_type is not claim.kind.git_type:
                file.seek(0)
                mapped = self._mapper.map_verbatim(claim.oid, file.size, file.read)
                file.seek(0)
                body = split_payload(file.readall())[1] if file.size <= MAX_HELD else None
                return mapped, Proven(git_type, body, [])
            file.seek(0)
        if claim.kind.git_type is not GitType.BLOB:
            raise GitNodeError(claim.cid, f"it is a file, and should be a {claim.kind}")
        if file.size > MAX_HELD:
            return self._mapper.map_blob(claim.oid, claim.kind, file.size, file.read), Proven(GitType.BLOB, None, [])
        body = file.readall()
        mapped = self._mapper.map_blob(claim.oid, claim.kind, len(body), reader_of(body))
        return mapped, Proven(GitType.BLOB, body, [])

    def _rebuild_known(self, node: Node, payload: bytes, body: bytes) -> tuple[Mapped, list[Claim]] | None:
        """Rebuild a plain tree from what earlier ones claimed of its entries, and what it claims of the others.

        None: it is none that can be built so, or it is not what comes out; `_rebuild_tree` knows which.
        """
        known = self._claimed
        if known is None or node.block is None or node.inline is None or (entries := known.split(body)) is None:
            return None
        links = {link.name or b"": link for link in node.block.links}
        claims: list[Claim] = []

        def take(entry: TreeEntry) -> Mapped | None:
            if (kind := entry.kind) is None:
                return None
            link = links.get(entry.name)
            claims.append(_claim(node.cid, link, entry.name, entry.oid, kind, may_be_verbatim=False))
            return _mapped(claims[-1])

        rebuilt = known.try_build(entries, payload, take, self._root)
        return (rebuilt, claims) if rebuilt is not None and rebuilt.cid == node.cid else None

    def _rebuild_tree(self, node: Node, payload: bytes, tree: ParsedTree) -> tuple[Mapped, list[Claim]]:
        assert node.block is not None
        is_opaque = node.form is NodeForm.OPAQUE_TREE
        if tree.opaque is not None and not is_opaque:
            raise GitNodeError(node.cid, f"it shows entries, although {tree.opaque}")
        kinds = [entry.kind for entry in tree.entries]
        links = self._links_of_tree(node, sum([kind is not None for kind in kinds]))
        claims: list[Claim | None] = []  # one for each entry, None for gitlinks
        for index, (entry, kind) in enumerate(zip(tree.entries, kinds, strict=True)):
            if kind is None:
                claims.append(None)
                continue
            name = index_name(index) if is_opaque else entry.name
            claims.append(_claim(node.cid, links.pop(name, None), name, entry.oid, kind, may_be_verbatim=is_opaque))
        if links:
            raise GitNodeError(node.cid, f"it has a link '{_shown(min(links))}' that its payload does not imply")
        children = [None if claim is None else _mapped(claim) for claim in claims]
        if is_opaque and tree.opaque is None:
            self._mark_verbatim(claims, children)
        rebuilt = build_tree(tree, payload, children, self._root)
        return rebuilt, [claim for claim in claims if claim is not None]

    def _links_of_tree(self, node: Node, expected: int) -> dict[bytes, PBLink]:
        """Return the links to what the entries of a tree lead to, by name: at most one more than `expected`."""
        assert node.block is not None
        block = node.block
        if node.form is NodeForm.OPAQUE_TREE:
            block = self._read_linked(node, node.block, LINKS_ENTRY)
        elif node.payload_link is not None:
            expected += 1
        links: dict[bytes, PBLink] = {}
        for link in directory.iter_directory(self._reader, block):
            links[link.name or b""] = link
            if len(links) > expected:
                break  # too many: which one is found by the caller, and the rest need not be read
        if node.form is NodeForm.TREE and node.payload_link is not None:
            links.pop(PAYLOAD_ENTRY, None)
        return links

    def _rebuild_commit(self, node: Node, payload: bytes, body: bytes) -> tuple[Mapped, list[Claim]]:
        assert node.block is not None
        header = try_parse_commit(body, self._object_format)
        if header is None:
            return build_commit(None, payload, None, (), self._root), []
        links = _by_name(node.cid, node.block)
        claims = [_claim(node.cid, links.get(b"object"), b"object", header.tree, NodeKind.DIRECTORY)]
        paged = len(header.parents) > MAX_PARENTS
        for index, parent in enumerate(header.parents):
            if paged and index % MAX_PARENTS == 0:
                links = _by_name(node.cid, self._read_linked(node, node.block, page_name(index // MAX_PARENTS)))
            name = parent_name(index)
            claims.append(_claim(node.cid, links.get(name), name, parent, NodeKind.COMMIT))
        tree, *parents = map(_mapped, claims)
        self._check_person(node, b"author", header.author)
        self._check_person(node, b"committer", header.committer)
        return build_commit(header, payload, tree, parents, self._root), claims

    def _rebuild_tag(self, node: Node, payload: bytes, body: bytes) -> tuple[Mapped, list[Claim]]:
        assert node.block is not None
        header = try_parse_tag(body, self._object_format)
        if header is None:
            return build_tag(None, payload, None, self._root), []
        link = _by_name(node.cid, node.block).get(b"object")
        claim = _claim(node.cid, link, b"object", header.object, KIND_OF_TYPE[header.type])
        self._check_person(node, b"tagger", header.tagger)
        return build_tag(header, payload, _mapped(claim), self._root), [claim]

    def _check_person(self, node: Node, name: bytes, person: bytes | None) -> None:
        """Read the author object behind the link `name`: the rebuilt CID can't tell whether its block is there."""
        assert node.block is not None
        link = _by_name(node.cid, node.block).get(name)
        if link is None or person is None:
            return  # if only one of them is None, the CIDs will differ
        if link.cid.is_identity and link.cid.codec == codecs.RAW and link.cid.digest == person:
            return  # nearly always
        file = FileReader(self._reader, link.cid)
        if file.size != len(person) or file.readall() != person:
            raise GitNodeError(node.cid, f"its link '{_shown(name)}' does not lead to the name in its payload")

    def _read_linked(self, node: Node, block: PBNode, name: bytes) -> PBNode:
        """Return the dag-pb node behind the link `name`."""
        link = _by_name(node.cid, block).get(name)
        if link is None or link.cid.codec != codecs.DAG_PB:
            raise GitNodeError(node.cid, f"it has no link '{_shown(name)}' to a dag-pb node")
        return dag_pb.decode(read_block(self._reader, link.cid))

    def _mark_verbatim(self, claims: Sequence[Claim | None], children: list[Mapped | None]) -> None:
        """Find the first child of another type than its mode says, reading children up to it, and call it VERBATIM."""
        for index, claim in enumerate(claims):
            if (
                claim is not None
                and read_node(self._reader, claim.cid).form is NodeForm.FILE
                and self._is_verbatim(claim, self._open_file(claim))
            ):
                children[index] = replace(_mapped(claim), kind=NodeKind.VERBATIM)
                return

    def _open_file(self, claim: Claim) -> FileReader:
        file = FileReader(self._reader, claim.cid)
        if self._max_blob is not None and file.size > self._max_blob:
            raise BlobTooLargeError(claim.cid, file.size, self._max_blob)
        return file

    def _is_verbatim(self, claim: Claim, file: FileReader) -> bool:
        git_type = verbatim_type(file, claim.oid, self._object_format)
        return git_type is not None and git_type is not claim.kind.git_type

    def _explain(self, claim: Claim) -> str:
        """Say how the node of `claim` differs from the one just rebuilt."""
        rebuilt = self._root.last
        if rebuilt is not None and rebuilt.cid.multihash == claim.cid.multihash:
            return f"its CID is '{rebuilt.cid}' in the mapping"
        if rebuilt is None or {rebuilt.cid.codec, claim.cid.codec} != {codecs.DAG_PB}:
            return "its content is not laid out as the mapping and profile say"
        actual, expected = (dag_pb.decode(data) for data in (read_block(self._reader, claim.cid), rebuilt.data))
        implied = {link.name: link for link in expected.links}
        for link in actual.links:
            if link.name not in implied:
                return f"it has a link '{_shown(link.name)}' that its payload does not imply"
            if link != implied[link.name]:
                return f"its link '{_shown(link.name)}' is not as its payload implies"
        if len(actual.links) < len(expected.links):
            return "it lacks links that its payload implies"
        return "the order of its links or its data is not as its payload implies"


_FORMS: Final = {
    NodeKind.DIRECTORY: (NodeForm.TREE, NodeForm.OPAQUE_TREE),
    NodeKind.COMMIT: (NodeForm.COMMIT,),
    NodeKind.TAG: (NodeForm.TAG,),
}


class _ProvenNodes:
    """A reader that hashes what has links. What has none is hashed anyway when a node is rebuilt from it."""

    def __init__(self, reader: BlockReader) -> None:
        self._reader = reader

    def get(self, cid: Cid) -> bytes:
        """Return the block's bytes; raises BlockMismatchError when they are another's."""
        data = self._reader.get(cid)
        return Block(cid, data).data if cid.codec == codecs.DAG_PB else data


class _RootKeeper:
    """A writer that forgets all but the last block: a node is rebuilt for its CID."""

    def __init__(self) -> None:
        self.last: Block | None = None

    def put(self, block: Block) -> None:
        """Remember `block` alone."""
        self.last = block


def _refuse_lookup(oid: ObjectId, kind: NodeKind) -> Mapped:
    raise AssertionError(f"nothing is looked up to rebuild a file, but {kind} '{oid}' was")


def _claim(
    parent: Cid, link: PBLink | None, name: bytes, oid: ObjectId, kind: NodeKind, *, may_be_verbatim: bool = True
) -> Claim:
    """Return what the link `name` of `parent` says; raises GitNodeError if there is none, or it says no size."""
    if link is None:
        raise GitNodeError(parent, f"it lacks the link '{_shown(name)}' that its payload implies")
    if link.size is None:
        raise GitNodeError(parent, f"its link '{_shown(name)}' has no size")
    return Claim(oid, kind, link.cid, link.size, may_be_verbatim, parent, name)


def _mapped(claim: Claim) -> Mapped:
    assert claim.size is not None
    return Mapped(claim.cid, claim.size, claim.kind)


def _by_name(cid: Cid, block: PBNode) -> dict[bytes, PBLink]:
    links = {link.name or b"": link for link in block.links}
    if len(links) < len(block.links):
        raise GitNodeError(cid, "it has two links of one name")
    return links


def _shown(name: bytes | None) -> str:
    return (name or b"")[:80].decode(errors="backslashreplace")
