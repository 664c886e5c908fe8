"""The table of names on the disk: kept over a restart, and not undone by another process."""

import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.node.naming import name_store
from ipvcs.node.naming.name_store import NameStore, decode_row, encode_row
from ipvcs.node.naming.name_table import KnownName, NameTable, OwnName
from ipvcs.node.naming.record import IpnsRecord
from ipvcs.storage.datastore import Datastore
from tests.unit.node.identity.key_pool import ed25519_key
from tests.unit.node.naming.records import ALICE, BOB, HOUR, NOW, A, B, record

NAME = ALICE.peer_id
MINE = OwnName(record(sequence=3), 48 * HOUR)


def rows(datastore: Datastore) -> set[bytes]:
    with datastore.read() as txn, txn.cursor(db=datastore.names) as cursor:
        return {bytes(key) for key, _value in cursor}


def test_what_was_seen_is_there_after_a_restart_and_the_oldest_first(datastore: Datastore) -> None:
    table = NameTable()
    table.observe(BOB.peer_id, record(BOB), NOW)
    table.observe(NAME, record(value=A), NOW - 50)
    table.observe(NAME, record(value=B), NOW - 50)
    NameStore(datastore).write(table.take_unsaved())

    loaded = NameStore(datastore).load()

    assert [name for name, _known in loaded] == [NAME, BOB.peer_id]
    again = NameTable()
    for name, known in loaded:
        again.restore(name, known)
    assert again.try_get(NAME) == table.try_get(NAME)
    assert len(list(again.forks())) == 1
    assert again.take_unsaved() == {}


def test_what_is_to_be_forgotten_goes(datastore: Datastore) -> None:
    store = NameStore(datastore)
    store.write({NAME: KnownName(record(), NOW), BOB.peer_id: KnownName(record(BOB), NOW)})
    store.write({NAME: None})
    assert rows(datastore) == {BOB.peer_id.raw}


def test_our_own_half_of_a_row_is_not_touched_by_what_was_seen(datastore: Datastore) -> None:
    store = NameStore(datastore)
    store.change_own(NAME, lambda before: KnownName(own=MINE) if before is None else pytest.fail("there is none"))
    store.write({NAME: KnownName(record(), NOW, own=replace(MINE, record=record(sequence=1)))})
    store.write({NAME: KnownName(record(), NOW + 1)})
    assert dict(store.load())[NAME] == KnownName(record(), NOW + 1, own=MINE)
    store.write({NAME: None})
    assert dict(store.load())[NAME] == KnownName(own=MINE)


def test_a_change_sees_what_another_process_wrote_and_writes_nothing_when_it_raises(datastore: Datastore) -> None:
    store = NameStore(datastore)
    store.change_own(NAME, lambda _before: KnownName(own=MINE))

    def refuse(before: KnownName | None) -> KnownName:
        assert before == KnownName(own=MINE)
        raise KeyError

    with pytest.raises(KeyError):
        store.change_own(NAME, refuse)
    assert dict(store.load())[NAME] == KnownName(own=MINE)


def test_of_many_who_change_one_name_at_once_none_undoes_anothers_work(datastore: Datastore) -> None:
    def next_one(before: KnownName | None) -> KnownName:
        number = 0 if before is None or before.own is None else before.own.record.sequence + 1
        return KnownName(own=OwnName(record(sequence=number), HOUR))

    def publish() -> None:
        for _ in range(10):
            NameStore(datastore).change_own(NAME, next_one)

    threads = [threading.Thread(target=publish) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert dict(NameStore(datastore).load())[NAME].best.sequence == 39


def test_our_own_record_is_durable_even_where_blocks_need_not_be(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(Datastore, "sync_now", lambda self: synced.append(bool(rows(self))))
    NameStore(datastore).change_own(NAME, lambda _before: KnownName(own=MINE))
    assert synced == [True]


def test_a_damaged_row_is_dropped_with_a_line_in_the_log_and_hurts_no_other(
    datastore: Datastore, caplog: pytest.LogCaptureFixture
) -> None:
    store = NameStore(datastore)
    store.write({NAME: KnownName(record(), NOW)})
    good = encode_row(KnownName(record(BOB), NOW, own=MINE))
    bad = [b"", b"\xff", good[:-1], good[3:], b"\x32\x00" + good, b"\x10\x01", b"\x2a\x02\x10\x01", b"\x08\x01"]
    with datastore.write() as txn:
        for number, value in enumerate(bad):
            txn.put(ed25519_key(number + 1).peer_id.raw, value, db=datastore.names)
        txn.put(b"no name", good, db=datastore.names)
    assert [name for name, _known in store.load()] == [NAME]
    assert caplog.text.count("dropped a damaged entry") == len(bad) + 1
    assert rows(datastore) == {NAME.raw}


def test_a_damaged_row_does_not_keep_us_from_publishing(datastore: Datastore, caplog: pytest.LogCaptureFixture) -> None:
    with datastore.write() as txn:
        txn.put(NAME.raw, b"\xff", db=datastore.names)
    NameStore(datastore).change_own(NAME, lambda before: KnownName(own=MINE) if before is None else before)
    assert "passed over a damaged entry" in caplog.text
    assert dict(NameStore(datastore).load())[NAME] == KnownName(own=MINE)


def test_more_rows_than_one_transaction_takes_are_written(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_store, "_BATCH", 3)
    keys = [ed25519_key(number) for number in range(1, 11)]
    NameStore(datastore).write({key.peer_id: KnownName(record(key), NOW) for key in keys})
    assert len(NameStore(datastore).load()) == 10
    with datastore.write() as txn:
        for key in keys:
            txn.put(key.peer_id.raw, b"\xff", db=datastore.names)
    assert NameStore(datastore).load() == []
    assert rows(datastore) == set()


def _records() -> st.SearchStrategy[IpnsRecord]:
    return st.builds(record, value=st.sampled_from((A, B)), sequence=st.integers(0, 2**64 - 1))


@given(
    seen=_records() | st.none(),
    confirmed=st.integers(0, 2**40),
    fork=st.tuples(_records(), _records()) | st.none(),
    own=st.builds(OwnName, _records(), st.integers(1, 10**9).map(float), st.none() | st.integers(0, 2**40).map(float)),
)
def test_a_row_reads_as_it_was_written(
    seen: IpnsRecord | None, confirmed: int, fork: tuple[IpnsRecord, IpnsRecord] | None, own: OwnName
) -> None:
    known = KnownName(seen, float(confirmed) if seen else 0.0, fork, own)
    assert decode_row(encode_row(known)) == known


@given(data=st.binary(max_size=60))
def test_garbage_raises_nothing_but_our_error(data: bytes) -> None:
    with suppress(DecodeError):
        decode_row(data)
