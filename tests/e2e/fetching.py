"""What the tests of fetching share: content, fetches as processes, and looks into daemons while they go on."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.cli_runner import Ipvcs, Result
from tests.e2e.daemons import PATIENCE, Daemons, Foreground, run

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


def connect(daemon: Foreground, address: str) -> None:
    """Have a daemon connect to `address`."""
    done = run("swarm", "connect", address, home=daemon.home)
    assert done.code == 0, done.stderr


def bootstrap(home: Path, *addresses: str) -> None:
    """Have the node of `home` join by `addresses` whenever it starts."""
    for address in addresses:
        Ipvcs(home).ok("bootstrap", "add", address)


def keep_port(daemon: Foreground) -> None:
    """Have the home's next daemon listen where this one does."""
    address = daemon.address.partition("/p2p/")[0]
    Ipvcs(daemon.home).ok("config", "Addresses.Swarm", "--json", f'["{address}"]')


def stat(home: Path) -> dict[str, Any]:
    """Return what the daemon of `home` has exchanged since it started."""
    found: dict[str, Any] = run("bitswap", "stat", "--json", home=home).json[0]
    return found


def blocks_in(home: Path) -> int:
    """Return how many blocks the home has."""
    count: int = run("repo", "stat", "--json", home=home).json[0]["NumObjects"]
    return count


def blocks_of(home: Path, root: str) -> int:
    """Return how many different blocks `root` reaches, itself included."""
    return len(set(run("refs", "-r", "-u", root, home=home).lines)) + 1


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
