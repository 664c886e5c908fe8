"""What may follow what under a name of ours: sequence numbers, compare-and-swap, renewal.

The number goes up by one when the value changes and stays when the same value is published again, whose record then
lives longer. What is known, from the network or from another process, is never undercut.
"""

from dataclasses import replace
from typing import Final, TypeAlias

from ipvcs.errors import ConflictError, LimitError, UsageError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.naming.name_table import KnownName, OwnName
from ipvcs.node.naming.record import MAX_SEQUENCE, MAX_TTL_NS, IpnsRecord
from ipvcs.node.naming.validity import NS

State: TypeAlias = tuple[int, str]
"""Sequence number and value of a name, as a writer read them."""
UNPUBLISHED: Final[State] = (-1, "")
"""The state of a name that has no record."""
MAX_LIFETIME: Final = 100 * 365.25 * 24 * 3600.0
"""Seconds: a record that outlives everybody who could withdraw it is a slip of the pen."""


class NameChangedError(ConflictError):
    """A name is not in the state that its writer expected: somebody else published meanwhile."""

    def __init__(self, name: PeerId, expected: State, found: State) -> None:
        super().__init__(
            f"'{name.to_base36()}' has changed: {_shown(found)} instead of {_shown(expected)}",
            hint="look at what is there now, and publish on top of it",
        )
        self.name = name
        self.expected = expected
        self.found = found


class SequenceError(UsageError):
    """A sequence number that was asked for can't follow the one that is there."""

    def __init__(self, name: PeerId, asked: int, present: int) -> None:
        super().__init__(
            f"cannot publish '{name.to_base36()}' with sequence {asked}: it has {present} already",
            hint=f"use a number above {present}, or leave it out",
        )
        self.name = name
        self.asked = asked
        self.present = present


class SequenceExhaustedError(LimitError):
    """A name has the highest sequence number there is: nothing can follow."""

    def __init__(self, name: PeerId) -> None:
        super().__init__(f"'{name.to_base36()}' has the last sequence number: it can't change any more")
        self.name = name


class LifetimeError(UsageError):
    """A lifetime or TTL that a record can't have."""


def check_times(lifetime: float, ttl: float) -> None:
    """Raise LifetimeError unless a record can be valid for `lifetime` and be cached for `ttl`, both seconds."""
    if not 0 < lifetime <= MAX_LIFETIME:
        raise LifetimeError(f"a lifetime of {lifetime:g} s is not within 0 to 100 years", hint="the usual one is 48h")
    if not 0 <= ttl * NS <= MAX_TTL_NS:
        raise LifetimeError(f"a TTL of {ttl:g} s is not within 0 to 292 years", hint="the usual one is 5m")


def state_of(known: KnownName | None) -> State:
    """Return the state that a name is in."""
    if known is None:
        return UNPUBLISHED
    best = known.best
    return best.sequence, best.value.decode("utf-8", "surrogateescape")


def merge(stored: KnownName | None, seen: KnownName | None) -> KnownName | None:
    """Return what is known: our own publishing as it is on the disk, and what this process has seen of the network."""
    if stored is None or seen is None:
        return stored or seen
    return replace(seen, own=stored.own)


def succeed(
    key: PrivateKey,
    known: KnownName | None,
    path: str,
    *,
    lifetime: float,
    ttl: float,
    now: float,
    sequence: int | None = None,
    expect: State | None = None,
) -> OwnName:
    """Return what is to be published under the name of `key` so that it points at `path`.

    Args:
        key: the name's.
        known: what is known of the name.
        path: a path in its canonical form.
        lifetime: seconds for which the record is valid; `check_times` took it.
        ttl: seconds for which it may be cached; `check_times` took it.
        now: seconds since 1970.
        sequence: the number to use; None: the next one if something changes.
        expect: the state that the caller read; None: whatever is there.

    Raises:
        NameChangedError: `expect` is not the state.
        SequenceError: `sequence` is taken, or below one that is.
        SequenceExhaustedError: there is no next number.
        RecordTooLargeError, FarFutureError: as `IpnsRecord.sign`.
    """
    name = key.peer_id
    state = state_of(known)
    if expect is not None and expect != state:
        raise NameChangedError(name, expect, state)
    expires_ns = int((now + lifetime) * NS)
    # Of two records with one number the later end wins: to shorten a life, or to end a fork, takes a new number.
    is_copy = known is not None and path == state[1] and expires_ns > known.best.expires_ns and known.open_fork is None
    if sequence is None:
        sequence = state[0] + (0 if is_copy else 1)
    elif sequence < state[0] or (sequence == state[0] and not is_copy):
        raise SequenceError(name, sequence, state[0])
    if sequence > MAX_SEQUENCE:
        raise SequenceExhaustedError(name)
    record = IpnsRecord.sign(
        key,
        path.encode("utf-8", "surrogateescape"),
        sequence=sequence,
        expires_ns=expires_ns,
        ttl_ns=int(ttl * NS),
    )
    own = None if known is None else known.own
    announced = own.announced if own is not None and own.record.sequence == sequence else None
    return OwnName(record, lifetime, announced)


def renew(key: PrivateKey, own: OwnName, now: float) -> OwnName:
    """Return `own` with a record that is valid for another lifetime from `now` on, and otherwise the same.

    If the clock went back, so that it would end earlier, `own` is returned as it is.
    """
    before = own.record
    expires_ns = int((now + own.lifetime) * NS)
    if expires_ns <= before.expires_ns:
        return own
    record = IpnsRecord.sign(
        key, before.value, sequence=before.sequence, expires_ns=expires_ns, ttl_ns=min(before.ttl_ns, MAX_TTL_NS)
    )
    return replace(own, record=record)


def _shown(state: State) -> str:
    return "nothing" if state == UNPUBLISHED else f"'{state[1][:120]}' with sequence {state[0]}"
