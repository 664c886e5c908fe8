"""`ipvcs log`: histories as git prints them, and Kubo's commands of the same name."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ipvcs.cli.ui import printable
from ipvcs.git_bridge.published_tree import PublishedTree, write_published
from ipvcs.git_bridge.refname import RefName
from ipvcs.objects.block import Block
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs
from tests.unit.git_bridge.published_history import publish
from tests.unit.objects.git.repository import Repository


def store(home: Path, repository: Repository, tree: PublishedTree | None = None) -> str:
    """Put all that is mapped into `home`, and the root of `tree`; return the root."""
    root = "" if tree is None else str(write_published(tree, {}, repository.store).cid)
    with open_home(home) as opened, opened.blocks.writing() as session:
        for cid, data in repository.store.blocks.items():
            session.put(Block(cid, data))
    return root


def commit(repository: Repository, *parents: ObjectId, rest: bytes) -> ObjectId:
    return repository.commit(repository.tree([]), *parents, rest=rest)


def cid_of(repository: Repository, oid: ObjectId, kind: NodeKind = NodeKind.COMMIT) -> str:
    return str(repository.map(oid, kind).cid)


AUTHOR = b"author A U Thor <a@example.com> 0 +0000\n"
COMMITTER = b"committer C <c@example.com> %d +0130\n"


@pytest.fixture
def repository() -> Repository:
    return Repository()


@pytest.fixture
def history(repository: Repository) -> Mapping[str, ObjectId]:
    """A root, two commits on it, their merge, and a tag of that."""
    root = commit(repository, rest=AUTHOR + COMMITTER % 1 + b"\nroot\n\n\tbody  \n\nend\n\n")
    left = commit(repository, root, rest=AUTHOR + COMMITTER % 2 + b"\nleft\n")
    right = commit(repository, root, rest=AUTHOR + COMMITTER % 3 + b"\nright\nsubject\n")
    merge = commit(repository, left, right, rest=AUTHOR + COMMITTER % 4 + b"\nmerge\n")
    return {
        "root": root, "left": left, "right": right, "merge": merge, "tag": repository.tag(merge, GitType.COMMIT),
    }  # fmt: skip


def test_commits_are_printed_as_git_prints_them_with_their_cids(
    ipvcs: Ipvcs, repository: Repository, history: Mapping[str, ObjectId]
) -> None:
    merge = cid_of(repository, history["merge"])
    store(ipvcs.home, repository)
    lines = ipvcs.ok("log", "--first-parent", merge).lines
    assert lines[:9] == [
        f"commit {history['merge']}",
        f"CID:    {merge}",
        f"Merge: {history['left'].hex[:10]} {history['right'].hex[:10]}",
        "Author: A U Thor <a@example.com>",
        "Date:   Thu Jan 1 00:00:00 1970 +0000",
        "",
        "    merge",
        "",
        f"commit {history['left']}",
    ]
    assert lines[-5:] == ["    root", "    ", "            body", "    ", "    end"]


def test_options_choose_and_order_as_in_git(
    ipvcs: Ipvcs, repository: Repository, history: Mapping[str, ObjectId]
) -> None:
    tag = cid_of(repository, history["tag"], NodeKind.TAG)
    store(ipvcs.home, repository)

    def subjects(*words: str) -> list[str]:
        return [line.split(" ", 1)[1] for line in ipvcs.ok("log", "--oneline", *words, tag).lines]

    assert subjects() == ["merge", "right subject", "left", "root"]
    assert subjects("--first-parent") == ["merge", "left", "root"]
    assert subjects("-n", "2") == ["merge", "right subject"]
    assert subjects("--max-count=2", "--reverse") == ["right subject", "merge"]
    assert subjects("-n", "0") == []
    assert ipvcs.ok("log", "--oneline", tag).lines[0] == f"{history['merge'].hex[:10]} merge"


def test_json_has_all_of_a_commit(ipvcs: Ipvcs, repository: Repository, history: Mapping[str, ObjectId]) -> None:
    merge = cid_of(repository, history["merge"])
    store(ipvcs.home, repository)
    assert ipvcs.ok("log", "--json", "-n1", f"/ipfs/{merge}").json == [
        {
            "Commit": history["merge"].hex,
            "Cid": merge,
            "Tree": repository.tree([]).hex,
            "Parents": [history["left"].hex, history["right"].hex],
            "Author": {"Name": "A U Thor", "Email": "a@example.com", "Date": "1970-01-01T00:00:00Z"},
            "Committer": {"Name": "C", "Email": "c@example.com", "Date": "1970-01-01T01:30:04+01:30"},
            "Message": "merge\n",
        }
    ]
    assert [each["Commit"] for each in ipvcs.ok("log", "--json", f"{merge}/parent2").json] == [
        history["right"].hex,
        history["root"].hex,
    ]


def test_a_repository_is_shown_from_its_head_or_from_the_revision_that_is_named(
    ipvcs: Ipvcs, repository: Repository, history: Mapping[str, ObjectId]
) -> None:
    refs = {b"refs/heads/main": history["left"], b"refs/heads/next": history["merge"], b"refs/tags/v1": history["tag"]}
    tree = publish(
        repository, [[history[name] for name in ("root", "left", "right", "merge")]], refs, b"refs/heads/main"
    )
    root = store(ipvcs.home, repository, tree)
    for revision, names in (
        ((), ["left", "root"]),
        (("next",), ["merge", "right", "left", "root"]),
        (("v1",), ["merge", "right", "left", "root"]),
        ((history["right"].hex[:8],), ["right", "root"]),
    ):
        printed = ipvcs.ok("log", "--json", root, *revision).json
        assert [each["Commit"] for each in printed] == [history[name].hex for name in names]
    assert "cannot find 'nope'" in ipvcs.fails("log", root, "nope")
    assert ipvcs.ok("log", "--json", f"{root}/heads/next").json[0]["Commit"] == history["merge"].hex
    assert "no link named 'heads'" in ipvcs.fails("log", f"{root}/heads/nope")
    assert "has no history" in ipvcs.fails("log", f"{root}/objects")


def test_what_has_no_history_says_what_it_is(ipvcs: Ipvcs, repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    cid = ipvcs.ok("put", "-Q", tmp_path / "f").out.strip()
    assert "is a file, which has no history" in ipvcs.fails("log", cid)
    oid = commit(repository, rest=AUTHOR + b"\n")
    store(ipvcs.home, repository, None)
    assert "is not a repository that was pushed" in ipvcs.fails("log", cid, "main", code=129)
    assert "not found" in ipvcs.fails("log", cid_of(repository, oid))


def test_a_ref_that_lies_about_its_commit_is_refused(
    ipvcs: Ipvcs, repository: Repository, history: Mapping[str, ObjectId]
) -> None:
    tree = publish(repository, [], {b"refs/heads/main": history["left"]}, b"refs/heads/main")
    ref = tree.refs[RefName(b"refs/heads/main")]
    lie = {RefName(b"refs/heads/main"): ref._replace(oid=history["right"])}
    root = store(ipvcs.home, repository, PublishedTree(tree.manifest, lie, tree.packs, ()))
    assert "is damaged: its bytes hash to" in ipvcs.fails("log", root)


def test_names_and_messages_drive_no_terminal(ipvcs: Ipvcs, repository: Repository) -> None:
    who = b"author \x1b[31mred <a\r@x> 0 +0000\n" + COMMITTER % 1
    oid = commit(repository, rest=who + b"\n\x1b]0;title\x07 \xe2\x80\xae \xff\n\nnext\x9bline\r\n")
    cid = cid_of(repository, oid)
    store(ipvcs.home, repository)
    for words in ((), ("--oneline",)):
        printed = ipvcs.ok("log", *words, cid).out
        assert all(char.isprintable() or char == "\n" for char in printed)
        assert r"\x1b]0;title\x07 \u202e �" in printed
    assert r"Author: \x1b[31mred <a\r@x>" in ipvcs.ok("log", cid).out


def test_printable_keeps_what_scripts_need() -> None:
    for harmless in ("日本\u3000語", "a\u00a0b", "👩\u200d💻", "Zürich"):
        assert printable(harmless) == harmless
    assert printable("a\tb\u2028c\ud800") == r"a\tb\u2028c\ud800"


@pytest.fixture
def _in_tokyo() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_in_tokyo")
@pytest.mark.parametrize(
    ("date", "shown", "iso"),
    [
        (b"1700000000 +0545", "Wed Nov 15 03:58:20 2023 +0545", "2023-11-15T03:58:20+05:45"),
        (b"1700000000 -0330", "Tue Nov 14 18:43:20 2023 -0330", "2023-11-14T18:43:20-03:30"),
        (b"99999999999 +0000", "Wed Nov 16 09:46:39 5138 +0000", "5138-11-16T09:46:39Z"),
        (b"9223372036854775807 +0100", "Thu Jan 1 00:00:00 1970 +0000", "1970-01-01T00:00:00Z"),
        (b"", "Thu Jan 1 00:00:00 1970 +0000", "1970-01-01T00:00:00Z"),
    ],
)
def test_dates_are_those_of_the_place_where_they_were_written(
    ipvcs: Ipvcs, repository: Repository, date: bytes, shown: str, iso: str
) -> None:
    cid = cid_of(repository, commit(repository, rest=b"author A <a> %b\n\nx\n" % date))
    store(ipvcs.home, repository)
    assert f"Date:   {shown}" in ipvcs.ok("log", cid).lines
    assert ipvcs.ok("log", "--json", cid).json[0]["Author"]["Date"] == iso


def test_kubos_commands_keep_their_names(ipvcs: Ipvcs) -> None:
    assert "Log SUBSYSTEM" in ipvcs.ok("log", "level", "--help").out
    assert "List the subsystems" in ipvcs.ok("log", "ls", "--help").out
    assert "Usage: ipvcs log [OPTIONS] PATH [REVISION]" in ipvcs.ok("log", "--help").out
    assert "invalid path" in ipvcs.fails("log", "/level", code=129)
    assert "missing argument" in ipvcs.fails("log", code=129)
