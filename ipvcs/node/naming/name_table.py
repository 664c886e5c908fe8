"""What is known of names: the best record of each that was ever seen, so that no one is led back to an older one.

A record is better with a higher sequence number. Two of one name with the same number and different values are a
*fork*: somebody signed twice. The one that was seen first stays the answer, the other is kept for the report, and only
a higher number or `forget` ends the matter. With the same number and value, the later validity is the better copy.
Under a name of *ours* it is the other way round: the later validity counts, since that is the one that the network
gives to others, and what we publish next has to build on it.

Names of *others* are a cache with a memory: bounded, the least recently confirmed go first. Names that we publish are
never forgotten: what we signed last decides what the next sequence number is.

Instants are seconds since 1970: what is known outlives the process (`name_store.py`).
"""

from collections import OrderedDict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from ipvcs.errors import ConflictError, IpvcsError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.record import IpnsRecord
from ipvcs.node.naming.validity import NS

MAX_NAMES: Final = 10_000
"""Names of others. Whoever may have names resolved decides which, so there is a bound."""
MAX_BYTES: Final = 16 * 1024 * 1024
"""Bytes of records of others: 10,000 usual ones have 4 MB, as many of the largest that are allowed 100 MB."""
MAX_TTL: Final = 3600.0
"""Seconds that a record counts as fresh at most; its owner may say a century."""


class StaleRecordError(ConflictError):
    """All that the network has of a name is older than what we have seen: somebody holds the newer record back."""

    def __init__(self, name: PeerId, found: int, known: int) -> None:
        super().__init__(
            f"the network has only an old record of '{name.to_base36()}': "
            f"sequence {found}, while {known} was seen before",
            hint="its publisher may be offline, or someone serves an old version; if the name was reset, "
            f"`ipvcs name forget {name.to_base36()}`",
        )
        self.name = name
        self.found = found
        self.known = known


class ForkError(ConflictError):
    """A name has two records with one sequence number: its key is used in two places, or somebody else has it."""

    def __init__(self, name: PeerId, kept: IpnsRecord, other: IpnsRecord) -> None:
        super().__init__(
            f"'{name.to_base36()}' was published twice with sequence {kept.sequence}: "
            f"as {_shown(kept.value)}, which we keep to, and as {_shown(other.value)}",
            hint="its owner ends that by publishing again; "
            f"`ipvcs name forget {name.to_base36()}` forgets what was seen",
        )
        self.name = name
        self.kept = kept
        self.other = other


class Verdict(Enum):
    """What a record is in the light of what was seen before."""

    NEWER = "newer"
    SAME = "same"
    OLDER = "older"
    FORK = "fork"


@dataclass(frozen=True, slots=True)
class OwnName:
    """What we publish under a name of ours."""

    record: IpnsRecord
    lifetime: float
    """Seconds that each renewed record is valid."""
    announced: float | None = None
    """When a peer last took this record or an earlier copy of it; None: never."""


@dataclass(frozen=True, slots=True)
class KnownName:
    """All that is known of one name. At least one of `seen` and `own` is there."""

    seen: IpnsRecord | None = None
    """The best record that the network gave."""
    confirmed: float = 0.0
    """When the network last gave it."""
    fork: tuple[IpnsRecord, IpnsRecord] | None = None
    """The last fork that was seen: which one was kept, and the other."""
    own: OwnName | None = None

    @property
    def best(self) -> IpnsRecord:
        """The record that counts: of ours and the network's the one with the higher sequence number. Of equals that
        lead elsewhere it is the one with the later validity, of copies ours.
        """
        own, seen = None if self.own is None else self.own.record, self.seen
        if own is not None and (seen is None or seen.rank <= own.rank or _is_copy(seen, own)):
            return own
        assert seen is not None, "a known name has a record"
        return seen

    @property
    def is_ours(self) -> bool:
        """Whether what we published is the best record."""
        return self.own is not None and self.best is self.own.record

    @property
    def open_fork(self) -> tuple[IpnsRecord, IpnsRecord] | None:
        """The fork, if no higher sequence number has ended it."""
        return self.fork if self.fork is not None and self.fork[0].sequence == self.best.sequence else None

    @property
    def size(self) -> int:
        """Bytes of records."""
        records = (self.seen, *(self.fork or ()))
        return sum(len(record.raw) for record in records if record is not None)

    def is_fresh(self, now: float) -> bool:
        """Tell whether the network need not be asked again yet: `ttl`, `MAX_TTL` and the validity allow it."""
        if self.seen is None or self.seen is not self.best or not self.seen.is_valid_at(now):
            return False
        # Confirmed in the future: the clock was set back, and nothing is known of how old it is.
        return 0 <= now - self.confirmed < ttl_of(self.seen)

    def observe(self, record: IpnsRecord, now: float) -> "tuple[Verdict, KnownName]":
        """Return what a verified `record` that the network gave at `now` is, and what is known with it."""
        best = self.best
        if record.sequence < best.sequence:
            return Verdict.OLDER, self
        if record.sequence == best.sequence and record.value != best.value:
            if best is self.seen and not best.is_valid_at(now) and record.is_valid_at(now):
                # What we kept to can't be used by anybody any more.
                return Verdict.NEWER, replace(self, seen=record, confirmed=now, fork=(record, best))
            if self.is_ours and record.rank > best.rank:
                return Verdict.FORK, replace(self, seen=record, confirmed=now, fork=(record, best))
            return Verdict.FORK, replace(self, fork=self.open_fork or (best, record))
        known = self.seen
        if known is not None and known.sequence == record.sequence and known.value == record.value:
            better = max(known, record, key=lambda each: each.rank)
            return Verdict.SAME, replace(self, seen=better, confirmed=now)
        verdict = Verdict.NEWER if record.sequence > best.sequence else Verdict.SAME
        return verdict, replace(self, seen=record, confirmed=now)


@dataclass(slots=True)
class NameTable:
    """What is known of all names. It runs without a clock and remembers which rows the disk has not seen."""

    max_names: int = MAX_NAMES
    max_bytes: int = MAX_BYTES
    _own: dict[PeerId, KnownName] = field(default_factory=dict)
    _others: "OrderedDict[PeerId, KnownName]" = field(default_factory=OrderedDict)
    """The least recently confirmed first."""
    _bytes: int = 0
    _unsaved: set[PeerId] = field(default_factory=set)

    def try_get(self, name: PeerId) -> KnownName | None:
        """Return what is known of `name`, None if nothing is."""
        return self._own.get(name) or self._others.get(name)

    def own(self) -> dict[PeerId, OwnName]:
        """Return what we publish."""
        return {name: known.own for name, known in self._own.items() if known.own is not None}

    def forks(self) -> Iterator[ForkError]:
        """Yield every fork that was seen and not forgotten."""
        for name, known in (*self._own.items(), *self._others.items()):
            if known.fork is not None:
                yield ForkError(name, *known.fork)

    def observe(self, name: PeerId, record: IpnsRecord, now: float) -> Verdict:
        """Take note of a record that the network gave. It must be verified and valid at `now`."""
        known = self.try_get(name)
        if known is None:
            self._set(name, KnownName(record, now))
            return Verdict.NEWER
        verdict, changed = known.observe(record, now)
        if changed != known:
            self._set(name, changed)
        return verdict

    def set_own(self, name: PeerId, own: OwnName) -> None:
        """Take note of what we publish under `name`, which is on the disk already."""
        self._put(name, replace(self.try_get(name) or KnownName(), own=own))

    def withdraw(self, name: PeerId, before: OwnName | None, rival: IpnsRecord, now: float) -> None:
        """Take back a record of ours that nobody got, since `rival` was there first: what counts is that, and
        `before`, which the disk has again.
        """
        known = self.try_get(name) or KnownName()
        self._drop(name)
        if known.seen is not None or before is not None:
            # A fork there was between the two; ours is as if it had never been.
            self._put(name, replace(known, own=before, fork=None))
        self.observe(name, rival, now)

    def forget(self, name: PeerId) -> bool:
        """Forget what the network said of `name`, and tell whether it said anything. What we published stays."""
        known = self.try_get(name)
        if known is None or (known.seen is None and known.fork is None):
            return False
        if known.own is not None:
            self._put(name, KnownName(own=known.own))
        else:
            self._drop(name)
        self._unsaved.add(name)
        return True

    def restore(self, name: PeerId, known: KnownName) -> None:
        """Put in what the disk has. The order of calls is that of age: least recently confirmed first."""
        self._put(name, known)

    def take_unsaved(self) -> dict[PeerId, KnownName | None]:
        """Return what changed since the last call; None: to be forgotten on the disk too."""
        changed = {name: self.try_get(name) for name in self._unsaved}
        self._unsaved.clear()
        return changed

    def mark_unsaved(self, names: Collection[PeerId]) -> None:
        """Give back what could not be written."""
        self._unsaved.update(names)

    def _set(self, name: PeerId, known: KnownName) -> None:
        self._put(name, known)
        self._unsaved.add(name)

    def _put(self, name: PeerId, known: KnownName) -> None:
        self._drop(name)
        if known.own is not None:
            self._own[name] = known
            return
        self._others[name] = known
        self._bytes += known.size
        while len(self._others) > self.max_names or (self._bytes > self.max_bytes and len(self._others) > 1):
            oldest = next(iter(self._others))
            self._drop(oldest)
            self._unsaved.add(oldest)

    def _drop(self, name: PeerId) -> None:
        self._own.pop(name, None)
        if (known := self._others.pop(name, None)) is not None:
            self._bytes -= known.size
        assert self._bytes >= 0


def ttl_of(record: IpnsRecord) -> float:
    """Return for how many seconds `record` may be cached."""
    return min(record.ttl_ns / NS, MAX_TTL)


def conflicts(name: PeerId, known: KnownName) -> tuple[IpvcsError, ...]:
    """Return what whoever is given the best record of `name` should be told."""
    fork = known.open_fork
    return () if fork is None else (ForkError(name, *fork),)


def _is_copy(one: IpnsRecord, other: IpnsRecord) -> bool:
    return (one.sequence, one.value) == (other.sequence, other.value)


def _shown(value: bytes) -> str:
    return f"'{value[:120].decode('utf-8', 'replace')}'"
