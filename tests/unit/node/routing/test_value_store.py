"""The values that we keep: what is valid, what is best, for how long, and how many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import LimitError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.routing.interface import InvalidValueError
from ipvcs.node.routing.value_store import (
    MAX_AGE,
    MAX_KEY,
    MAX_VALUE,
    NoRoomForValueError,
    OutdatedValueError,
    StoredValue,
    ValueStore,
    ValueTooLargeError,
)
from tests.contracts.routing import KEY, VALIDATOR

NOW = 1_800_000_000.0
ALICE, BOB = (PeerId.from_public_key(bytes([number])) for number in (1, 2))


def key(number: int) -> bytes:
    return b"/n/%d" % number


def kept(store: ValueStore, now: float = NOW) -> list[int]:
    return [number for number in range(20) if store.try_get(key(number), now) is not None]


def test_a_value_is_kept_for_48_hours_since_it_was_last_put() -> None:
    store = ValueStore(VALIDATOR)
    store.put(KEY, b"1", NOW)
    assert store.try_get(KEY, NOW + MAX_AGE - 1) == b"1"
    store.put(KEY, b"1", NOW + MAX_AGE - 1)
    assert store.try_get(KEY, NOW + MAX_AGE + 10) == b"1"
    assert store.try_get(KEY, NOW + 2 * MAX_AGE - 1) is None
    assert len(store) == 0


def test_a_value_that_expires_by_its_own_word_is_not_handed_out_any_more() -> None:
    store = ValueStore(VALIDATOR)
    store.put(KEY, b"9@%d" % (NOW + 100), NOW)
    assert store.try_get(KEY, NOW + 100) is not None
    assert store.try_get(KEY, NOW + 101) is None
    store.put(KEY, b"1", NOW + 101)
    assert store.try_get(KEY, NOW + 101) == b"1", "what has expired is not better than anything"


def test_a_worse_value_is_refused_and_a_better_one_replaces() -> None:
    store = ValueStore(VALIDATOR)
    store.put(KEY, b"5", NOW)
    with pytest.raises(OutdatedValueError) as caught:
        store.put(KEY, b"4", NOW + 1)
    assert caught.value.better == b"5"
    with pytest.raises(OutdatedValueError):  # as good, but another: the first stays
        store.put(KEY, b"05", NOW + 1)
    store.put(KEY, b"6", NOW + 2)
    assert store.try_get(KEY, NOW + 2) == b"6"
    assert len(store) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [(KEY, b"no number"), (b"/x/1", b"1"), (KEY, b"1" * (MAX_VALUE + 1)), (b"/n/" + bytes(MAX_KEY - 2), b"1")],
)
def test_what_is_not_valid_or_too_large_is_refused(name: bytes, value: bytes) -> None:
    store = ValueStore(VALIDATOR)
    with pytest.raises(InvalidValueError):
        store.put(name, value, NOW)
    assert len(store) == 0
    assert store.take_unsaved() == {}


def test_the_largest_value_and_key_are_kept() -> None:
    store = ValueStore(VALIDATOR)
    store.put(b"/n/" + bytes(MAX_KEY - 3), b"1" * MAX_VALUE, NOW)
    assert len(store) == 1
    assert issubclass(ValueTooLargeError, InvalidValueError)


def test_what_was_put_longest_ago_makes_room() -> None:
    store = ValueStore(VALIDATOR, max_values=3)
    for number in range(3):
        store.put(key(number), b"1", NOW + number)
    store.put(key(0), b"1", NOW + 5)
    store.put(key(3), b"1", NOW + 6)
    store.put(key(4), b"1", NOW + 7)
    assert kept(store) == [0, 3, 4]


def test_our_own_values_are_displaced_by_our_own_alone() -> None:
    store = ValueStore(VALIDATOR, max_values=2)
    store.put(key(0), b"1", NOW, own=True)
    for number in range(1, 5):
        store.put(key(number), b"1", NOW + number, source=ALICE)
    assert kept(store) == [0, 4]
    store.put(key(5), b"1", NOW, own=True)
    assert kept(store) == [0, 5]
    with pytest.raises(NoRoomForValueError):
        store.put(key(6), b"1", NOW)
    store.put(key(7), b"1", NOW, own=True)
    assert kept(store) == [5, 7]
    assert issubclass(NoRoomForValueError, LimitError)


def test_an_echo_of_our_own_value_leaves_it_ours() -> None:
    store = ValueStore(VALIDATOR, max_values=2)
    store.put(key(0), b"1", NOW, own=True)
    store.put(key(0), b"1", NOW + 1, source=ALICE)
    store.put(key(1), b"1", NOW + 2)
    store.put(key(2), b"1", NOW + 3)
    assert kept(store) == [0, 2]


def test_one_peer_has_its_share_and_displaces_its_own_oldest() -> None:
    store = ValueStore(VALIDATOR, max_per_peer=2)
    store.put(key(0), b"1", NOW, source=BOB)
    for number in range(1, 6):
        store.put(key(number), b"1", NOW + number, source=ALICE)
    assert kept(store) == [0, 4, 5]
    store.put(key(4), b"1", NOW + 10, source=BOB)  # who puts a value last answers for it
    store.put(key(6), b"1", NOW + 11, source=ALICE)
    assert kept(store) == [0, 4, 5, 6]


def test_large_values_are_bounded_together() -> None:
    store = ValueStore(VALIDATOR, max_bytes=3 * 104)
    for number in range(5):
        store.put(key(number), b"1" * 100, NOW)
    assert kept(store) == [2, 3, 4]
    store.put(key(5), b"1" * 300, NOW)
    assert kept(store) == [5]


def test_what_changed_is_told_once_and_again_if_saving_failed() -> None:
    store = ValueStore(VALIDATOR)
    store.put(KEY, b"1", NOW, source=ALICE)
    changes = store.take_unsaved()
    assert changes == {KEY: StoredValue(b"1", NOW, ALICE)}
    assert store.take_unsaved() == {}
    store.mark_unsaved(changes)
    store.drop_expired(NOW + MAX_AGE)
    assert store.take_unsaved() == {KEY: None}


def test_what_could_not_be_saved_and_is_gone_since_is_not_remembered() -> None:
    store = ValueStore(VALIDATOR, max_values=2)
    for number in range(100):
        store.put(key(number), b"1", NOW)
        store.mark_unsaved(store.take_unsaved())  # a full disk
    assert store.take_unsaved().keys() == {key(98), key(99)}


def test_restored_values_are_as_old_as_they_were() -> None:
    store = ValueStore(VALIDATOR)
    store.restore(key(1), StoredValue(b"1", NOW - MAX_AGE + 10), NOW)
    store.restore(key(2), StoredValue(b"1", NOW + 10**9), NOW)  # written by a clock that was wrong
    store.restore(key(3), StoredValue(b"1", NOW - MAX_AGE), NOW)
    store.restore(key(4), StoredValue(b"no number", NOW), NOW)
    assert store.take_unsaved() == {key(3): None}
    assert kept(store) == [1, 2]
    assert store.take_unsaved() == {key(4): None}, "rules are asked when the value is"
    assert kept(store, NOW + 10) == [2]
    assert kept(store, NOW + MAX_AGE) == []


def test_more_than_there_is_room_for_is_not_restored() -> None:
    store = ValueStore(VALIDATOR, max_values=2)
    for number in range(4):
        store.restore(key(number), StoredValue(b"1", NOW, own=number < 3), NOW)
    assert kept(store) == [1, 2]
    assert store.take_unsaved() == {key(0): None, key(3): None}


puts = st.tuples(
    st.integers(0, 12), st.integers(0, 999), st.sampled_from([None, ALICE, BOB]), st.booleans(), st.integers(0, 10**5)
)


@given(script=st.lists(puts, max_size=60))
def test_every_bound_holds_whatever_is_put(script: list[tuple[int, int, PeerId | None, bool, int]]) -> None:
    store = ValueStore(VALIDATOR, max_values=6, max_bytes=60, max_per_peer=3)
    model: dict[bytes, StoredValue | None] = {}
    now = NOW
    for number, value, source, own, pause in script:
        now += pause
        try:
            store.put(key(number), b"%d" % value, now, source=source, own=own)
        except (OutdatedValueError, NoRoomForValueError):
            pass
        else:
            assert store.try_get(key(number), now) == b"%d" % value
        model |= store.take_unsaved()
        stored = {name: each for name, each in model.items() if each is not None}
        assert len(stored) == len(store) <= 6
        assert sum(len(name) + len(each.value) for name, each in stored.items()) <= 60
        for peer in (ALICE, BOB):
            assert sum(each.source == peer and not each.own for each in stored.values()) <= 3
