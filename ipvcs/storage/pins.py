"""Pins: the roots that garbage collection keeps, each with a mode and maybe a name.

Only the root is stored. What a recursive pin reaches is found by walking when it is needed, so a pin costs nothing to
add or remove, however large the DAG.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import lmdb

from ipvcs.errors import ConflictError, NotFoundError
from ipvcs.multiformats.cid import Cid
from ipvcs.storage.datastore import Datastore

MAX_NAME: Final = 255
"""Bytes of a pin's name (Kubo's limit)."""


class PinMode(StrEnum):
    """What a pin keeps: the block alone, or all that it reaches."""

    DIRECT = "direct"
    RECURSIVE = "recursive"


@dataclass(frozen=True, slots=True)
class Pin:
    """One pin. `complete` tells whether all that it reaches was there when it was made."""

    cid: Cid
    mode: PinMode
    name: str = ""
    complete: bool = True


class NotPinnedError(NotFoundError):
    """The CID has no pin of its own."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"'{cid}' is not pinned or pinned indirectly", hint="`ipvcs pin ls --type=all` shows what is")
        self.cid = cid


class PinConflictError(ConflictError):
    """The CID is pinned in the other mode."""

    def __init__(self, cid: Cid, message: str, hint: str) -> None:
        super().__init__(f"'{cid}' {message}", hint=hint)
        self.cid = cid


class Pins:
    """The table of pins."""

    def __init__(self, datastore: Datastore) -> None:
        self._store = datastore

    def add(self, pins: Iterable[Pin]) -> None:
        """Set pins, all in one transaction, durable on return. A recursive pin replaces a direct one.

        The caller holds a write session in which it put or relied on every block the pins keep.

        Raises:
            PinConflictError: a direct pin for what is pinned recursively.
        """
        with self._store.write() as txn:
            for pin in pins:
                self._set(txn, pin)

    def try_get(self, cid: Cid) -> Pin | None:
        """Return the pin of `cid` itself, None when there is none."""
        with self._store.read() as txn:
            value = txn.get(cid.raw, db=self._store.pins)
        return _unpack(cid, value) if value is not None else None

    def get_many(self, cids: Iterable[Cid]) -> dict[Cid, Pin]:
        """Return the pins of those of `cids` that have one."""
        with self._store.read() as txn:
            values = {cid: txn.get(cid.raw, db=self._store.pins) for cid in cids}
        return {cid: _unpack(cid, value) for cid, value in values.items() if value is not None}

    def get(self, cid: Cid) -> Pin:
        """Return the pin of `cid` itself. Raises NotPinnedError."""
        if (pin := self.try_get(cid)) is None:
            raise NotPinnedError(cid)
        return pin

    def remove(self, cids: Iterable[Cid], *, recursive: bool = True) -> list[Pin]:
        """Remove pins, all in one transaction or none; return what they were.

        Raises:
            NotPinnedError: one of them has no pin.
            PinConflictError: `recursive` is False and one is a recursive pin.
        """
        removed: list[Pin] = []
        with self._store.write() as txn:
            for cid in cids:
                value = txn.pop(cid.raw, db=self._store.pins)
                if value is None:
                    raise NotPinnedError(cid)
                pin = _unpack(cid, value)
                if pin.mode is PinMode.RECURSIVE and not recursive:
                    raise PinConflictError(cid, "is pinned recursively", "leave out `--recursive=false`")
                removed.append(pin)
        return removed

    def update(self, old: Cid, new: Pin, *, unpin: bool = True) -> None:
        """Pin `new`, which takes `old`'s name if it has none, and drop `old` unless `unpin` is False, in one step.

        Raises:
            NotPinnedError: `old` is not pinned recursively.
        """
        with self._store.write() as txn:
            value = txn.get(old.raw, db=self._store.pins)
            if value is None or (before := _unpack(old, value)).mode is not PinMode.RECURSIVE:
                raise NotPinnedError(old)
            self._set(txn, Pin(new.cid, new.mode, new.name or before.name, new.complete))
            if unpin and old != new.cid:
                txn.delete(old.raw, db=self._store.pins)

    def iter_pins(self) -> Iterator[Pin]:
        """Yield every pin there is now, in CID byte order."""
        with self._store.read() as txn, txn.cursor(db=self._store.pins) as cursor:
            pins = [_unpack(Cid(bytes(key)), value) for key, value in cursor]
        yield from pins

    def _set(self, txn: lmdb.Transaction, pin: Pin) -> None:
        value = txn.get(pin.cid.raw, db=self._store.pins)
        if value is not None and pin.mode is PinMode.DIRECT and _unpack(pin.cid, value).mode is PinMode.RECURSIVE:
            raise PinConflictError(pin.cid, "already pinned recursively", "a recursive pin keeps the block too")
        if value is not None and not pin.name:  # to pin again what has a name does not take the name away
            pin = replace(pin, name=_unpack(pin.cid, value).name)
        txn.put(pin.cid.raw, _pack(pin), db=self._store.pins)


def _pack(pin: Pin) -> bytes:
    return json.dumps({"mode": pin.mode, "name": pin.name, "complete": pin.complete}).encode()


def _unpack(cid: Cid, value: bytes | memoryview) -> Pin:
    fields = json.loads(bytes(value))
    return Pin(cid, PinMode(fields["mode"]), fields["name"], fields["complete"])
