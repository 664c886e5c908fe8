"""Ledgers: what they count, and whom the table forgets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.ledger import Ledger, Ledgers

PEERS = [PeerId.from_public_key(bytes([number])) for number in range(8)]
ALICE, BOB, CAROL, DAVE = PEERS[:4]


def test_bytes_and_blocks_are_counted_both_ways() -> None:
    ledgers = Ledgers()
    ledgers.sent(ALICE, 300, 5, blocks=3)
    ledgers.received(ALICE, 40, 7)
    ledgers.sent(ALICE, 1, 9)
    assert ledgers.get(ALICE) == Ledger(bytes_sent=301, bytes_received=40, exchanges=5, last_seen=9)


def test_a_stranger_has_an_empty_ledger_and_gets_none_by_being_asked_about() -> None:
    ledgers = Ledgers()
    assert ledgers.get(BOB) == Ledger()
    assert ledgers.known(BOB) is None
    assert len(ledgers) == 0
    assert ledgers.take_unsaved() == set()


@pytest.mark.parametrize(
    ("sent", "received", "ratio"), [(0, 0, 0.0), (100, 0, 100.0), (100, 99, 1.0), (0, 10**18, 0.0), (300, 99, 3.0)]
)
def test_the_debt_ratio_is_the_white_papers(sent: int, received: int, ratio: float) -> None:
    assert Ledger(sent, received).debt_ratio == ratio


def test_the_least_recently_seen_is_forgotten_first() -> None:
    ledgers = Ledgers(max_ledgers=3)
    for now, peer_id in enumerate((ALICE, BOB, CAROL)):
        ledgers.sent(peer_id, 1, now)
    ledgers.received(ALICE, 1, 3)
    ledgers.sent(DAVE, 1, 4)
    assert [each for each in PEERS if ledgers.known(each)] == [ALICE, CAROL, DAVE]


def test_a_connected_peer_is_never_forgotten_and_after_that_last() -> None:
    ledgers = Ledgers(max_ledgers=2)
    ledgers.connected(ALICE)
    ledgers.sent(ALICE, 1, 0)
    for now, peer_id in enumerate((BOB, CAROL, DAVE), 1):
        ledgers.sent(peer_id, 1, now)
    assert [each for each in PEERS if ledgers.known(each)] == [ALICE, DAVE]
    ledgers.disconnected(ALICE)
    ledgers.sent(BOB, 1, 9)
    assert [each for each in PEERS if ledgers.known(each)] == [ALICE, BOB]
    ledgers.sent(CAROL, 1, 10)
    assert [each for each in PEERS if ledgers.known(each)] == [BOB, CAROL]


def test_more_connected_peers_than_the_table_takes_are_kept_until_they_leave() -> None:
    ledgers = Ledgers(max_ledgers=2)
    for peer_id in PEERS:
        ledgers.connected(peer_id)
        ledgers.sent(peer_id, 1, 0)
    assert len(ledgers) == len(PEERS)
    for peer_id in PEERS:
        ledgers.disconnected(peer_id)
    assert len(ledgers) == 2


def test_what_changed_and_who_was_forgotten_is_to_be_saved_once() -> None:
    ledgers = Ledgers(max_ledgers=2)
    ledgers.sent(ALICE, 1, 0)
    ledgers.sent(BOB, 1, 0)
    assert ledgers.take_unsaved() == {ALICE, BOB}
    assert ledgers.take_unsaved() == set()
    ledgers.sent(CAROL, 1, 0)
    assert ledgers.take_unsaved() == {ALICE, CAROL}
    ledgers.mark_unsaved([BOB])
    assert ledgers.take_unsaved() == {BOB}


def test_what_is_restored_need_not_be_saved_and_does_not_undo_what_happened_since() -> None:
    ledgers = Ledgers()
    ledgers.sent(ALICE, 5, 9)
    ledgers.take_unsaved()
    ledgers.restore(ALICE, Ledger(1, 1, 1, 1))
    ledgers.restore(BOB, Ledger(2, 2, 2, 2))
    assert ledgers.take_unsaved() == set()
    assert (ledgers.get(ALICE).bytes_sent, ledgers.get(BOB)) == (5, Ledger(2, 2, 2, 2))


@given(
    steps=st.lists(st.tuples(st.sampled_from(("sent", "received", "in", "out")), st.sampled_from(PEERS)), max_size=60)
)
def test_the_table_stays_within_its_bound_plus_the_connected_and_every_change_is_saved(
    steps: list[tuple[str, PeerId]],
) -> None:
    ledgers = Ledgers(max_ledgers=3)
    connected: set[PeerId] = set()
    on_disk: dict[PeerId, Ledger] = {}
    for now, (what, peer_id) in enumerate(steps):
        if what == "in":
            ledgers.connected(peer_id)
            connected.add(peer_id)
        elif what == "out":
            ledgers.disconnected(peer_id)
            connected.discard(peer_id)
        elif what == "sent":
            ledgers.sent(peer_id, 1, now)
        else:
            ledgers.received(peer_id, 1, now)
        assert len(ledgers) <= max(3, len(connected))
        for each in ledgers.take_unsaved():
            if (ledger := ledgers.known(each)) is None:
                on_disk.pop(each, None)
            else:
                on_disk[each] = ledger
        assert on_disk == {each: ledgers.get(each) for each in PEERS if ledgers.known(each) is not None}
