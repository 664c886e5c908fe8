"""The tree that a name points at: a bare Git repository, with the manifest, the refs' nodes and browsable snapshots.

    ipvcs.json  ipvcs.refs                       what we read
    HEAD  config  packed-refs  refs/             what git needs to see a repository
    info/refs  objects/info/packs                what its dumb HTTP protocol reads
    objects/pack/pack-*.{pack,idx,commits}       Git's own packs, and what their commits are mapped as
    heads/<branch>  tags/<tag>                   the trees that people browse

Written whole for each push: all but the newest pack's files and the changed snapshots are links to what is there
already. Read with suspicion: whoever publishes a root may have put anything into it.

Spec: DESIGN §5 "What `git push` publishes"; docs/git.md
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from ipvcs.errors import ConflictError, DecodeError, IntegrityError, LimitError
from ipvcs.git_bridge.bare_files import (
    config_file,
    decode_peeled,
    head_file,
    info_packs_file,
    info_refs_file,
    packed_refs_file,
)
from ipvcs.git_bridge.manifest import MAX_SIZE as MAX_MANIFEST
from ipvcs.git_bridge.manifest import Manifest, decode_manifest
from ipvcs.git_bridge.refname import BRANCHES, TAGS, RefName
from ipvcs.git_bridge.refs_table import MAX_SIZE as MAX_REFS
from ipvcs.git_bridge.refs_table import Ref, decode_refs, encode_refs
from ipvcs.git_bridge.snapshot import Snapshot
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.objects import dag_pb, directory
from ipvcs.objects.block import BlockReader, BlockWriter
from ipvcs.objects.dag_pb import PBLink, PBNode
from ipvcs.objects.directory import build_directory
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.layout import LAYOUT, put_file
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.inline import read_block
from ipvcs.objects.node_writer import Built

MANIFEST: Final = b"ipvcs.json"
REFS: Final = b"ipvcs.refs"
PACKED_REFS: Final = b"packed-refs"
PACK_SUFFIXES: Final = (b".pack", b".idx", b".commits")
RESERVED: Final = frozenset({
    MANIFEST, REFS, b"HEAD", b"config", PACKED_REFS, b"refs", b"info", b"objects", b"heads", b"tags",
})  # fmt: skip
"""Entries of a repository's root. What else is there is nobody's business here, and kept."""

PROFILE: Final = "unixfs-v1-2025"
"""By which blobs of a repository are cut that is pushed for the first time."""

Path = tuple[bytes, ...]


class NotARepositoryError(DecodeError):
    """What a name or CID leads to is not a published repository."""

    def __init__(self, cid: Cid, why: str) -> None:
        super().__init__(
            f"'{cid}' is not a repository that was pushed: {why}",
            hint=f"`ipvcs ls /ipfs/{cid}` shows what is there; a repository may lie at a path below it",
        )
        self.cid = cid


class OtherFormatError(ConflictError):
    """A published repository and a local one have ids of different hash functions, so no object can go between them."""

    def __init__(self, published: ObjectFormat, local: ObjectFormat) -> None:
        super().__init__(
            f"the remote has {published} ids, and this repository {local} ids",
            hint="`git clone` makes a repository of the remote's format; another path behind the name takes any",
        )
        self.published = published
        self.local = local


class LyingRepositoryError(IntegrityError):
    """A repository that was published does not hold what it lists."""

    def __init__(self, oid: ObjectId) -> None:
        super().__init__(
            f"the repository lists object '{oid}', and none of its packs has it",
            hint="tell its publisher; no ref was changed here",
        )
        self.oid = oid


@dataclass(frozen=True, slots=True)
class PublishedTree:
    """A published repository as it was read. `packs` has the links to each pack's files, by file name."""

    manifest: Manifest
    refs: Mapping[RefName, Ref]
    packs: Mapping[bytes, PBLink]
    kept: tuple[PBLink, ...]
    """Entries beside the repository's own."""
    peeled: Mapping[RefName, ObjectId] = field(default_factory=dict)
    """What tags that are objects lead to in the end: for show, until the tags are here."""

    def check_format(self, local: ObjectFormat) -> None:
        """Raise OtherFormatError unless a repository of format `local` can exchange objects with this one."""
        if local is not self.manifest.object_format:
            raise OtherFormatError(self.manifest.object_format, local)


def new_tree(object_format: ObjectFormat, publisher: PeerId, kept: tuple[PBLink, ...] = ()) -> PublishedTree:
    """Return a repository without anything in it, in a directory that has the entries `kept`."""
    return PublishedTree(Manifest(object_format, PROFILE, None, (), None, 0, 0, publisher), {}, {}, kept)


def write_published(tree: PublishedTree, snapshots: Mapping[RefName, Snapshot], writer: BlockWriter) -> Built:
    """Store the directory of `tree`; `snapshots` has where each of its refs leads.

    Raises:
        ManifestTooLargeError.
        HamtCollisionError: names made to have one hash, in a directory too large for one block.
    """
    manifest, refs = tree.manifest, tree.refs
    oids = {name: ref.oid for name, ref in refs.items()}
    peeled: dict[RefName, ObjectId] = {
        name: oid for name, each in snapshots.items() if (oid := each.peeled) is not None
    }
    names = [pack.name for pack in reversed(manifest.packs)]
    files: dict[Path, bytes] = {
        (MANIFEST,): manifest.encode(),
        (REFS,): encode_refs(refs),
        (b"HEAD",): head_file(RefName(b"refs/heads/main") if manifest.head is None else manifest.head),
        (b"config",): config_file(manifest.object_format),
        (PACKED_REFS,): packed_refs_file(oids, peeled),
        (b"info", b"refs"): info_refs_file(oids, peeled),
        (b"objects", b"info", b"packs"): info_packs_file(names),
    }
    entries: dict[Path, PBLink] = {path: put_file(data, writer).link(path[-1]) for path, data in files.items()}
    entries |= {(b"objects", b"pack", name): link for name, link in tree.packs.items()}
    entries |= {(link.name or b"",): link for link in tree.kept}
    entries |= _snapshot_entries(snapshots)
    return _write_directories(entries, [(b"refs",), (b"objects", b"pack")], writer)


def _snapshot_entries(snapshots: Mapping[RefName, Snapshot]) -> Iterator[tuple[Path, PBLink]]:
    for name, snapshot in snapshots.items():
        for prefix, directory_name in ((BRANCHES, b"heads"), (TAGS, b"tags")):
            if name.startswith(prefix) and snapshot.content is not None and _is_text(name):
                path = (directory_name, *name.removeprefix(prefix).split(b"/"))
                yield path, snapshot.content._replace(name=path[-1])


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


def _write_directories(entries: Mapping[Path, PBLink], empty: Iterable[Path], writer: BlockWriter) -> Built:
    """Store the directories that lead to `entries`, and those of `empty`, the deepest first; return the root."""
    directories: dict[Path, list[PBLink]] = {}

    def make(path: Path) -> list[PBLink]:
        for depth in range(len(path) + 1):
            directories.setdefault(path[:depth], [])
        return directories[path]

    for path in empty:
        make(path)
    for path, link in entries.items():
        make(path[:-1]).append(link)
    for path in sorted(directories, key=len, reverse=True):
        built = build_directory(directories[path], LAYOUT, writer)
        if path:
            directories[path[:-1]].append(built.link(path[-1]))
    return built


def read_published(reader: BlockReader, root: Cid) -> PublishedTree:
    """Read the repository at the directory `root`: its own files, not its packs and snapshots.

    Raises:
        NotARepositoryError: there is no manifest, or no table of refs.
        ManifestError, RefsTableError, RefNameError, CidError, PackedRefsError: these are malformed.
        LimitError: they are larger than any that was pushed.
        BlockNotFoundError: a block can't be had. DecodeError: it is malformed.
    """
    node = _directory(reader, root)
    manifest = decode_manifest(_read(reader, root, node, MANIFEST, MAX_MANIFEST))
    refs = decode_refs(_read(reader, root, node, REFS, MAX_REFS), manifest.object_format)
    packs = {}
    if manifest.packs:
        wanted = {name.encode() + suffix for name in (pack.name for pack in manifest.packs) for suffix in PACK_SUFFIXES}
        pack_node = _descend(reader, root, node, (b"objects", b"pack"))
        packs = {link.name: link for link in directory.iter_directory(reader, pack_node) if link.name in wanted}
        if missing := wanted - packs.keys():
            raise NotARepositoryError(root, f"it lacks 'objects/pack/{min(missing).decode()}'")
    kept = tuple(link for link in directory.iter_directory(reader, node) if link.name not in RESERVED)
    peeled: Mapping[RefName, ObjectId] = {}
    if any(name.startswith(TAGS) for name in refs):
        peeled = decode_peeled(_read(reader, root, node, PACKED_REFS, MAX_REFS))
    return PublishedTree(manifest, refs, {name: link for name, link in packs.items() if name}, kept, peeled)


def read_manifest(reader: BlockReader, root: Cid) -> Manifest:
    """Read the manifest of the repository at `root` alone. Errors as `read_published`."""
    return decode_manifest(_read(reader, root, _directory(reader, root), MANIFEST, MAX_MANIFEST))


def is_published(reader: BlockReader, root: Cid) -> bool:
    """Tell whether `root` is a directory with a manifest in it. Errors as `read_published`, but for the first."""
    try:
        return directory.lookup(reader, _directory(reader, root), MANIFEST) is not None
    except NotARepositoryError:
        return False


def _directory(reader: BlockReader, cid: Cid) -> PBNode:
    if cid.codec == codecs.DAG_PB:
        node = dag_pb.decode(read_block(reader, cid))
        try:
            directory.directory_data(node)
        except DecodeError:
            pass
        else:
            return node
    raise NotARepositoryError(cid, "it is no directory")


def _descend(reader: BlockReader, root: Cid, node: PBNode, path: Path) -> PBNode:
    for name in path:
        link = directory.lookup(reader, node, name)
        if link is None:
            raise NotARepositoryError(root, f"it has no '{b'/'.join(path).decode()}'")
        node = _directory(reader, link.cid)
    return node


def _read(reader: BlockReader, root: Cid, node: PBNode, name: bytes, limit: int) -> bytes:
    link = directory.lookup(reader, node, name)
    if link is None:
        raise NotARepositoryError(root, f"it has no '{name.decode()}'")
    file = FileReader(reader, link.cid)
    if file.size > limit:
        raise LimitError(
            f"'{name.decode()}' of repository '{root}' has {file.size:,} bytes; {limit:,} are the most",
            hint="no push writes such a one: tell its publisher",
        )
    return file.readall()
