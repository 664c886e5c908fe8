"""Git as it is started for us: where objects are found, and what it says when it fails."""

import os
import subprocess
from pathlib import Path

import pytest

from ipvcs.git_bridge.git import ALTERNATES, GitError, GitRepository, alternates
from ipvcs.git_bridge.packing import PackToBe, packing
from ipvcs.objects.git.object_id import ObjectId


def repository(path: Path, environ: dict[str, str] | None = None) -> GitRepository:
    made = GitRepository(path, {**os.environ, **(environ or {})})
    made.run("init", "-q", "--bare", str(path))
    return made


@pytest.mark.parametrize("name", ["plain", "a:b", 'a"b:c', '"quoted"', "back\\slash:x", "new\nline:x", "ü b"])
def test_objects_are_found_in_a_directory_of_any_name(tmp_path: Path, name: str) -> None:
    lender = repository(tmp_path / name)
    oid = lender.run("hash-object", "-w", "--stdin", stdin=b"lent").decode().strip()
    borrower = repository(tmp_path / "borrower", {ALTERNATES: alternates(lender.git_dir / "objects")})
    assert borrower.run("cat-file", "blob", oid) == b"lent"
    elsewhere = lender.elsewhere(tmp_path / "elsewhere")
    assert lender.run("cat-file", "blob", oid, environ=elsewhere) == b"lent"


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    made = repository(tmp_path / "r")
    with (
        pytest.raises(GitError, match="git cat-file failed: Not a valid object name nothing") as caught,
        made.start("cat-file", "blob", "nothing"),
    ):
        pass
    assert caught.value.status == 128


def test_a_command_is_ended_when_the_block_is_left_by_an_error(tmp_path: Path) -> None:
    made = repository(tmp_path / "r")
    with pytest.raises(KeyboardInterrupt), made.start("cat-file", "--batch", stdin=subprocess.PIPE) as process:
        raise KeyboardInterrupt
    assert process.returncode is not None


def test_packing_that_is_interrupted_ends_and_leaves_nothing(tmp_path: Path) -> None:
    made = repository(tmp_path / "r")
    tip = ObjectId.parse(made.run("hash-object", "-w", "--stdin", stdin=b"x").decode().strip())
    making: list[PackToBe] = []
    with pytest.raises(KeyboardInterrupt):
        _pack_and_be_interrupted(made, tip, tmp_path, making)
    assert making[0].git.returncode is not None
    assert list(tmp_path.glob("push-*")) == []


def _pack_and_be_interrupted(made: GitRepository, tip: ObjectId, path: Path, making: list[PackToBe]) -> None:
    with packing(made, [tip], [], path) as pack:
        assert pack is not None
        making.append(pack)
        raise KeyboardInterrupt
