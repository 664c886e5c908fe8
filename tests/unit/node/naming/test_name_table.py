"""What is remembered of names: never back, never silently to another value, never more than the bounds say."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.node.naming.name_table import (
    MAX_TTL,
    ForkError,
    KnownName,
    NameTable,
    OwnName,
    Verdict,
    conflicts,
    ttl_of,
)
from tests.unit.node.identity.key_pool import ed25519_key
from tests.unit.node.naming.records import ALICE, BOB, HOUR, NOW, A, B, C, record

NAME, OTHER = ALICE.peer_id, BOB.peer_id
MINE = OwnName(record(sequence=3), 48 * HOUR)


def known(table: NameTable) -> KnownName:
    found = table.try_get(NAME)
    assert found is not None
    return found


def test_the_first_record_of_a_name_is_taken() -> None:
    table = NameTable()
    assert table.try_get(NAME) is None
    assert table.observe(NAME, record(sequence=4), NOW) is Verdict.NEWER
    assert (known(table).best.sequence, known(table).confirmed) == (4, NOW)


def test_only_a_higher_sequence_number_replaces_a_record() -> None:
    table = NameTable()
    table.observe(NAME, record(value=A, sequence=4), NOW)
    assert table.observe(NAME, record(value=B, sequence=3, expires=NOW + 999 * HOUR), NOW + 1) is Verdict.OLDER
    assert (known(table).best.path, known(table).confirmed) == (A, NOW)
    assert table.observe(NAME, record(value=B, sequence=5, expires=NOW + 1), NOW + 1) is Verdict.NEWER
    assert (known(table).best.path, known(table).confirmed) == (B, NOW + 1)


def test_the_same_value_with_a_later_end_is_the_better_copy_of_the_same() -> None:
    table = NameTable()
    early, late = (record(expires=NOW + hours * HOUR) for hours in (1, 2))
    table.observe(NAME, early, NOW)
    assert table.observe(NAME, late, NOW + 1) is Verdict.SAME
    assert known(table).best == late
    assert table.observe(NAME, early, NOW + 2) is Verdict.SAME
    assert (known(table).best, known(table).confirmed) == (late, NOW + 2)


def test_of_a_fork_the_first_is_kept_and_the_other_remembered() -> None:
    table = NameTable()
    first, second, third = record(value=A), record(value=B, expires=NOW + 99 * HOUR), record(value=C)
    table.observe(NAME, first, NOW)
    assert table.observe(NAME, second, NOW + 1) is Verdict.FORK
    assert table.observe(NAME, third, NOW + 1) is Verdict.FORK
    assert table.observe(NAME, first, NOW + 2) is Verdict.SAME
    assert known(table).best == first
    assert known(table).open_fork == (first, second)
    (error,) = conflicts(NAME, known(table))
    assert isinstance(error, ForkError)
    assert A in str(error)
    assert B in str(error)
    assert "name forget" in (error.hint or "")


@pytest.mark.parametrize(("hours", "counts"), [(1, A), (99, B)])
def test_of_a_fork_of_ours_what_the_network_gives_to_others_counts(hours: float, counts: str) -> None:
    ours, rival = record(value=A), record(value=B, expires=NOW + hours * HOUR)
    table = NameTable()
    table.set_own(NAME, OwnName(ours, 48 * HOUR))
    assert table.observe(NAME, rival, NOW) is Verdict.FORK
    assert known(table).best.path == counts
    assert known(table).is_ours == (counts == A)
    assert table.observe(NAME, ours, NOW) in (Verdict.FORK, Verdict.SAME)
    assert known(table).best.path == counts
    (error,) = conflicts(NAME, known(table))
    assert isinstance(error, ForkError)
    assert error.kept.path == counts
    copy = record(value=counts, expires=NOW + 999 * HOUR)
    assert table.observe(NAME, copy, NOW) is Verdict.SAME
    assert known(table).is_ours == (counts == A), "a later copy is none of anybody's"
    table.set_own(NAME, OwnName(record(value=C, sequence=1), 48 * HOUR))
    assert conflicts(NAME, known(table)) == ()
    assert known(table).is_ours


def test_a_higher_sequence_number_ends_a_fork_and_it_stays_in_the_report() -> None:
    table = NameTable()
    for value, sequence in ((A, 1), (B, 1), (C, 2)):
        table.observe(NAME, record(value=value, sequence=sequence), NOW)
    assert known(table).best.path == C
    assert conflicts(NAME, known(table)) == ()
    assert [error.name for error in table.forks()] == [NAME]
    assert table.forget(NAME)
    assert list(table.forks()) == []


def test_when_what_was_kept_of_a_fork_has_expired_the_other_takes_its_place() -> None:
    table = NameTable()
    table.observe(NAME, record(value=A, expires=NOW + 1), NOW)
    assert table.observe(NAME, record(value=B), NOW + 2) is Verdict.NEWER
    assert known(table).best.path == B
    (error,) = conflicts(NAME, known(table))
    assert isinstance(error, ForkError)
    assert (error.kept.path, error.other.path) == (B, A)


def test_a_name_of_others_may_become_ours_and_keeps_what_was_seen() -> None:
    table = NameTable(max_bytes=0)
    table.observe(NAME, record(sequence=2), NOW)
    table.set_own(NAME, MINE)
    assert known(table) == KnownName(record(sequence=2), NOW, own=MINE)
    assert table._bytes == 0


def test_after_forget_anything_goes() -> None:
    table = NameTable()
    assert not table.forget(NAME)
    table.observe(NAME, record(sequence=9), NOW)
    assert table.forget(NAME)
    assert table.try_get(NAME) is None
    assert table.observe(NAME, record(value=B, sequence=0), NOW) is Verdict.NEWER


def test_what_we_published_ourselves_is_not_forgotten() -> None:
    table = NameTable()
    table.set_own(NAME, MINE)
    assert not table.forget(NAME)
    assert table.observe(NAME, record(value=B, sequence=3), NOW) is Verdict.FORK
    assert table.forget(NAME)
    assert known(table) == KnownName(own=MINE)
    assert set(table.own()) == {NAME}


def test_ours_counts_until_the_network_has_a_higher_number() -> None:
    table = NameTable()
    table.set_own(NAME, MINE)
    assert table.observe(NAME, record(value=B, sequence=2), NOW) is Verdict.OLDER
    assert table.observe(NAME, record(sequence=3, expires=NOW + HOUR), NOW) is Verdict.SAME
    assert known(table).best == record(sequence=3)
    assert table.observe(NAME, record(value=B, sequence=4), NOW) is Verdict.NEWER
    assert known(table).best.path == B


# ---- freshness ----


def test_a_record_is_fresh_for_its_ttl_and_no_longer_than_the_cap() -> None:
    table = NameTable()
    table.observe(NAME, record(ttl=300), NOW)
    assert [known(table).is_fresh(NOW + after) for after in (0, 299, 300)] == [True, True, False]
    table.observe(OTHER, record(BOB, ttl=10**9), NOW)
    other = table.try_get(OTHER)
    assert other is not None
    assert ttl_of(other.best) == MAX_TTL
    assert [other.is_fresh(NOW + after) for after in (MAX_TTL - 1, MAX_TTL)] == [True, False]


def test_a_record_is_not_fresh_beyond_its_validity_or_when_the_clock_went_back() -> None:
    table = NameTable()
    table.observe(NAME, record(ttl=300, expires=NOW + 10), NOW)
    assert [known(table).is_fresh(NOW + after) for after in (10, 12, -1)] == [True, False, False]
    table.observe(OTHER, record(BOB, ttl=0), NOW)
    assert not table.try_get(OTHER).is_fresh(NOW)  # type: ignore[union-attr]


# ---- bounds, and what is to be saved ----


def test_others_are_bounded_and_the_least_recently_confirmed_go_first() -> None:
    keys = [ed25519_key(number) for number in range(1, 6)]
    table = NameTable(max_names=3)
    table.set_own(NAME, MINE)
    for key in keys[:3]:
        table.observe(key.peer_id, record(key), NOW)
    table.observe(keys[0].peer_id, record(keys[0]), NOW + 1)
    table.take_unsaved()
    for key in keys[3:]:
        table.observe(key.peer_id, record(key), NOW + 2)
    there = [key for key in keys if table.try_get(key.peer_id)]
    assert there == [keys[0], keys[3], keys[4]]
    assert table.try_get(NAME)
    changed = table.take_unsaved()
    assert {name for name, value in changed.items() if value is None} == {keys[1].peer_id, keys[2].peer_id}
    assert {name for name, value in changed.items() if value} == {keys[3].peer_id, keys[4].peer_id}


def test_the_bytes_of_others_are_bounded_too() -> None:
    keys = [ed25519_key(number) for number in range(1, 5)]
    large = "/ipfs/bafkqaaa/" + "x" * 4000
    table = NameTable(max_bytes=20_000)
    for key in keys:
        table.observe(key.peer_id, record(key, large), NOW)
    assert [bool(table.try_get(key.peer_id)) for key in keys] == [False, False, True, True]
    table.observe(keys[2].peer_id, record(keys[2], large + "y"), NOW)  # a fork has two
    assert [bool(table.try_get(key.peer_id)) for key in keys] == [False, False, True, False]
    table.observe(keys[2].peer_id, record(keys[2], A, 1), NOW)
    table.forget(keys[2].peer_id)
    assert table._bytes == 0


def test_only_what_changed_is_to_be_saved() -> None:
    table = NameTable()
    table.observe(NAME, record(), NOW)
    assert set(table.take_unsaved()) == {NAME}
    assert table.take_unsaved() == {}
    table.observe(NAME, record(value=B), NOW)
    assert set(table.take_unsaved()) == {NAME}
    table.observe(NAME, record(value=B), NOW + 5)
    assert table.take_unsaved() == {}, "the same fork again is nothing new"
    table.mark_unsaved([NAME, OTHER])
    assert table.take_unsaved() == {NAME: known(table), OTHER: None}


@given(
    events=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from((A, B, C)), st.integers(1, 5)), min_size=1, max_size=12
    )
)
def test_whatever_comes_the_sequence_never_falls_and_a_value_changes_only_with_it(
    events: list[tuple[int, str, int]],
) -> None:
    table = NameTable()
    before = None
    for sequence, value, hours in events:
        verdict = table.observe(NAME, record(value=value, sequence=sequence, expires=NOW + hours * HOUR), NOW)
        now = known(table).best
        if before is not None:
            assert now.sequence >= before.sequence
            assert now.sequence > before.sequence or now.value == before.value
            assert (verdict is Verdict.NEWER) == (now.sequence > before.sequence)
            assert (verdict is Verdict.OLDER) == (sequence < before.sequence)
            assert (verdict is Verdict.FORK) == (sequence == before.sequence and value.encode() != before.value)
        before = now
    assert before is not None
    assert before.sequence == max(sequence for sequence, _value, _hours in events)


def test_a_known_name_without_a_record_is_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError):
        assert KnownName().best
    assert replace(KnownName(), seen=record()).best == record()
