"""Which connections go when there are too many, and which never do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import UsageError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network import connection_manager
from ipvcs.node.network.connection_manager import (
    GRACE_PERIOD,
    HIGH_WATER,
    LOW_WATER,
    ConnectionInfo,
    ConnectionManager,
    WaterMarkError,
)
from ipvcs.node.network.limits import Limits

PEERS = [PeerId.from_public_key(b"\x08\x01\x12\x20" + number.to_bytes(32, "big")) for number in range(12)]
NOW = 1000.0

Info = ConnectionInfo[int]


def info(number: int, *, opened: float = 0, streams: int = 0, last_used: float | None = None, peer: int = -1) -> Info:
    peer_id = PEERS[(number if peer < 0 else peer) % len(PEERS)]
    return ConnectionInfo(number, peer_id, opened, streams, opened if last_used is None else last_used)


def chosen(manager: ConnectionManager, *infos: Info, now: float = NOW) -> list[int]:
    return [each.connection for each in manager.to_close(infos, now)]


def test_nothing_happens_up_to_the_high_mark_and_above_it_the_low_one_is_restored() -> None:
    manager = ConnectionManager(low_water=2, high_water=4)
    infos = [info(number) for number in range(5)]
    assert chosen(manager, *infos[:4]) == []
    assert chosen(manager, *infos) == [0, 1, 2]


def test_idle_connections_go_before_busy_ones_then_the_least_valued_then_the_longest_idle() -> None:
    manager = ConnectionManager(low_water=0, high_water=1)
    manager.tag(PEERS[1], "dht", 5)
    manager.tag(PEERS[2], "dht", -5)
    manager.tag(PEERS[5], "bitswap", -100)
    infos = [
        info(0, last_used=50),
        info(1, last_used=1),
        info(2, last_used=90),
        info(3, last_used=40),
        info(4, streams=1),
        info(5, streams=9),
    ]
    assert chosen(manager, *infos) == [2, 3, 0, 1, 5, 4]


def test_a_connection_in_its_grace_period_stays_and_pushes_nobody_out() -> None:
    manager = ConnectionManager(low_water=0, high_water=1)
    old, older = info(0, opened=NOW - GRACE_PERIOD), info(3, opened=NOW - 2 * GRACE_PERIOD)
    flood = [info(1, opened=NOW - GRACE_PERIOD + 0.1), info(2, opened=NOW)]
    assert chosen(manager, old, *flood) == []
    assert chosen(manager, old, *flood, older) == [3, 0]
    assert chosen(manager, old, *flood, now=NOW + GRACE_PERIOD) == [0, 1, 2]


def test_a_protected_peer_stays_until_the_last_reason_is_gone() -> None:
    manager = ConnectionManager(low_water=0, high_water=1)
    manager.protect(PEERS[0], "peering")
    manager.protect(PEERS[0], "push")
    manager.protect(PEERS[0], "push")
    manager.disconnected(PEERS[0])
    assert manager.protection(PEERS[0]) == ("peering", "push")
    assert chosen(manager, info(0), info(1), info(2)) == [1, 2]

    assert manager.unprotect(PEERS[0], "push")
    assert chosen(manager, info(0), info(1)) == [1]
    assert not manager.unprotect(PEERS[0], "peering")
    assert not manager.unprotect(PEERS[0], "peering")
    assert manager.protection(PEERS[0]) == ()
    assert chosen(manager, info(0), info(1)) == [0, 1]


def test_a_tag_is_replaced_by_its_owner_and_summed_with_others() -> None:
    manager = ConnectionManager()
    manager.tag(PEERS[0], "dht", 5)
    manager.tag(PEERS[0], "dht", 7)
    manager.tag(PEERS[0], "bitswap", 10)
    assert manager.value(PEERS[0]) == 17

    manager.untag(PEERS[0], "dht")
    manager.untag(PEERS[0], "dht")
    manager.untag(PEERS[1], "dht")
    assert manager.value(PEERS[0]) == 10
    manager.disconnected(PEERS[0])
    assert manager.value(PEERS[0]) == 0


def test_tags_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_manager, "MAX_TAGGED", 3)
    manager = ConnectionManager()
    for peer_id in PEERS:
        manager.tag(peer_id, "x", 1)
    assert [manager.value(peer_id) for peer_id in PEERS] == [0] * (len(PEERS) - 3) + [1] * 3
    for number in range(1000):
        manager.tag(PEERS[-1], f"tag{number}", 1)
    assert manager.value(PEERS[-1]) == connection_manager.MAX_TAGS
    manager.tag(PEERS[-1], "x", 100)
    assert manager.value(PEERS[-1]) == connection_manager.MAX_TAGS + 99


@pytest.mark.parametrize(("low", "high"), [(-1, 5), (5, 5), (6, 5)])
def test_marks_that_make_no_sense_are_refused(low: int, high: int) -> None:
    with pytest.raises(WaterMarkError, match=f"{low} .* {high}") as caught:
        ConnectionManager(low_water=low, high_water=high)
    assert isinstance(caught.value, UsageError)
    assert caught.value.hint


def test_by_default_500_connections_are_held_and_a_trim_comes_before_a_refusal() -> None:
    assert 500 < LOW_WATER < HIGH_WATER < Limits().connections
    assert chosen(ConnectionManager(), *(info(number) for number in range(500))) == []
    assert len(chosen(ConnectionManager(), *(info(number) for number in range(901)))) == 301


@given(
    infos=st.lists(
        st.builds(
            ConnectionInfo[int],
            st.integers(),
            st.sampled_from(PEERS),
            st.floats(0, NOW),
            st.integers(0, 3),
            st.floats(0, NOW),
        ),
        max_size=40,
        unique_by=lambda each: each.connection,
    ),
    protected=st.sets(st.sampled_from(PEERS)),
    values=st.dictionaries(st.sampled_from(PEERS), st.integers(-9, 9)),
    low=st.integers(0, 20),
    gap=st.integers(1, 20),
)
def test_the_promises_hold_for_any_connections(
    infos: list[Info], protected: set[PeerId], values: dict[PeerId, int], low: int, gap: int
) -> None:
    manager = ConnectionManager(low_water=low, high_water=low + gap)
    for peer_id in protected:
        manager.protect(peer_id, "test")
    for peer_id, value in values.items():
        manager.tag(peer_id, "test", value)

    closed = manager.to_close(infos, NOW)
    kept = [each for each in infos if each not in closed]

    assert len(kept) + len(closed) == len(infos)
    settled = [each for each in infos if each.opened <= NOW - GRACE_PERIOD]
    still = [each for each in settled if each not in closed]
    assert not closed or (len(settled) > low + gap and len(still) >= low), "newcomers do not count"
    assert not any(each.peer_id in protected or each.opened > NOW - GRACE_PERIOD for each in closed)
    may_go = [each for each in kept if each.peer_id not in protected and each.opened <= NOW - GRACE_PERIOD]
    if len(settled) > low + gap and may_go:
        assert len(still) == low, "as many as it takes"
    if closed:  # nobody who went was worth more than one who might have gone in its place
        for each in may_go:
            assert (closed[-1].streams > 0, manager.value(closed[-1].peer_id)) <= (
                each.streams > 0,
                manager.value(each.peer_id),
            )
