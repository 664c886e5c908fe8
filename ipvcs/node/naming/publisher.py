"""Publishing: our own record first on the disk, then out to the network.

    value ─► sign, compare and swap, durable on the disk ─► note in the table ─► routing, with a deadline
                                                                                  └─ failed: the record stays,
                                                                                     and is tried again (service.py)

Who gives `patience` does not wait for routing to end: the first peer that took the record will do, and the rest goes on
in the background (sending.py), until the next record of that name is to be sent.

So a crash between the two loses nothing, and the number of a record that any peer may have seen is never used again
for another value.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

import anyio
from anyio import lowlevel, to_thread
from anyio.abc import TaskGroup

from ipvcs.errors import IpvcsError, UnavailableError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.naming.name_path import NamePath
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.name_table import KnownName, NameTable, OwnName
from ipvcs.node.naming.record import IpnsRecord
from ipvcs.node.naming.record_search import RecordSearch
from ipvcs.node.naming.sending import Sending
from ipvcs.node.naming.succession import NameChangedError, State, check_times, merge, renew, state_of, succeed
from ipvcs.node.naming.validator import routing_key
from ipvcs.node.routing.interface import InvalidValueError, ValueNotTakenError, ValueRouting, ValueWatch

_log = logging.getLogger(__name__)

LIFETIME: Final = 48 * 3600.0
"""Seconds that a record is valid. Kubo's Ipns.RecordLifetime."""
TTL: Final = 300.0
"""Seconds that a record may be cached. Kubo's."""
TIMEOUT: Final = 60.0
"""Seconds to put a record where it belongs, as long as Kubo gives a publish."""
FIRST_LOOK: Final = 5.0
"""Seconds to find out whether a name that we never published has a record: a key may have come from another home."""


class NotAnnouncedError(UnavailableError):
    """A record is stored here, and no peer has it yet."""

    def __init__(self, name: PeerId, reason: str) -> None:
        super().__init__(
            f"published '{name.to_base36()}' here only: {reason}",
            hint="the daemon tries again by itself; connect to a peer with `ipvcs swarm connect <address>`, "
            "or publish with `--allow-offline`",
        )
        self.name = name
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Published:
    """What was published. `accepted` is how many peers took the record, as far as is known: 0 only where that is
    allowed, and then `trouble` says why.
    """

    name: PeerId
    path: str
    record: IpnsRecord
    accepted: int
    takers: tuple[PeerId, ...] = ()
    """Who they are, where `patience` was given."""
    trouble: str = ""
    rival: IpnsRecord | None = None
    """A record that peers have rather than ours: somebody else publishes under this name."""

    @property
    def sequence(self) -> int:
        """The record's sequence number."""
        return self.record.sequence


class Publisher:
    """Publishes under names whose keys it is given. Any number of tasks may use one."""

    def __init__(
        self,
        table: NameTable,
        store: NameStore,
        routing: ValueRouting,
        search: RecordSearch,
        wall: Callable[[], float],
        *,
        on_published: Callable[[PeerId, OwnName, bool], None] = lambda _name, _own, _announced: None,
    ) -> None:
        """Note in `table` and `store`, send by `routing`; `wall` gives seconds since 1970.

        `on_published` is told of every `publish` that came as far as the disk: name, record, whether a peer took it.
        """
        self._table = table
        self._store = store
        self._routing = routing
        self._search = search
        self._wall = wall
        self._on_published = on_published
        self.background: TaskGroup | None = None
        """Where sending goes on when `publish` has returned; needed for `patience`."""
        self._sendings: dict[PeerId, Sending] = {}
        self._locks: WeakValueDictionary[PeerId, anyio.Lock] = WeakValueDictionary()

    async def publish(
        self,
        key: PrivateKey,
        value: str,
        *,
        lifetime: float = LIFETIME,
        ttl: float = TTL,
        sequence: int | None = None,
        expect: State | None = None,
        allow_offline: bool = False,
        timeout: float = TIMEOUT,
        patience: float | None = None,
    ) -> Published:
        """Let the name of `key` point at `value`: `/ipfs/<cid>[/path]`, a CID, or `/ipns/<name>[/path]`.

        Cancelled, or failed with NotAnnouncedError, it may be stored and be announced later.

        Args:
            key: the name's.
            value: where it is to lead; what is there is not looked at.
            lifetime: seconds until the record expires unless it is renewed, which the service does.
            ttl: seconds for which others may cache it.
            sequence: the number to use; None: the next one if something changes.
            expect: publish only if this is the name's state, as a `Resolved` of it says; None: whatever it is.
            allow_offline: that no peer took the record is no error.
            timeout: seconds for the network.
            patience: return when the first peer took the record, or after so many seconds even if none did, which is
                no error; sending goes on. Peers are asked what they have before they are sent the record; of a rival
                that is there first the caller is told by NameChangedError. None: return when all is done.

        Raises:
            PathSyntaxError, CidError, LifetimeError, RecordTooLargeError: that can't be published.
            NameChangedError, SequenceError: somebody published meanwhile; the number is taken.
            NotAnnouncedError: no peer took it.
            DiskError: it could not be stored, and was not published.
        """
        path = str(NamePath.parse(value, "ipfs"))
        check_times(lifetime, ttl)
        name = key.peer_id
        async with self._lock(name):
            if self._table.try_get(name) is None:
                await self._look(name, min(FIRST_LOOK, timeout))

            before: OwnName | None = None

            def change(known: KnownName | None, now: float) -> OwnName:
                nonlocal before
                before = None if known is None else known.own
                return succeed(
                    key,
                    known,
                    path,
                    lifetime=lifetime,
                    ttl=ttl,
                    now=now,
                    sequence=sequence,
                    expect=expect,
                )

            own = await self._change_own(name, change)
            await self._stop_sending(name)
            if patience is not None:
                return await self._publish_patiently(name, path, own, before, timeout, patience)
            try:
                accepted = await self._announce_first(name, own, timeout)
            except (InvalidValueError, NotAnnouncedError) as exc:
                # Maybe somebody else has the key and was ahead of us; unless the caller must know, we go on from there.
                rival = await self._find_rival(name, min(FIRST_LOOK, timeout)) if _is_refusal(exc) else None
                if rival is not None and (sequence is not None or expect is not None):
                    await self._withdraw(name, own, before, rival)
                    raise NameChangedError(name, _state(own.record), _state(rival)) from None
                if rival is not None:
                    own = await self._change_own(name, change)
                    accepted = await self._announce_first(name, own, timeout, allow_offline)
                elif allow_offline and isinstance(exc, NotAnnouncedError):
                    accepted = 0
                else:
                    raise
        return Published(name, path, own.record, accepted)

    async def _publish_patiently(
        self, name: PeerId, path: str, own: OwnName, before: OwnName | None, timeout: float, patience: float
    ) -> Published:
        assert self.background is not None, "sending goes on somewhere"
        sending = self._sendings[name] = Sending(name, own.record)
        send = partial(self._announce_first, name, own, timeout, watch=sending)
        self.background.start_soon(sending.run, send)
        await sending.wait(patience)
        rival = sending.rival
        if not sending.takers:
            if rival is None and sending.failure is not None and _is_refusal(sending.failure):
                rival = await self._find_rival(name, min(FIRST_LOOK, timeout))
            if rival is not None:
                await sending.stop()
                await self._withdraw(name, own, before, rival)
                raise NameChangedError(name, _state(own.record), _state(rival))
            trouble = _reason(sending.failure) or f"no peer took it within {patience:g} s"
            return Published(name, path, own.record, 0, trouble=trouble)
        if rival is not None:
            self._table.observe(name, rival, self._wall())
        takers = tuple(sending.takers)
        return Published(name, path, own.record, len(takers), takers, rival=rival)

    async def republish(self, name: PeerId, key: PrivateKey | None, *, timeout: float = TIMEOUT) -> int:
        """Renew the record of a name of ours and send it again; return how many peers took it.

        Without its `key` the record is sent as it is, as long as it is valid. The network is asked first: when it has
        another one that counts, nothing is sent, and above all nothing renewed, which would win over it. Whoever
        published that is ahead of us.

        Raises:
            NotAnnouncedError: no peer took it, or there is nothing to send.
            DiskError: the renewed record could not be stored, and was not sent.
        """
        async with self._lock(name):
            await self._look(name, min(FIRST_LOOK, timeout))

            def change(known: KnownName | None, now: float) -> OwnName:
                if known is None or known.own is None:
                    raise NotAnnouncedError(name, "its record was taken back")
                if key is None or not known.is_ours:
                    return known.own
                return renew(key, known.own, now)

            own = await self._change_own(name, change)
            known = self._table.try_get(name)
            if known is not None and not known.is_ours:
                raise NotAnnouncedError(name, "somebody else published a newer record")
            if not own.record.is_valid_at(self._wall()):
                raise NotAnnouncedError(name, "its record has expired, and its key can't be read")
            await self._stop_sending(name)
            try:
                return await self._announce(name, own, timeout)
            except (InvalidValueError, NotAnnouncedError) as exc:
                if _is_refusal(exc):
                    await self._look(name, min(FIRST_LOOK, timeout))
                if isinstance(exc, NotAnnouncedError):
                    raise
                raise NotAnnouncedError(name, str(exc)) from exc

    def _lock(self, name: PeerId) -> anyio.Lock:
        """Return what keeps an older record of `name` from being sent after a newer one."""
        return self._locks.setdefault(name, anyio.Lock())

    async def _change_own(self, name: PeerId, change: Callable[[KnownName | None, float], OwnName]) -> OwnName:
        """Put what `change` makes of all that is known of `name`, at the present time, on the disk and in the table.

        `change` runs in a thread, while no other process can write.
        """
        seen, now = self._table.try_get(name), self._wall()

        def change_row(stored: KnownName | None) -> KnownName:
            known = merge(stored, seen)
            return replace(known or KnownName(), own=change(known, now))

        with anyio.CancelScope(shield=True):  # the thread goes on anyway, and the table must hear of it
            row = await to_thread.run_sync(self._store.change_own, name, change_row)
            assert row.own is not None
            self._table.set_own(name, own := row.own)
        await lowlevel.checkpoint_if_cancelled()
        return own

    async def _withdraw(self, name: PeerId, own: OwnName, before: OwnName | None, rival: IpnsRecord) -> None:
        """Take back what nobody got, or renewed it would one day win over the record that was there first."""

        def change_row(stored: KnownName | None) -> KnownName:
            if stored is None or stored.own is None or stored.own.record != own.record:
                return stored or KnownName()  # another process went on from there
            return replace(stored, own=before, fork=None)

        with anyio.CancelScope(shield=True):
            row = await to_thread.run_sync(self._store.change_own, name, change_row)
            self._table.withdraw(name, row.own, rival, self._wall())

    async def _stop_sending(self, name: PeerId) -> None:
        """Have done with an older record that may still be on its way."""
        if (sending := self._sendings.pop(name, None)) is not None:
            await sending.stop()

    async def _announce_first(
        self,
        name: PeerId,
        own: OwnName,
        timeout: float,
        allow_offline: bool = False,
        watch: ValueWatch | None = None,
    ) -> int:
        """Send a record that was just made, and tell whether it was taken: as `_announce`."""
        announced, accepted = False, 0
        try:
            accepted = await self._announce(name, own, timeout, watch)
            announced = True
        except NotAnnouncedError:
            if not allow_offline:
                raise
        finally:
            self._on_published(name, own, announced)
        return accepted

    async def _announce(self, name: PeerId, own: OwnName, timeout: float, watch: ValueWatch | None = None) -> int:
        """Send the record; return how many peers took it. Raises NotAnnouncedError, InvalidValueError."""
        try:
            with anyio.fail_after(timeout):
                accepted = await self._routing.set_value(routing_key(name), own.record.raw, watch=watch)
        except TimeoutError as exc:
            raise NotAnnouncedError(name, f"no peer took it within {timeout:g} s") from exc
        except UnavailableError as exc:
            raise NotAnnouncedError(name, str(exc)) from exc
        await self._note_announced(name, own)
        return accepted

    async def _note_announced(self, name: PeerId, own: OwnName) -> None:
        """Remember that the network has the record. If that fails, it is published once more than need be."""

        def change(known: KnownName | None, now: float) -> OwnName:
            current = own if known is None or known.own is None else known.own
            same = current.record.sequence == own.record.sequence
            return replace(current, announced=now) if same else current

        try:
            await self._change_own(name, change)
        except IpvcsError as exc:
            _log.warning("cannot note that %s was published: %s", name.to_base36(), exc)

    async def _find_rival(self, name: PeerId, timeout: float) -> IpnsRecord | None:
        """Return the record of somebody else that is not behind ours; None when the network has none."""
        await self._look(name, timeout)
        return _rival(self._table.try_get(name))

    async def _look(self, name: PeerId, timeout: float) -> None:
        """Take note of what the network has of `name`; that it has nothing, or can't be asked, is no error."""
        async with self._search.search(name, quorum=0, deadline=anyio.current_time() + timeout) as found:
            async for _record, _verdict in found:
                pass


def _is_refusal(error: IpvcsError) -> bool:
    """Tell whether peers that were asked did not take a record: they may have a better one, which they do not say."""
    return isinstance(error, InvalidValueError) or isinstance(error.__cause__, ValueNotTakenError)


def _reason(error: IpvcsError | None) -> str:
    """Return why a record was not announced, in the words of whoever knows it first hand."""
    return "" if error is None else error.reason if isinstance(error, NotAnnouncedError) else str(error)


def _rival(known: KnownName | None) -> IpnsRecord | None:
    """Return the record that somebody else published under a name of ours, if it is not behind ours."""
    if known is None:
        return None
    if not known.is_ours:
        return known.best
    return None if known.open_fork is None else known.open_fork[1]


def _state(record: IpnsRecord) -> State:
    return state_of(KnownName(record))
