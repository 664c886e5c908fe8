"""Content by the mass to and from real Kubo and Helia: 100 MiB in one file, and a thousand small files.

Measured on two cores: 100 MiB take 1 to 3 seconds, the thousand files 0.5, and Kubo itself 3 to write them out one by
one. `SOON` is a bound on something being wrong, not on the speed: a lost message costs three seconds at least.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli_runner import Ipvcs
from tests.interop.exchange_node import (
    FILES,
    MIB,
    OwnDaemon,
    directory_files,
    own_daemon,
    read_directory,
    write_directory,
    write_file,
)
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer

LARGE = 100 * MIB
SOON = 30.0  # seconds
MAX_DUPLICATES = 0.05  # of the blocks that came


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, kubo: KuboPeer, helia: HeliaPeer) -> Iterator[OwnDaemon]:
    """A daemon of ours that is connected to both peers, and fetches from no others."""
    with own_daemon(tmp_path_factory.mktemp("own"), Routing_Type="none") as daemon:
        daemon.connect(kubo.addrs[0], helia.addrs[0])
        yield daemon


@contextmanager
def fetching(own: OwnDaemon, *, blocks: int) -> Iterator[None]:
    """Fail unless `own` receives at least `blocks` blocks within `SOON`, and hardly any of them twice."""
    before, since = stat(own), time.monotonic()
    yield
    after = stat(own)
    assert time.monotonic() - since < SOON
    assert after["BlocksReceived"] - before["BlocksReceived"] >= blocks
    assert after["DupBlksReceived"] - before["DupBlksReceived"] <= MAX_DUPLICATES * blocks


def stat(own: OwnDaemon) -> dict[str, Any]:
    """Return what `bitswap stat` counts."""
    found: dict[str, Any] = own.ok("bitswap", "stat", "--json").json[0]
    return found


@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "unixfs-v1-2025"])
def test_kubo_fetches_100_mib_from_us(own: OwnDaemon, kubo: KuboPeer, tmp_path: Path, profile: str) -> None:
    path = write_file(tmp_path / "large", f"kubo {profile}", LARGE)
    root = own.put(path, "--profile", profile)

    kubo.get(root, tmp_path / "theirs", timeout=SOON)

    assert (tmp_path / "theirs").read_bytes() == path.read_bytes()


def test_helia_fetches_100_mib_from_us(own: OwnDaemon, helia: HeliaPeer, tmp_path: Path) -> None:
    path = write_file(tmp_path / "large", "helia", LARGE)
    root = own.put(path)

    assert helia.cat(root, timeout=SOON) == (LARGE, hashlib.sha256(path.read_bytes()).hexdigest())


def test_we_fetch_100_mib_from_kubo(own: OwnDaemon, kubo: KuboPeer, tmp_path: Path) -> None:
    path = write_file(tmp_path / "large", "of kubo", LARGE)
    root = kubo.add(path)

    with fetching(own, blocks=LARGE // (256 * 1024)):
        own.get(root, tmp_path / "ours")

    assert (tmp_path / "ours").read_bytes() == path.read_bytes()


def test_we_fetch_100_mib_from_helia(own: OwnDaemon, helia: HeliaPeer, tmp_path: Path) -> None:
    added = helia.call("addBytes", size=LARGE, genSeed="of helia")

    with fetching(own, blocks=LARGE // MIB):
        own.get(added["cid"], tmp_path / "ours")

    with (tmp_path / "ours").open("rb") as ours:
        assert hashlib.file_digest(ours, "sha256").hexdigest() == added["sha256"]


def test_blocks_that_fit_into_a_window_unread_are_not_lost(
    own: OwnDaemon, start_kubo: Callable[..., KuboPeer], tmp_path: Path
) -> None:
    """Kubo sends each message on a stream of its own and closes it at once. A message of 100 kB needs no window update:
    nothing but what we ask for keeps all of it from being here at once, unread.
    """
    path = write_file(tmp_path / "large", "medium blocks", 64 * MIB)
    root = own.put(path, "--chunker", "size-100000", "--pin")
    middle = start_kubo(identity="ed25519")
    middle.connect(own.addr)
    middle.get(root, tmp_path / "theirs", timeout=SOON)

    with own_daemon(tmp_path / "far", Routing_Type="none") as far:
        far.connect(middle.addrs[0])
        with fetching(far, blocks=64 * MIB // 100_000):
            far.get(root, tmp_path / "ours")

    assert (tmp_path / "ours").read_bytes() == path.read_bytes()


def test_kubo_fetches_a_directory_of_1000_files_from_us(own: OwnDaemon, kubo: KuboPeer, tmp_path: Path) -> None:
    """By `get`, file by file: a `pin` of thousands of small blocks hangs at times, even between two Kubos."""
    root = own.put(write_directory(tmp_path / "directory", "kubo"))

    kubo.get(root, tmp_path / "theirs", timeout=SOON)

    assert read_directory(tmp_path / "theirs") == directory_files("kubo")


def test_helia_fetches_a_directory_of_1000_files_from_us(own: OwnDaemon, helia: HeliaPeer, tmp_path: Path) -> None:
    root = own.put(write_directory(tmp_path / "directory", "helia"))
    below = [line.split()[0] for line in own.ok("refs", root).lines]

    # One by one, as its own walk of a DAG goes, takes it 15 ms a block from whomever.
    assert helia.call("blockGetMany", cids=[root, *below], concurrency=64, timeout=SOON)["blocks"] == FILES + 1

    helia.car_export(root, tmp_path / "theirs.car")
    elsewhere = Ipvcs(tmp_path / "elsewhere")
    elsewhere.ok("dag", "import", tmp_path / "theirs.car")
    elsewhere.ok("get", "--offline", "-o", tmp_path / "theirs", root)
    assert read_directory(tmp_path / "theirs") == directory_files("helia")


def test_we_fetch_a_directory_of_1000_files_from_kubo(own: OwnDaemon, kubo: KuboPeer, tmp_path: Path) -> None:
    root = kubo.add(write_directory(tmp_path / "directory", "of kubo"))

    with fetching(own, blocks=FILES + 1):
        own.get(root, tmp_path / "ours")

    assert read_directory(tmp_path / "ours") == directory_files("of kubo")


def test_we_fetch_a_directory_of_1000_files_from_helia(own: OwnDaemon, helia: HeliaPeer, tmp_path: Path) -> None:
    root = helia.add_files(directory_files("of helia"))

    with fetching(own, blocks=FILES + 1):
        own.get(root, tmp_path / "ours")

    assert read_directory(tmp_path / "ours") == directory_files("of helia")
