"""What a daemon holds: connections of many peers and streams on them, and the memory that takes.

python -m bench.daemon_load [--connections N] [--streams N]      in the private network namespace
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from bench.measure import print_table
from bench.own_daemon import own_daemon
from bench.stream_worker import Owner
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.identity.keys import generate_key
from ipvcs.node.network.interface import Connection, Stream
from ipvcs.node.network.limits import Resources
from ipvcs.node.network.stack import StackSettings, make_tcp_transport

_PING = "/ipfs/ping/1.0.0"


def memory(pid: int) -> tuple[float, float]:
    """Return the present and the peak memory of a process, MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = {
        name: int(value.split()[0]) / 1024 for name, value in (line.split(":", 1) for line in lines if "kB" in line)
    }
    return fields["VmRSS"], fields["VmHWM"]


async def connect(addr: Multiaddr, peer: PeerId, count: int) -> list[Connection]:
    """Open `count` connections, each as another peer."""
    found: list[Connection] = []
    resources = Resources()
    while len(found) < count:
        batch = min(10, count - len(found))
        transports = [make_tcp_transport(generate_key(), StackSettings(), resources) for _ in range(batch)]
        found += await asyncio.gather(*(transport.dial(addr, peer, Owner()) for transport in transports))
    return found


async def open_streams(connections: Sequence[Connection], count: int) -> list[Stream]:
    """Open `count` streams, the same number on each connection, use each and leave it open."""
    streams = []
    for number in range(count):
        stream = await connections[number % len(connections)].open_stream([_PING])
        await stream.send(os.urandom(32))
        assert len(await stream.receive(32)) == 32
        streams.append(stream)
    return streams


async def load(daemon: int, addr: Multiaddr, peer: PeerId, connections: int, streams: int) -> list[list[str]]:
    """Put the load on a daemon and return the rows of the table."""
    rows = [["nothing yet", *(f"{value:.0f}" for value in memory(daemon))]]
    standing = await connect(addr, peer, connections)
    await asyncio.sleep(3)  # identify goes both ways
    rows.append([f"{connections} connections", *(f"{value:.0f}" for value in memory(daemon))])
    opened = await open_streams(standing, streams)
    rows.append([f"and {streams:,} streams", *(f"{value:.0f}" for value in memory(daemon))])
    began = time.perf_counter()
    for stream in opened:
        await stream.send(bytes(32))
        await stream.receive(32)
    rate = streams / (time.perf_counter() - began)
    assert not any(connection.is_closed for connection in standing)
    rows.append([f"and a ping on each, {rate:,.0f}/s", *(f"{value:.0f}" for value in memory(daemon))])
    return rows


def main(arguments: Sequence[str]) -> None:
    """Start a daemon, load it, print, end it."""
    parser = argparse.ArgumentParser(prog="bench daemon_load")
    parser.add_argument("--connections", type=int, default=500)
    parser.add_argument("--streams", type=int, default=1000)
    options = parser.parse_args(arguments)
    with own_daemon() as daemon:
        rows = asyncio.run(load(daemon.pid, daemon.addr, daemon.peer_id, options.connections, options.streams))
    print_table("One daemon", ["holds", "MiB", "peak MiB"], rows)


if __name__ == "__main__":
    main(sys.argv[1:])
