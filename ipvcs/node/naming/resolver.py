"""Resolving: from a name to the path that it stands for now.

    NodeId, key of ours, domain ─► what we publish ─► what is fresh in the table ─► the network, or DNS ─► path
                        ▲                                                                                    │
                        └──────── /ipns/…: again, 32 times at most, never to the same name twice ────────────┘

An answer never goes back: a record older than one that was seen is passed over, and of two with one number the first
that was seen stays. When the network is silent, or has only such records, what was seen counts as long as it is valid,
and the answer comes with a warning: an error that the caller may show, or raise.

Names of keys count only where the caller wrote them. What a stranger's record calls `work` is not our key.

Spec: https://specs.ipfs.tech/ipns/ipns-record/#ipns-path-resolution, DESIGN §5 (rollback, forks)
"""

import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import anyio

from ipvcs.errors import IpvcsError, LimitError, NotFoundError, UnavailableError, UsageError
from ipvcs.multiformats.peer_id import PeerId, PeerIdError
from ipvcs.node.naming.dnslink import DnsLink, DnsLinks, DnsTimeoutError, parse_domain
from ipvcs.node.naming.name_path import NamePath, NameSyntaxError
from ipvcs.node.naming.name_table import KnownName, NameTable, StaleRecordError, Verdict, conflicts, ttl_of
from ipvcs.node.naming.record import InvalidRecordError, IpnsRecord
from ipvcs.node.naming.record_search import FoundRecords, RecordSearch
from ipvcs.node.naming.succession import State, state_of

_log = logging.getLogger(__name__)

QUORUM: Final = 16
"""Peers that must have answered with a record. Kubo's `--dht-record-count`."""
TIMEOUT: Final = 60.0
"""Seconds for the network, all steps together. Kubo's `--dht-timeout`."""
NEWEST_TIMEOUT: Final = 5.0
"""Seconds for the network when its newest is asked for, before what it said so far, or what was seen before, must do
(DESIGN §5)."""
MAX_DEPTH: Final = 32
"""Names that lead to names. Kubo's DefaultDepthLimit."""

Source: TypeAlias = Literal["local", "cache", "network", "dns"]
_Target: TypeAlias = PeerId | str
"""An IPNS name, or a domain."""


class NameNotFoundError(NotFoundError):
    """Nobody who was asked has a valid record of a name."""

    def __init__(self, name: PeerId, *, invalid: int = 0, expired: str = "") -> None:
        why = f", only {invalid} that are not valid" if invalid else ""
        why += f"; the one last seen expired at {expired}" if expired else ""
        super().__init__(
            f"cannot resolve '/ipns/{name.to_base36()}': no record found{why}",
            hint="its publisher may be offline for longer than the record lives, or you are connected to nobody who "
            "has it: `ipvcs swarm peers`",
        )
        self.name = name
        self.invalid = invalid


class UnconfirmedNameError(UnavailableError):
    """The network could not be asked, or said nothing; what was seen before is the answer."""

    def __init__(self, name: str, reason: str, age: float | None = None) -> None:
        seen = "" if age is None else f", seen {age:.0f} s ago"
        super().__init__(f"using the last known value of '/ipns/{name}'{seen}: {reason}")
        self.name = name
        self.age = age


class NameLoopError(LimitError):
    """A name leads back to itself."""

    def __init__(self, name: str) -> None:
        super().__init__(f"cannot resolve '/ipns/{name}': it leads back to itself")
        self.name = name


class NameDepthError(LimitError):
    """A name leads to a name, and so on, for too long."""

    def __init__(self, name: str) -> None:
        super().__init__(f"cannot resolve '/ipns/{name}': it leads through more than {MAX_DEPTH} names")
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """Where a name leads."""

    path: str
    """`/ipfs/…`, or `/ipns/…` where only one step was asked for."""
    name: str
    """The name that was asked for: a NodeId in base36, or a domain."""
    record: IpnsRecord | None
    """Its record; None for a domain."""
    state: State | None
    """What a writer passes as `expect` to publish on top of this; None for a domain."""
    source: Source
    """Where the record, or the domain's link, comes from."""
    ttl: float
    """Seconds for which this may be taken for true: the least of all steps."""
    warnings: tuple[IpvcsError, ...] = ()
    """ForkError, StaleRecordError, UnconfirmedNameError of any step: why the answer may not be the newest."""

    @property
    def sequence(self) -> int | None:
        """The record's sequence number; None for a domain."""
        return None if self.record is None else self.record.sequence


@dataclass(frozen=True, slots=True)
class _Wishes:
    recursive: bool
    nocache: bool
    newest: bool
    quorum: int
    deadline: float
    """When to give up, on the event loop's clock."""
    patience: float
    """When an answer must do that may not be the newest."""


@dataclass(frozen=True, slots=True)
class _Step:
    """One name resolved once."""

    target: _Target
    path: NamePath
    source: Source
    ttl: float
    record: IpnsRecord | None = None
    warnings: tuple[IpvcsError, ...] = ()


class Resolver:
    """Resolves names. Any number of tasks may use one."""

    def __init__(
        self,
        table: NameTable,
        search: RecordSearch,
        links: DnsLinks,
        find_key: Callable[[str], Awaitable[PeerId | None]],
        wall: Callable[[], float],
    ) -> None:
        """Look into `table`, ask by `search` and `links`.

        `find_key` tells whose a key of ours is by what the user calls it; `wall` gives seconds since 1970.
        """
        self._table = table
        self._network = search
        self._links = links
        self._find_key = find_key
        self._wall = wall

    async def resolve(
        self,
        name: str,
        *,
        recursive: bool = True,
        nocache: bool = False,
        newest: bool = False,
        quorum: int = QUORUM,
        timeout: float = TIMEOUT,
    ) -> Resolved:
        """Return where `name` leads: `/ipns/<name>[/path]`, or without the namespace.

        Args:
            name: a NodeId, what we call a key of ours, or a domain, and maybe a path behind it.
            recursive: go on until the path is in `/ipfs`; else one step.
            nocache: ask, however fresh what is known is; and believe nothing that was seen if nobody answers.
            newest: ask, and after `NEWEST_TIMEOUT` take the best that there is, from the network or from before: for
                who must not miss a change, but must not wait for ever either.
            quorum: how many peers must have answered; 0: all that can be found.
            timeout: seconds for all steps together.

        Raises:
            NameSyntaxError: it is no name, nor a path below `/ipns/`.
            NameNotFoundError, NoDnsLinkError: it leads nowhere.
            StaleRecordError: the network has only older records than one that was seen, which has expired.
            UnusableValueError, AmbiguousDnsLinkError: where it leads can't be told.
            NameLoopError, NameDepthError: it never ends.
            UnavailableError: nobody could be asked.
        """
        wishes = _wishes(recursive, nocache, newest, quorum, timeout)
        asked = _parse(name)
        step = await self._resolve_once(await self._target(asked.root, ours=True), wishes)
        return await self._follow(asked, step, wishes)

    def search(
        self,
        name: str,
        *,
        recursive: bool = True,
        nocache: bool = False,
        newest: bool = False,
        quorum: int = QUORUM,
        timeout: float = TIMEOUT,
    ) -> AbstractAsyncContextManager[AsyncIterator[Resolved]]:
        """Stream where `name` leads as far as is known so far, each better than the one before; the last is what
        `resolve` returns. Arguments and errors as there.

            async with resolver.search("k51…") as found:
                async for better in found: ...

        Leaving the block ends the search.
        """
        return self._search(name, _wishes(recursive, nocache, newest, quorum, timeout))

    @asynccontextmanager
    async def _search(self, name: str, wishes: _Wishes) -> AsyncGenerator[AsyncIterator[Resolved]]:
        asked = _parse(name)
        target = await self._target(asked.root, ours=True)
        async with self._steps(target, wishes) as steps, aclosing(self._follow_each(asked, steps, wishes)) as found:
            yield found

    async def _follow_each(
        self, asked: NamePath, steps: AsyncIterator[_Step], wishes: _Wishes
    ) -> AsyncGenerator[Resolved]:
        error: IpvcsError | None = None
        async for step in steps:
            try:
                found = await self._follow(asked, step, wishes)
            except IpvcsError as exc:  # a better record may lead somewhere
                error = exc
                continue
            error = None
            yield found
        if error is not None:
            raise error

    async def _follow(self, asked: NamePath, first: _Step, wishes: _Wishes) -> Resolved:
        """Return where the path `asked` leads, whose name `first` resolves."""
        step, ttl, warnings = first, first.ttl, first.warnings
        path = first.path.join(asked.rest)
        been: set[_Target] = {first.target}
        while wishes.recursive and path.namespace == "ipns":
            target = await self._target(path.root, ours=False)
            if target in been:
                raise NameLoopError(_text(first.target))
            if len(been) == MAX_DEPTH:
                raise NameDepthError(_text(first.target))
            been.add(target)
            step = await self._resolve_once(target, wishes)
            path = step.path.join(path.rest)
            ttl, warnings = min(ttl, step.ttl), (*warnings, *step.warnings)
        return Resolved(
            path=str(path),
            name=_text(first.target),
            record=first.record,
            state=None if first.record is None else state_of(KnownName(first.record)),
            source=first.source,
            ttl=ttl,
            warnings=warnings,
        )

    async def _resolve_once(self, target: _Target, wishes: _Wishes) -> _Step:
        best: _Step | None = None
        async with self._steps(target, wishes) as steps:
            async for step in steps:
                best = step
        assert best is not None, "a search without a result raises"
        return best

    @asynccontextmanager
    async def _steps(self, target: _Target, wishes: _Wishes) -> AsyncGenerator[AsyncIterator[_Step]]:
        """Stream what `target` stands for, each better than the one before: at least one, or an error."""
        if isinstance(target, str):
            async with aclosing(_only(await self._dns_step(target, wishes))) as steps:
                yield steps
            return
        known = self._usable(target)
        if known is not None and not wishes.nocache and not wishes.newest:
            source: Source | None = "local" if known.is_ours else "cache" if known.is_fresh(self._wall()) else None
            if source is not None:
                async with aclosing(_only(self._step(target, known, source))) as steps:
                    yield steps
                return
        # Who has something to fall back on need not wait longer for the first answer than for a better one.
        deadline = wishes.deadline if known is None or wishes.nocache else min(wishes.deadline, wishes.patience)
        async with (
            self._network.search(target, quorum=wishes.quorum, deadline=deadline, patience=wishes.patience) as found,
            aclosing(self._network_steps(target, found, wishes)) as steps,
        ):
            yield steps

    async def _network_steps(self, name: PeerId, found: FoundRecords, wishes: _Wishes) -> AsyncGenerator[_Step]:
        told: tuple[State, int] | None = None
        stale: int | None = None
        disputed = False
        error: IpvcsError | None = None
        async for record, verdict in found:
            if verdict is Verdict.OLDER:
                stale = max(stale or 0, record.sequence)
                continue
            disputed = disputed or verdict is Verdict.FORK
            known = self._usable(name)
            if known is None or (verdict is Verdict.FORK and told is None):
                continue
            what = (state_of(known), len(conflicts(name, known)))
            if what == told:
                continue
            told = what
            try:
                step = self._step(name, known, "network")
            except IpvcsError as exc:
                error = exc
                continue
            error = None
            yield step
        if error is not None:
            raise error
        if told is None:
            yield self._remembered_step(name, found, wishes, stale, disputed=disputed)

    def _remembered_step(
        self, name: PeerId, found: FoundRecords, wishes: _Wishes, stale: int | None, *, disputed: bool
    ) -> _Step:
        """Return what was seen before: the network has nothing better. Raises if it has nothing at all."""
        known = self._usable(name)
        good = known is not None and (known.is_ours or known.best.is_valid_at(self._wall()))
        warnings: tuple[IpvcsError, ...] = ()
        if known is not None and stale is not None:
            behind = StaleRecordError(name, stale, known.best.sequence)
            if not good:
                raise behind
            # That the network is behind with what we published ourselves is no news.
            warnings = () if known.is_ours else (behind,)
        elif not disputed:
            if known is None or not good or (wishes.nocache and not known.is_ours):
                if found.failure is not None:
                    raise found.failure
                expired = "" if known is None or good else known.best.validity.decode("ascii", "replace")
                raise NameNotFoundError(name, invalid=found.invalid, expired=expired)
            age = None if known.is_ours else max(0.0, self._wall() - known.confirmed)
            reason = str(found.failure or "nobody who was asked has a record")
            warnings = (UnconfirmedNameError(name.to_base36(), reason, age),)
        assert known is not None, "what is disputed or behind is known"
        return self._step(name, known, "local" if known.is_ours else "cache", warnings)

    async def _dns_step(self, domain: str, wishes: _Wishes) -> _Step:
        ask_anew = wishes.nocache or wishes.newest
        link: DnsLink | None = None
        warnings: tuple[IpvcsError, ...] = ()
        try:
            with anyio.CancelScope(deadline=wishes.deadline):
                link = await self._links.resolve(domain, nocache=ask_anew)
            if link is None:
                raise DnsTimeoutError(domain)
        except UnavailableError as exc:
            link = self._links.try_cached(domain) if not wishes.nocache else None
            if link is None:
                raise
            warnings = (UnconfirmedNameError(domain, str(exc)),)
        return _Step(domain, link.path, "dns", link.ttl, warnings=warnings)

    def _step(self, name: PeerId, known: KnownName, source: Source, warnings: tuple[IpvcsError, ...] = ()) -> _Step:
        record = known.best
        path = NamePath.parse(record.path, "ipfs")
        ttl = ttl_of(record)
        if source == "cache":
            ttl = max(0.0, ttl - max(0.0, self._wall() - known.confirmed))
        return _Step(name, path, source, ttl, record, (*warnings, *conflicts(name, known)))

    def _usable(self, name: PeerId) -> KnownName | None:
        """Return what is known of `name`, once more checked: it may come from the disk, which forgets and rots."""
        known = self._table.try_get(name)
        if known is None:
            return None
        try:
            known.best.verify(name)
        except InvalidRecordError as exc:
            _log.warning("forgot the damaged record of %s: %s", name.to_base36(), exc)
            self._table.forget(name)
            return None
        return known

    async def _target(self, root: str, *, ours: bool) -> _Target:
        """Return whose records, or which domain's, tell what `root` stands for. `ours`: names of our keys count."""
        try:
            return PeerId.parse(root)
        except PeerIdError:
            pass
        if ours and (peer_id := await self._find_key(root)) is not None:
            return peer_id
        if (domain := parse_domain(root)) is not None:
            return domain
        raise NameSyntaxError(root)


def _wishes(recursive: bool, nocache: bool, newest: bool, quorum: int, timeout: float) -> _Wishes:
    now = anyio.current_time()
    return _Wishes(recursive, nocache, newest, quorum, now + timeout, now + NEWEST_TIMEOUT if newest else math.inf)


def _parse(text: str) -> NamePath:
    path = NamePath.parse(text, "ipns")
    if path.namespace != "ipns":
        raise UsageError(f"'{text[:120]}' is not below '/ipns/': there is nothing to resolve")
    return path


def _text(target: _Target) -> str:
    return target if isinstance(target, str) else target.to_base36()


async def _only(step: _Step) -> AsyncGenerator[_Step]:
    yield step
