"""Ledgers at work: loaded from the home, kept by whoever sends and receives blocks, saved now and then."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final, Self

import anyio
from anyio import to_thread

from ipvcs.errors import IpvcsError
from ipvcs.node.exchange.ledger import Ledgers
from ipvcs.node.exchange.ledger_store import LedgerStore, collect
from ipvcs.storage.datastore import Datastore

_log = logging.getLogger(__name__)

SAVE_INTERVAL: Final = 60.0
"""Seconds between writes of what changed; a kill forgives that much."""


class LedgerService:
    """A table of ledgers, `ledgers`, and its copy on the disk. Use `open`."""

    def __init__(self, store: LedgerStore) -> None:
        self.ledgers = Ledgers()
        self._store = store

    @classmethod
    @asynccontextmanager
    async def open(cls, datastore: Datastore) -> AsyncGenerator[Self]:
        """Load what is known, and save what changes until the end of the block, where all is saved."""
        service = cls(LedgerStore(datastore))
        for peer_id, ledger in (await to_thread.run_sync(service._store.load)).items():
            service.ledgers.restore(peer_id, ledger)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service._keep_saving)
            try:
                yield service
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await service._save()

    async def _keep_saving(self) -> None:
        while True:
            await anyio.sleep(SAVE_INTERVAL)
            await self._save()

    async def _save(self) -> None:
        changes = collect(self.ledgers)
        try:
            await to_thread.run_sync(partial(self._store.write, changes))
        except IpvcsError as exc:
            _log.warning("cannot write the ledgers: %s", exc)
            self.ledgers.mark_unsaved(changes)
