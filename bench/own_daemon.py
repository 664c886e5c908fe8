"""A daemon of our own for benchmarks, in a home of its own, on a free port of loopback."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.measure import IPVCS
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId


@dataclass(frozen=True, slots=True)
class OwnDaemon:
    """A daemon that is ready."""

    pid: int
    addr: Multiaddr
    """Where it listens for peers, without `/p2p`."""
    peer_id: PeerId


@contextmanager
def own_daemon() -> Iterator[OwnDaemon]:
    """Run a daemon within the block."""
    with tempfile.TemporaryDirectory() as directory:
        environ = {**os.environ, "IPVCS_PATH": f"{directory}/home"}
        listen = json.dumps(["/ip4/127.0.0.1/tcp/0"])
        subprocess.run([*IPVCS, "config", "Addresses.Swarm", "--json", listen], env=environ, check=True)
        with subprocess.Popen([*IPVCS, "daemon"], env=environ, stdout=subprocess.PIPE, text=True) as daemon:
            try:
                assert daemon.stdout is not None
                lines = iter(daemon.stdout.readline, "")
                addr = next(line.split()[-1] for line in lines if line.startswith("Swarm listening on"))
                while next(lines).strip() != "Daemon is ready":
                    pass
                done = subprocess.run([*IPVCS, "id", "--json"], env=environ, stdout=subprocess.PIPE, check=True)
                yield OwnDaemon(daemon.pid, Multiaddr.parse(addr), PeerId.parse(json.loads(done.stdout)["ID"]))
            finally:
                daemon.terminate()
