"""Where a history is cut off, as git writes it and reads it."""

from pathlib import Path

import pytest

from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.shallow import (
    ShallowChangedError,
    ShallowFileError,
    ShallowLockedError,
    read_shallow,
    write_shallow,
)
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from tests.e2e.real_git import Git


def repository(git: Git) -> GitRepository:
    return GitRepository(git.path, git.environ)


@pytest.fixture
def git(tmp_path: Path) -> Git:
    return Git(tmp_path / "repo.git", ObjectFormat.SHA1)


def test_git_reads_what_we_write_and_the_other_way_round(git: Git, tmp_path: Path) -> None:
    tree = git("mktree").decode().strip()
    oids = [git("commit-tree", tree, "-m", "1").decode().strip()]
    for number in "234":
        oids.append(git("commit-tree", tree, "-p", oids[-1], "-m", number).decode().strip())
    git("update-ref", "refs/heads/main", oids[-1])
    cut = frozenset({ObjectId.parse(oids[1])})
    write_shallow(repository(git), cut, frozenset())
    assert git("rev-list", "--count", "main") == b"3\n"
    git("clone", "-q", "--bare", "--depth", "2", "--branch", "main", f"file://{git.path}", str(tmp_path / "other.git"))
    other = GitRepository(tmp_path / "other.git", git.environ)
    assert read_shallow(other) == {ObjectId.parse(oids[2])}
    write_shallow(repository(git), (), cut)
    assert git("rev-parse", "--is-shallow-repository") == b"false\n"
    assert read_shallow(repository(git)) == frozenset()
    write_shallow(repository(git), (), frozenset())
    assert not list(git.path.glob("shallow*"))


def test_a_change_of_somebody_else_is_not_undone(git: Git) -> None:
    (git.path / "shallow").write_text("1" * 40 + "\n")
    with pytest.raises(ShallowChangedError, match="has changed"):
        write_shallow(repository(git), {ObjectId(bytes(20))}, frozenset())
    assert [path.name for path in git.path.glob("shallow*")] == ["shallow"]
    assert read_shallow(repository(git)) == {ObjectId.parse("1" * 40)}


def test_a_lock_of_somebody_else_is_respected(git: Git) -> None:
    lock = git.path / "shallow.lock"
    lock.touch()
    with pytest.raises(ShallowLockedError, match="file exists"):
        write_shallow(repository(git), {ObjectId(bytes(20))}, frozenset())
    assert lock.exists()
    assert read_shallow(repository(git)) == frozenset()


def test_a_damaged_list_is_an_error(git: Git) -> None:
    (git.path / "shallow").write_bytes(b"\xff\n")
    with pytest.raises(ShallowFileError, match="bad line"):
        read_shallow(repository(git))
