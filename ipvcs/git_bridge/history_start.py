"""Where a history begins that somebody asks for by a path: a commit, a tag, or a published repository.

    bafy…                              a commit or tag, by its own node
    /ipns/<name>[/path]                the repository's HEAD, or the revision that is named beside the path
    /ipns/<name>[/path]/heads/<name>   the branch whose snapshot lies there; `tags/<name>` likewise

Spec: DESIGN §5, §7
"""

from dataclasses import replace

from ipvcs.errors import UsageError
from ipvcs.git_bridge.commit_supply import CommitSupply, Watch
from ipvcs.git_bridge.published_tree import PublishedTree, is_published, read_published
from ipvcs.git_bridge.readers import FetchingReader
from ipvcs.git_bridge.refname import RefName, show
from ipvcs.git_bridge.refs_table import Ref
from ipvcs.git_bridge.revision import HEAD, find_revision
from ipvcs.objects.block import BlockReader
from ipvcs.objects.git.check import Claim
from ipvcs.objects.git.history import History, identify, kind_of
from ipvcs.objects.path import Path, resolve


class NoRevisionsError(UsageError):
    """A revision is named, and the path beside it leads to no repository."""

    def __init__(self, path: Path, revision: bytes) -> None:
        super().__init__(
            f"'{path}' is not a repository that was pushed, in which '{show(revision)}' could be found",
            hint="a path alone may lead to a commit or tag",
        )
        self.path = path
        self.revision = revision


def find_start(
    reader: FetchingReader, path: Path, revision: bytes | None, watch: Watch | None = None
) -> tuple[History, Claim]:
    """Return the commit from which on `path` and `revision` mean a history, and what walks it; fetches are watched.

    Raises:
        NoRevisionsError, RevisionError, PathError: there is no such thing.
        NoHistoryError: it leads to no commit.
        IntegrityError: a ref or tag is not what it claims.
        DecodeError, LimitError, NotFoundError, RemoteCommandError: what is on the way is malformed, or can't be had.
    """
    if revision is None and (snapshot := find_snapshot(reader, path)) is not None:
        tree, ref = snapshot
        return _start_in(tree, ref, CommitSupply(reader, tree, watch), reader)
    root = resolve(reader, path).cid
    if is_published(reader, root):
        tree = read_published(reader, root)
        supply = CommitSupply(reader, tree, watch)
        return _start_in(tree, find_revision(tree, supply, HEAD if revision is None else revision), supply, reader)
    if revision is not None:
        raise NoRevisionsError(path, revision)
    claim, object_format = identify(reader, root)
    history = History(reader, object_format, CommitSupply(reader).bring)
    return history, history.peel(claim)


def _start_in(tree: PublishedTree, ref: Ref, supply: CommitSupply, reader: BlockReader) -> tuple[History, Claim]:
    history = History(reader, tree.manifest.object_format, supply.bring)
    return history, history.peel(Claim(ref.oid, kind_of(reader, ref.cid), ref.cid))


def find_snapshot(reader: BlockReader, path: Path) -> tuple[PublishedTree, Ref] | None:
    """Return the repository and the ref whose snapshot lies at `path`, as `<repository>/heads/<branch>`; None: of none.

    Raises:
        PathError, BlockNotFoundError, DecodeError: the way to what may be a repository can't be followed.
    """
    for depth, name in enumerate(path.components):
        if name in (b"heads", b"tags"):
            root = resolve(reader, replace(path, components=path.components[:depth])).cid
            if is_published(reader, root):
                tree = read_published(reader, root)
                ref = tree.refs.get(RefName(b"refs/" + b"/".join(path.components[depth:])))
                return None if ref is None else (tree, ref)
    return None
