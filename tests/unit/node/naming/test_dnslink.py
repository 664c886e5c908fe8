"""Domains as names: which text counts, for how long, and what a real DNS server's answer becomes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import anyio
import dns.message
import dns.rcode
import dns.rrset
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.node.naming import dnslink
from ipvcs.node.naming.dnslink import (
    MAX_TTL,
    AmbiguousDnsLinkError,
    DnsLink,
    DnsLinks,
    NoDnsLinkError,
    choose_link,
    inline_domain,
    parse_domain,
    uninline_domain,
)
from ipvcs.node.naming.name_path import NamePath
from ipvcs.node.network.dns_client import NEGATIVE_TTL, DnsClient, DnsError
from tests.unit.node.naming.fake_routing import FakeDns
from tests.unit.node.naming.records import A, B

DOMAIN = "example.com"


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("example.com", "example.com"),
        ("Example.COM.", "example.com"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("_a._b.example", "_a._b.example"),
        ("en-wikipedia--on--ipfs-org", "en.wikipedia-on-ipfs.org"),
        ("example-com", "example.com"),
        (".".join(["x" * 60] * 4), ".".join(["x" * 60] * 4)),
    ],
)
def test_a_domain_is_a_name(text: str, domain: str) -> None:
    assert parse_domain(text) == domain


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "localhost",
        "work",
        "a..b",
        ".example.com",
        "-a.com",
        "a-.com",
        "a b.com",
        "bücher.example",
        "192.0.2.1",
        "x" * 64 + ".com",
        ".".join(["x" * 60] * 4) + ".xx",
        "a/b.com",
        "a.com\n",
        "--",
        "-",
    ],
)
def test_what_can_be_no_domain_is_none(text: str) -> None:
    assert parse_domain(text) is None


def test_an_inlined_domain_is_one_label() -> None:
    assert inline_domain("en.wikipedia-on-ipfs.org") == "en-wikipedia--on--ipfs-org"
    with pytest.raises(UsageError):
        inline_domain("x" * 60 + ".com")


@given(labels=st.lists(st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True), min_size=2, max_size=4))
def test_inlining_loses_nothing(labels: list[str]) -> None:
    domain = ".".join(labels)
    assert uninline_domain(inline_domain(domain)) == domain


@pytest.mark.parametrize(
    ("texts", "path"),
    [
        ([f"dnslink={A}"], A),
        (["v=spf1 -all", "dnslink=/https/example.com", f"dnslink={A}/site/", "dnslink="], f"{A}/site/"),
        (["dnslink=/ipns/other.example/x"], "/ipns/other.example/x"),
        (["dnslink=/ipfs/nonsense", f"dnslink={B}"], B),
        ([f"dnslink=dnslink={B}", f"DNSLINK={B}", f" dnslink={B}", f"dnslink={A}"], A),
    ],
)
def test_the_one_text_that_is_a_link_counts(texts: list[str], path: str) -> None:
    assert str(choose_link(DOMAIN, texts)) == path


@pytest.mark.parametrize("texts", [[], ["dnslink"], ["dnslink=/ipfs"], ["dnslink=bafkqaaa"], [A]])
def test_without_a_link_there_is_an_error_that_says_where_it_belongs(texts: list[str]) -> None:
    with pytest.raises(NoDnsLinkError) as caught:
        choose_link(DOMAIN, texts)
    assert "_dnslink.example.com" in (caught.value.hint or "")


def test_a_link_that_leads_to_nonsense_is_named() -> None:
    with pytest.raises(NoDnsLinkError, match="nonsense"):
        choose_link(DOMAIN, ["dnslink=/ipfs/nonsense"])


@pytest.mark.parametrize("second", [A, B, "/ipns/other.example"])
def test_two_links_are_one_too_many_even_if_they_are_the_same(second: str) -> None:
    with pytest.raises(AmbiguousDnsLinkError, match="has 2 DNSLinks"):
        choose_link(DOMAIN, [f"dnslink={A}", f"dnslink={second}"])


# ---- what is remembered ----


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def links(**options: Any) -> tuple[DnsLinks, FakeDns, Clock]:
    server, clock = FakeDns(**options), Clock()
    server.link(DOMAIN, A)
    return DnsLinks(server, clock=clock), server, clock


@pytest.mark.anyio
async def test_an_answer_counts_for_its_ttl() -> None:
    resolver, server, clock = links(ttl=60.0)
    assert await resolver.resolve(DOMAIN) == DnsLink(NamePath.parse(A, "ipfs"), 60.0)
    server.link(DOMAIN, B)
    clock.now = 59
    assert await resolver.resolve(DOMAIN) == DnsLink(NamePath.parse(A, "ipfs"), 1.0)
    assert server.asked == ["_dnslink.example.com"], "and the domain itself is not asked"
    clock.now = 60
    assert str((await resolver.resolve(DOMAIN)).path) == B
    server.link(DOMAIN, A)
    assert str((await resolver.resolve(DOMAIN, nocache=True)).path) == A
    assert str((await resolver.resolve(DOMAIN)).path) == A, "the newest answer is the one that is kept"


@pytest.mark.anyio
async def test_a_century_is_capped_and_nothing_is_nothing() -> None:
    resolver, server, clock = links(ttl=3e9)
    assert (await resolver.resolve(DOMAIN)).ttl == MAX_TTL
    server.ttl = 0.0
    clock.now = MAX_TTL
    await resolver.resolve(DOMAIN)
    await resolver.resolve(DOMAIN)
    assert len(server.asked) == 3


@pytest.mark.anyio
async def test_that_there_is_none_is_remembered_a_little_while() -> None:
    resolver, server, clock = links()
    server.records.clear()
    for now in (0.0, NEGATIVE_TTL - 1):
        clock.now = now
        with pytest.raises(NoDnsLinkError):
            await resolver.resolve(DOMAIN)
    assert len(server.asked) == 1
    server.link(DOMAIN, A)
    clock.now = NEGATIVE_TTL
    assert str((await resolver.resolve(DOMAIN)).path) == A


@pytest.mark.anyio
async def test_a_failure_is_not_remembered() -> None:
    resolver, server, _clock = links(silent={"_dnslink.example.com"})
    for _ in range(2):
        with pytest.raises(DnsError):
            await resolver.resolve(DOMAIN)
    assert len(server.asked) == 2


@pytest.mark.anyio
async def test_only_so_many_domains_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnslink, "MAX_CACHED", 2)
    resolver, server, _clock = links()
    for domain in ("a.example", "b.example", "c.example"):
        server.link(domain, A)
        await resolver.resolve(domain)
    assert resolver.try_cached("a.example") is None
    assert resolver.try_cached("b.example")
    assert resolver.try_cached("c.example")


# ---- a real server ----


class _Server(asyncio.DatagramProtocol):
    def __init__(self, records: dict[str, list[str]]) -> None:
        self.records = records
        self.questions: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = str(question.name)
        self.questions.append(name)
        answer = dns.message.make_response(query)
        if records := self.records.get(name):
            answer.answer.append(dns.rrset.from_text(question.name, 77, "IN", "TXT", *records))
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), addr)


@asynccontextmanager
async def dns_server(records: dict[str, list[str]]) -> AsyncIterator[tuple[DnsLinks, _Server]]:
    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Server(records), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    try:
        yield DnsLinks(DnsClient([f"127.0.0.1:{port}"], hosts_file=Path("/nonexistent"))), server
    finally:
        transport.close()


@pytest.mark.network
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_domain_is_resolved_over_dns() -> None:
    long = f"dnslink={A}/" + "x" * 400
    records = {
        "_dnslink.example.com.": [f'"dnslink={A}"', '"v=spf1 -all"'],
        "_dnslink.long.example.": [" ".join(f'"{long[start : start + 250]}"' for start in range(0, len(long), 250))],
        "_dnslink.two.example.": [f'"dnslink={A}"', f'"dnslink={B}"'],
        "two.example.": [f'"dnslink={A}"'],
        "bare.example.": [f'"dnslink={A}"'],
    }
    with anyio.fail_after(30):
        async with dns_server(records) as (resolver, server):
            assert await resolver.resolve(DOMAIN) == DnsLink(NamePath.parse(A, "ipfs"), 77.0)
            assert str((await resolver.resolve("long.example")).path) == f"{A}/" + "x" * 400
            with pytest.raises(AmbiguousDnsLinkError):
                await resolver.resolve("two.example")
            with pytest.raises(NoDnsLinkError):
                await resolver.resolve("bare.example")
            assert all(question.startswith("_dnslink.") for question in server.questions)
