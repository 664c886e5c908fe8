"""Objects against peers that nobody here wrote: the same CIDs as Kubo, and CARs that Helia writes and reads."""

import hashlib
import json
from pathlib import Path

import pytest

from tests import streams
from tests.cli_runner import Ipvcs
from tests.interop.helia_peer import HeliaPeer
from tests.interop.kubo_peer import KuboPeer

MIB = 1024 * 1024


@pytest.fixture
def ipvcs(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> Ipvcs:
    """The command line of a fresh home."""
    return Ipvcs(tmp_path / "home", capfdbinary)


def described(data: bytes) -> tuple[int, str]:
    """Return what Helia says of a file that it has read."""
    return len(data), hashlib.sha256(data).hexdigest()


def make_mixed_directory(root: Path) -> None:
    """Make 2,000 files of sizes around every limit, one of 300 MiB, a directory that must be sharded, and symlinks."""
    sizes = [0, 1, 31, 1000, 262_143, 262_144, 262_145, 2 * 262_144 + 1]
    data = streams.chacha20_stream("mixed directory", 4 * MIB)
    wide = root / "wide"
    wide.mkdir(parents=True)
    for index in range(1800):  # 1,800 x (116 + 34) bytes of links are over the threshold of 256 KiB
        (wide / f"{index:04d}-{'n' * 111}").write_bytes(data[index : index + sizes[index % 4]])
    for index in range(199):
        directory = root / "deep" / f"{index % 7}" / "ünï cödé"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f".{index}" if index % 5 == 0 else directory / f"{index}").write_bytes(
            data[index : index + sizes[index % 8]]
        )
    (root / "large").write_bytes(streams.chacha20_stream("large", 300 * MIB))
    (root / "deep" / "link").symlink_to("../large")
    (root / "deep" / "dangling").symlink_to("/no/where")
    (root / "empty").mkdir()


def test_a_directory_of_2000_mixed_files_and_300_mib_has_kubos_root(
    kubo: KuboPeer, ipvcs: Ipvcs, tmp_path: Path
) -> None:
    root = tmp_path / "mixed"
    make_mixed_directory(root)
    ours = ipvcs.ok("put", "-rHQ", "--profile", "unixfs-v0-2015", root).out.strip()
    assert ours == kubo.add(root, only_hash=True)
    assert ipvcs.ok("put", "-rHQn", "--profile", "unixfs-v0-2015", root).out.strip() == ours


def test_a_car_of_helia_is_imported(helia: HeliaPeer, ipvcs: Ipvcs, tmp_path: Path) -> None:
    large = streams.chacha20_stream("from helia", 5 * MIB)
    root = helia.add_files({"dir/large": large, "dir/small": b"small", "top": b""})
    car = tmp_path / "helia.car"
    helia.car_export(root, car)

    assert root in ipvcs.ok("dag", "import", car).out
    assert ipvcs.ok("cat", f"{root}/dir/large").stdout == large
    assert ipvcs.ok("cat", f"{root}/dir/small").stdout == b"small"
    assert ipvcs.ok("pin", "verify", "-v").lines == [f"{root} ok"]


@pytest.mark.parametrize("profile", ["unixfs-v0-2015", "unixfs-v1-2025", "cdc-1"])
def test_our_car_is_imported_by_helia(helia: HeliaPeer, ipvcs: Ipvcs, tmp_path: Path, profile: str) -> None:
    large = streams.chacha20_stream(profile, 5 * MIB)
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "large").write_bytes(large)
    (tree / "wide").mkdir()
    for index in range(2200):
        (tree / "wide" / f"{index:0120d}").write_bytes(b"%d" % index)
    root = ipvcs.ok("put", "-rQ", "--profile", profile, tree).out.strip()
    car = tmp_path / "ours.car"
    ipvcs.ok("dag", "export", "-o", car, root)

    assert helia.car_import(car) == [root]
    assert helia.cat(root, path="sub/large") == described(large)
    assert helia.cat(root, path=f"wide/{2199:0120d}") == described(b"2199")
    assert len(helia.list_directory(root, "wide")) == 2200


def test_a_commit_of_ours_is_walked_by_helia_and_kept_out_of_its_directories(
    helia: HeliaPeer, ipvcs: Ipvcs, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    tree = ipvcs.ok("put", "-Qw", tmp_path / "file").out.strip()
    document = {
        "data": {"type": "commit", "payload": "commit 0\0"},
        "links": [{"name": "object", "hash": tree, "size": 100}],
    }
    (tmp_path / "commit.json").write_text(json.dumps(document))
    commit = ipvcs.ok("object", "put", "-q", tmp_path / "commit.json").out.strip()
    car = tmp_path / "commit.car"
    ipvcs.ok("dag", "export", "-o", car, commit)

    assert helia.car_import(car) == [commit]
    assert helia.cat(tree, path="file") == described(b"content")
    assert ipvcs.ok("cat", f"{commit}/object/file").stdout == b"content"
    assert ipvcs.ok("cat", f"{commit}/file").stdout == b"content"
