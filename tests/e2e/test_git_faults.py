"""Pushes and clones that go wrong: publishers that die, records that expire, interrupts, collections of garbage."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs
from tests.e2e.fetching import MIB, address_of, client_of, connect, noise, stat
from tests.e2e.git_net import Net, clone
from tests.e2e.git_user import GitUser
from tests.e2e.slow_link import SlowLink

pytestmark = pytest.mark.network

IMPATIENT = "import ipvcs.cli.git_remote as g; g._PATIENCE = 3.0"
"""Gives up after as many seconds without a block as a test can wait for."""


# ---- the publisher goes ----


@pytest.fixture
def large(net: Net, tmp_path: Path, author: GitUser) -> GitUser:
    """The author, who has pushed 32 MiB that nothing compresses."""
    for number in range(8):
        (author.path / f"blob{number}").write_bytes(
            noise(4 * MIB, random.Random(str(tmp_path)).getrandbits(32) + number)
        )
    author("add", ".")
    author("commit", "-q", "-m", "blobs")
    author("push", "-q", "ipfs", "main")
    return author


@contextmanager
def slow_link(net: Net, rate: float) -> Iterator[SlowLink]:
    """Let the reader's only way to the publisher be one of `rate` bytes a second."""
    with SlowLink(address_of(net.running[net.publisher]), rate) as link:
        for peer in client_of(net.reader).call("swarm/peers")["Peers"] or []:
            if peer["Peer"] == net.name:
                client_of(net.reader).call("swarm/disconnect", f"{peer['Addr']}/p2p/{net.name}")
        connect(net.running[net.reader], link.address)
        yield link


@contextmanager
def gone(net: Net, home: Path, number: signal.Signals = signal.SIGTERM) -> Iterator[None]:
    """End the daemon of `home` while the block runs."""
    net.running[home].end(number)
    try:
        yield
    finally:
        net.running[home] = net.daemons.start(home)


def received(net: Net) -> tuple[int, int]:
    """Return how many blocks the reader's daemon got, and how many of them twice."""
    found = stat(net.reader)
    return found["BlocksReceived"], found["DupBlksReceived"]


def test_a_clone_whose_publisher_is_killed_and_comes_back_goes_on_or_says_why(
    net: Net, tmp_path: Path, large: GitUser
) -> None:
    before = received(net)
    with slow_link(net, 12 * MIB) as link:
        cloning = GitUser(tmp_path, net.reader).start("clone", "-q", net.url(tmp_path), "clone")
        link.wait_passed(10 * MIB)
        with gone(net, net.publisher, signal.SIGKILL):
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
    with slow_link(net, 12 * MIB) as link:
        cloning = user.start("clone", "-q", net.url(tmp_path), "clone")
        link.wait_passed(10 * MIB)
        with gone(net, net.publisher, signal.SIGKILL):
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
    with slow_link(net, 12 * MIB) as link:
        cloning = GitUser(tmp_path, net.reader).start("clone", "-q", net.url(tmp_path), "clone")
        link.wait_passed(12 * MIB)
        with gone(net, net.reader, signal.SIGKILL):
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
    with gone(net, net.publisher):
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
    words = "import sys; from ipvcs.cli.main import run\nwhile run(sys.argv[1:]) == 0: print(flush=True)"
    command = [sys.executable, "-c", words, "--home", str(home), "repo", "gc", "--silent"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield
        assert process.poll() is None
    finally:
        process.kill()
        runs, errors = process.communicate()
    assert (len(runs) >= 10, errors) == (True, b"")


@pytest.mark.parametrize("pushes", [12, pytest.param(60, marks=[pytest.mark.long, pytest.mark.timeout(600)])])
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


# ---- interrupts ----


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


def interrupt(process: "subprocess.Popen[bytes]", home: Path) -> str:
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
    with open_home(home) as opened:
        assert list(opened.temporary.iterdir()) == []
    return out.decode()


def packs_left(git_dir: Path) -> list[str]:
    """Return the files that git or somebody for it began to write and did not end."""
    return [path.name for path in git_dir.rglob("tmp_*")]


LONG = [pytest.mark.long, pytest.mark.timeout(600)]


@pytest.mark.parametrize("count", [6, pytest.param(60, marks=LONG)])
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
        interrupt(push, net.publisher)
        assert packs_left(author.path / ".git") == []
        author("push", "-q", "ipfs", "main")
        assert author.remote_refs("ipfs") == {"refs/heads/main": new}
    assert clone(net, tmp_path).objects("HEAD") == author.objects("main")


@pytest.mark.parametrize("way", ["packs", "objects"])
@pytest.mark.parametrize("count", [4, pytest.param(40, marks=LONG)])
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
        interrupt(cloning, net.reader)
        if (tmp_path / "clone").exists():  # whole, or git was interrupted while it checked files out, and leaves it
            assert GitUser(tmp_path / "clone", net.reader).objects("HEAD") == author.objects("main")
            shutil.rmtree(tmp_path / "clone")
        else:
            assert cloning.returncode
    user("clone", "-q", net.url(tmp_path), "clone")
    assert GitUser(tmp_path / "clone", net.reader).objects("HEAD") == author.objects("main")


def test_a_clone_that_is_interrupted_while_blocks_arrive_ends_at_once(net: Net, tmp_path: Path, large: GitUser) -> None:
    with slow_link(net, 2 * MIB) as link:
        cloning = GitUser(tmp_path, net.reader).start("clone", "-q", net.url(tmp_path), "clone")
        link.wait_passed(2 * MIB)
        interrupt(cloning, net.reader)
        assert cloning.returncode != 0
        assert not (tmp_path / "clone").exists()
