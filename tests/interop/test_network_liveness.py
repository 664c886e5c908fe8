"""Connections with real peers over time: idle ones stay, and a side that dies or hangs is noticed by the other."""

import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from ipvcs.errors import UnavailableError
from ipvcs.node.network.interface import Connection, Direction
from ipvcs.node.network.keep_alive import KeepAlive
from ipvcs.node.network.ping import PING
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer
from tests.interop.network_node import NOISE, TLS, Stack, connect, open_stack, ping
from tests.interop.own_node import OwnNode
from tests.interop.remote import Remote

pytestmark = pytest.mark.anyio

Remotes = Callable[[str], Remote]
PING_TIMEOUT = KeepAlive().timeout
NAMES = ["kubo-ed25519", "helia-ed25519"]
DIRECTIONS: list[Direction] = ["outbound", "inbound"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Stop a process for the length of the block: its sockets stay open and silent."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


async def stay_idle(remotes: Remotes, node: Stack, seconds: float) -> None:
    """Connect to a Kubo and by a Helia, let nothing happen for `seconds`, and find the same connections in order."""
    kubo, helia = map(remotes, NAMES)
    connections = [await connect(node, kubo, "outbound"), await connect(node, helia, "inbound")]
    rtts: dict[Connection, set[float | None]] = {connection: set() for connection in connections}

    with anyio.move_on_after(seconds):
        while True:
            for connection in connections:
                rtts[connection].add(connection.rtt)
            await anyio.sleep(0.1)

    assert [node.swarm.connections(remote.peer_id) for remote in (kubo, helia)] == [[each] for each in connections]
    for connection, remote in zip(connections, (kubo, helia), strict=True):
        assert len(rtts[connection] - {None}) >= 3, "it was asked and answered several times"
        assert await ping(node, remote) < 5
        await (await connection.open_stream([PING])).aclose()
    assert (await helia.connection_with(node.peer_id))["rtt"] is not None, "its own pings were answered, too"


async def test_connections_stay_for_12_idle_seconds_and_work_after(remotes: Remotes) -> None:
    async with open_stack(keep_alive=KeepAlive(interval=2.0, timeout=5.0)) as node:
        await stay_idle(remotes, node, 12)


@pytest.mark.long
@pytest.mark.timeout(240)
@pytest.mark.parametrize("security", [NOISE, TLS])
async def test_connections_stay_for_100_idle_seconds_with_everybodys_own_keep_alives(
    remotes: Remotes, security: str
) -> None:
    """Kubo asks every 30 s and hangs up after 10 s of silence, Helia asks every 10 s and does after 5 s."""
    async with open_stack(security) as node:
        await stay_idle(remotes, node, 100)


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_a_peer_that_is_killed_is_noticed_within_the_ping_timeout(
    start_kubo: Callable[..., KuboPeer], start_helia: Callable[..., HeliaPeer], direction: Direction
) -> None:
    remotes = [Remote(start_kubo(identity="ed25519")), Remote(start_helia("--kad", "none"))]
    async with open_stack() as node:
        for remote in remotes:
            connection = await connect(node, remote, direction)
            stream = await connection.open_stream([PING])
            os.kill(remote.process.pid, signal.SIGKILL)
            with anyio.fail_after(PING_TIMEOUT):
                with pytest.raises((anyio.BrokenResourceError, anyio.EndOfStream)):
                    await stream.receive()
                await connection.wait_closed()
            assert node.swarm.connections(remote.peer_id) == []
            with pytest.raises(UnavailableError):
                await connection.open_stream([PING])


@pytest.mark.parametrize("name", NAMES)
async def test_a_peer_that_is_stopped_is_noticed_by_the_keep_alive(
    remotes: Remotes, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    remote, keep_alive = remotes(name), KeepAlive(interval=0.3, timeout=2.0)
    async with open_stack(keep_alive=keep_alive) as node:
        connection = await connect(node, remote, "outbound")
        await anyio.sleep(1.0)  # it answers for as long as it runs
        assert not connection.is_closed
        with suspended(remote.process.pid), caplog.at_level(logging.DEBUG, "ipvcs"):
            with anyio.fail_after(keep_alive.interval + keep_alive.timeout + 3):
                await connection.wait_closed()
        assert "did not answer for 2 s" in caplog.text
        assert node.swarm.connections(remote.peer_id) == []
        await remote.wait_disconnected(node.peer_id)


@pytest.mark.parametrize("direction", DIRECTIONS)
async def test_our_death_is_noticed_by_peers_within_the_ping_timeout(
    remotes: Remotes, tmp_path: Path, direction: Direction
) -> None:
    with OwnNode(tmp_path) as own:
        for remote in map(remotes, NAMES):
            if direction == "outbound":
                await anyio.to_thread.run_sync(own.dial, remote.addr)
            else:
                await remote.dial(own.addr)
            await remote.wait_connected(own.peer_id)

        os.kill(own.pid, signal.SIGKILL)

        for remote in map(remotes, NAMES):
            await remote.wait_disconnected(own.peer_id, PING_TIMEOUT)


@pytest.mark.long
@pytest.mark.timeout(240)
async def test_our_being_stopped_is_noticed_by_peers_keep_alives(remotes: Remotes, tmp_path: Path) -> None:
    """Helia asks every 10 s and waits for 5 s, Kubo every 30 s and waits for 10 s."""
    with OwnNode(tmp_path) as own:
        for remote in map(remotes, NAMES):
            await remote.dial(own.addr)
        with suspended(own.pid):
            for remote in map(remotes, NAMES):
                await remote.wait_disconnected(own.peer_id, 60)
