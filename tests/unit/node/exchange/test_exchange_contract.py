"""Bitswap keeps what every Exchange promises."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.contracts.exchange import ExchangeContract, ExchangeWorld
from tests.fakes.exchange_swarm import exchanging

pytestmark = pytest.mark.anyio


class TestBitswapService(ExchangeContract):
    @asynccontextmanager
    async def open(self, *, connected: bool = True) -> AsyncGenerator[ExchangeWorld]:
        async with exchanging("alice", "bob") as (alice, bob):
            if connected:
                await alice.connect(bob)
            yield ExchangeWorld(alice.service, alice.store, bob.has, lambda: bob.service.wantlist(alice.peer_id))
