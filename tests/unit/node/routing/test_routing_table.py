from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.diversity import groups_of
from ipvcs.node.routing.keyspace import common_prefix_length, distance, point_of, point_of_peer
from ipvcs.node.routing.routing_table import (
    CHECK_AFTER,
    MAX_FAILURES,
    MAX_REPLACEMENTS,
    REFRESH_INTERVAL,
    WITNESSED,
    K,
    RoutingTable,
)
from tests.fakes.memory_network import key_of

OWN = key_of("us").peer_id
EVERYBODY = [key_of(f"peer {number}").peer_id for number in range(600)]
NOBODY: frozenset[str] = frozenset()


def bucket_of(peer_id: PeerId) -> int:
    return common_prefix_length(point_of_peer(OWN), point_of_peer(peer_id))


FAR = [peer_id for peer_id in EVERYBODY if bucket_of(peer_id) == 0]
"""Peers of one bucket, some 300."""


def offer(table: RoutingTable, peer_id: PeerId, now: float = 0.0, groups: frozenset[str] = NOBODY) -> PeerId | None:
    return table.offer(PeerInfo(peer_id), groups, now)


def full_table() -> RoutingTable:
    table = RoutingTable(OWN)
    for number, peer_id in enumerate(FAR[:K]):
        assert offer(table, peer_id, number) is None
    return table


def ids(table: RoutingTable) -> list[PeerId]:
    return [peer.peer_id for peer in table]


def test_a_bucket_holds_k_peers_and_a_flood_of_new_ones_displaces_nobody() -> None:
    table = full_table()
    for number, peer_id in enumerate(FAR[K:]):
        offer(table, peer_id, K + number / 1000)
    assert ids(table) == FAR[:K]


def test_a_full_bucket_has_its_least_recently_useful_peer_checked_once() -> None:
    table = full_table()
    table.useful(FAR[0], 100)
    now = 100 + CHECK_AFTER
    assert offer(table, FAR[K], now) == FAR[1]
    assert offer(table, FAR[K + 1], now) == FAR[2], "the check of the first is under way"
    table.useful(FAR[1], now)
    assert ids(table) == FAR[:K], "it answered, so it stays"


def test_who_was_useful_a_moment_ago_is_not_questioned() -> None:
    table = full_table()
    assert offer(table, FAR[K], CHECK_AFTER - 0.001) is None


def test_who_fails_is_replaced_by_the_newest_who_waits() -> None:
    table = full_table()
    for peer_id in FAR[K : K + MAX_REPLACEMENTS + 5]:
        offer(table, peer_id, 30.0)
    table.fail(FAR[3], 0.0)
    assert FAR[3] not in table
    assert FAR[K + MAX_REPLACEMENTS + 4] in table
    for peer_id in [peer_id for peer_id in FAR[:K] if peer_id in table]:
        table.fail(peer_id, 0.0)
    assert len(table) == K, "ten replaced at once, the others have one failure"
    assert sum(peer_id in table for peer_id in FAR[:K]) == K - MAX_REPLACEMENTS


def test_without_a_replacement_one_failure_is_forgiven_and_an_answer_forgets_it() -> None:
    table = RoutingTable(OWN)
    offer(table, FAR[0])
    for _ in range(3):
        for _ in range(MAX_FAILURES - 1):
            table.fail(FAR[0], 0.0)
        assert FAR[0] in table
        table.useful(FAR[0], 1.0)
    for _ in range(MAX_FAILURES):
        table.fail(FAR[0], 0.0)
    assert FAR[0] not in table


def test_who_serves_no_more_goes_at_once_and_waits_no_more() -> None:
    table = full_table()
    offer(table, FAR[K], 30.0)
    table.remove(FAR[K])
    table.remove(FAR[0])
    assert ids(table) == FAR[1:K]


def test_a_peer_in_the_table_keeps_its_newest_addresses() -> None:
    table = RoutingTable(OWN)
    here, there = Multiaddr.parse("/ip4/1.1.1.1/tcp/1"), Multiaddr.parse("/ip4/2.2.2.2/tcp/2")
    table.offer(PeerInfo(FAR[0], (here,)), NOBODY, 0)
    table.offer(PeerInfo(FAR[0]), NOBODY, 1)
    assert table.get(FAR[0]) == PeerInfo(FAR[0], (here,))
    table.update(PeerInfo(FAR[0], (there,)))
    table.update(PeerInfo(FAR[0]))
    assert table.get(FAR[0]) == PeerInfo(FAR[0], (there,))
    assert table.get(FAR[1]) is None


def test_we_are_never_in_our_own_table() -> None:
    table = RoutingTable(OWN)
    offer(table, OWN)
    assert len(table) == 0


def test_of_one_network_three_peers_enter_and_two_a_bucket() -> None:
    table = RoutingTable(OWN)
    group = groups_of([Multiaddr.parse("/ip4/7.7.1.1/tcp/1")], exempt_near=False)
    for peer_id in EVERYBODY:
        offer(table, peer_id, groups=group)
    assert Counter(map(bucket_of, ids(table))).most_common(1)[0][1] == 2
    assert len(table) == 3
    other = groups_of([Multiaddr.parse("/ip4/7.8.1.1/tcp/1")], exempt_near=False)
    newcomer = next(peer_id for peer_id in EVERYBODY if peer_id not in table)
    offer(table, newcomer, groups=other)
    assert newcomer in table
    table.remove(ids(table)[0])
    again = next(peer_id for peer_id in EVERYBODY if peer_id not in table and bucket_of(peer_id) > 3)
    offer(table, again, groups=group)
    assert again in table, "who left makes room"


def test_when_nobody_answers_any_more_nobody_is_dropped() -> None:
    table = full_table()
    answered = K - 1.0
    for _ in range(3 * MAX_FAILURES):
        for peer_id in FAR[:K]:
            table.fail(peer_id, answered + WITNESSED + 1)
    assert ids(table) == FAR[:K]
    table.useful(FAR[0], answered + 60)
    for _ in range(MAX_FAILURES):
        table.fail(FAR[1], answered + 60 + WITNESSED)
    assert FAR[1] not in table, "somebody answered, so it is not our own network"


def test_a_replacement_that_would_break_the_limits_is_passed_over() -> None:
    table = RoutingTable(OWN)
    group = frozenset({"4:1"})
    for number, peer_id in enumerate(FAR[:K]):
        offer(table, peer_id, groups=group if number < 2 else NOBODY)
    offer(table, FAR[K], 1.0)
    offer(table, FAR[K + 1], 2.0, groups=group)
    table.fail(FAR[5], 0.0)
    assert FAR[K] in table
    assert FAR[K + 1] not in table


@pytest.mark.parametrize(
    ("addr", "near", "group"),
    [
        ("/ip4/10.1.2.3/tcp/1", False, {"4:a01"}),
        ("/ip4/10.1.2.3/tcp/1", True, set()),
        ("/ip4/127.0.0.1/tcp/1", True, set()),
        ("/ip4/9.1.2.3/tcp/1", True, {"4:901"}),
        ("/ip6/2600:1234:5678::1/tcp/1", False, {"6:26001234"}),
        ("/ip6/::ffff:9.1.2.3/tcp/1", False, {"4:901"}),
        ("/dns/example.com/tcp/1", False, set()),
    ],
)
def test_groups_are_slash_16_and_slash_32(addr: str, near: bool, group: set[str]) -> None:
    assert groups_of([Multiaddr.parse(addr)], exempt_near=near) == group


def test_buckets_are_stale_until_something_in_them_was_looked_up_and_again_ten_minutes_later() -> None:
    table = RoutingTable(OWN, now=1000)
    assert table.stale_buckets(1000) == []
    near = max(EVERYBODY, key=bucket_of)
    offer(table, near, 1000)
    deepest = bucket_of(near)
    assert table.stale_buckets(1000) == list(range(deepest + 1))
    target = point_of(b"far") if common_prefix_length(point_of(b"far"), table.own_point) == 0 else point_of_peer(FAR[0])
    table.looked_up(target, 1000)
    assert table.stale_buckets(1000) == list(range(1, deepest + 1))
    assert 0 not in table.stale_buckets(1000 + REFRESH_INTERVAL - 1)
    assert table.stale_buckets(1000 + REFRESH_INTERVAL)[0] == 0


@given(
    peers=st.lists(st.sampled_from(EVERYBODY), max_size=300),
    target=st.binary(max_size=8).map(point_of),
    number=st.integers(0, 40),
)
def test_the_closest_are_those_of_all(peers: list[PeerId], target, number: int) -> None:  # type: ignore[no-untyped-def]
    table = RoutingTable(OWN)
    for peer_id in peers:
        offer(table, peer_id)
    order = sorted(ids(table), key=lambda peer_id: distance(point_of_peer(peer_id), target))
    assert [peer.peer_id for peer in table.closest(target, number)] == order[:number]
    left_out = order[:3]
    assert [peer.peer_id for peer in table.closest(target, number, without=left_out)] == order[3 : 3 + number]


operations = st.lists(
    st.tuples(
        st.sampled_from(["offer", "fail", "remove", "useful"]),
        st.sampled_from(EVERYBODY[:80]),
        st.sampled_from([NOBODY, frozenset({"4:1"}), frozenset({"4:2"})]),
    ),
    max_size=200,
)


@given(operations)
def test_whatever_happens_the_bounds_hold(steps: list[tuple[str, PeerId, frozenset[str]]]) -> None:
    table = RoutingTable(OWN, k=4)
    groups: dict[PeerId, frozenset[str]] = {}
    for now, (what, peer_id, group) in enumerate(steps):
        if what == "offer":
            groups.setdefault(peer_id, group)
            table.offer(PeerInfo(peer_id), groups[peer_id], float(now))
        elif what == "fail":
            table.fail(peer_id, float(now))
        elif what == "remove":
            table.remove(peer_id)
        else:
            table.useful(peer_id, float(now))
        there = ids(table)
        assert len(there) == len(set(there)) == len(table)
        assert all(count <= 4 for count in Counter(map(bucket_of, there)).values())
        for each in ("4:1", "4:2"):
            assert sum(each in groups[peer_id] for peer_id in there) <= 3
