"""What the API needs of a node: the few services behind its commands, as interfaces, so that a test can fake them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.fetch import FetchLimits, FetchProgress, OnProgress
from ipvcs.node.exchange.ledger import Ledger
from ipvcs.node.exchange.stat import BitswapStat
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.naming.service import NameService
from ipvcs.node.network.interface import Connection, Host, PeerInfo
from ipvcs.node.network.peer_facts import PeerFacts
from ipvcs.node.network.ping import PingResult
from ipvcs.node.routing.dht_stats import DhtStats
from ipvcs.node.routing.interface import Routing
from ipvcs.node.routing.provider_service import ProvideStats
from ipvcs.storage.config import Config


class Network(Host, Protocol):
    """The swarm, as far as its owner looks into it."""

    def interface_addresses(self) -> Sequence[Multiaddr]:
        """Where we listen, a wildcard once for each interface, without `/p2p`."""

    async def connect(self, peer: PeerInfo, *, force: bool = False, timeout: float | None = None) -> Connection:
        """As `Host.connect`, within `timeout` seconds (None: as configured); `force`: even if it failed just now."""

    async def disconnect(self, peer_id: PeerId) -> None:
        """End every connection to `peer_id`, saying goodbye."""


class Identify(Protocol):
    """The identify service."""

    def facts(self, peer_id: PeerId) -> PeerFacts | None:
        """Return what `peer_id` says of itself, None when it is not connected or has not said it yet."""

    async def wait_identified(self, connection: Connection, timeout: float = ...) -> PeerFacts:
        """Wait until the peer at the other end has said who it is.

        Raises:
            UnavailableError: it did not within `timeout` seconds.
        """


class Ping(Protocol):
    """The ping service."""

    def ping(
        self, peer_id: PeerId, *, count: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[PingResult]]:
        """Ping `peer_id` `count` times, a second apart: a context manager of the results as they come."""


class Bitswap(Protocol):
    """The exchange, for people to look at."""

    def ledger(self, peer_id: PeerId) -> Ledger:
        """Return what went to and fro between `peer_id` and us."""

    def wantlist(self, peer_id: PeerId | None = None) -> Sequence[Cid]:
        """Return what we want, or what `peer_id` wants of us."""

    def stat(self) -> BitswapStat:
        """Return what went to and fro since the start."""


class NodeServices(Protocol):
    """A running node."""

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""

    @property
    def private_key(self) -> PrivateKey:
        """The key that proves it."""

    @property
    def swarm(self) -> Network:
        """The connections."""

    @property
    def identify(self) -> Identify:
        """What peers say about themselves."""

    @property
    def ping(self) -> Ping:
        """Round trips."""

    @property
    def config(self) -> Config:
        """The home's settings."""

    @property
    def routing(self) -> Routing:
        """Where peers are, who has what, and values."""

    @property
    def bitswap(self) -> Bitswap:
        """What went to and fro."""

    @property
    def names(self) -> NameService:
        """Names, ours and others'."""

    def dht_stats(self) -> Sequence[DhtStats]:
        """Return the routing tables."""

    def provide_stats(self) -> Mapping[str, ProvideStats]:
        """Return what was announced, by the name of the router."""

    def has_block(self, cid: Cid) -> bool:
        """Tell whether the home has the block of `cid`."""

    async def fetch(
        self,
        roots: Sequence[Cid],
        *,
        recursive: bool,
        timeout: float,
        limits: FetchLimits,
        on_progress: OnProgress,
    ) -> FetchProgress:
        """Bring blocks into the home; see `fetch_dag`."""

    def known_addresses(self, peer_id: PeerId | None = None) -> Mapping[PeerId, Sequence[Multiaddr]]:
        """The address book: one peer's addresses, or everybody's; without `/p2p`."""
