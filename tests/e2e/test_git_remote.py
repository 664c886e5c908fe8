"""Real git, and remotes that are names: three daemons, of which the reader knows the one in the middle and the name."""

import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ipvcs.git_bridge.published_tree import PublishedTree, read_published, write_published
from ipvcs.git_bridge.refname import RefName
from ipvcs.git_bridge.refs_table import Ref
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.file_reader import FileReader
from ipvcs.objects.git.layout import put_file
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.storage.home import Home, open_home
from tests.cli_runner import Ipvcs
from tests.e2e.fetching import noise
from tests.e2e.git_net import Net, clone
from tests.e2e.git_user import GitUser

pytestmark = pytest.mark.network


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_who_knows_the_name_clones_what_was_pushed(net: Net, tmp_path: Path, object_format: ObjectFormat) -> None:
    author = GitUser(tmp_path / "work", net.publisher).init(object_format)
    author.commit("dir/file", "one")
    author("tag", "-a", "-m", "a tag", "v1")
    author("update-index", "--add", "--cacheinfo", f"160000,{'1' * (2 * object_format.size)},submodule")
    author.commit("run", "#!/bin/sh\n")
    author("push", "-q", net.url(tmp_path), "main", "v1")
    reader = clone(net, tmp_path)
    assert reader.objects("HEAD", "v1") == author.objects("main", "v1")
    assert reader("fsck", "--full", "--strict") == ""
    assert reader("rev-parse", "--show-object-format").strip() == object_format
    assert (reader.path / "dir" / "file").read_text() == "one"
    assert reader("symbolic-ref", "HEAD").strip() == "refs/heads/main"


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_the_object_graph_alone_gives_the_same_ids(net: Net, tmp_path: Path, object_format: ObjectFormat) -> None:
    author = GitUser(tmp_path / "work", net.publisher).init(object_format)
    for number in range(5):
        author.commit(f"dir{number % 2}/file", f"{number}")
    author("tag", "-a", "-m", "a tag", "v1")
    (author.path / "run").symlink_to("dir0/file")
    (author.path / "large").write_bytes(noise(3_000_000, 7))
    (author.path / "large").chmod(0o755)
    author("add", "run", "large")
    author("commit", "-q", "-m", "more")
    author("push", "-q", net.url(tmp_path), "main", "v1")
    GitUser(tmp_path, net.reader, IPVCS_FETCH="objects")("clone", "-q", net.url(tmp_path), "clone")
    reader = GitUser(tmp_path / "clone", net.reader, IPVCS_FETCH="objects")
    assert reader.objects("HEAD", "v1") == author.objects("main", "v1")
    assert reader("fsck", "--full", "--strict") == ""
    author.commit("dir0/file", "again")
    author("push", "-q", net.url(tmp_path), "main")
    reader("pull", "-q")
    assert reader.objects("HEAD") == author.objects("main")


def test_what_is_new_follows(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "-u", "ipfs", "main")
    reader = clone(net, tmp_path)
    author.commit("file", "two")
    author("checkout", "-q", "-b", "side/branch", "main~1")
    side = author.commit("other", "three")
    author("push", "-q", "ipfs", "main", "side/branch")
    reader("pull", "-q")
    assert (reader.path / "file").read_text() == "two"
    assert reader("rev-parse", "origin/side/branch").strip() == side
    assert "`ipvcs access add" in reader.run("push").err


def test_a_person_reads_files_by_their_paths(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    path = f"/ipns/{net.name}/{tmp_path.name}"
    Ipvcs(net.reader).ok("name", "resolve", "--nocache", net.name)  # what an earlier test saw may be 10 s old
    assert Ipvcs(net.reader).ok("cat", f"{path}/heads/main/file").out == "one"
    assert "ipvcs.json" in Ipvcs(net.reader).ok("ls", path).out


def test_git_clones_from_what_get_leaves(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    Ipvcs(net.reader).ok("name", "resolve", "--nocache", net.name)
    Ipvcs(net.reader).ok("get", "-o", tmp_path / "got", f"/ipns/{net.name}/{tmp_path.name}")
    user = GitUser(tmp_path, net.reader)
    user("clone", "-q", "got", "copy")
    assert GitUser(tmp_path / "copy", net.reader).objects() == author.objects()


def test_refs_of_every_sort(net: Net, tmp_path: Path, author: GitUser) -> None:
    commit = author("rev-parse", "main").strip()
    blob = author("rev-parse", "main:file").strip()
    author("tag", "-a", "-m", "tag", "v1")
    author("tag", "-a", "-m", "tag of a tag", "nested", "v1")
    author("tag", "light")
    author("tag", "file", blob)
    author("notes", "add", "-m", "a note")
    author("update-ref", b"refs/heads/\xff\xfe", commit)
    author("update-ref", "refs/heads/é$(x)'", commit)
    author("update-ref", "refs/other/place", blob)
    author("push", "-q", "--mirror", "ipfs")
    pushed = {name: oid for name, oid in author.refs().items() if not name.startswith("refs/remotes/")}
    assert len(pushed) == 9
    assert author.remote_refs("ipfs") == pushed
    reader = clone(net, tmp_path, "mirror", "--mirror")
    assert reader.refs() == pushed
    assert reader.objects() == author.objects()
    author("update-ref", "-d", "refs/other/place")
    author("push", "-q", "--mirror", "ipfs")
    assert "refs/other/place" not in reader.remote_refs("origin")


def test_one_push_creates_updates_and_deletes(author: GitUser) -> None:
    author("push", "-q", "ipfs", "main", "main:gone", "main:stays")
    new = author.commit("file", "two")
    said = author.run("push", "--porcelain", "ipfs", "main", ":gone", "main:refs/heads/new")
    assert said.code == 0
    assert sorted(line[0] for line in said.out.splitlines()[1:-1]) == [" ", "*", "-"]
    stays = author("rev-parse", "main~1").strip()
    assert author.remote_refs("ipfs") == {
        "refs/heads/main": new, "refs/heads/new": new, "refs/heads/stays": stays,
    }  # fmt: skip


def test_what_was_deleted_can_be_pushed_again(net: Net, tmp_path: Path, author: GitUser) -> None:
    """Git packs it into the same bytes as before, and a pack can't be listed twice."""
    author("push", "-q", "ipfs", "main", "main:refs/tags/only")
    for turn in range(2):
        author("checkout", "-q", "-B", "side", "main")
        author.commit("file", "aside")
        author("push", "-q", "ipfs", "side")
        assert clone(net, tmp_path, f"clone{turn}", "-b", "side").objects("HEAD") == author.objects("side")
        author("push", "-q", "ipfs", ":side")


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_repositories_of_different_hash_functions_exchange_nothing(
    net: Net, tmp_path: Path, object_format: ObjectFormat
) -> None:
    other = next(each for each in ObjectFormat if each is not object_format)
    author = GitUser(tmp_path / "work", net.publisher).init(object_format)
    author.commit("file", "one")
    author("push", "-q", net.url(tmp_path), "main")
    user = GitUser(tmp_path / "other", net.publisher).init(other)
    user.commit("file", "two")
    before = user.refs()
    for words in (("push", net.url(tmp_path), "main:other"), ("fetch", net.url(tmp_path), "main:theirs")):
        said = user.run(*words)
        assert said.code == 128
        assert f"error: the remote has {object_format} ids, and this repository {other} ids\nhint: " in said.err, (
            said.err
        )
        assert user.refs() == before
        assert author.remote_refs(net.url(tmp_path)) == author.refs()


def test_refusals_are_in_gits_own_words(net: Net, tmp_path: Path, author: GitUser) -> None:
    author.commit("file", "two")
    author("tag", "v1", "main~1")
    author("push", "-q", "ipfs", "main", "v1")
    other = GitUser(tmp_path / "other", net.publisher)
    GitUser(tmp_path, net.publisher)("clone", "-q", net.url(tmp_path), "other")
    other.commit("file", "three")
    other("push", "-q")
    author("tag", "-f", "v1", "main")
    author("checkout", "-q", "--orphan", "orphan")
    author.commit("file", "elsewhere")
    before = author.remote_refs("ipfs")
    for words, reason in (
        (("main~1:refs/heads/other", "orphan:main"), "fetch first"),
        (("v1",), "already exists"),
        (("--force-with-lease=main:main~1", "orphan:main"), "stale info"),
        ((":main",), "deletion of the current branch prohibited"),
        (("main:refs/heads/main/sub",), "'refs/heads/main' exists"),
        (("main^{tree}:refs/heads/tree",), "a branch can only point at a commit"),
        (("--atomic", "main~1:refs/heads/new", "v1"), "atomic push failed"),
    ):
        said = author.run("push", "ipfs", *words)
        assert said.code == 1, words
        assert reason in said.err, said.err
        author.run("push", "-q", "ipfs", ":other")
        assert author.remote_refs("ipfs") == before, words
    author("fetch", "-q", "ipfs")
    assert "(non-fast-forward)" in author.run("push", "ipfs", "orphan:main").err


def test_force_says_so_and_a_lease_that_holds_is_enough(author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    old = author("rev-parse", "main").strip()
    author("commit", "-q", "--amend", "-m", "again")
    assert "(forced update)" in author.run("push", "--force", "ipfs", "main").err
    again = author("rev-parse", "main").strip()
    author("commit", "-q", "--amend", "-m", "and again")
    assert author.run("push", f"--force-with-lease=main:{old}", "ipfs", "main").code == 1
    author("push", "-q", f"--force-with-lease=main:{again}", "ipfs", "main")
    assert author.remote_refs("ipfs") == {"refs/heads/main": author("rev-parse", "main").strip()}


def test_a_shallow_clone_pushes_what_builds_on_the_remote_alone(net: Net, tmp_path: Path, author: GitUser) -> None:
    author.commit("file", "two")
    author("push", "-q", "ipfs", "main")
    GitUser(tmp_path, net.publisher)("clone", "-q", "--depth", "1", f"file://{author.path}", "shallow")
    shallow = GitUser(tmp_path / "shallow", net.publisher)
    new = shallow.commit("file", "three")
    said = shallow.run("push", net.url(tmp_path) + "-elsewhere", "main")
    assert said.code == 1
    assert "git fetch --unshallow" in said.err
    shallow("push", "-q", net.url(tmp_path), "main")
    assert author.remote_refs("ipfs") == {"refs/heads/main": new}
    assert clone(net, tmp_path).objects("HEAD") == {*shallow.objects("main", "^main~1"), *author.objects("main")}


def test_a_list_needs_no_repository(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    (tmp_path / "empty").mkdir()
    assert "refs/heads/main" in GitUser(tmp_path / "empty", net.reader)("ls-remote", net.url(tmp_path))


def test_a_dry_run_changes_nothing(author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    before = author("ls-remote", "ipfs")
    author.commit("file", "two")
    assert "main -> main" in author.run("push", "--dry-run", "ipfs", "main").err
    assert author("ls-remote", "ipfs") == before


def test_a_state_by_its_cid_can_be_cloned_and_not_pushed_to(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    root = Ipvcs(net.publisher).ok("dag", "resolve", f"/ipns/{net.name}/{tmp_path.name}").out.strip()
    old = author("rev-parse", "main").strip()
    author.commit("file", "two")
    author("push", "-q", "ipfs", "main")
    reader = GitUser(tmp_path, net.reader)
    for number, url in enumerate((f"ipfs://{root}", f"ipfs::/ipfs/{root}")):
        reader("clone", "-q", url, str(number))
        assert GitUser(tmp_path / str(number), net.reader)("rev-parse", "HEAD").strip() == old
    assert "a CID never changes" in author.run("push", f"ipfs://{root}", "main").err


def test_repositories_of_one_name_leave_each_other_alone(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    second = GitUser(tmp_path / "second", net.publisher).init()
    second.commit("elsewhere", "x")
    second("push", "-q", net.url(tmp_path) + "-second/deep", "main")
    assert author.remote_refs("ipfs") == {"refs/heads/main": author("rev-parse", "main").strip()}
    assert second.remote_refs(net.url(tmp_path) + "-second/deep") == second.refs()
    said = second.run("push", net.url(tmp_path) + "/objects/x", "main")
    assert "belongs to the repository that lies there" in said.err


def test_pushes_at_once_are_all_there_in_the_end(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    users = []
    for number in range(3):
        GitUser(tmp_path, net.publisher)("clone", "-q", net.url(tmp_path), f"user{number}")
        users.append(GitUser(tmp_path / f"user{number}", net.publisher))
        users[-1].commit(f"file{number}", "x")
    pushes = [user.start("push", "-q", "origin", f"HEAD:branch{number}") for number, user in enumerate(users)]
    for push in pushes:
        out, _ = push.communicate(timeout=60)
        assert push.returncode == 0, out.decode()
    expected = {f"refs/heads/branch{number}": user("rev-parse", "HEAD").strip() for number, user in enumerate(users)}
    assert author.remote_refs("ipfs") == expected | {"refs/heads/main": author("rev-parse", "main").strip()}


def test_what_is_none_of_ours_is_said_clearly(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    nothing = "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r"
    reader = GitUser(tmp_path, net.reader)
    for url, problem in (
        ("ipfs::nonsense", "cannot use 'nonsense' as a remote"),
        (f"ipfs::/ipns/{nothing}", "no record found"),
        (f"ipns://{net.name}/{tmp_path.name}-nothing", f"no link named '{tmp_path.name}-nothing'"),
        (f"ipns://{net.name}/{tmp_path.name}/heads", "is not a repository that was pushed"),
    ):
        said = reader.run("clone", "-q", url, "x")
        assert said.code == 128
        assert problem in said.err, said.err
        assert not (tmp_path / "x").exists()


# ---- faults ----


@pytest.mark.parametrize("kills", [10, pytest.param(100, marks=pytest.mark.long)])
def test_a_push_that_is_killed_changes_nothing_or_all(net: Net, tmp_path: Path, author: GitUser, kills: int) -> None:
    author("push", "-q", "ipfs", "main")
    instants = random.Random(5)
    began = time.monotonic()
    author.commit("file", "timed")
    author("push", "-q", "ipfs", "main")
    duration = time.monotonic() - began
    old = author("rev-parse", "main").strip()
    for kill in range(kills):
        new = author.commit(f"dir/{kill}", f"{kill}")
        push = author.start("push", "-q", "ipfs", "main")
        time.sleep(instants.uniform(0.1, 1.0) * duration)
        os.killpg(push.pid, signal.SIGKILL)
        push.communicate()
        assert author.remote_refs("ipfs")["refs/heads/main"] in (old, new)
        author("push", "-q", "ipfs", "main")
        assert author.remote_refs("ipfs")["refs/heads/main"] == new
        old = new
    reader = clone(net, tmp_path)
    assert reader.objects("HEAD") == author.objects("main")
    assert Ipvcs(net.publisher).ok("repo", "verify").code == 0


def liars(home: Home, honest: PublishedTree) -> Iterator[tuple[str, PublishedTree, str]]:
    """Yield (name, tree, what git says) of repositories that are not what they say."""
    main, pack = RefName(b"refs/heads/main"), honest.manifest.packs[0]
    nowhere = Ref(ObjectId(b"\x12" * 20), honest.refs[main].cid)
    yield "a ref to nothing", replace(honest, refs={main: nowhere}), "none of its packs has it"
    with home.blocks.writing() as writer:
        file = honest.packs[f"{pack.name}.pack".encode()]
        data = FileReader(home.blocks, file.cid).readall()
        cut = put_file(data[:-30], writer).link(file.name or b"")
        bent = put_file(data[:40] + bytes([data[40] ^ 1]) + data[41:], writer).link(file.name or b"")
    for name, link in (("a pack that is cut", cut), ("a pack with a wrong byte", bent)):
        yield name, replace(honest, packs={**honest.packs, file.name or b"": link}), "index-pack failed"
    other = replace(pack, tips=(nowhere.oid,))
    manifest = replace(honest.manifest, packs=(other,))
    yield (
        "a pack without its tips",
        replace(honest, manifest=manifest, refs={main: nowhere}),
        "none of its packs has it",
    )


def test_repositories_that_lie_are_refused_and_leave_nothing(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    root = Ipvcs(net.publisher).ok("dag", "resolve", f"/ipns/{net.name}/{tmp_path.name}").out.strip()
    user = GitUser(tmp_path, net.publisher)
    with open_home(net.publisher) as home:
        honest = read_published(home.blocks, Cid.parse(root))
        for index, (name, tree, words) in enumerate(liars(home, honest)):
            with home.blocks.writing() as writer:
                lie = write_published(tree, {}, writer)
            said = user.run("clone", "-q", f"ipfs://{lie.cid}", f"clone{index}")
            assert said.code == 128, name
            assert words in said.err, (name, said.err)
            assert not (tmp_path / f"clone{index}").exists(), name


def test_objects_that_lie_are_refused(net: Net, tmp_path: Path, author: GitUser) -> None:
    first = author("rev-parse", "main").strip()
    author.commit("file", "two")
    author("push", "-q", "ipfs", "main")
    root = Ipvcs(net.publisher).ok("dag", "resolve", f"/ipns/{net.name}/{tmp_path.name}").out.strip()
    main = RefName(b"refs/heads/main")
    user = GitUser(tmp_path, net.publisher, IPVCS_FETCH="objects")
    with open_home(net.publisher) as home:
        honest = read_published(home.blocks, Cid.parse(root))
        swapped = Ref(ObjectId.parse(first), honest.refs[main].cid)  # the node of another commit
        with home.blocks.writing() as writer:
            lie = write_published(replace(honest, refs={main: swapped}), {}, writer)
        said = user.run("clone", "-q", f"ipfs://{lie.cid}", "clone")
    assert said.code == 128
    assert first in said.err
    assert not (tmp_path / "clone").exists()


@pytest.mark.long
def test_a_publisher_that_is_gone_is_waited_for_a_while_and_named(net: Net, tmp_path: Path, author: GitUser) -> None:
    author.commit("file", "what no other test pushes, so that nobody else has it")
    author("push", "-q", "ipfs", "main")
    author("push", "-q", net.url(tmp_path) + "-touched", "main")
    GitUser(tmp_path, net.reader)("ls-remote", net.url(tmp_path))
    net.running[net.publisher].end()
    try:
        began = time.monotonic()
        said = GitUser(tmp_path, net.reader).run("clone", "-q", net.url(tmp_path), "clone")
        assert said.code == 128
        assert time.monotonic() - began < 60
        assert "nobody sent block" in said.err, said.err
        assert not (tmp_path / "clone").exists()
    finally:
        net.running[net.publisher] = net.daemons.start(net.publisher)
    clone(net, tmp_path)
