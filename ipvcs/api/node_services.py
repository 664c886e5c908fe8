"""What the API needs of a node: the few services behind its commands, as interfaces, so that a test can fake them."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network.interface import Connection, Host, PeerInfo
from ipvcs.node.network.peer_facts import PeerFacts
from ipvcs.node.network.ping import PingResult
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

    def known_addresses(self, peer_id: PeerId | None = None) -> Mapping[PeerId, Sequence[Multiaddr]]:
        """The address book: one peer's addresses, or everybody's; without `/p2p`."""
