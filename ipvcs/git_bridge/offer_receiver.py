"""The owner's answer to one offer, from the first look at it to what is sent last.

    answered before? ─► rights, what is there ─► fetch the blocks ─► our turn at this place ─► `receive` ─► publish ─►
    log and answer ─► post-receive

What is told the pusher about a failure is about the push, not about this machine: paths and the like go to the log.

Spec: docs/protocols/push.md, "What the owner does with an offer"
"""

import errno
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final, Protocol

from ipvcs.errors import ConflictError, IpvcsError, UnavailableError, shorten
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.hooks import DIRECTORY as HOOKS
from ipvcs.git_bridge.hooks import Hooks, Step, push_facts
from ipvcs.git_bridge.mirror import Mirror, open_mirror
from ipvcs.git_bridge.names import Names
from ipvcs.git_bridge.offer_judge import ClaimedFacts, judge_offer
from ipvcs.git_bridge.place import PlaceTakenError
from ipvcs.git_bridge.published_tree import PROFILE, OtherFormatError, PublishedTree, read_published
from ipvcs.git_bridge.push import PushContendedError, Pushed, Pusher, Target
from ipvcs.git_bridge.push_replies import (
    Answer,
    Failure,
    FailureCode,
    Progress,
    Reply,
    Result,
    Text,
    decode_reply,
    encode_reply,
)
from ipvcs.git_bridge.push_requests import Offer
from ipvcs.git_bridge.quarantine import PackMemoryError, Quarantine, RefusedPackError
from ipvcs.git_bridge.received_push import InflatedPackError, ReceivedPush, RightsLostError, UntrueOfferError
from ipvcs.git_bridge.ref_updates import UP_TO_DATE, Verdict
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keystore import SELF
from ipvcs.objects.block import BlockReader
from ipvcs.storage.access import AccessList, Right, show_repository_path
from ipvcs.storage.disk import DiskError, DiskFullError
from ipvcs.storage.home import Home
from ipvcs.storage.push_log import LoggedUpdate, PushLog

_log = logging.getLogger(__name__)

_LOGGED: Final = 100
"""Updates that are logged of a push of which nothing was done: a log that only grows is no place for attempts."""
_KEPT: Final = 64 * 1024
"""Bytes of an answer that is kept to be given again. The last thousand are."""
STALL: Final = 30.0
"""Seconds without a block after which the pusher is given up."""
_TABLE_ROW: Final = 72
"""Bytes of a commit in a table, of an object with SHA-256 ids; its inner nodes are few."""
_TABLE_HEAD: Final = 16


class Fetch(Protocol):
    """Brings the file `root`, of `size` bytes at most, into the home; tells how many bytes have come."""

    def __call__(self, root: Cid, size: int, told: Callable[[int], None], /) -> None:
        """Raises BlocksNotSentError; UntrueOfferError: it is larger. DiskFullError."""


class BlocksNotSentError(UnavailableError):
    """The pusher did not send what it offered."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the offered blocks could not be had: {why}", hint="keep the daemon up while you push, and push again"
        )


class OtherProfileError(ConflictError):
    """The pusher cuts files in another way than the repository does."""

    def __init__(self, offered: str, ours: str) -> None:
        super().__init__(
            f"objects are offered by profile '{shorten(offered)}', and mapped here by '{ours}'",
            hint="use the owner's version of ipvcs",
        )


@dataclass(frozen=True, slots=True)
class Who:
    """Who pushes, and from where."""

    pusher: PeerId
    address: str


class Receiver:
    """Answers one offer."""

    def __init__(
        self,
        home: Home,
        name: PeerId,
        names: Names,
        reader: BlockReader,
        fetch: Fetch,
        environ: Mapping[str, str],
        send: Callable[[Reply], None],
    ) -> None:
        """Put it together.

        Args:
            home: the owner's.
            name: of the owner's node.
            names: what publishes it.
            reader: of the home's blocks, and others that can be had.
            fetch: what brings those of the pusher.
            environ: what git and hooks run with.
            send: sends a reply to the pusher.
        """
        self._home = home
        self._name = name
        self._names = names
        self._reader = reader
        self._fetch = fetch
        self._environ = environ
        self._send = send
        self._pushes = PushLog(home.datastore)

    def receive(self, offer: Offer, who: Who) -> None:
        """Do what `offer` asks for as far as it may be done, and answer. Failures are answered; bugs are raised.

        Raises:
            BrokenPipeError: nobody hands on what we say any more.
        """
        if (known := self._pushes.find_answer(who.pusher, offer.key, time.time())) is not None:
            self._send(decode_reply(known))
            return
        try:
            done = self._receive(offer, who)
        except BrokenPipeError:
            raise
        except (IpvcsError, OSError, MemoryError) as exc:
            failure = describe(exc)
            _log.warning("push failed: %r", exc, exc_info=failure.code is FailureCode.FAILED)
            self._send(failure)
            if not offer.dry_run:
                self._append(offer, who, [], None, failure=failure.message, answer=None)
            return
        if done is not None:
            done()

    def _receive(self, offer: Offer, who: Who) -> Callable[[], None] | None:
        """Answer; return what is to be done when that is out."""
        target = Target(SELF, self._name, offer.path)
        pusher = Pusher(self._home, self._reader, self._names, offer.object_format, target)

        def rights() -> frozenset[Right]:
            return AccessList(self._home.datastore).rights_of(who.pusher, offer.path)

        self._stage("looking")
        standing = pusher.read()
        _check_profile(offer, standing.tree)
        verdicts = judge_offer(offer, standing.refs, standing.head, ClaimedFacts(offer), rights())
        if offer.dry_run or all(each.refusal is not None for each in verdicts):
            self._answer(offer, who, verdicts, standing.place.repository)
            return None
        facts = push_facts(str(who.pusher), show_repository_path(offer.path), offer.push_options)
        hooks = Hooks(self._home.path / HOOKS, facts, lambda line: self._send(Text(line)))
        pushed: Pushed | None = None
        try:
            with ExitStack() as stack:
                stack.enter_context(self._home.blocks.writing())  # a lease on what comes
                self._bring(offer)
                mirror = stack.enter_context(
                    open_mirror(self._home.path, offer.path, self._environ, lambda: self._stage("waiting"))
                )
                quarantine = stack.enter_context(mirror.quarantine(self._home.temporary))
                work = ReceivedPush(
                    offer, mirror, quarantine, self._reader, self._home.temporary, hooks, rights, self._stage
                )
                standing = pusher.read()  # others had their turn
                try:
                    work.index(standing, self._home.config.get("Push.MaxBytes"))
                    pushed = pusher.push(work, self._counting("converting"), self._counting("storing"))
                finally:
                    if standing.tree is None:
                        self._forget_mirror(mirror, pusher)
                repository = standing.place.repository
                if pushed.published is not None:
                    repository = pushed.published.repository
                    self._keep(mirror, quarantine, work, repository)
        except (IpvcsError, OSError):
            if pushed is None or pushed.published is None:
                raise
            _log.warning("a push was published, and could not be tidied up after", exc_info=True)
        self._answer(offer, who, pushed.verdicts, repository)
        steps = work.steps(pushed.verdicts)
        return lambda: self._tell_hooks(hooks, mirror, steps)

    def _keep(self, mirror: Mirror, quarantine: Quarantine, work: ReceivedPush, repository: Cid) -> None:
        """Let the mirror be what was published: a copy, so if that can't be done now, it is by the next push."""
        try:
            if work.is_used:
                quarantine.accept()
            tree = read_published(self._home.blocks, repository)
            mirror.sync(tree, self._home.blocks, work.offer.object_format, work.offer.head)
        except (IpvcsError, OSError):
            _log.warning("the mirror is not what was published", exc_info=True)

    def _forget_mirror(self, mirror: Mirror, pusher: Pusher) -> None:
        """Have no mirror of a place where nothing is published after all."""
        with suppress(IpvcsError):
            if pusher.read().tree is None:
                mirror.remove()

    def _tell_hooks(self, hooks: Hooks, mirror: Mirror, steps: Sequence[Step]) -> None:
        """Run post-receive; others may have their turn meanwhile. What it does changes nothing about the push."""
        if steps:
            try:
                hooks.post_receive(GitRepository(mirror.path, self._environ), steps)
            except (IpvcsError, OSError):
                _log.warning("post-receive failed", exc_info=True)

    def _bring(self, offer: Offer) -> None:
        """Fetch what was offered: the pack, and the table of its commits."""
        if (pack := offer.pack) is None:
            return
        told = self._counting("fetching")
        self._fetch(pack.pack, pack.size, lambda done: told(min(done, pack.size), pack.size))
        self._fetch(pack.commits, pack.objects * _TABLE_ROW + _TABLE_HEAD, lambda _done: None)

    def _answer(self, offer: Offer, who: Who, verdicts: Sequence[Verdict], repository: Cid | None) -> None:
        """Log what became of the push, and answer."""
        answer = Answer(tuple(Result(each.target, each.refusal, each.forced) for each in verdicts), repository)
        if not offer.dry_run:
            data = encode_reply(answer)
            # Any other can be judged again: it is found to be done, or not.
            is_kept = len(data) <= _KEPT and any(each.refusal is None for each in verdicts)
            self._append(offer, who, verdicts, repository, failure="", answer=data if is_kept else None)
        self._send(answer)

    def _append(
        self,
        offer: Offer,
        who: Who,
        verdicts: Iterable[Verdict],
        repository: Cid | None,
        *,
        failure: str,
        answer: bytes | None,
    ) -> None:
        why = {each.target: each for each in verdicts}
        is_done = any(each.refusal is None for each in verdicts)
        updates = [
            LoggedUpdate(
                each.name,
                b"" if each.old is None else each.old.raw,
                b"" if each.new is None else each.new.raw,
                why[each.name].forced if each.name in why else each.force,
                _logged(why[each.name].refusal) if each.name in why else "",
            )
            for each in (offer.updates if is_done else offer.updates[:_LOGGED])
        ]
        try:
            self._pushes.append(
                time=time.time(), pusher=who.pusher, address=who.address, path=offer.path, key=offer.key,
                updates=updates, repository=repository, failure=failure, answer=answer,
            )  # fmt: skip
        except IpvcsError:  # what was published is so all the same
            _log.exception("a push could not be logged")

    def _stage(self, what: str) -> None:
        self._send(Progress(what, 0, 0))

    def _counting(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._send(Progress(what, done, total))


def _logged(refusal: str | None) -> str:
    """Return a refusal as the log has it: what is there already was not refused."""
    return "" if refusal in (None, UP_TO_DATE) else str(refusal)


def describe(error: BaseException) -> Failure:
    """Return what the pusher is told about `error`."""
    hint = (error.hint or "") if isinstance(error, IpvcsError) else ""
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return Failure(code, str(error), hint)
    if isinstance(error, MemoryError):
        return describe(PackMemoryError())
    if isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC):
        return Failure(FailureCode.FAILED, "the owner's disk is full", _LATER)
    what = "its disk failed" if isinstance(error, (DiskError, OSError)) else "its log says why"
    return Failure(FailureCode.FAILED, f"the owner could not do it: {what}", _LATER)


_LATER: Final = "tell the owner, and push again later"
_CODES: Final = (
    ((UntrueOfferError, RefusedPackError), FailureCode.UNTRUE),
    ((OtherFormatError, OtherProfileError, PlaceTakenError), FailureCode.BAD_REQUEST),
    (RightsLostError, FailureCode.DENIED),
    ((InflatedPackError, PackMemoryError), FailureCode.LIMIT),
    (BlocksNotSentError, FailureCode.UNAVAILABLE),
    (PushContendedError, FailureCode.FAILED),
)


def _check_profile(offer: Offer, tree: PublishedTree | None) -> None:
    """Raise OtherProfileError unless the offer cuts files as the repository does."""
    profile = PROFILE if tree is None else tree.manifest.profile
    if offer.profile != profile:
        raise OtherProfileError(offer.profile, profile)
