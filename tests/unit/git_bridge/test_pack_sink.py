"""What is fetched by itself gets into a repository: all of it or nothing, in one pack or several."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from ipvcs.git_bridge import pack_sink
from ipvcs.git_bridge.git import GitError, GitRepository
from ipvcs.git_bridge.pack_sink import packing_apart
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, git_oid
from ipvcs.objects.git.payload import GitType, make_payload
from tests.e2e.real_git import Git

BODIES = [b"%02d" % number * (20 if number % 2 else 600_000) for number in range(12)]
"""Half of them are so large that they are written by themselves."""


@pytest.fixture(params=ObjectFormat)
def git(request: pytest.FixtureRequest, tmp_path: Path) -> Git:
    return Git(tmp_path / "repo.git", request.param)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def test_all_objects_are_there_in_one_pack(git: Git, tmp_path: Path, threads: ThreadPoolExecutor) -> None:
    fill(git, tmp_path, threads)
    assert listed(git) == oids(git)
    assert [path.suffix for path in sorted((git.path / "objects" / "pack").iterdir())] == [".idx", ".pack"]
    assert no_leftovers(git)


def test_many_objects_are_in_several_packs(
    git: Git, tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_sink, "PACK_SIZE", 20)
    monkeypatch.setattr(pack_sink, "_MOST_PACKS", 3)
    fill(git, tmp_path, threads)
    assert listed(git) == oids(git)
    assert len(list((git.path / "objects" / "pack").glob("*.pack"))) == 4
    assert git("fsck", "--full", "--strict", "--no-dangling") == b""
    assert no_leftovers(git)


def test_a_pack_that_git_refuses_leaves_nothing(
    git: Git, tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("config", "transfer.fsckObjects", "true")
    monkeypatch.setattr(pack_sink, "PACK_SIZE", 20)
    with pytest.raises(GitError, match="index-pack failed"):
        fill(git, tmp_path, threads, tree=b"100644 a\0" + bytes(git.object_format.size))  # leads to nothing
    assert listed(git) == set()
    assert no_leftovers(git)


def test_what_is_given_up_leaves_nothing(
    git: Git, tmp_path: Path, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack_sink, "PACK_SIZE", 20)
    with packing_apart(GitRepository(git.path, git.environ), git.object_format, tmp_path, threads) as sink:
        for body in BODIES:
            sink.add(GitType.BLOB, len(body), BytesIO(body).read)  # without `finish`
    assert listed(git) == set()
    assert no_leftovers(git)


def fill(git: Git, directory: Path, threads: ThreadPoolExecutor, *, tree: bytes | None = None) -> None:
    with packing_apart(GitRepository(git.path, git.environ), git.object_format, directory, threads) as sink:
        for number, body in enumerate(BODIES):
            if number % 2:
                sink.add_whole(GitType.BLOB, body)
            else:
                sink.add(GitType.BLOB, len(body), BytesIO(body).read)
        if tree is not None:
            sink.add_whole(GitType.TREE, tree)
        assert sink.count == len(BODIES) + (tree is not None)
        assert listed(git) == set()
        sink.finish()


def oids(git: Git) -> set[ObjectId]:
    return {git_oid(git.object_format, make_payload(GitType.BLOB, body)) for body in BODIES}


def listed(git: Git) -> set[ObjectId]:
    out = git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
    return set(map(ObjectId.parse, out.decode().split()))


def no_leftovers(git: Git) -> bool:
    return not list((git.path / "objects").glob("tmp_*"))
