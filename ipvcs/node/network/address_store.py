"""The address book on the disk: what a daemon knew of its peers is there when it starts again.

One row a peer in the home's datastore, key: the peer id's bytes, value: a small protobuf message of ours,

    KnownPeer { sequence = 1 uint64, absent without a signed record; addrs = 2 repeated Address }
    Address { addr = 1 bytes; source = 2 uint32; expires = 3 uint64, seconds since 1970 }

The book runs on a clock that never goes back and starts anywhere; the disk has wall-clock time, and the two are put
together here. `collect` looks at the book and must run where the book is used; `write` and `load` touch the disk and
may run in a thread. A row that does not read is dropped with a line in the log: addresses are found again.
"""

import logging
from collections.abc import Iterator, Mapping
from typing import TypeAlias

from ipvcs.errors import DecodeError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.address_book import MAX_PEERS, AddressBook, KnownAddress, KnownPeer, Source
from ipvcs.objects.protobuf import BYTES, VARINT, ProtobufError, encode_varint, iter_fields
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.rows import read_rows, write_rows

_log = logging.getLogger(__name__)

Changes: TypeAlias = Mapping[PeerId, bytes | None]
"""Rows to write; None: the row is to go."""


def collect(book: AddressBook, now: float, wall: float) -> Changes:
    """Return what changed in `book` since the last call. `now` is the book's clock, `wall` seconds since 1970."""
    changes: dict[PeerId, bytes | None] = {}
    for peer_id in book.take_unsaved():
        known = book.known(peer_id, now)
        changes[peer_id] = None if known is None else _encode(known, wall)
    return changes


class AddressStore:
    """The table on the disk."""

    def __init__(self, datastore: Datastore) -> None:
        self._store = datastore

    def write(self, changes: Changes) -> None:
        """Write what `collect` returned. If this fails, give it back with `book.mark_unsaved(changes)`.

        Raises:
            DiskError: full, read-only, not permitted.
        """
        rows = {peer_id.raw: row for peer_id, row in changes.items()}
        write_rows(self._store, self._store.addresses, rows)

    def load(self, wall: float) -> list[KnownPeer]:
        """Return the peers that are known at `wall`, for `book.restore`; drop the rows that are over or damaged.

        Raises:
            DiskError: not permitted, or the datastore is damaged.
        """
        count = 0

        def read(key: bytes, value: bytes) -> KnownPeer | None:
            nonlocal count
            known = _read_row(key, value, wall)
            if known is None or not known.addrs or count >= MAX_PEERS:
                return None
            count += 1
            return known

        return read_rows(self._store, self._store.addresses, read)


def _read_row(key: bytes, value: bytes, wall: float) -> KnownPeer | None:
    try:
        return _decode(PeerId.decode(key), value, wall)
    except DecodeError as exc:
        _log.warning("dropped a damaged entry of the address book, peer %s: %s", key.hex(), exc)
        return None


def _encode(known: KnownPeer, wall: float) -> bytes:
    out = bytearray()
    if known.sequence is not None:
        out += b"\x08" + encode_varint(known.sequence)
    for each in known.addrs:
        raw = each.addr.raw
        item = b"\x0a" + encode_varint(len(raw)) + raw + b"\x10" + encode_varint(each.source)
        item += b"\x18" + encode_varint(max(0, int(wall + each.remaining)))
        out += b"\x12" + encode_varint(len(item)) + item
    return bytes(out)


def _decode(peer_id: PeerId, data: bytes, wall: float) -> KnownPeer:
    sequence: int | None = None
    addrs: list[KnownAddress] = []
    for number, wire_type, value in iter_fields(data):
        if (number, wire_type) == (1, VARINT) and isinstance(value, int):
            sequence = value
        elif (number, wire_type) == (2, BYTES) and isinstance(value, bytes):
            addrs += _decode_address(value, wall)
        else:
            raise ProtobufError(f"unexpected field {number}")
    return KnownPeer(peer_id, sequence, tuple(addrs))


def _decode_address(data: bytes, wall: float) -> Iterator[KnownAddress]:
    """Yield the address, unless it has expired."""
    fields = {number: value for number, _wire_type, value in iter_fields(data)}
    addr, source, expires = (fields.get(number) for number in (1, 2, 3))
    if not isinstance(addr, bytes) or not isinstance(source, int) or not isinstance(expires, int):
        raise ProtobufError("a field of an address is missing or of another type")
    if source not in list(Source):
        raise ProtobufError(f"unknown source {source}")
    if expires > wall:
        yield KnownAddress(Multiaddr.decode(addr), Source(source), expires - wall)
