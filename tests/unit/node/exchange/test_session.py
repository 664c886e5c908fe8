"""Whom a session asks: against simulated peers in virtual time, each with a speed, a distance and habits of its own."""

import heapq
import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.messages import WantType
from ipvcs.node.exchange.session import ASK_AGAIN, PROBES, SEARCH_DELAY, STALL, Session
from ipvcs.node.exchange.source import MAX_WANTS
from ipvcs.node.exchange.wantlist import PeerWantlist
from ipvcs.objects.block import Block
from tests.fakes.memory_network import key_of

KIB: Final = 1024
MIB: Final = 1024 * KIB
CLOCK_TICK: Final = 1e-5
"""Seconds from a message's arrival to the call of `pump` that follows: no real clock stands still between them."""


def cids(count: int) -> list[Cid]:
    return [Block.of(b"%d" % number).cid for number in range(count)]


@dataclass
class SimPeer:
    """A peer that answers one want after the other. `rate` is bytes a second, `latency` seconds one way."""

    name: str
    has: Callable[[Cid], bool] = lambda _cid: True
    rate: float = 100 * MIB
    latency: float = 0.005
    answers: bool = True
    """False: it takes wants and says nothing."""
    forgets: set[Cid] = field(default_factory=set)
    """Wants that it drops silently, once each."""
    wants: deque[Cid] = field(default_factory=deque)
    busy: bool = False
    sent: list[Cid] = field(default_factory=list)
    most_wanted: int = 0

    @property
    def peer_id(self) -> PeerId:
        return key_of(self.name).peer_id


class Simulation:
    """A session and its peers, on a clock of events."""

    def __init__(self, peers: Iterable[SimPeer], *, size: int = 256 * KIB) -> None:
        self.now = 0.0
        self.size = size
        self.peers = {peer.peer_id: peer for peer in peers}
        self.wantlists = {peer_id: PeerWantlist() for peer_id in self.peers}
        self.session = Session(1, cids(1)[0], 0.0, self.wantlists.__getitem__)
        for peer_id in self.peers:
            self.session.connected(peer_id, 0.0)
        self.duplicates = 0
        self.got: list[Cid] = []
        self.messages = 0
        self.searches: list[tuple[float, Cid]] = []
        self.asked: defaultdict[PeerId, set[Cid]] = defaultdict(set)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def run(self, wanted: Iterable[Cid], *, until: float = 600.0) -> float:
        """Fetch `wanted`; return when it was all there, or `until`."""
        self.session.want(wanted)
        while self.session.wanted and self.now < until:
            self.session.pump(self.now + CLOCK_TICK)
            if (cid := self.session.next_search(self.now)) is not None:
                self.searches.append((self.now, cid))
            for peer_id, wantlist in self.wantlists.items():
                while wantlist.has_changes:
                    entries, _full = wantlist.take()
                    self.messages += 1
                    self.asked[peer_id].update(entry.cid for entry in entries if not entry.cancel)
                    self.at(
                        self.now + self.peers[peer_id].latency,
                        lambda peer=self.peers[peer_id], entries=entries: self._deliver(peer, entries),  # type: ignore[misc]
                    )
            deadline = self.session.next_deadline(self.now)
            due = self._events[0][0] if self._events else until
            if deadline is not None and deadline <= due:
                self.now = max(self.now + 0.01, deadline)
                continue
            if not self._events:
                break
            self.now, _number, act = heapq.heappop(self._events)
            act()
        return self.now

    def _deliver(self, peer: SimPeer, entries: list) -> None:  # type: ignore[type-arg]
        for entry in entries:
            if entry.cancel:
                if entry.cid in peer.wants:
                    peer.wants.remove(entry.cid)
            elif not peer.answers:
                pass
            elif entry.cid in peer.forgets:
                peer.forgets.discard(entry.cid)
            elif not peer.has(entry.cid):
                self._later(peer, lambda cid=entry.cid: self.session.dont_have(peer.peer_id, cid, self.now))  # type: ignore[misc]
            elif entry.type is WantType.HAVE:
                self._later(peer, lambda cid=entry.cid: self.session.have(peer.peer_id, cid, self.now))  # type: ignore[misc]
            elif entry.cid not in peer.wants:
                peer.wants.append(entry.cid)
        peer.most_wanted = max(peer.most_wanted, len(peer.wants))
        self._start(peer)

    def _later(self, peer: SimPeer, act: Callable[[], None]) -> None:
        self.at(self.now + peer.latency, act)

    def _start(self, peer: SimPeer) -> None:
        if peer.wants and not peer.busy:
            peer.busy = True
            cid = peer.wants.popleft()
            self.at(self.now + self.size / peer.rate, lambda: self._sent(peer, cid))

    def _sent(self, peer: SimPeer, cid: Cid) -> None:
        peer.busy = False
        peer.sent.append(cid)
        self._later(peer, lambda: self._arrive(peer, cid))
        self._start(peer)

    def _arrive(self, peer: SimPeer, cid: Cid) -> None:
        self.wantlists[peer.peer_id].fulfilled(1, cid)
        self.session.active(peer.peer_id, self.now)
        if self.session.received(peer.peer_id, cid, self.size, self.now):
            self.got.append(cid)
        else:
            self.duplicates += 1


def test_one_peer_is_kept_busy_and_asked_in_few_messages() -> None:
    peer = SimPeer("bob", rate=100 * MIB, latency=0.01)
    simulation = Simulation([peer])
    took = simulation.run(cids(1600))
    assert took == pytest.approx(400 / 100, rel=0.05), "the link is never idle"
    assert simulation.duplicates == 0
    assert simulation.messages < 1600 * 0.05
    assert peer.most_wanted <= MAX_WANTS
    assert simulation.got == cids(1600), "in the order of wanting"


def test_a_long_round_trip_costs_little() -> None:
    near = Simulation([SimPeer("bob", latency=0.0005)]).run(cids(1600))
    far = Simulation([SimPeer("bob", latency=0.05)]).run(cids(1600))
    assert far < near * 1.15


def test_four_holders_send_a_quarter_each_and_take_a_quarter_of_the_time() -> None:
    peers = [SimPeer(name, rate=20 * MIB) for name in "abcd"]
    simulation = Simulation(peers)
    took = simulation.run(cids(1600))
    assert took < 1.25 * 400 / 80
    assert simulation.duplicates <= 0.02 * 1600
    assert min(len(peer.sent) for peer in peers) > 300


def test_holders_whose_word_comes_after_the_root_has_come_help_all_the_same() -> None:
    near = SimPeer("a", rate=20 * MIB, latency=0.001)
    peers = [near, *(SimPeer(name, rate=20 * MIB, latency=0.03) for name in "bcd")]
    simulation = Simulation(peers)
    root, *others = cids(801)
    simulation.run([root])
    assert simulation.session.sources == 1, "nobody else has been heard"
    began = simulation.now
    assert simulation.run(others) - began < 1.5 * 200 / 80
    assert min(len(peer.sent) for peer in peers) > 100
    assert simulation.duplicates <= 0.02 * 800


def test_small_inner_nodes_do_not_let_one_peer_be_asked_for_all_leaves() -> None:
    peers = [SimPeer(name, rate=20 * MIB) for name in "abcd"]
    simulation = Simulation(peers, size=10 * KIB)
    inner, leaves = cids(211)[:11], cids(211)[11:]
    simulation.run(inner[:1])
    simulation.run(inner[1:])
    simulation.size = MIB
    began = simulation.now
    assert simulation.run(leaves) - began < 1.5 * 200 / 80
    assert max(peer.most_wanted for peer in peers) < 50


def test_who_has_nothing_is_asked_a_few_times_only() -> None:
    nothing, whole = SimPeer("nothing", has=lambda _cid: False), SimPeer("whole", rate=10 * MIB)
    simulation = Simulation([whole, nothing])
    simulation.run(cids(800))
    assert nothing.most_wanted == 0
    assert simulation.duplicates == 0
    assert len(simulation.asked[nothing.peer_id]) <= 2 * PROBES


def test_a_fast_and_a_slow_holder_share_by_speed() -> None:
    fast, slow = SimPeer("fast", rate=90 * MIB), SimPeer("slow", rate=2 * MIB)
    simulation = Simulation([slow, fast])
    took = simulation.run(cids(1600))
    assert took < 1.3 * 400 / 92
    assert simulation.duplicates <= 0.05 * 1600


def test_a_peer_that_has_half_of_it_is_asked_for_the_rest_of_others() -> None:
    wanted = cids(800)
    even = set(wanted[::2])
    half, whole = SimPeer("half", has=even.__contains__), SimPeer("whole", rate=10 * MIB)
    simulation = Simulation([half, whole])
    simulation.run(wanted)
    assert set(simulation.got) == set(wanted)
    assert simulation.duplicates <= 0.05 * 800
    assert set(half.sent) <= even


def test_a_holder_that_falls_silent_is_replaced() -> None:
    dead, alive = SimPeer("dead", answers=False), SimPeer("alive")
    simulation = Simulation([dead, alive])
    took = simulation.run(cids(400))
    assert len(simulation.got) == 400
    assert took < STALL + 2


def test_a_holder_that_disconnects_leaves_its_wants_to_others() -> None:
    leaving, staying = SimPeer("leaving", rate=10 * MIB), SimPeer("staying", rate=10 * MIB)
    simulation = Simulation([leaving, staying])
    simulation.session.want(cids(400))

    def leave() -> None:
        leaving.answers = False
        leaving.wants.clear()
        simulation.wantlists[leaving.peer_id].reconnected()
        simulation.session.disconnected(leaving.peer_id)

    simulation.at(0.5, leave)
    took = simulation.run(cids(400))
    assert len(set(simulation.got)) == 400
    assert took < 100 / 10 + 1


def test_a_want_that_the_only_peer_drops_silently_is_asked_again() -> None:
    wanted = cids(50)
    peer = SimPeer("bob", forgets={wanted[10], wanted[40]})
    simulation = Simulation([peer])
    took = simulation.run(wanted)
    assert len(simulation.got) == 50
    assert took < 3 * ASK_AGAIN


def test_nobody_has_it_and_providers_are_searched_at_once_then_ever_less_often() -> None:
    simulation = Simulation([SimPeer("bob", has=lambda _cid: False)])
    simulation.run(cids(3), until=200)
    times = [when for when, _cid in simulation.searches]
    assert times[0] < SEARCH_DELAY
    assert 4 <= len(times) <= 8
    assert {cid for _when, cid in simulation.searches} <= set(cids(3))


def test_without_peers_providers_are_searched_at_once() -> None:
    simulation = Simulation([])
    assert simulation.session.next_search(0.0) is None
    simulation.session.want(cids(2))
    simulation.session.pump(0.0)
    assert simulation.session.next_search(0.0) == cids(1)[0]
    assert simulation.session.next_search(0.1) is None


def test_while_a_source_delivers_nobody_is_searched() -> None:
    simulation = Simulation([SimPeer("bob", rate=MIB)])
    simulation.run(cids(100))
    assert simulation.searches == []


def test_silent_candidates_do_not_keep_a_search_from_starting() -> None:
    simulation = Simulation([SimPeer("mute", answers=False)])
    simulation.run(cids(1), until=10)
    assert simulation.searches[0][0] == pytest.approx(SEARCH_DELAY, abs=0.1)


def test_a_provider_that_comes_later_is_asked() -> None:
    late = SimPeer("late")
    simulation = Simulation([SimPeer("empty", has=lambda _cid: False)])
    simulation.peers[late.peer_id] = late
    simulation.wantlists[late.peer_id] = PeerWantlist()
    simulation.at(5.0, lambda: simulation.session.connected(late.peer_id, 5.0, provider=True))
    took = simulation.run(cids(20))
    assert len(simulation.got) == 20
    assert took < 6


def test_what_is_not_wanted_any_more_is_cancelled() -> None:
    simulation = Simulation([SimPeer("bob")])
    session, wantlist = simulation.session, next(iter(simulation.wantlists.values()))
    session.want(cids(10))
    session.pump(0.0)
    told, _full = wantlist.take()
    session.cancel_all()
    cancelled, _full = wantlist.take()
    assert session.wanted == 0
    assert {entry.cid for entry in cancelled} == {entry.cid for entry in told}
    assert all(entry.cancel for entry in cancelled)


@settings(deadline=None)
@example([(1.0, 0.0, 0, False), (1.0, 0.0, 11, True)], 40)  # a mute peer was asked again and again for what others deny
@given(
    st.lists(
        st.tuples(st.floats(0.5, 50), st.floats(0.0, 0.1), st.integers(0, 255), st.booleans()), min_size=1, max_size=5
    ),
    st.integers(1, 120),
)
def test_whatever_peers_do_all_that_somebody_has_and_sends_arrives(
    habits: list[tuple[float, float, int, bool]], count: int
) -> None:
    """Each peer has the blocks whose digest's first byte is at most a bound; a mute one takes wants in silence."""
    peers = []
    for number, (rate, latency, most, answers) in enumerate(habits):

        def has(cid: Cid, most: int = most) -> bool:
            return cid.digest[0] <= most

        peers.append(SimPeer(str(number), has=has, rate=rate * MIB, latency=latency, answers=answers))
    simulation = Simulation(peers)
    wanted = cids(count)
    simulation.run(wanted, until=300)
    reachable = {cid for cid in wanted if any(peer.answers and peer.has(cid) for peer in peers)}
    assert set(simulation.got) == reachable
    assert len(simulation.got) == len(reachable)
