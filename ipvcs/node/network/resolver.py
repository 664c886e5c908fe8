"""From addresses with DNS names to addresses that can be dialled: `/dns`, `/dns4`, `/dns6` and `/dnsaddr`.

    /dns4/example.com/tcp/4001       an A record; the rest stays behind it (/dns6: AAAA, /dns: both)
    /dnsaddr/example.com/p2p/<id>    TXT records `dnsaddr=<multiaddr>` at _dnsaddr.example.com; only those that end in
                                     what stands behind the name. What they name may again need resolving

Whoever writes those records is not trusted: how deep names lead to names, how many questions are asked, how many
addresses come out and how long it takes are bounded, and an address that names a peer never yields another peer's.

Names count in front only: `/ip4/…/dns/…` means nothing.

Spec: https://github.com/multiformats/multiaddr/blob/master/protocols/DNSADDR.md
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final, TypeAlias

import anyio

from ipvcs.errors import DecodeError, UnavailableError
from ipvcs.multiformats import varint
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.addresses import needs_resolution, with_ip
from ipvcs.node.network.dns_client import Answer, DnsClient, DnsError, Lookup, QueryType

MAX_DEPTH: Final = 4
"""How often a name may lead to another (go-libp2p's bound). The public bootstrap names need two."""
MAX_LOOKUPS: Final = 32
"""Questions for one address, all levels together; and addresses with names that are looked at on one level."""
MAX_RESULTS: Final = 32
"""Addresses that one resolves to: as many as the address book keeps of a peer."""
DEADLINE: Final = 10.0
"""Seconds for one address. What was found by then is returned."""
MIN_TTL: Final = 10.0
"""Seconds; 0 would mean a question a dial."""
MAX_TTL: Final = 3600.0
"""Seconds; a record's author may say a century."""
MAX_CACHED: Final = 1024
"""Answers kept."""

_DNS: Final = 0x35
_DNS4: Final = 0x36
_DNS6: Final = 0x37
_DNSADDR: Final = 0x38
_QUERY_TYPES: Final[dict[int, tuple[QueryType, ...]]] = {
    _DNS: ("AAAA", "A"),
    _DNS4: ("A",),
    _DNS6: ("AAAA",),
    _DNSADDR: ("TXT",),
}
_TXT_PREFIX: Final = "dnsaddr="

_Question: TypeAlias = tuple[str, QueryType]


class ResolveError(UnavailableError):
    """An address with a name led to none that can be dialled. `reasons` says what happened, one a failed step."""

    def __init__(self, addr: Multiaddr, reasons: tuple[str, ...]) -> None:
        super().__init__(
            f"cannot resolve '{addr}': {'; '.join(reasons[:3])}",
            hint="check the name and this machine's DNS settings",
        )
        self.addr = addr
        self.reasons = reasons


@dataclass(slots=True)
class _Search:
    """The state of one resolution."""

    wanted: PeerId | None
    pending: list[Multiaddr]
    """What still has a name in front, all at one depth."""
    seen: set[Multiaddr] = field(default_factory=set)
    found: dict[Multiaddr, None] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)
    lookups: int = 0

    def give_up(self, reason: str) -> None:
        self.reasons[reason] = None


class AddressResolver:
    """Resolves addresses and remembers what DNS said. Any number of tasks may use one."""

    def __init__(self, lookup: Lookup | None = None, *, clock: Callable[[], float] = anyio.current_time) -> None:
        """Ask by `lookup`; None: as the system is configured. `clock` never goes back."""
        self._lookup = lookup if lookup is not None else DnsClient()
        self._clock = clock
        self._cache: OrderedDict[_Question, tuple[float, Answer]] = OrderedDict()

    async def resolve(self, addr: Multiaddr) -> list[Multiaddr]:
        """Return the addresses that `addr` leads to, each once and none with a name; without a name, `addr` itself.

        They keep their `/p2p`, and if `addr` has one all of them have the same. Takes `DEADLINE` seconds at most;
        cancelling loses only what was not answered yet.

        Raises:
            ResolveError: there is none.
        """
        if not needs_resolution(addr):
            return [addr]
        search = _Search(addr.peer_id, [addr], {addr})
        end = anyio.current_time() + DEADLINE
        depth = 0
        while search.pending and len(search.found) < MAX_RESULTS:
            if depth > MAX_DEPTH:
                search.give_up(f"names lead to names more than {MAX_DEPTH} deep")
                break
            answers: dict[_Question, Answer | DnsError] = {}
            with anyio.CancelScope(deadline=end) as scope:
                await self._ask(search, answers)
            self._take_answers(search, answers)
            if scope.cancelled_caught:
                search.give_up(f"no answer within {DEADLINE:g} s")
                break
            depth += 1
        if not search.found:
            nowhere = "its records lead nowhere" if search.wanted is None else "its records have nothing for that peer"
            raise ResolveError(addr, tuple(search.reasons) or (nowhere,))
        return list(search.found)

    async def _ask(self, search: _Search, answers: dict[_Question, Answer | DnsError]) -> None:
        """Fill `answers` for all that is pending, at the same time, as far as questions are left."""
        questions = list(dict.fromkeys(question for addr in search.pending for question in _questions(addr)))
        allowed = MAX_LOOKUPS - search.lookups
        if len(questions) > allowed:
            search.give_up(f"it takes more than {MAX_LOOKUPS} lookups")
        search.lookups += min(len(questions), allowed)

        async def ask(question: _Question) -> None:
            try:
                answers[question] = await self._ask_cached(question)
            except DnsError as exc:
                answers[question] = exc

        async with anyio.create_task_group() as tasks:
            for question in questions[:allowed]:
                tasks.start_soon(ask, question)

    async def _ask_cached(self, question: _Question) -> Answer:
        if (cached := self._cache.get(question)) is not None:
            expires, answer = cached
            if self._clock() < expires:
                return answer
            del self._cache[question]
        answer = await self._lookup(*question)
        self._cache[question] = (self._clock() + min(max(answer.ttl, MIN_TTL), MAX_TTL), answer)
        self._cache.move_to_end(question)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return answer

    def _take_answers(self, search: _Search, answers: dict[_Question, Answer | DnsError]) -> None:
        """Turn what is pending, by `answers`, into what is found and what is pending next."""
        before, search.pending = search.pending, []
        for addr in before:
            name, code, rest = _split_name(addr)
            any_value = False
            for question in _questions(addr):
                answer = answers.get(question)
                if isinstance(answer, DnsError):
                    search.give_up(f"{question[0]}: {answer.reason}")
                    any_value = True
                elif answer is not None:
                    any_value = any_value or bool(answer.values)
                    self._take_values(search, answer.values, code, rest)
                else:
                    any_value = True  # not asked, and why is noted
            if not any_value:
                search.give_up(f"{name} has no {' or '.join(kind for _name, kind in _questions(addr))} record")

    def _take_values(self, search: _Search, values: tuple[str, ...], code: int, rest: bytes) -> None:
        for result in _from_texts(values, rest) if code == _DNSADDR else _from_ips(values, rest):
            if search.wanted is not None and result.peer_id != search.wanted:
                continue
            if not needs_resolution(result):
                if len(search.found) < MAX_RESULTS:
                    search.found[result] = None
            elif result not in search.seen:
                if len(search.pending) == MAX_LOOKUPS:
                    search.give_up(f"names lead to more than {MAX_LOOKUPS} names")
                    break
                search.seen.add(result)
                search.pending.append(result)


def _split_name(addr: Multiaddr) -> tuple[str, int, bytes]:
    """Return (the name in front, its protocol's code, the components behind it)."""
    size, start = varint.decode(addr.raw, 1)
    return addr.raw[start : start + size].decode().lower(), addr.raw[0], addr.raw[start + size :]


def _questions(addr: Multiaddr) -> list[_Question]:
    name, code, _rest = _split_name(addr)
    return [(f"_dnsaddr.{name}" if code == _DNSADDR else name, kind) for kind in _QUERY_TYPES[code]]


def _from_ips(values: tuple[str, ...], rest: bytes) -> Iterator[Multiaddr]:
    for value in values:
        try:
            yield with_ip(ip_address(value), rest)
        except DecodeError:  # one byte too long now
            continue


def _from_texts(values: tuple[str, ...], rest: bytes) -> Iterator[Multiaddr]:
    """TXT records are for many purposes: what is not ours, or not right, is passed over."""
    for value in values:
        if not value.startswith(_TXT_PREFIX):
            continue
        try:
            addr = Multiaddr.parse(value[len(_TXT_PREFIX) :])
        except DecodeError:
            continue
        if addr.raw.endswith(rest):
            yield addr
