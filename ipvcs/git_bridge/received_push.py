"""What an owner makes of an offer's pack: indexed, proven complete, shown to hooks, and converted by itself.

Nobody is believed. Every object is indexed and converted here; what the offer says of it has to be what came out.

Spec: docs/protocols/push.md, "What the owner does with an offer" (3) to (6)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from ipvcs.errors import DecodeError, IntegrityError, IpvcsError, LimitError, NotFoundError, UsageError
from ipvcs.git_bridge.commits_table import CommitsTableTooLargeError, read_commits
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.hooks import HOOK_DECLINED, PRE_RECEIVE_DECLINED, Hooks, Step
from ipvcs.git_bridge.local_objects import LocalObjects
from ipvcs.git_bridge.mirror import Mirror
from ipvcs.git_bridge.object_feed import TypeReader
from ipvcs.git_bridge.offer_judge import asked_of, judge_offer, needed_rights, refuse_rest
from ipvcs.git_bridge.packing import OnStored, StoredPack, count_objects, packing, revisions_of, store_pack
from ipvcs.git_bridge.preparation import PackSupply, Prepared
from ipvcs.git_bridge.push import PlaceStanding
from ipvcs.git_bridge.push_replies import PUBLISHING
from ipvcs.git_bridge.push_requests import Offer, OfferedPack
from ipvcs.git_bridge.quarantine import Quarantine
from ipvcs.git_bridge.ref_updates import Asked, Verdict
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.block import BlockReader, BlockWriter
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.access import Right

_MAX_INFLATION: Final = 500
"""Bytes of objects for each of a pack's. Git's own history has 30, that of Linux 80; a pack made for it, 1000."""
_MAX_SHARE: Final = 16
"""The same for each byte that a pack may have: what one push can cost of the owner's disk."""
_FREE: Final = 64 * 1024 * 1024
"""Bytes of objects that a pack may have in any case."""


class UntrueOfferError(IntegrityError):
    """What was offered is not what it was said to be."""

    def __init__(self, what: str) -> None:
        super().__init__(what, hint="nothing was changed; if it was an ipvcs that offered this, tell its makers")


class InflatedPackError(LimitError):
    """A small pack would become a great many bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"the objects of the pack have {size:,} bytes, out of all proportion to it", hint="push in several steps"
        )


class RightsLostError(IpvcsError):
    """The pusher's rights were taken away while the push was worked on."""

    def __init__(self) -> None:
        super().__init__("the right to this push was taken away meanwhile", hint="ask the owner")


@dataclass(slots=True)
class ReceivedPush:
    """What `offer` brings, as `Pusher` wants it; its blocks are there for `reader`, `temporary` takes files.

    `rights` tells what the pusher may do at this moment, `stage` is told what is being done.
    """

    offer: Offer
    mirror: Mirror
    quarantine: Quarantine
    reader: BlockReader
    temporary: Path
    hooks: Hooks
    rights: Callable[[], frozenset[Right]]
    stage: Callable[[str], None]
    is_used: bool = field(default=False, init=False)
    """Whether it is the offered pack that gets published."""
    _pack: Path | None = field(default=None, init=False)
    _asked: set[bytes] = field(default_factory=set, init=False)
    """Refs whose updates hooks were asked about."""
    _declined: dict[bytes, str] = field(default_factory=dict, init=False)
    _needed: set[Right] = field(default_factory=set, init=False)
    """Rights that what is accepted takes."""

    @property
    def repository(self) -> GitRepository:
        """The mirror with what is in quarantine."""
        return self.quarantine.repository

    @property
    def asked(self) -> Sequence[Asked]:
        """The updates."""
        return asked_of(self.offer)

    def index(self, standing: PlaceStanding, max_bytes: int) -> None:
        """Let git index the offered pack, of `max_bytes` at most, beside what is published as `standing` says.

        Raises:
            UntrueOfferError: it is another than was offered. InflatedPackError.
            RefusedPackError, PackMemoryError, DiskFullError: see `Quarantine.index`.
        """
        self._sync(standing)
        if (offered := self.offer.pack) is None:
            return
        self.stage("indexing")
        with _untrue_unless_read("pack"):
            file = FileReader(self.reader, offered.pack)
            if file.size != offered.size:
                raise UntrueOfferError(f"the pack was offered with {offered.size:,} bytes, and has {file.size:,}")
            self._pack = self.quarantine.index(file, max_bytes)
        _compare(offered, self._pack)
        size = self.quarantine.inflated_size(self._pack)
        if size > min(max(_FREE, _MAX_INFLATION * offered.size), _MAX_SHARE * max_bytes):
            raise InflatedPackError(size)

    def judge(self, standing: PlaceStanding) -> Sequence[Verdict]:
        """See `PushWork`. Hooks are asked about each update once.

        Raises:
            UntrueOfferError: objects are missing.
        """
        self._sync(standing)
        tips = sorted({each.new for each in self.offer.updates if each.new is not None})
        self.stage("checking connectivity")
        with TypeReader.open(self.repository) as types:
            facts = LocalObjects(self.repository, types)
            if tips and not facts.are_whole(tips):
                raise UntrueOfferError("objects are missing: neither the pack nor what is published here has them")
            verdicts = judge_offer(self.offer, standing.refs, standing.head, facts, self.rights())
        self._ask_hooks([step for step in self.steps(verdicts) if step[0] not in self._asked])
        why = self._declined
        verdicts = [
            replace(each, refusal=why[each.target], forced=False)
            if each.refusal is None and each.target in why
            else each
            for each in verdicts
        ]
        if self.offer.atomic:
            verdicts = refuse_rest(verdicts)
        forced = {each.target: each.forced for each in verdicts if each.refusal is None}
        done = [each for each in self.offer.updates if each.name in forced]
        self._needed = {right for each in done for right in needed_rights(each, forced=forced[each.name])}
        self.stage("converting")
        return verdicts

    def make_pack(
        self, tips: Sequence[ObjectId], bases: Sequence[ObjectId]
    ) -> AbstractContextManager[PackSupply | None]:
        """See `MakePack`. The offered pack will do if it has what is needed, all of it and nothing else.

        Else the owner packs: when a branch that the pusher built upon was deleted meanwhile, a part of the offer
        refused, or an object left out that only packs have which readers need not look into.
        """
        if self._pack is not None and self.offer.pack is not None:
            listed = self.repository.run(
                "rev-list", "--objects", "--no-object-names", "--stdin", stdin=revisions_of(tips, bases)
            )
            self.is_used = sorted(listed.decode().split()) == self.quarantine.ids_of(self._pack)
            if self.is_used:
                return nullcontext(_ReceivedPack(self._pack, self.offer, self.offer.pack, tips, bases, self.reader))
        return packing(self.repository, tips, bases, self.temporary)

    def check(self, prepared: Prepared) -> None:
        """Raise UntrueOfferError unless each object became what was offered as its node; RightsLostError."""
        for update in self.offer.updates:
            mapped = None if update.new is None else prepared.mapped.get(update.new)
            if mapped is not None and mapped.cid != update.cid:
                raise UntrueOfferError(f"object '{update.new}' was offered as '{update.cid}', and is '{mapped.cid}'")
        if not self._needed <= self.rights():
            raise RightsLostError
        self.stage(PUBLISHING)

    def steps(self, verdicts: Iterable[Verdict]) -> list[Step]:
        """Return what is done of the updates, as hooks are told."""
        done = {each.target for each in verdicts if each.refusal is None}
        return [(each.name, each.old, each.new) for each in self.offer.updates if each.name in done]

    def _sync(self, standing: PlaceStanding) -> None:
        self.mirror.sync(standing.tree, self.reader, self.offer.object_format, self.offer.head)

    def _ask_hooks(self, steps: Sequence[Step]) -> None:
        """Find out which of `steps` hooks decline, and in which words."""
        if not steps:
            return
        self.stage("running hooks")
        self._asked.update(step[0] for step in steps)
        if not self.hooks.pre_receive(self.repository, steps):
            self._declined.update((step[0], PRE_RECEIVE_DECLINED) for step in steps)
        else:
            declined = [step[0] for step in steps if not self.hooks.update(self.repository, step)]
            self._declined.update((name, HOOK_DECLINED) for name in declined)


@dataclass(frozen=True, slots=True)
class _ReceivedPack:
    """A pack that was offered and lies at `path`. See `PackSupply`."""

    path: Path
    offer: Offer
    offered: OfferedPack
    tips: Sequence[ObjectId]
    bases: Sequence[ObjectId]
    reader: BlockReader

    def store(
        self,
        commits: Iterable[tuple[ObjectId, Cid, int]],
        writer: BlockWriter,
        on_stored: OnStored = lambda _done, _size: None,
        /,
    ) -> StoredPack:
        """Store it. Raises UntrueOfferError unless it and its table of commits say what they should."""
        rows = list(commits)
        with _untrue_unless_read("table of commits"):
            table = read_commits(self.reader, self.offered.commits, self.offer.object_format)
        for oid, cid, size in rows:
            if table.find(oid) != (cid, size):
                raise UntrueOfferError(f"the table of commits does not say that '{oid}' is '{cid}'")
        stored = store_pack(self.path, self.tips, self.bases, rows, writer, on_stored)
        for suffix, cid in ((".pack", self.offered.pack), (".commits", self.offered.commits)):
            made = stored.files[f"{self.path.name}{suffix}".encode()].cid
            if made != cid:
                raise UntrueOfferError(f"'{self.path.name}{suffix}' was offered as '{cid}', and is '{made}'")
        return stored


@contextmanager
def _untrue_unless_read(what: str) -> Iterator[None]:
    """Raise UntrueOfferError if what the block reads, all of it fetched, is no file as we make them."""
    try:
        yield
    except (DecodeError, NotFoundError, UsageError, CommitsTableTooLargeError) as exc:
        raise UntrueOfferError(f"what was offered as the {what} is none: {exc}") from exc


def _compare(offered: OfferedPack, pack: Path) -> None:
    """Raise UntrueOfferError unless the file `pack` is called, and holds as many objects, as was offered."""
    objects = count_objects(pack.with_suffix(".pack"))
    if (pack.name, objects) != (offered.name, offered.objects):
        raise UntrueOfferError(
            f"'{offered.name}' was offered with {offered.objects:,} objects, and is '{pack.name}' with {objects:,}"
        )
