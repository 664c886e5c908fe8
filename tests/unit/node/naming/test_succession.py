"""What follows what under a name of ours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.naming.name_table import KnownName, OwnName
from ipvcs.node.naming.record import MAX_SEQUENCE
from ipvcs.node.naming.succession import (
    MAX_LIFETIME,
    UNPUBLISHED,
    LifetimeError,
    NameChangedError,
    SequenceError,
    SequenceExhaustedError,
    State,
    check_times,
    merge,
    renew,
    state_of,
    succeed,
)
from tests.unit.node.identity.key_pool import KEYS
from tests.unit.node.naming.records import ALICE, HOUR, NOW, A, B, record


def publish(
    known: KnownName | None,
    path: str,
    *,
    now: float = NOW,
    lifetime: float = 48 * HOUR,
    sequence: int | None = None,
    expect: State | None = None,
) -> OwnName:
    return succeed(ALICE, known, path, lifetime=lifetime, ttl=60, now=now, sequence=sequence, expect=expect)


def test_a_name_begins_with_zero_and_goes_up_by_one_when_its_value_changes() -> None:
    first = publish(None, A)
    second = publish(KnownName(own=first), B, now=NOW + 1)
    third = publish(KnownName(own=second), A, now=NOW + 2)
    assert [each.record.sequence for each in (first, second, third)] == [0, 1, 2]
    assert first.record.ttl_ns == 60 * 10**9
    first.record.verify(ALICE.peer_id)


def test_the_same_value_again_keeps_its_number_and_lives_longer() -> None:
    first = publish(None, A)
    again = publish(KnownName(own=first), A, now=NOW + 60)
    assert again.record.sequence == first.record.sequence
    assert again.record.expires_ns > first.record.expires_ns


def test_a_shorter_life_takes_a_new_number_or_it_would_lose() -> None:
    first = publish(None, A)
    shorter = publish(KnownName(own=first), A, now=NOW + 60, lifetime=HOUR)
    assert shorter.record.sequence == first.record.sequence + 1
    assert shorter.record.rank > first.record.rank


def test_publishing_again_ends_a_fork() -> None:
    first = publish(None, A)
    forked = KnownName(own=first, fork=(first.record, record(value=B)))
    assert publish(forked, A, now=NOW + 1).record.sequence == first.record.sequence + 1


def test_what_the_network_has_is_not_undercut() -> None:
    first = publish(None, A)
    seen = record(value=B, sequence=7)
    assert publish(KnownName(seen, NOW, own=first), A).record.sequence == 8
    assert publish(KnownName(seen, NOW), B, now=NOW + 1).record.sequence == 7


def test_a_number_of_ones_own_must_be_higher_or_the_same_for_the_same() -> None:
    known = KnownName(own=publish(None, A, sequence=5))
    assert known.best.sequence == 5
    assert publish(known, B, sequence=9).record.sequence == 9
    assert publish(known, A, now=NOW + 1, sequence=5).record.sequence == 5
    for path, sequence in ((A, 4), (B, 4), (B, 5), (A, 5)):
        with pytest.raises(SequenceError) as caught:
            publish(known, path, sequence=sequence)
        assert (caught.value.asked, caught.value.present) == (sequence, 5)


def test_the_last_number_is_the_last() -> None:
    known = KnownName(own=publish(None, A, sequence=MAX_SEQUENCE))
    assert publish(known, A, now=NOW + 1).record.sequence == MAX_SEQUENCE
    with pytest.raises(SequenceExhaustedError):
        publish(known, B)
    with pytest.raises(SequenceExhaustedError):
        publish(known, B, sequence=MAX_SEQUENCE + 1)


def test_compare_and_swap_goes_by_number_and_value() -> None:
    first = publish(None, A, expect=UNPUBLISHED)
    known = KnownName(own=first)
    assert state_of(known) == (0, A)
    assert publish(known, B, expect=(0, A)).record.sequence == 1
    for expect in (UNPUBLISHED, (0, B), (1, A)):
        with pytest.raises(NameChangedError) as caught:
            publish(known, B, expect=expect)
        assert (caught.value.expected, caught.value.found) == (expect, (0, A))
    with pytest.raises(NameChangedError, match=r"nothing instead of '/ipfs/bafkqaaa' with sequence 0"):
        publish(None, B, expect=(0, A))
    assert state_of(None) == UNPUBLISHED


def test_that_the_network_has_it_is_remembered_as_long_as_the_number_stays() -> None:
    first = publish(None, A)
    assert first.announced is None
    announced = KnownName(own=OwnName(first.record, first.lifetime, NOW))
    assert publish(announced, A, now=NOW + 1).announced == NOW
    assert publish(announced, B).announced is None


def test_what_is_on_the_disk_counts_for_ours_and_what_was_seen_for_the_network() -> None:
    old, new = OwnName(record(sequence=1), HOUR), OwnName(record(sequence=2), HOUR)
    seen = record(value=B, sequence=1)
    assert merge(KnownName(own=new), KnownName(seen, NOW, own=old)) == KnownName(seen, NOW, own=new)
    assert merge(None, KnownName(own=old)) == KnownName(own=old)
    assert merge(KnownName(own=new), None) == KnownName(own=new)
    assert merge(None, None) is None


@pytest.mark.parametrize("key", KEYS.values(), ids=lambda key: key.type.name)
def test_a_renewed_record_is_the_same_but_for_its_later_end(key: object) -> None:
    from ipvcs.node.identity.keys import PrivateKey

    assert isinstance(key, PrivateKey)
    own = OwnName(record(key, sequence=4, expires=NOW + 48 * HOUR, ttl=7), 48 * HOUR, NOW)
    renewed = renew(key, own, NOW + 4 * HOUR)
    renewed.record.verify(key.peer_id)
    assert (renewed.record.sequence, renewed.record.value, renewed.record.ttl_ns) == (4, A.encode(), 7 * 10**9)
    assert renewed.record.expires_ns - own.record.expires_ns == 4 * HOUR * 10**9
    assert (renewed.lifetime, renewed.announced) == (own.lifetime, NOW)


def test_a_clock_that_went_back_renews_nothing() -> None:
    own = OwnName(record(expires=NOW + 48 * HOUR), 48 * HOUR)
    assert renew(ALICE, own, NOW - 1) is own
    assert renew(ALICE, own, NOW) is own


@pytest.mark.parametrize(("lifetime", "ttl"), [(0, 1), (-1, 1), (MAX_LIFETIME + 1, 1), (1, -1), (1, 1e10)])
def test_times_that_no_record_can_have_are_refused(lifetime: float, ttl: float) -> None:
    with pytest.raises(LifetimeError):
        check_times(lifetime, ttl)


def test_times_at_the_bounds_are_fine() -> None:
    check_times(0.001, 0)
    check_times(MAX_LIFETIME, 9_000_000_000)


@given(
    steps=st.lists(st.tuples(st.sampled_from((A, B)), st.integers(1, 100), st.integers(1, 96)), min_size=2, max_size=8)
)
def test_whatever_is_published_the_newest_always_wins(steps: list[tuple[str, int, int]]) -> None:
    known, now = None, NOW
    for path, passed, lifetime in steps:
        now += passed
        own = publish(known, path, now=now, lifetime=lifetime * HOUR)
        if known is not None:
            assert own.record.rank[:2] > known.best.rank[:2]
            assert own.record.sequence - known.best.sequence in (0, 1)
        known = KnownName(own=own)
