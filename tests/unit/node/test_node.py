"""The composition root: which services a node has, what its settings make of them, and that they work on one home.

On asyncio and real sockets on loopback, as the connection shell is; what the services do by themselves is tested where
they are.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from ipvcs.errors import IpvcsError, UsageError
from ipvcs.multiformats.cid import Cid
from ipvcs.node.exchange.fetch import FetchProgress
from ipvcs.node.exchange.interface import BlockUnavailableError
from ipvcs.node.identity.keys import PrivateKey, generate_key
from ipvcs.node.identity.keystore import Keystore
from ipvcs.node.naming.resolver import NameNotFoundError
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.node import Node, open_node
from ipvcs.node.routing.composed import ComposedRouting
from ipvcs.node.routing.offline import OfflineRouting
from ipvcs.objects.block import Block
from ipvcs.storage.home import open_home
from ipvcs.storage.pins import Pin, PinMode

pytestmark = [pytest.mark.network, pytest.mark.anyio]
LISTEN = ["/ip4/127.0.0.1/tcp/0"]
BITSWAP = {"/ipfs/bitswap/1.0.0", "/ipfs/bitswap/1.1.0", "/ipfs/bitswap/1.2.0"}
LAN, WAN, PERF = "/ipfs/lan/kad/1.0.0", "/ipfs/kad/1.0.0", "/perf/1.0.0"
BLOCK = Block.of(b"something to share")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def running(
    path: Path,
    settings: Mapping[str, object] | None = None,
    *,
    key: PrivateKey | None = None,
    keystore: Keystore | None = None,
    has: tuple[Block, ...] = (),
) -> AsyncGenerator[Node]:
    """Run a node on the home at `path`, which has the blocks `has`."""
    with open_home(path) as home:
        for name, value in (settings or {}).items():
            home.config.set(name, value)
        home.blocks.put_many(has)
        with anyio.fail_after(30):
            async with open_node(home, key or generate_key(), LISTEN, keystore=keystore) as node:
                yield node


async def connect(node: Node, other: Node) -> None:
    (addr,) = other.swarm.listen_addresses()
    await node.swarm.connect(PeerInfo(other.peer_id, (addr,)))


async def fetch(node: Node, cid: Cid, timeout: float = 5.0) -> FetchProgress:
    async def ignore(_progress: FetchProgress) -> None:
        pass

    return await node.fetch([cid], recursive=True, timeout=timeout, on_progress=ignore)


@pytest.mark.parametrize(
    ("kind", "modes"),
    [
        ("auto", {"lan": "server", "wan": "client"}),
        ("dhtclient", {"lan": "server", "wan": "client"}),
        ("dhtserver", {"lan": "server", "wan": "server"}),
        ("none", {}),
    ],
)
async def test_the_type_of_routing_decides_which_dhts_run_and_which_serve(
    tmp_path: Path, kind: str, modes: dict[str, str]
) -> None:
    async with running(tmp_path / "home", {"Routing.Type": kind}) as node:
        assert {name: dht.mode for name, dht in node.dhts.items()} == modes
        assert isinstance(node.routing, ComposedRouting if modes else OfflineRouting)
        served = {name for name in (LAN, WAN) if name in node.swarm.protocols()}
        assert served == {each for name, each in (("lan", LAN), ("wan", WAN)) if modes.get(name) == "server"}
        assert list(node.provide_stats()) == [stats.name for stats in node.dht_stats()] == list(modes)


@pytest.mark.parametrize("perf", [True, False])
async def test_a_node_serves_the_protocols_of_its_services(tmp_path: Path, perf: bool) -> None:
    async with running(tmp_path / "home", {"Swarm.Perf": perf}) as node:
        served = set(node.swarm.protocols())
        assert BITSWAP | {"/ipfs/id/1.0.0", "/ipfs/id/push/1.0.0", "/ipfs/ping/1.0.0"} <= served
        assert (PERF in served) == perf
        assert [str(addr).rpartition("/")[0] for addr in node.listen_addresses()] == ["/ip4/127.0.0.1/tcp"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Routing.Type", "gossip"),
        ("Bitswap.Strategy", "generous"),
        ("Reprovider.Strategy", "some"),
        ("Bootstrap", ["/ip4/127.0.0.1/tcp/1"]),
        ("Bootstrap", ["nonsense"]),
        ("Swarm.Deny", ["nonsense"]),
    ],
)
async def test_a_setting_that_makes_no_sense_is_wrong_usage_and_leaves_the_home_free(
    tmp_path: Path, key: str, value: object
) -> None:
    """As a file has it that was edited by hand: `config` would not take it."""
    with open_home(tmp_path / "home") as home:
        home.config._values[key.partition(".")[0]] = {key.partition(".")[2]: value} if "." in key else value
        assert home.config.get(key) == value
        with pytest.raises((IpvcsError, ExceptionGroup)) as caught:
            async with open_node(home, generate_key(), LISTEN):
                raise AssertionError
        error: BaseException = caught.value
        while isinstance(error, ExceptionGroup):  # as of services that had begun
            (error,) = error.exceptions
        assert isinstance(error, UsageError)
        assert error.hint
    async with running(tmp_path / "home") as node:
        assert node.swarm.protocols()


async def test_the_interval_of_announcing_is_the_settings(tmp_path: Path) -> None:
    async with running(tmp_path / "home", {"Reprovider.Interval": 1234}) as node:
        assert {stats.interval for stats in node.provide_stats().values()} == {1234}


async def test_a_node_fetches_from_one_that_it_is_connected_to(tmp_path: Path) -> None:
    async with running(tmp_path / "one", has=(BLOCK,)) as one, running(tmp_path / "other") as other:
        assert one.has_block(BLOCK.cid)
        assert not other.has_block(BLOCK.cid)
        await connect(other, one)
        progress = await fetch(other, BLOCK.cid)
        assert (progress.blocks, progress.bytes, progress.local) == (1, len(BLOCK.data), 0)
        assert other.has_block(BLOCK.cid)
        assert other.bitswap.ledger(one.peer_id).bytes_received == len(BLOCK.data)
        assert one.bitswap.ledger(other.peer_id).bytes_sent == len(BLOCK.data)
        assert other.known_addresses(one.peer_id)[one.peer_id]
    with open_home(tmp_path / "other") as home:
        assert home.blocks.get(BLOCK.cid) == BLOCK.data


async def test_a_node_that_does_not_serve_is_asked_in_vain(tmp_path: Path) -> None:
    settings = {"Bitswap.Server": False}
    async with running(tmp_path / "one", settings, has=(BLOCK,)) as one, running(tmp_path / "other") as other:
        await connect(other, one)
        with pytest.raises(BlockUnavailableError, match=f"nobody sent block '{BLOCK.cid}'"):
            await fetch(other, BLOCK.cid, timeout=0.5)


async def test_ledgers_are_read_again_by_the_next_node_of_the_home(tmp_path: Path) -> None:
    async with running(tmp_path / "one", has=(BLOCK,)) as one, running(tmp_path / "other") as other:
        await connect(other, one)
        await fetch(other, BLOCK.cid)
        before, peer = other.bitswap.ledger(one.peer_id), one.peer_id
    async with running(tmp_path / "other") as other:
        assert other.bitswap.ledger(peer) == replace(before, last_seen=int(before.last_seen))  # kept in whole seconds


async def test_a_root_is_announced_and_found_by_who_is_not_connected_to_its_holder(tmp_path: Path) -> None:
    """Pins, announcing, the DHT and the exchange, together."""
    async with running(tmp_path / "holder", has=(BLOCK,)) as holder, running(tmp_path / "router") as router:
        await connect(holder, router)
        with open_home(tmp_path / "holder") as home:
            home.pins.add([Pin(BLOCK.cid, PinMode.RECURSIVE)])
        with anyio.fail_after(20):
            while not holder.provide_stats()["lan"].total:
                await anyio.sleep(0.05)
        async with running(tmp_path / "fetcher") as fetcher:
            await connect(fetcher, router)
            await fetcher.swarm.disconnect(holder.peer_id)
            await fetch(fetcher, BLOCK.cid)
            assert fetcher.bitswap.ledger(holder.peer_id).exchanges == 1


async def test_a_name_is_published_with_a_key_of_the_home_and_resolved_elsewhere(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "keys", lambda: b"", lambda: None)
    keystore.put("work", key := generate_key())
    async with running(tmp_path / "one", keystore=keystore) as one, running(tmp_path / "other") as other:
        await connect(one, other)
        with anyio.fail_after(10):
            while not any(bucket.peers for stats in one.dht_stats() for bucket in stats.buckets):
                await anyio.sleep(0.02)
        published = await one.names.publish(f"/ipfs/{BLOCK.cid}", key="work")
        assert published.name == key.peer_id
        found = await other.names.resolve(f"/ipns/{key.peer_id.to_base36()}")
        assert found.path == f"/ipfs/{BLOCK.cid}"


async def test_without_a_network_names_of_the_home_are_all_that_there_are(tmp_path: Path) -> None:
    async with running(tmp_path / "home", {"Routing.Type": "none"}, key=(key := generate_key())) as node:
        await node.names.publish(f"/ipfs/{BLOCK.cid}", allow_offline=True)
        assert (await node.names.resolve(f"/ipns/{key.peer_id.to_base36()}")).path == f"/ipfs/{BLOCK.cid}"
        with pytest.raises(NameNotFoundError):
            await node.names.resolve(f"/ipns/{generate_key().peer_id.to_base36()}")


async def test_a_bootstrap_peer_is_dialled_at_the_start(tmp_path: Path) -> None:
    async with running(tmp_path / "one") as one:
        (addr,) = one.swarm.listen_addresses()
        settings = {"Bootstrap": [f"{addr}/p2p/{one.peer_id}"]}
        async with running(tmp_path / "other", settings) as other:
            with anyio.fail_after(10):
                while not other.swarm.connections(one.peer_id):
                    await anyio.sleep(0.02)
