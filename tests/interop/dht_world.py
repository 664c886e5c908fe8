"""Nodes of ours, Kubos and Helias around one server of the LAN's DHT.

Members of a small DHT soon know each other, whether they look for anything or not. So who is to be found is no member:
a `holder`, and a Helia that is no `member`, tell the server what they have and serve nobody's lookups, so that nobody
learns of them but by what the server was told.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from anyio import to_thread

from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.interface import PeerInfo
from ipvcs.node.node import Node
from ipvcs.node.routing.kad_message import KadMessage, MessageType
from ipvcs.node.routing.kad_profile import LAN
from ipvcs.node.routing.kad_rpc import KadRpc
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer
from tests.interop.network_node import open_test_node, own_addr
from tests.interop.remote import Remote, wait_until

SERVERS: Final = ("kubo", "helia", "ours")
CLIENTS: Final = ("kubo", "helia")


@dataclass(frozen=True)
class Server:
    """A server of the DHT: the peer that everybody knows."""

    peer_id: PeerId
    addr: Multiaddr
    node: Node | None = None
    """The node, if it is ours."""
    remote: Remote | None = None
    """The peer, if it is another's."""

    def knows(self, peer_id: PeerId) -> bool:
        """Tell whether it has `peer_id` in its table, as far as we can see into it."""
        return self.node is None or peer_id in self.node.dhts["lan"].table

    async def has_heard_of(self, peer_id: PeerId) -> bool:
        """Tell whether it has heard by identify where `peer_id` listens."""
        if self.remote is not None and self.remote.helia is None:
            # Asked a moment too early, Kubo searches the DHT for as long as it may.
            return bool(await self.remote.call("findpeer", peer=str(peer_id), seconds=1))
        if self.remote is not None:
            return bool(await self.remote.addresses_of(peer_id))
        assert self.node is not None
        facts = self.node.identify.facts(peer_id)
        return facts is not None and bool(facts.listen_addrs)


class World:
    """What one test has. Use `open_world`."""

    def __init__(self, stack: AsyncExitStack, request: pytest.FixtureRequest, path: Path) -> None:
        self._stack = stack
        self._request = request
        self._path = path
        self._nodes = 0

    async def server(self, name: str) -> Server:
        """Return one of `SERVERS`: the session's Kubo or Helia, or a new node of ours."""
        if name == "ours":
            node = await self._open()
            return Server(node.peer_id, own_addr(node), node=node)
        remote = Remote(self._request.getfixturevalue(name))
        return Server(remote.peer_id, remote.addr, remote=remote)

    async def enter(self, server: AbstractAsyncContextManager[Server]) -> Server:
        """Return a server that a test brings along; it ends with the world."""
        return await self._stack.enter_async_context(server)

    async def node(self, knows: Server) -> Node:
        """Return a new node of ours that knows `knows`."""
        node = await self._open()
        await node.swarm.connect(PeerInfo(knows.peer_id, (knows.addr,)))
        await wait_until(lambda: knows.peer_id in node.dhts["lan"].table and knows.knows(node.peer_id))
        return node

    async def holder(self, knows: Server) -> Node:
        """Return a new node of ours that is connected to `knows`, and no member of the DHT: see `announce`."""
        node = await self._open({"Routing.Type": "none"})
        await node.swarm.connect(PeerInfo(knows.peer_id, (knows.addr,)))
        if knows.remote is not None:
            await knows.remote.wait_connected(node.peer_id)
        await wait_until(partial(knows.has_heard_of, node.peer_id))
        return node

    async def announce(self, holder: Node, cid: Cid, at: Server) -> None:
        """Have `at` know that `holder` has the block of `cid`."""
        rpc, server, key = KadRpc(holder.swarm, LAN.protocol), PeerInfo(at.peer_id, (at.addr,)), cid.multihash
        own = PeerInfo(holder.peer_id, tuple(holder.listen_addresses()))
        await rpc.tell(server, KadMessage(MessageType.ADD_PROVIDER, key, provider_peers=(own,)))

        async def is_known() -> bool:  # nobody answers to being told
            if at.node is not None:  # and we tell nobody of himself
                async with at.node.routing.find_providers(cid) as found:
                    return holder.peer_id in [peer.peer_id async for peer in found]
            answer = await rpc.ask(server, KadMessage(MessageType.GET_PROVIDERS, key))
            return any(peer.peer_id == holder.peer_id for peer in answer.message.provider_peers)

        await wait_until(is_known)

    async def client(self, name: str, knows: Server, *, member: bool = True) -> Remote:
        """Return a new Kubo or Helia that knows `knows`. Helia serves lookups if it is a `member`; Kubo always does."""
        start = self._request.getfixturevalue(f"start_{name}")

        def make() -> KuboPeer | HeliaPeer:
            peer: KuboPeer | HeliaPeer
            if name == "kubo":
                peer = start(identity="ed25519")
            else:
                peer = start("--kad", "lan", *([] if member else ["--client"]))
            return peer

        remote = Remote(await to_thread.run_sync(make))
        await remote.dial(knows.addr)
        await remote.wait_connected(knows.peer_id)
        await wait_until(lambda: not member or knows.knows(remote.peer_id))
        if remote.helia is not None:  # it pings a peer before it enters the table
            await wait_until(lambda: _has_table(remote))
        return remote

    async def _open(self, settings: Mapping[str, object] | None = None) -> Node:
        self._nodes += 1
        return await self._stack.enter_async_context(open_test_node(self._path / str(self._nodes), settings))


@asynccontextmanager
async def open_world(request: pytest.FixtureRequest, path: Path) -> AsyncGenerator[World]:
    """Make a world whose nodes have their homes below `path` and end with the block."""
    async with AsyncExitStack() as stack:
        yield World(stack, request, path)


async def _has_table(remote: Remote) -> bool:
    size: int = (await remote.call("dhtTable", dht="lan"))["size"]
    return size > 0
