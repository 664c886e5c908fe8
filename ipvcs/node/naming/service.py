"""Naming at work: the table loaded and saved, names of ours republished, publishing and resolving for everybody.

The composition of this folder, and its only tasks. A kill loses a minute of what was seen of others' names, and nothing
of what we published.
"""

import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Self

import anyio
from anyio import to_thread

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.naming.dnslink import DnsLinks
from ipvcs.node.naming.name_path import NameSyntaxError
from ipvcs.node.naming.name_store import NameStore
from ipvcs.node.naming.name_table import ForkError, NameTable, OwnName
from ipvcs.node.naming.own_keys import OwnKeys
from ipvcs.node.naming.publisher import LIFETIME, TIMEOUT, TTL, Published, Publisher
from ipvcs.node.naming.record_search import RecordSearch
from ipvcs.node.naming.republish_plan import PERIOD, RepublishPlan
from ipvcs.node.naming.resolver import QUORUM, Resolved, Resolver
from ipvcs.node.naming.resolver import TIMEOUT as RESOLVE_TIMEOUT
from ipvcs.node.naming.succession import State
from ipvcs.node.network.dns_client import Lookup
from ipvcs.node.network.interface import Connection
from ipvcs.node.routing.interface import ValueRouting
from ipvcs.storage.datastore import Datastore

_log = logging.getLogger(__name__)

SAVE_INTERVAL: Final = 60.0
"""Seconds between writes of what was seen."""


class NameService:
    """Names. Use `open`. It is a `Notifiee` of the swarm."""

    def __init__(
        self,
        datastore: Datastore,
        routing: ValueRouting,
        keys: OwnKeys,
        lookup: Lookup,
        *,
        period: float,
        lifetime: float,
        wall: Callable[[], float],
        jitter: Callable[[], float],
        wait_joined: Callable[[], Awaitable[None]],
    ) -> None:
        self.table = NameTable()
        self._store = NameStore(datastore)
        self._keys = keys
        self._lifetime = lifetime
        self._wall = wall
        self._wait_joined = wait_joined
        self._plan = RepublishPlan(jitter, period)
        self._replan = anyio.Event()
        search = RecordSearch(routing, self.table, wall)
        self._publisher = Publisher(self.table, self._store, routing, search, wall, on_published=self._on_published)
        self._resolver = Resolver(self.table, search, DnsLinks(lookup), self._find_key, wall)
        self._saving = anyio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        datastore: Datastore,
        routing: ValueRouting,
        keys: OwnKeys,
        lookup: Lookup,
        *,
        period: float = PERIOD,
        lifetime: float = LIFETIME,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
        wait_joined: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint,
    ) -> AsyncGenerator[Self]:
        """Run the service within the block.

        Args:
            datastore: the home's.
            routing: where records are put and looked for.
            keys: what we publish with.
            lookup: asks DNS.
            period: seconds between publishings of a name (`Ipns.RepublishPeriod`).
            lifetime: seconds that a record is valid unless its publisher says otherwise (`Ipns.RecordLifetime`).
            wall: seconds since 1970.
            jitter: numbers from 0 to 1.
            wait_joined: returns when there should be peers, if there ever are: right after the start that takes some
                seconds, and who asks for the newest or publishes with patience waits for it.

        Raises:
            DiskError: the table can't be read.
        """
        service = cls(
            datastore,
            routing,
            keys,
            lookup,
            period=period,
            lifetime=lifetime,
            wall=wall,
            jitter=jitter,
            wait_joined=wait_joined,
        )
        for name, known in await to_thread.run_sync(service._store.load):
            service.table.restore(name, known)
        service._plan.start(service.table.own(), anyio.current_time(), wall())
        async with anyio.create_task_group() as tasks:
            service._publisher.background = tasks
            tasks.start_soon(service._keep_saving)
            tasks.start_soon(service._keep_republishing)
            try:
                yield service
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await service._save()

    @property
    def has_published(self) -> bool:
        """Whether there is a name of ours to be kept alive: a reason for an idle daemon to stay."""
        return bool(self.table.own())

    async def publish(
        self,
        value: str,
        *,
        key: str | PrivateKey = "self",
        lifetime: float | None = None,
        ttl: float = TTL,
        sequence: int | None = None,
        expect: State | None = None,
        allow_offline: bool = False,
        timeout: float = TIMEOUT,
        patience: float | None = None,
    ) -> Published:
        """Let the name of `key`, or of the key of ours that is called so, point at `value`: see `Publisher.publish`.

        Raises:
            KeyNotFoundError, WrongPassphraseError: there is no such key, or it can't be opened.
        """
        if patience is not None:
            await self._wait_joined()
        private_key = key if isinstance(key, PrivateKey) else await to_thread.run_sync(self._keys.get, key)
        return await self._publisher.publish(
            private_key,
            value,
            lifetime=self._lifetime if lifetime is None else lifetime,
            ttl=ttl,
            sequence=sequence,
            expect=expect,
            allow_offline=allow_offline,
            timeout=timeout,
            patience=patience,
        )

    async def resolve(
        self,
        name: str,
        *,
        recursive: bool = True,
        nocache: bool = False,
        newest: bool = False,
        quorum: int = QUORUM,
        timeout: float = RESOLVE_TIMEOUT,
    ) -> Resolved:
        """Return where `name` leads: see `Resolver.resolve`."""
        if newest:
            await self._wait_joined()
        return await self._resolver.resolve(
            name, recursive=recursive, nocache=nocache, newest=newest, quorum=quorum, timeout=timeout
        )

    def search(
        self,
        name: str,
        *,
        recursive: bool = True,
        nocache: bool = False,
        newest: bool = False,
        quorum: int = QUORUM,
        timeout: float = RESOLVE_TIMEOUT,
    ) -> AbstractAsyncContextManager[AsyncIterator[Resolved]]:
        """Stream where `name` leads, as far as is known so far: see `Resolver.search`."""
        return self._resolver.search(
            name, recursive=recursive, nocache=nocache, newest=newest, quorum=quorum, timeout=timeout
        )

    async def forget(self, name: str) -> tuple[PeerId, bool]:
        """Forget what was seen of `name`, a NodeId or what we call a key of ours, here and on the disk.

        What we published under it stays. Returns (the name, whether anything was known of it).

        Raises:
            NameSyntaxError: it is neither.
            DiskError: it can't be written; it is forgotten until a restart.
        """
        peer_id = await self.name_of(name)
        found = self.table.forget(peer_id)
        await self._write()
        return peer_id, found

    async def name_of(self, text: str) -> PeerId:
        """Return the name that `text` writes: a NodeId, or what we call a key of ours; `/ipns/` before it is allowed.

        Raises:
            NameSyntaxError: it is neither.
        """
        root = text.removeprefix("/ipns/")
        try:
            return PeerId.parse(root)
        except IpvcsError:
            if (peer_id := await self._find_key(root)) is None:
                raise NameSyntaxError(text) from None
            return peer_id

    def forks(self) -> tuple[ForkError, ...]:
        """Return every fork that was seen and not forgotten."""
        return tuple(self.table.forks())

    def connected(self, connection: Connection) -> None:
        """Note that there may be somebody to take what nobody took."""
        del connection
        self._plan.peer_came(anyio.current_time())
        self._replan.set()

    def disconnected(self, connection: Connection) -> None:
        """Do nothing."""

    async def _find_key(self, name: str) -> PeerId | None:
        names: Mapping[str, PeerId] = await to_thread.run_sync(self._keys.names)
        return names.get(name)

    def _on_published(self, name: PeerId, own: OwnName, announced: bool) -> None:
        self._plan.done(name, own, anyio.current_time(), announced=announced)
        self._replan.set()

    async def _keep_republishing(self) -> None:
        while True:
            due = self._plan.next_due()
            with anyio.CancelScope(deadline=float("inf") if due is None else due):
                await self._replan.wait()
            self._replan = anyio.Event()
            for name in self._plan.due(anyio.current_time()):
                await self._republish(name)

    async def _republish(self, name: PeerId) -> None:
        if (own := self.table.own().get(name)) is None:
            self._plan.drop(name)  # its first record was taken back
            return
        announced = False
        try:
            key = await to_thread.run_sync(self._keys.find, name)
            accepted = await self._publisher.republish(name, key)
            announced = True
            _log.info("republished a name", extra={"ipns": name.to_base36(), "peers": accepted})
        except IpvcsError as exc:
            _log.warning("cannot republish a name, and will try again: %s", exc)
        finally:  # with what is published now: another lifetime may have been asked for while we waited
            self._plan.done(name, self.table.own().get(name, own), anyio.current_time(), announced=announced)

    async def _keep_saving(self) -> None:
        while True:
            await anyio.sleep(SAVE_INTERVAL)
            await self._save()

    async def _save(self) -> None:
        try:
            await self._write()
        except IpvcsError as exc:
            _log.warning("cannot write the table of names: %s", exc)

    async def _write(self) -> None:
        async with self._saving:
            changes = self.table.take_unsaved()
            if not changes:
                return
            try:
                await to_thread.run_sync(partial(self._store.write, changes))
            except BaseException:  # cancelled while it waited for a thread, too: then it has written nothing
                self.table.mark_unsaved(changes)
                raise
