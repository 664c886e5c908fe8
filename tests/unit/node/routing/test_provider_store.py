"""Who said to have what: for how long, and how many."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import LimitError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing.provider_store import (
    ADDRESS_AGE,
    MAX_ADDRESS_SIZE,
    MAX_ADDRESSES,
    MAX_AGE,
    MAX_KEY,
    ProviderKeyError,
    ProviderStore,
    StoredAddresses,
)

NOW = 1_800_000_000.0
OWN, ALICE, BOB, CAROL = (PeerId.from_public_key(bytes([number])) for number in range(1, 5))
A, B, C = (Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/4001") for number in (1, 2, 3))


def peers(store: ProviderStore, key: bytes, now: float = NOW) -> list[PeerId]:
    return [peer.peer_id for peer in store.providers(key, now)]


def keys(store: ProviderStore, peer_id: PeerId, now: float = NOW) -> list[int]:
    return [number for number in range(20) if peer_id in peers(store, key(number), now)]


def key(number: int) -> bytes:
    return b"key %d" % number


def test_a_record_counts_for_48_hours_and_its_addresses_for_24() -> None:
    store = ProviderStore()
    store.add(key(0), PeerInfo(ALICE, (A, B)), NOW)
    assert store.providers(key(0), NOW + ADDRESS_AGE - 1) == [PeerInfo(ALICE, (A, B))]
    assert store.providers(key(0), NOW + ADDRESS_AGE) == [PeerInfo(ALICE)]
    assert peers(store, key(0), NOW + MAX_AGE - 1) == [ALICE]
    assert peers(store, key(0), NOW + MAX_AGE) == []
    assert store.providers(key(1), NOW) == []


def test_who_said_so_last_comes_first_and_each_once() -> None:
    store = ProviderStore()
    for number, peer in enumerate((ALICE, BOB, CAROL, ALICE)):
        store.add(key(0), PeerInfo(peer), NOW + number)
    assert peers(store, key(0)) == [ALICE, CAROL, BOB]
    assert len(store) == 3


def test_addresses_are_the_peer_s_and_the_last_ones_count() -> None:
    store = ProviderStore()
    store.add(key(0), PeerInfo(ALICE, (A,)), NOW)
    store.add(key(1), PeerInfo(ALICE, (B, C)), NOW + 1)
    store.add(key(2), PeerInfo(ALICE), NOW + 2)
    assert {peer.addrs for number in range(3) for peer in store.providers(key(number), NOW)} == {(B, C)}
    store.add(key(0), PeerInfo(ALICE), NOW + 10)  # to announce again without any does not take them away
    assert store.providers(key(0), NOW) == [PeerInfo(ALICE, (B, C))]
    for number in range(2):  # though it be the only record
        store.add(key(5), PeerInfo(BOB, (A,) if number == 0 else ()), NOW)
    assert store.providers(key(5), NOW) == [PeerInfo(BOB, (A,))]


def test_addresses_of_another_reach_stand_beside_the_new_ones_until_they_are_too_old() -> None:
    public, newer = (Multiaddr.parse(f"/ip4/8.8.8.{number}/tcp/4001") for number in (1, 2))
    store = ProviderStore()
    store.add(key(0), PeerInfo(ALICE, (A, B, public)), NOW)  # as the LAN is told
    for hours in (1, 2, 23):  # and the public DHT, again and again
        store.add(key(0), PeerInfo(ALICE, (newer,)), NOW + hours * 3600)
        assert store.providers(key(0), NOW + hours * 3600) == [PeerInfo(ALICE, (newer, A, B))]
    assert store.providers(key(0), NOW + ADDRESS_AGE) == [PeerInfo(ALICE, (newer,))]
    store.add(key(0), PeerInfo(ALICE, (C, public)), NOW + ADDRESS_AGE)
    assert store.providers(key(0), NOW + ADDRESS_AGE) == [PeerInfo(ALICE, (C, public))], (
        "those of one reach go together"
    )
    many = tuple(Multiaddr.parse(f"/ip4/8.8.4.{number}/tcp/1") for number in range(MAX_ADDRESSES - 1))
    store.add(key(0), PeerInfo(ALICE, (A, B)), NOW + ADDRESS_AGE)
    store.add(key(0), PeerInfo(ALICE, many), NOW + ADDRESS_AGE)
    assert store.providers(key(0), NOW + ADDRESS_AGE) == [PeerInfo(ALICE, (*many, A))], "no more than there is room for"


def test_only_usable_addresses_are_kept_and_not_too_many() -> None:
    long = Multiaddr.parse("/dns4/" + "x" * MAX_ADDRESS_SIZE)
    foreign = Multiaddr.parse(f"/ip4/10.0.0.9/tcp/1/p2p/{BOB}")
    own = Multiaddr.parse(f"/ip4/10.0.0.8/tcp/1/p2p/{ALICE}")
    many = [Multiaddr.parse(f"/ip4/10.0.1.{number}/tcp/1") for number in range(30)]
    store = ProviderStore()
    store.add(key(0), PeerInfo(ALICE, (long, foreign, own, A, A, *many)), NOW)
    addrs = store.providers(key(0), NOW)[0].addrs
    assert addrs == (Multiaddr.parse("/ip4/10.0.0.8/tcp/1"), A, *many[: MAX_ADDRESSES - 2])


@pytest.mark.parametrize("bad", [b"", b"x" * (MAX_KEY + 1)])
def test_a_key_that_is_no_multihash_s_size_is_refused(bad: bytes) -> None:
    store = ProviderStore()
    with pytest.raises(ProviderKeyError):
        store.add(bad, PeerInfo(ALICE), NOW)
    store.add(b"x" * MAX_KEY, PeerInfo(ALICE), NOW)
    assert len(store) == 1
    assert issubclass(ProviderKeyError, LimitError)


def test_of_one_key_the_oldest_make_room() -> None:
    store = ProviderStore(OWN, max_per_key=3)
    store.add(key(0), PeerInfo(OWN), NOW)
    for number in range(10, 20):
        store.add(key(0), PeerInfo(PeerId.from_public_key(bytes([number]))), NOW + number)
    assert peers(store, key(0)) == [PeerId.from_public_key(bytes([number])) for number in (19, 18)] + [OWN]


def test_of_all_keys_the_oldest_make_room_but_not_our_own() -> None:
    store = ProviderStore(OWN, max_records=4)
    store.add(key(0), PeerInfo(OWN, (A,)), NOW)
    for number in range(1, 8):
        store.add(key(number), PeerInfo(ALICE, (B,)), NOW + number)
    assert keys(store, ALICE) == [5, 6, 7]
    assert keys(store, OWN) == [0]
    for number in range(8, 12):
        store.add(key(number), PeerInfo(OWN), NOW + number)
    store.add(key(12), PeerInfo(BOB), NOW + 20)
    assert keys(store, OWN) == [8, 9, 10, 11]
    assert len(store) == 4


def test_one_peer_has_its_share_and_keeps_what_it_renews() -> None:
    store = ProviderStore(OWN, max_per_peer=3)
    for number in range(6):
        store.add(key(number), PeerInfo(ALICE), NOW + number)
        store.add(key(number), PeerInfo(OWN), NOW + number)
    assert keys(store, ALICE) == [0, 1, 2]
    assert keys(store, OWN) == [0, 1, 2, 3, 4, 5], "what we have is not rationed"
    store.add(key(1), PeerInfo(ALICE), NOW + 100)
    assert keys(store, ALICE, NOW + MAX_AGE + 50) == [1]
    store.drop_expired(NOW + MAX_AGE + 50)
    store.add(key(9), PeerInfo(ALICE), NOW + MAX_AGE + 50)
    assert keys(store, ALICE, NOW + MAX_AGE + 50) == [1, 9]


def test_addresses_are_bounded_together_and_the_oldest_go() -> None:
    store = ProviderStore(max_address_memory=300)
    for number, peer in enumerate((ALICE, BOB, CAROL)):
        store.add(key(0), PeerInfo(peer, (A,)), NOW + number)
    assert [bool(peer.addrs) for peer in store.providers(key(0), NOW)] == [True, True, False]


def test_a_peer_without_records_leaves_no_addresses_behind() -> None:
    store = ProviderStore()
    store.add(key(0), PeerInfo(ALICE, (A,)), NOW)
    store.take_unsaved()
    store.drop_expired(NOW + MAX_AGE)
    unsaved = store.take_unsaved()
    assert (unsaved.records, unsaved.addresses) == ({(key(0), ALICE): None}, {ALICE: None})
    assert len(store) == 0


def test_what_changed_is_told_once_and_again_if_saving_failed() -> None:
    store = ProviderStore()
    store.add(key(0), PeerInfo(ALICE, (A,)), NOW)
    unsaved = store.take_unsaved()
    assert unsaved.records == {(key(0), ALICE): NOW}
    assert unsaved.addresses == {ALICE: StoredAddresses((A,), NOW)}
    assert not store.take_unsaved().records
    store.mark_unsaved(unsaved)
    assert store.take_unsaved() == unsaved


def test_restored_records_are_as_old_as_they_were() -> None:
    store = ProviderStore()
    store.restore_record(key(0), ALICE, NOW - MAX_AGE, NOW)
    store.restore_record(key(1), ALICE, NOW - MAX_AGE + 10, NOW)
    store.restore_record(key(2), ALICE, NOW + 10**9, NOW)  # written by a clock that was wrong
    store.restore_addresses(ALICE, StoredAddresses((A,), NOW - ADDRESS_AGE + 10), NOW)
    store.restore_addresses(BOB, StoredAddresses((A,), NOW), NOW)
    assert keys(store, ALICE) == [1, 2]
    assert store.providers(key(2), NOW) == [PeerInfo(ALICE, (A,))]
    assert store.providers(key(2), NOW + 10) == [PeerInfo(ALICE)]
    assert keys(store, ALICE, NOW + MAX_AGE) == []
    unsaved = store.take_unsaved()
    assert (unsaved.records, unsaved.addresses) == ({(key(0), ALICE): None}, {BOB: None})


adds = st.tuples(
    st.integers(0, 9), st.sampled_from([OWN, ALICE, BOB, CAROL]), st.integers(0, 3), st.integers(0, 40_000)
)


@given(script=st.lists(adds, max_size=80))
def test_every_bound_holds_whatever_is_announced(script: list[tuple[int, PeerId, int, int]]) -> None:
    store = ProviderStore(OWN, max_records=12, max_per_key=2, max_per_peer=5, max_address_memory=600)
    records: dict[tuple[bytes, PeerId], float | None] = {}
    addresses: dict[PeerId, StoredAddresses | None] = {}
    now = NOW
    for number, peer, count, pause in script:
        now += pause
        store.add(key(number), PeerInfo(peer, (A, B, C)[:count]), now)
        if pause % 7 == 0:
            store.drop_expired(now)
        unsaved = store.take_unsaved()
        records |= unsaved.records
        addresses |= unsaved.addresses
        live = [each for each, received in records.items() if received is not None]
        assert len(live) == len(store) <= 12
        for other in range(10):
            assert len(store.providers(key(other), now)) <= 2
        for each in (ALICE, BOB, CAROL):
            assert sum(owner == each for _key, owner in live) <= 5
        kept = {owner: stored for owner, stored in addresses.items() if stored is not None}
        assert kept.keys() <= {owner for _key, owner in live}
        assert sum(len(stored.addrs) for stored in kept.values()) <= 600 // 120


def test_what_could_not_be_saved_and_is_gone_since_is_not_remembered() -> None:
    store = ProviderStore(max_records=3)
    for number in range(100):
        store.add(key(number), PeerInfo(ALICE if number % 2 else BOB, (A,)), NOW)
        store.mark_unsaved(store.take_unsaved())  # a full disk
    left = store.take_unsaved()
    assert set(left.records) == {(key(97), ALICE), (key(98), BOB), (key(99), ALICE)}
    assert set(left.addresses) == {ALICE, BOB}
