"""What others notice while a daemon is attacked: the round trips of an innocent peer's pings.

python -m bench.attack [--seconds N] [ATTACK]...      in the private network namespace

Three processes: the daemon, the attackers (`bench.attack_worker`), and the innocent peer here, which pings on a stream
that stands, and now and then on a new one. On fewer than three cores they compete for these, too.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing

from bench.attack_worker import ATTACKS
from bench.daemon_load import connect, memory
from bench.measure import print_table
from bench.own_daemon import OwnDaemon, own_daemon
from ipvcs.node.network.interface import Connection, Stream

_PING = "/ipfs/ping/1.0.0"
_PAUSE = 0.02
"""Seconds between pings."""
_PATIENCE = 60.0
"""Seconds for one ping: longer is no service at all."""
_NEW_STREAM_EVERY = 10
"""Pings: so often the stream is a new one, which has to be accepted and negotiated first."""


async def ping(connection: Connection, seconds: float) -> list[float]:
    """Ping for so long and return the round trips in seconds, that of a new stream from its opening on."""
    trips: list[float] = []
    stream: Stream | None = None
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        async with asyncio.timeout(_PATIENCE):
            if stream is None:
                stream = await connection.open_stream([_PING])
            sent = os.urandom(32)
            await stream.send(sent)
            echo = b""
            while len(echo) < len(sent):
                echo += await stream.receive(32 - len(echo))
        assert echo == sent
        trips.append(time.perf_counter() - began)
        if len(trips) % _NEW_STREAM_EVERY == 0:
            await stream.aclose()
            stream = None
        await asyncio.sleep(_PAUSE)
    if stream is not None:
        await stream.aclose()
    return trips


async def measure(daemon: OwnDaemon, attack: str | None, seconds: float) -> list[str]:
    """Return a row of the table: what an innocent peer sees during the attack, None for none."""
    (innocent,) = await connect(daemon.addr, daemon.peer_id, 1)
    await ping(innocent, 0.5)
    attackers = None
    try:
        if attack is not None:
            port = daemon.addr.value_for("tcp")
            command = [sys.executable, "-m", "bench.attack_worker", attack, "127.0.0.1", str(port)]
            attackers = subprocess.Popen(command, stdout=subprocess.PIPE)
            assert attackers.stdout is not None
            with closing(attackers.stdout) as said:
                assert said.readline() == b"ready\n"
        trips = sorted(await ping(innocent, seconds))
    finally:
        if attackers is not None:
            attackers.kill()
            attackers.wait()
    await innocent.aclose()
    percentile = [trips[int(share * (len(trips) - 1))] for share in (0.5, 0.95, 1.0)]
    return [f"{1000 * trip:.1f}" for trip in percentile] + [str(len(trips)), f"{memory(daemon.pid)[1]:.0f}"]


def describe(attack: str) -> str:
    """Return what the table calls an attack."""
    act, connections, is_one_peer = ATTACKS[attack]
    peers = "of one peer" if is_one_peer else "of as many peers"
    return f"{attack}: {connections:,} connections {peers}; {(act.__doc__ or '').strip()}"


def main(arguments: Sequence[str]) -> None:
    """Run the attacks, each on a fresh daemon."""
    parser = argparse.ArgumentParser(prog="bench attack")
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=f"one of: {', '.join(ATTACKS)}; none: all")
    parser.add_argument("--seconds", type=float, default=15)
    options = parser.parse_args(arguments)
    rows = []
    for attack in (None, *(options.attacks or ATTACKS)):
        with own_daemon() as daemon:
            row = asyncio.run(measure(daemon, attack, options.seconds))
        rows.append(["nothing" if attack is None else describe(attack), *row])
    print_table(
        "An innocent peer's ping under attack",
        ["attack", "median ms", "95 % ms", "worst ms", "pings", "peak MiB of the daemon"],
        rows,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
