"""Values and provider records over a restart, whatever happens to the rows in between."""

import logging
import threading
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from anyio.abc import TaskStatus
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import DecodeError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.routing import store_service
from ipvcs.node.routing.provider_store import MAX_AGE, StoredAddresses
from ipvcs.node.routing.store_service import StoreService
from ipvcs.node.routing.value_store import StoredValue
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.disk import DiskFullError
from ipvcs.storage.home import Home, open_home
from tests.contracts.routing import KEY, OTHER_KEY, VALIDATOR
from tests.strategies import multiaddrs, peer_ids

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
OWN, ALICE, BOB = (PeerId.from_public_key(b"\x08\x01\x12\x20" + bytes([number]) * 32) for number in (1, 2, 3))
A, B = (Multiaddr.parse(f"/ip4/10.0.0.{number}/tcp/4001") for number in (1, 2))
MH = b"\x12\x20" + bytes(32)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home") as opened:
        yield opened


def open_service(home: Home, now: float = NOW) -> AbstractAsyncContextManager[StoreService]:
    return StoreService.open(home.datastore, VALIDATOR, OWN, wall=lambda: now)


def rows(datastore: Datastore) -> tuple[set[bytes], set[bytes]]:
    found: list[set[bytes]] = []
    for table in (datastore.values, datastore.providers):
        with datastore.read() as txn, txn.cursor(db=table) as cursor:
            found.append({bytes(key) for key, _row in cursor})
    return found[0], found[1]


async def cancellable_save(service: StoreService, *, task_status: TaskStatus[anyio.CancelScope]) -> None:
    with anyio.CancelScope() as scope:
        task_status.started(scope)
        await service.save()


async def test_what_was_kept_is_kept_over_a_restart(home: Home) -> None:
    async with open_service(home) as service:
        service.values.put(KEY, b"5", NOW, source=ALICE)
        service.values.put(OTHER_KEY, b"6", NOW, own=True)
        service.providers.add(MH, PeerInfo(OWN), NOW)
        service.providers.add(MH, PeerInfo(ALICE, (A, B)), NOW + 1)
    async with open_service(home, NOW + 3600) as service:
        assert service.values.try_get(KEY, NOW + 3600) == b"5"
        assert service.values.try_get(OTHER_KEY, NOW + 3600) == b"6"
        assert service.providers.providers(MH, NOW + 3600) == [PeerInfo(ALICE, (A, B)), PeerInfo(OWN)]
        assert not service.values.take_unsaved(), "what was loaded is not written again"
        assert not service.providers.take_unsaved().records


async def test_what_expired_meanwhile_leaves_the_disk_as_well(home: Home) -> None:
    async with open_service(home) as service:
        service.values.put(KEY, b"5", NOW)
        service.providers.add(MH, PeerInfo(ALICE, (A,)), NOW)
    assert [len(each) for each in rows(home.datastore)] == [1, 2]
    async with open_service(home, NOW + MAX_AGE) as service:
        assert len(service.values) == len(service.providers) == 0
    assert rows(home.datastore) == (set(), set())


async def test_changes_are_saved_while_it_runs(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_service, "SAVE_INTERVAL", 0.02)
    async with open_service(home) as service:
        service.values.put(KEY, b"5", NOW)
        service.providers.add(MH, PeerInfo(ALICE), NOW)
        with anyio.fail_after(20):
            while not all(rows(home.datastore)):
                await anyio.sleep(0.02)
        service.values.put(KEY, b"6@1800000009", NOW)
        service.values.try_get(KEY, NOW + 10)  # which finds it expired
        with anyio.fail_after(20):
            while rows(home.datastore)[0]:
                await anyio.sleep(0.02)


async def test_a_save_that_was_cancelled_before_it_wrote_loses_nothing(home: Home) -> None:
    release = threading.Event()
    threads = to_thread.current_default_thread_limiter()
    async with open_service(home) as service, anyio.create_task_group() as tasks:
        service.values.put(KEY, b"5", NOW)
        service.providers.add(MH, PeerInfo(ALICE, (A,)), NOW)
        total, threads.total_tokens = threads.total_tokens, 1
        try:
            tasks.start_soon(to_thread.run_sync, release.wait, 20)
            with anyio.fail_after(20):
                while not threads.borrowed_tokens:
                    await anyio.sleep(0.001)
            saving = await tasks.start(cancellable_save, service)
            with anyio.fail_after(20):
                while not threads.statistics().tasks_waiting:
                    await anyio.sleep(0.001)
                saving.cancel()
        finally:
            release.set()
            threads.total_tokens = total
        assert rows(home.datastore) == (set(), set())
        await service.save()
        assert [len(each) for each in rows(home.datastore)] == [1, 2]


async def test_what_could_not_be_saved_is_saved_later(
    home: Home, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_args: object) -> None:
        raise DiskFullError(home.path)

    async with open_service(home) as service:
        service.values.put(KEY, b"5", NOW)
        service.providers.add(MH, PeerInfo(ALICE, (A,)), NOW)
        with monkeypatch.context() as patch:
            patch.setattr(store_service, "write", fail)
            await service.save()
        assert "cannot write the values" in caplog.text
        assert rows(home.datastore) == (set(), set())
    assert [len(each) for each in rows(home.datastore)] == [1, 2]


_DAMAGED_VALUES = {
    "cut short": b"\x0a\x05x",
    "no time": b"\x0a\x01x",
    "unknown field": b"\x0a\x01x\x10\x01\x28\x01",
    "another type": b"\x08\x01\x10\x01",
    "a source that is no peer": b"\x0a\x01x\x10\x01\x1a\x01x",
}
_DAMAGED_PROVIDERS = {
    "no time": (b"\x22" + MH + ALICE.raw, b""),
    "more than a time": (b"\x22" + MH + ALICE.raw, b"\x01\x01"),
    "no peer": (b"\x22" + MH, b"\x01"),
    "a size beyond the key": (b"\xff" + MH + ALICE.raw, b"\x01"),
    "addresses of nobody": (b"\x00", b"\x08\x01"),
    "addresses without a time": (b"\x00" + BOB.raw, b""),
    "no address": (b"\x00" + BOB.raw, b"\x08\x01\x12\x01\xff"),
    "unknown field": (b"\x00" + BOB.raw, b"\x08\x01\x18\x01"),
}


@pytest.mark.parametrize("row", _DAMAGED_VALUES.values(), ids=_DAMAGED_VALUES)
async def test_a_damaged_value_is_dropped_with_a_line_in_the_log(
    home: Home, caplog: pytest.LogCaptureFixture, row: bytes
) -> None:
    async with open_service(home) as service:
        service.values.put(OTHER_KEY, b"6", NOW)
    store_service.write(home.datastore, {KEY: row}, {})
    async with open_service(home) as service:
        assert service.values.try_get(OTHER_KEY, NOW) == b"6"
        assert len(service.values) == 1
    assert caplog.text.count("dropped a damaged value") == 1
    assert rows(home.datastore)[0] == {OTHER_KEY}


@pytest.mark.parametrize(("key", "row"), _DAMAGED_PROVIDERS.values(), ids=_DAMAGED_PROVIDERS)
async def test_a_damaged_provider_record_is_dropped_with_a_line_in_the_log(
    home: Home, caplog: pytest.LogCaptureFixture, key: bytes, row: bytes
) -> None:
    async with open_service(home) as service:
        service.providers.add(MH, PeerInfo(BOB), NOW)
    good = rows(home.datastore)[1]
    store_service.write(home.datastore, {}, {key: row})
    with caplog.at_level(logging.WARNING):
        async with open_service(home) as service:
            assert service.providers.providers(MH, NOW) == [PeerInfo(BOB)]
    assert caplog.text.count("dropped a damaged provider record") == 1
    assert rows(home.datastore)[1] == good


async def test_more_rows_than_one_transaction_takes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_service, "_BATCH", 3)
    async with open_service(home) as service:
        for number in range(20):
            service.providers.add(b"%d" % number, PeerInfo(ALICE, (A,)), NOW)
            service.values.put(b"/n/%d" % number, b"1", NOW)
    assert [len(each) for each in rows(home.datastore)] == [20, 21]


async def test_what_is_loaded_makes_room_in_the_order_it_came_in(home: Home) -> None:
    async with open_service(home) as service:
        for number in (3, 1, 2):
            service.values.put(b"/n/%d" % number, b"1", NOW - number)
            service.providers.add(b"%d" % number, PeerInfo(ALICE, (B,)[: number == 1]), NOW + number)
        service.providers.add(b"1", PeerInfo(OWN, (A,)), NOW + 9)
    values, records, addresses = store_service.load(home.datastore)
    assert [key for key, _value in values] == [b"/n/3", b"/n/2", b"/n/1"]
    assert [(key, peer) for key, peer, _received in records] == [
        (b"1", ALICE),
        (b"2", ALICE),
        (b"3", ALICE),
        (b"1", OWN),
    ]
    assert [peer for peer, _stored in addresses] == [ALICE, OWN]


stored_values = st.builds(
    StoredValue, st.binary(max_size=200), st.integers(0, 2**40).map(float), st.none() | peer_ids(), st.booleans()
)
stored_addresses = st.builds(
    StoredAddresses, st.lists(multiaddrs(), max_size=4).map(tuple), st.integers(0, 2**40).map(float)
)


@given(value=stored_values, addresses=stored_addresses)
def test_rows_read_as_they_were_written(value: StoredValue, addresses: StoredAddresses) -> None:
    assert store_service._decode_value(store_service._encode_value(value)) == value
    assert store_service._decode_addresses(store_service._encode_addresses(addresses)) == addresses


@given(key=st.binary(min_size=1, max_size=60), row=st.binary(max_size=60))
def test_garbage_raises_nothing_but_our_error(key: bytes, row: bytes) -> None:
    for read in (
        lambda: store_service._decode_value(row),
        lambda: store_service._decode_addresses(row),
        lambda: store_service._decode_record(key, row),
    ):
        with suppress(DecodeError):
            read()
