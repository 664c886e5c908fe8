"""What was pushed, read without git: by a fresh home that knows nothing but the name, compared with what git reads."""

import os
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from stat import S_IMODE

import pytest

from ipvcs.objects.git.object_id import ObjectFormat
from tests.cli_runner import Ipvcs
from tests.e2e.daemons import Daemons
from tests.e2e.fetching import address_of, blocks_in, bootstrap, noise, peer_of, stat
from tests.e2e.git_user import GitUser

pytestmark = pytest.mark.network


class Readers:
    """A publisher, and readers with fresh homes whose daemons know it."""

    def __init__(self, path: Path) -> None:
        self.daemons = Daemons(path)
        self.publisher = self.daemons.make_home("publisher")
        running = self.daemons.start(self.publisher)
        self.name, self._address = peer_of(running), address_of(running)

    def fresh(self, name: str) -> Ipvcs:
        """Return the commands of a home that has nothing, and whose daemon runs."""
        home = self.daemons.make_home(name)
        bootstrap(home, self._address)
        self.daemons.start(home)
        return Ipvcs(home)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Readers]:
    made = Readers(tmp_path_factory.mktemp("readers"))
    yield made
    made.daemons.close()


@pytest.fixture
def author(net: Readers, tmp_path: Path) -> GitUser:
    return GitUser(tmp_path / "work", net.publisher)


def url(net: Readers, tmp_path: Path) -> str:
    return f"/ipns/{net.name}/{tmp_path.name}"


def import_history(user: GitUser, commits: int, seed: int) -> None:
    """Make a history with branches, merges, clocks that are wrong, and odd names and messages, the last one on main."""
    random_ = random.Random(seed)
    lines: list[bytes] = []
    for number in range(1, commits + 1):
        time = 1_000_000_000 + number * 60 + random_.choice([0, 0, 0, 0, 5_000, -5_000])
        zone = random_.choice(["+0000", "+0545", "-0330", "+1400"])
        message = random_.choice(
            ["plain", "two\nlines", "\n \n subject\n\n\tbody\n  indented \r\n\nend\n\n", "", " \n", "Zürich"]
        )
        who = random_.choice(["A <a@example.com>", "Ø Å <>", "<b@example.com>", f"{'long ' * 20}<c@example.com>"])
        charset = random_.choice(["utf-8", "iso-8859-1"])
        text = message.encode(charset)
        lines += [b"commit refs/heads/b%d" % number, b"mark :%d" % number]
        lines += [f"author {who} {time + 7} {zone}".encode(charset), f"committer {who} {time} +0100".encode(charset)]
        lines += [b"encoding ISO-8859-1"] if charset != "utf-8" else []
        lines += [b"data %d" % len(text), text]
        if number > 1:
            count = min(number - 1, random_.choice([1, 1, 1, 2, 3]))
            parents = random_.sample(range(max(1, number - 6), number), count)
            lines += [b"from :%d" % parents[0], *(b"merge :%d" % parent for parent in parents[1:])]
        lines += [b"M 644 inline file%d" % (number % 3), b"data 10", b"%010d" % number]
    lines += [b"reset refs/heads/main", b"from :%d" % commits, b""]
    user("fast-import", "--quiet", stdin=b"\n".join(lines))


@pytest.mark.parametrize("object_format", ObjectFormat)
def test_a_history_is_that_of_git_log(
    net: Readers, tmp_path: Path, author: GitUser, object_format: ObjectFormat
) -> None:
    author.init(object_format)
    import_history(author, 150, seed=object_format.size)
    author("tag", "-a", "-m", "a tag", "v1", "b100")
    author("push", "-q", f"ipfs::{url(net, tmp_path)}", "main", "b120", "v1")
    reader = net.fresh(f"log-{object_format}")

    def oids(*words: str) -> list[str]:
        return [each["Commit"] for each in reader.ok("log", "--json", url(net, tmp_path), *words).json]

    log = reader.ok("log", url(net, tmp_path)).out
    assert re.sub(r"^CID:.*\n", "", log, flags=re.MULTILINE) == author("log", "--abbrev=10", "--no-decorate", "main")
    for ours, gits in (
        (["main"], ["main"]),
        (["b120"], ["b120"]),
        (["v1", "--first-parent"], ["v1", "--first-parent"]),
        (["-n", "7", "--reverse"], ["-n", "7", "--reverse", "main"]),
        ([author("rev-parse", "main~20").strip()], ["main~20"]),
    ):
        assert oids(*ours) == author("rev-list", *gits).split(), ours
    for path, ref in (("heads/b120", "b120"), ("tags/v1", "v1")):
        printed = reader.ok("log", "--json", f"{url(net, tmp_path)}/{path}").json
        assert [each["Commit"] for each in printed] == author("rev-list", ref).split()
    assert "is a file, which has no history" in reader.fails("log", f"{url(net, tmp_path)}/heads/main/file1")
    oneline = author("log", "--oneline", "--abbrev=10", "--no-decorate", "main")
    assert reader.ok("log", "--oneline", url(net, tmp_path)).out == oneline
    dates = author("log", "--format=%aI %cI", "main").replace("+00:00", "Z").splitlines()
    printed = reader.ok("log", "--json", url(net, tmp_path)).json
    assert [f"{each['Author']['Date']} {each['Committer']['Date']}" for each in printed] == dates
    for each in (printed[0], printed[-1]):
        assert reader.ok("log", "--json", "-n1", each["Cid"]).json == [each]


def test_a_long_history_does_not_wait_for_each_commit_and_a_short_look_fetches_little(
    net: Readers, tmp_path: Path, author: GitUser
) -> None:
    author.init()
    import_history(author, 1000, seed=1)
    author("push", "-q", f"ipfs::{url(net, tmp_path)}", "main")
    reader = net.fresh("long")
    assert len(reader.ok("log", "--oneline", "-n", "3", url(net, tmp_path)).lines) == 3
    assert blocks_in(reader.home) < 60
    before = stat(reader.home)["MessagesReceived"]
    count = int(author("rev-list", "--count", "main"))
    assert len(reader.ok("log", "--oneline", url(net, tmp_path)).lines) == count
    assert stat(reader.home)["MessagesReceived"] - before < 200
    assert blocks_in(reader.home) < count + 100  # commits, and nothing of what they hold


def contents(root: Path) -> dict[str, tuple[str, bytes | str]]:
    """Return what is in a directory, git's own excepted: for each path its kind and content."""
    found: dict[str, tuple[str, bytes | str]] = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            if name == ".git":  # of a worktree, a file
                continue
            path = Path(directory, name)
            shown = str(path.relative_to(root))
            if path.is_symlink():
                found[shown] = ("symlink", str(path.readlink()))
            elif path.is_file():
                kind = "executable" if S_IMODE(path.stat().st_mode) & 0o100 else "file"
                found[shown] = (kind, path.read_bytes())
            else:
                found[shown] = ("directory", "")
    return found


def test_get_of_a_commit_writes_what_git_checks_out(net: Readers, tmp_path: Path, author: GitUser) -> None:
    author.init()
    work = author.path
    (work / "deep" / "er").mkdir(parents=True)
    (work / "README.md").write_text("read me")
    (work / "deep" / "er" / "run").write_text("#!/bin/sh\n")
    (work / "deep" / "er" / "run").chmod(0o755)
    (work / "large").write_bytes(noise(3_000_000, 11))
    (work / "large").chmod(0o755)
    (work / "empty").write_bytes(b"")
    (work / "link").symlink_to("deep/er/run")
    (work / "dangling").symlink_to("/no/where")
    (work / "wide").mkdir()  # its tree is over 64 KiB, and so lies beside its entries
    for number in range(1500):
        (work / "wide" / f"{number:04d}-{'n' * 30}").write_bytes(b"%d" % number)
    author("add", ".")
    author("commit", "-q", "-m", "one")
    author("rm", "-q", "empty")
    author("commit", "-q", "-m", "two")
    author("tag", "-a", "-m", "a tag", "v1", "main~1")
    author("push", "-q", f"ipfs::{url(net, tmp_path)}", "main", "v1")
    reader = net.fresh("get")
    commits = reader.ok("log", "--json", url(net, tmp_path)).json
    now, before = (each["Cid"] for each in commits)
    tag = re.search(r" (\S+) refs/tags/v1", reader.ok("cat", f"{url(net, tmp_path)}/ipvcs.refs").out)
    assert tag is not None
    for number, (path, revision) in enumerate((
        (now, "main"), (before, "main~1"), (f"{now}/parent", "main~1"), (tag[1], "v1"),
        (f"{url(net, tmp_path)}/heads/main", "main"), (f"{url(net, tmp_path)}/tags/v1", "v1"),
    )):  # fmt: skip
        reader.ok("get", "-o", tmp_path / f"got{number}", path)
        author("worktree", "add", "-q", "--detach", str(tmp_path / f"checkout{number}"), revision)
        assert contents(tmp_path / f"got{number}") == contents(tmp_path / f"checkout{number}"), path
    assert not (tmp_path / "got0" / "parent").exists()
    reader.ok("get", "-a", "-o", tmp_path / "got.tar", now)
    subprocess.run(["tar", "-xf", "got.tar"], cwd=tmp_path, check=True)
    assert contents(tmp_path / now) == contents(tmp_path / "checkout0")

    for start in (now, f"{now}/object", tag[1], f"{tag[1]}/object", f"{url(net, tmp_path)}/heads/main"):
        assert reader.ok("cat", f"{start}/README.md").out == "read me"
    assert reader.ok("cat", f"/ipfs/{now}/parent/object/deep/er/run").out == "#!/bin/sh\n"
    assert [line.split()[-1] for line in reader.ok("ls", now).lines] == ["author", "committer", "object/", "parent"]
    assert [line.split()[-1] for line in reader.ok("ls", tag[1]).lines] == ["object", "tagger"]


def test_the_tree_that_lies_beside_its_entries_is_shown_by_what_addresses_nodes_alone(
    net: Readers, tmp_path: Path, author: GitUser
) -> None:
    author.init()
    for number in range(1500):
        (author.path / f"{number:04d}-{'n' * 30}").write_bytes(b"x")
    author("add", ".")
    author("commit", "-q", "-m", "wide")
    author("push", "-q", f"ipfs::{url(net, tmp_path)}", "main")
    reader, path = net.fresh("wide"), f"{url(net, tmp_path)}/heads/main"
    names = [line.split()[-1] for line in reader.ok("ls", path).lines]
    assert names == author("ls-tree", "--name-only", "main").split()
    assert ".ipvcs-tree" in reader.ok("refs", "--format", "<linkname>", path).lines
    tree = subprocess.run(["git", "cat-file", "tree", "main"], cwd=author.path, capture_output=True, check=True).stdout
    assert reader.ok("cat", f"{path}/.ipvcs-tree").stdout == b"tree %d\0" % len(tree) + tree
