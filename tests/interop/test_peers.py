"""The peers themselves: they start, speak to each other over loopback, and end.

Expected values are Kubo's own documentation's (`hello world`) or the other peer's answer.
"""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.interop import netns
from tests.interop.helia_peer import HeliaPeer
from tests.interop.json_peer import PeerError
from tests.interop.kubo_peer import KuboPeer

HELLO_V0 = "Qmf412jQZiuVUtdgnB36FXFX7xg5V6KEbSJ4dpQuhkLyfD"  # `echo -n 'hello world' | ipfs add -q`


def random_bytes(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def test_kubo_adds_hello_world_with_its_well_known_cid(kubo: KuboPeer, tmp_path: Path) -> None:
    path = tmp_path / "hello"
    path.write_bytes(b"hello world")

    assert kubo.add(path) == HELLO_V0
    assert HELLO_V0 in kubo.pins()


def test_kubo_only_hash_pins_nothing(kubo: KuboPeer, tmp_path: Path) -> None:
    path = tmp_path / "unique"
    path.write_bytes(random_bytes(1, 1000))

    assert kubo.add(path, only_hash=True) not in kubo.pins()


def test_kubo_adds_a_directory_recursively_with_hidden_files(kubo: KuboPeer, tmp_path: Path) -> None:
    directory = tmp_path / "in"
    (directory / "sub").mkdir(parents=True)
    (directory / "a").write_bytes(b"a")
    (directory / ".hidden").write_bytes(b"h")
    (directory / "sub" / "b").write_bytes(b"b")

    kubo.get(kubo.add(directory), tmp_path / "out")

    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*")}
    assert found == {"a", ".hidden", "sub", "sub/b"}


@pytest.mark.parametrize("size", [0, 262144, 262145, 50 * 262144 - 1])
def test_helia_told_kubos_defaults_agrees_with_kubo(
    kubo: KuboPeer, helia: HeliaPeer, tmp_path: Path, size: int
) -> None:
    data = random_bytes(2, size)
    path = tmp_path / "file"
    path.write_bytes(data)

    assert helia.add_bytes(data, cid_version=0, raw_leaves=False, chunk=262144, width=174) == kubo.add(path)


def test_helia_makes_directories_blocks_and_cars(helia: HeliaPeer, tmp_path: Path) -> None:
    root = helia.add_files({"dir/a.txt": b"a", "b.txt": b"bb"})
    block = helia.block_put(b"hello world", hash_name="sha2-512")
    car = tmp_path / "out.car"
    helia.car_export(root, car)

    assert [entry["name"] for entry in helia.list_directory(root)] == ["b.txt", "dir"]
    assert helia.block_get(block) == b"hello world"
    assert car.stat().st_size > 0


def test_a_car_of_one_helia_is_whole_in_another(start_helia: Callable[..., HeliaPeer], tmp_path: Path) -> None:
    giver, taker = start_helia("--kad", "none"), start_helia("--kad", "none")
    data = random_bytes(3, 3_000_000)
    root = giver.add_bytes(data)
    giver.car_export(root, tmp_path / "file.car")

    assert taker.car_import(tmp_path / "file.car") == [root]
    assert taker.cat(root, offline=True) == (len(data), hashlib.sha256(data).hexdigest())


def test_kubo_fetches_a_file_of_a_thousand_blocks_from_helia(kubo: KuboPeer, helia: HeliaPeer, tmp_path: Path) -> None:
    data = random_bytes(5, 1_000 * 1024)
    root = helia.add_bytes(data, chunk=1024)

    kubo.connect(helia.addrs[0])
    kubo.get(root, tmp_path / "got")

    assert (tmp_path / "got").read_bytes() == data
    assert helia.peer_id in kubo.connected_peers()


@pytest.mark.parametrize(("identity", "prefix"), [("rsa", "Qm"), ("ed25519", "12D3KooW")])
def test_kubo_starts_with_either_kind_of_key(
    start_kubo: Callable[..., KuboPeer], helia: HeliaPeer, identity: str, prefix: str
) -> None:
    kubo = start_kubo(identity=identity)

    assert kubo.peer_id.startswith(prefix)
    assert helia.dial(kubo.addrs[0])["peer"] == kubo.peer_id


def test_a_peer_that_is_closed_has_ended(tmp_path: Path) -> None:
    kubo, helia = KuboPeer(tmp_path / "kubo"), HeliaPeer(tmp_path / "helia")
    processes = [Path(f"/proc/{peer.pid}") for peer in (kubo, helia)]
    assert all(process.exists() for process in processes)

    kubo.close()
    helia.close()

    assert (kubo.exit_code, helia.exit_code) == (0, 0)
    assert not any(process.exists() for process in processes)


def test_a_peers_refusal_is_an_error_in_its_own_words(kubo: KuboPeer, helia: HeliaPeer) -> None:
    with pytest.raises(PeerError, match="PinCID returned"):
        kubo.pin("not a cid")
    with pytest.raises(PeerError, match="helia cat"):
        helia.cat("not a cid")


def test_asking_kubo_for_what_nobody_has_ends_at_the_callers_timeout(start_kubo: Callable[..., KuboPeer]) -> None:
    kubo = start_kubo(identity="ed25519")

    with pytest.raises(TimeoutError, match="no answer in"):
        kubo.pin("QmbWqxBEKC3P8tqsKc98xmWNzrzDtRLMiMPL8wBuTGsMnR", timeout=0.5)

    assert kubo.call("id") == kubo.peer_id


def test_the_tests_themselves_can_reach_nothing_but_loopback() -> None:
    assert netns.leaks() == []
