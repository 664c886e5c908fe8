"""Hooks of an owner: what they are given, and what their answers are."""

import os
from pathlib import Path

import pytest

from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.hooks import Hooks, push_facts
from ipvcs.objects.git.object_id import ObjectId

OLD, NEW = ObjectId(b"\1" * 20), ObjectId(b"\2" * 20)
ZERO = "0" * 40
STEPS = [(b"refs/heads/main", OLD, NEW), (b"refs/heads/new", None, NEW), (b"refs/heads/gone\xff", OLD, None)]


@pytest.fixture
def repository(tmp_path: Path) -> GitRepository:
    made = GitRepository(tmp_path / "repository.git", os.environ)
    made.run("init", "-q", "--bare", str(made.git_dir))
    return made


@pytest.fixture
def said() -> list[bytes]:
    return []


@pytest.fixture
def hooks(tmp_path: Path, said: list[bytes]) -> Hooks:
    (tmp_path / "hooks").mkdir()
    return Hooks(tmp_path / "hooks", push_facts("12D3KooW", "/team", [b"ci.skip", b"\xff"]), said.append)


def write(tmp_path: Path, name: str, text: str, mode: int = 0o755) -> None:
    path = tmp_path / "hooks" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)


def test_without_hooks_all_may_be_done(hooks: Hooks, repository: GitRepository, said: list[bytes]) -> None:
    assert hooks.pre_receive(repository, STEPS)
    assert hooks.update(repository, STEPS[0])
    hooks.post_receive(repository, STEPS)
    assert said == []


def test_pre_receive_reads_the_steps(
    tmp_path: Path, hooks: Hooks, repository: GitRepository, said: list[bytes]
) -> None:
    write(tmp_path, "pre-receive", "cat; exit 3")
    assert not hooks.pre_receive(repository, STEPS)
    assert b"".join(said).splitlines(keepends=True) == [
        f"{OLD} {NEW} refs/heads/main\n".encode(),
        f"{ZERO} {NEW} refs/heads/new\n".encode(),
        f"{OLD} {ZERO} refs/heads/gone".encode() + b"\xff\n",
    ]


def test_update_has_ref_old_and_new_as_arguments(
    tmp_path: Path, hooks: Hooks, repository: GitRepository, said: list[bytes]
) -> None:
    write(tmp_path, "update", 'echo "$@"')
    assert hooks.update(repository, STEPS[1])
    assert said == [f"refs/heads/new {ZERO} {NEW}\n".encode()]


def test_hooks_are_in_the_repository_and_know_who_pushes(
    tmp_path: Path, hooks: Hooks, repository: GitRepository, said: list[bytes]
) -> None:
    write(
        tmp_path, "post-receive", 'git rev-parse --git-dir; pwd; echo "$IPVCS_PUSHER $IPVCS_REPOSITORY"\n'
        'echo "$GIT_PUSH_OPTION_COUNT $GIT_PUSH_OPTION_0 $GIT_PUSH_OPTION_1" >&2',
    )  # fmt: skip
    hooks.post_receive(repository, STEPS)
    assert b"".join(said).splitlines(keepends=True) == [
        b".\n",
        os.fsencode(repository.git_dir) + b"\n",
        b"12D3KooW /team\n",
        b"2 ci.skip \xff\n",
    ]


def test_a_hook_need_not_read_what_it_is_given(tmp_path: Path, hooks: Hooks, repository: GitRepository) -> None:
    write(tmp_path, "pre-receive", "exit 0")
    assert hooks.pre_receive(repository, STEPS * 5000)


def test_a_file_that_is_not_executable_is_no_hook(tmp_path: Path, hooks: Hooks, repository: GitRepository) -> None:
    write(tmp_path, "pre-receive", "exit 1", mode=0o644)
    assert hooks.pre_receive(repository, STEPS)


def test_a_hook_that_cannot_run_refuses(
    tmp_path: Path, hooks: Hooks, repository: GitRepository, said: list[bytes]
) -> None:
    path = tmp_path / "hooks" / "pre-receive"
    path.write_text("#!/nowhere/at/all\n")
    path.chmod(0o755)
    assert not hooks.pre_receive(repository, STEPS)
    assert said == [b"cannot run the hook pre-receive: No such file or directory"]


def test_much_is_said_in_large_pieces_of_whole_lines(
    tmp_path: Path, hooks: Hooks, repository: GitRepository, said: list[bytes]
) -> None:
    write(tmp_path, "post-receive", "seq 100000; printf %070000d 1")
    hooks.post_receive(repository, STEPS)
    expected = b"".join(b"%d\n" % number for number in range(1, 100001)) + b"0" * 69_999 + b"1"
    assert b"".join(said) == expected
    assert max(map(len, said)) <= 32 * 1024
    assert len(said) < 1000
    assert all(each.endswith(b"\n") for each in said if b"\n" in each)
