"""A published repository in memory, and a reader that fetches what is missing from it, and counts how often."""

from collections.abc import Iterable, Sequence

from ipvcs.errors import NotFoundError
from ipvcs.git_bridge.commits_table import encode_commits
from ipvcs.git_bridge.manifest import Manifest, PackEntry
from ipvcs.git_bridge.published_tree import PublishedTree
from ipvcs.git_bridge.refname import RefName
from ipvcs.git_bridge.refs_table import Ref
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockNotFoundError
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.git.layout import put_file
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from tests.fakes.memory_network import key_of
from tests.unit.objects.git.repository import Repository


def commit(repository: Repository, time: int, *parents: ObjectId, who: bytes = b"C") -> ObjectId:
    """Add a commit of an empty tree."""
    people = b"author A <a> 1 +0000\ncommitter %b <c> %d +0000\n\nmessage %d\n" % (who, time, time)
    return repository.commit(repository.tree([]), *parents, rest=people)


def publish(
    repository: Repository, packs: Sequence[Sequence[ObjectId]], refs: dict[bytes, ObjectId], head: bytes | ObjectId
) -> PublishedTree:
    """Return the repository with a table for each list of commits; the packs themselves are empty files."""
    entries, links = [], {}
    for number, commits in enumerate(packs):
        name = f"pack-{number:040x}"
        entries.append(PackEntry(name, 0, len(commits)))
        rows = ((oid, repository.map(oid, NodeKind.COMMIT)) for oid in commits)
        table = encode_commits((oid, mapped.cid, mapped.size) for oid, mapped in rows)
        for suffix, data in ((".pack", b""), (".idx", b""), (".commits", table)):
            links[(name + suffix).encode()] = put_file(data, repository.store).link((name + suffix).encode())
    manifest = Manifest(
        repository.object_format, repository.profile, head if isinstance(head, ObjectId) else RefName(head),
        tuple(entries), None, 1, 0, key_of("publisher").peer_id,
    )  # fmt: skip
    return PublishedTree(manifest, refs_of(repository, refs), links, ())


def refs_of(repository: Repository, refs: dict[bytes, ObjectId]) -> dict[RefName, Ref]:
    """Return the refs with what they are mapped as: tags under `refs/tags/v`, else commits."""
    kinds = {name: NodeKind.TAG if name.startswith(b"refs/tags/v") else NodeKind.COMMIT for name in refs}
    return {RefName(name): Ref(oid, repository.map(oid, kinds[name]).cid) for name, oid in sorted(refs.items())}


class RemoteBlocks:
    """A `FetchingReader` whose blocks are elsewhere until they are fetched, but for those of `here`."""

    def __init__(self, repository: Repository, here: Iterable[PBLink] = ()) -> None:
        self.elsewhere = repository.store.blocks
        self.here = {link.cid: self.elsewhere[link.cid] for link in here}
        self.requests: list[list[Cid]] = []

    def get(self, cid: Cid) -> bytes:
        """Return a block that is here; nothing is fetched behind our back."""
        try:
            return self.here[cid]
        except KeyError:
            raise BlockNotFoundError(cid) from None

    def missing_of(self, cids: Iterable[Cid]) -> list[Cid]:
        return [cid for cid in cids if cid not in self.here and not cid.is_identity]

    def fetch_all(self, roots: Iterable[Cid], *, recursive: bool = True, timeout: float | None = None) -> None:
        cids = list(roots)
        self.requests.append(cids)
        lost = [cid for cid in cids if cid not in self.elsewhere]
        self.here |= {cid: self.elsewhere[cid] for cid in cids if cid in self.elsewhere}
        if lost:
            raise NotFoundError(f"nobody has '{lost[0]}'")
