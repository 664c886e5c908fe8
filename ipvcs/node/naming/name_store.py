"""The table of names on the disk: what was seen of others' names, and what we publish under our own.

One row a name in the home's datastore, key: the name's bytes, value: a small protobuf message of ours,

    KnownName { seen = 1 bytes; confirmed = 2 uint64; kept = 3 bytes; other = 4 bytes; own = 5 Own }
    Own { record = 1 bytes; lifetime = 2 uint64, nanoseconds; announced = 3 uint64, absent: never }

in which records are as they travel and instants are seconds since 1970; `kept` and `other` are a fork.

The two halves of a row are written in different ways. What was seen is saved now and then, and a kill loses a minute of
it. What we publish is changed by `change_own` alone: read, decided and written in one transaction of the one writer
that a home has at a time, and durable before it returns, so that of several processes that publish under one name none
undoes another's work. Both touch the disk and run in a thread.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Final

import lmdb

from ipvcs.errors import DecodeError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.name_table import KnownName, OwnName
from ipvcs.node.naming.record import IpnsRecord
from ipvcs.node.naming.validity import NS
from ipvcs.objects.protobuf import BYTES, VARINT, ProtobufError, encode_varint, iter_fields
from ipvcs.storage.datastore import Datastore

_log = logging.getLogger(__name__)

_BATCH: Final = 1000
"""Rows a transaction: it keeps every other writer of the home waiting, so it is short."""
_SEEN, _CONFIRMED, _KEPT, _OTHER, _OWN = range(1, 6)
_RECORD, _LIFETIME, _ANNOUNCED = range(1, 4)


class NameStore:
    """The table on the disk."""

    def __init__(self, datastore: Datastore) -> None:
        self._store = datastore

    def load(self) -> list[tuple[PeerId, KnownName]]:
        """Return all rows, the least recently confirmed first; drop those that are damaged.

        Records are only read here; they are to be verified before use, as what comes from elsewhere.

        Raises:
            DiskError: not permitted, or the datastore is damaged.
        """
        found: list[tuple[PeerId, KnownName]] = []
        gone: list[bytes] = []
        with self._store.read() as txn, txn.cursor(db=self._store.names) as cursor:
            for key, value in cursor:
                try:
                    found.append((PeerId.decode(bytes(key)), decode_row(bytes(value))))
                except DecodeError as exc:
                    _log.warning("dropped a damaged entry of the table of names, %s: %s", bytes(key).hex(), exc)
                    gone.append(bytes(key))
        keys = iter(gone)
        while batch := list(islice(keys, _BATCH)):
            with self._store.write() as txn:
                for each in batch:
                    txn.delete(each, db=self._store.names)
        return sorted(found, key=lambda row: row[1].confirmed)

    def try_get(self, name: PeerId) -> KnownName | None:
        """Return the row of `name`, None when there is none that can be read. Records are to be verified before use.

        Raises:
            DiskError: not permitted, or the datastore is damaged.
        """
        with self._store.read() as txn:
            return self._read(txn, name)

    def write(self, changes: Mapping[PeerId, KnownName | None]) -> None:
        """Write what was seen; None: forget it. What the rows have of our own publishing stays as it is.

        Raises:
            DiskError: full, read-only, not permitted. Some may be written.
        """
        rows = iter(sorted(changes.items()))
        while batch := list(islice(rows, _BATCH)):
            with self._store.write() as txn:
                for name, known in batch:
                    before = self._read(txn, name)
                    self._put(txn, name, replace(known or KnownName(), own=None if before is None else before.own))

    def change_own(self, name: PeerId, change: Callable[[KnownName | None], KnownName]) -> KnownName:
        """Put what `change` makes of the row of `name` (None: there is none) in its place; return it. A row without
        any record is none.

        Meanwhile no other process can write to the home, so `change` must be quick. When it raises, nothing is written.

        Raises:
            DiskError: full, read-only, not permitted: nothing is written.
        """
        with self._store.write() as txn:
            known = change(self._read(txn, name))
            self._put(txn, name, known)
        self._store.sync_now()
        return known

    def _put(self, txn: lmdb.Transaction, name: PeerId, known: KnownName) -> None:
        if known.seen is None and known.own is None:
            txn.delete(name.raw, db=self._store.names)
        else:
            txn.put(name.raw, encode_row(known), db=self._store.names)

    def _read(self, txn: lmdb.Transaction, name: PeerId) -> KnownName | None:
        value = txn.get(name.raw, db=self._store.names)
        try:
            return None if value is None else decode_row(bytes(value))
        except DecodeError as exc:
            _log.warning("passed over a damaged entry of the table of names, %s: %s", name.to_base36(), exc)
            return None


def encode_row(known: KnownName) -> bytes:
    """Return the row of a name."""
    out = b""
    if known.seen is not None:
        out += _field(_SEEN, known.seen.raw) + _field(_CONFIRMED, max(0, int(known.confirmed)))
    if known.fork is not None:
        kept, other = known.fork
        out += _field(_KEPT, kept.raw) + _field(_OTHER, other.raw)
    if (own := known.own) is not None:
        item = _field(_RECORD, own.record.raw) + _field(_LIFETIME, int(own.lifetime * NS))
        item += b"" if own.announced is None else _field(_ANNOUNCED, max(0, int(own.announced)))
        out += _field(_OWN, item)
    return out


def decode_row(data: bytes) -> KnownName:
    """Return what a row says. Raises DecodeError: it is damaged."""
    fields = _fields(data, {_SEEN: BYTES, _CONFIRMED: VARINT, _KEPT: BYTES, _OTHER: BYTES, _OWN: BYTES})
    seen, kept, other, own = (fields.get(number) for number in (_SEEN, _KEPT, _OTHER, _OWN))
    if seen is None and own is None:
        raise ProtobufError("a name without a record")
    fork = None
    if isinstance(kept, bytes) and isinstance(other, bytes):
        fork = IpnsRecord.decode(kept), IpnsRecord.decode(other)
    confirmed = fields.get(_CONFIRMED, 0)
    assert isinstance(confirmed, int)
    return KnownName(
        seen=IpnsRecord.decode(seen) if isinstance(seen, bytes) else None,
        confirmed=float(confirmed),
        fork=fork,
        own=_decode_own(own) if isinstance(own, bytes) else None,
    )


def _decode_own(data: bytes) -> OwnName:
    fields = _fields(data, {_RECORD: BYTES, _LIFETIME: VARINT, _ANNOUNCED: VARINT})
    record, lifetime, announced = (fields.get(number) for number in (_RECORD, _LIFETIME, _ANNOUNCED))
    if not isinstance(record, bytes) or not isinstance(lifetime, int):
        raise ProtobufError("a name of ours without record or lifetime")
    return OwnName(IpnsRecord.decode(record), lifetime / NS, float(announced) if isinstance(announced, int) else None)


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, bytes):
        return encode_varint(number << 3 | BYTES) + encode_varint(len(value)) + value
    return encode_varint(number << 3 | VARINT) + encode_varint(value)


def _fields(data: bytes, types: Mapping[int, int]) -> dict[int, int | bytes]:
    """Return the fields of a message of ours, each of which has the type that `types` says."""
    fields: dict[int, int | bytes] = {}
    for number, wire_type, value in iter_fields(data):
        if types.get(number) != wire_type:
            raise ProtobufError(f"unexpected field {number}")
        fields[number] = value
    return fields
