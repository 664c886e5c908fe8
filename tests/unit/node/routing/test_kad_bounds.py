"""The DHT's bounds, each where it bites: lookups, checks, providers, addresses of one network, idle streams."""

from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.errors import LimitError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.delimited import MessageTooLargeError
from ipvcs.node.network.interface import PeerInfo, Stream
from ipvcs.node.routing import kad_dht, kad_members, kad_query
from ipvcs.node.routing.kad_message import KadMessage, MessageType
from ipvcs.node.routing.kad_profile import LAN, WAN
from ipvcs.node.routing.kad_providing import _SHARE
from ipvcs.node.routing.kad_query import MAX_LOOKUPS
from ipvcs.node.routing.kad_rpc import KEEP_IDLE, TIMEOUT, Answer
from ipvcs.node.routing.keyspace import Point, common_prefix_length, nearest, point_of, point_of_peer
from ipvcs.node.routing.lookup import BETA, Lookup
from ipvcs.node.routing.routing_table import MAX_FAILURES, REFRESH_INTERVAL
from tests.fakes.memory_network import key_of
from tests.unit.node.routing.kad_world import KadWorld, Liar, Node, cid_of, ids, providers_of

pytestmark = pytest.mark.anyio

PING = KadMessage(MessageType.PING)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


class Silent(Liar):
    """Takes every request and answers none."""

    waiting = 0
    """Streams that wait for an answer."""

    async def serve(self, stream: Stream) -> None:
        self.waiting += 1
        try:
            while True:
                await stream.receive()
        finally:
            self.waiting -= 1


def lookups_of(node: Node, monkeypatch: pytest.MonkeyPatch) -> list[Point]:
    """Return a list that has the target of each lookup of `node` from now on."""
    targets: list[Point] = []
    run = node.dht._queries.run

    async def noting(lookup: Lookup, *args: Any, **options: Any) -> None:
        targets.append(lookup.target)
        await run(lookup, *args, **options)

    monkeypatch.setattr(node.dht._queries, "run", noting)
    return targets


# ---- who is in the table ----


async def test_of_one_public_network_no_more_than_three_peers_enter_a_table() -> None:
    async with KadWorld(profile=WAN) as world:
        us = await world.node("us", addr="/ip4/8.8.8.8/tcp/0")
        crowd = [await world.node(f"crowd {number}", addr=f"/ip4/9.9.1.{number}/tcp/0") for number in range(1, 9)]
        for node in crowd:
            await world.join(node, us)
        assert 1 <= len(ids(us.dht.table) & ids(crowd)) <= 3
        other = await world.node("other", addr="/ip4/7.7.7.7/tcp/0")
        await world.join(other, us)
        assert other.peer_id in us.dht.table


async def test_who_answers_at_an_address_that_is_not_of_this_dht_does_not_enter_its_table() -> None:
    async with KadWorld(profile=WAN) as world:
        public, private = await world.node("public", addr="/ip4/8.8.8.8/tcp/0"), await world.node("private")
        assert await public.dht._queries.ask(private.info, PING) is not None
        assert private.peer_id not in public.dht.table
        assert await private.dht._queries.ask(public.info, PING) is not None
        assert public.peer_id in private.dht.table


async def test_a_refresh_looks_up_ourselves_and_something_in_every_stale_bucket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(10)
        us = nodes[0]
        own = point_of_peer(us.peer_id)
        await anyio.sleep(REFRESH_INTERVAL)
        stale = us.dht.table.stale_buckets(anyio.current_time() + REFRESH_INTERVAL)
        assert len(stale) >= 2
        targets = lookups_of(us, monkeypatch)
        await anyio.sleep(REFRESH_INTERVAL + 30)
        assert own in targets
        assert {common_prefix_length(own, target) for target in targets if target != own} == set(stale)


async def test_no_more_peers_are_asked_for_the_tables_sake_than_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kad_members, "MAX_CHECKS", 3)
    async with KadWorld() as world:
        us = await world.node("us")
        for number in range(10):
            us.dht._members._check(key_of(f"stranger {number}").peer_id)
        assert len(us.dht._members._checks) == 3
        await anyio.sleep(TIMEOUT)
        assert not us.dht._members._checks


@pytest.mark.parametrize(
    ("error", "is_dropped"), [(LimitError("too many dials"), False), (MessageTooLargeError(9, 8), True)]
)
async def test_a_bound_of_our_own_that_is_reached_is_no_fault_of_the_peer(
    error: LimitError, is_dropped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with KadWorld() as world:
        us, other = await world.node("us"), await world.node("other")
        await world.join(us, other)

        async def fail(*_args: object, **_options: object) -> Answer:
            raise error

        monkeypatch.setattr(us.dht._members.rpc, "ask", fail)
        us.dht.table.useful(other.peer_id, anyio.current_time())
        for _ in range(MAX_FAILURES):
            assert await us.dht._queries.ask(other.info, PING) is None
        assert (other.peer_id not in us.dht.table) == is_dropped


async def test_what_a_client_said_of_itself_is_forgotten_with_its_last_connection() -> None:
    async with KadWorld() as world:
        server, client = await world.node("server"), await world.node("client", mode="client")
        await world.join(client, server)
        assert server.dht._members.find_known(client.peer_id) == client.info
        await client.stop()
        await anyio.sleep(1)
        assert server.dht._members.find_known(client.peer_id) is None
        assert not server.dht._members._facts


# ---- lookups ----


async def test_so_many_lookups_run_at_once_and_the_others_wait_for_their_turn() -> None:
    async with KadWorld() as world:
        us, other = await world.node("us"), await world.node("other")
        await world.join(us, other)
        await anyio.sleep(2 * KEEP_IDLE)
        silent = Silent(other)
        async with anyio.create_task_group() as tasks:
            for number in range(MAX_LOOKUPS + 10):
                tasks.start_soon(us.dht.closest_peers, b"%d" % number)
            await anyio.sleep(TIMEOUT / 2)
            assert silent.waiting == MAX_LOOKUPS
            await anyio.sleep(TIMEOUT)
            assert silent.waiting == 10


async def test_a_lookup_that_takes_too_long_is_ended_and_one_that_never_had_its_turn_makes_nothing_fresh(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with KadWorld() as world:
        us, other = await world.node("us"), await world.node("other")
        await world.join(us, other)
        await anyio.sleep(2 * KEEP_IDLE)
        Silent(other)
        table = us.dht.table
        near = point_of_peer(us.peer_id)
        key = next(
            key for key in map(str.encode, map(str, range(9999))) if common_prefix_length(near, point_of(key)) > 6
        )
        async with anyio.create_task_group() as tasks:
            for _ in range(MAX_LOOKUPS):
                tasks.start_soon(us.dht.closest_peers, b"x")
            await anyio.sleep(0.1)
            monkeypatch.setattr(kad_query, "LOOKUP_TIMEOUT", 5.0)
            start = anyio.current_time()
            assert await us.dht.closest_peers(key) == []
            assert anyio.current_time() - start == pytest.approx(5)
            assert common_prefix_length(near, point_of(key)) not in table._refreshed
        start = anyio.current_time()
        assert await us.dht.closest_peers(key) == []
        assert anyio.current_time() - start == pytest.approx(5), "the peer would have had twice as long"
        assert table._refreshed[common_prefix_length(near, point_of(key))] == anyio.current_time()


async def test_what_the_nearest_three_do_not_know_is_asked_of_all_of_the_nearest() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(12)
        cid = cid_of("content")
        asker, *others = nodes
        order = nearest(point_of(cid.multihash), ids(others), len(others))
        assert len(order) > BETA
        knowing = next(node for node in others if node.peer_id == order[-1])
        provider = PeerInfo(key_of("provider").peer_id, (Multiaddr.parse("/ip4/10.1.1.1/tcp/1"),))
        knowing.providers.add(cid.multihash, provider, 0)
        assert await providers_of(asker, cid) == [provider]


async def test_a_lookup_serves_so_many_blocks_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(3)
        targets = lookups_of(nodes[0], monkeypatch)
        told: list[object] = []
        cids = sorted((cid_of(f"{n}") for n in range(2 * _SHARE + 1)), key=lambda cid: point_of(cid.multihash))
        await nodes[0].dht.provide_many(cids, told.append)
        assert set(told) == set(cids)
        assert targets == [point_of(cids[number].multihash) for number in (0, _SHARE, 2 * _SHARE)]


async def test_a_search_ends_when_it_has_found_enough_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kad_dht, "MAX_PROVIDERS", 30)

    class Namer(Liar):
        def lie(self, request: KadMessage) -> KadMessage:
            return KadMessage(request.type, request.key, provider_peers=tuple(PeerInfo(each) for each in fakes))

    fakes = [key_of(f"fake {number}").peer_id for number in range(100)]
    async with KadWorld() as world:
        nodes = await world.network_of(4)
        for node in nodes[1:]:
            Namer(node)
        found = await providers_of(nodes[0], cid_of("x"))
        assert len(found) == len(ids(found)) == 30


# ---- streams ----


async def test_streams_that_are_not_used_are_closed_after_a_while() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(4)
        await nodes[0].dht.closest_peers(b"x")
        served = [node.dht._server._streams for node in nodes[1:]]
        assert served == [1, 1, 1]
        await anyio.sleep(2 * KEEP_IDLE)
        assert [node.dht._server._streams for node in nodes[1:]] == [0, 0, 0]
        assert LAN.protocol in nodes[1].swarm.protocols()
