"""Ctrl-C during pushes and clones: all is over at once, nothing is left, and it can be done again."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ipvcs.storage.home import open_home
from tests.e2e.fetching import MIB, noise
from tests.e2e.git_net import Net, clone
from tests.e2e.git_user import GitUser

pytestmark = pytest.mark.network


def group_of(leader: int) -> list[str]:
    """Return the command lines of the processes that are left of a process group."""
    left = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _parent, group = path.read_text().rpartition(")")[2].split()[:3]
            if int(group) == leader and state != "Z":
                left.append((path.parent / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return left


def interrupt(process: "subprocess.Popen[bytes]") -> str:
    """Press Ctrl-C, check that all is over at once and nothing left of it, and return what was said."""
    os.killpg(process.pid, signal.SIGINT)
    began = time.monotonic()
    out, _ = process.communicate(timeout=30)
    deadline = began + 5
    while (left := group_of(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []
    assert time.monotonic() < deadline, "it takes its time"
    # Until Python has come to our first line, it prints a traceback.
    assert b"Traceback" not in out or b"/ipvcs/cli/git_remote.py" not in out, out.decode()
    return out.decode()


def temporary_files(home: Path) -> list[str]:
    """Return what commands have left behind in `home`."""
    with open_home(home) as opened:
        return [path.name for path in opened.temporary.iterdir()]


def packs_left(git_dir: Path) -> list[str]:
    """Return the files that git or somebody for it began to write and did not end."""
    return [path.name for path in git_dir.rglob("tmp_*")]


LONG = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.mark.parametrize("count", [6, pytest.param(25, marks=LONG)])
def test_an_interrupted_push_leaves_nothing_and_can_be_done_again(
    net: Net, tmp_path: Path, author: GitUser, count: int
) -> None:
    began = time.monotonic()
    author("push", "-q", "ipfs", "main")
    duration = time.monotonic() - began
    instants = random.Random(3)
    for number in range(count):
        for name in range(20):
            (author.path / f"{name}").write_bytes(noise(20_000, 100 * number + name))
        author("add", ".")
        new = author.commit("file", f"{number}")
        push = author.start("push", "-q", "ipfs", "main")
        time.sleep(instants.uniform(0.1, 1.1) * duration)
        interrupt(push)
        assert packs_left(author.path / ".git") == []
        author("push", "-q", "ipfs", "main")
        assert author.remote_refs("ipfs") == {"refs/heads/main": new}
        assert temporary_files(net.publisher) == [], "what an interrupt at a bad moment left, the next push has removed"
    assert clone(net, tmp_path).objects("HEAD") == author.objects("main")


@pytest.mark.parametrize("way", ["packs", "objects"])
@pytest.mark.parametrize("count", [4, pytest.param(15, marks=LONG)])
def test_an_interrupted_clone_leaves_nothing_and_can_be_done_again(
    net: Net, tmp_path: Path, author: GitUser, count: int, way: str
) -> None:
    for number in range(200):
        (author.path / f"{number}").write_text(f"{number}")
    author("add", ".")
    author("commit", "-q", "-m", "many")
    author("push", "-q", "ipfs", "main")
    instants = random.Random(4)
    user = GitUser(tmp_path, net.reader, IPVCS_FETCH=way)
    began = time.monotonic()
    user("clone", "-q", net.url(tmp_path), "timed")
    duration = time.monotonic() - began
    for _ in range(count):
        cloning = user.start("clone", "-q", net.url(tmp_path), "clone")
        time.sleep(instants.uniform(0.1, 1.1) * duration)
        interrupt(cloning)
        if (tmp_path / "clone").exists():  # whole, or git was interrupted while it checked files out, and leaves it
            assert GitUser(tmp_path / "clone", net.reader).objects("HEAD") == author.objects("main")
            shutil.rmtree(tmp_path / "clone")
        else:
            assert cloning.returncode
    user("clone", "-q", net.url(tmp_path), "clone")
    assert GitUser(tmp_path / "clone", net.reader).objects("HEAD") == author.objects("main")
    assert temporary_files(net.reader) == []


@pytest.mark.parametrize("way", ["packs", "objects"])
def test_a_clone_that_is_interrupted_while_blocks_arrive_ends_at_once(
    net: Net, tmp_path: Path, large: GitUser, way: str
) -> None:
    with net.slow_link(2 * MIB) as link:
        cloning = GitUser(tmp_path, net.reader, IPVCS_FETCH=way).start("clone", "-q", net.url(tmp_path), "clone")
        link.wait_passed(2 * MIB)
        interrupt(cloning)
        assert cloning.returncode != 0
        assert not (tmp_path / "clone").exists()
