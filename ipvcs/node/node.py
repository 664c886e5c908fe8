"""The composition root: builds a node out of its services and runs it as long as its `async with` block.

Everything above the network takes a `Host` and knows nothing of what is wired here.
"""

import random
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import anyio

from ipvcs.errors import UsageError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_address import parse_peer_address
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.multiformats.typed import ArgumentError, parse_typed
from ipvcs.node.exchange.engine import Engine
from ipvcs.node.exchange.fetch import NO_LIMITS, FetchLimits, FetchProgress, OnProgress, fetch_dag
from ipvcs.node.exchange.fetch_session import Providers
from ipvcs.node.exchange.ledger_service import LedgerService
from ipvcs.node.exchange.local_blocks import LocalBlocks
from ipvcs.node.exchange.service import BitswapService
from ipvcs.node.exchange.strategy import Strategy as BitswapStrategy
from ipvcs.node.exchange.strategy import make_strategy
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.node.identity.keystore import Keystore
from ipvcs.node.naming.own_keys import KeystoreKeys
from ipvcs.node.naming.service import NameService
from ipvcs.node.naming.validator import IpnsValidator
from ipvcs.node.network.address_book import Source
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
from ipvcs.node.network.peer_facts import PeerFacts
from ipvcs.node.network.perf import PerfService
from ipvcs.node.network.ping import PingService
from ipvcs.node.network.resolver import AddressResolver
from ipvcs.node.network.stack import MPLEX, NOISE, TLS, YAMUX, StackSettings, make_tcp_transport
from ipvcs.node.network.swarm import Swarm
from ipvcs.node.network.trimmer import Trimmer
from ipvcs.node.routing.composed import ComposedRouting
from ipvcs.node.routing.dht_stats import DhtStats
from ipvcs.node.routing.interface import Routing
from ipvcs.node.routing.kad_dht import KadDht
from ipvcs.node.routing.kad_profile import LAN, WAN
from ipvcs.node.routing.offline import OfflineRouting
from ipvcs.node.routing.provider_service import ProviderService, ProvideStats
from ipvcs.node.routing.reprovider import Strategy
from ipvcs.node.routing.store_service import StoreService
from ipvcs.node.routing.validators import PublicKeyValidator, Validators
from ipvcs.storage.config import ROUTING_TYPES, Config
from ipvcs.storage.home import Home

_T = TypeVar("_T")


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
    dhts: Mapping[str, KadDht]
    routing: Routing
    announcers: Mapping[str, ProviderService]
    local: LocalBlocks
    bitswap: BitswapService
    names: NameService

    @property
    def peer_id(self) -> PeerId:
        """Who we are."""
        return self.private_key.peer_id

    def listen_addresses(self) -> tuple[Multiaddr, ...]:
        """Where we listen for peers: ports resolved, a wildcard once for each interface."""
        return self.swarm.interface_addresses()

    def has_reason_to_stay(self) -> bool:
        """Whether a name of ours would die without us."""
        return self.names.has_published

    def known_addresses(self, peer_id: PeerId | None = None) -> Mapping[PeerId, Sequence[Multiaddr]]:
        """Return the address book: one peer's addresses, or everybody's; without `/p2p`."""
        return self.addresses.known(peer_id)

    def dht_stats(self) -> Sequence[DhtStats]:
        """Return the routing tables."""
        return [dht.stats(name) for name, dht in self.dhts.items()]

    def provide_stats(self) -> Mapping[str, ProvideStats]:
        """Return what was announced, by the name of the router."""
        return {name: announcer.stats() for name, announcer in self.announcers.items()}

    def has_block(self, cid: Cid) -> bool:
        """Tell whether the home has the block of `cid`."""
        return self.local.store.has(cid)

    async def fetch(
        self,
        roots: Sequence[Cid],
        *,
        recursive: bool,
        timeout: float,
        limits: FetchLimits = NO_LIMITS,
        on_progress: OnProgress,
    ) -> FetchProgress:
        """Bring blocks into the home; see `fetch_dag`."""
        return await fetch_dag(
            self.bitswap,
            self.local,
            roots,
            recursive=recursive,
            timeout=timeout,
            limits=limits,
            on_progress=on_progress,
        )


@asynccontextmanager
async def open_node(
    home: Home, private_key: PrivateKey, listen: Sequence[str], *, keystore: Keystore | None = None
) -> AsyncGenerator[Node]:
    """Run the node of `home` within the block, listening on the multiaddrs `listen`.

    `keystore` has the keys, beside the node's own, that names are published with; it must not ask at a terminal.

    Raises:
        UsageError: a setting does not make sense; it is named.
        ListenError: none of `listen` can be bound.
    """
    config = home.config
    listen_addrs = [_parse(Multiaddr.parse, text, "Addresses.Swarm") for text in listen]
    bootstrap = [_parse(parse_peer_address, text, "Bootstrap") for text in config.get("Bootstrap")]
    kind = _routing_type(config)
    strategy = make_strategy(config.get("Bitswap.Strategy"), random.random)
    announced = _parse(Strategy.parse, config.get("Reprovider.Strategy"), "Reprovider.Strategy")
    resources = Resources()
    gate = Gate.parse(
        deny=[*config.get("Swarm.AddrFilters"), *config.get("Swarm.Deny")], allow=config.get("Swarm.Allow")
    )
    transport = make_tcp_transport(private_key, _stack_settings(config), resources, gate.why_not_accept)
    observed = ObservedAddresses()
    dns = DnsClient(config.get("DNS.Nameservers"))
    dhts: dict[str, KadDht] = {}
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(AddressService.open(home.datastore))
        swarm = Swarm(
            private_key.peer_id,
            [transport],
            resources,
            addresses,
            AddressResolver(dns),
            gater=gate,
            make_room=lambda: trimmer.make_room(),
            expand=lambda addr: expand_wildcard(addr, interface_ips()),
            order=lambda addrs: dial_order(addrs, interface_ips()),
        )
        trimmer = Trimmer(_connection_manager(config), swarm.connections)
        swarm.observed = lambda: observed.confirmed(anyio.current_time())
        await stack.enter_async_context(swarm)
        identify = _identify(swarm, private_key, addresses, observed, dhts)
        await stack.enter_async_context(identify)
        swarm.subscribe(addresses)
        swarm.watch(identify.announce)
        bootstrapper = Bootstrapper(swarm, bootstrap, identify.wait_identified)
        routing = await _enter_routing(stack, home, swarm, addresses, dhts, kind)
        local = LocalBlocks(home.blocks)
        bitswap = await _enter_bitswap(stack, home, swarm, local, routing, strategy)
        names = await stack.enter_async_context(
            NameService.open(
                home.datastore,
                routing,
                KeystoreKeys(private_key, keystore or Keystore(home.path / "keystore", _no_passphrase, _no_passphrase)),
                dns,
                period=config.get("Ipns.RepublishPeriod"),
                lifetime=config.get("Ipns.RecordLifetime"),
                wait_joined=bootstrapper.wait_joined,
            )
        )
        swarm.subscribe(names)
        announcers = {name: _announcer(home, name, dht, announced) for name, dht in dhts.items()}
        node = Node(
            private_key=private_key,
            config=config,
            swarm=swarm,
            addresses=addresses,
            identify=identify,
            ping=PingService(swarm),
            connections=trimmer.manager,
            dhts=dhts,
            routing=routing,
            announcers=announcers,
            local=local,
            bitswap=bitswap,
            names=names,
        )
        if config.get("Swarm.Perf"):
            PerfService(swarm)
        await swarm.listen(listen_addrs, any_port=True)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(trimmer.run)
            tasks.start_soon(bootstrapper.run)
            for announcer in announcers.values():
                swarm.subscribe(announcer)
                tasks.start_soon(announcer.run)
            yield node
            tasks.cancel_scope.cancel()


async def _enter_routing(
    stack: AsyncExitStack, home: Home, swarm: Swarm, addresses: AddressService, dhts: dict[str, KadDht], kind: str
) -> Routing:
    """Run the routers of the setting `Routing.Type`; the DHTs among them are put into `dhts`."""
    validators = Validators({b"pk": PublicKeyValidator(), b"ipns": IpnsValidator()})
    stores = await stack.enter_async_context(StoreService.open(home.datastore, validators, swarm.peer_id))
    if kind == "none":
        return OfflineRouting(swarm.peer_id, stores.values, stores.providers, time.time)

    def proved(peer_id: PeerId) -> list[Multiaddr]:
        known = addresses.book.known(peer_id, anyio.current_time())
        return [] if known is None else [each.addr for each in known.addrs if each.source >= Source.CERTIFIED]

    for name, profile in (("lan", LAN), ("wan", WAN)):
        dhts[name] = await stack.enter_async_context(
            KadDht(
                swarm,
                profile,
                mode="server" if name == "lan" or kind == "dhtserver" else "client",
                values=stores.values,
                providers=stores.providers,
                validator=validators,
                known=proved,
            )
        )
    return ComposedRouting(dhts, validators)


async def _enter_bitswap(
    stack: AsyncExitStack, home: Home, swarm: Swarm, local: LocalBlocks, routing: Routing, strategy: BitswapStrategy
) -> BitswapService:
    ledgers = (await stack.enter_async_context(LedgerService.open(home.datastore))).ledgers
    return await stack.enter_async_context(
        BitswapService(
            swarm,
            local,
            ledgers,
            Engine(ledgers, strategy),
            Providers(swarm, routing, routing),
            wall=time.time,
            last_commit=home.datastore.last_commit,
            serve=home.config.get("Bitswap.Server"),
        )
    )


def _announcer(home: Home, name: str, dht: KadDht, strategy: Strategy) -> ProviderService:
    return ProviderService(
        dht,
        home.datastore,
        home.blocks,
        name=name,
        strategy=strategy,
        interval=home.config.get("Reprovider.Interval"),
    )


def _routing_type(config: Config) -> str:
    kind: str = config.get("Routing.Type")
    if kind not in ROUTING_TYPES:
        raise UsageError(
            f"unknown routing type '{kind}'",
            hint=f"set `ipvcs config Routing.Type` to one of: {', '.join(ROUTING_TYPES)}",
        )
    return kind


def _no_passphrase() -> bytes:
    raise UsageError("the keys of this home are encrypted", hint="set IPVCS_PASSPHRASE or IPVCS_PASSPHRASE_FILE")


def _identify(
    swarm: Swarm,
    private_key: PrivateKey,
    addresses: AddressService,
    observed: ObservedAddresses,
    dhts: Mapping[str, KadDht],
) -> IdentifyService:
    def on_facts(connection: Connection, facts: PeerFacts) -> None:
        for dht in dhts.values():
            dht.identified(connection, facts)

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

    identify = IdentifyService(swarm, private_key, book=addresses.book, on_facts=on_facts, on_observed=on_observed)
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


def _parse(parse: Callable[[str], _T], text: str, key: str) -> _T:
    try:
        return parse_typed(parse, text)
    except ArgumentError as exc:
        raise UsageError(str(exc), hint=f"mend it with `ipvcs config {key}`") from exc
