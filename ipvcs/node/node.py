"""The composition root: builds a node out of its services and runs it as long as its `async with` block.

Everything above the network takes a `Host` and knows nothing of what is wired here.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio

from ipvcs.errors import UsageError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_address import parse_peer_address
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import ArgumentError, parse_typed
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.network.address_service import AddressService
from ipvcs.node.network.addresses import dial_order, expand_wildcard
from ipvcs.node.network.bootstrap import Bootstrapper
from ipvcs.node.network.connection_manager import ConnectionManager
from ipvcs.node.network.dns_client import DnsClient
from ipvcs.node.network.gating import Gate
from ipvcs.node.network.identify import IdentifyService
from ipvcs.node.network.interface import Connection
from ipvcs.node.network.interfaces import interface_ips
from ipvcs.node.network.limits import Resources
from ipvcs.node.network.observed import ObservedAddresses
from ipvcs.node.network.perf import PerfService
from ipvcs.node.network.ping import PingService
from ipvcs.node.network.resolver import AddressResolver
from ipvcs.node.network.stack import MPLEX, NOISE, TLS, YAMUX, StackSettings, make_tcp_transport
from ipvcs.node.network.swarm import Swarm
from ipvcs.node.network.trimmer import Trimmer
from ipvcs.storage.config import Config
from ipvcs.storage.home import Home

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A running node. Use `open_node`."""

    private_key: PrivateKey
    config: Config
    swarm: Swarm
    addresses: AddressService
    identify: IdentifyService
    ping: PingService
    connections: ConnectionManager

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""
        return self.private_key.peer_id

    def listen_addresses(self) -> tuple[Multiaddr, ...]:
        """Where we listen for peers: ports resolved, a wildcard once for each interface."""
        return self.swarm.interface_addresses()

    def known_addresses(self, peer_id: PeerId | None = None) -> Mapping[PeerId, Sequence[Multiaddr]]:
        """Return the address book: one peer's addresses, or everybody's; without `/p2p`."""
        return self.addresses.known(peer_id)


@asynccontextmanager
async def open_node(home: Home, private_key: PrivateKey, listen: Sequence[str]) -> AsyncGenerator[Node]:
    """Run the node of `home` within the block, listening on the multiaddrs `listen`.

    Raises:
        UsageError: a setting does not make sense; it is named.
        ListenError: none of `listen` can be bound.
    """
    config = home.config
    listen_addrs = [_parse(partial(parse_typed, Multiaddr.parse), text, "Addresses.Swarm") for text in listen]
    bootstrap = [_parse(parse_peer_address, text, "Bootstrap") for text in config.get("Bootstrap")]
    resources = Resources()
    gate = Gate.parse(
        deny=[*config.get("Swarm.AddrFilters"), *config.get("Swarm.Deny")], allow=config.get("Swarm.Allow")
    )
    transport = make_tcp_transport(private_key, _stack_settings(config), resources, gate.why_not_accept)
    observed = ObservedAddresses()
    async with AddressService.open(home.datastore) as addresses:
        swarm = Swarm(
            private_key.peer_id,
            [transport],
            resources,
            addresses,
            AddressResolver(DnsClient(config.get("DNS.Nameservers"))),
            gater=gate,
            make_room=lambda: trimmer.make_room(),
            expand=lambda addr: expand_wildcard(addr, interface_ips()),
            order=lambda addrs: dial_order(addrs, interface_ips()),
        )
        trimmer = Trimmer(_connection_manager(config), swarm.connections)
        swarm.observed = lambda: observed.confirmed(anyio.current_time())
        async with swarm, _identify(swarm, private_key, addresses, observed) as identify:
            swarm.subscribe(addresses)
            swarm.watch(identify.announce)
            node = Node(
                private_key=private_key,
                config=config,
                swarm=swarm,
                addresses=addresses,
                identify=identify,
                ping=PingService(swarm),
                connections=trimmer.manager,
            )
            if config.get("Swarm.Perf"):
                PerfService(swarm)
            await swarm.listen(listen_addrs, any_port=True)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(trimmer.run)
                tasks.start_soon(Bootstrapper(swarm, bootstrap).run)
                yield node
                tasks.cancel_scope.cancel()


def _identify(
    swarm: Swarm, private_key: PrivateKey, addresses: AddressService, observed: ObservedAddresses
) -> IdentifyService:
    def on_observed(connection: Connection, addr: Multiaddr) -> None:
        now = anyio.current_time()
        before = observed.confirmed(now)
        observed.record(
            addr,
            observer=connection.remote_peer,
            remote_addr=connection.remote_addr,
            local_addr=connection.local_addr,
            direction=connection.direction,
            listen_addrs=swarm.listen_addresses(),
            now=now,
        )
        if observed.confirmed(now) != before:
            identify.announce()

    identify = IdentifyService(swarm, private_key, book=addresses.book, on_observed=on_observed)
    return identify


def _connection_manager(config: Config) -> ConnectionManager:
    section = "Swarm.ConnMgr"
    return ConnectionManager(
        low_water=config.get(f"{section}.LowWater"),
        high_water=config.get(f"{section}.HighWater"),
        grace_period=config.get(f"{section}.GracePeriod"),
    )


def _stack_settings(config: Config) -> StackSettings:
    return StackSettings(
        security={name: config.get(f"Swarm.Transports.Security.{name}") for name in (NOISE, TLS)},
        muxers={name: config.get(f"Swarm.Transports.Multiplexers.{name}") for name in (YAMUX, MPLEX)},
    )


def _parse(parse: Callable[[str], T], text: str, key: str) -> T:
    try:
        return parse(text)
    except ArgumentError as exc:
        raise UsageError(str(exc), hint=f"mend it with `ipvcs config {key}`") from exc
