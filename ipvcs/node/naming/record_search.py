"""Searches of the network for a name's records: each is checked, and noted in the table, before anybody sees it.

Routing promises valid values, each better than the last. We check them all the same: that promise is other people's
code, and what a name points at is worth a signature more.
"""

import logging
import math
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ipvcs.errors import IpvcsError, UnavailableError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.name_table import NameTable, Verdict
from ipvcs.node.naming.record import InvalidRecordError, IpnsRecord
from ipvcs.node.naming.validator import routing_key
from ipvcs.node.routing.interface import ValueRouting

_log = logging.getLogger(__name__)

_MAX_INVALID: Final = 64
"""Values that are no valid record, after which a search that brings nothing else is given up: a router gone wrong."""


class SearchTimeoutError(UnavailableError):
    """A search was not over when its time was."""

    def __init__(self, name: PeerId) -> None:
        super().__init__(f"the search for the records of '{name.to_base36()}' took too long")
        self.name = name


@dataclass(eq=False, slots=True)
class FoundRecords:
    """The records of one search as they come, with what the table says of each; `failure` and `invalid` when over."""

    name: PeerId
    _records: MemoryObjectReceiveStream[tuple[IpnsRecord, Verdict]]
    failure: IpvcsError | None = field(default=None)
    """Why the search ended early, if it did."""
    invalid: int = 0
    """How many values were no valid record of the name."""

    def __aiter__(self) -> AsyncIterator[tuple[IpnsRecord, Verdict]]:
        return self

    async def __anext__(self) -> tuple[IpnsRecord, Verdict]:
        return await self._records.__anext__()


class RecordSearch:
    """Searches on behalf of whoever resolves or publishes."""

    def __init__(self, routing: ValueRouting, table: NameTable, wall: Callable[[], float]) -> None:
        """Search by `routing`, note in `table`; `wall` gives seconds since 1970."""
        self._routing = routing
        self._table = table
        self._wall = wall

    def search(
        self, name: PeerId, *, quorum: int, deadline: float, patience: float = math.inf
    ) -> AbstractAsyncContextManager[FoundRecords]:
        """Stream the valid records of `name` until `quorum` peers have answered or the event loop's clock says
        `deadline`; once there is one, until it says `patience`. That there are none, or nobody to ask, is no error
        here: see `FoundRecords.failure`.

            async with search.search(name, quorum=16, deadline=anyio.current_time() + 5) as found:
                async for record, verdict in found: ...

        Leaving the block ends the search. What it raises leaves as it is, in no group.
        """
        return self._search(name, quorum, deadline, patience)

    @asynccontextmanager
    async def _search(
        self, name: PeerId, quorum: int, deadline: float, patience: float
    ) -> AsyncGenerator[FoundRecords]:
        send, receive = anyio.create_memory_object_stream[tuple[IpnsRecord, Verdict]](0)
        found = FoundRecords(name, receive)
        error: Exception | None = None
        async with receive, anyio.create_task_group() as tasks:
            tasks.start_soon(self._pump, found, send, quorum, deadline, patience)
            try:
                yield found
            except Exception as exc:  # only carried past the task group, which would wrap it
                error = exc
            tasks.cancel_scope.cancel()
        if error is not None:
            raise error

    async def _pump(
        self,
        found: FoundRecords,
        send: MemoryObjectSendStream[tuple[IpnsRecord, Verdict]],
        quorum: int,
        deadline: float,
        patience: float,
    ) -> None:
        async with send:
            with anyio.CancelScope(deadline=deadline) as scope:
                try:
                    async with self._routing.search_value(routing_key(found.name), quorum=quorum) as values:
                        async for raw in values:
                            if (checked := self._check(found, raw)) is not None:
                                await send.send(checked)
                                scope.deadline = min(scope.deadline, patience)
                            elif found.invalid >= _MAX_INVALID:
                                break
                except IpvcsError as exc:
                    found.failure = exc
            if scope.cancelled_caught:
                found.failure = SearchTimeoutError(found.name)

    def _check(self, found: FoundRecords, raw: bytes) -> tuple[IpnsRecord, Verdict] | None:
        now = self._wall()
        try:
            record = IpnsRecord.decode(raw)
            record.verify(found.name)
            record.check_validity(now)
        except InvalidRecordError as exc:
            found.invalid += 1
            _log.debug("passed over a record of %s: %s", found.name.to_base36(), exc)
            return None
        return record, self._table.observe(found.name, record, now)
