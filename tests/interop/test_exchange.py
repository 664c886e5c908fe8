"""Content to and from real Kubo and Helia: every kind of CID and leaf, large blocks, other hashes, and late blocks.

Content is compared byte by byte; how fast it goes, and in what masses, is `test_exchange_bulk.py`'s matter.
"""

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import streams
from tests.interop.exchange_node import (
    FILE_KIND_SIZE,
    KINDS,
    MIB,
    PUT_OPTIONS,
    OwnDaemon,
    check_kind,
    own_daemon,
    wait_for,
    write_file,
)
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer

LARGEST_BLOCK = 2 * MIB  # what all implementations send and take


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, kubo: KuboPeer, helia: HeliaPeer) -> Iterator[OwnDaemon]:
    """A daemon of ours that is connected to both peers."""
    with own_daemon(tmp_path_factory.mktemp("own")) as daemon:
        daemon.connect(kubo.addrs[0])
        helia.dial(daemon.addr)
        yield daemon


@pytest.fixture(scope="module")
def behind_kubo(tmp_path_factory: pytest.TempPathFactory, kubo: KuboPeer) -> Iterator[OwnDaemon]:
    """Another one, that is connected to Kubo alone and never meets `own`: it has no DHT to find it by."""
    with own_daemon(tmp_path_factory.mktemp("behind"), Routing_Type="none") as daemon:
        daemon.connect(kubo.addrs[0])
        yield daemon


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    """Runs what waits for something else."""
    with ThreadPoolExecutor(4) as threads:
        yield threads


def described(data: bytes) -> tuple[int, str]:
    """Return what Helia says of a file that it has read."""
    return len(data), hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_goes_from_us_to_kubo_and_from_kubo_to_us(
    own: OwnDaemon, behind_kubo: OwnDaemon, kubo: KuboPeer, tmp_path: Path, kind: str
) -> None:
    path = write_file(tmp_path / "file", f"kubo {kind}", FILE_KIND_SIZE)
    root = own.put(path, *PUT_OPTIONS[kind])
    check_kind(root, kind, own)

    kubo.get(root, tmp_path / "theirs")
    assert (tmp_path / "theirs").read_bytes() == path.read_bytes()
    behind_kubo.get(root, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert own.peer_id not in behind_kubo.peers()
    assert behind_kubo.put(path, *PUT_OPTIONS[kind]) == root


def test_a_file_that_kubo_added_comes_to_us(own: OwnDaemon, kubo: KuboPeer, tmp_path: Path) -> None:
    path = write_file(tmp_path / "file", "added by kubo", FILE_KIND_SIZE)
    root = kubo.add(path)

    own.get(root, tmp_path / "ours")

    assert (tmp_path / "ours").read_bytes() == path.read_bytes()
    check_kind(root, "v0-dag-pb", own)


@pytest.mark.parametrize("kind", KINDS)
def test_helia_fetches_a_file_from_us(own: OwnDaemon, helia: HeliaPeer, tmp_path: Path, kind: str) -> None:
    path = write_file(tmp_path / "file", f"to helia {kind}", FILE_KIND_SIZE)

    root = own.put(path, *PUT_OPTIONS[kind])

    check_kind(root, kind, own)
    assert helia.cat(root) == described(path.read_bytes())


@pytest.mark.parametrize("kind", KINDS)
def test_we_fetch_a_file_from_helia(own: OwnDaemon, helia: HeliaPeer, kind: str) -> None:
    data = streams.chacha20_stream(f"from helia {kind}", FILE_KIND_SIZE)
    version, _, leaves = kind.partition("-")

    root = helia.add_bytes(data, cid_version=int(version[1:]), raw_leaves=leaves == "raw")

    assert own.ok("cat", root).stdout == data
    check_kind(root, kind, own)


@pytest.mark.parametrize(("size", "hash_name"), [(LARGEST_BLOCK, "sha2-256"), (5000, "sha2-512")])
def test_a_block_goes_from_us_to_kubo_and_from_kubo_to_us(
    own: OwnDaemon, behind_kubo: OwnDaemon, kubo: KuboPeer, tmp_path: Path, size: int, hash_name: str
) -> None:
    path = write_file(tmp_path / "block", f"block for kubo {size}", size)
    cid = own.put_block(path, "--mhtype", hash_name)

    kubo.get(cid, tmp_path / "theirs")
    assert (tmp_path / "theirs").read_bytes() == path.read_bytes()
    assert behind_kubo.ok("block", "get", cid).stdout == path.read_bytes()


@pytest.mark.parametrize(("size", "hash_name"), [(LARGEST_BLOCK, "sha2-256"), (5000, "sha2-512")])
def test_a_block_goes_between_helia_and_us(
    own: OwnDaemon, helia: HeliaPeer, tmp_path: Path, size: int, hash_name: str
) -> None:
    path = write_file(tmp_path / "block", f"block for helia {size}", size)
    theirs = streams.chacha20_stream(f"block of helia {size}", size)

    assert helia.block_get(own.put_block(path, "--mhtype", hash_name)) == path.read_bytes()
    assert own.ok("block", "get", helia.block_put(theirs, hash_name=hash_name)).stdout == theirs


def test_kubo_gets_a_block_that_we_have_only_later(
    own: OwnDaemon, kubo: KuboPeer, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "block", "late for kubo", 5000)
    cid = own.ok("put", "-Qn", "--cid-version", "1", path).out.strip()
    fetching = background.submit(kubo.get, cid, tmp_path / "theirs", timeout=20)
    wait_for(lambda: cid in own.wanted_by(kubo.peer_id))

    since = time.monotonic()
    assert own.put_block(path) == cid

    fetching.result()
    assert (tmp_path / "theirs").read_bytes() == path.read_bytes()
    assert time.monotonic() - since < 5


def test_helia_gets_a_block_that_we_have_only_later(
    own: OwnDaemon, helia: HeliaPeer, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "block", "late for helia", 5000)
    cid = own.ok("put", "-Qn", "--cid-version", "1", path).out.strip()
    fetching = background.submit(helia.block_get, cid, timeout=20)
    wait_for(lambda: cid in own.wanted_by(helia.peer_id))

    since = time.monotonic()
    assert own.put_block(path) == cid

    assert fetching.result() == path.read_bytes()
    assert time.monotonic() - since < 5


def asking(own: OwnDaemon, background: ThreadPoolExecutor, cid: str) -> Future[bytes]:
    """Have `own` ask for a block that nobody has yet; the future has its bytes."""
    fetching = background.submit(lambda: own.ok("block", "get", "--timeout", "40s", cid).stdout)
    wait_for(lambda: cid in own.ok("bitswap", "wantlist").lines)
    time.sleep(1)  # until both peers have said that they do not have it
    return fetching


def test_we_get_a_block_that_kubo_has_only_later(
    own: OwnDaemon, kubo: KuboPeer, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    path = write_file(tmp_path / "file", "late from kubo", 5000)
    cid = kubo.add(path, only_hash=True)
    fetching = asking(own, background, cid)

    assert kubo.add(path) == cid

    assert path.read_bytes() in fetching.result(30)  # with UnixFS's framing around it


def test_we_get_a_block_that_helia_has_only_later(
    own: OwnDaemon, helia: HeliaPeer, background: ThreadPoolExecutor, tmp_path: Path
) -> None:
    """It does not remember wants that it could not serve: we ask again."""
    path = write_file(tmp_path / "block", "late from helia", 5000)
    cid = own.ok("put", "-Qn", "--cid-version", "1", path).out.strip()
    fetching = asking(own, background, cid)

    assert helia.block_put(path.read_bytes()) == cid

    assert fetching.result(40) == path.read_bytes()


def test_a_block_that_was_lost_is_had_again_at_once(own: OwnDaemon, helia: HeliaPeer) -> None:
    """Helia ignores for 5 s who asks once more for what it has just sent, unless a CANCEL comes in between."""
    data = streams.chacha20_stream("lost and found", 5000)
    cid = helia.block_put(data)
    assert own.ok("block", "get", cid).stdout == data
    own.ok("block", "rm", cid)

    since = time.monotonic()
    assert own.ok("block", "get", cid).stdout == data
    assert time.monotonic() - since < 3
