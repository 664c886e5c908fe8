"""Our transport, over real sockets, keeps the promises of every transport, stream and connection."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import pytest

from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.interface import Stream
from ipvcs.node.network.limits import Resources
from ipvcs.node.network.stack import MPLEX, NOISE, TLS, YAMUX, StackSettings, make_tcp_transport
from tests.contracts.stream import StreamContract
from tests.contracts.transport import Owner, Pair, TransportContract

pytestmark = [pytest.mark.anyio, pytest.mark.network]

LISTEN = Multiaddr.parse("/ip4/127.0.0.1/tcp/0")


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def two_hosts(security: str, muxer: str) -> AsyncGenerator[Pair]:
    keys = [generate_key(), generate_key()]
    held = [Resources(), Resources()]
    settings = StackSettings(security={security: 1}, muxers={muxer: 1})
    near, far = (make_tcp_transport(key, settings, each) for key, each in zip(keys, held, strict=True))
    yield Pair(near, far, keys[0].peer_id, keys[1].peer_id, LISTEN)
    with anyio.fail_after(5):
        while any((each.streams, each.memory, each.half_open) != (0, 0, 0) for each in held):
            await anyio.sleep(0.01)


@asynccontextmanager
async def one_stream(security: str, muxer: str) -> AsyncGenerator[tuple[Stream, Stream]]:
    accepted: list[Stream] = []
    served = anyio.Event()

    async def keep(stream: Stream) -> None:
        accepted.append(stream)
        served.set()

    async with two_hosts(security, muxer) as pair, anyio.create_task_group() as tasks:
        listener = await pair.far.listen(pair.listen_addr, Owner(tasks, {"/test/1": keep}).accept)
        connection = await pair.near.dial(listener.addrs[0], pair.far_peer, Owner(tasks))
        near = await connection.open_stream(["/test/1"])
        await served.wait()
        yield near, accepted[0]
        await accepted[0].aclose()  # what came before the peer's end stays readable, and counts, until then
        await connection.aclose()
        await listener.aclose()
        tasks.cancel_scope.cancel()


class TestNoiseAndYamux(TransportContract):
    def pair(self) -> AbstractAsyncContextManager[Pair]:
        return two_hosts(NOISE, YAMUX)


class TestTlsAndYamux(TransportContract):
    def pair(self) -> AbstractAsyncContextManager[Pair]:
        return two_hosts(TLS, YAMUX)


class TestNoiseAndMplex(TransportContract):
    def pair(self) -> AbstractAsyncContextManager[Pair]:
        return two_hosts(NOISE, MPLEX)


class TestStreamOverNoiseAndYamux(StreamContract):
    more_than_any_window = 4 * 1024 * 1024

    def streams(self) -> AbstractAsyncContextManager[tuple[Stream, Stream]]:
        return one_stream(NOISE, YAMUX)


class TestStreamOverTlsAndYamux(StreamContract):
    more_than_any_window = 4 * 1024 * 1024

    def streams(self) -> AbstractAsyncContextManager[tuple[Stream, Stream]]:
        return one_stream(TLS, YAMUX)
