"""Naming without a network: answers and errors that a test gives it, and what it was asked."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.naming.publisher import Published
from ipvcs.node.naming.record import IpnsRecord
from ipvcs.node.naming.resolver import Resolved

KEY = generate_key()
NAME = KEY.peer_id


def resolved(path: str, *warnings: IpvcsError) -> Resolved:
    return Resolved(
        path=path, name=NAME.to_base36(), record=None, state=None, source="network", ttl=1.0, warnings=warnings
    )


@dataclass
class FakeNames:
    """Keeps to `Names`."""

    results: list[Resolved] = field(default_factory=list)
    error: IpvcsError | None = None
    """Raised after the results."""
    known: set[str] = field(default_factory=set)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    published: Published | None = None
    """What `publish` answers."""

    async def publish(self, value: str, *, key: str = "self", **options: Any) -> Published:
        self.asked.append((value, {"key": key, **options}))
        if self.error is not None:
            raise self.error
        if self.published is not None:
            return self.published
        record = IpnsRecord.sign(KEY, value.encode(), sequence=0, expires_ns=2 * 10**18, ttl_ns=0)
        return Published(NAME, value, record, 1)

    async def resolve(self, name: str, **options: Any) -> Resolved:
        self.asked.append((name, options))
        if self.error is not None:
            raise self.error
        return self.results[-1]

    @asynccontextmanager
    async def search(self, name: str, **options: Any) -> AsyncGenerator[AsyncIterator[Resolved]]:
        self.asked.append((name, options))
        async with aclosing(self._results()) as results:
            yield results

    async def _results(self) -> AsyncGenerator[Resolved]:
        for result in self.results:
            yield result
        if self.error is not None:
            raise self.error

    async def forget(self, name: str) -> tuple[PeerId, bool]:
        found = name in self.known
        self.known.discard(name)
        return NAME, found
