"""Packs of ours: git reads every object out of them."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from ipvcs.git_bridge.pack_writer import PackWriter
from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.objects.git.payload import GitType
from tests.e2e.real_git import Git

SIZES = [0, 1, 15, 16, 2047, 2048, 262143, 262144, 3_000_000]


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_git_reads_every_object(object_format: ObjectFormat, tmp_path: Path) -> None:
    git = Git(tmp_path / "repo.git", object_format)
    other = Git(tmp_path / "other.git", object_format)
    expected = {other.write(GitType.BLOB, b"x" * size): size for size in SIZES}
    tree = b"".join(b"100644 %d\0%b" % (index, oid.raw) for index, oid in enumerate(expected))
    commit = b"tree %b\n" % other.write(GitType.TREE, tree).hex.encode()
    commit += b"author A <a@example.com> 1 +0000\ncommitter A <a@example.com> 1 +0000\n\nmessage\n"
    tip = other.write(GitType.COMMIT, commit)
    file = BytesIO()
    with ThreadPoolExecutor(2) as threads:
        write(PackWriter(file, object_format, threads), expected.values(), tree, commit)
    git("index-pack", "--stdin", "--strict", stdin=file.read())
    git("update-ref", "refs/heads/main", str(tip))
    assert git("fsck", "--full", "--strict") == b""
    listing = ("cat-file", "--batch-all-objects", "--batch-check")
    assert git(*listing) == other(*listing)


def write(writer: PackWriter, sizes: Iterable[int], tree: bytes, commit: bytes) -> None:
    for size in sizes:
        writer.add(GitType.BLOB, size, BytesIO(b"x" * size).read)
    writer.add(GitType.TREE, len(tree), BytesIO(tree).read)
    writer.add(GitType.COMMIT, len(commit), BytesIO(commit).read)
    writer.finish()
