from contextlib import nullcontext

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.interface import InvalidValueError
from ipvcs.node.routing.kad_answers import (
    MAX_KEY,
    MAX_PROVIDER_KEY,
    MAX_TOLD,
    Answerer,
    Knowledge,
    RefusedRequestError,
)
from ipvcs.node.routing.kad_message import KadMessage, MessageType, Record, decode_message, encode_message
from ipvcs.node.routing.kad_profile import LAN, WAN, KadProfile
from ipvcs.node.routing.keyspace import nearest, point_of
from ipvcs.node.routing.routing_table import K, RoutingTable
from tests.fakes.memory_network import key_of
from tests.unit.node.routing.kad_world import Providers, Values

OWN = key_of("us").peer_id
ASKER = PeerInfo(key_of("asker").peer_id, (Multiaddr.parse("/ip4/9.9.9.9/tcp/999"),))
NEAR_ASKER = PeerInfo(ASKER.peer_id, (Multiaddr.parse("/ip4/10.0.0.9/tcp/999"),))
LOOPBACK = Multiaddr.parse("/ip4/127.0.0.1/tcp/4001")
PRIVATE = Multiaddr.parse("/ip4/10.0.0.7/tcp/4001")
PUBLIC = Multiaddr.parse("/ip4/8.8.8.8/tcp/4001")
PEERS = [key_of(f"peer {number}").peer_id for number in range(60)]
NOW = 1_700_000_000.0


class World:
    """What a server knows, and the server."""

    def __init__(self, profile: KadProfile = WAN, *, own: tuple[Multiaddr, ...] = (PUBLIC, PRIVATE)) -> None:
        self.table = RoutingTable(OWN)
        self.values, self.providers = Values(), Providers()
        self.known: dict[PeerId, PeerInfo] = {}
        self.answerer = Answerer(
            Knowledge(
                table=self.table,
                values=self.values,
                providers=self.providers,
                own_addrs=lambda: own,
                find_known=self.known.get,
                accepts_addr=profile.accepts_addr,
            )
        )

    def fill(self, *addrs: Multiaddr) -> list[PeerId]:
        for peer_id in PEERS:
            self.table.offer(PeerInfo(peer_id, addrs), frozenset(), 0)
        return [peer.peer_id for peer in self.table]

    def ask(self, kind: MessageType, key: bytes = b"", sender: PeerInfo = ASKER, **fields: object) -> KadMessage:
        answer = self.answerer.answer(KadMessage(kind, key, **fields), sender, NOW)  # type: ignore[arg-type]
        assert answer is not None
        return decode_message(encode_message(answer))


def ids(peers: tuple[PeerInfo, ...]) -> list[PeerId]:
    return [peer.peer_id for peer in peers]


def test_a_ping_is_said_back() -> None:
    assert World().ask(MessageType.PING) == KadMessage(MessageType.PING)


def test_the_k_nearest_are_told_but_neither_us_nor_who_asks() -> None:
    world = World()
    there = world.fill(PUBLIC)
    world.table.offer(ASKER, frozenset(), 0)
    for key in (b"anything", ASKER.peer_id.raw):
        answer = world.ask(MessageType.FIND_NODE, key)
        assert ids(answer.closer_peers) == nearest(point_of(key), there, K)
        assert answer.key == key


def test_who_is_looked_for_is_told_first_even_a_client_and_even_if_that_is_us() -> None:
    world = World()
    world.fill(PUBLIC)
    client = key_of("client").peer_id
    world.known[client] = PeerInfo(client, (PUBLIC, LOOPBACK))
    assert world.ask(MessageType.FIND_NODE, client.raw).closer_peers[0] == PeerInfo(client, (PUBLIC,))
    assert world.ask(MessageType.FIND_NODE, OWN.raw).closer_peers[0] == PeerInfo(OWN, (PUBLIC,))
    stranger = key_of("stranger").peer_id
    assert stranger not in ids(world.ask(MessageType.FIND_NODE, stranger.raw).closer_peers)


def test_a_peer_of_the_table_that_is_looked_for_is_told_once() -> None:
    world = World()
    there = world.fill(PUBLIC)
    world.known.update({peer_id: PeerInfo(peer_id, (PUBLIC,)) for peer_id in there})
    told = ids(world.ask(MessageType.FIND_NODE, there[0].raw).closer_peers)
    assert told[0] == there[0]
    assert len(told) == len(set(told)) == K


def test_peers_without_an_address_are_left_out_and_the_next_ones_told() -> None:
    world = World()
    there = world.fill(PUBLIC)
    lost = nearest(point_of(b"x"), there, 5)
    for peer_id in lost:
        world.table.update(PeerInfo(peer_id, (PRIVATE,)))
    told = ids(world.ask(MessageType.FIND_NODE, b"x").closer_peers)
    assert told == nearest(point_of(b"x"), [peer_id for peer_id in there if peer_id not in lost], K)


@pytest.mark.parametrize(
    ("profile", "sender", "told"),
    [
        (WAN, ASKER, (PUBLIC,)),
        (WAN, NEAR_ASKER, (PUBLIC,)),
        (LAN, NEAR_ASKER, (PRIVATE, PUBLIC)),
        (LAN, PeerInfo(ASKER.peer_id, (LOOPBACK,)), (LOOPBACK, PRIVATE, PUBLIC)),
    ],
)
def test_addresses_are_told_that_belong_into_the_dht_and_mean_something_to_who_asks(
    profile: KadProfile, sender: PeerInfo, told: tuple[Multiaddr, ...]
) -> None:
    world = World(profile)
    world.table.offer(PeerInfo(PEERS[0], (LOOPBACK, PRIVATE, PUBLIC)), frozenset(), 0)
    assert world.ask(MessageType.FIND_NODE, b"x", sender).closer_peers == (PeerInfo(PEERS[0], told),)


def test_a_valid_value_is_kept_and_said_back_and_told_with_the_nearest() -> None:
    world = World()
    there = world.fill(PUBLIC)
    record = Record(b"/n/\xff", b"7")
    answer = world.ask(MessageType.PUT_VALUE, b"/n/\xff", record=record)
    assert answer == KadMessage(MessageType.PUT_VALUE, b"/n/\xff", record)
    answer = world.ask(MessageType.GET_VALUE, b"/n/\xff")
    assert answer.record == record
    assert ids(answer.closer_peers) == nearest(point_of(b"/n/\xff"), there, K)


def test_a_worse_value_does_not_replace_a_better_one_and_is_not_said_back() -> None:
    world = World()
    for value, is_taken in ((b"7", True), (b"3", False), (b"9", True), (b"8", False), (b"9", True)):
        with nullcontext() if is_taken else pytest.raises(InvalidValueError):  # echoed, it would count as kept
            world.ask(MessageType.PUT_VALUE, b"/n/a", record=Record(b"/n/a", value))
    assert world.values.kept == {b"/n/a": b"9"}


def test_a_value_that_has_expired_is_not_told_and_replaced_by_a_worse_one() -> None:
    world = World()
    world.values.kept[b"/n/a"] = b"1000001"
    assert world.ask(MessageType.GET_VALUE, b"/n/a").record is None
    world.ask(MessageType.PUT_VALUE, b"/n/a", record=Record(b"/n/a", b"1"))
    assert world.values.kept[b"/n/a"] == b"1"


@pytest.mark.parametrize(
    ("key", "record"),
    [
        (b"/n/a", None),
        (b"/n/a", Record(b"/n/b", b"7")),
        (b"/n/a", Record(b"/n/a", b"no number")),
        (b"/other/a", Record(b"/other/a", b"7")),
    ],
)
def test_a_value_without_a_record_under_another_key_or_not_valid_is_refused(key: bytes, record: Record | None) -> None:
    world = World()
    with pytest.raises((RefusedRequestError, InvalidValueError)):
        world.ask(MessageType.PUT_VALUE, key, record=record)
    assert not world.values.kept


def test_only_the_sender_is_noted_as_provider_with_addresses_that_belong_here() -> None:
    world = World()
    other = key_of("other").peer_id
    claims = (PeerInfo(other, (PUBLIC,)), PeerInfo(ASKER.peer_id, (LOOPBACK, PRIVATE, PUBLIC)))
    request = KadMessage(MessageType.ADD_PROVIDER, b"key", provider_peers=claims)
    assert world.answerer.answer(request, ASKER, NOW) is None
    assert world.providers.kept == {b"key": {ASKER.peer_id: PeerInfo(ASKER.peer_id, (PUBLIC,))}}


def test_a_provider_that_nobody_can_reach_is_not_noted() -> None:
    world = World()
    request = KadMessage(MessageType.ADD_PROVIDER, b"key", provider_peers=(PeerInfo(ASKER.peer_id, (PRIVATE,)),))
    world.answerer.answer(request, ASKER, NOW)
    assert not world.providers.kept


def test_providers_are_told_ourselves_with_the_addresses_of_today() -> None:
    world = World()
    there = world.fill(PUBLIC)
    world.providers.add(b"key", PeerInfo(OWN, (Multiaddr.parse("/ip4/1.1.1.1/tcp/1"),)), NOW)
    world.providers.add(b"key", PeerInfo(PEERS[0], (PUBLIC, PRIVATE)), NOW)
    world.providers.add(b"key", PeerInfo(PEERS[1]), NOW)
    world.providers.add(b"key", PeerInfo(ASKER.peer_id, (PUBLIC,)), NOW)
    answer = world.ask(MessageType.GET_PROVIDERS, b"key")
    assert answer.provider_peers == (PeerInfo(OWN, (PUBLIC,)), PeerInfo(PEERS[0], (PUBLIC,)))
    assert ids(answer.closer_peers) == nearest(point_of(b"key"), there, K)


def test_providers_with_endless_addresses_make_no_endless_answer() -> None:
    world = World()
    for peer_id in PEERS:
        addrs = [Multiaddr.parse(f"/dns4/{number:02}{'x' * 400}.example/tcp/1") for number in range(16)]
        world.providers.add(b"key", PeerInfo(peer_id, tuple(addrs)), NOW)
    request = KadMessage(MessageType.GET_PROVIDERS, b"key")
    answer = world.answerer.answer(request, ASKER, NOW)
    assert answer is not None
    assert MAX_TOLD // 2 < len(encode_message(answer)) <= MAX_TOLD + 100
    world.providers.kept.clear()
    for peer_id in PEERS:
        usual = [Multiaddr.parse(f"/ip4/8.8.{number}.8/udp/4001/quic-v1") for number in range(6)]
        world.providers.add(b"key", PeerInfo(peer_id, tuple(usual)), NOW)
    assert ids(world.ask(MessageType.GET_PROVIDERS, b"key").provider_peers) == PEERS


@pytest.mark.parametrize("kind", [kind for kind in MessageType if kind is not MessageType.PING])
def test_a_request_without_a_key_or_with_an_endless_one_is_refused(kind: MessageType) -> None:
    world = World()
    limit = MAX_PROVIDER_KEY if "PROVIDER" in kind.name else MAX_KEY
    for key in (b"", bytes(limit + 1)):
        with pytest.raises(RefusedRequestError):
            world.ask(kind, key)


@given(st.binary(max_size=200))
def test_no_request_breaks_a_server(data: bytes) -> None:
    world = World()
    world.fill(PUBLIC)
    try:
        answer = world.answerer.answer(decode_message(data), ASKER, NOW)
    except IpvcsError:
        return
    if answer is not None:
        decode_message(encode_message(answer))
