"""The rules of routing's namespace `/ipns/`: what may be stored under a name's key, and which of several is best.

Spec: https://specs.ipfs.tech/ipns/ipns-record/#routing-record and #record-verification
"""

from collections.abc import Sequence
from typing import Final

from ipvcs.errors import DecodeError
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.record import InvalidRecordError, IpnsRecord
from ipvcs.node.routing.interface import InvalidValueError

PREFIX: Final = b"/ipns/"


def routing_key(name: PeerId) -> bytes:
    """Return the key under which the records of `name` lie: the name's binary form, not its text."""
    return PREFIX + name.raw


def name_of_key(key: bytes) -> PeerId:
    """Return the name whose records lie under `key`. Raises InvalidValueError: it is no such key."""
    if not key.startswith(PREFIX):
        raise InvalidValueError(f"key {key[:80]!r} is not in the namespace '/ipns/'")
    try:
        return PeerId.decode(key[len(PREFIX) :])
    except DecodeError as exc:
        raise InvalidValueError(f"key {key[:80]!r} names nobody: {exc}") from exc


class IpnsValidator:
    """Routing's `Validator` for `/ipns/`."""

    def validate(self, key: bytes, value: bytes, now: float) -> None:
        """See `Validator`."""
        name = name_of_key(key)
        try:
            record = IpnsRecord.decode(value)
            record.verify(name)
            record.check_validity(now)
        except InvalidRecordError as exc:
            raise InvalidValueError(f"no valid record of '{name.to_base36()}': {exc}") from exc

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """See `Validator`: the highest sequence number, then the latest end, then the greatest bytes."""
        ranks = [IpnsRecord.decode(value).rank for value in values]
        return ranks.index(max(ranks))
