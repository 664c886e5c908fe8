"""Parts of a history: what git fetches by its own protocol, and what it fetches by a name, are the same."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from ipvcs.git_bridge.published_tree import read_published
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.git.object_id import ObjectFormat
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs
from tests.e2e.fetching import address_of
from tests.e2e.git_net import Net
from tests.e2e.git_user import GitUser

pytestmark = pytest.mark.network


@dataclass
class Twins:
    """Two repositories of one reader, whose `origin` is the same author's, by a name and by a path."""

    author: GitUser
    by_name: GitUser
    by_path: GitUser
    url: str

    def push(self) -> None:
        """Publish what the author has."""
        self.author("push", "-q", self.url, "+refs/*:refs/*")

    def run(self, *words: str) -> None:
        """Run a command of git in both; they have to be the same afterwards."""
        self.by_name(*words)
        self.by_path(*words)
        if "--unshallow" in words:  # git looks for tags to follow before it sees packs that a helper has brought
            self.by_name("fetch", "-q")
        self.check()

    def check(self) -> None:
        """Compare all that git fetches."""
        assert ends(self.by_name) == ends(self.by_path)
        assert self.by_name.refs() == self.by_path.refs()
        assert self.by_name.objects() == self.by_path.objects()
        assert self.by_name("fsck", "--full", "--strict", "--no-dangling") == ""


def ends(user: GitUser) -> set[str]:
    """Return the commits whose parents are left out."""
    path = user.path / ".git" / "shallow"
    return set(path.read_text().split()) if path.exists() else set()


Clone = Callable[..., Twins]


@pytest.fixture(params=[ObjectFormat.SHA1, pytest.param(ObjectFormat.SHA256, marks=pytest.mark.long)])
def clone(net: Net, tmp_path: Path, request: pytest.FixtureRequest) -> Clone:
    """Clone a history with a merge, two branches and tags, by a name and by its path."""
    author = history(GitUser(tmp_path / "author", net.publisher).init(request.param))
    url = net.url(tmp_path)

    def make(*words: str) -> Twins:
        author("push", "-q", url, "+refs/*:refs/*")
        names = {"name": url, "path": f"file://{author.path}"}
        for name, source in names.items():
            GitUser(tmp_path, net.reader)("clone", "-q", *words, source, name)
        return Twins(author, GitUser(tmp_path / "name", net.reader), GitUser(tmp_path / "path", net.reader), url)

    return make


def history(author: GitUser) -> GitUser:
    """Commit seven generations, with a merge, a branch that forks off early, and tags of both sorts."""
    for number in range(3):
        author.commit(f"dir/file{number}", "text")
    author("branch", "early", "main~1")
    author("checkout", "-q", "-b", "side")
    author.commit("side", "one")
    author.commit("side", "two")
    author("checkout", "-q", "main")
    author.commit("file", "three")
    author("tag", "light")
    author("merge", "-q", "--no-ff", "-m", "merge", "side")
    author("tag", "-a", "-m", "a tag", "v1")
    author.commit("file", "four")
    author("checkout", "-q", "early")
    author.commit("early", "one")
    author("checkout", "-q", "main")
    return author


@pytest.mark.parametrize("depth", ["1", "2", "4", "100"])
def test_a_clone_of_some_generations(clone: Clone, depth: str) -> None:
    twins = clone("--depth", depth)
    twins.check()
    assert len(twins.by_name("rev-list", "HEAD").split()) <= {"1": 1, "2": 2, "4": 6, "100": 8}[depth]


def test_a_clone_of_some_generations_of_all_branches(clone: Clone) -> None:
    clone("--depth", "2", "--no-single-branch").check()


@pytest.mark.parametrize("words", [(), ("--no-tags",), ("--mirror",), ("--bare",)])
def test_a_whole_clone(clone: Clone, words: tuple[str, ...]) -> None:
    twins = clone(*words)
    twins.check()
    assert twins.by_name("ls-remote") == twins.by_path("ls-remote")


def test_a_clone_of_one_branch(clone: Clone) -> None:
    """The pack that it is in holds others and tags as well."""
    twins = clone("--single-branch", "--branch", "early", "--no-tags")
    assert twins.by_name.refs() == twins.by_path.refs()
    assert twins.by_name.objects() == twins.by_path.objects()


def test_tags_follow_their_commits(clone: Clone) -> None:
    twins = clone()
    twins.author.commit("file", "five")
    twins.push()
    twins.run("fetch", "-q")
    twins.author("tag", "-a", "-m", "late", "v2")
    twins.author("tag", "-a", "-m", "of the tag", "v2-again", "v2")
    twins.author("tag", "-a", "-m", "of a tree", "tree", "main^{tree}")
    twins.push()
    twins.run("fetch", "-q")
    assert "refs/tags/v2-again" in twins.by_name.refs()


@pytest.mark.parametrize("clone", ObjectFormat, indirect=True)
def test_a_shallow_clone_follows(clone: Clone) -> None:
    twins = clone("--depth", "1", "--no-single-branch")
    twins.author.commit("file", "five")
    twins.author.commit("file", "six")
    twins.push()
    twins.run("fetch", "-q")
    twins.run("fetch", "-q", "--depth", "1")
    twins.run("fetch", "-q", "--deepen", "1")
    twins.run("fetch", "-q", "--depth", "4")
    twins.run("fetch", "-q", "--deepen", "2")
    twins.run("fetch", "-q", "--unshallow")
    assert twins.by_name.objects() == twins.author.objects()


def test_a_whole_history_is_cut_off_and_mended(clone: Clone) -> None:
    twins = clone()
    twins.run("fetch", "-q", "--depth", "2")
    twins.run("fetch", "-q", "--unshallow")


@pytest.mark.parametrize("way", ["packs", "objects"])
def test_both_ways_make_a_history_whole(clone: Clone, net: Net, way: str) -> None:
    twins = clone("--depth", "2")
    twins.by_name = GitUser(twins.by_name.path, net.reader, IPVCS_FETCH=way)
    twins.run("fetch", "-q", "--unshallow")
    assert twins.by_name("rev-list", "--count", "HEAD") == twins.author("rev-list", "--count", "main")


def test_a_part_of_a_history_passes_strict_checks(clone: Clone, net: Net, tmp_path: Path) -> None:
    clone()
    user = GitUser(tmp_path, net.reader)
    strict = ("-c", "transfer.fsckObjects=true")
    user(*strict, "clone", "-q", "--depth", "2", net.url(tmp_path), "strict")
    shallow = GitUser(tmp_path / "strict", net.reader)
    assert len(ends(shallow)) == 1
    shallow(*strict, "fetch", "-q", "--deepen", "1")
    shallow(*strict, "fetch", "-q", "--unshallow")
    assert ends(shallow) == set()


@pytest.mark.parametrize("revision", ["main~1", "main^{tree}"])
def test_what_is_here_without_what_it_leads_to_is_made_whole(clone: Clone, net: Net, revision: str) -> None:
    """As after a prune that was interrupted, or objects that somebody took over by hand."""
    twins = clone("--single-branch", "--branch", "early", "--depth", "1")
    git_type = "tree" if revision.endswith("{tree}") else "commit"
    raw = twins.author.raw("cat-file", git_type, revision)
    twins.by_name("hash-object", "-t", git_type, "-w", "--stdin", "--literally", stdin=raw)
    twins.by_name("fetch", "-q", "origin", "main:refs/heads/whole")
    assert twins.by_name.objects("whole") == twins.author.objects("main")
    assert twins.by_name("fsck", "--full", "--no-dangling") == ""


def test_commits_on_a_shallow_clone_of_a_name_are_pushed_back(clone: Clone, net: Net) -> None:
    twins = clone("--depth", "1")
    user = GitUser(twins.by_name.path, net.publisher)
    new = user.commit("file", "by somebody else")
    user("push", "-q", twins.url, "main")
    assert user.remote_refs(twins.url)["refs/heads/main"] == new
    twins.author("pull", "-q", twins.url, "main")
    assert twins.author("rev-parse", "main").strip() == new


def test_a_lock_that_was_left_behind_is_named(clone: Clone) -> None:
    twins = clone()
    (twins.by_name.path / ".git" / "shallow.lock").touch()
    said = twins.by_name.run("fetch", "-q", "--depth", "1")
    assert said.code != 0
    assert "shallow.lock': file exists" in said.err
    assert "remove the file" in said.err
    assert ends(twins.by_name) == set()


def test_a_part_of_a_branch_brings_no_packs(clone: Clone, net: Net) -> None:
    twins = clone("--depth", "1")
    packs = list((twins.by_name.path / ".git" / "objects" / "pack").glob("*.pack"))
    assert len(packs) == 1
    names = twins.by_name("verify-pack", "-v", packs[0].with_suffix(".idx")).splitlines()
    count = sum(1 for line in names if " commit " in line)
    assert count == 1


@pytest.mark.long
def test_packs_that_nobody_has_any_more_are_done_without(clone: Clone, net: Net, tmp_path: Path) -> None:
    twins = clone()
    root = Ipvcs(net.publisher).ok("dag", "resolve", twins.url.removeprefix("ipfs::")).out.strip()
    twins.author.commit("file", "five")
    twins.push()
    for each in (net.publisher, net.reader):
        with open_home(each) as home:
            packs = read_published(home.blocks, Cid.parse(root)).packs
            assert home.blocks.delete([link.cid for name, link in packs.items() if name.endswith(b".pack")]) == 1
    net.daemons.start(other := net.daemons.make_home(tmp_path.name))
    Ipvcs(other).ok("swarm", "connect", address_of(net.running[net.publisher]))
    GitUser(tmp_path, other)("clone", "-q", twins.url, "late")
    late = GitUser(tmp_path / "late", other)
    assert late.objects("HEAD") == twins.author.objects("main")
    said = GitUser(tmp_path, other, IPVCS_FETCH="packs").run("clone", "-q", twins.url, "by packs")
    assert said.code == 128
    assert "block" in said.err
