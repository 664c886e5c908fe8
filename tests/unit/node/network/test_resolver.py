"""Addresses with names: what they lead to, and the bounds on who wrote the records."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network import resolver as resolver_module
from ipvcs.node.network.dns_client import Answer, DnsError, QueryType
from ipvcs.node.network.resolver import (
    DEADLINE,
    MAX_DEPTH,
    MAX_LOOKUPS,
    MAX_RESULTS,
    MAX_TTL,
    MIN_TTL,
    AddressResolver,
    ResolveError,
)

pytestmark = pytest.mark.anyio

M = Multiaddr.parse
ALICE, BOB = (PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32) for number in (1, 2))


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


Table = Mapping[tuple[str, QueryType], list[str] | str | float]


class ScriptedDns:
    """A `Lookup` that answers from a table: texts, an error's reason, or seconds of silence."""

    def __init__(self, table: Table, ttl: float = 60) -> None:
        self.table = dict(table)
        self.ttl = ttl
        self.asked: Counter[tuple[str, QueryType]] = Counter()

    async def __call__(self, name: str, query_type: QueryType) -> Answer:
        self.asked[name, query_type] += 1
        entry = self.table.get((name, query_type), [])
        if isinstance(entry, str):
            raise DnsError(name, entry)
        if isinstance(entry, float):
            await anyio.sleep(entry)
            raise DnsError(name, "no answer")
        return Answer(tuple(entry), self.ttl)


def txt(*texts: str) -> list[str]:
    return [f"dnsaddr={text}" for text in texts]


def texts_of(addrs: list[Multiaddr]) -> list[str]:
    return [str(addr) for addr in addrs]


async def test_an_address_without_a_name_is_its_own_answer_and_nothing_is_asked() -> None:
    dns = ScriptedDns({})
    addr = M(f"/ip4/1.2.3.4/tcp/4001/p2p/{ALICE}")
    assert await AddressResolver(dns).resolve(addr) == [addr]
    assert not dns.asked


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("dns4", ["/ip4/1.2.3.4/tcp/443/wss", "/ip4/1.2.3.5/tcp/443/wss"]),
        ("dns6", ["/ip6/2606:4700::1/tcp/443/wss"]),
        ("dns", ["/ip6/2606:4700::1/tcp/443/wss", "/ip4/1.2.3.4/tcp/443/wss", "/ip4/1.2.3.5/tcp/443/wss"]),
    ],
)
async def test_a_host_name_becomes_its_addresses_with_the_rest_behind(protocol: str, expected: list[str]) -> None:
    dns = ScriptedDns({("example.com", "A"): ["1.2.3.4", "1.2.3.5"], ("example.com", "AAAA"): ["2606:4700::1"]})
    assert texts_of(await AddressResolver(dns).resolve(M(f"/{protocol}/Example.com/tcp/443/wss"))) == expected


async def test_one_family_is_enough() -> None:
    dns = ScriptedDns({("example.com", "A"): ["1.2.3.4"], ("example.com", "AAAA"): "refused"})
    assert texts_of(await AddressResolver(dns).resolve(M("/dns/example.com/tcp/1"))) == ["/ip4/1.2.3.4/tcp/1"]


async def test_dnsaddr_is_followed_as_the_public_bootstrap_names_are_written() -> None:
    dns = ScriptedDns(
        {
            ("_dnsaddr.bootstrap.example", "TXT"): txt(
                f"/dnsaddr/one.bootstrap.example/p2p/{ALICE}", f"/dnsaddr/two.bootstrap.example/p2p/{BOB}"
            ),
            ("_dnsaddr.one.bootstrap.example", "TXT"): txt(
                f"/ip4/1.2.3.4/tcp/4001/p2p/{ALICE}", f"/dns4/one.example/tcp/443/wss/p2p/{ALICE}"
            ),
            ("_dnsaddr.two.bootstrap.example", "TXT"): txt(f"/ip6/2606:4700::2/tcp/4001/p2p/{BOB}"),
            ("one.example", "A"): ["1.2.3.5"],
        }
    )
    all_of_them = [
        f"/ip4/1.2.3.4/tcp/4001/p2p/{ALICE}",
        f"/ip6/2606:4700::2/tcp/4001/p2p/{BOB}",
        f"/ip4/1.2.3.5/tcp/443/wss/p2p/{ALICE}",
    ]

    assert texts_of(await AddressResolver(dns).resolve(M("/dnsaddr/bootstrap.example"))) == all_of_them
    assert texts_of(await AddressResolver(dns).resolve(M(f"/dnsaddr/bootstrap.example/p2p/{ALICE}"))) == [
        all_of_them[0],
        all_of_them[2],
    ]
    assert dns.asked["_dnsaddr.two.bootstrap.example", "TXT"] == 1, "not asked when another peer was wanted"


async def test_a_record_never_yields_another_peer_than_the_address_names() -> None:
    suffix = M(f"/p2p/{ALICE}").raw
    hidden = f"/ip4/6.6.6.6/tcp/1/p2p/{BOB}/http-path/" + "".join(f"%{byte:02X}" for byte in suffix)
    assert M(hidden).raw.endswith(suffix)
    dns = ScriptedDns(
        {
            ("_dnsaddr.example.com", "TXT"): [
                "v=spf1 -all",
                "dnsaddr=",
                "dnsaddr=/ip4/300.1.1.1/tcp/1",
                *txt("/ip4/6.6.6.6/tcp/1", f"/ip4/6.6.6.6/tcp/1/p2p/{BOB}", hidden),
                *txt(f"/ip4/6.6.6.6/tcp/1/p2p/{ALICE}/p2p-circuit", f"/ip4/1.2.3.4/tcp/1/p2p/{ALICE}"),
            ]
        }
    )
    found = await AddressResolver(dns).resolve(M(f"/dnsaddr/example.com/p2p/{ALICE}"))
    assert texts_of(found) == [f"/ip4/1.2.3.4/tcp/1/p2p/{ALICE}"]


async def test_only_records_that_end_in_the_whole_rest_count() -> None:
    dns = ScriptedDns(
        {("_dnsaddr.example.com", "TXT"): txt("/ip4/1.2.3.4/tcp/1", "/ip4/1.2.3.4/udp/1/quic-v1", "/tcp/2/tcp/1")}
    )
    found = await AddressResolver(dns).resolve(M("/dnsaddr/example.com/tcp/1"))
    assert texts_of(found) == ["/ip4/1.2.3.4/tcp/1", "/tcp/2/tcp/1"]


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({}, "_dnsaddr|example.com has no TXT record"),
        ({("_dnsaddr.example.com", "TXT"): ["hello"]}, "lead nowhere"),
        ({("_dnsaddr.example.com", "TXT"): "refused"}, "_dnsaddr.example.com: refused"),
        ({("_dnsaddr.example.com", "TXT"): txt("/dns4/gone.example/tcp/1")}, "gone.example has no A record"),
    ],
)
async def test_a_name_that_leads_nowhere_is_an_error_that_says_why(table: dict[Any, Any], reason: str) -> None:
    with pytest.raises(ResolveError, match=reason) as caught:
        await AddressResolver(ScriptedDns(table)).resolve(M("/dnsaddr/example.com"))
    assert caught.value.addr == M("/dnsaddr/example.com")
    assert caught.value.hint


async def test_nothing_for_the_wanted_peer_says_so() -> None:
    dns = ScriptedDns({("_dnsaddr.example.com", "TXT"): txt(f"/ip4/1.2.3.4/tcp/1/p2p/{BOB}")})
    with pytest.raises(ResolveError, match="nothing for that peer"):
        await AddressResolver(dns).resolve(M(f"/dnsaddr/example.com/p2p/{ALICE}"))


async def test_names_that_lead_in_a_circle_are_asked_once_each() -> None:
    dns = ScriptedDns(
        {
            ("_dnsaddr.a.example", "TXT"): txt("/dnsaddr/b.example", "/dnsaddr/a.example"),
            ("_dnsaddr.b.example", "TXT"): txt("/dnsaddr/a.example", "/ip4/1.2.3.4/tcp/1"),
        }
    )
    assert texts_of(await AddressResolver(dns).resolve(M("/dnsaddr/a.example"))) == ["/ip4/1.2.3.4/tcp/1"]
    assert set(dns.asked.values()) == {1}

    del dns.table["_dnsaddr.b.example", "TXT"]
    dns.table["_dnsaddr.c.example", "TXT"] = txt("/dnsaddr/c.example")
    with pytest.raises(ResolveError, match="lead nowhere"):
        await AddressResolver(dns).resolve(M("/dnsaddr/c.example"))


async def test_a_chain_without_end_is_left_after_so_many_names() -> None:
    dns = ScriptedDns({(f"_dnsaddr.{n}.example", "TXT"): txt(f"/dnsaddr/{n + 1}.example") for n in range(50)})
    with pytest.raises(ResolveError, match="names lead to names"):
        await AddressResolver(dns).resolve(M("/dnsaddr/0.example"))
    assert dns.asked.total() == MAX_DEPTH + 1

    end = MAX_DEPTH
    dns.table[f"_dnsaddr.{end}.example", "TXT"] = txt("/ip4/1.2.3.4/tcp/1")
    assert texts_of(await AddressResolver(dns).resolve(M("/dnsaddr/0.example"))) == ["/ip4/1.2.3.4/tcp/1"]


async def test_a_tree_of_names_costs_a_bounded_number_of_questions() -> None:
    class Tree(ScriptedDns):
        async def __call__(self, name: str, query_type: QueryType) -> Answer:
            self.asked[name, query_type] += 1
            return Answer(tuple(txt(*(f"/dnsaddr/{n}.{name}" for n in range(60)))), 60)

    dns = Tree({})
    with pytest.raises(ResolveError, match=f"more than {MAX_LOOKUPS} lookups"):
        await AddressResolver(dns).resolve(M("/dnsaddr/example.com"))
    assert dns.asked.total() == MAX_LOOKUPS


async def test_names_without_end_are_not_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[Multiaddr] = []
    real = resolver_module._split_name

    def note(addr: Multiaddr) -> tuple[str, int, bytes]:
        looked_at.append(addr)
        return real(addr)

    monkeypatch.setattr(resolver_module, "_split_name", note)
    records = txt(*(f"/dnsaddr/a.example/tcp/{n}/tcp/1" for n in range(1, 1000)))
    dns = ScriptedDns({("_dnsaddr.a.example", "TXT"): records})
    with pytest.raises(ResolveError, match="more than 32 names"):
        await AddressResolver(dns).resolve(M("/dnsaddr/a.example/tcp/1"))
    assert len(set(looked_at)) == MAX_LOOKUPS + 1
    assert dns.asked.total() == 1


async def test_addresses_without_end_are_cut_off() -> None:
    many = [f"/ip4/1.2.{n >> 8}.{n & 255}/tcp/1" for n in range(1000)]
    dns = ScriptedDns({("_dnsaddr.example.com", "TXT"): txt(*many, "/dns4/more.example/tcp/1")})
    assert texts_of(await AddressResolver(dns).resolve(M("/dnsaddr/example.com"))) == many[:MAX_RESULTS]
    assert not dns.asked["more.example", "A"]


async def test_silence_ends_at_the_deadline_and_what_was_found_is_kept() -> None:
    table: Table = {
        ("_dnsaddr.example.com", "TXT"): txt("/dns4/good.example/tcp/1", "/dns4/silent.example/tcp/1"),
        ("good.example", "A"): ["1.2.3.4"],
        ("silent.example", "A"): 1000.0,
    }
    start = anyio.current_time()
    assert texts_of(await AddressResolver(ScriptedDns(table)).resolve(M("/dnsaddr/example.com"))) == [
        "/ip4/1.2.3.4/tcp/1"
    ]
    assert anyio.current_time() - start == pytest.approx(DEADLINE)

    with pytest.raises(ResolveError, match="no answer within 10 s"):
        await AddressResolver(ScriptedDns(table)).resolve(M("/dns4/silent.example/tcp/1"))


async def test_questions_of_one_level_are_asked_at_once() -> None:
    table: Table = {("_dnsaddr.example.com", "TXT"): txt(*(f"/dns4/{n}.example/tcp/1" for n in range(20)))}
    slow: Table = {(f"{n}.example", "A"): 3.0 for n in range(19)}
    dns = ScriptedDns({**table, **slow, ("19.example", "A"): ["1.2.3.4"]})
    start = anyio.current_time()
    assert len(await AddressResolver(dns).resolve(M("/dnsaddr/example.com"))) == 1
    assert anyio.current_time() - start == pytest.approx(3.0)


@pytest.mark.parametrize(("ttl", "kept"), [(0, MIN_TTL), (60, 60), (10**9, MAX_TTL)])
async def test_an_answer_is_remembered_for_its_time_within_bounds(ttl: float, kept: float) -> None:
    dns = ScriptedDns({("example.com", "A"): ["1.2.3.4"]}, ttl)
    resolver = AddressResolver(dns)
    for wait, count in ((0, 1), (kept - 0.5, 1), (1, 2)):
        await anyio.sleep(wait)
        await resolver.resolve(M("/dns4/example.com/tcp/1"))
        assert dns.asked.total() == count


async def test_that_a_name_does_not_exist_is_remembered_but_not_that_nobody_answered() -> None:
    dns = ScriptedDns({("silent.example", "A"): "no answer"}, 30)
    resolver = AddressResolver(dns)
    for name in ("gone.example", "silent.example") * 2:
        with pytest.raises(ResolveError):
            await resolver.resolve(M(f"/dns4/{name}/tcp/1"))
    assert dns.asked == {("gone.example", "A"): 1, ("silent.example", "A"): 2}


async def test_the_memory_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "MAX_CACHED", 3)
    dns = ScriptedDns({(f"{n}.example", "A"): ["1.2.3.4"] for n in range(9)})
    resolver = AddressResolver(dns)
    for number in (*range(9), 8, 0):
        await resolver.resolve(M(f"/dns4/{number}.example/tcp/1"))
    assert len(resolver._cache) == 3
    assert (dns.asked["8.example", "A"], dns.asked["0.example", "A"]) == (1, 2)
