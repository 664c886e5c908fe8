"""The address book on the disk: kept over a restart, whatever the clocks say and whatever rots."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import lmdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network import address_store
from ipvcs.node.network.address_book import AddressBook, KnownAddress, KnownPeer, Source
from ipvcs.node.network.address_store import AddressStore, collect
from ipvcs.storage.datastore import Datastore, open_datastore
from tests.strategies import multiaddrs, peer_ids

_MEMORY = Path("/dev/shm")
ALICE, BOB = (PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32) for number in (1, 2))
A, B = (Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/4001") for number in (1, 2))
WALL = 1_800_000_000.0


@pytest.fixture
def datastore() -> Iterator[Datastore]:
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path:
        store = open_datastore(Path(path), make=True)
        yield store
        store.close()


def reload(datastore: Datastore, wall: float, now: float = 5.0) -> AddressBook:
    book = AddressBook()
    for known in AddressStore(datastore).load(wall):
        book.restore(known, now)
    return book


def rows(datastore: Datastore) -> set[bytes]:
    with datastore.read() as txn, txn.cursor(db=datastore.addresses) as cursor:
        return {bytes(key) for key, _value in cursor}


def test_a_restarted_node_knows_its_peers_for_what_was_left_of_their_time(datastore: Datastore) -> None:
    book = AddressBook()
    book.add(ALICE, [A], Source.USER, 1000)
    book.set_record(ALICE, 2**64 - 1, [B], 1600)
    AddressStore(datastore).write(collect(book, 1600, WALL))

    again = reload(datastore, WALL + 600)

    assert again.addrs(ALICE, 5) == (A, B)
    assert again.addrs(ALICE, 5 + 2399) == (A, B)
    assert again.addrs(ALICE, 5 + 2400) == (B,)
    assert again.addrs(ALICE, 5 + 3000) == ()
    assert again.sequence(ALICE) == 2**64 - 1


def test_what_expired_meanwhile_is_dropped_from_the_disk_too(datastore: Datastore) -> None:
    book = AddressBook()
    book.add(ALICE, [A], Source.REACHED, 0)
    book.add(BOB, [A], Source.USER, 0)
    AddressStore(datastore).write(collect(book, 0, WALL))

    assert list(reload(datastore, WALL + 1801).peers(5)) == [BOB]
    assert rows(datastore) == {BOB.raw}


def test_only_what_changed_is_written_and_what_was_forgotten_goes(datastore: Datastore) -> None:
    store = AddressStore(datastore)
    book = AddressBook()
    book.add(ALICE, [A], Source.USER, 0)
    book.add(BOB, [A], Source.USER, 0)
    book.add(PeerId.from_public_key(b"stranger"), [A], Source.HEARSAY, 0)
    store.write(collect(book, 0, WALL))
    assert rows(datastore) == {ALICE.raw, BOB.raw}

    assert collect(book, 10, WALL + 10) == {}
    book.forget(ALICE)
    changes = collect(book, 10, WALL + 10)

    assert changes == {ALICE: None}
    store.write(changes)
    store.write(changes)
    assert rows(datastore) == {BOB.raw}


def test_a_wall_clock_that_was_wrong_makes_nothing_last_longer(datastore: Datastore) -> None:
    book = AddressBook()
    book.add(ALICE, [A], Source.USER, 0)
    AddressStore(datastore).write(collect(book, 0, WALL + 10**9))
    again = reload(datastore, WALL)
    assert again.addrs(ALICE, 5 + 3599) == (A,)
    assert again.addrs(ALICE, 5 + 3600) == ()

    AddressStore(datastore).write(collect(again, 5, -1e9))
    again.mark_unsaved([ALICE])
    AddressStore(datastore).write(collect(again, 5, -1e9))
    assert list(reload(datastore, WALL).peers(5)) == []


def address(raw: bytes, rest: bytes) -> bytes:
    item = bytes((0x0A, len(raw))) + raw + rest
    return bytes((0x12, len(item))) + item


_GOOD_REST = b"\x10\x04\x18\xff\xff\xff\xff\x0f"


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xff", id="cut short"),
        pytest.param(b"\x1a\x00", id="unknown field"),
        pytest.param(b"\x12\x00", id="empty address"),
        pytest.param(address(A.raw, b"\x10\x04"), id="no expiry"),
        pytest.param(address(A.raw, b"\x10\x04\x1a\x01x"), id="expiry of another type"),
        pytest.param(address(A.raw, b"\x10\x63\x18\xff\xff\xff\xff\x0f"), id="unknown source"),
        pytest.param(address(b"\x03" + A.raw[1:], _GOOD_REST), id="unknown protocol"),
        pytest.param(address(A.raw, _GOOD_REST) + address(A.raw[:-1], _GOOD_REST), id="second address cut short"),
    ],
)
def test_a_damaged_row_is_dropped_with_a_line_in_the_log_and_hurts_no_other(
    datastore: Datastore, caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    book = AddressBook()
    book.add(BOB, [A], Source.USER, 0)
    AddressStore(datastore).write(collect(book, 0, WALL))
    with datastore.write() as txn:
        txn.put(ALICE.raw, value, db=datastore.addresses)
        txn.put(b"no peer", b"", db=datastore.addresses)

    assert list(reload(datastore, WALL).peers(5)) == [BOB]

    assert caplog.text.count("dropped a damaged entry") == 2
    assert ALICE.raw.hex() in caplog.text
    assert rows(datastore) == {BOB.raw}


@given(
    peer_id=peer_ids(),
    sequence=st.none() | st.integers(0, 2**64 - 1),
    addrs=st.lists(st.tuples(multiaddrs(), st.sampled_from(Source), st.integers(1, 3600)), max_size=4),
)
def test_a_row_reads_as_it_was_written(
    peer_id: PeerId, sequence: int | None, addrs: list[tuple[Multiaddr, Source, int]]
) -> None:
    known = KnownPeer(peer_id, sequence, tuple(KnownAddress(*each) for each in addrs))
    assert address_store._decode(peer_id, address_store._encode(known, WALL), WALL) == known


@given(data=st.binary(max_size=60))
def test_garbage_raises_nothing_but_our_error(data: bytes) -> None:
    with suppress(DecodeError):
        address_store._decode(ALICE, data, WALL)


def test_the_rows_above_differ_from_a_good_one_in_what_they_say() -> None:
    known = address_store._decode(ALICE, address(A.raw, _GOOD_REST), WALL)
    assert [(each.addr, each.source) for each in known.addrs] == [(A, Source.USER)]


def test_more_rows_than_one_transaction_takes_are_written_and_read(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipvcs.storage.rows.BATCH", 3)
    book = AddressBook()
    peers = {PeerId.from_public_key(bytes([number])) for number in range(10)}
    for peer_id in peers:
        book.add(peer_id, [A], Source.USER, 0)
    AddressStore(datastore).write(collect(book, 0, WALL))

    assert set(reload(datastore, WALL).peers(5)) == peers
    assert AddressStore(datastore).load(WALL + 10**6) == []
    assert rows(datastore) == set()


def test_more_peers_than_the_book_takes_are_not_loaded(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_store, "MAX_PEERS", 2)
    book = AddressBook()
    for number in range(5):
        book.add(PeerId.from_public_key(bytes([number])), [A], Source.USER, 0)
    AddressStore(datastore).write(collect(book, 0, WALL))
    assert len(AddressStore(datastore).load(WALL)) == len(rows(datastore)) == 2


def test_a_home_made_before_there_was_an_address_book_opens(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=6, map_size=1 << 24) as old:
        for name in (b"blocks", b"segments", b"pins", b"memos", b"meta"):
            old.open_db(name)
        old.open_db(b"memo_cids", dupsort=True)
        with old.begin(write=True) as txn:
            txn.put(b"made", b"1", db=old.open_db(b"meta", txn=txn))
            txn.put(b"x", b"kept", db=old.open_db(b"pins", txn=txn))

    store = open_datastore(tmp_path)
    try:
        book = AddressBook()
        book.add(ALICE, [A], Source.USER, 0)
        AddressStore(store).write(collect(book, 0, WALL))
        assert list(reload(store, WALL).peers(5)) == [ALICE]
        with store.read() as txn:
            assert txn.get(b"x", db=store.pins) == b"kept"
    finally:
        store.close()
