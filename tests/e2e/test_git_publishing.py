"""The last steps of a push: who has the record, who serves it, and what another home with the key did meanwhile."""

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ipvcs.client.daemon_lock import holder
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.names import Announcement, Names, NameStanding
from ipvcs.git_bridge.push import LocalPush, Published, Pushed, Pusher, Target
from ipvcs.git_bridge.ref_updates import FETCH_FIRST, Asked
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.naming.succession import UNPUBLISHED, State
from ipvcs.objects.block import Block
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.storage.home import Home, open_home
from tests.cli_runner import Ipvcs
from tests.e2e.daemons import Daemons, Foreground, pid_of, wait_gone
from tests.e2e.fetching import address_of, bootstrap, client_of, connect, noise, peer_of, wait_until
from tests.e2e.git_user import GitUser, Said
from tests.fakes.memory_network import key_of

pytestmark = pytest.mark.network

NOBODY = "warning: nobody else knows of this push yet"


@pytest.fixture
def middle(daemons: Daemons) -> Foreground:
    """Somebody to meet at."""
    return daemons.start(daemons.make_home("middle"))


def user(home: Path, **environ: str) -> GitUser:
    """Return whom a home belongs to, with a repository of one commit whose remote `ipfs` is the home's name."""
    made = GitUser(home.with_name(f"{home.name}-work"), home, **environ).init()
    made("remote", "add", "ipfs", "ipfs::/ipns/self")
    made.commit("file", f"of {home.name}")
    return made


def push(author: GitUser, *words: str) -> tuple[Said, float]:
    """Commit and push; return what git said, and how many seconds it took."""
    author.commit("file", f"{time.monotonic()}")
    began = time.monotonic()
    return author.run("push", *words, "ipfs", "main"), time.monotonic() - began


def root_of(home: Path, name: str = "self") -> str:
    """Return where the home's name leads, as its own node has it."""
    path: str = client_of(home).call("name/resolve", *([] if name == "self" else [name]))["Path"]
    return path


# ---- who has the record ----


def test_when_others_took_the_record_nothing_is_said_unless_asked(daemons: Daemons, middle: Foreground) -> None:
    home = daemons.make_home()
    bootstrap(home, address_of(middle))
    daemons.start(home)
    author = user(home)
    said, _ = push(author)
    assert (said.code, "warning" in said.err) == (0, False), said.err
    said, _ = push(author, "-v")
    assert f"the record is with {peer_of(middle)}" in said.err
    assert f"published '{root_of(home)}' with sequence 1" in said.err
    assert "packed 3 objects into" in said.err
    said, _ = push(author, "-q")
    assert (said.code, said.err) == (0, "")


def test_with_nobody_connected_that_is_said_at_once_and_the_record_goes_out_when_somebody_comes(
    daemons: Daemons, middle: Foreground
) -> None:
    home = daemons.make_home()
    daemon = daemons.start(home)
    author = user(home)
    said, took = push(author)
    assert said.code == 0
    assert f"{NOBODY}: no peer to ask" in said.err
    assert "listens on loopback only" in said.err
    assert took < 10, "the patience for others is not for nobody"
    said, _ = push(author, "-q")
    assert (said.code, said.err) == (0, "")
    connect(daemon, address_of(middle))
    name = peer_of(daemon)
    wait_until(lambda: bool(records_at(middle, name)), "the daemon goes on trying")


def records_at(daemon: Foreground, name: str) -> list[dict[str, Any]]:
    """Return what a daemon finds of a name of which it has seen nothing yet."""
    client_of(daemon.home).call("name/forget", name)
    answer = client_of(daemon.home).call("name/resolve", name, newest=True, may_be_unpublished=True)
    return [answer] if answer["Path"] else []


def test_a_node_of_the_dht_that_serves_no_blocks_is_enough_for_the_record(daemons: Daemons) -> None:
    home, reader, other = (daemons.make_home(name) for name in ("home", "reader", "dht"))
    with open_home(other) as opened:
        opened.config.set("Bitswap.Server", False)
    dht = daemons.start(other)
    for each in (home, reader):
        bootstrap(each, address_of(dht))
        daemons.start(each)
    author = user(home)
    said, _ = push(author)
    assert "warning" not in said.err
    GitUser(reader.parent, reader)("clone", "-q", f"ipfs::/ipns/{client_of(home).call('id')['ID']}", "clone")
    assert GitUser(reader.parent / "clone", reader).objects() == author.objects("main")


@pytest.mark.parametrize(
    ("environ", "reason", "least", "most"),
    [({"REFUSES": "1"}, "none of 1 peers took", 0, 25), ({}, "no peer took it within 10 s", 9, 25)],
)
def test_a_peer_that_takes_nothing_is_not_waited_for_for_long(
    daemons: Daemons, environ: dict[str, str], reason: str, least: float, most: float
) -> None:
    peer = daemons.start(daemons.make_home("peer"), env=environ, module="tests.e2e.taking_nothing")
    home = daemons.make_home()
    bootstrap(home, address_of(peer))
    daemons.start(home)
    author = user(home)
    said, took = push(author)
    assert said.code == 0
    assert f"{NOBODY}: {reason}" in said.err, said.err
    assert least <= took <= most
    assert author.remote_refs("ipfs") == {"refs/heads/main": author("rev-parse", "main").strip()}


def test_who_has_only_the_cid_of_a_commit_or_a_tree_finds_the_publisher(daemons: Daemons, middle: Foreground) -> None:
    home = daemons.make_home()
    bootstrap(home, address_of(middle))
    publisher = peer_of(daemons.start(home))
    author = user(home)
    author.commit("dir/file", "deep")
    author("push", "-q", "ipfs", "main")
    root = Ipvcs(home).ok("dag", "resolve", "/ipns/self").out.strip()
    tree = Ipvcs(home).ok("dag", "resolve", f"/ipfs/{root}/heads/main").out.strip()
    (line,) = Ipvcs(home).ok("cat", f"/ipfs/{root}/ipvcs.refs").lines
    for cid in (root, tree, line.split()[1]):
        wait_until(
            lambda cid=cid: publisher in Ipvcs(middle.home).run("routing", "findprovs", cid).out,  # type: ignore[misc]
            f"{cid} is announced",
        )


# ---- who serves it ----


def test_a_daemon_that_a_push_started_stays_with_what_it_published(daemons: Daemons) -> None:
    home = daemons.make_home()
    with open_home(home) as opened:
        opened.config.set("Daemon.Idle", 1)
    author = user(home)
    said, _ = push(author)
    assert said.code == 0
    assert "started a daemon in the background; `ipvcs shutdown` ends it" in said.err
    pid = pid_of(home)
    time.sleep(3)
    assert pid_of(home) == pid
    said, _ = push(author, "-v")
    assert "the daemon of this home serves it" in said.err
    os.kill(pid, signal.SIGTERM)
    wait_gone(home)


def test_where_none_may_be_started_a_push_says_how_to(daemons: Daemons) -> None:
    home = daemons.make_home()
    with open_home(home) as opened:
        opened.config.set("Daemon.Autostart", False)
    said, _ = push(user(home))
    assert said.code == 128
    assert f"no daemon is running at '{home}'" in said.err
    assert "start one with `ipvcs daemon`" in said.err


def test_a_node_within_the_command_tells_others_and_says_that_it_ends(daemons: Daemons, middle: Foreground) -> None:
    home = daemons.make_home()
    bootstrap(home, address_of(middle))
    author = user(home, IPVCS_NO_DAEMON="1")
    said, _ = push(author)
    assert said.code == 0, said.err
    assert "nobody serves '/ipns/self' any more when this command has ended" in said.err
    assert NOBODY not in said.err, "right after the start it waits for company"
    assert holder(home) is None
    name = Ipvcs(home).ok("id", "--json").json[0]["ID"]
    assert records_at(middle, name)


@pytest.mark.parametrize("kills", [5, pytest.param(15, marks=pytest.mark.long)])
def test_a_push_whose_daemon_is_killed_is_done_or_not_and_can_be_tried_again(daemons: Daemons, kills: int) -> None:
    home = daemons.make_home()
    daemon = daemons.start(home)
    author = user(home)
    _, duration = push(author)
    old = author("rev-parse", "main").strip()
    failed = 0
    for kill in range(kills):
        new = author.commit(f"dir/{kill}", noise(20_000, kill).hex())
        running = author.start("push", "ipfs", "main")
        time.sleep(duration * (kill + 1) / (kills + 1))
        daemon.end(signal.SIGKILL)
        out, _ = running.communicate(timeout=60)
        assert b"Traceback" not in out
        if running.returncode:
            failed += 1
            assert b"lost the daemon" in out or b"no daemon is running" in out or b"started a daemon" in out, out
        if holder(home) is not None:  # the push has started another one
            os.kill(pid_of(home), signal.SIGTERM)
            wait_gone(home)
        daemon = daemons.start(home)
        assert author.remote_refs("ipfs")["refs/heads/main"] in ((old, new) if running.returncode else (new,))
        author("push", "-q", "ipfs", "main")
        assert author.remote_refs("ipfs")["refs/heads/main"] == new
        old = new
    assert Ipvcs(home).ok("repo", "verify").code == 0
    assert failed or kills < 10


# ---- two homes that share a key ----


@dataclass
class Twins:
    """Two homes that have the key `team`, and a person at each."""

    homes: tuple[Path, Path]
    users: tuple[GitUser, GitUser]
    name: str

    @classmethod
    def make(cls, daemons: Daemons) -> "Twins":
        one, two = (daemons.make_home(name) for name in ("one", "two"))
        name = Ipvcs(one).ok("key", "gen", "team").out.strip()
        exported = daemons.path / "team.key"
        Ipvcs(one).ok("key", "export", "-o", exported, "team")
        Ipvcs(two).ok("key", "import", "team", exported)
        users = tuple(user(home) for home in (one, two))
        for each in users:
            each("remote", "set-url", "ipfs", "ipfs::/ipns/team/project")
        return cls((one, two), (users[0], users[1]), name)


def test_both_online_the_second_sees_what_the_first_pushed(daemons: Daemons, middle: Foreground) -> None:
    twins = Twins.make(daemons)
    for home in twins.homes:
        bootstrap(home, address_of(middle))
        daemons.start(home)
    one, two = twins.users
    one("push", "-q", "ipfs", "main")
    two.commit("elsewhere", "x")
    said = two.run("push", "ipfs", "main")
    assert said.code == 1
    assert "(fetch first)" in said.err
    assert "warning" not in said.err, "no fork, and nothing of this home's was overtaken"
    two("fetch", "-q", "ipfs")
    two("merge", "-q", "-s", "ours", "--allow-unrelated-histories", "-m", "both", "ipfs/main")
    said = two.run("push", "-v", "ipfs", "main")
    assert said.code == 0
    assert "with sequence 1" in said.err
    assert one.remote_refs("ipfs") == {"refs/heads/main": two("rev-parse", "main").strip()}
    two("push", "-q", "ipfs", "main:other")
    one("pull", "-q", "--ff-only", "ipfs", "main")
    one.commit("file", "again")
    said = one.run("push", "-v", "ipfs", "main")
    assert "with sequence 3" in said.err, said.err
    assert two.remote_refs("ipfs").keys() == {"refs/heads/main", "refs/heads/other"}


def test_who_has_not_seen_what_the_other_published_just_now_does_not_replace_it(
    daemons: Daemons, middle: Foreground
) -> None:
    """Its record would end later, and win, and neither would ever know."""
    twins = Twins.make(daemons)
    peer_id = PeerId.parse(twins.name)
    first, theirs, ours = (f"/ipfs/{Block.of(text).cid}" for text in (b"first", b"theirs", b"ours"))
    for home in twins.homes:
        bootstrap(home, address_of(middle))
        daemons.start(home)
    with open_home(twins.homes[0]) as home_one, open_home(twins.homes[1]) as home_two:
        one, two = (Names(home, client_of(home.path)) for home in (home_one, home_two))
        assert one.publish("team", peer_id, first, UNPUBLISHED) is not None
        assert two.newest(twins.name, peer_id).state == (0, first)
        announced = two.publish("team", peer_id, theirs, (0, first))
        assert announced is not None
        assert announced.takers
        assert one.publish("team", peer_id, ours, (0, first)) is None
        assert one.newest(twins.name, peer_id).state == (1, theirs)
        announced = one.publish("team", peer_id, ours, (1, theirs))
        assert announced is not None
        assert announced.winner is None
        assert two.newest(twins.name, peer_id) == NameStanding(ours, (2, ours))


def test_of_two_that_pushed_offline_one_is_told_and_nothing_is_lost(daemons: Daemons, middle: Foreground) -> None:
    twins = Twins.make(daemons)
    running = [daemons.start(home) for home in twins.homes]
    one, two = twins.users
    for author in twins.users:
        said, _ = push(author)  # the second one's record ends later, and wins
        assert said.code == 0
        assert f"cannot find out whether another home has published '{twins.name}'" in said.err
        assert NOBODY in said.err
        assert author.run("push", "-q", "ipfs", "main:other").err == ""
    lost, won = (root_of(home, "team") for home in twins.homes)
    for daemon in running:
        connect(daemon, address_of(middle))
    wait_until(lambda: [each["Path"] for each in records_at(middle, twins.name)] == [won], "one of them is found")

    one.commit("file", "offline, and on")
    said = one.run("push", "ipfs", "main")
    assert said.code == 1
    assert "(fetch first)" in said.err, said.err
    assert f"an earlier push from here stays pinned as '{lost}'" in said.err
    reader = daemons.make_home("reader")
    bootstrap(reader, address_of(running[0]))
    daemons.start(reader)
    GitUser(reader.parent, reader)("clone", "-q", f"ipfs::{lost}/project", "lost")
    assert GitUser(reader.parent / "lost", reader)("rev-parse", "HEAD").strip() == one("rev-parse", "main~1").strip()

    time.sleep(8)  # by now either may have tried again to publish
    assert records_at(middle, twins.name)[0]["Path"] == won, "what lost is not renewed"
    one("fetch", "-q", "ipfs")
    one("merge", "-q", "-s", "ours", "--allow-unrelated-histories", "-m", "both", "ipfs/main")
    one("push", "-q", "ipfs", "main")
    two("pull", "-q", "--ff-only", "ipfs", "main")
    assert two("rev-parse", "main") == one("rev-parse", "main")
    said, _ = push(two)
    assert (said.code, "warning" in said.err) == (0, False), said.err


# ---- what comes to light after publishing, without a network ----


@dataclass
class ScriptedNames:
    """The names of a node, whose answers a test gives. What is published is what the name leads to."""

    announced: list[Announcement | Callable[[str], Announcement] | None] = field(default_factory=list)
    """What becomes of each record; a function is called when it is published, with where it leads."""
    state: State = UNPUBLISHED
    asked: int = 0

    def newest(self, _name: str, _own: PeerId | None = None) -> NameStanding:
        self.asked += 1
        return NameStanding(self.state[1] or None, self.state)

    def own_record(self, _name: PeerId) -> State | None:
        return None

    def publish(self, _key: str, _name: PeerId, path: str, expected: State) -> Announcement | None:
        assert expected == self.state
        announced = self.announced.pop(0)
        if announced is not None:
            self.state = (expected[0] + 1, path)
        return announced(path) if callable(announced) else announced


@dataclass
class Desk:
    """A pusher, and what it has to do with."""

    home: Home
    git: GitUser
    names: ScriptedNames = field(default_factory=ScriptedNames)

    def push(self, *announced: Announcement | Callable[[str], Announcement] | None) -> Pushed:
        self.names.announced = list(announced)
        repository = GitRepository(self.git.path / ".git", os.environ)
        target = Target("team", key_of("team").peer_id, (b"project",))
        pusher = Pusher(self.home, self.home.blocks, self.names, ObjectFormat.SHA1, target)  # type: ignore[arg-type]
        new = ObjectId.parse(self.git("rev-parse", "main").strip())
        work = LocalPush(repository, [Asked(b"refs/heads/main", new)], self.home.temporary)
        return pusher.push(work, _ignore, _ignore)


@pytest.fixture
def desk(home: Home, tmp_path: Path) -> Desk:
    git = GitUser(tmp_path / "work", home.path).init()
    git.commit("file", "first")
    return Desk(home, git)


def _ignore(_done: int, _total: int) -> None:
    pass


def published(pushed: Pushed) -> Published:
    assert pushed.published is not None
    return pushed.published


def test_a_root_that_won_and_does_not_build_on_ours_makes_the_push_fail(desk: Desk) -> None:
    desk.push(Announcement())
    before = desk.names.state
    desk.git.commit("file", "theirs")
    theirs = published(desk.push(Announcement()))
    desk.names.state = before  # as if we had not seen it
    desk.git("reset", "-q", "--hard", "main~1")
    desk.git.commit("file", "ours")
    pushed = desk.push(Announcement(takers=("12D3Koo",), winner=f"/ipfs/{theirs.root}"))
    ours = published(pushed).root
    assert [each.refusal for each in pushed.verdicts] == [FETCH_FIRST]
    assert pushed.overtaken == f"/ipfs/{ours}"
    assert desk.home.pins.get(ours).complete


def test_a_root_that_won_and_builds_on_ours_is_none_of_our_trouble(desk: Desk) -> None:
    desk.push(Announcement())

    def build_upon(path: str) -> Announcement:
        other = Desk(desk.home, desk.git, ScriptedNames(state=(1, path)))
        desk.git.commit("file", "theirs")
        return Announcement(winner=f"/ipfs/{published(other.push(Announcement())).root}")

    desk.git.commit("file", "ours")
    pushed = desk.push(build_upon)
    assert [each.refusal for each in pushed.verdicts] == [None]
    assert pushed.overtaken is None


def test_what_takes_longer_than_a_second_asks_again_before_it_signs(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.push(Announcement())
    assert desk.names.asked == 1
    desk.git("commit", "-q", "--allow-empty", "-m", "second")
    monkeypatch.setattr("ipvcs.git_bridge.push.FRESH", -1.0)
    desk.push(Announcement())
    assert desk.names.asked == 3


def test_a_name_that_has_changed_is_read_again(desk: Desk) -> None:
    pushed = desk.push(None, None, Announcement())
    assert [each.refusal for each in pushed.verdicts] == [None]
    assert desk.names.asked == 3
