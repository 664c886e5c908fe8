"""Ledgers on the disk: kept over a restart, whatever the clocks say and whatever rots."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange import ledger_store
from ipvcs.node.exchange.ledger import Ledger, Ledgers
from ipvcs.node.exchange.ledger_store import LedgerStore, collect
from ipvcs.storage.datastore import Datastore, open_datastore

_MEMORY = Path("/dev/shm")
ALICE, BOB = (PeerId.from_public_key(bytes([number])) for number in (1, 2))
WALL = 1_800_000_000.0


@pytest.fixture
def datastore() -> Iterator[Datastore]:
    with tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path:
        store = open_datastore(Path(path), make=True)
        yield store
        store.close()


def rows(datastore: Datastore) -> dict[bytes, bytes]:
    with datastore.read() as txn, txn.cursor(db=datastore.ledgers) as cursor:
        return {bytes(key): bytes(value) for key, value in cursor}


def test_a_restarted_node_knows_who_owes_what_and_when_it_was_seen(datastore: Datastore) -> None:
    ledgers = Ledgers()
    ledgers.sent(ALICE, 2**63, WALL + 0.5, blocks=7)
    ledgers.received(BOB, 5, WALL - 60)
    LedgerStore(datastore).write(collect(ledgers))

    known = LedgerStore(datastore).load()

    assert known == {ALICE: Ledger(2**63, 0, 7, WALL), BOB: Ledger(0, 5, 1, WALL - 60)}
    assert list(known) == [BOB, ALICE], "least recently seen first, as the table wants it"


def test_the_row_is_the_message_that_the_module_describes(datastore: Datastore) -> None:
    ledgers = Ledgers()
    ledgers.sent(ALICE, 300, 50)
    ledgers.received(ALICE, 1, 1000)
    LedgerStore(datastore).write(collect(ledgers))
    assert rows(datastore) == {ALICE.raw: bytes.fromhex("08 ac02 10 01 18 02 20 e807")}


def test_only_what_changed_is_written_and_what_was_forgotten_goes(datastore: Datastore) -> None:
    store, ledgers = LedgerStore(datastore), Ledgers(max_ledgers=1)
    ledgers.sent(ALICE, 1, WALL)
    store.write(collect(ledgers))
    assert collect(ledgers) == {}
    ledgers.sent(BOB, 1, WALL)
    changes = collect(ledgers)
    assert changes[ALICE] is None
    store.write(changes)
    store.write(changes)
    assert set(rows(datastore)) == {BOB.raw}


@pytest.mark.parametrize("wall", [-1e9, 0.0, 2.0**62])
def test_a_wall_clock_that_is_wrong_breaks_no_row(datastore: Datastore, wall: float) -> None:
    ledgers = Ledgers()
    ledgers.sent(ALICE, 3, wall)
    LedgerStore(datastore).write(collect(ledgers))
    assert LedgerStore(datastore).load() == {ALICE: Ledger(3, 0, 1, max(0.0, wall))}


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xff", id="cut short"),
        pytest.param(b"", id="empty"),
        pytest.param(bytes.fromhex("0801 1001 1801"), id="a field is missing"),
        pytest.param(bytes.fromhex("0801 1001 1801 2001 2801"), id="a field too many"),
        pytest.param(bytes.fromhex("0a00 1001 1801 2001"), id="another type"),
    ],
)
def test_a_damaged_row_is_dropped_with_a_line_in_the_log_and_hurts_no_other(
    datastore: Datastore, caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    ledgers = Ledgers()
    ledgers.sent(BOB, 1, 0)
    LedgerStore(datastore).write(collect(ledgers))
    with datastore.write() as txn:
        txn.put(ALICE.raw, value, db=datastore.ledgers)
        txn.put(b"no peer", bytes.fromhex("0801 1001 1801 2001"), db=datastore.ledgers)

    assert set(LedgerStore(datastore).load()) == {BOB}

    assert caplog.text.count("dropped a damaged ledger") == 2
    assert ALICE.raw.hex() in caplog.text
    assert set(rows(datastore)) == {BOB.raw}


@given(values=st.tuples(*(st.integers(0, 2**64 - 1) for _ in range(3))), seen=st.integers(0, 2**40))
def test_a_row_reads_as_it_was_written(values: tuple[int, int, int], seen: int) -> None:
    ledger = Ledger(*values, last_seen=seen)
    assert ledger_store._decode(ledger_store._encode(ledger)) == ledger


@given(data=st.binary(max_size=60))
def test_garbage_raises_nothing_but_our_error(data: bytes) -> None:
    with suppress(DecodeError):
        ledger_store._decode(data)


def test_more_rows_than_one_transaction_takes_are_written_and_read(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipvcs.storage.rows.BATCH", 3)
    ledgers = Ledgers()
    peers = [PeerId.from_public_key(bytes([number])) for number in range(10)]
    for now, peer_id in enumerate(peers):
        ledgers.sent(peer_id, 1, now)
    LedgerStore(datastore).write(collect(ledgers))
    assert list(LedgerStore(datastore).load()) == peers
    monkeypatch.setattr(ledger_store, "MAX_LEDGERS", 2)
    assert list(LedgerStore(datastore).load()) == peers[-2:], "the oldest go"
    assert set(rows(datastore)) == {each.raw for each in peers[-2:]}
