"""One push: judge, convert, pack, write the new root, and let the name lead to it unless somebody was faster.

    read the name ─► judge each update ─► convert and pack what is new ─► new root ─► pin ─► publish if unchanged
         ▲                                                                                        │ changed meanwhile
         └────────────────────────────────────────────────────────────────────────────────────────┘

Until the last step nothing that anybody sees has changed, and everything before it can be done again at little cost:
objects that were converted are remembered. A home that shares the key may still publish at the same time; if it turns
out that others follow that one, and its root does not build on ours, nothing of ours is done in the eyes of the world:
the updates are refused after all.

Spec: DESIGN §5 "Push", "Several writers"
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from ipvcs.errors import IpvcsError, UnavailableError
from ipvcs.git_bridge.conversion import OnProgress
from ipvcs.git_bridge.git import GitError, GitRepository
from ipvcs.git_bridge.kept_roots import KeptRoots
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.manifest import PackEntry
from ipvcs.git_bridge.names import Announcement, Names
from ipvcs.git_bridge.object_feed import TypeReader
from ipvcs.git_bridge.packing import OnStored, StoredPack, packing
from ipvcs.git_bridge.place import Place, entries_of, find_place, put_at
from ipvcs.git_bridge.preparation import PackSupply, Preparation, Prepared, SessionReader
from ipvcs.git_bridge.published_tree import (
    PublishedTree,
    is_published,
    new_tree,
    read_published,
    write_published,
)
from ipvcs.git_bridge.ref_updates import FETCH_FIRST, NON_FAST_FORWARD, Asked, Verdict, decide
from ipvcs.git_bridge.refname import BRANCHES, RefName, RefNameError, parse_refname
from ipvcs.git_bridge.refs_table import Ref
from ipvcs.git_bridge.root_history import descends
from ipvcs.git_bridge.snapshot import take_snapshot
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keystore import SELF
from ipvcs.node.naming.succession import State
from ipvcs.objects.block import BlockReader
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.objects.path import parse_path, resolve
from ipvcs.storage.home import Home

ATTEMPTS: Final = 8
"""Times that a push is tried while others push to the same name."""
FRESH: Final = 1.0
"""Seconds for which what the network said of the name holds. What takes longer to convert asks again before it signs:
the longer it took, the likelier another home that has the key has published."""


class PushContendedError(UnavailableError):
    """Others kept changing the name while we were about to."""

    def __init__(self, name: PeerId) -> None:
        super().__init__(
            f"'{name.to_base36()}' was changed by others {ATTEMPTS} times during this push", hint="push again"
        )


@dataclass(frozen=True, slots=True)
class Target:
    """What is pushed to: the place `path` behind the name of our `key`."""

    key: str
    name: PeerId
    path: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class PlaceStanding:
    """What the name leads to before a push. `tree` is None where nothing was pushed yet."""

    state: State
    place: Place
    tree: PublishedTree | None
    warnings: tuple[str, ...] = ()

    @property
    def refs(self) -> dict[RefName, ObjectId]:
        """Where its refs point."""
        return {name: ref.oid for name, ref in self.tree.refs.items()} if self.tree else {}

    @property
    def head(self) -> RefName | None:
        """Its current branch."""
        head = self.tree.manifest.head if self.tree else None
        return None if head is None or isinstance(head, ObjectId) else head


@dataclass(frozen=True, slots=True)
class Published:
    """What a push has published: the new root, which the name's record `number` leads to, the repository in it, and
    what the network made of that.
    """

    root: Cid
    repository: Cid
    number: int
    pack: PackEntry | None
    announced: Announcement


@dataclass(frozen=True, slots=True)
class Pushed:
    """What became of a push: of each update, and of the whole.

    `published` is None if nothing was to be done. `overtaken` is where a root of this home's is that nothing follows:
    another home has published beside it, and what that one did is what others see.
    """

    verdicts: tuple[Verdict, ...]
    published: Published | None = None
    overtaken: str | None = None


class PushWork(Protocol):
    """What is pushed: from which repository, and what of it may be."""

    @property
    def repository(self) -> GitRepository:
        """Where the objects are."""

    @property
    def asked(self) -> Sequence[Asked]:
        """The updates, each of another ref."""

    def judge(self, standing: PlaceStanding) -> Sequence[Verdict]:
        """Return what may become of each update where things are as `standing` says."""

    def make_pack(
        self, tips: Sequence[ObjectId], bases: Sequence[ObjectId]
    ) -> AbstractContextManager[PackSupply | None]:
        """See `MakePack`."""

    def check(self, prepared: Prepared) -> None:
        """Raise what speaks against publishing it after all."""


@dataclass(frozen=True, slots=True)
class LocalPush:
    """The user's own repository; `temporary` takes files for the while."""

    repository: GitRepository
    asked: Sequence[Asked]
    temporary: Path
    atomic: bool = False

    def judge(self, standing: PlaceStanding) -> Sequence[Verdict]:
        """See `PushWork`."""
        with TypeReader.open(self.repository) as objects:
            facts = LocalObjects(self.repository, objects)
            return decide(self.asked, standing.refs, standing.head, facts, atomic=self.atomic)

    def make_pack(
        self, tips: Sequence[ObjectId], bases: Sequence[ObjectId]
    ) -> AbstractContextManager[PackSupply | None]:
        """See `MakePack`."""
        return packing(self.repository, tips, bases, self.temporary)

    def check(self, prepared: Prepared) -> None:
        """See `PushWork`: it is what it is."""


class Pusher:
    """Pushes from repositories of one object format to one target."""

    def __init__(
        self, home: Home, reader: BlockReader, names: Names, object_format: ObjectFormat, target: Target
    ) -> None:
        """Push to `target`; what of it is not in `home` is read with `reader`."""
        self._home = home
        self._reader = reader
        self._names = names
        self._format = object_format
        self._target = target
        self._kept = KeptRoots(home, target.name, target.path)

    def read(self) -> PlaceStanding:
        """Return what the name leads to now.

        Raises:
            RemoteCommandError: nobody could be asked.
            PlaceTakenError: something else is where the repository should be.
            NotARepositoryError, ManifestError and the like: what was pushed there can't be read.
            OtherFormatError: it has ids of another hash function.
        """
        found = self._names.newest(self._target.name.to_base36(), self._target.name)
        root = None if found.path is None else resolve(self._reader, parse_path(found.path)).cid
        place = find_place(self._reader, root, self._target.path)
        tree = None
        if place.repository is not None and is_published(self._reader, place.repository):
            tree = read_published(self._reader, place.repository)
            tree.check_format(self._format)
        assert found.state is not None, "a key's name has a state"
        # The node's own key is nobody else's.
        is_first = found.path is None and self._target.key == SELF
        return PlaceStanding(found.state, place, tree, () if is_first else found.warnings)

    def push(self, work: PushWork, progress: OnProgress, storing: OnStored, *, dry_run: bool = False) -> Pushed:
        """Do what is asked as far as it may be done, and return what became of it; `progress` is told how many objects
        are converted, `storing` how much of the pack is stored.

        Raises:
            PushContendedError: others were faster, again and again.
            GitError, GitObjectMissingError: the repository is damaged. DiskError: full.
            RemoteCommandError: the name could not be read or published; nothing has changed then.
            DaemonLostError: the node has ended; the same.
        """
        preparation = Preparation(self._home, work.repository, work.make_pack, progress, storing)
        for _ in range(ATTEMPTS):
            began = time.monotonic()
            standing = self.read()
            verdicts = work.judge(standing)
            accepted = [each for each, verdict in zip(work.asked, verdicts, strict=True) if verdict.refusal is None]
            if dry_run or not accepted:
                return Pushed(tuple(verdicts), overtaken=self._find_overtaken(standing, verdicts))
            if (published := self._apply(standing, work, accepted, preparation, began + FRESH)) is not None:
                return self._confirm(published, verdicts)
        raise PushContendedError(self._target.name)

    def _confirm(self, published: Published, verdicts: Sequence[Verdict]) -> Pushed:
        """Return what became of a push, once it is known what the network made of it."""
        winner = published.announced.winner
        if winner is None or self._builds_on(winner, published.repository):
            return Pushed(tuple(verdicts), published)
        lost = [replace(each, refusal=FETCH_FIRST) if each.refusal is None else each for each in verdicts]
        return Pushed(tuple(lost), published, overtaken=f"/ipfs/{published.root}")

    def _find_overtaken(self, standing: PlaceStanding, verdicts: Sequence[Verdict]) -> str | None:
        """Return where the last root of this home's is, if updates are refused because another home's replaced it."""
        if all(each.refusal not in (FETCH_FIRST, NON_FAST_FORWARD) for each in verdicts):
            return None
        own = self._names.own_record(self._target.name)
        if own is None or own[1] == standing.state[1]:
            return None
        try:
            root = resolve(self._home.blocks, parse_path(own[1])).cid
            before = find_place(self._home.blocks, root, self._target.path).repository
        except IpvcsError:  # garbage by now
            return None
        now = standing.place.repository
        if before is None or (now is not None and descends(self._reader, now, before)):
            return None
        return own[1]

    def _builds_on(self, path: str, ours: Cid) -> bool:
        """Tell whether the repository below the root at `path`, which somebody else published, was pushed on ours."""
        try:
            root = resolve(self._reader, parse_path(path)).cid
            repository = find_place(self._reader, root, self._target.path).repository
        except IpvcsError:  # nobody knows what others are led to
            return False
        return repository is not None and descends(self._reader, repository, ours)

    def _apply(
        self,
        standing: PlaceStanding,
        work: PushWork,
        accepted: Sequence[Asked],
        preparation: Preparation,
        fresh_until: float,
    ) -> Published | None:
        """Publish a root in which `accepted` is done; None: the name has changed since it was read."""
        tree = standing.tree or self._new_tree(standing.place)
        with self._home.blocks.writing() as writer:
            reader = SessionReader(writer, self._reader)
            prepared = preparation.run(
                sorted({each.new for each in accepted if each.new is not None}), tree, reader, writer
            )
            work.check(prepared)
            refs = dict(tree.refs)
            for each in accepted:
                if each.new is None:
                    refs.pop(RefName(each.target), None)
                else:
                    refs[RefName(each.target)] = Ref(each.new, prepared.mapped[each.new].cid)
            new = self._new_root(standing, tree, refs, prepared.pack, work.repository)
            snapshots = {name: take_snapshot(reader, ref, tree.manifest.object_format) for name, ref in refs.items()}
            repository = write_published(new, snapshots, writer)
            root = put_at(standing.place, repository, reader, writer)
            number = standing.state[0] + 1
            trees = {each.content.cid for each in snapshots.values() if each.content is not None}
            tips_kept = {ref.cid for ref in refs.values()}
            self._kept.pin(writer, root.cid, tips_kept, trees, number, complete=prepared.complete)
            announced = self._publish(f"/ipfs/{root.cid}", standing.state, fresh_until)
            if announced is None:
                return None
            self._kept.unpin_old()
        pack = None if prepared.pack is None else prepared.pack.entry
        return Published(root.cid, repository.cid, number, pack, announced)

    def _publish(self, path: str, expected: State, fresh_until: float) -> Announcement | None:
        name = self._target.name
        if time.monotonic() > fresh_until and self._names.newest(name.to_base36(), name).state != expected:
            return None
        return self._names.publish(self._target.key, name, path, expected)

    def _new_tree(self, place: Place) -> PublishedTree:
        """Return a repository without anything in it."""
        kept = entries_of(self._reader, place.repository, place.path) if place.repository is not None else ()
        return new_tree(self._format, self._target.name, kept)

    def _new_root(
        self,
        standing: PlaceStanding,
        tree: PublishedTree,
        refs: dict[RefName, Ref],
        pack: StoredPack | None,
        repository: GitRepository,
    ) -> PublishedTree:
        before = tree.manifest
        # What was deleted and comes again is packed into the same bytes, whose name is listed already.
        is_new = pack is not None and f"{pack.entry.name}.pack".encode() not in tree.packs
        manifest = replace(
            before,
            head=_choose_head(before.head, refs, repository),
            packs=(*before.packs, pack.entry) if pack is not None and is_new else before.packs,
            previous=standing.place.repository if standing.tree else None,
            sequence=before.sequence + 1,
            published=int(time.time()),
            publisher=self._target.name,
        )
        return PublishedTree(manifest, refs, {**tree.packs, **(pack.files if pack else {})}, tree.kept)


def _choose_head(
    head: RefName | ObjectId | None, refs: Iterable[RefName], repository: GitRepository
) -> RefName | ObjectId | None:
    """Keep HEAD while its branch is there; else the branch checked out in `repository`, the usual one, or the first."""
    branches = [name for name in sorted(refs) if name.startswith(BRANCHES)]
    if isinstance(head, ObjectId) or head in branches:
        return head
    for command in (("symbolic-ref", "-q", "HEAD"), ("config", "--get", "init.defaultBranch")):
        with suppress(GitError, RefNameError):
            text = repository.run(*command).strip()
            name = parse_refname(text if text.startswith(b"refs/") else BRANCHES + text)
            if name in branches:
                return name
    return branches[0] if branches else head
