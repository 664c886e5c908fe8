"""What sessions make of peers with habits: no want is lost that somebody would serve, and links are used well."""

import math
import random

import pytest

from ipvcs.node.exchange.session import ASK_AGAIN, MAX_CANDIDATES, PROBES, SEARCH_DELAY, STALL
from ipvcs.node.exchange.source import MAX_IN_FLIGHT, REFILL
from tests.unit.node.exchange.session_world import CIDS, KIB, MIB, SessionWorld, WorldPeer


@pytest.mark.parametrize("latency", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("size", [200 * KIB, 256 * KIB + 14, MIB])
def test_speed_is_learnt_though_a_message_holds_a_whole_window(latency: float, size: int) -> None:
    count = 400 * MIB // size
    world = SessionWorld([WorldPeer("bob", set(CIDS), latency=latency)], CIDS[:count], size=size)
    took = world.run()
    # All of a window but `REFILL` is in flight, a window is bounded, and a byte is in flight for a round trip.
    rate = min(100 * MIB, (MAX_IN_FLIGHT - REFILL) / (2 * latency))
    assert took < 1.3 * 400 * MIB / rate
    assert world.duplicates == 0


@pytest.mark.parametrize("rate_kib", [400, 250, 150, 100])
def test_a_slow_link_carries_each_block_once_and_few_messages(rate_kib: int) -> None:
    world = SessionWorld([WorldPeer("bob", set(CIDS), rate=rate_kib * KIB)], CIDS[:100])
    took = world.run(until=900)
    assert took == pytest.approx(100 * 256 / rate_kib, rel=0.05)
    assert world.duplicates == 0
    assert world.entries == 100, "nothing is asked again of who is sending"
    assert world.messages < 10


def test_wants_that_a_lively_peer_never_answers_are_had_of_another() -> None:
    lively = WorldPeer("lively", set(CIDS), chatters=True, ignores=frozenset(CIDS[:4]))
    world = SessionWorld([lively, WorldPeer("other", set(CIDS), rate=5 * MIB)], CIDS[:50])
    world.run(until=120)
    assert len(world.got[0]) == 50
    assert world.duplicates <= PROBES


def test_a_want_that_the_only_peer_dropped_while_it_chatters_is_asked_again() -> None:
    lively = WorldPeer("lively", set(CIDS), chatters=True, forgets={CIDS[5], CIDS[49]})
    world = SessionWorld([lively], CIDS[:50])
    took = world.run(until=200)
    assert len(world.got[0]) == 50
    assert took < 5 * ASK_AGAIN


def test_providers_are_searched_though_the_only_peer_chatters() -> None:
    lively = WorldPeer("lively", set(CIDS), chatters=True, ignores=frozenset(CIDS))
    world = SessionWorld([lively], CIDS[:50])
    world.run(until=120)
    assert world.searches[0][0] == pytest.approx(SEARCH_DELAY, abs=0.3)
    assert 3 <= len(world.searches[0]) <= 6


def test_providers_are_searched_for_what_the_only_source_never_answers() -> None:
    lively = WorldPeer("lively", set(CIDS), chatters=True, ignores=frozenset(CIDS[40:50]))
    world = SessionWorld([lively], CIDS[:50])
    world.run(until=120)
    assert len(world.got[0]) == 40
    assert world.searches[0][0] < 4 * ASK_AGAIN
    assert world.entries < 300, "ten wants, asked for again every half minute at most"


def test_a_peer_with_half_of_it_is_never_asked_for_more_than_it_keeps() -> None:
    half = WorldPeer("half", set(CIDS[1500:2500]))
    rest = WorldPeer("rest", set(CIDS[:1500]), rate=MIB)
    world = SessionWorld([half, rest], CIDS[:2500], size=4 * KIB)
    took = world.run()
    assert len(world.got[0]) == 2500
    assert took < 8
    assert world.duplicates == half.dropped == rest.dropped == 0


def test_a_peer_that_has_the_last_of_it_alone_gives_all_it_has() -> None:
    half = WorldPeer("half", set(CIDS[1500:2500]))
    world = SessionWorld([half], CIDS[:2500], size=4 * KIB)
    world.run(until=60)
    assert set(world.got[0]) == half.has
    assert max(world.got[0].values()) < 5
    assert half.dropped == 0


def test_more_blocks_than_stay_on_a_list_are_had_of_a_peer_that_gets_them_later() -> None:
    bob = WorldPeer("bob", gains=[(5 + number / 50, cid) for number, cid in enumerate(CIDS[:1500])])
    world = SessionWorld([bob], CIDS[:1500], size=4 * KIB)
    took = world.run(until=120)
    assert len(world.got[0]) == 1500
    assert took < 5 + 1500 / 50 + 15
    assert bob.dropped == world.duplicates == 0


def test_two_sessions_of_small_blocks_share_what_one_peer_keeps() -> None:
    bob = WorldPeer("bob", set(CIDS), rate=4 * MIB)
    world = SessionWorld([bob], CIDS[:1200], CIDS[1200:2400], size=4 * KIB)
    took = world.run()
    assert [len(got) for got in world.got] == [1200, 1200]
    assert took < 1.2 * 2400 * 4 / (4 * KIB)
    assert world.duplicates == bob.dropped == 0


def test_two_sessions_with_the_same_wants_get_each_block_once() -> None:
    bob = WorldPeer("bob", set(CIDS), rate=20 * MIB)
    world = SessionWorld([bob], CIDS[:400], CIDS[200:600], starts=(0.0, 1.0), verifying=0.02)
    world.run()
    assert [len(got) for got in world.got] == [400, 400]
    assert bob.sent <= 600 * 1.05


def test_a_holder_beyond_the_candidates_is_asked() -> None:
    others = [WorldPeer(f"empty{number}") for number in range(MAX_CANDIDATES)]
    holder = WorldPeer("holder", set(CIDS), online=((5.0, math.inf),))
    world = SessionWorld([*others, holder], CIDS[:10])
    world.run(until=60)
    assert len(world.got[0]) == 10
    assert max(world.got[0].values()) < 6


def test_a_mute_peer_beside_a_slow_one_costs_little_in_25_minutes() -> None:
    world = SessionWorld(
        [WorldPeer("mute", set(CIDS), mute=True), WorldPeer("slow", set(CIDS), rate=100 * KIB)], CIDS[:600]
    )
    took = world.run(until=3000)
    assert len(world.got[0]) == 600
    assert took < 1536 * 1.05 + STALL
    assert world.duplicate_share < 0.05
    assert world.messages < 150


def random_world(seed: int) -> SessionWorld:
    """Return a world of up to six peers, each with habits, most of which pass in time."""
    chance = random.Random(seed)
    cids = CIDS[: chance.choice([20, 60, 200])]
    peers = []
    for number in range(chance.randint(1, 6)):
        share = 1.0 if chance.random() < 0.3 else chance.choice([0.1, 0.5, 0.9])
        online: list[tuple[float, float]] = []
        start = chance.choice([0.0, 0.0, 0.0, chance.uniform(0, 20)])
        while start < 80 and len(online) < 3:
            end = start + chance.uniform(0.5, 20)
            online.append((start, end))
            start = end + chance.uniform(0.1, 10)
        if chance.random() < 0.8:
            online[-1] = (online[-1][0], math.inf)
        stalls = sorted(chance.uniform(0, 60) for _ in range(chance.randint(0, 3)))
        peers.append(
            WorldPeer(
                f"p{number}",
                {cid for cid in cids if chance.random() < share},
                rate=chance.choice([100 * KIB, MIB, 20 * MIB, 100 * MIB]),
                latency=chance.uniform(0.001, 0.2),
                batch=chance.choice([1, 4 * MIB]),
                mute=chance.random() < 0.15,
                chatters=chance.random() < 0.4,
                forgets={cid for cid in cids if chance.random() < 0.05} if chance.random() < 0.5 else set(),
                stalls=[(when, when + chance.choice([2, 4, 8])) for when in stalls],
                online=online,
                gains=[(chance.uniform(1, 90), cid) for cid in cids if chance.random() < 0.1]
                if chance.random() < 0.4
                else [],
            )
        )
    wants = [cids] if chance.random() < 0.5 else [cids, chance.sample(cids, len(cids) // 2)]
    return SessionWorld(
        peers,
        *wants,
        size=chance.choice([4 * KIB, 64 * KIB, 256 * KIB]),
        starts=(0.0, chance.uniform(0, 10)),
        verifying=chance.choice([0.0, 0.05]),
    )


def test_no_want_is_lost_that_a_connected_and_willing_peer_could_serve(full_counts: bool) -> None:
    blocks = duplicates = 0
    lost = {}
    for seed in range(600 if full_counts else 60):
        world = random_world(seed)
        world.run(until=3000, while_servable=True)
        if missing := world.servable():
            lost[seed] = (len(missing), missing[0])
        blocks += sum(len(got) for got in world.got)
        duplicates += world.duplicates
    assert not lost
    assert duplicates < 0.05 * (blocks + duplicates)
