"""The decision engine: whom it answers, with what, and what a greedy or broken peer can't make it do."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from hashlib import sha256
from itertools import count
from types import FrameType

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange import engine as engine_module
from ipvcs.node.exchange.engine import Answer, Engine
from ipvcs.node.exchange.ledger import Ledger, Ledgers
from ipvcs.node.exchange.messages import MAX_MESSAGE, WantEntry, WantType, block_size, encode_answers
from ipvcs.node.exchange.strategy import AlwaysServe

ALICE, BOB, CAROL = (PeerId.from_public_key(bytes([number])) for number in (1, 2, 3))
MIB = 1024 * 1024
KIB = 1024


def cid(number: int) -> Cid:
    return Cid.of(sha256(number.to_bytes(4)).digest())


A, B, C, D = map(cid, range(4))


def sizes(*cids: Cid, size: int = 100 * KIB) -> dict[bytes, int]:
    return {each.multihash: size for each in cids}


def block(cid: Cid, priority: int = 1, *, tell: bool = False) -> WantEntry:
    return WantEntry(cid, WantType.BLOCK, priority, send_dont_have=tell)


def have(cid: Cid, priority: int = 1, *, tell: bool = False) -> WantEntry:
    return WantEntry(cid, WantType.HAVE, priority, send_dont_have=tell)


def cancel(cid: Cid) -> WantEntry:
    return WantEntry(cid, cancel=True)


class Driver:
    """An engine and its peers, all connected; time stands still unless told otherwise."""

    def __init__(self, engine: Engine | None = None, ledgers: Ledgers | None = None) -> None:
        self.ledgers = ledgers or Ledgers()
        self.engine = engine or Engine(self.ledgers, AlwaysServe())
        self.now = 100.0
        for peer_id in (ALICE, BOB, CAROL):
            self.engine.connected(peer_id)

    def wants(
        self,
        *entries: WantEntry,
        has: Mapping[bytes, int] | None = None,
        peer_id: PeerId = ALICE,
        full: bool = False,
    ) -> None:
        self.engine.receive_wants(peer_id, entries, full=full, sizes=has or {}, now=self.now)

    def arrives(self, *cids: Cid, size: int = 100 * KIB) -> None:
        self.engine.blocks_arrived(sizes(*cids, size=size), self.now)

    def take(self, peer_id: PeerId = ALICE, max_bytes: int = MIB, *, presences: bool = True) -> Answer:
        """Begin the answer that is next, which must be for `peer_id`."""
        assert self.engine.next_ready(self.now) == peer_id
        answer = self.engine.next_answer(peer_id, max_bytes, self.now, presences=presences)
        assert answer is not None
        return answer

    def sent(self, answer: Answer, peer_id: PeerId = ALICE, missing: Collection[Cid] = ()) -> None:
        sent = 0 if missing else answer.size
        self.engine.answered(peer_id, answer, sent, missing, now=self.now)

    def answer(self, peer_id: PeerId = ALICE, max_bytes: int = MIB) -> Answer:
        """Run one answer, whole."""
        answer = self.take(peer_id, max_bytes)
        self.sent(answer, peer_id)
        return answer

    def serve_next(self, max_bytes: int = MIB) -> tuple[PeerId, Answer]:
        """Run the next answer, whoever's it is."""
        peer_id = self.engine.next_ready(self.now)
        assert peer_id is not None
        answer = self.engine.next_answer(peer_id, max_bytes, self.now)
        assert answer is not None
        self.sent(answer, peer_id)
        return peer_id, answer

    def is_quiet(self) -> bool:
        return self.engine.next_ready(self.now) is None

    def wanted(self, peer_id: PeerId = ALICE) -> list[Cid]:
        return [entry.cid for entry in self.engine.wants_of(peer_id)]


@pytest.fixture
def driver() -> Driver:
    return Driver()


def presences(answer: Answer) -> tuple[Sequence[Cid], Sequence[Cid]]:
    assert answer.blocks == ()
    return answer.haves, answer.dont_haves


# What is answered


def test_a_wanted_block_is_sent_and_the_ledger_says_so(driver: Driver) -> None:
    driver.wants(block(A), has=sizes(A))
    assert driver.answer() == Answer((A,), (), (), 100 * KIB, 0)
    assert driver.is_quiet()
    assert driver.wanted() == []
    assert driver.ledgers.get(ALICE) == Ledger(100 * KIB, 0, 1, driver.now)


def test_a_want_have_is_answered_by_have_or_by_the_block_if_it_is_small(driver: Driver) -> None:
    driver.wants(have(A), have(B), have(C), has={**sizes(A, size=1025), **sizes(B, size=1024), **sizes(C, size=0)})
    answer = driver.answer()
    assert (answer.haves, set(answer.blocks), answer.size) == ((A,), {B, C}, 1024)
    assert driver.wanted() == []


def test_dont_have_is_said_only_to_who_asked_and_the_wants_wait_either_way(driver: Driver) -> None:
    driver.wants(block(A), block(B, tell=True), have(C), have(D, tell=True))
    assert presences(driver.answer()) == ((), (B, D))
    assert driver.is_quiet()
    assert set(driver.engine.waiting()) == {each.multihash for each in (A, B, C, D)}

    driver.arrives(A, B, C, D)

    answer = driver.answer()
    assert (answer.blocks, answer.haves) == ((A, B), (C, D))
    assert driver.wanted() == []
    assert not driver.engine.waiting()


def test_a_block_that_arrives_before_dont_have_was_said_takes_its_place(driver: Driver) -> None:
    driver.wants(block(A, tell=True), have(B, tell=True))
    driver.arrives(A, B)
    answer = driver.answer()
    assert (answer.blocks, answer.haves, answer.dont_haves) == ((A,), (B,), ())


def test_a_block_that_arrives_while_dont_have_is_on_its_way_follows_it(driver: Driver) -> None:
    driver.wants(block(A, tell=True))
    answer = driver.take()
    driver.arrives(A)
    driver.sent(answer)
    assert driver.answer().blocks == (A,)


def test_everybody_who_waits_for_a_block_gets_it_and_others_hear_nothing(driver: Driver) -> None:
    driver.wants(block(A))
    driver.wants(block(A), peer_id=BOB)
    driver.wants(block(B), peer_id=CAROL)
    driver.arrives(A)
    assert [driver.answer(ALICE).blocks, driver.answer(BOB).blocks] == [(A,), (A,)]
    assert driver.is_quiet()


def test_one_multihash_under_two_cids_is_two_wants(driver: Driver) -> None:
    v0 = Cid(A.multihash)
    driver.wants(block(A), block(v0))
    assert list(driver.engine.waiting()) == [A.multihash]
    driver.arrives(A)
    assert driver.answer().blocks == (A, v0)


def test_presences_come_first_then_blocks_by_priority_and_arrival(driver: Driver) -> None:
    driver.wants(block(A, 1), block(B, 7), block(C, 7), have(D, -5), has=sizes(A, B, C, D))
    answer = driver.answer()
    assert (answer.haves, answer.blocks) == ((D,), (B, C, A))


def test_an_answer_is_no_larger_than_asked_and_says_what_is_pending(driver: Driver) -> None:
    driver.wants(*map(block, (A, B, C)), has=sizes(A, B, C))
    two = 2 * block_size(A, 100 * KIB)
    assert driver.answer(max_bytes=two) == Answer((A, B), (), (), 200 * KIB, 100 * KIB)
    assert driver.answer(max_bytes=two) == Answer((C,), (), (), 100 * KIB, 0)


def test_one_block_is_sent_however_large_but_nothing_beside_it(driver: Driver) -> None:
    driver.wants(block(A), block(B), has=sizes(A, B, size=2 * MIB))
    assert driver.answer(max_bytes=1).blocks == (A,)
    assert driver.answer(max_bytes=1).blocks == (B,)


def test_presences_that_do_not_fit_follow_in_the_next_answer(driver: Driver) -> None:
    driver.wants(*(have(cid(number)) for number in range(10)), has=sizes(*map(cid, range(10))))
    heads = [driver.answer(max_bytes=3 * 44).haves for _ in range(4)]
    assert [len(each) for each in heads] == [3, 3, 3, 1]
    assert [each for head in heads for each in head] == [cid(number) for number in range(10)]


@pytest.mark.parametrize("max_bytes", [MIB, MAX_MESSAGE, 2 * MAX_MESSAGE])
def test_what_fills_an_answer_fits_into_a_message(driver: Driver, max_bytes: int) -> None:
    largest = MAX_MESSAGE - 64 - 512
    has = {cid(number).multihash: size for number, size in enumerate((largest, 2 * MIB, 2 * MIB, MIB, 1025, 1026))}
    many = [have(cid(number)) for number in range(100, 4000)]
    driver.wants(*map(block, map(cid, range(6))), *many, has=has | {each.cid.multihash: 9999 for each in many})
    done: list[Cid] = []
    while driver.wanted():
        _peer_id, answer = driver.serve_next(max_bytes)
        data = [(each, bytes(has[each.multihash])) for each in answer.blocks]
        pieces = encode_answers(data, answer.haves, answer.dont_haves, 2**31 - 1)
        assert sum(map(len, pieces)) <= MAX_MESSAGE + 4
        done += (*answer.blocks, *answer.haves)
    assert sorted(done) == sorted([*map(cid, range(6)), *(each.cid for each in many)])


def test_a_block_too_large_for_any_message_is_as_good_as_none(driver: Driver) -> None:
    driver.wants(block(A, tell=True), have(B, tell=True), block(C), has=sizes(A, B, C, size=MAX_MESSAGE))
    assert presences(driver.answer()) == ((), (A, B))
    assert not driver.engine.waiting(), "or the store would be asked for it again and again"
    driver.wants(block(D))
    driver.arrives(D, size=MAX_MESSAGE)
    assert driver.is_quiet()


def test_a_peer_without_presences_gets_blocks_alone(driver: Driver) -> None:
    driver.wants(block(A, tell=True), have(B), block(C), has=sizes(B, C))
    answer = driver.take(presences=False)
    assert answer == Answer((C,), (), (), 100 * KIB, 0)
    driver.sent(answer)
    assert driver.is_quiet()
    driver.arrives(A)
    assert driver.answer().blocks == (A,)
    driver.wants(have(B), has=sizes(B))
    assert driver.engine.next_ready(driver.now) == ALICE
    assert driver.engine.next_answer(ALICE, MIB, driver.now, presences=False) is None
    assert driver.is_quiet()


# What is asked for again


def test_a_wantlist_that_repeats_a_cid_is_answered_once(driver: Driver) -> None:
    driver.wants(*[block(A), cancel(A)] * 500, *[block(A)] * 500, *[have(A)] * 500, has=sizes(A))
    assert driver.answer().blocks == (A,)
    assert driver.is_quiet()


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("again", [block(A, 5), have(A, tell=True)])
def test_what_is_on_its_way_is_not_sent_a_second_time(driver: Driver, again: WantEntry, full: bool) -> None:
    driver.wants(block(A), has=sizes(A))
    answer = driver.take()
    driver.wants(again, has=sizes(A), full=full)
    assert driver.is_quiet(), "one answer at a time"
    driver.sent(answer)
    assert driver.is_quiet()
    assert driver.wanted() == []


def test_what_is_on_its_way_and_cancelled_and_asked_for_again_is_sent_again(driver: Driver) -> None:
    driver.wants(block(A), has=sizes(A))
    answer = driver.take()
    driver.wants(cancel(A), block(A), has=sizes(A))
    driver.sent(answer)
    assert driver.answer().blocks == (A,)


def test_what_was_sent_is_sent_again_on_request(driver: Driver) -> None:
    for _ in range(3):
        driver.wants(block(A), has=sizes(A))
        assert driver.answer().blocks == (A,)


def test_dont_have_is_repeated_to_who_asks_again_but_not_while_it_is_on_its_way(driver: Driver) -> None:
    driver.wants(block(A, tell=True))
    answer = driver.take()
    driver.wants(block(A, tell=True))
    driver.sent(answer)
    assert driver.is_quiet()
    driver.wants(block(A, tell=True))
    assert presences(driver.answer()) == ((), (A,))


def test_asking_for_the_block_after_have_gets_the_block(driver: Driver) -> None:
    driver.wants(have(A), has=sizes(A))
    answer = driver.take()
    driver.wants(block(A), has=sizes(A))  # before it can have heard
    driver.sent(answer)
    assert answer.haves == (A,)
    assert driver.answer().blocks == (A,)
    assert driver.wanted() == []


def test_asking_whether_we_have_what_is_wanted_anyway_takes_nothing_back(driver: Driver) -> None:
    driver.wants(block(A), has=sizes(A))
    driver.wants(have(A), has=sizes(A))
    assert driver.answer() == Answer((A,), (), (), 100 * KIB, 0)


def test_a_cancelled_want_is_not_answered(driver: Driver) -> None:
    driver.wants(block(A), block(B, tell=True), have(C), block(D), has=sizes(A, C))
    driver.wants(cancel(A), cancel(B), cancel(C), cancel(D), cancel(cid(99)))
    assert driver.is_quiet()
    assert not driver.engine.waiting()
    driver.arrives(D)
    assert driver.is_quiet()


def test_a_full_wantlist_replaces_all_that_was_wanted(driver: Driver) -> None:
    driver.wants(block(A), block(B), has=sizes(A, B))
    driver.wants(block(C), block(B, 2), full=True, has=sizes(B, C))
    assert driver.wanted() == [B, C]
    assert driver.answer().blocks == (B, C)
    driver.wants(block(D))
    driver.wants(full=True)
    assert driver.wanted() == []
    assert not driver.engine.waiting()


def test_wants_that_mean_nothing_are_ignored(driver: Driver) -> None:
    inline = Cid(b"\x01\x55\x00\x02hi")
    long = Cid.make(b"\x12\x80\x01" + bytes(128), 1 << 62)
    longest = Cid(A.raw + bytes(133))
    driver.wants(block(inline, tell=True), block(longest, tell=True), has=sizes(inline, longest))
    assert driver.is_quiet()
    assert driver.wanted() == []
    driver.wants(block(long, tell=True))
    assert presences(driver.answer()) == ((), (long,)), "142 bytes are not too many"


# Blocks that are not there after all, and peers that do not read


def test_a_block_that_turns_out_to_be_missing_is_told_or_waited_for(driver: Driver) -> None:
    driver.wants(block(A, tell=True), block(B), block(C), has=sizes(A, B, C, size=10))
    answer = driver.take()
    driver.engine.answered(ALICE, answer, 10, [A, B], now=driver.now)
    assert driver.ledgers.get(ALICE).exchanges == 1
    assert set(driver.engine.waiting()) == {A.multihash, B.multihash}
    assert presences(driver.answer()) == ((), (A,))
    driver.arrives(A, B)
    assert driver.answer().blocks == (A, B)


def test_an_answer_that_could_not_be_sent_is_tried_again_when_there_is_something_new(driver: Driver) -> None:
    driver.wants(block(A), have(B), block(C, tell=True), block(D), has=sizes(A, B))
    driver.engine.abandoned(ALICE, driver.take())
    assert driver.is_quiet(), "a peer that does not read is not tried again and again"
    assert driver.ledgers.get(ALICE) == Ledger()
    assert len(driver.wanted()) == 4
    driver.wants()
    answer = driver.take()
    assert (answer.blocks, answer.haves, answer.dont_haves) == ((A,), (B,), (C,))
    driver.engine.abandoned(ALICE, answer)
    driver.arrives(D)
    assert driver.answer().blocks == (A, D)


def test_a_block_that_arrives_while_dont_have_is_lost_is_sent_instead(driver: Driver) -> None:
    driver.wants(block(A, tell=True))
    answer = driver.take()
    driver.arrives(A)
    driver.engine.abandoned(ALICE, answer)
    driver.wants()
    assert driver.answer() == Answer((A,), (), (), 100 * KIB, 0)


def test_a_block_that_is_found_when_it_is_asked_for_again_is_not_waited_for_any_more(driver: Driver) -> None:
    driver.wants(block(A))
    driver.wants(block(A), has=sizes(A))
    assert not driver.engine.waiting()
    assert driver.answer().blocks == (A,)


def test_what_is_cancelled_while_the_answer_fails_is_not_tried_again(driver: Driver) -> None:
    driver.wants(block(A), block(B), has=sizes(A, B))
    answer = driver.take()
    driver.wants(cancel(A))
    driver.engine.abandoned(ALICE, answer)
    driver.wants()
    assert driver.answer().blocks == (B,)


def test_wants_end_with_the_connection(driver: Driver) -> None:
    driver.wants(block(A), block(B), has=sizes(A))
    driver.engine.disconnected(ALICE)
    assert driver.is_quiet()
    assert not driver.engine.waiting()
    driver.arrives(B)
    driver.engine.connected(ALICE)
    assert driver.is_quiet()
    assert driver.wanted() == []


@pytest.mark.parametrize("fails", [False, True])
def test_an_answer_from_before_a_reconnection_fulfils_nothing_asked_for_after_it(driver: Driver, fails: bool) -> None:
    driver.wants(block(A), has=sizes(A))
    old = driver.take()
    driver.engine.disconnected(ALICE)
    driver.engine.connected(ALICE)
    driver.wants(block(A), has=sizes(A))
    new = driver.take()
    if fails:
        driver.engine.abandoned(ALICE, old)
    else:
        driver.sent(old)
    assert driver.is_quiet()
    assert driver.wanted() == [A], "the new answer is still on its way"
    driver.sent(new)
    assert driver.is_quiet()
    assert driver.ledgers.get(ALICE).bytes_sent == (1 if fails else 2) * 100 * KIB


def test_wants_of_a_peer_that_is_not_connected_are_ignored(driver: Driver) -> None:
    stranger = PeerId.from_public_key(b"stranger")
    driver.wants(block(A), has=sizes(A), peer_id=stranger)
    assert driver.is_quiet()
    assert driver.engine.wants_of(stranger) == ()
    assert driver.engine.next_answer(stranger, MIB, driver.now) is None


def test_a_peer_is_returned_once_until_it_is_answered(driver: Driver) -> None:
    driver.wants(block(A), block(B), has=sizes(A, B))
    assert driver.engine.next_ready(driver.now) == ALICE
    driver.wants(block(C), has=sizes(C))
    assert driver.is_quiet()
    answer = driver.engine.next_answer(ALICE, 1, driver.now)
    assert answer is not None
    assert driver.engine.next_answer(ALICE, 1, driver.now) is None
    assert driver.is_quiet()
    driver.sent(answer)
    assert driver.answer().blocks == (B, C)


def test_a_peer_that_took_all_back_before_its_answer_gets_none_and_the_next_one_when_it_wants_again(
    driver: Driver,
) -> None:
    driver.wants(block(A), has=sizes(A))
    assert driver.engine.next_ready(driver.now) == ALICE
    driver.wants(cancel(A))
    assert driver.engine.next_answer(ALICE, MIB, driver.now) is None
    driver.wants(block(B), has=sizes(B))
    assert driver.answer().blocks == (B,)


# Bounds


def test_of_too_many_wants_the_lowest_priorities_and_then_the_last_are_dropped() -> None:
    driver = Driver(Engine(Ledgers(), AlwaysServe(), max_wants=3))
    driver.wants(block(cid(1), 1), block(cid(2), 2), block(cid(3), 1), block(cid(4), 1))
    assert driver.wanted() == [cid(2), cid(1), cid(3)]
    driver.wants(block(cid(5), 3))
    assert driver.wanted() == [cid(5), cid(2), cid(1)]
    assert len(driver.engine.waiting()) == 3
    driver.wants(block(cid(1), 9), block(cid(6), 8))
    assert driver.wanted() == [cid(1), cid(6), cid(5)]


def test_a_flood_of_wants_leaves_only_as_many_as_a_peer_may_have(driver: Driver) -> None:
    for start in range(0, 20_000, 5000):
        driver.wants(*(block(cid(n), n, tell=True) for n in range(start, start + 5000)), has={})
    assert driver.wanted() == [cid(n) for n in range(19_999, 19_999 - 4096, -1)]
    assert len(driver.engine.waiting()) == 4096
    answer = driver.answer(max_bytes=MAX_MESSAGE)
    assert len(answer.dont_haves) == 4096
    assert driver.is_quiet()


def test_what_is_on_its_way_does_not_count_but_never_doubles_again() -> None:
    driver = Driver(Engine(Ledgers(), AlwaysServe(), max_wants=4))
    numbers = count()
    for _ in range(20):
        driver.wants(*(block(cid(next(numbers)), tell=True) for _ in range(4)))
        answer = driver.take()
        driver.wants(*(block(cid(next(numbers)), tell=True) for _ in range(4)))
        assert len(driver.wanted()) <= 8
        driver.sent(answer)
        assert len(driver.wanted()) == len(driver.engine.waiting()) <= 4


def test_when_all_peers_together_want_too_much_each_may_still_want_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_LEAST", 2)
    driver = Driver(Engine(Ledgers(), AlwaysServe(), max_total=6))
    driver.wants(*(block(cid(n)) for n in range(10)))
    assert len(driver.wanted(ALICE)) == 6
    driver.wants(*(block(cid(n)) for n in range(20, 30)), peer_id=BOB)
    assert driver.wanted(BOB) == [cid(20), cid(21)]
    driver.wants(block(cid(50), 9))
    assert driver.wanted(ALICE) == [cid(50), *map(cid, range(5))], "its own lowest goes"
    driver.wants(block(cid(51), 1))
    assert len(driver.wanted(ALICE)) == 6
    driver.wants(full=True)
    driver.wants(*(block(cid(n)) for n in range(20, 30)), peer_id=BOB)
    assert len(driver.wanted(BOB)) == 6
    driver.engine.disconnected(BOB)
    driver.wants(*(block(cid(n)) for n in range(10)))
    assert len(driver.wanted(ALICE)) == 6


def test_reconnecting_leaves_nothing_behind(driver: Driver) -> None:
    for _ in range(2000):
        driver.wants(block(A), has=sizes(A))
        driver.engine.disconnected(ALICE)
        driver.engine.connected(ALICE)
    assert len(driver.engine._queue) < 200
    assert driver.is_quiet()


def calls_of(work: Callable[[], object]) -> int:
    """Return how many functions `work` calls: its cost, but the same on every machine."""
    calls = 0

    def note(_frame: FrameType, event: str, _function: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize("count", [1000, 4000])
def test_a_want_costs_the_same_however_many_there_are(driver: Driver, count: int) -> None:
    entries = [block(cid(n), n, tell=True) for n in range(count)]
    has = sizes(*(entry.cid for entry in entries[::2]))
    more = [entry.cid for entry in entries[1::2]]
    rising = [block(cid(n), n, tell=True) for n in range(count, 2 * count)]

    assert calls_of(lambda: driver.wants(*entries, has=has)) < 30 * count  # 1,000 take 4 ms
    assert calls_of(lambda: driver.wants(*entries, has=has, full=True)) < 30 * count
    assert calls_of(lambda: driver.arrives(*more)) < 15 * count
    assert calls_of(lambda: driver.wants(*rising)) < 40 * count  # of 4,000 most push another out
    assert calls_of(lambda: driver.wants(full=True)) < 15 * count


# Turns


def test_a_peer_with_a_single_want_waits_for_one_answer_of_a_greedy_one_at_most(driver: Driver) -> None:
    many = [cid(n) for n in range(4000)]
    driver.wants(*map(block, many), has=sizes(*many))
    for _ in range(10):
        busy = driver.take(ALICE)
        driver.wants(block(A), has=sizes(A), peer_id=BOB)
        driver.sent(busy)
        assert driver.answer(BOB).blocks == (A,)


def test_with_two_greedy_peers_it_waits_for_one_answer_of_each_at_most(driver: Driver) -> None:
    many = [cid(n) for n in range(4000)]
    driver.wants(*map(block, many), has=sizes(*many))
    driver.wants(*map(block, many), has=sizes(*many), peer_id=CAROL)
    driver.serve_next()
    for _ in range(10):
        driver.wants(block(A), has=sizes(A), peer_id=BOB)
        turns = [driver.serve_next()[0] for _ in range(3)]
        before = turns[: turns.index(BOB)]
        assert len(before) == len(set(before))


def test_bytes_are_shared_evenly_whatever_size_the_blocks_have(driver: Driver) -> None:
    peers = {ALICE: 8 * KIB, BOB: 256 * KIB, CAROL: 2 * MIB}
    got = dict.fromkeys(peers, 0)
    wanted = [cid(n) for n in range(4000)]
    for peer_id, size in peers.items():
        driver.wants(*map(block, wanted), has=sizes(*wanted, size=size), peer_id=peer_id)
    for _ in range(60):
        served, answer = driver.serve_next()
        got[served] += answer.size
        assert max(got.values()) - min(got.values()) <= 3 * MIB
    assert min(got.values()) > 10 * MIB


def test_being_idle_earns_no_right_to_all_the_turns_afterwards(driver: Driver) -> None:
    many = [cid(n) for n in range(4000)]
    driver.wants(*map(block, many), has=sizes(*many))
    for _ in range(50):
        driver.answer(ALICE)
    driver.wants(*map(block, many), has=sizes(*many), peer_id=BOB)
    turns = [driver.serve_next()[0] for _ in range(10)]
    assert turns.count(ALICE) in (4, 5, 6)


def test_presences_alone_use_up_turns_too(driver: Driver) -> None:
    turns: list[PeerId] = []
    driver.wants(*(block(cid(n)) for n in range(100)), has=sizes(*map(cid, range(100)), size=16 * KIB), peer_id=BOB)
    for n in range(20):
        driver.wants(have(cid(n), tell=True))
        turns.append(driver.serve_next(max_bytes=1)[0])
    assert turns.count(BOB) >= 6


# Strategies


class Scripted:
    """A strategy that serves while `yes`, and remembers whom it was asked about."""

    ignore_cooldown = 10.0

    def __init__(self) -> None:
        self.yes = False
        self.asked: list[Ledger] = []

    def serves(self, ledger: Ledger) -> bool:
        self.asked.append(ledger)
        return self.yes


def test_who_is_refused_is_ignored_for_the_cooldown_and_keeps_its_wants() -> None:
    strategy, ledgers = Scripted(), Ledgers()
    driver = Driver(Engine(ledgers, strategy), ledgers)
    ledgers.sent(ALICE, 77, 1)
    assert driver.engine.next_deadline() is None
    driver.wants(block(A), has=sizes(A))
    assert driver.is_quiet()
    assert strategy.asked == [ledgers.get(ALICE)]
    strategy.yes = True
    driver.now += 9.9
    driver.wants(block(B), block(C), has=sizes(B))
    driver.arrives(C)
    assert driver.is_quiet()
    assert driver.engine.next_answer(ALICE, MIB, driver.now) is None
    assert driver.engine.next_deadline() == 110.0
    assert len(strategy.asked) == 1
    driver.now += 0.1
    assert driver.answer().blocks == (A, B, C)
    assert driver.engine.next_deadline() is None


def test_a_refused_peer_does_not_delay_others() -> None:
    strategy = Scripted()
    driver = Driver(Engine(Ledgers(), strategy))
    driver.wants(block(A), has=sizes(A))
    assert driver.is_quiet()
    strategy.yes = True
    driver.wants(block(A), has=sizes(A), peer_id=BOB)
    assert driver.answer(BOB).blocks == (A,)


def test_reconnecting_is_no_way_round_the_cooldown() -> None:
    strategy = Scripted()
    driver = Driver(Engine(Ledgers(), strategy))
    driver.wants(block(A), has=sizes(A))
    assert driver.is_quiet()
    strategy.yes = True
    driver.engine.disconnected(ALICE)
    driver.engine.connected(ALICE)
    driver.wants(block(A), has=sizes(A))
    assert driver.is_quiet()
    driver.now += 10
    assert driver.answer().blocks == (A,)


def test_a_clock_that_is_put_back_makes_no_cooldown_longer() -> None:
    strategy = Scripted()
    driver = Driver(Engine(Ledgers(), strategy))
    driver.now = 1e9
    driver.wants(block(A), has=sizes(A))
    assert driver.is_quiet()
    strategy.yes = True
    driver.now = 5.0
    assert driver.answer().blocks == (A,)


def test_the_memory_of_refusals_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "_MAX_IGNORED", 2)
    strategy = Scripted()
    driver = Driver(Engine(Ledgers(), strategy))
    for number in range(100, 150):
        stranger = PeerId.from_public_key(bytes([number]))
        driver.engine.connected(stranger)
        driver.wants(block(A), has=sizes(A), peer_id=stranger)
        assert driver.is_quiet()
        driver.engine.disconnected(stranger)
    assert len(driver.engine._ignored) == 2
    for peer_id in (ALICE, BOB, CAROL):
        driver.wants(block(A), has=sizes(A), peer_id=peer_id)
    assert driver.is_quiet()
    strategy.yes = True
    driver.now += 9.9
    assert driver.is_quiet(), "who is connected is never forgotten"
