"""How a swarm gets its connections: one dial a peer, addresses raced, failures remembered and told."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.connection_table import OpenGate
from ipvcs.node.network.errors import DialError, GatedError
from ipvcs.node.network.interface import Connection, PeerInfo
from ipvcs.node.network.limits import ConnectionLimitError, Limits
from tests.fakes.memory_network import MemoryNetwork, key_of
from tests.fakes.memory_swarm import MemorySwarm, running_swarms

pytestmark = pytest.mark.anyio

LATENCY = 0.05
NOBODY = [Multiaddr.parse(f"/ip4/10.9.9.9/tcp/{port}") for port in range(1, 61)]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


@asynccontextmanager
async def two_swarms(**options: Any) -> AsyncGenerator[tuple[MemoryNetwork, MemorySwarm, MemorySwarm]]:
    async with MemoryNetwork(latency=LATENCY) as network:
        async with running_swarms(network, "alice", "bob", **options) as (alice, bob):
            yield network, alice, bob
        await anyio.sleep(1)  # the last goodbyes are on their way
        assert not network.live


def as_given(addrs: Any) -> list[Multiaddr]:
    """The order of dials that is easiest to read in a test."""
    return list(addrs)


async def connect_with(alice: MemorySwarm, bob: MemorySwarm, *addrs: Multiaddr) -> Connection:
    return await alice.connect(PeerInfo(bob.peer_id, addrs))


def started(network: MemoryNetwork) -> list[tuple[Multiaddr, float]]:
    first = network.dials[0].started
    return [(dial.addr, round(dial.started - first, 3)) for dial in network.dials]


# ---- one dial a peer ----


async def test_connecting_takes_two_trips_and_no_more() -> None:
    async with two_swarms() as (_network, alice, bob):
        before = anyio.current_time()
        connection = await alice.connect(bob.info)
        assert anyio.current_time() - before == pytest.approx(2 * LATENCY)
        assert (connection.remote_peer, connection.direction) == (bob.peer_id, "outbound")
        await anyio.sleep(1)
        assert [each.remote_peer for each in bob.connections()] == [alice.peer_id]


async def test_a_standing_connection_is_used_again() -> None:
    async with two_swarms() as (network, alice, bob):
        first = await alice.connect(bob.info)
        before = anyio.current_time()
        assert await alice.connect(bob.info) is first
        assert await alice.connect(PeerInfo(bob.peer_id)) is first
        assert anyio.current_time() == before
        await anyio.sleep(1)
        assert await bob.connect(alice.info) is bob.connections()[0]  # whoever dialled it
        assert len(network.dials) == 1


async def test_who_comes_during_a_dial_waits_for_it_and_gets_its_connection() -> None:
    async with two_swarms() as (network, alice, bob):
        found: list[Connection] = []

        async def connect() -> None:
            found.append(await alice.connect(bob.info))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(connect)
                await anyio.sleep(LATENCY / 10)
        assert len(network.dials) == 1
        assert len(found) == 5
        assert all(each is found[0] for each in found)


async def test_a_failed_dial_fails_all_who_wait_for_it() -> None:
    async with two_swarms() as (network, alice, bob):
        errors: list[DialError] = []

        async def connect() -> None:
            with pytest.raises(DialError) as caught:
                await connect_with(alice, bob, NOBODY[0])
            errors.append(caught.value)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            tasks.start_soon(connect)
        assert len(errors) == 2
        assert len(network.dials) == 1


async def test_the_first_caller_may_go_without_ending_the_dial_of_the_second() -> None:
    async with two_swarms() as (network, alice, bob):
        network.delay(bob.addresses()[0], 1.0)
        found: list[Connection] = []

        async def connect() -> None:
            found.append(await alice.connect(bob.info))

        async with anyio.create_task_group() as tasks:
            with anyio.move_on_after(0.5) as first:
                tasks.start_soon(connect)
                await alice.connect(bob.info)
            assert first.cancelled_caught
        assert len(found) == 1
        assert [dial.outcome for dial in network.dials] == ["stands"]


async def test_a_dial_that_nobody_waits_for_any_more_ends() -> None:
    async with two_swarms() as (network, alice, bob):
        network.delay(bob.addresses()[0], 1.0)
        for _ in range(2):
            with anyio.move_on_after(0.5):
                await alice.connect(bob.info)
        await anyio.sleep(0.01)
        assert [dial.outcome for dial in network.dials] == ["Cancelled", "Cancelled"]
        await anyio.sleep(10)
        await anyio.sleep(1)  # the last goodbyes are on their way
        assert not network.live
        assert await alice.connect(bob.info)  # what was cancelled did not count as failed


async def test_an_address_that_a_second_caller_brings_joins_the_dial_under_way() -> None:
    async with two_swarms() as (network, alice, bob):
        network.delay(NOBODY[0])
        found: list[Connection] = []

        async def connect_to_the_stale_address() -> None:
            found.append(await connect_with(alice, bob, NOBODY[0]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect_to_the_stale_address)
            await anyio.sleep(1.0)
            before = anyio.current_time()
            found.append(await alice.connect(bob.info))
            assert anyio.current_time() - before == pytest.approx(2 * LATENCY)
        assert found[0] is found[1]


async def test_both_why_not_dial_at_once_and_both_connections_stay() -> None:
    async with two_swarms() as (_network, alice, bob):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alice.connect, bob.info)
            tasks.start_soon(bob.connect, alice.info)
        await anyio.sleep(60)
        for swarm, other in ((alice, bob), (bob, alice)):
            assert sorted(each.direction for each in swarm.connections(other.peer_id)) == ["inbound", "outbound"]


async def test_a_dial_that_fails_is_no_failure_when_the_peer_has_come_meanwhile() -> None:
    async with two_swarms() as (network, alice, bob):
        network.delay(NOBODY[0])
        found: list[Connection] = []

        async def connect() -> None:
            found.append(await connect_with(alice, bob, NOBODY[0]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await anyio.sleep(1)
            await bob.connect(alice.info)
        assert [each.direction for each in found] == ["inbound"]


# ---- the race ----


async def test_a_silent_address_is_overtaken_after_a_quarter_second_and_cancelled() -> None:
    async with two_swarms(order=as_given) as (network, alice, bob):
        network.delay(NOBODY[0])
        good = bob.addresses()[0]
        connection = await connect_with(alice, bob, NOBODY[0], good)

        assert started(network) == [(NOBODY[0], 0.0), (good, 0.25)]
        assert connection.remote_addr == good
        await anyio.sleep(0.01)
        assert [dial.outcome for dial in network.dials] == ["Cancelled", "stands"]


async def test_a_refused_address_costs_nothing_but_its_round_trip() -> None:
    async with two_swarms(order=as_given) as (network, alice, bob):
        good = bob.addresses()[0]
        await connect_with(alice, bob, NOBODY[0], NOBODY[1], good)
        assert started(network) == [(NOBODY[0], 0.0), (NOBODY[1], 2 * LATENCY), (good, 4 * LATENCY)]


async def test_a_loser_that_stands_at_the_same_moment_is_closed() -> None:
    async with two_swarms(order=as_given) as (network, alice, bob):
        slow, quick = await bob.listen([Multiaddr.parse("/ip4/10.0.0.2/tcp/0")] * 2)
        network.delay(slow, 0.25)
        connection = await connect_with(alice, bob, slow, quick)

        assert [dial.outcome for dial in network.dials] == ["stands", "stands"]
        await anyio.sleep(1)
        assert alice.connections() == [connection]
        assert len(bob.connections()) == 1
        assert len(network.live) == 2


async def test_at_most_eight_addresses_are_dialled_at_once_and_thirty_two_in_all() -> None:
    async with two_swarms(dial_timeout=1000.0) as (network, alice, bob):
        for addr in NOBODY:
            network.delay(addr)
        with pytest.raises(DialError) as caught:
            await connect_with(alice, bob, *NOBODY)
        times = [at for _addr, at in started(network)]
        assert times[:8] == [0.25 * number for number in range(8)]
        assert times[8] == 5.0  # the first to give up makes room
        assert len(times) == len(set(caught.value.attempts)) == 32


async def test_each_address_has_five_seconds() -> None:
    async with two_swarms(order=as_given) as (network, alice, bob):
        network.delay(NOBODY[0])
        before = anyio.current_time()
        with pytest.raises(DialError) as caught:
            await connect_with(alice, bob, NOBODY[0])
        assert anyio.current_time() - before == pytest.approx(5.0)
        assert caught.value.attempts == ((NOBODY[0], "no answer within 5 s"),)


async def test_all_addresses_together_have_fifteen_seconds_or_what_the_caller_says() -> None:
    async with two_swarms() as (network, alice, bob):
        for addr in NOBODY:
            network.delay(addr)
        for given, total in ((None, 15.0), (2.0, 2.0)):
            before = anyio.current_time()
            with pytest.raises(DialError) as caught:
                await alice.connect(PeerInfo(bob.peer_id, tuple(NOBODY)), timeout=given, force=True)
            assert anyio.current_time() - before == pytest.approx(total)
            assert len(caught.value.attempts) == 32
            reasons = {reason for _addr, reason in caught.value.attempts}
            assert f"no answer before the {total:g} s for all addresses were over" in reasons
            assert f"not tried before the {total:g} s for all addresses were over" in reasons


async def test_the_node_as_a_whole_dials_a_bounded_number_at_once() -> None:
    async with two_swarms(max_dials=3) as (network, alice, _bob):
        for addr in NOBODY:
            network.delay(addr)
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                peer = PeerInfo(key_of(str(number)).peer_id, (NOBODY[number],))
                tasks.start_soon(_connect_in_vain, alice, peer)
            await anyio.sleep(1)
            assert len(network.dials) == 3
        assert len(network.dials) == 9  # three batches of five seconds; then the last peer's 15 s were over


async def _connect_in_vain(swarm: MemorySwarm, peer: PeerInfo) -> None:
    with pytest.raises(DialError):
        await swarm.connect(peer)


# ---- which addresses ----


async def test_given_and_known_addresses_are_both_dialled() -> None:
    async with two_swarms() as (network, alice, bob):
        alice.book.known[bob.peer_id] = list(bob.addresses())
        connection = await connect_with(alice, bob, NOBODY[0])
        assert connection.remote_addr == bob.addresses()[0]
        assert {dial.addr for dial in network.dials} == {NOBODY[0], *bob.addresses()}


async def test_an_address_may_carry_the_peers_own_id_but_nobody_elses() -> None:
    async with two_swarms() as (network, alice, bob):
        good = bob.addresses()[0]
        strange = Multiaddr.parse(f"{good}/p2p/{alice.peer_id}")
        with pytest.raises(DialError) as caught:
            await connect_with(alice, bob, strange)
        assert caught.value.attempts == ((strange, "it leads to another peer"),)
        await connect_with(alice, bob, good, Multiaddr.parse(f"{good}/p2p/{bob.peer_id}"))
        assert len(network.dials) == 1


async def test_a_peer_without_addresses_is_an_error_that_asks_for_one() -> None:
    async with two_swarms() as (_network, alice, bob):
        with pytest.raises(DialError, match="no address of it is known") as caught:
            await alice.connect(PeerInfo(bob.peer_id))
        assert caught.value.attempts == ()
        assert caught.value.hint is not None
        assert f"/p2p/{bob.peer_id}" in caught.value.hint


async def test_the_error_tells_each_address_and_why() -> None:
    async with two_swarms(order=as_given) as (network, alice, bob):
        network.delay(NOBODY[1])
        quic = Multiaddr.parse("/ip4/10.0.0.1/udp/4001/quic-v1")
        wildcard = Multiaddr.parse("/ip4/0.0.0.0/tcp/4001")
        theirs = (await bob.listen([Multiaddr.parse("/ip4/10.0.0.2/tcp/0")]))[0]
        carol = key_of("carol").peer_id
        with pytest.raises(DialError) as caught:
            await alice.connect(PeerInfo(carol, (NOBODY[0], NOBODY[1], quic, wildcard, theirs)))
        reasons = dict(caught.value.attempts)
        assert reasons == {
            NOBODY[0]: "connection refused",
            NOBODY[1]: "no answer within 5 s",
            quic: "no transport for this kind of address",
            wildcard: "it is not the address of a host",
            theirs: f"dialled '{carol}', but '{bob.peer_id}' answered",
        }
        message = str(caught.value)
        assert message.startswith(f"cannot connect to '{carol}': ")
        assert all(f"'{addr}': {reason}" in message for addr, reason in reasons.items())
        assert caught.value.hint is not None
        assert len(alice.connections()) == len(bob.connections()) == 0


async def test_a_long_list_of_failures_is_cut_in_the_message_but_not_in_attempts() -> None:
    async with two_swarms() as (_network, alice, bob):
        with pytest.raises(DialError, match=r"; and 15 more$") as caught:
            await connect_with(alice, bob, *NOBODY[:20])
        assert len(caught.value.attempts) == 20


async def test_we_never_dial_ourselves() -> None:
    async with two_swarms() as (network, alice, bob):
        ours = alice.addresses()[0]
        with pytest.raises(DialError, match="it is this very node"):
            await alice.connect(PeerInfo(alice.peer_id, (ours,)))
        with pytest.raises(DialError, match="where this very node listens"):
            await connect_with(alice, bob, ours)
        assert network.dials == []
        assert alice.connections() == []


async def test_ourselves_behind_an_address_we_do_not_know_for_ours_are_not_kept() -> None:
    async with two_swarms() as (network, alice, bob):
        ours = alice.addresses()[0]
        alice._settings.own_addrs = tuple  # as when a router leads an outside address back to us
        with pytest.raises(DialError, match=f"'{alice.peer_id}' answered"):
            await alice.connect(PeerInfo(bob.peer_id, (ours,)))
        await anyio.sleep(1)
        assert alice.connections() == []
        await anyio.sleep(1)  # the last goodbyes are on their way
        assert not network.live


# ---- names ----


NAME = Multiaddr.parse("/dns4/node.example/tcp/4001")


async def test_a_name_is_resolved_and_what_it_stands_for_is_dialled() -> None:
    async with two_swarms() as (_network, alice, bob):
        good = bob.addresses()[0]
        alice.names.known[NAME] = [
            Multiaddr.parse(f"{good}/p2p/{alice.peer_id}"),  # a dnsaddr may name several peers
            Multiaddr.parse(f"{good}/p2p/{bob.peer_id}"),
        ]
        connection = await connect_with(alice, bob, NAME, NAME)
        assert connection.remote_addr == good
        assert alice.names.asked == [NAME]


async def test_a_slow_name_holds_nothing_up() -> None:
    async with two_swarms() as (_network, alice, bob):
        alice.names.delay = 60.0
        before = anyio.current_time()
        await connect_with(alice, bob, NAME, bob.addresses()[0])
        assert anyio.current_time() - before == pytest.approx(2 * LATENCY)


async def test_a_name_that_resolves_late_is_still_in_time() -> None:
    async with two_swarms() as (_network, alice, bob):
        alice.names.known[NAME], alice.names.delay = [bob.addresses()[0]], 3.0
        assert await connect_with(alice, bob, NAME, NOBODY[0])


async def test_names_that_lead_nowhere_are_told_like_addresses() -> None:
    async with two_swarms() as (_network, alice, bob):
        empty, circular, slow = (Multiaddr.parse(f"/dns4/{name}.example/tcp/1") for name in ("empty", "circle", "slow"))
        alice.names.known = {empty: [], circular: [NAME]}
        with pytest.raises(DialError) as caught:
            await connect_with(alice, bob, NAME, empty, circular)
        assert dict(caught.value.attempts) == {
            NAME: f"cannot resolve '{NAME}': no such name",
            empty: "stands for no address that can be dialled",
            circular: "stands for no address that can be dialled",
        }
        alice.names.delay = 60.0
        with pytest.raises(DialError, match="not resolved within 5 s"):
            await connect_with(alice, bob, slow)


async def test_a_name_that_stands_for_a_certain_peer_is_dialled_as_that_peer() -> None:
    async with two_swarms() as (_network, alice, bob):
        good = bob.addresses()[0]
        alice.names.known[NAME] = [Multiaddr.parse(f"{good}/p2p/{key_of('carol').peer_id}")]
        with pytest.raises(DialError, match="stands for no address"):
            await connect_with(alice, bob, NAME)
        alice.names.known[NAME] = [Multiaddr.parse(f"{good}/p2p/{bob.peer_id}")]
        assert (await connect_with(alice, bob, NAME)).remote_addr == good


# ---- back-off, rules and limits ----


async def test_an_address_that_failed_is_left_alone_for_a_while() -> None:
    async with two_swarms() as (network, alice, bob):
        good = bob.addresses()[0]
        network.refuse(good)
        with pytest.raises(DialError):
            await alice.connect(bob.info)
        network.accept(good)
        info = PeerInfo(bob.peer_id, (good,))
        with pytest.raises(DialError, match="failed lately") as caught:
            await alice.connect(info)
        assert caught.value.hint == "try again in 5 s"
        assert len(network.dials) == 1
        await anyio.sleep(5)
        assert await alice.connect(info)


async def test_a_users_own_command_does_not_mind_the_back_off() -> None:
    async with two_swarms() as (network, alice, bob):
        good = bob.addresses()[0]
        network.refuse(good)
        with pytest.raises(DialError):
            await alice.connect(bob.info)
        network.accept(good)
        assert await alice.connect(bob.info, force=True)


async def test_a_users_command_that_joins_a_dial_has_it_try_what_it_left_out() -> None:
    async with two_swarms() as (network, alice, bob):
        good = bob.addresses()[0]
        network.refuse(good)
        with pytest.raises(DialError):
            await alice.connect(bob.info)
        network.accept(good)
        network.delay(NOBODY[0])
        found: list[Connection] = []

        async def connect() -> None:
            found.append(await connect_with(alice, bob, good, NOBODY[0]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(connect)
            await anyio.sleep(0.1)
            found.append(await alice.connect(PeerInfo(bob.peer_id), force=True))
        assert found[0] is found[1]


async def test_a_success_clears_the_back_off() -> None:
    async with two_swarms() as (network, alice, bob):
        good = bob.addresses()[0]
        network.refuse(good)
        for _ in range(2):
            with pytest.raises(DialError):
                await alice.connect(bob.info, force=True)
        network.accept(good)
        await alice.connect(bob.info, force=True)
        await alice.disconnect(bob.peer_id)
        assert await alice.connect(bob.info)


class Rules(OpenGate):
    def __init__(self) -> None:
        self.denied_addrs: set[Multiaddr] = set()
        self.denied_peers: set[PeerId] = set()

    def why_not_dial(self, peer_id: PeerId | None, addr: Multiaddr) -> str | None:
        return "that address is denied" if addr in self.denied_addrs else None

    def why_not_stay(self, peer_id: PeerId) -> str | None:
        return "that peer is denied" if peer_id in self.denied_peers else None


async def test_a_denied_address_is_not_dialled() -> None:
    rules = Rules()
    async with two_swarms(gater=rules, order=as_given) as (network, alice, bob):
        good = bob.addresses()[0]
        rules.denied_addrs.add(good)
        with pytest.raises(GatedError, match="that address is denied"):
            await alice.connect(bob.info)
        assert network.dials == []
        with pytest.raises(DialError) as caught:
            await connect_with(alice, bob, good, NOBODY[0])
        assert dict(caught.value.attempts)[good] == "not allowed: that address is denied"


async def test_a_denied_peer_is_not_dialled() -> None:
    rules = Rules()
    async with two_swarms(gater=rules) as (network, alice, bob):
        rules.denied_peers.add(bob.peer_id)
        with pytest.raises(GatedError, match="that peer is denied"):
            await alice.connect(bob.info)
        assert network.dials == []


async def test_no_dial_starts_when_the_table_is_full() -> None:
    async with two_swarms(limits=Limits(connections=0)) as (network, alice, bob):
        with pytest.raises(ConnectionLimitError):
            await alice.connect(bob.info)
        assert network.dials == []


async def test_a_bug_in_a_transport_shows_at_the_caller_and_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_args: object) -> Connection:
        raise ZeroDivisionError

    async with two_swarms() as (_network, alice, bob):
        with monkeypatch.context() as patch:
            patch.setattr(alice.transport, "dial", fail)
            with pytest.raises(ExceptionGroup) as caught:
                await alice.connect(bob.info)
            assert caught.value.subgroup(ZeroDivisionError) is not None
        assert await alice.connect(bob.info)


async def test_shutting_down_ends_the_dials_under_way_with_an_error() -> None:
    async with two_swarms() as (network, alice, bob):
        network.delay(bob.addresses()[0])
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(_expect_shutdown, alice.connect, bob.info)
            await anyio.sleep(1)
            before = anyio.current_time()
            await alice.aclose()
        assert anyio.current_time() == before
        with pytest.raises(DialError, match="shutting down"):
            await alice.connect(bob.info)
        assert [dial.outcome for dial in network.dials] == ["Cancelled"]  # both waited for one


async def _expect_shutdown(connect: Any, peer: PeerInfo) -> None:
    with pytest.raises(DialError, match="shutting down"):
        await connect(peer)
