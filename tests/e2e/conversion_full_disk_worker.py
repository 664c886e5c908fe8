"""A conversion by two processes into a home on a disk that fills up: `python -m … DISK REPOSITORY`.

REPOSITORY has a branch `main` with `SIZE` bytes of blobs. Runs in a mount namespace of its own, with a tmpfs at DISK.
"""

import sys
from pathlib import Path

import pytest

from ipvcs.git_bridge import conversion
from ipvcs.git_bridge.git import GitRepository
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage import verify
from ipvcs.storage.disk import DiskFullError
from ipvcs.storage.home import Home, open_home
from tests.e2e import mounts
from tests.e2e.test_blob_worker import assert_nothing_is_left

MIB = 1024 * 1024
SIZE = 12 * MIB


def convert(repository: GitRepository, home: Home) -> Mapped:
    tip = ObjectId.parse(repository.run("rev-parse", "main").decode().strip())
    with (
        home.blocks.writing() as writer,
        conversion.converting(repository, home, writer, "unixfs-v1-2025") as converter,
    ):
        (mapped,) = converter.convert([tip], [], lambda _done, _total: None)
        return mapped


def check(path: Path, repository: GitRepository) -> None:
    """Convert onto a disk that has room for half of it, and again when it has room."""
    conversion.MANY_BLOBS, conversion._cores = 1, lambda: 2  # type: ignore[misc]
    disk = mounts.Disk(path, 64 * MIB)
    with open_home(path / "home") as home:
        disk.fill(leave=SIZE // 2)
        with pytest.raises(DiskFullError) as caught:
            convert(repository, home)
        assert str(home.path) in str(caught.value)
        assert caught.value.hint
        assert_nothing_is_left(home)
        assert list(verify.iter_damaged(home.blocks)) == []
        disk.empty()
        assert home.blocks.has(convert(repository, home).cid)
        assert list(verify.iter_damaged(home.blocks)) == []
        assert home.blocks.stat().size > SIZE


if __name__ == "__main__":
    mounts.enter()
    check(Path(sys.argv[1]), GitRepository(Path(sys.argv[2]), {"PATH": "/usr/bin:/bin"}))
