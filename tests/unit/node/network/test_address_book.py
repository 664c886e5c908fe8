"""The address book: lifetimes, signed records, and who is forgotten first."""

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.address_book import (
    LIFETIMES,
    MAX_ADDRESS_SIZE,
    AddressBook,
    KnownAddress,
    KnownPeer,
    Source,
)
from ipvcs.node.network.addresses import with_peer


def peer(number: int) -> PeerId:
    return PeerId.from_public_key(b"\x08\x01\x12\x20" + number.to_bytes(32, "big"))


def addr(number: int) -> Multiaddr:
    return Multiaddr.parse(f"/ip4/10.{number >> 16}.{number >> 8 & 255}.{number & 255}/tcp/4001")


ALICE, BOB = peer(1), peer(2)
A, B, C, D = map(addr, range(1, 5))


def book_with(source: Source, *addrs: Multiaddr, now: float = 0) -> AddressBook:
    book = AddressBook()
    if source is Source.CERTIFIED:
        book.set_record(ALICE, 1, addrs, now)
    else:
        book.add(ALICE, addrs, source, now)
    return book


@pytest.mark.parametrize("source", Source)
def test_an_address_lives_as_long_as_its_source_is_believed(source: Source) -> None:
    book = book_with(source, A)
    lifetime = LIFETIMES[source]
    assert book.addrs(ALICE, min(lifetime, 1e9) - 1) == (A,)
    assert book.addrs(ALICE, min(lifetime, 1e9)) == (() if lifetime < math.inf else (A,))
    assert list(book.peers(1e9)) == ([ALICE] if lifetime == math.inf else [])


def test_what_a_connected_peer_says_of_itself_lasts_and_its_lifetime_begins_at_the_disconnect() -> None:
    book = book_with(Source.ADVERTISED, A)
    book.connected(ALICE, 10)
    book.add(ALICE, [B], Source.REACHED, 10)
    book.add(ALICE, [C], Source.HEARSAY, 10)
    book.drop_expired(9000)
    assert book.addrs(ALICE, 9000) == (B, A)

    book.disconnected(ALICE, 10_000)

    assert book.addrs(ALICE, 11_799) == (B, A)
    assert book.addrs(ALICE, 11_800) == (A,)
    assert book.addrs(ALICE, 13_600) == ()
    book.drop_expired(13_600)
    assert len(book) == 0


def test_addresses_come_best_vouched_for_first() -> None:
    book = AddressBook()
    book.add(ALICE, [A, B], Source.HEARSAY, 0)
    book.set_record(ALICE, 1, [C], 0)
    book.add(ALICE, [D, B], Source.USER, 0)
    assert book.addrs(ALICE, 0) == (B, D, C, A)


def test_a_better_source_is_kept_and_hearsay_prolongs_nothing_but_hearsay() -> None:
    book = book_with(Source.ADVERTISED, A, B)
    assert book.add(ALICE, [A], Source.HEARSAY, 3599) == 1
    assert book.addrs(ALICE, 3600) == ()

    book = book_with(Source.HEARSAY, A)
    book.add(ALICE, [A], Source.HEARSAY, 100)
    assert book.addrs(ALICE, 219) == (A,)
    book.add(ALICE, [A], Source.REACHED, 200)
    assert book.addrs(ALICE, 1999) == (A,)
    book.add(ALICE, [A], Source.ADVERTISED, 1000)
    assert book.addrs(ALICE, 4599) == (A,)


def test_a_signed_record_replaces_what_the_peer_said_before_and_nothing_else() -> None:
    book = AddressBook()
    book.set_record(ALICE, 1, [A], 0)
    book.add(ALICE, [B], Source.ADVERTISED, 0)
    book.add(ALICE, [C], Source.REACHED, 0)

    assert book.set_record(ALICE, 2, [D], 0)

    assert book.addrs(ALICE, 0) == (C, D)
    assert book.sequence(ALICE) == 2


def test_an_older_record_never_replaces_a_newer_one() -> None:
    book = AddressBook()
    assert book.set_record(ALICE, 2**64 - 1, [A], 0)
    assert not book.set_record(ALICE, 2**64 - 2, [B], 100)
    assert book.addrs(ALICE, 100) == (A,)

    assert book.set_record(ALICE, 2**64 - 1, [A], 100)
    assert book.addrs(ALICE, 3699) == (A,)


def test_a_connected_peer_s_newer_record_is_remembered_after_its_addresses_are_gone() -> None:
    book = book_with(Source.CERTIFIED, A)
    book.connected(ALICE, 0)
    assert book.set_record(ALICE, 5, [], 0)
    assert not book.set_record(ALICE, 4, [B], 0)
    assert book.addrs(ALICE, 0) == ()


def test_the_peers_own_name_is_stripped_and_anothers_refused() -> None:
    book = AddressBook()
    assert book.add(ALICE, [with_peer(A, ALICE), with_peer(B, BOB)], Source.HEARSAY, 0) == 1
    assert book.set_record(ALICE, 1, [with_peer(B, BOB), with_peer(C, ALICE)], 0)
    assert book.addrs(ALICE, 0) == (C, A)
    assert book.addrs(BOB, 0) == ()


def test_an_address_too_long_to_be_honest_is_refused() -> None:
    long = Multiaddr.parse("/dns/" + "a" * MAX_ADDRESS_SIZE + "/tcp/1")
    book = book_with(Source.ADVERTISED, long)
    assert len(book) == 0


def test_forgetting_a_peer_leaves_nothing_but_that_it_is_connected() -> None:
    book = book_with(Source.CONFIGURED, A)
    book.connected(ALICE, 0)
    book.set_record(ALICE, 7, [B], 0)

    book.forget(ALICE)
    book.forget(BOB)

    assert (book.addrs(ALICE, 0), book.sequence(ALICE), len(book)) == ((), None, 1)
    book.add(ALICE, [A], Source.ADVERTISED, 0)
    assert book.addrs(ALICE, 1e6) == (A,)
    book.disconnected(ALICE, 0)
    book.forget(ALICE)
    assert len(book) == 0


def test_a_peer_has_at_most_so_many_addresses_and_worse_ones_give_way() -> None:
    book = AddressBook(max_per_peer=3)
    assert book.add(ALICE, map(addr, range(100)), Source.HEARSAY, 0) == 3
    assert book.add(ALICE, [addr(50)], Source.HEARSAY, 1) == 1
    assert book.set_record(ALICE, 1, [A, B], 1)
    assert book.addrs(ALICE, 1)[:2] == (A, B)
    assert len(book.addrs(ALICE, 1)) == 3

    book.add(ALICE, [C], Source.CONFIGURED, 1)
    assert book.add(ALICE, map(addr, range(100, 120)), Source.HEARSAY, 1) == 0
    assert book.addrs(ALICE, 1) == (C, A, B)


def test_strangers_are_forgotten_before_those_we_met() -> None:
    book = AddressBook(max_peers=10)
    book.add(peer(0), [A], Source.ADVERTISED, 0)
    book.connected(peer(1), 0)
    book.add(peer(2), [A], Source.CONFIGURED, 0)
    for number in range(100, 1000):
        book.add(peer(number), [A], Source.HEARSAY, 0)

    assert len(book) == 10
    assert set(book.peers(0)) == {peer(0), peer(2), *map(peer, range(993, 1000))}
    assert book.take_unsaved() == {peer(0), peer(1), peer(2)}, "strangers cost no room there either"


def test_hearsay_of_one_more_stranger_makes_nobody_go_whom_we_met() -> None:
    book = AddressBook(max_peers=5)
    for number in range(5):
        book.add(peer(number), [A], Source.REACHED, 0)
    assert book.add(ALICE, [], Source.HEARSAY, 0) == book.add(peer(9), [A], Source.HEARSAY, 0) == 0
    assert set(book.peers(0)) == set(map(peer, range(5)))

    book.add(peer(0), [B], Source.HEARSAY, 0)  # does not make it more useful
    book.add(peer(9), [A], Source.REACHED, 0)
    assert set(book.peers(0)) == {*map(peer, range(1, 5)), peer(9)}


def test_the_least_recently_met_goes_first_and_connected_or_configured_peers_never() -> None:
    book = AddressBook(max_peers=4)
    for number in range(4):
        book.add(peer(number), [A], Source.REACHED, 0)
    book.connected(peer(0), 0)
    book.add(peer(1), [B], Source.CONFIGURED, 0)
    book.add(peer(2), [A], Source.REACHED, 0)

    book.add(peer(10), [A], Source.USER, 0)
    assert set(book.peers(0)) == {peer(0), peer(1), peer(2), peer(10)}
    book.add(peer(11), [A], Source.USER, 0)
    book.add(peer(12), [A], Source.USER, 0)
    assert set(book.peers(0)) == {peer(0), peer(1), peer(11), peer(12)}

    book.disconnected(peer(0), 0)
    book.connected(peer(13), 0)
    assert peer(11) not in set(book.peers(0))


def test_all_addresses_together_are_bounded() -> None:
    book = AddressBook(max_addresses=10)
    book.add(ALICE, [A, B], Source.ADVERTISED, 0)
    for number in range(10, 50):
        book.add(peer(number), [addr(n) for n in range(number, number + 4)], Source.HEARSAY, 0)
    assert sum(len(book.addrs(each, 0)) for each in book.peers(0)) == 10
    assert book.addrs(ALICE, 0) == (A, B)
    assert book.addrs(peer(49), 0) == tuple(map(addr, range(49, 53)))

    assert book.add(peer(99), map(addr, range(12)), Source.ADVERTISED, 0) == 10
    assert list(book.peers(0)) == [peer(99)]


def test_what_is_worth_keeping_comes_back_with_what_was_left_of_it() -> None:
    book = AddressBook()
    book.add(ALICE, [A], Source.HEARSAY, 0)
    book.add(ALICE, [B], Source.CONFIGURED, 0)
    book.add(ALICE, [C], Source.USER, 0)
    book.set_record(ALICE, 3, [D], 100)
    book.add(BOB, [A], Source.HEARSAY, 0)

    known = book.known(ALICE, 110)

    assert known == KnownPeer(
        ALICE, 3, (KnownAddress(C, Source.USER, 3490), KnownAddress(D, Source.CERTIFIED, 3590))
    )  # fmt: skip
    assert book.known(BOB, 0) is None
    assert book.known(peer(9), 0) is None
    other = AddressBook()
    other.restore(known, 50)
    assert other.addrs(ALICE, 50) == (C, D)
    assert other.addrs(ALICE, 50 + 3490) == (D,)
    assert not other.set_record(ALICE, 2, [A], 50)
    assert other.take_unsaved() == set()


def test_nothing_restored_lives_longer_than_if_it_were_new_or_undoes_a_newer_record() -> None:
    book = AddressBook()
    book.restore(KnownPeer(ALICE, 3, (KnownAddress(A, Source.CERTIFIED, 1e12),)), 0)
    assert book.addrs(ALICE, 3600) == ()

    book.set_record(BOB, 9, [A], 0)
    book.restore(
        KnownPeer(BOB, 3, (KnownAddress(B, Source.CERTIFIED, 9), KnownAddress(C, Source.REACHED, 9))), 0
    )  # fmt: skip
    assert book.addrs(BOB, 0) == (C, A)
    assert book.sequence(BOB) == 9
    assert BOB in book.take_unsaved()


def test_a_connected_peer_is_always_worth_saving_again_so_that_a_crash_finds_it_fresh() -> None:
    book = book_with(Source.ADVERTISED, A)
    book.connected(ALICE, 0)
    assert book.take_unsaved() == book.take_unsaved() == {ALICE}
    known = book.known(ALICE, 50_000)
    assert known is not None
    assert known.addrs[0].remaining == 3600

    book.disconnected(ALICE, 50_000)
    assert book.take_unsaved() == {ALICE}
    assert book.take_unsaved() == set()
    book.mark_unsaved([ALICE])
    assert book.take_unsaved() == {ALICE}
    book.drop_expired(60_000)
    assert book.take_unsaved() == {ALICE}, "its row on the disk is to go"
    assert book.known(ALICE, 60_000) is None


class BookMachine(RuleBasedStateMachine):
    """Whatever happens, the bounds hold and the book's own count is true."""

    def __init__(self) -> None:
        super().__init__()
        self.book = AddressBook(max_peers=4, max_addresses=9, max_per_peer=3)
        self.now = 0.0
        self.connected: set[PeerId] = set()
        self.sequences: dict[PeerId, int] = {}

    peers = st.integers(0, 6).map(peer)
    addr_lists = st.lists(st.integers(0, 6).map(addr), max_size=5)

    @rule(peer_id=peers, addrs=addr_lists, source=st.sampled_from([s for s in Source if s is not Source.CERTIFIED]))
    def add(self, peer_id: PeerId, addrs: list[Multiaddr], source: Source) -> None:
        if source is not Source.CONFIGURED:  # settings are bounded by their author
            self.book.add(peer_id, addrs, source, self.now)

    @rule(peer_id=peers, addrs=addr_lists, sequence=st.integers(0, 4))
    def set_record(self, peer_id: PeerId, addrs: list[Multiaddr], sequence: int) -> None:
        before = self.book.sequence(peer_id)
        assert self.book.set_record(peer_id, sequence, addrs, self.now) == (before is None or sequence >= before)

    @rule(peer_id=peers)
    def connect(self, peer_id: PeerId) -> None:
        if len(self.connected) < 3:
            self.book.connected(peer_id, self.now)
            self.connected.add(peer_id)

    @rule(peer_id=peers)
    def disconnect(self, peer_id: PeerId) -> None:
        self.book.disconnected(peer_id, self.now)
        self.connected.discard(peer_id)

    @rule(peer_id=peers)
    def forget(self, peer_id: PeerId) -> None:
        self.book.forget(peer_id)
        assert self.book.addrs(peer_id, self.now) == ()

    @rule(seconds=st.sampled_from([1, 119, 121, 1801, 3601]), drop=st.booleans())
    def pass_time(self, seconds: float, drop: bool) -> None:
        self.now += seconds
        if drop:
            self.book.drop_expired(self.now)
            assert set(self.book.peers(self.now)) | self.connected == set(self.book._peers)

    @invariant()
    def bounds_hold(self) -> None:
        book = self.book
        assert len(book) <= 4
        counts = [len(each.addrs) for each in book._peers.values()]
        assert book._count == sum(counts) <= 9
        assert max(counts, default=0) <= 3
        assert {peer_id for peer_id, each in book._peers.items() if each.connected} == self.connected
        queued = set(book._strangers) | set(book._met)
        assert queued == {peer_id for peer_id, each in book._peers.items() if not each.is_held}
        assert not set(book._strangers) & set(book._met)
        assert set(book._strangers) == {peer_id for peer_id in queued if book._peers[peer_id].is_stranger}


TestBookMachine = BookMachine.TestCase
