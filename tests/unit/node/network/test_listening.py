"""Where a swarm listens, and what it does when it can't."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from trio.testing import MockClock

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.errors import ListenError
from ipvcs.node.network.interface import AcceptCallback
from ipvcs.node.network.listening import with_any_port
from tests.fakes.dialing import dial_again
from tests.fakes.memory_network import MemoryListener, MemoryNetwork, MemoryTransport, key_of
from tests.fakes.memory_swarm import MemorySwarm, build_swarm

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


IP4 = Multiaddr.parse("/ip4/10.0.0.1/tcp/4001")
IP6 = Multiaddr.parse("/ip6/fd00::1/tcp/4001")
ANY4 = Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")


class WithoutIp6(MemoryTransport):
    """A machine that has no IPv6."""

    async def listen(self, addr: Multiaddr, accept: AcceptCallback) -> MemoryListener:
        if addr.protocols[0] == "ip6":
            raise ListenError(addr, "no such address here")
        return await super().listen(addr, accept)


@asynccontextmanager
async def two() -> AsyncGenerator[tuple[MemorySwarm, MemorySwarm]]:
    async with MemoryNetwork() as network, build_swarm(network, "alice") as alice, build_swarm(network, "bob") as bob:
        yield alice, bob


async def test_several_addresses_are_listened_on_and_all_work() -> None:
    async with two() as (alice, bob):
        assert await bob.listen([IP4, IP6]) == (IP4, IP6)
        assert bob.listen_addresses() == bob.addresses() == (IP4, IP6)
        for addr in (IP4, IP6):
            assert (await dial_again(alice, bob.peer_id, addr)).remote_addr == addr


async def test_listening_again_adds_to_what_there_is() -> None:
    async with two() as (_alice, bob):
        await bob.listen([IP4])
        await bob.listen([IP6])
        assert bob.listen_addresses() == (IP4, IP6)


async def test_a_taken_port_is_an_error_unless_any_will_do(caplog: pytest.LogCaptureFixture) -> None:
    async with two() as (alice, bob):
        await alice.listen([IP4])
        with pytest.raises(ListenError, match="in use") as caught:
            await bob.listen([IP4])
        assert caught.value.addr == IP4
        assert bob.listen_addresses() == ()

        [addr] = await bob.listen([IP4], any_port=True)

        assert addr != IP4
        assert addr.value_for("ip4") == "10.0.0.1"
        assert (await dial_again(alice, bob.peer_id, addr)).remote_peer == bob.peer_id
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert "in use" in record.getMessage()
        assert str(addr) in record.getMessage()


async def test_a_free_port_is_kept_though_any_would_do() -> None:
    async with two() as (_alice, bob):
        assert await bob.listen([IP4], any_port=True) == (IP4,)


async def test_an_address_that_cannot_be_had_is_left_out_as_long_as_another_can(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with MemoryNetwork() as network:
        bob = build_swarm(network, "bob")
        bob._listening._transports = [WithoutIp6(network, key_of("bob"))]
        async with bob:
            with pytest.raises(ListenError, match="no such address here") as caught:
                await bob.listen([IP6], any_port=True)  # another port does not help
            assert caught.value.addr == IP6
            assert await bob.listen([IP6, IP4]) == (IP4,)
            assert str(IP6) in caplog.text


async def test_no_transport_for_an_address_is_a_listen_error() -> None:
    async with two() as (_alice, bob):
        with pytest.raises(ListenError, match="no transport"):
            await bob.listen([Multiaddr.parse("/ip4/10.0.0.1/udp/4001/quic-v1")])
        assert bob.listen_addresses() == ()


async def test_wildcards_are_told_as_the_addresses_they_stand_for() -> None:
    async with MemoryNetwork() as network:
        ours = [Multiaddr.parse("/ip4/192.168.1.7/tcp/4001"), IP4]
        bob = build_swarm(network, "bob", expand=lambda addr: ours if addr == ANY4 else [addr])
        async with bob:
            await bob.listen([ANY4, IP4])
            assert bob.listen_addresses() == (ANY4, IP4)
            assert bob.addresses() == tuple(ours)


async def test_confirmed_observed_addresses_count_among_ours_without_our_id() -> None:
    async with two() as (_alice, bob):
        await bob.listen([IP4])
        outside = Multiaddr.parse("/ip4/198.51.100.7/tcp/4001")
        bob.observed = lambda: [Multiaddr.parse(f"{outside}/p2p/{bob.peer_id}"), IP4]
        assert bob.addresses() == (IP4, outside)


@pytest.mark.parametrize(
    ("addr", "expected"),
    [("/ip4/1.2.3.4/tcp/4001", "/ip4/1.2.3.4/tcp/0"), ("/ip6/::/tcp/4001", "/ip6/::/tcp/0"),
     ("/ip4/1.2.3.4/udp/4001/quic-v1", "/ip4/1.2.3.4/udp/0/quic-v1"), ("/memory/5", "/memory/5"),
     ("/ip6zone/eth0/ip6/fe80::1/tcp/1", "/ip6zone/eth0/ip6/fe80::1/tcp/0")],
)  # fmt: skip
def test_with_any_port_changes_nothing_but_the_port(addr: str, expected: str) -> None:
    assert with_any_port(Multiaddr.parse(addr)) == Multiaddr.parse(expected)
