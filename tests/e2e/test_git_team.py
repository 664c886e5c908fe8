"""Git pushing to a node that is not ours: rights, refusals in git's words, races, hooks, both object formats."""

import json
import stat
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.storage.access import Right
from ipvcs.storage.home import open_home
from ipvcs.storage.push_log import LoggedUpdate
from tests.cli_runner import Ipvcs
from tests.e2e.git_team import ALL, Team
from tests.e2e.git_user import GitUser

pytestmark = pytest.mark.network
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    made = Team(tmp_path_factory.mktemp("team"))
    yield made
    made.daemons.close()


@pytest.fixture
def place(tmp_path: Path) -> str:
    """A place behind the owner's name that no other test uses."""
    return f"team/{tmp_path.name}"


@pytest.fixture
def user(team: Team, tmp_path: Path, place: str) -> Callable[..., GitUser]:
    """Makes a user with a repository of one commit, and the place as remote `origin`."""

    def make(home: Path, name: str = "", object_format: ObjectFormat = ObjectFormat.SHA1) -> GitUser:
        made = GitUser(tmp_path / (name or home.name), home).init(object_format)
        made("remote", "add", "origin", team.url(place))
        made.commit("file", "one")
        return made

    return make


def clone(team: Team, home: Path, path: Path, place: str) -> GitUser:
    GitUser(path.parent, home)("clone", "-q", team.url(place), path.name)
    return GitUser(path, home)


@pytest.mark.parametrize("object_format", list(ObjectFormat))
def test_a_push_to_an_owner_is_read_by_everybody(
    team: Team, tmp_path: Path, place: str, user: Callable[..., GitUser], object_format: ObjectFormat
) -> None:
    alice = user(team.alice, object_format=object_format)
    alice("tag", "-a", "-m", "first", "v1")
    team.grant(team.alice, place)
    said = alice.run("push", "origin", "main", "v1")
    assert said.code == 0, said.err
    assert "[new branch]" in said.err
    assert "[new tag]" in said.err
    reader = clone(team, team.reader, tmp_path / "reader", place)
    assert reader.objects("--all") == alice.objects("--all")
    manifest = json.loads(Ipvcs(team.reader).ok("cat", f"/ipns/{team.name}/{place}/ipvcs.json").out)
    (mirror,) = (team.owner / "repositories").glob(f"*{place.rpartition('/')[2]}.git")
    assert [f"{each['name']}.pack" for each in manifest["packs"]] == [
        each.name for each in mirror.glob("objects/pack/*.pack")
    ], "the pack that was offered is published, and moved as it is"
    reader("fsck", "--strict")
    second = alice.commit("file", "two")
    alice("push", "-q", "origin", "main")
    reader("pull", "-q")
    assert reader("rev-parse", "HEAD").strip() == second
    assert Ipvcs(team.reader).ok("cat", f"/ipns/{team.name}/{place}/heads/main/file").out == "two"
    last, first = team.pushes(place)
    assert (str(last.pusher), [each.name for each in last.updates]) == (team.id_of(team.alice), [b"refs/heads/main"])
    assert [each.refusal for each in first.updates] == ["", ""]


def test_who_has_no_rights_is_told_what_the_owner_would_run(
    team: Team, place: str, user: Callable[..., GitUser]
) -> None:
    bob = user(team.bob)
    said = bob.run("push", "origin", "main")
    assert said.code == 128
    command = f"ipvcs access add {team.id_of(team.bob)} /{place}"
    assert command in said.err, said.err
    assert Ipvcs(team.owner).ok(*command.split()[1:]).out
    bob("push", "-q", "origin", "main")
    team.revoke(team.bob, place)
    bob.commit("file", "two")
    assert bob.run("push", "origin", "main").code == 128


def test_rights_at_a_place_are_none_beside_it(team: Team, place: str, user: Callable[..., GitUser]) -> None:
    alice = user(team.alice)
    team.grant(team.alice, f"{place}/mine")
    for other in ("", "/mine2", "/other"):
        alice("remote", "set-url", "origin", team.url(place) + other)
        assert "access add" in alice.run("push", "origin", "main").err
    for inside in ("/mine/a", "/mine/b"):
        alice("remote", "set-url", "origin", team.url(place) + inside)
        alice("push", "-q", "origin", "main")


STEPS = {
    Right.CREATE: ("main:refs/heads/new",),
    Right.UPDATE: ("next:refs/heads/main",),
    Right.FORCE: ("+side:refs/heads/main",),
    Right.DELETE: (":refs/heads/gone",),
    Right.TAG: ("main:refs/tags/light",),
}


@pytest.mark.parametrize("missing", list(Right))
def test_each_right_is_needed_for_its_own_steps_alone(
    team: Team, place: str, user: Callable[..., GitUser], missing: Right
) -> None:
    alice = user(team.alice)
    team.grant(team.alice, place)
    alice("branch", "gone")
    alice("push", "-q", "origin", "main", "gone")
    alice("checkout", "-q", "-b", "next")
    alice.commit("file", "next")
    alice("checkout", "-q", "--orphan", "side")
    alice.commit("file", "side")
    team.revoke(team.alice, place)
    team.grant(team.alice, place, ALL - {missing})
    before = alice.remote_refs("origin")
    said = alice.run("push", "--porcelain", "origin", *STEPS[missing])
    assert said.code == 1
    assert f"no right to {missing} refs here" in said.out + said.err
    assert alice.remote_refs("origin") == before
    # Forcing needs a state from before the update: the last.
    for right in (Right.CREATE, Right.UPDATE, Right.DELETE, Right.TAG, Right.FORCE):
        if right is not missing:
            alice("push", "-q", "origin", *STEPS[right])
    assert alice.remote_refs("origin") != before


def test_moving_or_deleting_a_tag_takes_two_rights(team: Team, place: str, user: Callable[..., GitUser]) -> None:
    alice = user(team.alice)
    team.grant(team.alice, place)
    alice("tag", "v1")
    alice("push", "-q", "origin", "main", "v1")
    alice.commit("file", "two")
    # What is missing, and which of moving and deleting it takes.
    for missing, needed in ((Right.TAG, (1, 1)), (Right.FORCE, (1, 0)), (Right.DELETE, (0, 1))):
        team.revoke(team.alice, place)
        team.grant(team.alice, place, ALL - {missing})
        moved = alice.run("push", "origin", "+main:refs/tags/v1").code
        deleted = alice.run("push", "origin", ":refs/tags/v1").code
        assert (moved, deleted) == needed, missing
        team.grant(team.alice, place)
        alice("push", "-q", "origin", "+main~:refs/tags/v1")


def test_refusals_are_gits(team: Team, tmp_path: Path, place: str, user: Callable[..., GitUser]) -> None:
    alice, bob = user(team.alice), user(team.bob)
    for each in (team.alice, team.bob):
        team.grant(each, place)
    alice.commit("file", "of alice")
    alice("push", "-q", "origin", "main")
    bob.commit("other", "bob")
    assert "[rejected]        main -> main (fetch first)" in bob.run("push", "origin", "main").err
    bob("fetch", "-q", "origin")
    bob("rebase", "-q", "origin/main")
    bob("push", "-q", "origin", "main")
    assert "[rejected]        main~ -> main (non-fast-forward)" in bob.run("push", "origin", "main~:main").err
    alice.commit("file", "behind")
    assert "[rejected]        main -> main (fetch first)" in alice.run("push", "origin", "main").err
    said = alice.run("push", "--force-with-lease=main:" + alice("rev-parse", "main~").strip(), "origin", "main")
    assert "(stale info)" in said.err
    forced = alice.run("push", "--force", "origin", "main")
    assert "(forced update)" in forced.err, forced.err
    assert "deletion of the current branch prohibited" in alice.run("push", "origin", ":main").err
    atomic = alice.run("push", "--atomic", "origin", "main:refs/heads/x", ":main")
    assert atomic.code == 1
    assert "refs/heads/x" not in alice.remote_refs("origin")
    dry = alice.run("push", "--dry-run", "origin", "main:refs/heads/x")
    assert dry.code == 0
    assert "refs/heads/x" not in alice.remote_refs("origin")
    assert "Everything up-to-date" in alice.run("push", "origin", "main").err


def test_a_dry_run_tells_of_missing_rights(team: Team, place: str, user: Callable[..., GitUser]) -> None:
    alice = user(team.alice)
    team.grant(team.alice, place, frozenset({Right.CREATE}))
    alice("push", "-q", "origin", "main")
    alice.commit("file", "two")
    said = alice.run("push", "--dry-run", "origin", "main")
    assert "no right to update refs here" in said.err
    assert len(team.pushes(place)) == 1


def test_two_who_race_on_one_ref_have_one_winner(
    team: Team, tmp_path: Path, place: str, user: Callable[..., GitUser]
) -> None:
    alice, bob = racers(team, tmp_path, place, user)
    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(lambda each: each.run("push", "origin", "main"), (alice, bob)))
    assert sorted(each.code for each in said) == [0, 1], said
    loser = max(said, key=lambda each: each.code)
    assert "(fetch first)" in loser.err
    winner = (alice, bob)[said.index(min(said, key=lambda each: each.code))]
    assert alice.remote_refs("origin")["refs/heads/main"] == winner("rev-parse", "main").strip()


def test_two_who_push_different_refs_at_once_both_win(
    team: Team, tmp_path: Path, place: str, user: Callable[..., GitUser]
) -> None:
    alice, bob = racers(team, tmp_path, place, user)
    with ThreadPoolExecutor(2) as threads:
        said = list(threads.map(lambda each: each.run("push", "origin", f"main:{each.path.name}"), (alice, bob)))
    assert [each.code for each in said] == [0, 0], said
    refs = alice.remote_refs("origin")
    assert {refs["refs/heads/alice"], refs["refs/heads/bob"]} == {
        each("rev-parse", "main").strip() for each in (alice, bob)
    }
    reader = clone(team, team.reader, tmp_path / "reader", place)
    reader("fsck", "--connectivity-only")


def racers(team: Team, tmp_path: Path, place: str, user: Callable[..., GitUser]) -> tuple[GitUser, GitUser]:
    """Return two users with one history behind them and a commit of their own each."""
    for each in (team.alice, team.bob):
        team.grant(each, place)
    alice = user(team.alice)
    alice("push", "-q", "origin", "main")
    bob = clone(team, team.bob, tmp_path / "bob", place)
    alice.commit("alice", "alice")
    bob.commit("bob", "bob")
    return alice, bob


def test_the_owner_and_a_pusher_lose_nothing_of_each_other(
    team: Team, tmp_path: Path, place: str, user: Callable[..., GitUser]
) -> None:
    alice = user(team.alice)
    team.grant(team.alice, place)
    alice("push", "-q", "origin", "main")
    owner = clone(team, team.owner, tmp_path / "owner", place)
    for number in range(3):
        owner.commit("owner", f"{number}")
        alice.commit("alice", f"{number}")
        with ThreadPoolExecutor(2) as threads:
            said = list(
                threads.map(
                    lambda each: each.run("push", "-q", "origin", f"HEAD:{each.path.name}-{number}"),  # noqa: B023
                    (alice, owner),
                )
            )
        assert [each.code for each in said] == [0, 0], said
    assert len(alice.remote_refs("origin")) == 7


HOOK = """#!/bin/sh
echo "{name} of $IPVCS_PUSHER at $IPVCS_REPOSITORY: $*"
test "$GIT_PUSH_OPTION_COUNT" = 0 || echo "option $GIT_PUSH_OPTION_0"
while read old new ref; do echo "$ref $(git rev-parse --short "$new^{{tree}}")"; done
exit {status}
"""


@pytest.fixture
def hook(team: Team) -> Iterator[Callable[[str, int], None]]:
    """Writes a hook for the while of a test."""
    directory = team.owner / "hooks"
    made: list[Path] = []

    def write(name: str, status: int) -> None:
        directory.mkdir(exist_ok=True)
        path = directory / name
        path.write_text(HOOK.format(name=name, status=status))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        made.append(path)

    yield write
    for path in set(made):
        path.unlink()


def test_hooks_decide_and_are_heard(
    team: Team, place: str, user: Callable[..., GitUser], hook: Callable[[str, int], None]
) -> None:
    alice = user(team.alice)
    team.grant(team.alice, place)
    tree = alice("rev-parse", "--short", "main^{tree}").strip()
    hook("pre-receive", 1)
    said = alice.run("push", "-o", "ci.skip", "origin", "main")
    assert said.code == 1
    assert "(pre-receive hook declined)" in said.err
    assert f"remote: pre-receive of {team.id_of(team.alice)} at /{place}:" in said.err
    assert "remote: option ci.skip" in said.err
    assert f"remote: refs/heads/main {tree}" in said.err
    hook("pre-receive", 0)
    hook("update", 1)
    said = alice.run("push", "origin", "main")
    assert "(hook declined)" in said.err
    assert "remote: update of" in said.err
    assert all(update.refusal for push in team.pushes(place) for update in push.updates)
    hook("update", 0)
    hook("post-receive", 1)
    said = alice.run("push", "origin", "main")
    assert said.code == 0, said.err
    assert "remote: post-receive of" in said.err
    assert alice.remote_refs("origin") == {"refs/heads/main": alice("rev-parse", "main").strip()}


def test_a_slow_post_receive_keeps_nobody_from_pushing(
    team: Team, place: str, user: Callable[..., GitUser], hook: Callable[[str, int], None]
) -> None:
    alice, bob = user(team.alice), user(team.bob)
    for each in (team.alice, team.bob):
        team.grant(each, place)
    hook("post-receive", 0)
    going = team.owner / "going"
    going.touch()
    wait = f"test $IPVCS_PUSHER = {team.id_of(team.bob)} || while test -e {going}; do sleep 0.1; done"
    (team.owner / "hooks" / "post-receive").write_text(f"#!/bin/sh\n{wait}\n")
    pushing = alice.start("push", "-q", "origin", "main:alice")
    while "refs/heads/alice" not in {name for push in team.pushes(place) for name in map(name_of, push.updates)}:
        time.sleep(0.05)
    for number in range(3):
        bob.commit("file", f"{number}")
        bob("push", "-q", "origin", "main:bob")
    assert pushing.poll() is None
    going.unlink()
    pushing.communicate(timeout=30)
    assert pushing.returncode == 0


def name_of(update: LoggedUpdate) -> str:
    return update.name.decode()


def test_rights_that_are_lost_during_a_push_are_no_rights(
    team: Team, place: str, user: Callable[..., GitUser], hook: Callable[[str, int], None]
) -> None:
    alice = user(team.alice)
    team.grant(team.alice, place)
    alice("push", "-q", "origin", "main")
    before = alice.remote_refs("origin")
    hook("pre-receive", 0)
    path = team.owner / "hooks" / "pre-receive"
    revoke = f"{sys.executable} -P -m ipvcs --home {team.owner} access rm {team.id_of(team.alice)} {place}"
    path.write_text(f"#!/bin/sh\nPYTHONPATH={CHECKOUT} {revoke} >&2\n")
    alice.commit("file", "two")
    said = alice.run("push", "origin", "main")
    assert said.code == 1, said.err
    assert "the right to this push was taken away meanwhile" in said.err, said.err
    assert alice.remote_refs("origin") == before


def test_what_is_refused_leaves_nothing_behind(
    team: Team, place: str, user: Callable[..., GitUser], hook: Callable[[str, int], None]
) -> None:
    alice = user(team.alice)
    team.grant(team.alice, place)
    alice("push", "-q", "origin", "main")
    Ipvcs(team.owner).ok("repo", "gc")
    with open_home(team.owner) as home:
        before = (home.blocks.stat().blocks, {pin.cid for pin in home.pins.iter_pins()})
    hook("pre-receive", 1)
    alice.commit("file", "two")
    assert alice.run("push", "origin", "main").code == 1
    elsewhere = f"{place}-new"
    team.grant(team.alice, elsewhere)
    assert alice.run("push", team.url(elsewhere), "main").code == 1
    assert not list((team.owner / "repositories").glob(f"*{elsewhere.rpartition('/')[2]}*"))
    Ipvcs(team.owner).ok("repo", "gc")
    with open_home(team.owner) as home:
        assert (home.blocks.stat().blocks, {pin.cid for pin in home.pins.iter_pins()}) == before
        assert list(home.temporary.iterdir()) == []


def test_the_mirror_is_a_copy_that_may_be_deleted(team: Team, place: str, user: Callable[..., GitUser]) -> None:
    alice = user(team.alice)
    team.grant(team.alice, place)
    alice("push", "-q", "origin", "main")
    (mirror,) = (team.owner / "repositories").glob(f"*{place.rpartition('/')[2]}.git")
    owner = GitUser(mirror, team.owner)
    owner("fsck", "--full", "--strict")
    assert owner.refs() == alice.remote_refs("origin")
    mirror.rename(mirror.with_name("away"))
    second = alice.commit("file", "two")
    alice("push", "-q", "origin", "main")
    assert owner("rev-parse", "main").strip() == second
    packs = list((mirror / "objects" / "pack").glob("*.pack"))
    assert len(packs) == 2
    packs[0].chmod(0o600)
    packs[0].write_bytes(packs[0].read_bytes()[:100])
    (mirror / "objects" / "12").mkdir()
    (mirror / "objects" / "12" / ("3" * 38)).write_bytes(b"what a hook left")
    third = alice.commit("file", "three")
    alice("push", "-q", "origin", "main")
    assert owner("rev-parse", "main").strip() == third
    owner("fsck", "--full", "--strict")
    assert not (mirror / "objects" / "12").exists()


def test_an_owner_who_is_gone_is_named_with_the_stage(team: Team, place: str, user: Callable[..., GitUser]) -> None:
    alice = user(team.alice)
    nobody = "12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf"
    alice("remote", "set-url", "origin", f"ipfs::/ipns/{nobody}/x")
    said = alice.run("push", "origin", "main")
    assert said.code == 128
    assert nobody in said.err
    assert "find" in said.err, said.err


def test_a_pusher_without_a_daemon_pushes_all_the_same(
    team: Team, tmp_path: Path, place: str, user: Callable[..., GitUser]
) -> None:
    team.grant(team.alice, place)
    user(team.alice)
    team.running[team.alice].end()
    try:
        within = GitUser(tmp_path / "alice", team.alice, IPVCS_NO_DAEMON="1")
        within("push", "-q", "origin", "main")
    finally:
        team.running[team.alice] = team.daemons.start(team.alice)
    assert clone(team, team.reader, tmp_path / "reader", place).objects() == within.objects()
