"""Questions to a DNS server on loopback that answers rightly, wrongly, hugely or not at all."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network import dns_client
from ipvcs.node.network.dns_client import (
    MAX_RECORDS,
    NEGATIVE_TTL,
    Answer,
    DnsClient,
    DnsError,
    NameserverError,
    find_in_hosts,
    parse_nameserver,
)
from ipvcs.node.network.resolver import AddressResolver

CHECKOUT = Path(__file__).parents[4]

Query = dns.message.QueryMessage
Script = Callable[[Query], Sequence[bytes]]
"""What the server sends for a question, in order: nothing, one message, or several."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class _Server(asyncio.DatagramProtocol):
    def __init__(self, script: Script) -> None:
        self.script = script
        self.questions: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)  # it has the methods, not the base class

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        assert isinstance(query, dns.message.QueryMessage)
        self.questions.append(f"{query.question[0].name} {dns.rdatatype.to_text(query.question[0].rdtype)}")
        for answer in self.script(query):
            self.transport.sendto(answer, addr)


@asynccontextmanager
async def dns_server(script: Script, over_tcp: Script | None = None) -> AsyncIterator[tuple[DnsClient, _Server]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert over_tcp is not None
        size = int.from_bytes(await reader.readexactly(2), "big")
        query = dns.message.from_wire(await reader.readexactly(size))
        assert isinstance(query, dns.message.QueryMessage)
        for answer in over_tcp(query):
            writer.write(len(answer).to_bytes(2, "big") + answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    transport, server = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Server(script), local_addr=("127.0.0.1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    tcp = await asyncio.start_server(serve, "127.0.0.1", port) if over_tcp else None
    try:
        yield DnsClient([f"127.0.0.1:{port}"], hosts_file=Path("/nonexistent")), server
    finally:
        transport.close()
        if tcp is not None:
            tcp.close()
            await tcp.wait_closed()


def response(query: Query, *records: str, ttl: int = 77, rcode: int = dns.rcode.NOERROR) -> dns.message.Message:
    answer = dns.message.make_response(query)
    answer.set_rcode(dns.rcode.Rcode(rcode))
    if records:
        question = query.question[0]
        answer.answer.append(dns.rrset.from_text(question.name, ttl, "IN", question.rdtype, *records))
    return answer


def answering(*records: str, rcode: int = dns.rcode.NOERROR) -> Script:
    return lambda query: [response(query, *records, rcode=rcode).to_wire()]


@pytest.mark.network
@pytest.mark.anyio
async def test_each_kind_of_record_is_read() -> None:
    async with dns_server(answering("1.2.3.4", "1.2.3.5")) as (client, server):
        answer = await client("example.com", "A")
        assert (sorted(answer.values), answer.ttl) == (["1.2.3.4", "1.2.3.5"], 77)
        assert server.questions == ["example.com. A"]
    async with dns_server(answering("2606:4700::1")) as (client, _server):
        assert await client("example.com", "AAAA") == Answer(("2606:4700::1",), 77)
    async with dns_server(answering('"dnsaddr=/ip4/1.2.3.4" "/tcp/4001"', '"other"')) as (client, _server):
        answer = await client("_dnsaddr.example.com", "TXT")
        assert sorted(answer.values) == ["dnsaddr=/ip4/1.2.3.4/tcp/4001", "other"]


@pytest.mark.network
@pytest.mark.anyio
async def test_a_name_is_followed_over_dns_from_its_text_record_to_its_address() -> None:
    def script(query: Query) -> list[bytes]:
        text = str(query.question[0].name)
        record = '"dnsaddr=/dns4/host.example/tcp/4001"' if text.startswith("_dnsaddr") else "1.2.3.4"
        return [response(query, record).to_wire()]

    async with dns_server(script) as (client, server):
        found = await AddressResolver(client).resolve(Multiaddr.parse("/dnsaddr/example.com"))
        assert found == [Multiaddr.parse("/ip4/1.2.3.4/tcp/4001")]
        assert server.questions == ["_dnsaddr.example.com. TXT", "host.example. A"]


@pytest.mark.network
@pytest.mark.anyio
@pytest.mark.parametrize("rcode", [dns.rcode.NXDOMAIN, dns.rcode.NOERROR])
async def test_that_there_is_no_such_name_or_record_is_an_answer(rcode: int) -> None:
    async with dns_server(answering(rcode=rcode)) as (client, server):
        assert await client("gone.example", "A") == Answer((), NEGATIVE_TTL)
        assert server.questions == ["gone.example. A"], "no search list is tried"


@pytest.mark.network
@pytest.mark.anyio
async def test_a_server_that_fails_is_an_error() -> None:
    async with dns_server(answering(rcode=dns.rcode.REFUSED)) as (client, _server):
        with pytest.raises(DnsError, match="no DNS server gave a usable answer"):
            await client("example.com", "A")


@pytest.mark.network
@pytest.mark.anyio
async def test_a_silent_server_costs_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_client, "LOOKUP_TIMEOUT", 0.1)
    async with dns_server(lambda _query: []) as (client, server):
        with anyio.fail_after(5), pytest.raises(DnsError, match=r"no answer within 0\.1 s"):
            await client("example.com", "A")
        assert server.questions


@pytest.mark.network
@pytest.mark.anyio
async def test_cancelling_a_question_leaves_nothing_behind() -> None:
    async with dns_server(lambda _query: []) as (client, _server):
        with anyio.move_on_after(0.05) as scope:
            await client("example.com", "A")
        assert scope.cancelled_caught


@pytest.mark.network
@pytest.mark.anyio
async def test_answers_with_a_wrong_id_another_question_or_garbage_are_passed_over() -> None:
    def script(query: Query) -> list[bytes]:
        wrong_id = response(query, "6.6.6.6")
        wrong_id.id = query.id ^ 1
        other = dns.message.make_query("evil.example", "A", id=query.id)
        not_an_answer = response(query, "6.6.6.7")
        not_an_answer.flags &= ~dns.flags.QR
        good = response(query, "1.2.3.4").to_wire()
        wrong = (wrong_id, response(other, "6.6.6.8"), not_an_answer)
        return [*(message.to_wire() for message in wrong), b"", b"\xff" * 40, good[:-3], good]

    async with dns_server(script) as (client, _server):
        assert (await client("example.com", "A")).values == ("1.2.3.4",)


@pytest.mark.network
@pytest.mark.anyio
async def test_a_wrong_id_alone_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_client, "LOOKUP_TIMEOUT", 0.1)

    def script(query: Query) -> list[bytes]:
        wrong = response(query, "6.6.6.6")
        wrong.id = query.id ^ 1
        return [wrong.to_wire()]

    async with dns_server(script) as (client, _server):
        with pytest.raises(DnsError):
            await client("example.com", "A")


@pytest.mark.network
@pytest.mark.anyio
async def test_of_a_huge_answer_so_many_records_are_read_and_no_long_ones() -> None:
    def truncated(query: Query) -> list[bytes]:
        message = response(query)
        message.flags |= dns.flags.TC
        return [message.to_wire()]

    short = [f'"dnsaddr=/ip4/1.2.{n >> 8}.{n & 255}/tcp/1"' for n in range(1000)]
    async with dns_server(truncated, over_tcp=lambda query: [response(query, *short).to_wire()]) as (client, _server):
        assert len((await client("example.com", "TXT")).values) == MAX_RECORDS

    long = " ".join(f'"{"x" * 250}"' for _ in range(5))
    async with dns_server(truncated, over_tcp=lambda query: [response(query, long, '"y"').to_wire()]) as (client, _):
        assert (await client("example.com", "TXT")).values == ("y",)


@pytest.mark.network
@pytest.mark.anyio
async def test_aliases_are_followed_inside_an_answer_but_not_for_ever() -> None:
    def aliases(count: int, end: str) -> Script:
        def script(query: Query) -> list[bytes]:
            message = response(query)
            names = [str(query.question[0].name), *(f"alias{n}.example." for n in range(count))]
            for name, target in zip(names, [*names[1:], end], strict=True):
                message.answer.append(dns.rrset.from_text(name, 9, "IN", "CNAME", target))
            message.answer.append(dns.rrset.from_text("host.example.", 99, "IN", "A", "1.2.3.4"))
            return [message.to_wire()]

        return script

    async with dns_server(aliases(2, "host.example.")) as (client, _server):
        assert await client("example.com", "A") == Answer(("1.2.3.4",), 9)
    for script in (aliases(2, "example.com."), aliases(40, "host.example.")):
        async with dns_server(script) as (client, _server):
            with pytest.raises(DnsError):
                await client("example.com", "A")


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["a..example", "x" * 64 + ".example", ".".join("x" * 60 for _ in range(5)), "\ud800"])
async def test_a_name_that_cannot_be_asked_for_is_an_error(name: str) -> None:
    with pytest.raises(DnsError):
        await DnsClient(["127.0.0.1:9"], hosts_file=Path("/nonexistent"))(name, "A")


@pytest.mark.anyio
async def test_a_machine_without_dns_settings_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(self: object, _file: object = None) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.resolver.BaseResolver, "read_resolv_conf", unreadable)
    with pytest.raises(DnsError, match="no DNS server is configured"):
        await DnsClient(hosts_file=Path("/nonexistent"))("example.com", "A")


HOSTS = """
127.0.0.1 localhost
10.0.0.7\tnas.home  nas # the box
10.0.0.8 other
fd00::7 NAS
not-an-ip nas
10.0.0.9 # nas
"""


@pytest.mark.anyio
async def test_literal_addresses_localhost_and_the_hosts_file_need_no_server(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(HOSTS)
    client = DnsClient(["127.0.0.1:9"], hosts_file=tmp_path / "hosts")

    async def values(name: str) -> list[tuple[str, ...]]:
        return [(await client(name, "A")).values, (await client(name, "AAAA")).values]

    assert await values("1.2.3.4") == [("1.2.3.4",), ()]
    assert await values("::1") == [(), ("::1",)]
    assert await values("localhost") == await values("a.LOCALHOST.") == [("127.0.0.1",), ("::1",)]
    assert await values("nas") == [("10.0.0.7",), ("fd00::7",)]
    assert await values("nas.home") == [("10.0.0.7",), ()]


def test_a_hosts_file_is_read_as_hosts_5_says() -> None:
    assert find_in_hosts(HOSTS, "nas") == ("10.0.0.7", "fd00::7")
    assert find_in_hosts(HOSTS, "box") == find_in_hosts(HOSTS, "10.0.0.8") == find_in_hosts("", "nas") == ()
    many = "\n".join(f"10.0.{n >> 8}.{n & 255} many" for n in range(1000))
    assert len(find_in_hosts(many, "many")) == MAX_RECORDS


def test_a_nameserver_is_an_ip_address_and_maybe_a_port() -> None:
    assert parse_nameserver("192.0.2.1") == ("192.0.2.1", 53)
    assert parse_nameserver("192.0.2.1:5353") == ("192.0.2.1", 5353)
    assert parse_nameserver("2001:db8::1") == ("2001:db8::1", 53)
    assert parse_nameserver("[2001:db8::1]:5353") == ("2001:db8::1", 5353)


@pytest.mark.parametrize(
    "text",
    ["", "dns.example", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "192.0.2.1:5x", "[::1]", "[::1]:", ":53"],
)
def test_anything_else_is_no_nameserver(text: str) -> None:
    with pytest.raises(NameserverError) as caught:
        DnsClient(["192.0.2.1", text])
    assert caught.value.text == text
    assert caught.value.hint


def test_the_dns_library_is_imported_only_when_a_name_is_asked_for() -> None:
    code = "import sys, ipvcs.node.network.resolver; print('dns' in sys.modules, 'dns.resolver' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
