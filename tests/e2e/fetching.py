"""What the tests of fetching share: content, fetches as processes, and looks into daemons while they go on."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ipvcs.client.client import Client
from ipvcs.client.socket_path import find_socket
from ipvcs.multiformats.cid import Cid
from ipvcs.storage.closure import iter_closure
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs, Result
from tests.e2e.daemons import PATIENCE, Daemons, Foreground

MIB = 1024 * 1024
NOBODYS = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
"""A CID whose block nobody has: the specification's own example of a raw one."""


def noise(size: int, seed: int) -> bytes:
    """Return bytes that are the same in every run and compress or repeat nowhere."""
    return random.Random(seed).randbytes(size)


def put_noise(home: Path, size: int, seed: int) -> tuple[str, bytes]:
    """Put a file of `size` bytes into `home`; return its CID and what is in it."""
    data = noise(size, seed)
    path = home.with_name(f"{home.name}-noise-{seed}")
    path.write_bytes(data)
    root = Ipvcs(home).ok("put", "-Q", path).out.strip()
    path.unlink()
    return root, data


def client_of(home: Path) -> Client:
    """Return a client of the daemon that runs: for what is no more than preparation, it saves a process."""
    return Client(find_socket(home))


def peer_of(daemon: Foreground) -> str:
    """Return the daemon's NodeId."""
    node_id: str = client_of(daemon.home).call("id")["ID"]
    return node_id


def address_of(daemon: Foreground) -> str:
    """Return where peers reach it, with its id."""
    return f"{daemon.lines[0].split()[-1]}/p2p/{peer_of(daemon)}"


def connect(daemon: Foreground, address: str) -> None:
    """Have a daemon connect to `address`."""
    client_of(daemon.home).call("swarm/connect", address)


def bootstrap(home: Path, *addresses: str) -> None:
    """Have the node of `home` join by `addresses` whenever it starts."""
    with open_home(home) as opened:
        opened.config.set("Bootstrap", list(addresses))


def keep_port(daemon: Foreground) -> None:
    """Have the home's next daemon listen where this one does."""
    with open_home(daemon.home) as home:
        home.config.set("Addresses.Swarm", [daemon.lines[0].split()[-1]])


def stat(home: Path) -> dict[str, Any]:
    """Return what the daemon of `home` has exchanged since it started."""
    return client_of(home).call("bitswap/stat")


def blocks_in(home: Path) -> int:
    """Return how many blocks the home has."""
    with open_home(home) as opened:
        return opened.blocks.stat().blocks


def blocks_of(home: Path, root: str) -> int:
    """Return how many different blocks `root` reaches, itself included."""
    with open_home(home) as opened:
        return sum(1 for _ in iter_closure(opened.blocks, [Cid.parse(root)]))


def wait_until(condition: Callable[[], bool], what: str, patience: float = 20) -> None:
    """Wait until something that a daemon does by itself has happened."""
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"waited {patience} seconds: {what}"
        time.sleep(0.05)


def wait_wants_nothing(home: Path, patience: float = 5) -> None:
    """Wait until the daemon of `home` wants no block any more."""
    wait_until(lambda: stat(home)["Wantlist"] == [], "the wantlist is not empty", patience)


class Running:
    """A command that goes on while the test does something else. `with Running(…) as command:` ends it in any case."""

    def __init__(self, *words: str | Path, home: Path, env: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ipvcs", "--home", str(home), *map(str, words)],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def end(self, number: signal.Signals | None = None, patience: float = PATIENCE) -> Result:
        """Send it a signal, if one is given, and return what it did."""
        if number is not None:
            assert self.process.poll() is None, "it ended before it was to be interrupted"
            self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=patience)
        text = errors.decode()
        assert "Traceback" not in text, text
        return Result(self.process.returncode, out, text)


def restarted(daemons: Daemons, daemon: Foreground, number: signal.Signals = signal.SIGTERM) -> Foreground:
    """End a daemon and start another one of its home."""
    daemon.end(number)
    return daemons.start(daemon.home)


def start_all(daemons: Daemons, *names: str, **settings: object) -> list[Foreground]:
    """Start a daemon on a new home for each name, at the same time; `settings` are theirs, `_` standing for `.`."""

    def start(name: str) -> Foreground:
        home = daemons.path / name
        with open_home(home) as opened:
            opened.config.set("Addresses.Swarm", ["/ip4/127.0.0.1/tcp/0"])
            for key, value in settings.items():
                opened.config.set(key.replace("_", "."), value)
        return daemons.start(home)

    with ThreadPoolExecutor(len(names)) as pool:
        return list(pool.map(start, names))
