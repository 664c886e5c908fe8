"""The values that we keep for others and for ourselves: small records under keys, each valid by its namespace's rules.

Goals: a better value replaces a worse one and never the other way round; one that has expired, by our clock or by its
own word, is not handed out; no peer can make the table grow, or push everybody else's values out of it.
Non-goals: whether a key is near enough to us to keep it (whoever asks us decides by its own lookup), and the disk
(`store_service`).

To make room the oldest goes first, and our own last. A publisher that lives puts its value again every few hours, so
what is oldest is what nobody cares for any more.

Time is an argument: wall-clock seconds since 1970, since it is compared with what is in records and on disk.

Spec: https://specs.ipfs.tech/routing/kad-dht/#value-storage-and-retrieval
"""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ipvcs.errors import LimitError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.routing.interface import InvalidValueError, Validator

MAX_AGE: Final = 48 * 3600.0
"""Seconds since it was last put. The specification's; go-libp2p-kad-dht's MaxRecordAge."""
MAX_VALUES: Final = 10_000
MAX_VALUE: Final = 10 * 1024
"""Bytes: an IPNS record's bound, the largest value of any namespace."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""Of all keys and values. `MAX_VALUES` records as Kubo makes them have 5 MiB; only inflated ones reach this bound."""
MAX_KEY: Final = 256
"""Bytes: a namespace and a peer id have 50; LMDB takes keys of up to 511."""
MAX_PER_PEER: Final = 1000
"""Values that one peer may have put here and that nobody else put again."""


class ValueTooLargeError(InvalidValueError):
    """A key or its value is larger than any valid one."""

    def __init__(self, key: bytes, value: bytes) -> None:
        super().__init__(f"value of {len(value)} bytes under a key of {len(key)}: more than {MAX_VALUE} or {MAX_KEY}")
        self.key = key


class OutdatedValueError(InvalidValueError):
    """A better value is known under the key."""

    def __init__(self, key: bytes, better: bytes) -> None:
        super().__init__(f"a better value is known under key {key!r}")
        self.key = key
        self.better = better


class NoRoomForValueError(LimitError):
    """The table is full of what must not be forgotten to make room."""

    def __init__(self) -> None:
        super().__init__("no room for another value: all that is kept is our own")


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value as it is kept on disk."""

    value: bytes
    received: float
    """When it was last put, wall-clock seconds since 1970."""
    source: PeerId | None = None
    """Who put it last, None when that is not known, or we ourselves."""
    own: bool = False
    """Whether we put it there."""


class ValueStore:
    """The table. Every size is bounded."""

    def __init__(
        self,
        validator: Validator,
        *,
        max_values: int = MAX_VALUES,
        max_bytes: int = MAX_BYTES,
        max_per_peer: int = MAX_PER_PEER,
    ) -> None:
        self._validator = validator
        self._max_values = max_values
        self._max_bytes = max_bytes
        self._max_per_peer = max_per_peer
        # In both, the one that was put longest ago comes first.
        self._others: OrderedDict[bytes, StoredValue] = OrderedDict()
        self._own: OrderedDict[bytes, StoredValue] = OrderedDict()
        self._bytes = 0
        self._per_peer: Counter[PeerId] = Counter()
        self._unsaved: set[bytes] = set()

    def __len__(self) -> int:
        """Return the number of values in the table, some perhaps expired."""
        return len(self._others) + len(self._own)

    def try_get(self, key: bytes, now: float) -> bytes | None:
        """Return the value under `key`; None when there is none that is valid at `now` and was put in the last 48 h."""
        if (stored := self._find(key)) is None:
            return None
        if not self._is_live(key, stored, now):
            self._drop(key)
            return None
        return stored.value

    def put(self, key: bytes, value: bytes, now: float, *, source: PeerId | None = None, own: bool = False) -> None:
        """Keep `value`, or keep it for longer if it is there already.

        Args:
            key: the whole key, namespace included.
            value: checked here, whoever checked it before.
            now: wall-clock seconds since 1970.
            source: the peer that sent it, if it is known; we keep a bounded number of each.
            own: it is ours: no stranger's value displaces it.

        Raises:
            InvalidValueError: it is not valid. OutdatedValueError: a better one is here, which stays.
            NoRoomForValueError: the table is full of our own.
        """
        if len(key) > MAX_KEY or len(value) > MAX_VALUE:
            raise ValueTooLargeError(key, value)
        self._validator.validate(key, value, now)
        stored = self._find(key)
        if stored is not None and self._is_live(key, stored, now):
            if value != stored.value and self._validator.select(key, (stored.value, value)) == 0:
                raise OutdatedValueError(key, stored.value)
            own = own or stored.own  # an echo of our own value stays ours
        self._keep(key, StoredValue(value, now, source, own))

    def drop_expired(self, now: float) -> None:
        """Drop what was put too long ago. Now and then is enough: reads look at the time anyway."""
        for table in (self._others, self._own):
            while table and not _is_recent(next(iter(table.values())), now):
                self._drop(next(iter(table)))

    # For the disk

    def take_unsaved(self) -> dict[bytes, StoredValue | None]:
        """Return what changed since the last call, by key; None: it is gone."""
        unsaved, self._unsaved = self._unsaved, set()
        return {key: self._find(key) for key in unsaved}

    def mark_unsaved(self, keys: Iterable[bytes]) -> None:
        """Let `take_unsaved` return these again: saving them failed."""
        self._unsaved.update(key for key in keys if self._find(key) is not None)  # else it grows on a full disk

    def restore(self, key: bytes, stored: StoredValue, now: float) -> None:
        """Take back what `take_unsaved` returned, in an earlier run; those put longest ago come first.

        It is held against the rules when it is asked for: to check thousands of signatures would delay the start.
        """
        if len(key) > MAX_KEY or len(stored.value) > MAX_VALUE or not _is_recent(stored, now):
            self._unsaved.add(key)
            return
        received = min(stored.received, now)  # a clock that was wrong makes nothing last longer
        unsaved = key in self._unsaved
        try:
            self._keep(key, StoredValue(stored.value, received, stored.source, stored.own))
        except NoRoomForValueError:
            self._unsaved.add(key)
        else:
            if not unsaved:
                self._unsaved.discard(key)

    # Inside

    def _find(self, key: bytes) -> StoredValue | None:
        return self._own.get(key) or self._others.get(key)

    def _is_live(self, key: bytes, stored: StoredValue, now: float) -> bool:
        if not _is_recent(stored, now):
            return False
        try:
            self._validator.validate(key, stored.value, now)
        except InvalidValueError:
            return False
        return True

    def _keep(self, key: bytes, stored: StoredValue) -> None:
        self._drop(key)
        size = len(key) + len(stored.value)
        if stored.source is not None and not stored.own and self._per_peer[stored.source] >= self._max_per_peer:
            self._drop(next(each for each, other in self._others.items() if other.source == stored.source))
        while len(self) >= self._max_values or self._bytes + size > self._max_bytes:
            if not self._others and not (stored.own and self._own):
                raise NoRoomForValueError
            self._drop(next(iter(self._others or self._own)))
        (self._own if stored.own else self._others)[key] = stored
        self._bytes += size
        if stored.source is not None and not stored.own:
            self._per_peer[stored.source] += 1
        self._unsaved.add(key)

    def _drop(self, key: bytes) -> None:
        stored = self._own.pop(key, None) or self._others.pop(key, None)
        if stored is None:
            return
        self._bytes -= len(key) + len(stored.value)
        self._unsaved.add(key)
        if stored.source is not None and not stored.own:
            self._per_peer[stored.source] -= 1
            if not self._per_peer[stored.source]:
                del self._per_peer[stored.source]


def _is_recent(stored: StoredValue, now: float) -> bool:
    return stored.received + MAX_AGE > now
