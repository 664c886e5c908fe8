"""A network of records for tests: it answers with what it is told, late, never, or wrongly."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field

import anyio

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.record import IpnsRecord
from ipvcs.node.naming.validator import IpnsValidator, routing_key
from ipvcs.node.network.dns_client import NEGATIVE_TTL, Answer, DnsError, QueryType
from ipvcs.node.routing.interface import InvalidValueError, NoRoutingPeersError, ValueNotTakenError, ValueWatch
from tests.unit.node.naming.records import BOB, CAROL, NOW


def wall() -> float:
    """Seconds since 1970 on the mock clock."""
    return NOW + anyio.current_time()


@dataclass
class FakeRouting:
    """Keeps `ValueRouting`'s promises unless told otherwise."""

    answers: dict[PeerId, list[IpnsRecord | bytes | float]] = field(default_factory=dict)
    """What a search for a name brings, in order, records or other bytes; a number: so many seconds pass first."""
    peers: int = 8
    """How many take a value; 0: there is nobody to ask."""
    delay: float = 0.0
    """Seconds that a value takes to be stored."""
    error: IpvcsError | None = None
    """What a store fails with."""
    stored: list[tuple[float, IpnsRecord]] = field(default_factory=list)
    """When a record was taken, and which."""
    rivals: list[IpnsRecord] = field(default_factory=list)
    """What some peers have: who watches is asked about each, after its own was taken by the others."""
    takes_anyway: bool = True
    """Whether there are others, which have none of these."""
    first: float | None = None
    """Seconds until the first peer took a value, when that is earlier than all."""
    searches: list[tuple[PeerId, int]] = field(default_factory=list)
    open_searches: int = 0

    def set(self, name: PeerId, *answers: IpnsRecord | bytes | float) -> None:
        self.answers[name] = list(answers)

    async def set_value(self, key: bytes, value: bytes, *, watch: ValueWatch | None = None) -> int:
        if watch is not None and self.first is not None:
            await anyio.sleep(self.first)
            watch.taken(CAROL.peer_id)
        await anyio.sleep(self.delay)
        if self.error is not None:
            raise self.error
        if not self.peers:
            raise NoRoutingPeersError
        IpnsValidator().validate(key, value, wall())
        name, record = PeerId.decode(key.removeprefix(b"/ipns/")), IpnsRecord.decode(value)
        there = [each for each in self.answers.get(name, []) if isinstance(each, IpnsRecord)]
        if there and max(each.rank for each in there) > record.rank:
            raise InvalidValueError("a better one is known")
        if watch is not None:
            refused = [rival for rival in self.rivals if not watch.may_replace(rival.raw)]
            if refused and not self.takes_anyway:
                raise ValueNotTakenError(key, len(refused))
            watch.taken(BOB.peer_id)
        self.stored.append((anyio.current_time(), record))
        self.set(name, record)
        return self.peers

    @asynccontextmanager
    async def search_value(self, key: bytes, *, quorum: int = 0) -> AsyncGenerator[AsyncIterator[bytes]]:
        name = PeerId.decode(key.removeprefix(b"/ipns/"))
        assert routing_key(name) == key
        self.searches.append((name, quorum))
        if not self.peers:
            raise NoRoutingPeersError
        self.open_searches += 1
        try:
            async with aclosing(self._answers(name)) as answers:
                yield answers
        finally:
            self.open_searches -= 1

    async def _answers(self, name: PeerId) -> AsyncGenerator[bytes]:
        for answer in list(self.answers.get(name, [])):
            if isinstance(answer, float | int):
                await anyio.sleep(answer)
            else:
                yield answer.raw if isinstance(answer, IpnsRecord) else answer


@dataclass
class FakeDns:
    """TXT records by name; a name that is in `silent` gets no answer."""

    records: dict[str, list[str]] = field(default_factory=dict)
    ttl: float = 60.0
    silent: set[str] = field(default_factory=set)
    delay: float = 0.0
    asked: list[str] = field(default_factory=list)

    def link(self, domain: str, *paths: str) -> None:
        self.records[f"_dnslink.{domain}"] = [f"dnslink={path}" for path in paths]

    async def __call__(self, name: str, query_type: QueryType) -> Answer:
        assert query_type == "TXT"
        self.asked.append(name)
        await anyio.sleep(self.delay)
        if name in self.silent:
            raise DnsError(name, "no answer within 4 s")
        if name not in self.records:
            return Answer((), NEGATIVE_TTL)
        return Answer(tuple(self.records[name]), self.ttl)
