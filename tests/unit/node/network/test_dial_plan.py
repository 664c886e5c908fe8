"""Which address is dialled when: nearest first, none waits long behind one that is dead."""

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.network.dial_plan import MAX_ADDRS, MAX_IN_FLIGHT, STAGGER, DialPlan, spread


def tcp(host: str, port: int = 4001) -> Multiaddr:
    return Multiaddr.parse(f"/{'ip6' if ':' in host else 'ip4'}/{host}/tcp/{port}")


PUBLIC = [tcp(f"1.2.3.{number}") for number in range(1, 50)]
PRIVATE = [tcp(f"172.17.0.{number}") for number in range(1, 50)]


def as_given(addrs: "object") -> list[Multiaddr]:
    return list(addrs)  # type: ignore[call-overload, no-any-return]


def start_all(plan: DialPlan, now: float) -> list[Multiaddr]:
    return list(iter(lambda: plan.next_dial(now), None))


def test_the_first_dial_starts_at_once_and_the_next_a_stagger_later() -> None:
    plan = DialPlan(PUBLIC[:3], order=as_given)

    assert start_all(plan, 100.0) == PUBLIC[:1]
    assert plan.next_deadline() == 100.0 + STAGGER
    assert start_all(plan, 100.0 + STAGGER - 0.001) == []
    assert start_all(plan, 100.0 + STAGGER) == PUBLIC[1:2]
    assert plan.in_flight == PUBLIC[:2]
    assert list(plan.waiting) == PUBLIC[2:3]


def test_a_refused_dial_costs_nothing() -> None:
    plan = DialPlan(PUBLIC[:3], order=as_given)
    now = 5.0
    for addr in PUBLIC[:3]:
        assert start_all(plan, now) == [addr]
        plan.handle_failure(addr, now)
    assert plan.is_done
    assert plan.next_deadline() is None


def test_a_failure_starts_one_dial_more_not_all() -> None:
    plan = DialPlan(PUBLIC[:5], order=as_given)
    start_all(plan, 0.0)
    plan.handle_failure(PUBLIC[0], 0.1)

    assert start_all(plan, 0.1) == PUBLIC[1:2]
    assert plan.next_deadline() == 0.1 + STAGGER


def test_no_more_than_the_bound_are_in_flight() -> None:
    plan = DialPlan(PUBLIC[:20], order=as_given)
    started = [addr for step in range(40) for addr in start_all(plan, step * STAGGER)]

    assert started == PUBLIC[:MAX_IN_FLIGHT]
    assert plan.next_deadline() is None
    plan.handle_failure(started[3], 50.0)
    assert start_all(plan, 50.0) == PUBLIC[MAX_IN_FLIGHT : MAX_IN_FLIGHT + 1]


def test_an_address_is_dialled_once_however_often_it_is_named() -> None:
    plan = DialPlan([PUBLIC[0], PUBLIC[0]], order=as_given)
    plan.add([PUBLIC[0]])
    assert start_all(plan, 0.0) == [PUBLIC[0]]
    plan.handle_failure(PUBLIC[0], 0.0)
    plan.add([PUBLIC[0]])
    assert plan.is_done


def test_more_addresses_than_anybody_needs_are_dropped_the_best_kept() -> None:
    loopback = tcp("::1")
    plan = DialPlan([*PUBLIC[:MAX_ADDRS], loopback], order=lambda addrs: sorted(addrs, key=lambda a: a != loopback))
    assert len(plan.waiting) == MAX_ADDRS
    assert plan.waiting[0] == loopback
    plan.add(PRIVATE)
    assert len(plan.waiting) == MAX_ADDRS


def test_an_address_that_comes_late_joins_in_by_its_rank() -> None:
    plan = DialPlan([PUBLIC[0], PUBLIC[1]])
    start_all(plan, 0.0)
    plan.add([PRIVATE[0]])
    assert list(plan.waiting) == [PRIVATE[0], PUBLIC[1]]


def test_late_addresses_revive_a_plan_that_was_done() -> None:
    plan = DialPlan([PUBLIC[0]])
    start_all(plan, 0.0)
    plan.handle_failure(PUBLIC[0], 1.0)
    assert start_all(plan, 1.0) == []
    plan.add([PUBLIC[1]])
    assert not plan.is_done
    assert start_all(plan, 1.0) == [PUBLIC[1]]


def test_a_dozen_dead_container_networks_do_not_stand_before_the_public_address() -> None:
    plan = DialPlan([*PRIVATE[:12], PUBLIC[0]])

    assert plan.waiting.index(PUBLIC[0]) == 1


def test_spreading_moves_nothing_but_private_and_public_direct_addresses() -> None:
    loopback, link_local = tcp("127.0.0.1"), tcp("169.254.1.1")
    relayed = Multiaddr.parse(f"{PUBLIC[0]}/p2p/12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA/p2p-circuit")
    ordered = [*PRIVATE[:3], loopback, *PUBLIC[:2], link_local, relayed]

    assert spread(ordered) == [
        PRIVATE[0], PUBLIC[0], PRIVATE[1], loopback, PUBLIC[1], PRIVATE[2], link_local, relayed
    ]  # fmt: skip


addrs = st.lists(st.sampled_from([*PUBLIC[:20], *PRIVATE[:20], tcp("127.0.0.1"), tcp("2a00::1"), tcp("fd00::1")]))


@given(addrs)
def test_spreading_loses_and_doubles_nothing(ordered: list[Multiaddr]) -> None:
    assert sorted(spread(ordered)) == sorted(ordered)


@given(addrs=addrs, steps=st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_every_address_has_its_turn_once_and_never_too_many_at_a_time(
    addrs: list[Multiaddr], steps: list[tuple[float, bool]]
) -> None:
    plan = DialPlan(addrs)
    started: list[Multiaddr] = []
    now = last_start = -1.0
    failed = False
    for pause, fails in [*steps, *[(1.0, True)] * 100]:
        now += pause
        while (addr := plan.next_dial(now)) is not None:
            assert failed or not started or now - last_start >= STAGGER  # never two at once but for a failure
            started.append(addr)
            last_start, failed = now, False
        assert len(plan.in_flight) <= MAX_IN_FLIGHT
        if fails and plan.in_flight:
            plan.handle_failure(plan.in_flight[0], now)
            failed = True
    assert plan.is_done
    assert len(started) == len(set(started))
    assert set(started) == set(addrs)
