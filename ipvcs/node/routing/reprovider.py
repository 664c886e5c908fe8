"""What this node announces, and when again: the strategies, and the table that remembers what was announced.

Goals: nothing is announced before its time, over restarts as well; what is to be announced comes in the order of the
keyspace, so that one look-up serves neighbours; memory does not grow with the number of blocks, but for the walk of
pinned DAGs itself (`storage/closure`). Non-goals: announcing (`provider_service`).

`roots` announces what is pinned; `pinned` all that pins reach; `all` every block of the store.

Rows of the home's table `provided`, for each router by its name, so that what one network was told is told to another
that is joined later:

    name, 0, sha2-256 of the multihash   last (8 bytes, seconds since 1970, 0: never), walk (4 bytes), multihash
    name, 0                              walk (4 bytes), done (8 bytes), digest of the pins then (32 bytes), strategy

A *walk* looks at all that is to be announced and gives each row its number; rows with another number when it is done
are of what is not there any more, and go. An unfinished walk deletes nothing. A new pin's root is noted with the number
0 until all below it is noted, too: if that is interrupted, the next look at the pins finds it again.

All of this blocks; the service runs it in a thread, slice by slice, so that it can stop at any time.
"""

import hashlib
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import islice
from typing import Final

import lmdb

from ipvcs.errors import IpvcsError, UsageError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.routing.keyspace import BITS, point_of
from ipvcs.node.routing.provider_store import MAX_KEY
from ipvcs.storage.closure import iter_closure
from ipvcs.storage.datastore import Datastore
from ipvcs.storage.interface import Blockstore
from ipvcs.storage.pins import PinMode, Pins

MAX_NAME: Final = 32
"""Bytes of a router's name."""
_SLICE: Final = 1000
"""Rows a transaction, and blocks a slice of a walk."""
_SLICE_SECONDS: Final = 0.25
"""A slice of a walk ends after this, however few blocks it saw: they may be large, and the disk slow."""
_SCAN: Final = 20_000
"""Rows looked at in one read transaction while looking for those that are due."""
_FUTURE: Final = 60.0
"""Seconds: a row from further in the future was written by a clock that was wrong, and is due."""
_ROW: Final = struct.Struct(">QI")
_STATE: Final = struct.Struct(">IQ32s8s")


class Strategy(StrEnum):
    """What is announced."""

    ROOTS = "roots"
    PINNED = "pinned"
    ALL = "all"

    @classmethod
    def parse(cls, text: str) -> "Strategy":
        """Return the strategy that a setting names. Raises UsageError."""
        if text not in list(cls):
            raise UsageError(f"unknown strategy '{text}' of announcing", hint=f"one of: {', '.join(cls)}")
        return cls(text)


@dataclass(frozen=True, slots=True)
class Due:
    """Blocks to announce, in keyspace order. `end` is where to go on looking, None behind the last."""

    cids: Sequence[Cid]
    end: bytes | None


@dataclass(frozen=True, slots=True)
class WalkState:
    """The last walk: its `number`, which is that of one under way or interrupted, too; the rest is of the last that was
    done: when (seconds since 1970), with which pins, and for which strategy.
    """

    number: int = 0
    done: float = 0.0
    digest: bytes = bytes(32)
    strategy: str = ""


def keyspace_position(multihash: bytes) -> bytes:
    """Return where a provider record of `multihash` is kept in the DHT."""
    return point_of(multihash).to_bytes(BITS // 8, "big")


class ProvidedTable:
    """What one router announced, on disk."""

    def __init__(self, datastore: Datastore, name: str) -> None:
        self._store = datastore
        self._prefix = name.encode() + b"\x00"
        assert 1 < len(self._prefix) <= MAX_NAME + 1
        assert self._prefix.count(0) == 1

    def state(self) -> "WalkState":
        """Return what is known of the last walk."""
        with self._store.read() as txn:
            row = txn.get(self._prefix, db=self._store.provided)
        if row is None or len(row) != _STATE.size:
            return WalkState()
        walk, done, digest, strategy = _STATE.unpack(row)
        return WalkState(walk, float(done), digest, strategy.rstrip(b"\x00").decode("ascii", "replace"))

    def set_state(self, state: "WalkState") -> None:
        """Remember what `state` is to return."""
        row = _STATE.pack(state.number, max(0, int(state.done)), state.digest, state.strategy.encode())
        with self._store.write() as txn:
            txn.put(self._prefix, row, db=self._store.provided)

    def note(self, multihashes: Iterable[bytes], walk: int) -> int:
        """See to it that there is a row for each, with the number `walk`; return how many there were not."""
        new = 0
        left = iter(multihashes)
        while batch := list(islice(left, _SLICE)):
            changes: dict[bytes, bytes] = {}
            with self._store.read() as txn:  # most are there already: no need to keep writers waiting
                for multihash in batch:
                    key = self._key(multihash)
                    row = txn.get(key, db=self._store.provided)
                    last, before = (0, None) if row is None else _ROW.unpack_from(row)
                    new += row is None and key not in changes
                    if before != walk:
                        changes[key] = _ROW.pack(last, walk) + multihash
            self._put(changes)
        return new

    def missing(self, multihashes: Iterable[bytes]) -> list[bytes]:
        """Return those without a row, or with one whose walk is not done."""
        with self._store.read() as txn:
            return [each for each in multihashes if not self._is_walked(txn, self._key(each))]

    def mark(self, multihashes: Iterable[bytes], wall: float) -> None:
        """Note that these were announced at `wall`. Those without a row are passed over: they were unpinned."""
        changes: dict[bytes, bytes] = {}
        with self._store.read() as txn:
            for multihash in multihashes:
                key = self._key(multihash)
                if (row := txn.get(key, db=self._store.provided)) is not None:
                    changes[key] = _ROW.pack(max(0, int(wall)), _ROW.unpack_from(row)[1]) + multihash
        self._put(changes)

    def due(self, start: bytes, most: int, wall: float, interval: float, *, again: bool = False) -> Due:
        """Return up to `most` blocks at `start` or behind it that are due: those never announced, unless `again` leaves
        them out, and those announced last `interval` seconds or more before `wall`; with an `interval` of 0 none is.
        """
        found: list[Cid] = []
        end = self._prefix[:-1] + b"\x01"
        with self._store.read() as txn, txn.cursor(db=self._store.provided) as cursor:
            alive = cursor.set_range(self._prefix + start)
            for _number in range(_SCAN):
                if not alive or (key := bytes(cursor.key())) >= end:
                    return Due(found, None)
                if len(found) == most:
                    break
                row = bytes(cursor.value())
                if len(key) > len(self._prefix):
                    last = _ROW.unpack_from(row)[0]
                    if (last or not again) and _is_due(last, wall, interval):
                        found.append(Cid.make(row[_ROW.size :]))
                alive = cursor.next()
            return Due(found, bytes(cursor.key())[len(self._prefix) :] if alive else None)

    def drop_others(self, walk: int) -> Iterator[int]:
        """Delete the rows that have another number than `walk`; yield how many, slice by slice."""
        start = self._prefix + b"\x00"
        while start:
            gone: list[bytes] = []
            with self._store.read() as txn, txn.cursor(db=self._store.provided) as cursor:
                alive = cursor.set_range(start)
                for _number in range(_SCAN):
                    if not alive or not (key := bytes(cursor.key())).startswith(self._prefix):
                        alive = False
                        break
                    if _ROW.unpack_from(cursor.value())[1] != walk:
                        gone.append(key)
                        if len(gone) == _SLICE:
                            break
                    alive = cursor.next()
                start = bytes(cursor.key()) if alive else b""
            if gone:
                with self._store.write() as txn:
                    for key in gone:
                        txn.delete(key, db=self._store.provided)
            yield len(gone)

    def __len__(self) -> int:
        """Return the number of blocks that were announced or are to be. Reads the whole table."""
        count = 0
        with self._store.read() as txn, txn.cursor(db=self._store.provided) as cursor:
            alive = cursor.set_range(self._prefix + b"\x00")
            while alive and bytes(cursor.key()).startswith(self._prefix):
                count += 1
                alive = cursor.next()
        return count

    def _key(self, multihash: bytes) -> bytes:
        return self._prefix + keyspace_position(multihash)

    def _put(self, rows: dict[bytes, bytes]) -> None:
        if rows:
            with self._store.write() as txn:
                for key, row in rows.items():
                    txn.put(key, row, db=self._store.provided)

    def _is_walked(self, txn: lmdb.Transaction, key: bytes) -> bool:
        row = txn.get(key, db=self._store.provided)
        return row is not None and _ROW.unpack_from(row)[1] != 0


class Reprovider:
    """Keeps a `ProvidedTable` in step with the pins and blocks of a home."""

    def __init__(self, datastore: Datastore, blocks: Blockstore, strategy: Strategy, name: str) -> None:
        self.table = ProvidedTable(datastore, name)
        self.strategy = strategy
        self._datastore = datastore
        self._pins = Pins(datastore)
        self._blocks = blocks
        self._walk = self.table.state()
        self._looked = self._walk.digest  # what the pins were when we last looked

    def last_transaction(self) -> int:
        """Return a number that changes whenever any process writes to the home. Cheap, and does not block."""
        number: int = self._datastore.env.info()["last_txnid"]
        return number

    def has_new_pins(self) -> bool:
        """Tell whether the pins are others than at the last look."""
        return self._pins_digest() != self._looked

    def look(self, wall: float) -> Iterator[list[bytes]]:
        """Note what was pinned since the last look: yield the multihashes of new roots at once, then go on with what is
        below them. Each list, which may be empty, is a slice of the work. `wall` is seconds since 1970.

        With `roots`, and the first time with another strategy, this is a walk: then what was unpinned goes, too.
        """
        digest = self._pins_digest()
        pins = [pin for pin in self._pins.iter_pins() if self._is_announced(pin.cid)]
        new_roots = set(self.table.missing(pin.cid.multihash for pin in pins))
        self.table.note(new_roots, 0)
        yield list(new_roots)
        if self.strategy is Strategy.ROOTS or self._walk.strategy != self.strategy:
            yield from self.walk(wall)
        else:
            new_pins = [pin for pin in pins if pin.cid.multihash in new_roots and pin.mode is PinMode.RECURSIVE]
            for some in _slices(self._readable_closure(pin.cid for pin in new_pins)):
                offered = (cid.multihash for cid in some if self._is_announced(cid))
                self.table.note((each for each in offered if each not in new_roots), self._walk.number)
                yield []
            self.table.note(new_roots, self._walk.number)
        self._looked = digest

    def needs_walk(self, wall: float, interval: float, *, due: bool) -> bool:
        """Tell whether to look at everything before anything else is announced.

        `due` is whether something is to be announced again: then the table must not list what was unpinned. For `all`
        a walk is also how new blocks are found, once in `interval` seconds; with 0, in the first look alone.
        """
        if due and self._walk.digest != self._pins_digest():
            return True
        return (
            self.strategy is Strategy.ALL and interval > 0 and not wall - interval < self._walk.done <= wall + _FUTURE
        )

    def walk(self, wall: float) -> Iterator[list[bytes]]:
        """Look at all that is to be announced, and drop the rows of the rest; yield an empty list for each slice."""
        digest = self._pins_digest()
        self._walk = replace(self._walk, number=self._walk.number % (2**32 - 1) + 1)
        self.table.set_state(self._walk)
        for some in _slices(self._iter_wanted()):
            self.table.note((cid.multihash for cid in some if self._is_announced(cid)), self._walk.number)
            yield []
        for _count in self.table.drop_others(self._walk.number):
            yield []
        self._walk = WalkState(self._walk.number, wall, digest, self.strategy)
        self.table.set_state(self._walk)
        self._looked = digest

    def _iter_wanted(self) -> Iterator[Cid]:
        if self.strategy is Strategy.ALL:
            yield from self._blocks.iter_cids()
            return
        pins = list(self._pins.iter_pins())
        yield from (pin.cid for pin in pins)
        if self.strategy is Strategy.PINNED:
            yield from self._readable_closure(pin.cid for pin in pins if pin.mode is PinMode.RECURSIVE)

    def _readable_closure(self, roots: Iterable[Cid]) -> Iterator[Cid]:
        """Yield what `roots` reach, as a rule each once; below a block that can't be read nothing is found."""
        roots = list(roots)
        try:
            yield from iter_closure(self._blocks, roots)
        except IpvcsError:  # `repo verify` tells about damage; here, what is not below it shall be found all the same
            for root in roots:
                with suppress(IpvcsError):
                    yield from iter_closure(self._blocks, [root])

    def _is_announced(self, cid: Cid) -> bool:
        """Tell whether others may ask us for `cid`: an identity CID needs nobody, and what is not here is no offer."""
        return not cid.is_identity and len(cid.multihash) <= MAX_KEY and self._blocks.has(cid)

    def _pins_digest(self) -> bytes:
        """Return what tells apart two states of the pins, and two strategies."""
        digest = hashlib.sha256(self.strategy.encode())
        with self._datastore.read() as txn, txn.cursor(db=self._datastore.pins) as cursor:
            for key, row in cursor:
                digest.update(struct.pack(">HH", len(key), len(row)))
                digest.update(key)
                digest.update(row)
        return digest.digest()


def _is_due(last: int, wall: float, interval: float) -> bool:
    return last == 0 or (interval > 0 and not wall - interval < last <= wall + _FUTURE)


def _slices(cids: Iterator[Cid]) -> Iterator[list[Cid]]:
    """Yield `cids` in lists that take not too long to make, none of them empty."""
    for first in cids:
        some = [first]
        end = time.monotonic() + _SLICE_SECONDS
        while len(some) < _SLICE and time.monotonic() < end and (cid := next(cids, None)) is not None:
            some.append(cid)
        yield some
