"""How long an address that failed is left alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.backoff import BASE, MAX_WAIT, Backoff
from tests.fakes.memory_network import key_of

PEER = key_of("peer").peer_id
OTHER = key_of("other").peer_id
ADDR = Multiaddr.parse("/ip4/10.0.0.1/tcp/4001")
SECOND = Multiaddr.parse("/ip4/10.0.0.2/tcp/4001")


def test_what_never_failed_may_be_dialled() -> None:
    assert Backoff().wait(PEER, ADDR, 0.0) == 0.0


def test_waits_grow_with_the_square_of_the_failures_up_to_five_minutes() -> None:
    backoff, now, waits = Backoff(), 1000.0, []
    for _ in range(40):
        backoff.handle_failure(PEER, ADDR, now)
        waits.append(backoff.wait(PEER, ADDR, now))
        now += waits[-1]

    assert waits[:5] == [5, 6, 9, 14, 21]
    assert waits[-1] == MAX_WAIT == 300
    assert waits == sorted(waits)


def test_the_wait_runs_down() -> None:
    backoff = Backoff()
    backoff.handle_failure(PEER, ADDR, 10.0)
    assert backoff.wait(PEER, ADDR, 12.0) == pytest.approx(3.0)
    assert backoff.wait(PEER, ADDR, 15.0) == 0.0


def test_each_address_of_each_peer_counts_for_itself() -> None:
    backoff = Backoff()
    backoff.handle_failure(PEER, ADDR, 0.0)
    assert backoff.wait(PEER, SECOND, 0.0) == 0.0
    assert backoff.wait(OTHER, ADDR, 0.0) == 0.0


def test_a_success_clears_it() -> None:
    backoff = Backoff()
    backoff.handle_failure(PEER, ADDR, 0.0)
    backoff.handle_success(PEER, ADDR)
    assert backoff.wait(PEER, ADDR, 0.0) == 0.0
    backoff.handle_failure(PEER, ADDR, 0.0)
    assert backoff.wait(PEER, ADDR, 0.0) == BASE
    backoff.handle_success(PEER, SECOND)  # which never failed


def test_a_failure_long_after_is_the_first_again() -> None:
    backoff = Backoff()
    for now in (0.0, 5.0):
        backoff.handle_failure(PEER, ADDR, now)  # waits until 11, counts until 17
    backoff.handle_failure(PEER, ADDR, 17.5)
    assert backoff.wait(PEER, ADDR, 17.5) == BASE


def test_the_table_is_bounded_and_forgets_what_failed_longest_ago() -> None:
    backoff = Backoff(max_entries=3)
    addrs = [Multiaddr.parse(f"/ip4/10.0.0.1/tcp/{port}") for port in range(1, 5)]
    for addr in addrs[:3]:
        backoff.handle_failure(PEER, addr, 0.0)
    backoff.handle_failure(PEER, addrs[0], 1.0)  # again, so it is the newest
    backoff.handle_failure(PEER, addrs[3], 1.0)

    assert len(backoff) == 3
    assert [backoff.wait(PEER, addr, 1.0) > 0 for addr in addrs] == [True, False, True, True]


@given(st.lists(st.integers(0, 1000), max_size=50))
def test_a_wait_is_never_longer_than_the_bound_and_never_negative(pauses: list[int]) -> None:
    backoff, now = Backoff(), 0.0
    for pause in pauses:
        now += pause
        assert 0.0 <= backoff.wait(PEER, ADDR, now) <= MAX_WAIT
        backoff.handle_failure(PEER, ADDR, now)
        assert BASE <= backoff.wait(PEER, ADDR, now) <= MAX_WAIT
