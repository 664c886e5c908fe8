"""Uses of git remotes that nobody had in mind: wrong words, repositories of every make, names and numbers of refs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ipvcs.git_bridge.published_tree import read_published, write_published
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs
from tests.e2e.git_net import Net, clone
from tests.e2e.git_user import GitUser

pytestmark = pytest.mark.network

HELPER = Path(sys.executable).parent / "git-remote-ipfs"


# ---- wrong words ----


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("ipfs::", "cannot use '' as a remote"),
        ("ipfs::/ipns/", "no name behind '/ipns/'"),
        ("ipfs://", "no CID behind '/ipfs/'"),
        ("ipfs::/ipfs/nonsense", "invalid CID 'nonsense'"),
        ("ipfs://bafybad", "invalid CID 'bafybad'"),
        ("ipfs::/IPNS/name", "begins with neither '/ipns/' nor '/ipfs/'"),
        ("ipfs::/ipns/self/a/../b", "one that leads elsewhere"),
        ("ipfs::/ipns/x..y", "'x..y' is no name"),
        ("ipfs::/ipns/12D3KooW", "'12D3KooW' is no name"),
    ],
)
def test_a_url_that_is_none_is_quoted_with_a_hint(net: Net, tmp_path: Path, url: str, problem: str) -> None:
    said = GitUser(tmp_path, net.reader).run("clone", "-q", url, "clone")
    assert said.code == 128
    assert said.err.startswith("error: ")
    assert problem in said.err
    assert "\nhint: " in said.err
    assert not (tmp_path / "clone").exists()


def test_what_leads_to_a_file_is_no_repository(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    for path in ("HEAD", "heads/main/file"):
        said = author.run("push", f"{net.url(tmp_path)}/{path}", "main")
        assert said.code == 128
        assert "belongs to the repository that lies there" in said.err
        said = GitUser(tmp_path, net.reader).run("clone", "-q", f"{net.url(tmp_path)}/{path}", "clone")
        assert said.code == 128
        assert "is not a repository that was pushed: it is no directory" in said.err


@pytest.mark.parametrize("home", ["/proc/nothing", "file", "/dev/null/home"])
def test_a_home_that_can_not_be_is_named(net: Net, tmp_path: Path, home: str) -> None:
    (tmp_path / "file").write_text("x")
    said = GitUser(tmp_path, tmp_path / home).run("clone", "-q", net.url(tmp_path), "clone")
    assert said.code == 128
    assert said.err.startswith(f"error: cannot use '{tmp_path / home}': "), said.err


def test_a_way_to_fetch_that_is_none_is_refused(net: Net, tmp_path: Path) -> None:
    said = GitUser(tmp_path, net.reader, IPVCS_FETCH="bad").run("clone", "-q", net.url(tmp_path), "clone")
    assert (said.code, said.err.splitlines()[0]) == (128, "error: IPVCS_FETCH is 'bad'")
    assert "'packs'" in said.err


def by_hand(
    *words: str, home: Path, cwd: Path, stdin: bytes = b"", **environ: str
) -> "subprocess.CompletedProcess[bytes]":
    """Run the helper as nobody but git should."""
    environ = {"HOME": str(cwd), "PATH": os.environ["PATH"], "IPVCS_PATH": str(home), **environ}
    return subprocess.run(
        [HELPER, *words], cwd=cwd, env=environ, input=stdin, capture_output=True, timeout=60, check=False
    )


def test_the_helper_run_by_hand_says_what_it_is(net: Net, tmp_path: Path) -> None:
    for words in ((), ("a", "b", "c")):
        done = by_hand(*words, home=net.reader, cwd=tmp_path)
        assert done.returncode == 129
        assert b"\nhint: " in done.stderr
        assert b"`git clone ipfs::/ipns/<NodeId>`" in done.stderr
    done = by_hand("a", "/ipns/self", home=net.reader, cwd=tmp_path, stdin=b"nonsense\n")
    assert done.returncode == 128
    assert done.stderr.startswith(b"error: git sends 'nonsense' here")


def test_a_helper_that_finds_no_git_says_so(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("push", "-q", "ipfs", "main")
    request = f"list\nfetch {author('rev-parse', 'main').strip()} refs/heads/main\n\n".encode()
    url = net.url(tmp_path).removeprefix("ipfs::")
    done = by_hand("a", url, home=net.reader, cwd=author.path, stdin=request, PATH="/nowhere", GIT_DIR=".git")
    assert done.returncode == 128
    assert done.stderr.startswith(b"error: cannot start 'git'\nhint: ")


# ---- repositories of every make ----


def check_cloned(net: Net, tmp_path: Path, author: GitUser, revision: str) -> None:
    """Check that what `author` pushed as main is `revision` of his in each way to fetch."""
    plainly = GitUser(author.path, author.home, GIT_NO_REPLACE_OBJECTS="1", GIT_GRAFT_FILE="/dev/null/none")
    for way in ("packs", "objects"):
        user = GitUser(tmp_path, net.reader, IPVCS_FETCH=way)
        user("clone", "-q", "--bare", net.url(tmp_path), f"clone-{way}")
        reader = GitUser(tmp_path / f"clone-{way}", net.reader)
        assert reader.objects("main") == plainly.objects(revision)
        assert reader("fsck", "--full", "--strict") == ""


def test_a_push_from_a_worktree(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("worktree", "add", "-q", "../tree", "-b", "side")
    tree = GitUser(tmp_path / "tree", net.publisher)
    tree.commit("other", "two")
    tree("push", "-q", "ipfs", "side:main")
    check_cloned(net, tmp_path, tree, "side")
    assert tree("rev-parse", "ipfs/main") == tree("rev-parse", "side")


def test_a_push_from_a_bare_repository_in_gits_directory_itself(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("clone", "-q", "--bare", ".", "../bare.git")
    bare = GitUser(tmp_path / "bare.git", net.publisher)
    bare("push", "-q", net.url(tmp_path), "main")
    check_cloned(net, tmp_path, bare, "main")


def test_a_push_by_a_git_dir_of_another_place(net: Net, tmp_path: Path, author: GitUser) -> None:
    elsewhere = GitUser(tmp_path / "elsewhere", net.publisher, GIT_DIR=str(author.path / ".git"))
    elsewhere("push", "-q", "ipfs", "main")
    check_cloned(net, tmp_path, author, "main")


def test_objects_of_alternates_are_pushed_and_not_fetched_again(net: Net, tmp_path: Path, author: GitUser) -> None:
    author("clone", "-q", "--shared", ".", "../shared")
    shared = GitUser(tmp_path / "shared", net.publisher)
    shared.commit("other", "two")
    shared("push", "-q", net.url(tmp_path), "main")
    check_cloned(net, tmp_path, shared, "main")
    reader = clone(net, tmp_path, "borrower", "--reference", str(shared.path))
    assert reader.objects("HEAD") == shared.objects("main")
    assert "count: 0\n" in reader("count-objects", "-v")
    assert "in-pack: 0\n" in reader("count-objects", "-v")


def test_replace_refs_and_grafts_change_nothing_of_what_is_pushed(net: Net, tmp_path: Path, author: GitUser) -> None:
    ids = [author.commit("file", text) for text in ("two", "three", "four")]
    author("replace", ids[0], author("rev-parse", "main~3").strip())
    (author.path / ".git" / "info" / "grafts").write_text(f"{ids[1]}\n")
    author("push", "-q", "ipfs", "main")
    check_cloned(net, tmp_path, author, "main")
    author("push", "-q", "--mirror", f"{net.url(tmp_path)}-mirror")
    assert f"refs/replace/{ids[0]}" in author.remote_refs(f"{net.url(tmp_path)}-mirror")


def partial(net: Net, tmp_path: Path, author: GitUser) -> GitUser:
    """Return a clone of `author` that lacks the blobs of the past."""
    author("config", "uploadpack.allowFilter", "true")
    for text in ("two", "three"):
        author.commit("file", text)
    GitUser(tmp_path, net.publisher)("clone", "-q", "--filter=blob:none", f"file://{author.path}", "partial")
    return GitUser(tmp_path / "partial", net.publisher)


def test_a_partial_clone_brings_what_it_lacks_and_pushes_all(net: Net, tmp_path: Path, author: GitUser) -> None:
    pusher = partial(net, tmp_path, author)
    pusher.commit("other", "four")
    pusher("push", "-q", net.url(tmp_path), "main")
    check_cloned(net, tmp_path, pusher, "main")


def test_a_partial_clone_that_can_not_get_what_it_lacks_pushes_nothing(
    net: Net, tmp_path: Path, author: GitUser
) -> None:
    pusher = partial(net, tmp_path, author)
    pusher("config", "remote.origin.url", "file:///nowhere")
    said = pusher.run("push", net.url(tmp_path), "main")
    assert said.code == 1
    assert "from promisor remote" in said.err
    assert f"no link named '{tmp_path.name}'" in pusher.run("ls-remote", net.url(tmp_path)).err


def test_a_partial_clone_of_a_name_is_refused_at_once(net: Net, tmp_path: Path, author: GitUser) -> None:
    """Else git would ask us for each object of which we ask git whether it is there, without end."""
    author("push", "-q", "ipfs", "main")
    said = GitUser(tmp_path, net.reader).run("clone", "-q", "--filter=blob:none", net.url(tmp_path), "clone")
    assert said.code == 128
    assert said.err.startswith("error: cannot fetch a part of '")
    assert "without '--filter'" in said.err
    assert not (tmp_path / "clone").exists()
    pusher = partial(net, tmp_path, author)
    pusher("remote", "set-url", "origin", net.url(tmp_path))
    for words in (("fetch",), ("cat-file", "-t", "12" * 20)):
        said = pusher.run(*words)
        assert said.code == 128
        assert "error: cannot fetch a part of '" in said.err


# ---- refs ----


def test_nothing_pushed_is_an_empty_clone_or_none(net: Net, tmp_path: Path, author: GitUser) -> None:
    empty = GitUser(tmp_path / "empty", net.publisher).init()
    assert empty.run("push", "ipfs::/ipns/self", "main").err.startswith("error: src refspec main does not match any")
    assert "Everything up-to-date" in empty.run("push", "--mirror", net.url(tmp_path)).err
    author("push", "-q", "ipfs", "main:refs/tags/only")
    author("push", "-q", "ipfs", ":refs/tags/only")
    said = GitUser(tmp_path, net.reader).run("clone", net.url(tmp_path), "clone")
    assert said.code == 0
    assert "You appear to have cloned an empty repository" in said.err


def test_a_clone_of_a_detached_head_is_detached(net: Net, tmp_path: Path, author: GitUser) -> None:
    first = author("rev-parse", "main").strip()
    author.commit("file", "two")
    author("push", "-q", "ipfs", "main")
    root = Ipvcs(net.publisher).ok("dag", "resolve", f"/ipns/{net.name}/{tmp_path.name}").out.strip()
    with open_home(net.publisher) as home:
        tree = read_published(home.blocks, Cid.parse(root))
        manifest = tree.manifest
        with home.blocks.writing() as writer:
            detached = write_published(
                replace(tree, manifest=replace(manifest, head=ObjectId.parse(first))), {}, writer
            )
    GitUser(tmp_path, net.publisher)("clone", "-q", f"ipfs://{detached.cid}", "clone")
    reader = GitUser(tmp_path / "clone", net.publisher)
    assert reader("rev-parse", "HEAD").strip() == first
    assert reader.run("symbolic-ref", "-q", "HEAD").code == 1
    assert (reader.path / "file").read_text() == "one"


ODD = (
    b"\xff\xfe", "é".encode(), b"-dash", b"%41", b"{x}", b"$(x)", b"a;b|c&d", b"a'b\"c", b"@", b"HEAD", b"heads",
    b"refs/heads/main", b"l" * 200 + b"/" + b"m" * 200,
)  # fmt: skip


def test_refs_of_any_name_that_git_takes(net: Net, tmp_path: Path, author: GitUser) -> None:
    commit = author("rev-parse", "main").strip()
    for name in ODD:
        author("update-ref", b"refs/heads/" + name, commit)
        author("update-ref", b"refs/tags/" + name, commit)
    author("push", "-q", "--mirror", "ipfs")
    expected = {name: oid for name, oid in author.refs().items() if not name.startswith("refs/remotes/")}
    assert len(expected) == 2 * len(ODD) + 1
    assert clone(net, tmp_path, "mirror", "--mirror").refs() == expected


def test_revisions_of_every_sort_are_pushed_and_what_is_missing_is_an_error(
    net: Net, tmp_path: Path, author: GitUser
) -> None:
    first = author("rev-parse", "main").strip()
    author.commit("file", "second of them")
    tree = author("rev-parse", "main^{tree}").strip()
    specs = [f"{first}:refs/heads/id", "main~1:refs/heads/relative", "HEAD^{/second of}:refs/heads/by-words"]
    author("push", "-q", "ipfs", *specs, "HEAD^{tree}:refs/odd/tree")
    main = author("rev-parse", "main").strip()
    expected = {
        "refs/heads/by-words": main, "refs/heads/id": first, "refs/heads/relative": first, "refs/odd/tree": tree,
    }  # fmt: skip
    assert author.remote_refs("ipfs") == expected
    said = author.run("push", "ipfs", f"{'12' * 20}:refs/heads/missing", "main")
    assert said.code == 1
    assert f"error: object '{'12' * 20}' is missing from the repository" in said.err
    assert author.remote_refs("ipfs") == expected


def test_five_thousand_refs_are_pushed_with_a_handful_of_processes(net: Net, tmp_path: Path, author: GitUser) -> None:
    ids = [author("rev-parse", "main").strip(), author.commit("file", "two")]
    lines = [f"create refs/heads/topic{number}/x {ids[number % 2]}\n" for number in range(5000)]
    author("update-ref", "--stdin", stdin="".join(lines).encode())
    trace = tmp_path / "trace"
    GitUser(author.path, author.home, GIT_TRACE=str(trace))("push", "-q", net.url(tmp_path), "refs/heads/*")
    assert trace.read_text().count("exec: ") + trace.read_text().count("trace: built-in: ") < 40
    reader = clone(net, tmp_path, "mirror", "--mirror")
    assert reader.refs() == {name: oid for name, oid in author.refs().items() if name.startswith("refs/heads/")}
    assert "Everything up-to-date" in author.run("push", "ipfs", "refs/heads/*").err
