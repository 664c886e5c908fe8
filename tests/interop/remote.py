"""A real peer as the tests of the network see it: the same questions, whether it is Kubo or Helia.

The peers' own drivers block; here each call runs in a thread, so that the node under test goes on meanwhile.
"""

import inspect
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio
from anyio import to_thread

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer

REMOTES = ("kubo-ed25519", "kubo-rsa", "helia-ed25519", "helia-rsa", "helia-secp256k1")

_POLL = 0.02  # seconds


async def wait_until(condition: Callable[[], bool | Awaitable[bool]], within: float = 10.0) -> None:
    """Return when `condition` holds; raises TimeoutError after `within` seconds."""
    with anyio.fail_after(within):
        while True:
            holds = condition()
            if await holds if inspect.isawaitable(holds) else holds:
                return
            await anyio.sleep(_POLL)


class Remote:
    """A running Kubo or Helia.

    Attributes:
        process: its driver.
        peer_id: its NodeId.
        addr: where it listens, with `/p2p`.
        agent: how its agent version begins.
    """

    def __init__(self, process: KuboPeer | HeliaPeer) -> None:
        self.process = process
        self.peer_id = PeerId.parse(process.peer_id)
        self.addr = Multiaddr.parse(process.addrs[0])
        self.agent = "kubo/0.22.0/" if isinstance(process, KuboPeer) else "helia/7.1"

    @property
    def helia(self) -> HeliaPeer | None:
        """Its driver, if it is a Helia."""
        return self.process if isinstance(self.process, HeliaPeer) else None

    async def call(self, command: str, *, timeout: float = 60, **arguments: Any) -> Any:
        """Send a command of the driver; raises PeerError and TimeoutError as it does."""
        return await to_thread.run_sync(partial(self.process.call, command, timeout=timeout, **arguments))

    async def dial(self, addr: Multiaddr) -> None:
        """Have it dial; returns when its connection stands, raises PeerError when it says that it does not."""
        await self.call("dial" if self.helia else "connect", addr=str(addr))

    async def is_connected_to(self, peer_id: PeerId) -> bool:
        """Tell whether it has a connection to `peer_id`."""
        return str(peer_id) in await self.connected()

    async def connected(self) -> set[str]:
        """Return whom it is connected to."""
        if self.helia:
            return {each["peer"] for each in (await self.call("conns"))["conns"]}
        return set(await self.call("peer_ids"))

    async def addresses_of(self, peer_id: PeerId) -> set[str]:
        """Return where it believes `peer_id`, which is connected to it, to be."""
        if self.helia:
            return set((await self.told_by(peer_id)).get("addrs", ()))
        return set(await self.call("findpeer", peer=str(peer_id), seconds=10))

    async def told_by(self, peer_id: PeerId) -> dict[str, Any]:
        """Return what `peer_id` told a Helia: addrs, certified, protocols, agent; nothing if it never heard of it."""
        peers = (await self.call("peers"))["peers"]
        return next((peer for peer in peers if peer["id"] == str(peer_id)), {})

    async def connection_with(self, peer_id: PeerId) -> dict[str, Any]:
        """Return a Helia's connection to `peer_id`: addr, direction, encryption, muxer, streams."""
        (found,) = [each for each in (await self.call("conns"))["conns"] if each["peer"] == str(peer_id)]
        return dict(found)

    async def wait_connected(self, peer_id: PeerId) -> None:
        """Return when it has a connection to `peer_id`; raises TimeoutError."""
        await wait_until(partial(self.is_connected_to, peer_id))

    async def wait_disconnected(self, peer_id: PeerId, within: float = 10.0) -> None:
        """Return when it has none any more; raises TimeoutError."""

        async def is_gone() -> bool:
            return not await self.is_connected_to(peer_id)

        await wait_until(is_gone, within)
