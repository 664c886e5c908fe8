import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
from trio.testing import MockClock

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.delimited import send_delimited
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import (
    InvalidValueError,
    NoRoutingPeersError,
    PeerNotFoundError,
    ValueNotFoundError,
    ValueNotTakenError,
    get_value,
)
from ipvcs.node.routing.kad_message import KadMessage, MessageType, Record, encode_message
from ipvcs.node.routing.kad_profile import LAN, WAN
from ipvcs.node.routing.kad_providing import NoAddressError
from ipvcs.node.routing.keyspace import nearest, point_of
from ipvcs.node.routing.lookup import Lookup
from ipvcs.node.routing.routing_table import MAX_FAILURES, REFRESH_INTERVAL
from tests.fakes.memory_network import key_of
from tests.unit.node.routing.kad_world import KadWorld, Liar, Node, cid_of, ids, providers_of, values_of

pytestmark = pytest.mark.anyio

KEY = b"/n/\xff\x00key"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "trio", {"clock": MockClock(autojump_threshold=0)}


def holders(nodes: Iterable[Node], key: bytes) -> set[PeerId]:
    return {node.peer_id for node in nodes if node.values.kept.get(key)}


# ---- a network of honest nodes ----


async def test_nodes_find_peers_providers_and_values_that_they_never_met() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(24)
        assert min(len(node.dht.table) for node in nodes) >= 20

        for asker, wanted in zip(nodes[:10], reversed(nodes), strict=False):
            assert await asker.dht.find_peer(wanted.peer_id) == wanted.info

        provider, cid = nodes[3], cid_of("content")
        others = [node for node in nodes if node is not provider]
        assert await provider.dht.provide(cid) == 20
        await anyio.sleep(1)
        told = {node.peer_id for node in others if cid.multihash in node.providers.kept}
        assert told == set(nearest(point_of(cid.multihash), ids(others), 20))
        for node in others[:10]:
            assert await providers_of(node, cid) == [provider.info]
        assert await providers_of(provider, cid) == [], "we need not be told of ourselves"

        assert await nodes[4].dht.set_value(KEY, b"7") == 20
        others = [node for node in nodes if node is not nodes[4]]
        assert holders(others, KEY) == set(nearest(point_of(KEY), ids(others), 20))
        for node in nodes[:10]:
            assert await get_value(node.dht, KEY) == b"7"


async def test_many_blocks_are_announced_with_fewer_lookups_than_blocks_and_all_are_found() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(24)
        provider = nodes[3]
        cids = sorted((cid_of(f"block {number}") for number in range(60)), key=lambda cid: point_of(cid.multihash))
        lookups = 0
        look_up = provider.dht._members.look_up

        async def counting(key: bytes, **options: Any) -> Lookup:
            nonlocal lookups
            lookups += 1
            return await look_up(key, **options)

        provider.dht._members.look_up = counting  # type: ignore[method-assign]
        told_of: set[Cid] = set()
        await provider.dht.provide_many(cids, told_of.add)
        assert told_of == set(cids)
        assert lookups < 40
        await anyio.sleep(1)
        for cid in cids[::9]:
            told = {node.peer_id for node in nodes if node is not provider and cid.multihash in node.providers.kept}
            others = ids(node for node in nodes if node is not provider)
            assert len(told & set(nearest(point_of(cid.multihash), others, 20))) >= 10
            assert await providers_of(nodes[11], cid) == [provider.info]


async def test_a_client_is_asked_nothing_but_finds_and_is_found_and_provides() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(8)
        client = await world.node("client", mode="client")
        await world.join(client, nodes[0])
        await anyio.sleep(30)

        assert LAN.protocol not in client.swarm.protocols()
        assert len(client.dht.table) == 8
        assert all(client.peer_id not in node.dht.table for node in nodes)
        assert await nodes[5].dht.find_peer(client.peer_id) == client.info
        await client.dht.provide(cid_of("mine"))
        await anyio.sleep(1)
        assert await providers_of(nodes[5], cid_of("mine")) == [client.info]


async def test_a_client_that_becomes_a_server_enters_tables_and_leaves_them_when_it_is_one_no_more() -> None:
    async with KadWorld() as world:
        server, client = await world.node("server"), await world.node("client", mode="client")
        await world.join(client, server)
        assert client.peer_id not in server.dht.table

        client.dht.set_mode("server")
        for connection in server.swarm.connections(client.peer_id):
            await server._identify(connection)  # as a push would tell
        await anyio.sleep(1)
        assert client.peer_id in server.dht.table

        client.dht.set_mode("client")
        for connection in server.swarm.connections(client.peer_id):
            await server._identify(connection)
        assert client.peer_id not in server.dht.table
        assert client.dht.mode == "client"


async def test_alone_there_is_nobody_to_ask() -> None:
    async with KadWorld() as world:
        node = await world.node("alone")
        with pytest.raises(NoRoutingPeersError):
            await node.dht.find_peer(key_of("somebody").peer_id)
        with pytest.raises(NoRoutingPeersError):
            await node.dht.provide(cid_of("x"))
        with pytest.raises(NoRoutingPeersError):
            await node.dht.set_value(b"/n/x", b"1")
        with pytest.raises(NoRoutingPeersError):
            await get_value(node.dht, b"/n/y")
        assert await get_value(node.dht, b"/n/x") == b"1", "what we set we know"
        assert await providers_of(node, cid_of("x")) == []


async def test_what_is_nowhere_is_not_found() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(5)
        with pytest.raises(PeerNotFoundError):
            await nodes[0].dht.find_peer(key_of("nobody").peer_id)
        assert await providers_of(nodes[0], cid_of("nothing")) == []
        with pytest.raises(ValueNotFoundError):
            await get_value(nodes[0].dht, b"/n/nothing")


async def test_right_after_a_connection_an_operation_waits_for_the_first_peer() -> None:
    async with KadWorld(latency=0.1) as world:
        a, b = await world.node("a"), await world.node("b")
        b.values.kept[KEY] = b"3"
        connection = await a.swarm.connect(b.info)
        await a._identify(connection)
        assert len(a.dht.table) == 0
        assert await get_value(a.dht, KEY) == b"3"


async def test_a_connected_peer_is_found_without_asking_anybody() -> None:
    async with KadWorld() as world:
        a, b = await world.node("a", mode="client"), await world.node("b", mode="client")
        await world.join(a, b)
        assert await a.dht.find_peer(b.peer_id) == b.info
        assert await b.dht.find_peer(a.peer_id) == a.info
        assert await a.dht.find_peer(a.peer_id) == a.info


async def test_what_is_found_is_verified_by_going_there() -> None:
    async with KadWorld() as world:
        a, b, c = await world.node("a"), await world.node("b"), await world.node("c", mode="client")
        await world.join(c, b)
        await world.join(a, b)
        assert not a.swarm.connections(c.peer_id)
        assert await a.dht.find_peer(c.peer_id) == c.info
        assert a.swarm.connections(c.peer_id)


OLD = Multiaddr.parse("/ip4/10.77.0.1/tcp/1")


def know(asker: Node, wanted: Node, addr: Multiaddr) -> None:
    asker.dht._members._known = lambda peer_id: (addr,) if peer_id == wanted.peer_id else ()


@pytest.mark.parametrize("is_silent", [True, False])
async def test_who_moved_is_found_where_it_is_now(is_silent: bool) -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(5)
        asker, wanted = await world.node("asker"), await world.node("wanted", mode="client")
        await world.join(wanted, nodes[4])
        await world.join(asker, nodes[0])
        if is_silent:
            world.network.delay(OLD)
        know(asker, wanted, OLD)
        found = await asker.dht.find_peer(wanted.peer_id)
        assert found.addrs[0] == wanted.info.addrs[0]
        assert found == wanted.info or is_silent


async def test_who_is_where_it_was_is_found_there_though_nobody_else_knows() -> None:
    async with KadWorld() as world:
        asker, other = await world.node("asker"), await world.node("other")
        wanted = await world.node("wanted", mode="client")
        know(asker, wanted, wanted.info.addrs[0])
        assert await asker.dht.find_peer(wanted.peer_id) == wanted.info, "there is nobody to ask"
        for connection in asker.swarm.connections(wanted.peer_id):
            await connection.aclose()
        await world.join(asker, other)
        assert await asker.dht.find_peer(wanted.peer_id) == wanted.info


async def test_where_a_peer_was_once_hides_no_router_that_knows_better() -> None:
    async with KadWorld() as world:
        asker, wanted = await world.node("asker"), await world.node("wanted")
        know(asker, wanted, OLD)
        with pytest.raises(NoRoutingPeersError):
            await asker.dht.find_peer(wanted.peer_id)


async def test_stale_buckets_are_refreshed_every_ten_minutes() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(6)
        late = await world.node("late")
        await world.join(late, nodes[0])
        for other in nodes[1:]:
            late.dht.table.remove(other.peer_id)
        await anyio.sleep(700)
        assert len(late.dht.table) == 6


async def test_leaving_the_block_ends_a_search() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(5)
        for node in nodes[1:]:
            node.vanish()
        start = anyio.current_time()
        async with nodes[0].dht.find_providers(cid_of("x")):
            await anyio.sleep(0.5)
        async with nodes[0].dht.search_value(KEY):
            pass
        assert anyio.current_time() - start < 1
        with pytest.raises(KeyError):  # and an error in the block comes out as it is
            async with nodes[0].dht.find_providers(cid_of("x")):
                raise KeyError


async def test_one_without_an_address_in_the_public_dht_does_not_announce_itself_there() -> None:
    async with KadWorld(profile=WAN) as world:
        private = await world.node("private", addr="/ip4/10.9.9.9/tcp/0")
        public = await world.node("public", addr="/ip4/8.8.8.8/tcp/0")
        await world.join(private, public)
        assert public.peer_id in private.dht.table
        assert private.peer_id not in public.dht.table
        with pytest.raises(NoAddressError):
            await private.dht.provide(cid_of("x"))


# ---- values ----


async def test_better_values_are_streamed_and_peers_with_older_ones_are_corrected() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(10)
        for number, node in enumerate(nodes[1:7], 1):
            node.values.kept[KEY] = str(number % 4).encode()
        found = await values_of(nodes[0], KEY)
        assert found == sorted(found)
        assert found[-1] == b"3"
        await anyio.sleep(2)
        assert [node.values.kept.get(KEY) for node in nodes[1:7]] == [b"3"] * 6
        assert all(KEY not in node.values.kept for node in nodes[7:])


async def test_our_own_value_comes_first_and_a_quorum_ends_the_search() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(8)
        nodes[0].values.kept[KEY] = b"1"
        nodes[1].values.kept[KEY] = b"5"
        assert await values_of(nodes[0], KEY) == [b"1", b"5"]
        assert await values_of(nodes[1], KEY, quorum=1) == [b"5"]


async def test_a_value_that_is_not_valid_or_worse_than_ours_is_not_sent() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(3)
        nodes[0].values.kept[KEY] = b"5"
        with pytest.raises(InvalidValueError):
            await nodes[0].dht.set_value(KEY, b"no number")
        with pytest.raises(InvalidValueError):
            await nodes[0].dht.set_value(KEY, b"4")
        assert holders(nodes[1:], KEY) == set()
        assert await nodes[0].dht.set_value(KEY, b"5") == 2
        assert await nodes[0].dht.set_value(KEY, b"6") == 2


async def test_who_has_a_better_value_and_refuses_ours_is_not_counted_and_not_blamed() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(5)
        for node in nodes[1:]:
            node.values.kept[KEY] = b"9"
        for _ in range(3):
            with pytest.raises(ValueNotTakenError):
                await nodes[0].dht.set_value(KEY, b"5")
        for _ in range(MAX_FAILURES + 1):
            assert await nodes[0].dht._put_to([node.info for node in nodes[1:]], KEY, b"5") == [False] * 4
        assert len(nodes[0].dht.table) == 4
        del nodes[1].values.kept[KEY]
        assert await nodes[0].dht.set_value(KEY, b"5") == 1
        assert [node.values.kept[KEY] for node in nodes[1:]] == [b"5", b"9", b"9", b"9"]


@dataclass
class Watch:
    """Lets no even number be replaced."""

    heard: list[bytes] = field(default_factory=list)
    takers: list[PeerId] = field(default_factory=list)

    def may_replace(self, value: bytes) -> bool:
        self.heard.append(value)
        return int(value) % 2 == 1

    def taken(self, peer_id: PeerId) -> None:
        self.takers.append(peer_id)


async def test_who_watches_decides_what_is_replaced_and_hears_who_took_it() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(4)
        nodes[1].values.kept[KEY] = b"2"
        nodes[2].values.kept[KEY] = b"3"
        watch = Watch()
        assert await nodes[0].dht.set_value(KEY, b"5", watch=watch) == 2
        assert set(watch.takers) == {nodes[2].peer_id, nodes[3].peer_id}
        assert sorted(watch.heard) == [b"2", b"3"]
        assert [node.values.kept[KEY] for node in nodes] == [b"5", b"2", b"5", b"5"]


async def test_what_nobody_took_since_all_have_another_is_not_kept_here() -> None:
    """It would be found here, and win."""
    async with KadWorld() as world:
        nodes = await world.network_of(3)
        for node in nodes[1:]:
            node.values.kept[KEY] = b"2"
        with pytest.raises(ValueNotTakenError):
            await nodes[0].dht.set_value(KEY, b"5", watch=Watch())
        assert KEY not in nodes[0].values.kept
        nodes[0].values.kept[KEY] = b"4"
        with pytest.raises(InvalidValueError, match="another value"):
            await nodes[0].dht.set_value(KEY, b"5", watch=Watch())


async def test_a_value_that_comes_while_ours_is_taken_is_heard_of(monkeypatch: pytest.MonkeyPatch) -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(2)
        watch = Watch()
        taken = watch.taken

        def overwrite(peer_id: PeerId) -> None:
            taken(peer_id)
            nodes[1].values.kept[KEY] = b"8"

        monkeypatch.setattr(watch, "taken", overwrite)
        assert await nodes[0].dht.set_value(KEY, b"5", watch=watch) == 1
        assert watch.heard == [b"8"]


async def test_what_is_watched_is_kept_here_when_there_is_nobody_else() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(1)
        with pytest.raises(NoRoutingPeersError):
            await nodes[0].dht.set_value(KEY, b"5", watch=Watch())
        assert nodes[0].values.kept[KEY] == b"5"


# ---- the dead ----


async def test_when_our_own_network_is_down_nobody_is_forgotten() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(8)
        for other in nodes[1:]:
            world.network.partition(nodes[0].peer_id, other.peer_id)
        await anyio.sleep(2)
        for number in range(3):
            assert await nodes[0].dht.closest_peers(b"%d" % number) == []
        assert len(nodes[0].dht.table) == 7


async def test_a_peer_that_never_answers_costs_less_than_three_seconds() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(10)
        cid = cid_of("content")
        await nodes[9].dht.provide(cid)
        await nodes[9].dht.set_value(KEY, b"1")
        dead = next(node for node in nodes[1:9] if node.peer_id in nearest(point_of(cid.multihash), ids(nodes), 4))
        dead.vanish()
        for operation in (
            lambda: providers_of(nodes[0], cid),
            lambda: nodes[0].dht.closest_peers(cid.multihash),
            lambda: get_value(nodes[0].dht, KEY),
        ):
            start = anyio.current_time()
            await operation()
            assert anyio.current_time() - start < 3


@pytest.mark.parametrize("way", ["vanish", "stop"])
async def test_with_a_dead_third_everything_is_found_in_seconds(way: str) -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(21)
        cid = cid_of("content")
        await nodes[0].dht.provide(cid)
        await nodes[0].dht.set_value(KEY, b"1")
        await anyio.sleep(1)
        for node in random.Random(3).sample(nodes[1:], 7):
            if way == "vanish":
                node.vanish()
            else:
                await node.stop()
        living = list(world.nodes.values()) if way == "stop" else [node for node in nodes if is_there(world, node)]
        assert len(living) == 14
        for node in living[1:3]:
            start = anyio.current_time()
            assert await providers_of(node, cid) == [nodes[0].info]
            assert await get_value(node.dht, KEY) == b"1"
            assert await node.dht.find_peer(living[8].peer_id) == living[8].info
            assert anyio.current_time() - start < 15


def is_there(world: KadWorld, node: Node) -> bool:
    return all(addr not in world.network._delays for addr in node.swarm.addresses())


async def test_who_fails_again_and_again_leaves_the_table() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(6)
        nodes[5].vanish()
        for _ in range(3):
            await nodes[0].dht.closest_peers(nodes[5].peer_id.raw)
        assert nodes[5].peer_id not in nodes[0].dht.table
        assert len(nodes[0].dht.table) == 4


async def test_what_is_provided_is_found_while_nodes_come_and_go(full_counts: bool) -> None:
    """Twenty nodes; in each round 30 % leave, half of them silently, and as many join. What one announces at
    the beginning of a round, another finds at its end.
    """
    chance = random.Random(7)
    async with KadWorld() as world:
        nodes = await world.network_of(20)
        outcomes: list[bool] = []
        for round_ in range(20 if full_counts else 3):
            announced = []
            for number in range(10):
                node, cid = chance.choice(nodes), cid_of(f"{round_} {number}")
                await node.dht.provide(cid)
                announced.append((node, cid))
            leaving = chance.sample([node for node in nodes if all(node is not each for each, _ in announced)], 6)
            for node in leaving:
                nodes.remove(node)
                if chance.random() < 0.5:
                    await node.stop()
                else:
                    node.vanish()
            for number in range(6):
                newcomer = await world.node(f"round {round_} {number}")
                await world.join(newcomer, chance.choice(nodes))
                nodes.append(newcomer)
            for provider, cid in announced:
                asker = chance.choice([node for node in nodes if node is not provider])
                outcomes.append(provider.info in await providers_of(asker, cid))
        assert len(outcomes) >= 30
        assert sum(outcomes) / len(outcomes) >= 0.95


# ---- liars ----


NOWHERE = [Multiaddr.parse(f"/ip4/10.66.0.{number + 1}/tcp/66") for number in range(50)]


class GhostMaker(Liar):
    """Names fake peers by the hundred, with addresses where nobody answers, and itself under other ids."""

    def __init__(self, node: Node, ghosts: list[PeerId]) -> None:
        super().__init__(node)
        fakes = [PeerInfo(ghost, (addr,)) for ghost, addr in zip(ghosts[:50], NOWHERE, strict=True)]
        self.peers = (*fakes, *(PeerInfo(ghost, node.swarm.addresses()) for ghost in ghosts[50:]))

    def lie(self, request: KadMessage) -> KadMessage:
        return KadMessage(request.type, request.key, closer_peers=self.peers)


async def test_peers_that_are_only_named_never_enter_the_table_and_hide_nobody() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(14)
        for addr in NOWHERE:
            world.network.delay(addr)
        ghosts = [key_of(f"ghost {number}").peer_id for number in range(100)]
        for node in nodes[:3]:
            GhostMaker(node, ghosts)
        cid = cid_of("content")
        await nodes[3].dht.provide(cid)
        start = anyio.current_time()
        assert await providers_of(nodes[4], cid) == [nodes[3].info]
        assert await nodes[4].dht.find_peer(nodes[9].peer_id) == nodes[9].info
        assert anyio.current_time() - start < 20
        await anyio.sleep(REFRESH_INTERVAL + 20)
        for node in nodes[3:]:
            assert ids(node.dht.table) <= ids(nodes)


async def test_false_providers_are_bounded_and_addresses_of_other_kinds_are_dropped() -> None:
    class Liar1(Liar):
        def lie(self, request: KadMessage) -> KadMessage:
            fakes = [
                PeerInfo(key_of(f"fake {n}").peer_id, (Multiaddr.parse("/ip4/127.0.0.1/tcp/1"),)) for n in range(300)
            ]
            return KadMessage(request.type, request.key, provider_peers=tuple(fakes))

    async with KadWorld() as world:
        nodes = await world.network_of(5)
        Liar1(nodes[0])
        await nodes[1].dht.provide(cid_of("x"))
        await anyio.sleep(1)
        found = await providers_of(nodes[2], cid_of("x"))
        assert nodes[1].info in found
        assert len(found) == len(ids(found)) == 101
        assert all(not peer.addrs for peer in found if peer != nodes[1].info), "loopback is another machine to us"


async def test_providers_that_a_liar_announces_for_others_are_not_kept() -> None:
    async with KadWorld() as world:
        nodes = await world.network_of(3)
        stream = await nodes[0].swarm.open_stream(nodes[1].peer_id, [LAN.protocol])
        fake = KadMessage(MessageType.ADD_PROVIDER, cid_of("x").multihash, provider_peers=(nodes[2].info,))
        await send_delimited(stream, encode_message(fake))
        await anyio.sleep(1)
        assert not nodes[1].providers.kept


async def test_values_that_are_invalid_or_under_another_key_are_passed_over() -> None:
    class Forger(Liar):
        def lie(self, request: KadMessage) -> KadMessage:
            return KadMessage(request.type, request.key, Record(request.key, b"forged"))

    class Mixer(Liar):
        def lie(self, request: KadMessage) -> KadMessage:
            return KadMessage(request.type, request.key, Record(b"/n/other", b"999"))

    async with KadWorld() as world:
        nodes = await world.network_of(8)
        liars = [Forger(nodes[0]), Mixer(nodes[1])]
        nodes[2].values.kept[KEY] = b"5"
        assert await values_of(nodes[3], KEY) == [b"5"]
        assert all(any(request.type is MessageType.GET_VALUE for request in liar.asked) for liar in liars)
        await anyio.sleep(1)
        assert all(request.type is not MessageType.PUT_VALUE for liar in liars for request in liar.asked)


async def test_a_false_address_of_a_peer_does_not_hide_it() -> None:
    async with KadWorld() as world:
        liar, honest, asker = await world.node("liar"), await world.node("honest"), await world.node("asker")
        wanted = await world.node("wanted", mode="client")
        await world.join(wanted, honest)
        await world.join(asker, liar)
        await world.join(asker, honest)

        class Misleader(Liar):
            def lie(self, request: KadMessage) -> KadMessage:
                there = PeerInfo(wanted.peer_id, liar.swarm.addresses())
                return KadMessage(request.type, request.key, closer_peers=(there,))

        Misleader(liar)
        assert await asker.dht.find_peer(wanted.peer_id) == wanted.info
