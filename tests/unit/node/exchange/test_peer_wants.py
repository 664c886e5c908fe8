"""One peer's wants: their order, their bound, and queues that stay as small as the table."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.messages import MAX_CID, WantEntry, WantType
from ipvcs.node.exchange.peer_wants import Due, PeerWants, Want, is_wantable

CIDS = [Cid.of(sha256(bytes([number])).digest()) for number in range(40)]
A, B, C, D = CIDS[:4]


def put(wants: PeerWants, cid: Cid, priority: int = 1, *, limit: int = 100) -> Want:
    want, _dropped = wants.put(WantEntry(cid, priority=priority), limit)
    assert want is not None
    return want


def due_blocks(wants: PeerWants) -> list[Cid]:
    """Take all blocks that are due, in their order."""
    taken: list[Cid] = []
    while (want := wants.next_block()) is not None:
        wants.take(want)
        taken.append(want.cid)
    return taken


def test_blocks_are_due_by_priority_then_by_arrival_whenever_they_became_so() -> None:
    wants = PeerWants()
    found = [put(wants, cid, priority) for cid, priority in ((A, 1), (B, 2), (C, 2), (D, -7))]
    for want in reversed(found):
        wants.set_due(want, Due.BLOCK, 10)
    assert wants.pending_bytes == 40
    assert due_blocks(wants) == [B, C, A, D]
    assert wants.pending_bytes == 0
    assert not wants.has_due


def test_a_new_priority_moves_a_want_in_the_queue_both_ways() -> None:
    wants = PeerWants()
    for cid in (A, B, C):
        wants.set_due(put(wants, cid, 5), Due.BLOCK, 1)
    put(wants, A, 4)
    put(wants, C, 6)
    assert due_blocks(wants) == [C, B, A]


def test_a_priority_changed_there_and_back_leaves_the_block_due_once() -> None:
    wants = PeerWants()
    wants.set_due(put(wants, A, 1), Due.BLOCK, 1)
    for priority in (9, 1, 9, 1):
        put(wants, A, priority)
    assert due_blocks(wants) == [A]


def test_one_thing_is_due_for_a_want_at_a_time() -> None:
    wants = PeerWants()
    want = put(wants, A)
    wants.set_due(want, Due.DONT_HAVE)
    assert list(wants.presences()) == [want]
    wants.set_due(want, Due.BLOCK, 7)
    assert (list(wants.presences()), wants.pending_bytes) == ([], 7)
    wants.set_due(want, Due.BLOCK, 9)
    assert wants.pending_bytes == 9
    wants.set_due(want, Due.HAVE, 9)
    assert (wants.next_block(), wants.pending_bytes) == (None, 0)
    wants.remove(want)
    assert not wants.has_due


def test_a_want_for_the_block_is_not_weakened_and_one_for_have_is_strengthened() -> None:
    wants = PeerWants()
    want, _ = wants.put(WantEntry(A, WantType.HAVE), 9)
    assert want is not None
    wants.put(WantEntry(A, WantType.BLOCK, send_dont_have=True), 9)
    assert want.entry == WantEntry(A, WantType.BLOCK, send_dont_have=True)
    wants.put(WantEntry(A, WantType.HAVE, 3), 9)
    assert want.entry == WantEntry(A, WantType.BLOCK, 3)
    assert len(wants) == 1


def test_a_full_table_drops_the_lowest_and_tells_whom() -> None:
    wants = PeerWants()
    first, second = put(wants, A, 2), put(wants, B, 2)
    assert wants.put(WantEntry(C, priority=2), 2) == (None, None)
    want, dropped = wants.put(WantEntry(C, priority=3), 2)
    assert want is not None
    assert (want in wants, dropped, first in wants) == (True, second, True)
    put(wants, C, 1)  # now the lowest itself
    assert wants.put(WantEntry(B, priority=2), 2)[1] is want


def test_what_is_on_its_way_is_neither_counted_nor_dropped() -> None:
    wants = PeerWants()
    low = put(wants, A, 1)
    wants.set_due(low, Due.BLOCK, 1)
    assert wants.take(low) is Due.BLOCK
    assert (len(wants), wants.staying) == (1, 0)
    put(wants, B, 5, limit=1)
    assert wants.put(WantEntry(C, priority=2), 1) == (None, None)
    assert wants.put(WantEntry(C, priority=6), 1)[1] is not low
    assert wants.land(low, 2) is Due.BLOCK
    assert (low in wants, wants.staying) == (True, 2)
    assert wants.put(WantEntry(D, priority=2), 2)[1] is low, "and then it is again"


def test_what_lands_in_a_full_table_is_dropped() -> None:
    wants = PeerWants()
    want = put(wants, A)
    wants.set_due(want, Due.DONT_HAVE)
    wants.take(want)
    put(wants, B, limit=1)
    assert wants.land(want, 1) is Due.DONT_HAVE
    assert (want in wants, len(wants), wants.staying) == (False, 1, 1)


def test_a_want_cancelled_on_its_way_and_made_anew_is_another() -> None:
    wants = PeerWants()
    old = put(wants, A)
    wants.set_due(old, Due.HAVE, 1)
    wants.take(old)
    wants.remove(old)
    new = put(wants, A)
    assert (old in wants, new in wants, wants.staying) == (False, True, 1)
    wants.land(old, 5)
    assert (new in wants, wants.staying) == (True, 1)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(("put", "remove", "due", "not")), st.sampled_from(CIDS[:12]), st.integers(-2, 2)),
        max_size=300,
    )
)
def test_whatever_happens_the_order_is_that_of_a_sort_and_the_bound_holds(steps: list[tuple[str, Cid, int]]) -> None:
    wants = PeerWants()
    expected: list[Want] = []
    for what, cid, priority in steps:
        want = wants.get(cid)
        if what == "put":
            before = sorted(wants, key=lambda each: each.rank)
            want, dropped = wants.put(WantEntry(cid, priority=priority), 6)
            if dropped is not None:
                assert dropped is before[-1]
        elif want is not None:
            if what == "remove":
                wants.remove(want)
            else:
                wants.set_due(want, Due.BLOCK if what == "due" else Due.NOTHING, 3)
        expected = sorted((each for each in wants if each.due is Due.BLOCK), key=lambda each: each.rank)
        assert wants.next_block() is (expected[0] if expected else None)
        assert wants.pending_bytes == 3 * len(expected)
        assert len(wants) <= 6
    assert due_blocks(wants) == [each.cid for each in expected]


def test_queues_do_not_grow_with_what_a_peer_asks_for_again_and_again() -> None:
    wants = PeerWants()
    for number in range(5000):
        want = put(wants, CIDS[number % 3], number)
        wants.set_due(want, Due.BLOCK, 1)
        wants.set_due(want, Due.NOTHING)
        wants.set_due(want, Due.BLOCK, 1)
        other = put(wants, CIDS[3 + number % 30])
        wants.remove(other)
    assert max(len(wants._blocks), len(wants._lowest)) < 100
    assert due_blocks(wants) == [CIDS[4999 % 3], CIDS[4998 % 3], CIDS[4997 % 3]]


def test_only_what_can_name_a_block_of_ours_is_wantable() -> None:
    assert is_wantable(A)
    assert is_wantable(Cid(A.multihash))
    assert not is_wantable(Cid(b"\x01\x55\x00\x02hi"))
    assert is_wantable(Cid(A.raw + bytes(MAX_CID - 36)))
    assert not is_wantable(Cid(A.raw + bytes(MAX_CID - 35)))
