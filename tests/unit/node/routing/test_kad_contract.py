"""The DHT keeps the promises of every `Routing`, with the real stores, as a server and as a client."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.node.routing.kad_dht import Mode
from tests.contracts.routing import VALIDATOR, RoutingContract, RoutingWorld
from tests.unit.node.routing.kad_world import KadWorld

pytestmark = pytest.mark.anyio


class TestKadServer(RoutingContract):
    mode: Mode = "server"

    @asynccontextmanager
    async def open(
        self, *, provided: Sequence[Cid] = (), values: Mapping[bytes, bytes] | None = None
    ) -> AsyncGenerator[RoutingWorld]:
        async with KadWorld() as world:
            middle, other = await world.node("middle", rules=VALIDATOR), await world.node("other", rules=VALIDATOR)
            ours = await world.node("ours", mode=self.mode, rules=VALIDATOR)
            for node in (other, ours):
                await world.join(node, middle)
            await anyio.sleep(30)
            for cid in provided:
                await other.dht.provide(cid)
            for key, value in (values or {}).items():
                await other.dht.set_value(key, value)
            yield RoutingWorld(ours.dht, ours.peer_id, other.info, other.dht)


class TestKadClient(TestKadServer):
    mode: Mode = "client"
