"""DAGs in tars, read back by the standard library's reader and by tar(1)."""

import gzip
import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvcs.errors import IpvcsError
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.blob import NotAFileError
from ipvcs.objects.block import Block
from ipvcs.objects.unixfs import Mtime
from ipvcs.storage.archive_export import export_archive, export_compressed
from ipvcs.storage.disk_export import TargetExistsError, export_to
from tests.unit.storage.trees import Trees, listing, times


@pytest.fixture
def trees() -> Trees:
    return Trees()


@pytest.fixture
def root(trees: Trees) -> Cid:
    long_file = trees.add_file([(trees.add(b"x" * 1000), 1000), (trees.add(b"y" * 24), 24)])
    times = [Mtime(0), Mtime(1_700_000_000, 123_456_789), Mtime(-2, 999_999_999), Mtime(2**33)]
    entries = [(b"time %d" % number, trees.file(b"t", mtime=mtime)) for number, mtime in enumerate(times)]
    deep = trees.nested(40, trees.directory([(b"n" * 200, trees.add(b"deep"))]), b"directory")
    return trees.directory(
        [
            (b"-rf", trees.add(b"")),
            (b"block", trees.add(b"b" * 512)),
            (b"deep", deep),
            (b"empty", trees.directory([])),
            (b"link", trees.symlink(b"../elsewhere\xff" + b"l" * 150)),
            (b"list", long_file),
            (b"modes", trees.directory([(b"exec", trees.file(b"#!", mode=0o4755))], mode=0o750)),
            (b"not utf-8 \xff\xfe", trees.add(b"1")),
            (b"new\nline", trees.add(b"2")),
            *entries,
            ("ümläut".encode(), trees.add(b"3")),
        ],
        mtime=Mtime(5, 7),
    )


@pytest.fixture
def make(trees: Trees, fast_path: Path) -> Callable[..., bytes]:
    """Makes an archive and returns its bytes."""

    def make(cid: Cid, name: bytes = b"root", compress_level: int | None = None) -> bytes:
        path = fast_path / "made.tar"
        export_archive(trees, cid, name, path, compress_level=compress_level)
        data = path.read_bytes()
        path.unlink()
        return data

    return make


def test_tar_unpacks_what_get_would_have_written(trees: Trees, root: Cid, fast_path: Path) -> None:
    archive = fast_path / "archive.tar"
    export_archive(trees, root, b"root", archive)
    export_to(trees, root, fast_path / "expected")
    unpacked = fast_path / "unpacked"
    unpacked.mkdir()
    command: list[str | Path] = [
        "tar",
        "--extract",
        "--preserve-permissions",
        "--no-same-owner",
        "--file",
        archive,
        "--directory",
        unpacked,
    ]
    subprocess.run(command, check=True, capture_output=True)
    expected, found = listing(fast_path / "expected"), listing(unpacked / "root")
    assert found == expected
    dated = [path for path in expected if path.startswith(b"time") or not path]
    assert {path: times(unpacked / "root")[path] for path in dated} == {
        path: times(fast_path / "expected")[path] for path in dated
    }


def test_the_python_library_reads_every_entry(make: Callable[..., bytes], root: Cid) -> None:
    with tarfile.open(fileobj=io.BytesIO(make(root))) as archive:
        members = {member.name: member for member in archive.getmembers()}
    assert members["root/not utf-8 \udcff\udcfe"].size == 1
    assert members["root/time 2"].mtime == pytest.approx(-1.000000001)
    assert members["root/link"].linkname == "../elsewhere\udcff" + "l" * 150
    assert members["root/block"].mtime == 0
    assert (members["root/modes/exec"].mode, members["root/modes"].mode) == (0o755, 0o750)


def test_the_archive_depends_on_the_dag_alone(make: Callable[..., bytes], root: Cid) -> None:
    assert make(root) == make(root)
    zipped = make(root, compress_level=1)
    assert zipped == make(root, compress_level=1)
    assert gzip.decompress(zipped) == make(root)


def test_a_file_or_symlink_alone_is_an_archive_of_one(trees: Trees, make: Callable[..., bytes]) -> None:
    for cid in (trees.add(b"1"), trees.symlink(b"t"), trees.file(b"")):
        with tarfile.open(fileobj=io.BytesIO(make(cid, b"name"))) as archive:
            assert archive.getnames() == ["name"]


def test_a_file_is_compressed_alone(trees: Trees, fast_path: Path) -> None:
    cid = trees.add_file([(trees.add(b"x" * 1000), 1000), (trees.add(b"y" * 24), 24)])
    counted: list[int] = []
    export_compressed(trees, cid, fast_path / "f.gz", compress_level=9, on_bytes=counted.append)
    assert gzip.decompress((fast_path / "f.gz").read_bytes()) == b"x" * 1000 + b"y" * 24
    assert sum(counted) == 1024


def test_a_directory_is_not_compressed_without_an_archive(trees: Trees, root: Cid, fast_path: Path) -> None:
    with pytest.raises(NotAFileError):
        export_compressed(trees, root, fast_path / "f.gz")
    assert list(fast_path.iterdir()) == []


@pytest.mark.parametrize("bad", ["name", "size", "missing"])
def test_a_failure_leaves_nothing(trees: Trees, fast_path: Path, bad: str) -> None:
    leaf = trees.add(b"evil")
    entry = {
        "name": (b"..", leaf),
        "size": (b"f", trees.add_file([(leaf, 10)])),
        "missing": (b"f", Block.of(b"nowhere").cid),
    }[bad]
    with pytest.raises(IpvcsError):
        export_archive(trees, trees.directory([(b"a", leaf), entry]), b"root", fast_path / "a.tar")
    assert list(fast_path.iterdir()) == []


def test_nothing_is_overwritten(trees: Trees, root: Cid, fast_path: Path) -> None:
    (fast_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(TargetExistsError):
        export_archive(trees, root, b"root", fast_path / "a.tar")
    assert (fast_path / "a.tar").read_bytes() == b"mine"
