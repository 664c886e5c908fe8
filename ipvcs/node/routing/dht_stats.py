"""A DHT's routing table as people look at it."""

from collections.abc import Sequence
from dataclasses import dataclass

from ipvcs.multiformats.peer_id import PeerId


@dataclass(frozen=True, slots=True)
class TablePeer:
    """A peer in a routing table. Times are seconds since 1970, None for never."""

    peer_id: PeerId
    last_useful: float | None = None
    """When it last brought a lookup forward."""
    last_queried: float | None = None
    """When it last answered us."""


@dataclass(frozen=True, slots=True)
class TableBucket:
    """The peers at one distance, and when it was last looked for such: seconds since 1970, None for never."""

    peers: Sequence[TablePeer] = ()
    last_refresh: float | None = None


@dataclass(frozen=True, slots=True)
class DhtStats:
    """One DHT's routing table. A bucket's number in the list is that of the leading bits its peers share with us."""

    name: str
    """What the DHT is called, as "lan" or "wan"."""
    buckets: Sequence[TableBucket] = ()
