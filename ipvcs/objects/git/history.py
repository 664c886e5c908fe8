"""A history, newest first: the commits that one commit leads to, each proven before it is believed.

    claim ─► tags ─► commit ─► its parents, into a heap by the committers' dates ─► the newest of these ─► …

This is the order of `git log`: by date, each commit after one that leads to it. Where clocks were wrong, a commit may
come before another of its children, as in git.

Spec: DESIGN §7; git-log(1) "Commit Ordering"; docs/git-mapping.md §9
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from ipvcs.errors import UsageError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader
from ipvcs.objects.git.check import Checker, Claim
from ipvcs.objects.git.commit_text import commit_time
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.node import GitNodeError, NodeForm, read_node
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, git_oid
from ipvcs.objects.git.payload import GitType, split_payload
from ipvcs.objects.git.read import git_payload, open_object

_PROFILE = "unixfs-v1-2025"
"""Any will do: it says how blobs are cut, and no blob is checked here."""
_KINDS = {NodeForm.COMMIT: NodeKind.COMMIT, NodeForm.TAG: NodeKind.TAG}
_DIRECTORIES = (NodeForm.TREE, NodeForm.OPAQUE_TREE)

Bring = Callable[[Sequence[Claim]], None]
"""Told which commits are read next, so that they can be fetched together."""


class NoHistoryError(UsageError):
    """What was given leads to no commit."""

    exit_code = 128

    def __init__(self, cid: Cid, what: str) -> None:
        super().__init__(
            f"'{cid}' is {what}, which has no history",
            hint="a commit has, a tag, and what `git push` published: `ipvcs log /ipns/<name> [<branch>]`",
        )
        self.cid = cid


@dataclass(frozen=True, slots=True)
class HistoryCommit:
    """A commit whose node was proven to be `oid`. `parents` are claims, each proven when its turn comes."""

    oid: ObjectId
    cid: Cid
    time: int
    tree: ObjectId | None
    parents: tuple[Claim, ...]


def identify(reader: BlockReader, cid: Cid) -> tuple[Claim, ObjectFormat]:
    """Return which Git object the commit or tag `cid` is, by its own payload, and of which format.

    Raises:
        NoHistoryError: it is neither.
        GitNodeError, DecodeError, BlockNotFoundError: it can't be read.
    """
    kind = kind_of(reader, cid)
    git_type, payload = git_payload(reader, cid)
    _type, body = split_payload(payload)
    _key, _space, digits = body.partition(b"\n")[0].partition(b" ")  # the first line names an object
    object_format = next((each for each in ObjectFormat if len(digits) == 2 * each.size), ObjectFormat.SHA1)
    assert git_type is kind.git_type
    return Claim(git_oid(object_format, payload), kind, cid), object_format


def kind_of(reader: BlockReader, cid: Cid) -> NodeKind:
    """Return whether `cid` is a commit or a tag. Raises NoHistoryError if it is neither, and as `read_node`."""
    form = read_node(reader, cid).form
    if (kind := _KINDS.get(form)) is None:
        raise NoHistoryError(cid, "a directory" if form in _DIRECTORIES else f"a {form}")
    return kind


class History:
    """Walks histories of one repository."""

    def __init__(self, reader: BlockReader, object_format: ObjectFormat, bring: Bring | None = None) -> None:
        self._reader = reader
        self._format = object_format
        self._bring = bring
        self._checker = Checker(reader, object_format, _PROFILE)

    def peel(self, claim: Claim) -> Claim:
        """Return the claim on the commit that `claim` leads to, behind any number of tags, which are proven.

        Raises:
            NoHistoryError: it leads to a tree or blob, or to nothing that git could read.
            GitNodeError, DecodeError, BlockNotFoundError: a tag is not what it should be, or can't be had.
        """
        while claim.kind is NodeKind.TAG:
            children = self._checker.check(claim)
            if not children:
                raise NoHistoryError(claim.cid, "a tag that leads nowhere")
            claim = children[0]
        if claim.kind is not NodeKind.COMMIT:
            raise NoHistoryError(claim.cid, f"a {claim.kind.git_type}")
        return claim

    def iter_commits(self, start: Claim, *, first_parent: bool = False) -> Iterator[HistoryCommit]:
        """Yield the commit that `start` claims and all that it leads to; with `first_parent` by first parents alone.

        A commit's parents are read only when the one after it is asked for. Memory grows by some 100 bytes a commit.

        Raises:
            GitNodeError: a node is not what it was linked as. What came before it is proven.
            DecodeError, LimitError, BlockNotFoundError: it is malformed, too large, or can't be had.
        """
        seen = {start.oid.raw}
        pending: list[tuple[int, int, HistoryCommit]] = []
        wanted: Sequence[Claim] = [start]
        count = 0
        while True:
            if self._bring is not None and wanted:
                self._bring(wanted)
            for claim in wanted:
                commit = self._prove(claim)
                count += 1  # of the same date, the first that was found comes first
                heappush(pending, (-commit.time, count, commit))
            if not pending:
                return
            commit = heappop(pending)[2]
            yield commit
            wanted = []
            for parent in commit.parents[:1] if first_parent else commit.parents:
                if parent.oid.raw not in seen:
                    seen.add(parent.oid.raw)
                    wanted.append(parent)

    def body(self, commit: HistoryCommit) -> bytes:
        """Return the body of a commit, as `git cat-file commit` prints it."""
        return open_object(self._reader, commit.cid, commit.oid, self._format).body()

    def _prove(self, claim: Claim) -> HistoryCommit:
        proven = self._checker.prove(claim)
        if proven.type is not GitType.COMMIT:  # carried verbatim; git follows no such parent either
            problem = f"it is a {proven.type}, and should be a commit"
            raise GitNodeError(claim.cid, problem, parent=claim.parent, name=claim.name)
        assert proven.body is not None
        time = commit_time(proven.body)
        tree = proven.children[0].oid if proven.children else None
        return HistoryCommit(claim.oid, claim.cid, time, tree, tuple(proven.children[1:]))
