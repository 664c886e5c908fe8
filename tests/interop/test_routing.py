"""The DHT with real Kubo and Helia: as servers that we ask and tell, as clients that ask and tell us, and content that
is found by its provider record alone.
"""

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.node import Node
from ipvcs.node.routing.kad_message import KadMessage, MessageType
from ipvcs.node.routing.kad_profile import LAN
from ipvcs.node.routing.kad_rpc import KadRpc
from ipvcs.objects.block import Block
from tests import streams
from tests.interop.dht_world import CLIENTS, SERVERS, Server, World, open_world
from tests.interop.network_node import own_addr
from tests.interop.remote import wait_until

pytestmark = pytest.mark.anyio

ENOUGH = 50.0  # seconds for a test on a busy machine; 1 to 3 on an idle one
SIZE = 300_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    with anyio.fail_after(ENOUGH):
        async with open_world(request, tmp_path) as world:
            yield world


def addrs_of(peer: PeerInfo) -> set[str]:
    return {str(addr) for addr in peer.addrs}


def bare_addr(node: Node) -> str:
    """Return where `node` listens over IPv4."""
    return str(own_addr(node)).rpartition("/p2p/")[0]


async def providers(node: Node, cid: Cid) -> dict[PeerId, set[str]]:
    """Return who `node` finds and where."""
    async with node.routing.find_providers(cid) as found:
        return {peer.peer_id: addrs_of(peer) async for peer in found}


async def fetch(node: Node, cid: Cid) -> bytes:
    """Return the block of `cid`, which `node` has to fetch."""

    async def heard(_progress: object) -> None:
        pass

    assert not node.has_block(cid)
    await node.fetch([cid], recursive=False, timeout=30, on_progress=heard)
    return node.local.store.get(cid)


async def ask(node: Node, server: Server, message: KadMessage) -> KadMessage:
    """Return what `server` itself says, whatever the rest of the DHT knows."""
    answer = await KadRpc(node.swarm, LAN.protocol).ask(PeerInfo(server.peer_id, (server.addr,)), message)
    return answer.message


def is_connected(node: Node, peer_id: PeerId) -> bool:
    return bool(node.swarm.connections(peer_id))


def has(node: Node, seed: str) -> Block:
    """Have `node` hold a block that depends on `seed`, and return it."""
    block = Block.of(streams.chacha20_stream(seed, SIZE))
    node.local.store.put_many([block])
    return block


# ---- they serve, we ask and tell ----


@pytest.mark.parametrize("name", SERVERS)
async def test_we_find_a_peer_that_only_the_server_knows(world: World, name: str) -> None:
    server = await world.server(name)
    node, wanted = await world.node(server), await world.holder(server)
    assert not is_connected(node, wanted.peer_id)

    found = await node.routing.find_peer(wanted.peer_id)

    assert found.peer_id == wanted.peer_id
    assert found.addrs
    assert addrs_of(found) <= {str(addr) for addr in wanted.listen_addresses()}


@pytest.mark.parametrize("name", SERVERS)
async def test_what_we_provide_is_found_at_the_server(world: World, name: str) -> None:
    server = await world.server(name)
    one, other = await world.node(server), await world.node(server)
    block = has(one, f"provided at {name}")

    assert await one.routing.provide(block.cid) >= 1
    told = await ask(other, server, KadMessage(MessageType.GET_PROVIDERS, block.cid.multihash))

    assert bare_addr(one) in addrs_of(next(peer for peer in told.provider_peers if peer.peer_id == one.peer_id))
    found = await providers(other, block.cid)
    assert bare_addr(one) in found.pop(one.peer_id)
    assert not found, "nobody else"


@pytest.mark.parametrize("name", SERVERS)
async def test_we_fetch_from_a_node_of_ours_by_its_record_alone(world: World, name: str) -> None:
    server = await world.server(name)
    holder, fetcher = await world.holder(server), await world.node(server)
    block = has(holder, f"held behind {name}")
    await world.announce(holder, block.cid, server)
    assert not is_connected(fetcher, holder.peer_id)

    assert await fetch(fetcher, block.cid) == block.data

    assert is_connected(fetcher, holder.peer_id)


# ---- we serve, they ask and tell ----


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_peer_is_found_by_who_asks_us(world: World, name: str) -> None:
    server = await world.server("ours")
    client, wanted = await world.client(name, server), await world.holder(server)

    if client.helia is not None:
        found = (await client.call("findPeer", peer=str(wanted.peer_id)))["addrs"]
    else:
        found = await client.call("findpeer", peer=str(wanted.peer_id), seconds=10)

    assert bare_addr(wanted) in {addr.partition("/p2p/")[0] for addr in found}


async def test_helia_finds_at_ours_who_provides(world: World) -> None:
    server = await world.server("ours")
    client, holder = await world.client("helia", server), await world.holder(server)
    block = has(holder, "for helia to find")
    await world.announce(holder, block.cid, server)

    (found,) = (await client.call("findProviders", cid=str(block.cid)))["providers"]

    assert found["id"] == str(holder.peer_id)
    assert bare_addr(holder) in {addr.partition("/p2p/")[0] for addr in found["addrs"]}


# ---- content by a record alone, with somebody else in between ----


@pytest.mark.parametrize("name", ["helia", "ours"])
async def test_kubo_fetches_from_us_by_our_record_alone(world: World, name: str, tmp_path: Path) -> None:
    server = await world.server(name)
    client, holder = await world.client("kubo", server), await world.holder(server)
    block = has(holder, f"for kubo behind {name}")
    await world.announce(holder, block.cid, server)
    assert not is_connected(holder, client.peer_id)

    await client.call("get", cid=str(block.cid), path=str(tmp_path / "theirs"), timeout=30)

    assert (tmp_path / "theirs").read_bytes() == block.data
    assert is_connected(holder, client.peer_id)


@pytest.mark.parametrize("name", ["kubo", "ours"])
async def test_helia_fetches_from_us_by_our_record_alone(world: World, name: str) -> None:
    server = await world.server(name)
    client, holder = await world.client("helia", server), await world.holder(server)
    block = has(holder, f"for helia behind {name}")
    await world.announce(holder, block.cid, server)
    assert not is_connected(holder, client.peer_id)

    answer = await client.call("blockGet", cid=str(block.cid), data=False, timeout=30)

    assert answer["sha256"] == hashlib.sha256(block.data).hexdigest()
    assert is_connected(holder, client.peer_id)


@pytest.mark.parametrize("name", ["helia", "ours"])
async def test_we_fetch_from_kubo_by_its_record(world: World, name: str, tmp_path: Path) -> None:
    """Kubo is a member of the LAN's DHT in any case, so that we meet it as soon as we join, and part from it first."""
    server = await world.server(name)
    client, fetcher = await world.client("kubo", server), await world.node(server)
    path = tmp_path / "theirs"
    path.write_bytes(streams.chacha20_stream(f"of kubo behind {name}", 1000))
    cid = Cid.parse(await client.call("add", path=str(path)))  # which announces it, a little later

    async def is_announced() -> bool:
        told = await ask(fetcher, server, KadMessage(MessageType.GET_PROVIDERS, cid.multihash))
        return any(peer.peer_id == client.peer_id and peer.addrs for peer in told.provider_peers)

    await wait_until(is_announced, 30)
    for connection in fetcher.swarm.connections(client.peer_id):
        await connection.aclose()
    assert not is_connected(fetcher, client.peer_id)
    assert path.read_bytes() in await fetch(fetcher, cid)  # with UnixFS's framing around it
    assert is_connected(fetcher, client.peer_id)


@pytest.mark.parametrize("name", ["kubo", "ours"])
async def test_we_fetch_from_helia_by_its_record_alone(world: World, name: str) -> None:
    server = await world.server(name)
    client = await world.client("helia", server, member=False)
    data = streams.chacha20_stream(f"of helia behind {name}", SIZE)
    cid = Cid.parse((await client.call("blockPut", b64=base64.b64encode(data).decode()))["cid"])
    await client.call("provide", cid=str(cid))
    fetcher = await world.node(server)

    found = await providers(fetcher, cid)
    assert found.keys() == {client.peer_id}
    assert str(client.addr).partition("/p2p/")[0] in found[client.peer_id]
    assert not is_connected(fetcher, client.peer_id)
    assert await fetch(fetcher, cid) == data
    assert is_connected(fetcher, client.peer_id)
