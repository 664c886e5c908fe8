"""Pushes and clones that go wrong: publishers that die, records that expire, interrupts, collections of garbage."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli_runner import Ipvcs
from tests.e2e.fetching import MIB, stat
from tests.e2e.git_net import Net, clone
from tests.e2e.git_user import GitUser

pytestmark = pytest.mark.network

IMPATIENT = "import ipvcs.cli.git_remote as g; g._PATIENCE = 3.0"
"""Gives up after as many seconds without a block as a test can wait for."""


# ---- the publisher goes ----


def received(net: Net) -> tuple[int, int]:
    """Return how many blocks the reader's daemon got, and how many of them twice."""
    found = stat(net.reader)
    return found["BlocksReceived"], found["DupBlksReceived"]


def test_a_clone_whose_publisher_is_killed_and_comes_back_goes_on_or_says_why(
    net: Net, tmp_path: Path, large: GitUser
) -> None:
    before = received(net)
    with net.slow_link(12 * MIB) as link:
        cloning = GitUser(tmp_path, net.reader).start("clone", "-q", net.url(tmp_path), "clone")
        link.wait_passed(10 * MIB)
        with net.gone(net.publisher, signal.SIGKILL):
            assert cloning.poll() is None
        out, _ = cloning.communicate(timeout=45)
    if cloning.returncode:
        assert cloning.returncode == 128
        assert b"error: nobody sent block '" in out
        assert b"' within 30 seconds: " in out
        assert not (tmp_path / "clone").exists()
        clone(net, tmp_path)
    reader = GitUser(tmp_path / "clone", net.reader)
    assert reader.objects("HEAD") == large.objects("main")
    assert reader("fsck", "--full") == ""
    blocks, twice = (now - then for now, then in zip(received(net), before, strict=True))
    assert blocks >= 32
    assert twice <= 2, "what had come stayed"


def test_a_clone_without_its_publisher_fails_in_time_and_goes_on_later_where_it_was(
    net: Net, tmp_path: Path, large: GitUser
) -> None:
    before = received(net)
    user = GitUser(tmp_path, net.reader).patched(IMPATIENT)
    with net.slow_link(12 * MIB) as link:
        cloning = user.start("clone", "-q", net.url(tmp_path), "clone")
        link.wait_passed(10 * MIB)
        with net.gone(net.publisher, signal.SIGKILL):
            began = time.monotonic()
            out, _ = cloning.communicate(timeout=45)
            assert time.monotonic() - began < 15
            assert cloning.returncode == 128
            assert out.startswith(b"error: nobody sent block '"), out
            assert b"' within 3 seconds: " in out
            assert b"trying again goes on from there" in out
            kept = received(net)[0] - before[0]
            assert 8 <= kept < 32
            said = user.run("clone", "-q", net.url(tmp_path), "clone")
            assert (said.code, said.err.startswith("error: nobody sent block '")) == (128, True)
            assert not (tmp_path / "clone").exists()
    reader = clone(net, tmp_path)
    assert reader.objects("HEAD") == large.objects("main")
    assert received(net)[1] - before[1] <= 2, "what had come stayed"


# ---- one's own daemon goes ----


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_push_whose_daemon_is_killed_as_it_publishes_changes_nothing_or_all(
    net: Net, tmp_path: Path, author: GitUser, when: str
) -> None:
    author("push", "-q", "ipfs", "main")
    old, new = author("rev-parse", "main").strip(), author.commit("file", "two")
    kill = f"os.kill({net.running[net.publisher].process.pid}, 9)"
    steps = f"({kill}, publish(*a))[1]" if when == "before" else f"(publish(*a), {kill})[0]"
    first = (
        f"import os; from ipvcs.git_bridge.names import Names as N; publish = N.publish; N.publish = lambda *a: {steps}"
    )
    user = GitUser(author.path, author.home).patched(first)
    said = user.run("push", "-q", "ipfs", "main")
    net.running[net.publisher].process.wait()
    net.running[net.publisher] = net.daemons.start(net.publisher)
    if when == "before":
        assert said.code == 1
        assert "error: no daemon is running" in said.err or "error: lost the daemon during" in said.err, said.err
        assert author.remote_refs("ipfs") == {"refs/heads/main": old}
        author("push", "-q", "ipfs", "main")
    else:
        assert (said.code, said.err) == (0, "")
    assert author.remote_refs("ipfs") == {"refs/heads/main": new}
    author("clone", "-q", net.url(tmp_path), "../copy")
    assert GitUser(tmp_path / "copy", net.publisher).objects("HEAD") == author.objects("main")


def test_a_clone_whose_own_daemon_is_killed_says_so_and_goes_on_later_where_it_was(
    net: Net, tmp_path: Path, large: GitUser
) -> None:
    with net.slow_link(12 * MIB) as link:
        cloning = GitUser(tmp_path, net.reader).start("clone", "-q", net.url(tmp_path), "clone")
        link.wait_passed(12 * MIB)
        with net.gone(net.reader, signal.SIGKILL):
            out, _ = cloning.communicate(timeout=10)
            assert cloning.returncode == 128
            assert out.startswith(b"error: lost the daemon during 'fetch': "), out
            assert not (tmp_path / "clone").exists()
    reader = clone(net, tmp_path)
    assert reader.objects("HEAD") == large.objects("main")
    assert received(net)[0] <= 28, "counted since its start: what had been flushed stayed"


# ---- records expire ----


def test_an_expired_name_is_said_to_be_one(net: Net, tmp_path: Path, author: GitUser) -> None:
    publisher, reader = Ipvcs(net.publisher), GitUser(tmp_path, net.reader)
    name = publisher.ok("key", "gen", tmp_path.name).out.strip()
    author("push", "-q", f"ipfs::/ipns/{tmp_path.name}", "main")
    path = publisher.ok("name", "resolve", tmp_path.name).out.strip()
    publisher.ok("name", "publish", "--key", tmp_path.name, "--lifetime", "3s", path)
    expiry = time.monotonic() + 3
    assert reader.remote_refs(f"ipfs::/ipns/{name}") == author.refs()
    with net.gone(net.publisher):
        time.sleep(max(0.0, expiry - time.monotonic()) + 0.1)
        said = reader.run("clone", "-q", f"ipfs::/ipns/{name}", "clone")
        assert said.code == 128
        assert f"cannot resolve '/ipns/{name}': no record found" in said.err
        assert "the one last seen expired at 20" in said.err
        assert "\nhint: its publisher may be offline for longer than the record lives" in said.err
        assert not (tmp_path / "clone").exists()
    author.commit("file", "two")
    author("push", "-q", f"ipfs::/ipns/{tmp_path.name}", "main")
    reader("clone", "-q", f"ipfs::/ipns/{name}", "clone")


# ---- garbage ----


@contextmanager
def collecting(home: Path) -> Iterator[None]:
    """Collect garbage in `home` again and again while the block runs."""
    words = "import sys, time; from ipvcs.cli.main import run\n"
    words += "while run(sys.argv[1:]) == 0: print(flush=True), time.sleep(0.1)"
    command = [sys.executable, "-c", words, "--home", str(home), "repo", "gc", "--silent"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        runs, errors = process.communicate()
    assert errors == b""
    assert len(runs) >= 5


@pytest.mark.parametrize("pushes", [12, pytest.param(30, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
def test_garbage_collected_all_the_time_takes_nothing_but_old_roots(
    net: Net, tmp_path: Path, author: GitUser, pushes: int
) -> None:
    publisher = Ipvcs(net.publisher)
    roots = []
    reader = GitUser(tmp_path / "clone", net.reader)
    with collecting(net.publisher), collecting(net.reader):
        for number in range(pushes):
            author.commit(f"dir{number % 3}/file", f"{number} " * 1000)
            author("push", "-q", "ipfs", "main")
            roots.append(publisher.ok("dag", "resolve", f"/ipns/{net.name}/{tmp_path.name}").out.strip())
            if number == 0:
                clone(net, tmp_path)
            elif number % 4 == 3:
                reader("pull", "-q")
                assert reader.objects("HEAD") == author.objects("main")
        assert clone(net, tmp_path, "again").objects("HEAD") == author.objects("main")
    assert reader("fsck", "--full") == ""
    publisher.ok("repo", "gc", "--silent")
    there = set(publisher.ok("repo", "ls").lines)
    assert [root in there for root in roots] == [False] * (pushes - 10) + [True] * 10
    publisher.ok("pin", "verify")
    for home in (net.publisher, net.reader):
        Ipvcs(home).ok("repo", "verify")
    GitUser(tmp_path, net.publisher)("clone", "-q", f"ipfs://{roots[-10]}", "old")
    assert GitUser(tmp_path / "old", net.publisher)("rev-list", "--count", "HEAD").strip() == str(pushes - 8)
