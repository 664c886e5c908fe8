"""Walking directories by descriptors."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvcs.storage.directory_position import DirectoryPosition


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "link").symlink_to("a")
    return tmp_path


@pytest.fixture
def position(tree: Path) -> Iterator[DirectoryPosition]:
    with DirectoryPosition(os.open(tree, os.O_RDONLY)) as position:
        yield position


def here(position: DirectoryPosition) -> Path:
    return Path(f"/proc/self/fd/{position.fd}").readlink()


def test_what_is_entered_is_left_again(tree: Path, position: DirectoryPosition) -> None:
    position.enter(position.open(b"a"))
    position.enter(position.open(b"b"))
    assert here(position) == tree / "a" / "b"
    position.leave()
    assert here(position) == tree / "a"
    position.leave()
    assert here(position) == tree


def test_one_descriptor_is_open_however_deep(tree: Path, position: DirectoryPosition) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = count()
    position.enter(position.open(b"a"))
    position.enter(position.open(b"b"))
    assert count() == before
    position.leave()
    assert count() == before


def test_the_directory_that_is_left_can_be_finished(tree: Path, position: DirectoryPosition) -> None:
    position.enter(position.open(b"a"))
    position.leave(lambda fd: os.fchmod(fd, 0o500))
    assert (tree / "a").stat().st_mode & 0o777 == 0o500


def test_symlinks_and_files_are_not_entered(tree: Path, position: DirectoryPosition) -> None:
    (tree / "file").write_bytes(b"")
    for name in (b"link", b"file", b"nowhere"):
        with pytest.raises(OSError, match="directory"):
            position.open(name)


def test_a_directory_that_was_moved_is_not_left_for_a_strange_one(tree: Path, position: DirectoryPosition) -> None:
    position.enter(position.open(b"a"))
    position.enter(position.open(b"b"))
    (tree / "a" / "b").rename(tree / "b")
    with pytest.raises(OSError, match="was moved"):
        position.leave()
