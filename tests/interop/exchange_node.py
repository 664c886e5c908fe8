"""A whole `ipvcs daemon` for the tests of exchange and routing with real peers, and the content that goes to and fro.

The commands are processes of their own: what is tested is what a user would type.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from tests import streams
from tests.cli_runner import Result
from tests.e2e.daemons import Daemons, Foreground, run

MIB = 1024 * 1024
FILES = 1000
"""Of `write_directory`."""
FILE_SIZE = 4096
PATIENCE = 10.0  # seconds; what is waited for takes milliseconds on an idle machine

PUT_OPTIONS = {
    "v0-dag-pb": ("--profile", "unixfs-v0-2015"),
    "v0-raw": ("--cid-version", "0", "--raw-leaves"),
    "v1-dag-pb": ("--cid-version", "1", "--no-raw-leaves"),
    "v1-raw": ("--cid-version", "1", "--raw-leaves"),
}
"""How `put` makes files whose nodes have CIDs of this version and whose leaves have this codec."""
KINDS = tuple(PUT_OPTIONS)
FILE_KIND_SIZE = 3 * MIB + 5
"""Bytes of a file for each kind: several leaves in any chunking, and a last one that is not full."""


class OwnDaemon:
    """A daemon and its command line. Use `own_daemon`."""

    def __init__(self, process: Foreground) -> None:
        self._process = process
        self.home = process.home
        self.addr = process.address
        """Where peers reach it, with `/p2p`."""
        self.peer_id = self.addr.rpartition("/")[2]

    def run(self, *words: str | Path) -> Result:
        """Run a command, whatever comes of it."""
        return run(*words, home=self.home)

    def ok(self, *words: str | Path) -> Result:
        """Run a command that must succeed."""
        result = self.run(*words)
        assert result.code == 0, f"ipvcs {' '.join(map(str, words))}\n{result.stderr}"
        return result

    def put(self, path: Path, *options: str) -> str:
        """Store a file or directory and return its CID."""
        return self.ok("put", "-rQ", *options, path).out.strip()

    def put_block(self, path: Path, *options: str) -> str:
        """Store a file as one block and return its CID."""
        return self.ok("block", "put", *options, path).out.strip()

    def get(self, cid: str, path: Path) -> None:
        """Write what `cid` leads to to `path`, fetching what is missing."""
        self.ok("get", "--timeout", "30s", "-o", path, cid)

    def connect(self, *addrs: str) -> None:
        """Connect to peers."""
        for addr in addrs:
            self.ok("swarm", "connect", addr)

    def peers(self) -> set[str]:
        """Return the NodeIds of the peers it is connected to."""
        return {line.rpartition("/")[2] for line in self.ok("swarm", "peers").lines}

    def wanted_by(self, peer_id: str) -> list[str]:
        """Return what a peer wants of it, and has not got."""
        return self.ok("bitswap", "wantlist", "-p", peer_id).lines


@contextmanager
def own_daemon(directory: Path, **settings: str) -> Iterator[OwnDaemon]:
    """Run a daemon on a new home below `directory` that listens on loopback. `Routing_Type="none"` is a setting."""
    daemons = Daemons(directory)
    try:
        home = daemons.make_home("own")
        for name, value in settings.items():
            assert run("config", name.replace("_", "."), value, home=home).code == 0
        yield OwnDaemon(daemons.start(home))
    finally:
        daemons.close()


def write_file(path: Path, seed: str, size: int) -> Path:
    """Write `size` bytes that depend on `seed` to `path`, and return it."""
    path.write_bytes(streams.chacha20_stream(seed, size))
    return path


def write_directory(path: Path, seed: str) -> Path:
    """Make a directory of `FILES` files of `FILE_SIZE` bytes each, no two the same, and return it."""
    path.mkdir()
    for name, data in directory_files(seed).items():
        (path / name).write_bytes(data)
    return path


def directory_files(seed: str) -> dict[str, bytes]:
    """Return what `write_directory` writes."""
    data = streams.chacha20_stream(seed, FILES * FILE_SIZE)
    return {f"{index:03d}": data[index * FILE_SIZE : (index + 1) * FILE_SIZE] for index in range(FILES)}


def read_directory(path: Path) -> dict[str, bytes]:
    """Return the files of a directory."""
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


def check_kind(cid: str, kind: str, daemon: OwnDaemon) -> None:
    """Fail unless the file `cid`, which `daemon` has, is made of nodes of that kind."""
    version, _, leaves = kind.partition("-")
    root = Cid.parse(cid)
    assert (root.codec, root.version) == (codecs.DAG_PB, int(version[1:]))
    below = [Cid.parse(line) for line in daemon.ok("refs", "--offline", cid).lines]
    assert below
    assert {leaf.codec for leaf in below} == {codecs.RAW if leaves == "raw" else codecs.DAG_PB}


def wait_for(condition: Callable[[], bool], within: float = PATIENCE) -> None:
    """Return when `condition` holds; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.02)
