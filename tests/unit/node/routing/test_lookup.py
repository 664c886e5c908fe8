"""Lookups against networks that are a dict, on a clock that is a number."""

import heapq
import random
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.keyspace import Point, nearest, point_of
from ipvcs.node.routing.lookup import ALPHA, BETA, MAX_IN_FLIGHT, MAX_TRIES, SLOW_AFTER, Lookup
from ipvcs.node.routing.routing_table import K, RoutingTable
from tests.fakes.memory_network import key_of

OWN = key_of("us").peer_id
TIMEOUT = 10.0
ADDR = Multiaddr.parse("/ip4/1.2.3.4/tcp/4001")


def peers_of(number: int, name: str = "peer") -> list[PeerId]:
    return [key_of(f"{name} {index}").peer_id for index in range(number)]


class Network:
    """Peers with full routing tables of one another; some may be dead, slow or liars."""

    def __init__(self, number: int, seed: int = 0) -> None:
        self.peers = peers_of(number)
        self.delays: dict[PeerId, float] = {}
        self.dead: set[PeerId] = set()
        self.says: dict[PeerId, Callable[[Point], Sequence[PeerId]]] = {}
        chance = random.Random(seed)
        self.tables: dict[PeerId, RoutingTable] = {}
        for peer_id in self.peers:
            table = self.tables[peer_id] = RoutingTable(peer_id)
            for other in chance.sample(self.peers, len(self.peers)):
                table.offer(PeerInfo(other), frozenset(), 0.0)

    def answer(self, peer_id: PeerId, target: Point) -> Sequence[PeerId]:
        if peer_id in self.says:
            return self.says[peer_id](target)
        return [peer.peer_id for peer in self.tables[peer_id].closest(target, K)]

    def run(self, lookup: Lookup, *, max_time: float = 60.0) -> float:
        """Run `lookup` as the service does; return how long it took."""
        now = 0.0
        events: list[tuple[float, int, PeerId, bool]] = []
        given_up: set[int] = set()
        asked: dict[PeerId, int] = {}
        count = 0
        self.most = 0
        while now < max_time:
            lookup.handle_deadline(now)
            if lookup.is_finished:
                break
            while (peer_id := lookup.next_given_up()) is not None:
                given_up.add(asked[peer_id])
                lookup.failed(peer_id)
            while (peer := lookup.next_query(now)) is not None:
                count += 1
                asked[peer.peer_id] = count
                alive = peer.peer_id not in self.dead and peer.peer_id in self.tables
                delay = self.delays.get(peer.peer_id, 0.1) if alive else TIMEOUT
                heapq.heappush(events, (now + delay, count, peer.peer_id, alive))
            while events and events[0][1] in given_up:
                heapq.heappop(events)
            self.most = max(self.most, len(events))
            deadline = lookup.next_deadline()
            if not events or (deadline is not None and deadline < events[0][0]):
                assert deadline is not None, "nothing will ever happen"
                now = deadline
                continue
            now, _count, peer_id, alive = heapq.heappop(events)
            if alive:
                lookup.answered(peer_id, [PeerInfo(each) for each in self.answer(peer_id, lookup.target)])
            else:
                lookup.failed(peer_id)
        return now


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(400)


@pytest.fixture
def fresh(network: Network) -> Network:
    network.delays.clear()
    network.dead.clear()
    network.says.clear()
    return network


def lookup_in(network: Network, name: str, *, width: int = BETA) -> Lookup:
    seeds = [PeerInfo(peer_id) for peer_id in random.Random(name).sample(network.peers, 5)]
    return Lookup(point_of(name.encode()), seeds, own_id=OWN, width=width)


def found(lookup: Lookup, number: int | None = None) -> list[PeerId]:
    return [peer.peer_id for peer in lookup.closest(number)]


def test_the_k_nearest_of_all_are_found(fresh: Network) -> None:
    for name in map(str, range(20)):
        lookup = lookup_in(fresh, name, width=K)
        took = fresh.run(lookup)
        assert found(lookup) == nearest(lookup.target, fresh.peers, K)
        assert took < 1.0
        assert lookup.queries < 60


def test_the_beta_nearest_are_found_with_fewer_queries(fresh: Network) -> None:
    wide, narrow = 0, 0
    for name in map(str, range(20)):
        lookup = lookup_in(fresh, name)
        fresh.run(lookup)
        assert found(lookup, BETA) == nearest(lookup.target, fresh.peers, BETA)
        narrow += lookup.queries
        lookup = lookup_in(fresh, name, width=K)
        fresh.run(lookup)
        wide += lookup.queries
    assert narrow < wide


def test_with_a_dead_third_the_nearest_of_the_living_are_found_in_seconds(fresh: Network) -> None:
    fresh.dead.update(random.Random(1).sample(fresh.peers, len(fresh.peers) // 3))
    living = [peer_id for peer_id in fresh.peers if peer_id not in fresh.dead]
    for name in map(str, range(20)):
        lookup = lookup_in(fresh, name, width=K)
        took = fresh.run(lookup)
        assert found(lookup, 10) == nearest(lookup.target, living, 10)
        # Each table is full of the dead, so the farther of the k nearest are unknown even to their neighbours.
        assert len({*found(lookup)} & {*nearest(lookup.target, living, K)}) >= K - 5
        assert took < 8.0, "one time-out alone would take ten"


def test_one_silent_peer_costs_no_more_than_two_seconds(fresh: Network) -> None:
    lookup = lookup_in(fresh, "silence", width=K)
    before = fresh.run(lookup)
    fresh.dead.add(nearest(lookup.target, fresh.peers, 1)[0])
    lookup = lookup_in(fresh, "silence", width=K)
    assert fresh.run(lookup) <= before + SLOW_AFTER + 0.2
    assert found(lookup) == nearest(lookup.target, fresh.peers, K + 1)[1:]


def test_a_slow_peer_is_not_waited_for_but_counts_when_it_answers() -> None:
    target = point_of(b"x")
    near, far = nearest(target, peers_of(2), 2)
    lookup = Lookup(target, [PeerInfo(near), PeerInfo(far)], own_id=OWN, width=2)
    lookup.next_query(0.0)
    lookup.next_query(0.0)
    lookup.handle_deadline(SLOW_AFTER)
    states = [lookup.is_finished]
    assert lookup.slow() == [near, far]
    lookup.answered(near, [])
    states.append(lookup.is_finished)
    assert states == [False, True], "while nobody has answered at all, slow peers are waited for"
    lookup.answered(far, [])
    assert found(lookup) == [near, far]


def test_when_nobody_answers_it_ends_when_the_last_has_failed() -> None:
    network = Network(3)
    network.dead.update(network.peers)
    lookup = Lookup(point_of(b"x"), map(PeerInfo, network.peers), own_id=OWN)
    assert network.run(lookup) == TIMEOUT
    assert lookup.is_finished
    assert lookup.closest() == []


def test_without_seeds_it_is_over_before_it_begins() -> None:
    lookup = Lookup(point_of(b"x"), [], own_id=OWN)
    assert lookup.is_finished
    assert lookup.next_query(0.0) is None
    assert lookup.next_deadline() is None


def test_an_answer_makes_room_for_the_next_query_at_once_and_so_does_silence() -> None:
    lookup = Lookup(point_of(b"x"), map(PeerInfo, peers_of(40)), own_id=OWN, width=K)
    asked = [lookup.next_query(0.0) for _ in range(ALPHA)]
    assert lookup.next_query(0.0) is None
    assert asked[0] is not None
    lookup.answered(asked[0].peer_id, [])
    assert lookup.next_query(1.0) is not None
    assert lookup.next_query(1.0) is None
    assert lookup.next_deadline() == SLOW_AFTER
    lookup.handle_deadline(SLOW_AFTER)
    more = [lookup.next_query(SLOW_AFTER) for _ in range(ALPHA)]
    assert [peer is None for peer in more] == [False] * (ALPHA - 1) + [True], "one was asked at 1.0"


def test_who_is_silent_longest_is_given_up_when_all_slots_are_taken(fresh: Network) -> None:
    lookup = Lookup(point_of(b"x"), map(PeerInfo, peers_of(100, "ghost")), own_id=OWN, width=K, k=K)
    for seconds in range(0, 3 * int(SLOW_AFTER), int(SLOW_AFTER)):
        lookup.handle_deadline(seconds)
        while lookup.next_query(seconds) is not None:
            pass
    assert len(lookup.slow()) == MAX_IN_FLIGHT - ALPHA
    first = lookup.slow()[0]
    assert lookup.next_given_up() == first
    lookup.failed(first)
    assert lookup.next_given_up() is None
    assert first not in lookup.slow()


def test_a_liar_who_names_thousands_of_ghosts_near_the_key_hides_nobody(fresh: Network) -> None:
    target = point_of(b"key")
    ghosts = nearest(target, peers_of(5000, "ghost"), 1000)
    liars = random.Random(2).sample(fresh.peers, 20)
    for liar in liars:
        fresh.says[liar] = lambda _target: ghosts
    lookup = Lookup(target, [PeerInfo(liars[0]), PeerInfo(fresh.peers[0])], own_id=OWN, width=K)
    took = fresh.run(lookup)
    assert found(lookup) == nearest(target, fresh.peers, K)
    assert took < 15
    assert fresh.most <= MAX_IN_FLIGHT


def test_queries_and_memory_are_bounded_whatever_is_answered() -> None:
    network = Network(0)
    made_up = iter(range(10**9))

    def more(_target: Point) -> list[PeerId]:
        new = peers_of(0) + [key_of(f"new {next(made_up)}").peer_id for _ in range(100)]
        for each in new:
            network.says[each] = more
            network.tables[each] = RoutingTable(each)
        return new

    first = key_of("first").peer_id
    network.says[first] = more
    network.tables[first] = RoutingTable(first)
    lookup = Lookup(point_of(b"x"), [PeerInfo(first)], own_id=OWN, width=K, max_queries=50, max_peers=60)
    network.run(lookup)
    assert lookup.queries <= 50
    assert len(lookup._candidates) <= 60
    assert lookup.is_finished


def test_we_are_not_asked_whoever_names_us() -> None:
    network = Network(5)
    for peer_id in network.peers:
        network.says[peer_id] = lambda _target: [OWN, *network.peers]
    lookup = Lookup(point_of(b"x"), [PeerInfo(OWN), PeerInfo(network.peers[0])], own_id=OWN, width=K)
    network.run(lookup)
    assert sorted(found(lookup)) == sorted(network.peers)


def test_a_peer_named_falsely_first_is_asked_again_where_others_say_it_is() -> None:
    liar, honest, wanted = peers_of(3)
    wrong, right = Multiaddr.parse("/ip4/6.6.6.6/tcp/6"), ADDR
    target = point_of(wanted.raw)
    lookup = Lookup(target, [PeerInfo(liar), PeerInfo(honest)], own_id=OWN)
    assert {lookup.next_query(0), lookup.next_query(0)} == {PeerInfo(liar), PeerInfo(honest)}
    lookup.answered(liar, [PeerInfo(wanted, (wrong,))])
    assert lookup.next_query(0) == PeerInfo(wanted, (wrong,))
    lookup.failed(wanted)
    lookup.answered(honest, [PeerInfo(wanted, (right,))])
    assert not lookup.is_finished
    assert lookup.next_query(0) == PeerInfo(wanted, (right, wrong))
    lookup.answered(wanted, [])
    assert found(lookup)[0] == wanted


def test_but_not_for_ever() -> None:
    namers = peers_of(10)
    wanted = key_of("wanted").peer_id
    lookup = Lookup(point_of(wanted.raw), map(PeerInfo, namers), own_id=OWN, width=K)
    while (peer := lookup.next_query(0)) is not None:
        assert peer.peer_id in namers
    tries = 0
    for number, namer in enumerate(namers):
        lookup.answered(namer, [PeerInfo(wanted, (Multiaddr.parse(f"/ip4/6.6.6.6/tcp/{number + 1}"),))])
        if (peer := lookup.next_query(0)) is not None:
            tries += 1
            lookup.failed(peer.peer_id)
    assert tries == MAX_TRIES


def test_lookups_of_one_family_ask_nobody_twice(fresh: Network) -> None:
    claimed: set[PeerId] = set()
    target = point_of(b"x")
    halves = [
        Lookup(target, map(PeerInfo, fresh.peers[:5]), own_id=OWN, claimed=claimed),
        Lookup(target, map(PeerInfo, fresh.peers[:10]), own_id=OWN, claimed=claimed),
    ]
    asked = [peer.peer_id for each in halves for _ in range(10) if (peer := each.next_query(0.0)) is not None]
    assert sorted(asked) == sorted(fresh.peers[:10])


def test_a_widened_lookup_goes_on(fresh: Network) -> None:
    lookup = lookup_in(fresh, "widened")
    fresh.run(lookup)
    assert lookup.is_finished
    assert not lookup.is_wide
    lookup.widen()
    assert not lookup.is_finished


@given(st.data())
def test_whatever_peers_do_a_lookup_ends_and_its_result_has_answered(data: st.DataObject) -> None:
    peers = peers_of(30)
    chance = random.Random(data.draw(st.integers(0, 1000)))
    lookup = Lookup(
        point_of(b"x"),
        map(PeerInfo, chance.sample(peers, 3)),
        own_id=OWN,
        width=chance.choice([1, BETA, 8]),
        k=8,
        alpha=chance.choice([1, 3, 10]),
        max_queries=chance.choice([5, 100]),
    )
    now, waiting, answered = 0.0, list[PeerId](), set[PeerId]()
    for _step in range(1000):
        lookup.handle_deadline(now)
        if lookup.is_finished:
            break
        while (peer := lookup.next_query(now)) is not None:
            waiting.append(peer.peer_id)
        what = chance.randrange(3)
        if waiting and what < 2:
            peer_id = waiting.pop(chance.randrange(len(waiting)))
            if what:
                lookup.answered(peer_id, map(PeerInfo, chance.sample(peers, chance.randrange(20))))
                answered.add(peer_id)
            else:
                lookup.failed(peer_id)
        else:
            now += chance.choice([0.5, SLOW_AFTER])
    assert lookup.is_finished
    assert set(found(lookup)) <= answered
    assert lookup.queries <= 100
