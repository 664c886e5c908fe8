"""Values and provider records over a restart: read from the home at the start, written behind every few seconds.

Rows of the home's datastore, numbers and messages as protobuf has them; times are seconds since 1970:

    values     key                                        StoredValue { value = 1; received = 2; source = 3; own = 4 }
    providers  size of the multihash, multihash, peer id  received
               0, peer id                                 Addresses { received = 1; addrs = 2 repeated }

A kill loses the last seconds, which publishers make good within hours. A row that does not read is dropped with a line
in the log. What is in the tables is looked at on the event loop, which owns them; only rows go to a thread.
"""

import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from itertools import islice
from typing import Any, Final, Self

import anyio
from anyio import to_thread

from ipvcs.errors import DecodeError, IpvcsError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.routing.interface import Validator
from ipvcs.node.routing.provider_store import MAX_ADDRESSES, ProviderStore, StoredAddresses, UnsavedProviders
from ipvcs.node.routing.value_store import StoredValue, ValueStore
from ipvcs.objects.protobuf import BYTES, VARINT, ProtobufError, decode_varint, encode_varint, iter_fields
from ipvcs.storage.datastore import Datastore

_log = logging.getLogger(__name__)

SAVE_INTERVAL: Final = 5.0
"""Seconds between writes of what changed."""
EXPIRY_INTERVAL: Final = 60.0
"""Seconds between looks for what has expired. Reads look at the time anyway."""
_BATCH: Final = 1000
"""Rows a transaction: it keeps every other writer of the home waiting, so it is short."""

Rows = Mapping[bytes, bytes | None]
"""Rows to write; None: the row is to go."""


class StoreService:
    """Both tables, and their way to the disk. Use `open`."""

    def __init__(self, datastore: Datastore, values: ValueStore, providers: ProviderStore) -> None:
        self.values = values
        self.providers = providers
        self._datastore = datastore
        self._saving = anyio.Lock()

    @classmethod
    @asynccontextmanager
    async def open(
        cls, datastore: Datastore, validator: Validator, own: PeerId, *, wall: Callable[[], float] = time.time
    ) -> AsyncGenerator[Self]:
        """Load what is known, and save what changes until the end of the block, where all is saved.

        Args:
            datastore: of the home.
            validator: the rules that values are held against.
            own: who we are.
            wall: returns seconds since 1970.
        """
        service = cls(datastore, ValueStore(validator), ProviderStore(own))
        values, records, addresses = await to_thread.run_sync(load, datastore)
        now = wall()
        for key, value in values:
            service.values.restore(key, value, now)
        for multihash, peer_id, received in records:
            service.providers.restore_record(multihash, peer_id, received, now)
        for peer_id, stored in addresses:
            service.providers.restore_addresses(peer_id, stored, now)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service._keep_saving, wall)
            try:
                yield service
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await service.save()

    async def save(self) -> None:
        """Write what changed. If that fails, it is tried again with the next save."""
        async with self._saving:  # the last save waits for one that was cancelled, and has its rows
            values = self.values.take_unsaved()
            providers = self.providers.take_unsaved()
            if not (values or providers.records or providers.addresses):
                return
            value_rows = {key: None if stored is None else _encode_value(stored) for key, stored in values.items()}
            try:
                await to_thread.run_sync(write, self._datastore, value_rows, _provider_rows(providers))
            except BaseException as exc:  # cancelled while it waited for a thread, it has written nothing
                self.values.mark_unsaved(values)
                self.providers.mark_unsaved(providers)
                if not isinstance(exc, IpvcsError):
                    raise
                _log.warning("cannot write the values and provider records that we keep: %s", exc)

    async def _keep_saving(self, wall: Callable[[], float]) -> None:
        next_expiry = anyio.current_time()
        while True:
            if anyio.current_time() >= next_expiry:
                self.values.drop_expired(wall())
                self.providers.drop_expired(wall())
                next_expiry = anyio.current_time() + EXPIRY_INTERVAL
            await anyio.sleep(SAVE_INTERVAL)
            await self.save()


def write(datastore: Datastore, values: Rows, providers: Rows) -> None:
    """Write rows of both tables. Blocks. Raises DiskError: some may be written."""
    for table, rows in ((datastore.values, values), (datastore.providers, providers)):
        left = iter(sorted(rows.items()))
        while batch := list(islice(left, _BATCH)):
            with datastore.write() as txn:
                for key, row in batch:
                    if row is None:
                        txn.delete(key, db=table)
                    else:
                        txn.put(key, row, db=table)


def load(
    datastore: Datastore,
) -> tuple[list[tuple[bytes, StoredValue]], list[tuple[bytes, PeerId, float]], list[tuple[PeerId, StoredAddresses]]]:
    """Return the values, provider records and addresses on disk, each the oldest first; drop what is damaged. Blocks.

    Raises:
        DiskError: not permitted, or the datastore is damaged.
    """
    values: list[tuple[bytes, StoredValue]] = []
    records: list[tuple[bytes, PeerId, float]] = []
    addresses: list[tuple[PeerId, StoredAddresses]] = []
    damaged: dict[bytes, None] = {}
    damaged_values: dict[bytes, None] = {}
    with datastore.read() as txn:
        for key, row in _rows(txn, datastore.values):
            try:
                values.append((key, _decode_value(row)))
            except DecodeError as exc:
                _log.warning("dropped a damaged value that was kept under key %r: %s", key, exc)
                damaged_values[key] = None
        for key, row in _rows(txn, datastore.providers):
            try:
                if key[:1] == b"\x00":
                    addresses.append((PeerId.decode(key[1:]), _decode_addresses(row)))
                else:
                    records.append(_decode_record(key, row))
            except DecodeError as exc:
                _log.warning("dropped a damaged provider record, key %s: %s", key.hex(), exc)
                damaged[key] = None
    if damaged or damaged_values:
        write(datastore, damaged_values, damaged)
    values.sort(key=lambda item: item[1].received)
    records.sort(key=lambda item: item[2])
    addresses.sort(key=lambda item: item[1].received)
    return values, records, addresses


def _rows(txn: Any, table: object) -> Iterable[tuple[bytes, bytes]]:
    with txn.cursor(db=table) as cursor:
        for key, row in cursor:
            yield bytes(key), bytes(row)


def _provider_rows(unsaved: UnsavedProviders) -> dict[bytes, bytes | None]:
    rows: dict[bytes, bytes | None] = {}
    for (multihash, peer_id), received in unsaved.records.items():
        row = None if received is None else encode_varint(max(0, int(received)))
        rows[bytes((len(multihash),)) + multihash + peer_id.raw] = row
    for peer_id, stored in unsaved.addresses.items():
        rows[b"\x00" + peer_id.raw] = None if stored is None else _encode_addresses(stored)
    return rows


def _decode_record(key: bytes, row: bytes) -> tuple[bytes, PeerId, float]:
    end = 1 + key[0]
    received, size = decode_varint(row, 0)
    if size != len(row):
        raise ProtobufError("more than a time in a row")
    return key[1:end], PeerId.decode(key[end:]), float(received)


def _encode_value(stored: StoredValue) -> bytes:
    row = b"\x0a" + encode_varint(len(stored.value)) + stored.value
    row += b"\x10" + encode_varint(max(0, int(stored.received)))
    if stored.source is not None:
        row += b"\x1a" + encode_varint(len(stored.source.raw)) + stored.source.raw
    return row + (b"\x20\x01" if stored.own else b"")


def _decode_value(row: bytes) -> StoredValue:
    fields = _fields(row, {1: BYTES, 2: VARINT, 3: BYTES, 4: VARINT})
    value, received, source = (fields.get(number) for number in (1, 2, 3))
    if not isinstance(value, bytes) or not isinstance(received, int):
        raise ProtobufError("a value or its time is missing")
    peer_id = PeerId.decode(source) if isinstance(source, bytes) else None
    return StoredValue(value, float(received), peer_id, bool(fields.get(4)))


def _encode_addresses(stored: StoredAddresses) -> bytes:
    row = b"\x08" + encode_varint(max(0, int(stored.received)))
    return row + b"".join(b"\x12" + encode_varint(len(addr.raw)) + addr.raw for addr in stored.addrs)


def _decode_addresses(row: bytes) -> StoredAddresses:
    received: int | None = None
    addrs: list[Multiaddr] = []
    for number, wire_type, value in iter_fields(row):
        if (number, wire_type) == (1, VARINT) and isinstance(value, int):
            received = value
        elif (number, wire_type) == (2, BYTES) and isinstance(value, bytes) and len(addrs) < MAX_ADDRESSES:
            addrs.append(Multiaddr.decode(value))
        else:
            raise ProtobufError(f"unexpected field {number}")
    if received is None:
        raise ProtobufError("the time is missing")
    return StoredAddresses(tuple(addrs), float(received))


def _fields(row: bytes, known: Mapping[int, int]) -> dict[int, int | bytes]:
    fields: dict[int, int | bytes] = {}
    for number, wire_type, value in iter_fields(row):
        if known.get(number) != wire_type:
            raise ProtobufError(f"unexpected field {number}")
        fields[number] = value
    return fields
