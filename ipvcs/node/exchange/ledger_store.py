"""Ledgers on the disk: what peers owe us and we owe them is known again when the daemon starts.

One row a peer in the home's datastore, key: the peer id's bytes, value: a small protobuf message of ours,

    Ledger { bytes_sent = 1; bytes_received = 2; exchanges = 3; last_seen = 4, seconds since 1970 }     all uint64

`collect` looks at the table in memory and must run where that is used; `write` and `load` touch the disk and may run in
a thread. A row that does not read is dropped with a line in the log, and its peer begins anew.
"""

import logging
from collections.abc import Mapping
from typing import Final, TypeAlias

from ipvcs.errors import DecodeError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.ledger import MAX_LEDGERS, Ledger, Ledgers
from ipvcs.objects.protobuf import VARINT, ProtobufError, encode_varint, iter_fields
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.rows import delete_rows, read_rows, write_rows

_log = logging.getLogger(__name__)

_FIELDS: Final = (1, 2, 3, 4)

Changes: TypeAlias = Mapping[PeerId, bytes | None]
"""Rows to write; None: the row is to go."""


def collect(ledgers: Ledgers) -> Changes:
    """Return what changed in `ledgers` since the last call."""
    changes: dict[PeerId, bytes | None] = {}
    for peer_id in ledgers.take_unsaved():
        ledger = ledgers.known(peer_id)
        changes[peer_id] = None if ledger is None else _encode(ledger)
    return changes


class LedgerStore:
    """The table on the disk."""

    def __init__(self, datastore: Datastore) -> None:
        self._store = datastore

    def write(self, changes: Changes) -> None:
        """Write what `collect` returned. If this fails, give it back with `ledgers.mark_unsaved(changes)`.

        Raises:
            DiskError: full, read-only, not permitted.
        """
        rows = {peer_id.raw: row for peer_id, row in changes.items()}
        write_rows(self._store, self._store.ledgers, rows)

    def load(self) -> dict[PeerId, Ledger]:
        """Return all ledgers, least recently seen first, as `Ledgers.restore` takes them; drop rows that are damaged,
        and the oldest beyond `MAX_LEDGERS`.

        Raises:
            DiskError: not permitted, or the datastore is damaged.
        """
        found = read_rows(self._store, self._store.ledgers, _read_row)
        found.sort(key=lambda each: each[1].last_seen)
        delete_rows(self._store, self._store.ledgers, (peer_id.raw for peer_id, _ledger in found[:-MAX_LEDGERS]))
        return dict(found[-MAX_LEDGERS:])


def _read_row(key: bytes, value: bytes) -> tuple[PeerId, Ledger] | None:
    try:
        return PeerId.decode(key), _decode(value)
    except DecodeError as exc:
        _log.warning("dropped a damaged ledger, peer %s: %s", key.hex(), exc)
        return None


def _encode(ledger: Ledger) -> bytes:
    values = (ledger.bytes_sent, ledger.bytes_received, ledger.exchanges, max(0, int(ledger.last_seen)))
    return b"".join(bytes((number << 3,)) + encode_varint(value) for number, value in zip(_FIELDS, values, strict=True))


def _decode(data: bytes) -> Ledger:
    fields: dict[int, int] = {}
    for number, wire_type, value in iter_fields(data):
        if number not in _FIELDS or wire_type != VARINT or not isinstance(value, int):
            raise ProtobufError(f"unexpected field {number}")
        fields[number] = value
    if len(fields) != len(_FIELDS):
        raise ProtobufError("a field is missing")
    return Ledger(*(fields[number] for number in _FIELDS))
