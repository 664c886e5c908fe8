"""`ipvcs access`, as its users see it. What holds for the list and the log themselves is tested with them."""

from pathlib import Path
from typing import Any

import pytest

from ipvcs.cli.access_log import push_lines
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.storage.access import AccessList, Right
from ipvcs.storage.home import open_home
from ipvcs.storage.push_log import LoggedPush, LoggedUpdate, PushLog
from tests.cli_runner import Ipvcs

ID = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8"
OTHER = "QmNnooDu7bfjPFoTZYxMNLWUQJyrVwtbZg5gBMjTezGAJN"
ROOT = Cid.of(bytes(32))
OLD, NEW = bytes.fromhex("0123456789" * 4), bytes.fromhex("abcdef0123" * 4)
TIME = 1_793_871_660.75  # 2026-11-05T09:41:00.75Z


def log_push(home: Path, **about: Any) -> None:
    """Log a push, as the node of `home` does."""
    push = {"time": TIME, "pusher": PeerId.parse(ID), "address": "/ip4/192.0.2.1/tcp/1", "path": (), "key": b"k" * 16}
    with open_home(home) as opened:
        PushLog(opened.datastore).append(**{**push, "updates": (), **about})


def test_access_is_added_listed_and_removed_without_a_daemon(ipvcs: Ipvcs) -> None:
    assert ipvcs.ok("access", "list").out == ""
    assert ipvcs.ok("access", "add", ID, "team/project").out == f"added {ID} create,update,tag /team/project\n"
    assert ipvcs.ok("access", "add", OTHER, "--rights", "all").out == (
        f"added {OTHER} create,update,force,delete,tag /\n"
    )
    assert ipvcs.ok("access", "list").lines == [
        f"{OTHER} create,update,force,delete,tag /",
        f"{ID} create,update,tag /team/project",
    ]
    assert ipvcs.ok("access", "rm", OTHER).out == f"removed {OTHER} /\n"
    assert ipvcs.ok("access", "rm", ID, "/team/project/").out == f"removed {ID} /team/project\n"
    assert ipvcs.ok("access", "list").out == ""
    assert not (ipvcs.home / "daemon.log").exists()
    assert not (ipvcs.home / "keystore").exists(), "no key is made to find out that none is our own"


def test_rights_add_to_those_that_were_given_and_are_taken_one_by_one(ipvcs: Ipvcs) -> None:
    ipvcs.ok("access", "add", ID, "x", "--rights", "update")
    assert ipvcs.ok("access", "add", ID, "/x", "--rights=tag, force").out == f"added {ID} update,force,tag /x\n"
    taken = ipvcs.ok("access", "rm", ID, "x", "--rights", "force,delete")
    assert taken.out == f"removed {ID} force,delete /x\n"
    assert f"'{ID}' still may update,tag at '/x'" in taken.stderr
    assert ipvcs.ok("access", "list").lines == [f"{ID} update,tag /x"]
    ipvcs.ok("access", "rm", ID, "x", "--rights", "all")
    assert ipvcs.ok("access", "list").lines == []


def test_to_remove_what_is_not_there_is_a_negative_answer_that_says_what_is(ipvcs: Ipvcs) -> None:
    ipvcs.ok("access", "add", ID, "team", "--rights", "tag")
    result = ipvcs.run("access", "rm", ID, "team/project")
    assert (result.code, result.out) == (1, "")
    assert result.stderr.splitlines() == [
        f"no rights were added for '{ID}' at '/team/project'",
        f"'{ID}' still may tag at '/team/project'; see `ipvcs --home {ipvcs.home} access list`",
    ]
    assert "no such rights were added" in ipvcs.run("access", "rm", ID, "team", "--rights", "force").stderr
    assert ipvcs.run("access", "rm", OTHER).code == 1
    assert ipvcs.ok("access", "list").lines == [f"{ID} tag /team"]


def test_json_says_the_same_to_programs(ipvcs: Ipvcs) -> None:
    entry = {"Peer": ID, "Path": "/a/b", "Rights": ["update", "tag"]}
    assert ipvcs.ok("access", "add", ID, "a/b", "--rights", "tag,update", "--json").json == [entry]
    assert ipvcs.ok("access", "list", "--json").json == [{"Entries": [entry]}]
    gone = {"Peer": ID, "Path": "/a/b", "Removed": True, "Left": ["tag"]}
    assert ipvcs.ok("access", "rm", ID, "a/b", "--rights", "update", "--json").json == [gone]
    result = ipvcs.run("access", "rm", ID, "--json")
    assert (result.code, result.json) == (1, [{"Peer": ID, "Path": "/", "Removed": False, "Left": []}])


def test_a_node_may_be_named_in_each_of_its_forms(ipvcs: Ipvcs) -> None:
    for form in (PeerId.parse(ID).to_base36(), f"/ip4/192.0.2.1/tcp/4001/p2p/{ID}", f"/p2p/{ID}"):
        assert ipvcs.ok("access", "add", form).out == f"added {ID} create,update,tag /\n"
        ipvcs.ok("access", "rm", form)


def test_this_homes_own_node_needs_no_access(ipvcs: Ipvcs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPVCS_PASSPHRASE", "secret")
    own = ipvcs.ok("id", "-f", "<id>").out
    monkeypatch.delenv("IPVCS_PASSPHRASE")
    said = ipvcs.fails("access", "add", own, "team", code=129)
    assert f"'{own}' is this home's own node: it holds the key" in said
    assert ipvcs.ok("access", "list").out == ""
    assert ipvcs.run("access", "rm", own).code == 1


def test_names_of_others_cannot_drive_the_terminal(ipvcs: Ipvcs) -> None:
    ipvcs.ok("access", "add", ID, "a\x1b[2Jb/\udcff")
    assert ipvcs.ok("access", "list").out == f"{ID} create,update,tag /a\\x1b[2Jb/\\xff\n"
    [listed] = ipvcs.ok("access", "list", "--json").json
    assert listed["Entries"][0]["Path"] == "/a\x1b[2Jb/\udcff"
    assert ipvcs.ok("access", "rm", ID, listed["Entries"][0]["Path"]).code == 0

    update = LoggedUpdate(b"refs/heads/\x1b]0;x\x07\xff", b"", NEW, refusal="\u202eno\nand no")
    log_push(ipvcs.home, path=(b"p\n",), updates=[update], failure="\x9b31m")
    lines = ipvcs.ok("access", "log").lines
    assert lines == [
        f"2026-11-05T09:41:00Z {ID} /p\\n: failed: \\x9b31m",
        r" ! [rejected]              refs/heads/\x1b]0;x\x07\xff (\u202eno\nand no)",
    ]


def test_the_log_says_what_became_of_each_ref_as_git_does(ipvcs: Ipvcs) -> None:
    updates = [
        LoggedUpdate(b"refs/heads/main", OLD, NEW),
        LoggedUpdate(b"refs/heads/topic", OLD, NEW, forced=True),
        LoggedUpdate(b"refs/heads/new", b"", NEW),
        LoggedUpdate(b"refs/tags/v1", b"", NEW),
        LoggedUpdate(b"refs/notes/x", b"", NEW),
        LoggedUpdate(b"refs/heads/old", OLD, b"", forced=True),
        LoggedUpdate(b"refs/heads/same", NEW, NEW),
        LoggedUpdate(b"refs/heads/stale", OLD, NEW, refusal="fetch first"),
    ]
    log_push(ipvcs.home, path=(b"team", b"p"), updates=updates, repository=ROOT)
    assert ipvcs.ok("access", "log").lines == [
        f"2026-11-05T09:41:00Z {ID} /team/p: 6 of 8 refs changed",
        "   0123456789..abcdef0123  refs/heads/main",
        " + 0123456789...abcdef0123 refs/heads/topic (forced update)",
        " * [new branch]            refs/heads/new (now abcdef0123)",
        " * [new tag]               refs/tags/v1 (now abcdef0123)",
        " * [new reference]         refs/notes/x (now abcdef0123)",
        " - [deleted]               refs/heads/old (was 0123456789)",
        " = [up to date]            refs/heads/same",
        " ! [rejected]              refs/heads/stale (fetch first)",
    ]


@pytest.mark.parametrize(
    ("refusals", "failure", "outcome"),
    [
        ([""], "", "1 ref changed"),
        (["", ""], "", "2 refs changed"),
        (["", "no"], "", "1 of 2 refs changed"),
        (["no"], "", "none of 1 ref changed"),
        (["no", "no"], "", "none of 2 refs changed"),
        ([], "", "0 refs changed"),
        (["", "no"], "the disk is full", "failed: the disk is full"),
    ],
)
def test_the_first_line_says_what_became_of_the_whole_push(refusals: list[str], failure: str, outcome: str) -> None:
    updates = tuple(LoggedUpdate(b"refs/heads/x", OLD, NEW, refusal=refusal) for refusal in refusals)
    push = LoggedPush(1, TIME, PeerId.parse(ID), "", (), b"k", updates, None, failure)
    head, *lines = push_lines(push)
    assert head == f"2026-11-05T09:41:00Z {ID} /: {outcome}"
    assert len(lines) == len(updates)
    if failure:
        assert not any("abcdef0123" in line for line in lines), "nothing that looks done"


def test_the_log_has_the_newest_first_and_can_be_cut_short_and_kept_to_a_path(ipvcs: Ipvcs) -> None:
    assert ipvcs.ok("access", "log").out == ""
    for number, path in enumerate([(), (b"team",), (b"team", b"p"), (b"teams",)]):
        log_push(ipvcs.home, time=TIME + number, path=path)
    said = [line.split()[2] for line in ipvcs.ok("access", "log").lines]
    assert said == ["/teams:", "/team/p:", "/team:", "/:"]
    assert [push["Path"] for push in ipvcs.ok("access", "log", "--json", "team").json] == ["/team/p", "/team"]
    assert [push["Path"] for push in ipvcs.ok("access", "log", "--json", "-n", "1", "/team/").json] == ["/team/p"]
    assert [push["Number"] for push in ipvcs.ok("access", "log", "-n2", "--json", "/").json] == [4, 3]
    assert ipvcs.ok("access", "log", "-n", "0").out == ipvcs.ok("access", "log", "nowhere").out == ""


def test_the_log_as_json_has_all_that_is_known(ipvcs: Ipvcs) -> None:
    update = LoggedUpdate(b"refs/heads/\xff", b"", NEW, forced=True, refusal="hook declined")
    log_push(ipvcs.home, path=(b"\xfe",), updates=[update], repository=ROOT, failure="gone")
    assert ipvcs.ok("access", "log", "--json").json == [
        {
            "Number": 1,
            "Time": "2026-11-05T09:41:00Z",
            "Pusher": ID,
            "Address": "/ip4/192.0.2.1/tcp/1",
            "Path": "/\udcfe",
            "Key": "6b" * 16,
            "Updates": [
                {
                    "Name": "refs/heads/\udcff",
                    "Old": None,
                    "New": NEW.hex(),
                    "Forced": True,
                    "Refusal": "hook declined",
                }
            ],
            "Repository": str(ROOT),
            "Failure": "gone",
        }
    ]


def test_damage_is_told_and_hides_nothing_else(ipvcs: Ipvcs, caplog: pytest.LogCaptureFixture) -> None:
    log_push(ipvcs.home)
    with open_home(ipvcs.home) as home:
        AccessList(home.datastore).add(PeerId.parse(ID), (), [Right.TAG])
        with home.datastore.write() as txn:
            txn.put((2).to_bytes(8), b"garbage", db=home.datastore.push_log)
            txn.put(b"garbage", b"create", db=home.datastore.access)
    assert len(ipvcs.ok("access", "log").lines) == 1
    assert ipvcs.ok("access", "list").lines == [f"{ID} tag /"]
    assert len(caplog.messages) == 2


@pytest.mark.parametrize("command", ["add", "rm", "list", "log"])
def test_each_command_explains_itself(ipvcs: Ipvcs, command: str) -> None:
    said = " ".join(ipvcs.ok("access", command, "--help").out.split())
    assert "--json" in said
    if command in ("add", "rm"):
        assert "--rights RIGHT,…|all" in said
    if command == "add":
        assert all(f"`{right}`" in said for right in Right)
        assert "[default: create,update,tag]" in said
