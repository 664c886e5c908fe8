"""Hostile repositories: lies in each file that a push publishes, nodes that lie, trees that git would not check out."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipvcs.multiformats.cid import Cid
from ipvcs.storage.home import open_home
from tests.cli_runner import Ipvcs
from tests.e2e.git_lies import Forge
from tests.e2e.git_net import Net
from tests.e2e.git_user import GitUser, Said

pytestmark = pytest.mark.network

NOWHERE = "12" * 20
HEADER = len(b"ipvcs commits 1\n")
RECORD = 20 + 32 + 8


class Victim(GitUser):
    """Who has the first commit of two, and is offered lies about the second."""

    def state(self) -> tuple[dict[str, str], str]:
        """Return its refs, and what objects it has."""
        return self.refs(), self("cat-file", "--batch-all-objects", "--batch-check")

    def offer(self, root: Cid, way: str = "packs") -> Said:
        """Fetch from the repository `root`."""
        user = GitUser(self.path, self.home, IPVCS_FETCH=way)
        return user.run("fetch", "-q", f"ipfs://{root}", "+refs/*:refs/lie/*")

    def refuses(self, root: Cid, problem: str, way: str = "packs") -> None:
        """Check that it is told of `problem`, and has and lacks what it had and lacked."""
        before = self.state()
        said = self.offer(root, way)
        assert said.code in (1, 128), problem
        assert problem in said.err, said.err
        assert self.state() == before, problem


@pytest.fixture
def forge(net: Net, tmp_path: Path, author: GitUser) -> Iterator[Forge]:
    """What can be made of a repository of two commits, pushed one by one."""
    author("push", "-q", "ipfs", "main")
    author("branch", "first")
    author.commit("dir/file", "two")
    author("tag", "-a", "-m", "a tag", "v1")
    author("push", "-q", "ipfs", "main", "v1")
    root = Ipvcs(net.publisher).ok("dag", "resolve", f"/ipns/{net.name}/{tmp_path.name}").out.strip()
    with open_home(net.publisher) as home:
        yield Forge(home, Cid.parse(root))


@pytest.fixture
def victim(net: Net, tmp_path: Path, author: GitUser, forge: Forge) -> Iterator[Victim]:
    """Who is offered the lies."""
    user = Victim(tmp_path / "victim", net.publisher)
    user.init()
    user("fetch", "-q", f"file://{author.path}", "first:refs/heads/mine")
    yield user
    assert user("fsck", "--full", "--strict", "--no-dangling") == ""


def test_what_is_no_lie_is_fetched(forge: Forge, victim: Victim, author: GitUser) -> None:
    """Or the tests below would show nothing."""
    for way in ("packs", "objects"):
        retold = forge.with_manifest(lambda fields: fields.update(sequence=7))
        assert victim.offer(retold, way).code == 0
        assert victim.objects("refs/lie/heads/main", "refs/lie/tags/v1") == author.objects("main", "v1")
        for name in ("heads/main", "tags/v1"):
            victim("update-ref", "-d", f"refs/lie/{name}")
        victim("gc", "-q", "--prune=now")


# ---- the manifest ----


Change = Callable[[dict[str, Any]], object]


def add_pack(name: str) -> Change:
    """Return what lists a pack more."""
    return lambda fields: fields["packs"].append({"name": name, "size": 9, "objects": 9, "tips": [], "bases": []})


def claim_tips(fields: dict[str, Any]) -> None:
    """Say of every pack that it has what is in the first alone, so that nobody would fetch the second."""
    for pack in fields["packs"]:
        pack["tips"] = fields["packs"][0]["tips"]


MANIFESTS: dict[str, tuple[Change, str]] = {
    "another version": (lambda fields: fields.update(version=2), "repository has version 2, this ipvcs reads"),
    "another mapping": (lambda fields: fields.update(mapping=7), "repository has mapping 7"),
    "a version that is no number": (lambda fields: fields.update(version=True), "manifest has no 'version'"),
    "another hash function": (lambda fields: fields.update(object_format="md5"), "unknown object format 'md5'"),
    "ids of another format": (lambda fields: fields.update(object_format="sha256"), "is not a sha256 id"),
    "no packs": (lambda fields: fields.pop("packs"), "manifest has no 'packs'"),
    "a pack that is not there": (add_pack(f"pack-{NOWHERE}"), f"it lacks 'objects/pack/pack-{NOWHERE}.commits'"),
    "a pack above": (add_pack("../../config"), "'../../config' is not the name of a pack"),
    "a pack below": (add_pack(f"a/pack-{NOWHERE}"), "is not the name of a pack"),
    "a pack twice": (lambda fields: fields["packs"].append(fields["packs"][0]), "manifest names a pack twice"),
    "a head outside": (lambda fields: fields.update(head="refs/heads/../../x"), "bad 'head' in the manifest"),
    "tips that hide a pack": (claim_tips, "none of its packs has it"),
    "no pack at all": (lambda fields: fields.update(packs=[]), "none of its packs has it"),
    "a list of tips without end": (
        lambda fields: fields["packs"][0].update(tips=[NOWHERE] * 1001), "more than 1000 tips",
    ),
}  # fmt: skip


def test_a_manifest_that_lies_is_refused(forge: Forge, victim: Victim) -> None:
    for change, problem in MANIFESTS.values():
        victim.refuses(forge.with_manifest(change), problem)


def test_bytes_that_are_no_manifest_are_refused(forge: Forge, victim: Victim) -> None:
    honest = forge.read("ipvcs.json")
    for data, problem in (
        (honest.replace(b"{", b'{"version": 1, ', 1), "manifest has a key twice"),
        (b"[" * 500_000, "manifest is not JSON"),
        (b"\xff", "manifest is not JSON"),
        (b"", "manifest is not JSON"),
        (b"[]", "manifest is not a JSON object"),
        (honest.replace(b'"sequence": ', b'"sequence": 1e400, "x": '), "manifest has no 'sequence'"),
        (honest + b" " * 1024 * 1024, "1,048,576 are the most"),
    ):
        victim.refuses(forge.with_file("ipvcs.json", data), problem)


# ---- the table of refs ----


def test_a_table_of_refs_that_lies_is_refused(forge: Forge, victim: Victim) -> None:
    honest = forge.read("ipvcs.refs")
    line = honest.splitlines()[0]
    oid, cid, _name = line.split()
    for data, problem in (
        (line + b"/../../../config\n", "is not the full name of a ref"),
        (line + b".lock\n", "is not the full name of a ref"),
        (line + b"\x1b[31m\n", "\\x1b[31m' is not the full name of a ref"),
        (b"%b %b HEAD\n" % (oid, cid), "'HEAD' is not the full name of a ref"),
        (b"%b %b config\n" % (oid, cid), "'config' is not the full name of a ref"),
        (b"".join(reversed(honest.splitlines(keepends=True))), "out of order or occur twice"),
        (line + b"\n" + line + b"\n", "out of order or occur twice"),
        (honest[:-1], "ends inside a line"),
        (b"nonsense\n", "malformed line"),
        (line.replace(oid, b"xyz") + b"\n", "xyz"),
        (line.replace(oid, oid + oid[:24]) + b"\n", "is not a sha1 id"),
        (line.replace(cid, b"bafynonsense") + b"\n", "bafynonsense"),
    ):
        victim.refuses(forge.with_file("ipvcs.refs", data), problem)


def test_a_ref_whose_node_is_another_objects_is_refused(forge: Forge, victim: Victim) -> None:
    """By the object graph: packs do without nodes."""
    main, tag = forge.read("ipvcs.refs").splitlines()
    tree = str(forge.link(Cid.parse(main.split()[1].decode()), b"object")).encode()
    for other in (tag.split()[1], tree):
        root = forge.with_file("ipvcs.refs", main.replace(main.split()[1], other) + b"\n")
        victim.refuses(root, "is not valid: ", "objects")


# ---- packs ----


def pack_path(forge: Forge, suffix: str) -> str:
    """Return where a file of the newest pack is."""
    return f"objects/pack/{json.loads(forge.read('ipvcs.json'))['packs'][-1]['name']}{suffix}"


def test_a_pack_that_is_not_what_was_listed_is_refused(forge: Forge, victim: Victim, author: GitUser) -> None:
    path = pack_path(forge, ".pack")
    honest = forge.read(*path.split("/"))
    for data in (
        b"",
        b"PACK",
        honest[:-1],
        honest[:50] + bytes([honest[50] ^ 1]) + honest[51:],
        b"\0" * 10_000,
    ):
        victim.refuses(forge.with_file(path, data), "index-pack failed")


def packed(author: GitUser, *objects: str) -> bytes:
    """Return a pack of these objects."""
    author("pack-objects", "-q", "x", stdin="".join(f"{each}\n" for each in objects).encode())
    (file,) = author.path.glob("x-*.pack")
    data = file.read_bytes()
    for each in author.path.glob("x-*"):
        each.unlink()
    return data


def test_packs_that_lack_objects_move_no_ref(forge: Forge, victim: Victim, author: GitUser) -> None:
    path = pack_path(forge, ".pack")
    main = author("rev-parse", "main").strip()
    before = victim.refs()
    for objects, problem in (
        ((author("rev-parse", "first:file").strip(),), "none of its packs has it"),
        ((author("rev-parse", "main:dir/file").strip(),), "none of its packs has it"),
        ((main, author("rev-parse", "v1").strip()), "did not send all necessary objects"),
        ((main, author("rev-parse", "v1").strip(), f"{main}^{{tree}}"), "did not send all necessary objects"),
    ):
        ids = [author("rev-parse", each).strip() for each in objects]
        said = victim.offer(forge.with_file(path, packed(author, *ids)))
        assert said.code in (1, 128)
        assert problem in said.err, said.err
        assert victim.refs() == before
    victim("gc", "-q", "--prune=now")
    assert victim.objects() == victim.objects("mine")
    assert victim.offer(forge.root).code == 0, "and the true one is taken after that"


# ---- tables of commits ----


def lying_tables(forge: Forge) -> Iterator[tuple[str, bytes]]:
    """Yield (what is said of it, table) for the newest pack; it has two records."""
    honest = forge.read(*pack_path(forge, ".commits").split("/"))
    head, records = honest[:HEADER], [honest[i : i + RECORD] for i in range(HEADER, len(honest), RECORD)]
    yield "records of a table of commits are out of order", head + records[1] + records[0]
    yield "records of a table of commits are out of order", head + records[0] * 2
    yield "is cut short", honest[:-1]
    yield "not a table of commits", b"ipvcs commits 2\n" + honest[HEADER:]
    yield "not a table of commits", b""


def swapped_table(forge: Forge) -> Cid:
    """Return a repository whose newest table says of each commit that it is the other's node."""
    honest = forge.read(*pack_path(forge, ".commits").split("/"))
    first, second = (honest[i : i + RECORD] for i in range(HEADER, len(honest), RECORD))
    data = honest[:HEADER] + first[:20] + second[20:] + second[:20] + first[20:]
    return forge.with_file(pack_path(forge, ".commits"), data)


def test_nodes_that_a_table_of_commits_names_are_not_believed(forge: Forge, victim: Victim, author: GitUser) -> None:
    assert victim.offer(swapped_table(forge), "objects").code == 0
    assert victim.objects("refs/lie/heads/main") == author.objects("main")


def test_a_push_on_top_of_a_table_that_lies_is_refused(net: Net, tmp_path: Path, forge: Forge) -> None:
    """By a home that converted none of it, and whose name leads to the lie."""
    reader = Ipvcs(net.reader)
    reader.ok("key", "gen", tmp_path.name)

    def publish(root: Cid) -> None:
        reader.ok("name", "publish", "--key", tmp_path.name, f"/ipfs/{root}")

    publish(forge.root)
    GitUser(tmp_path, net.reader)("clone", "-q", f"ipfs::/ipns/{tmp_path.name}", "clone")
    user = GitUser(tmp_path / "clone", net.reader)
    before = user.remote_refs("origin")
    user.commit("file", "three")
    tables = [(problem, forge.with_file(pack_path(forge, ".commits"), data)) for problem, data in lying_tables(forge)]
    for problem, lie in (("is not valid: ", swapped_table(forge)), *tables):
        publish(lie)
        said = user.run("push", "origin", "main")
        assert said.code == 1
        assert problem in said.err, said.err
        assert reader.ok("name", "resolve", tmp_path.name).out.strip() == f"/ipfs/{lie}"
    publish(forge.root)
    assert user.remote_refs("origin") == before
    user("push", "-q", "origin", "main")


# ---- nodes ----


def test_trees_that_show_other_content_than_git_does_are_refused(forge: Forge, victim: Victim) -> None:
    main = forge.read("ipvcs.refs").splitlines()[0]
    commit = Cid.parse(main.split()[1].decode())
    tree = forge.link(commit, b"object")
    inner, file = forge.link(tree, b"dir"), forge.link(tree, b"file")
    other = forge.with_link(inner, b"file", file)
    for name, target in ((b"dir", other), (b"dir", file), (b"dir", tree), (b"dir", commit)):
        lie = forge.with_link(commit, b"object", forge.with_link(tree, name, target))
        root = forge.with_file("ipvcs.refs", main.replace(str(commit).encode(), str(lie).encode()) + b"\n")
        victim.refuses(root, f"link '{'file' if target == other else 'dir'}' of '", "objects")
    for target in (file, commit):
        lie = forge.with_link(commit, b"object", target)
        root = forge.with_file("ipvcs.refs", main.replace(str(commit).encode(), str(lie).encode()) + b"\n")
        victim.refuses(root, "link 'object' of '", "objects")


# ---- trees that no git would check out ----


FILE, LINK, TREE = b"100644", b"120000", b"40000"
NEVER = {
    "git": [(TREE, b".git")],
    "GIT": [(TREE, b".GIT")],
    "git-file": [(FILE, b".git")],
    "ntfs": [(TREE, b"git~1")],
    "hfs": [(TREE, ".g\u200cit".encode())],
    "up": [(TREE, b"..")],
    "here": [(FILE, b".")],
    "far-up": [(FILE, b"../../x")],
    "hook": [(FILE, b".git/hooks/post-checkout")],
    "modules": [(LINK, b".gitmodules")],
    "absolute": [(FILE, b"/x")],
}
"""Trees that git does not check out: (mode, name) of what is in them beside an ordinary file."""
ODD = {
    "slash": [(FILE, b"a/b")],
    "backslash": [(FILE, b"a\\b")],
    "control": [(FILE, b"\x1b[31m\x07\n")],
    "not-utf-8": [(FILE, b"\xff\xfe")],
    "twice": [(FILE, b"a"), (FILE, b"a")],
    "file-and-tree": [(FILE, b"a"), (TREE, b"a")],
    "unsorted": [(FILE, b"z"), (FILE, b"b")],
    "modes": [(b"100664", b"a"), (b"040000", b"b"), (b"170000", b"c")],
    "reserved": [(FILE, b".ipvcs-tree"), (FILE, b"ipvcs.json"), (TREE, b"objects")],
}
"""Trees that git makes something of."""


def branch_of(author: GitUser, name: str, entries: list[tuple[bytes, bytes]]) -> None:
    """Make a branch whose tree has `entries`, whatever git thinks of it."""
    oids = {"blob": author("rev-parse", "main:file").strip(), "tree": author("rev-parse", "main^{tree}").strip()}
    body = b""
    for mode, path in [*entries, (FILE, b"zz")]:
        oid = oids["tree" if mode.endswith(b"40000") else "blob"]
        body += b"%b %b\0%b" % (mode, path, bytes.fromhex(oid))
    tree = author("hash-object", "-t", "tree", "-w", "--stdin", "--literally", stdin=body).strip()
    author("branch", name, author("commit-tree", "-m", name, tree).strip())


@pytest.mark.parametrize("way", ["packs", "objects"])
def test_hostile_trees_are_carried_unchanged_and_git_stops_them_at_checkout(
    net: Net, tmp_path: Path, author: GitUser, way: str
) -> None:
    for name, entries in {**NEVER, **ODD}.items():
        branch_of(author, name, entries)
    author("push", "-q", "--all", "ipfs")
    user = GitUser(tmp_path, net.reader, IPVCS_FETCH=way)
    user("clone", "-q", "--no-checkout", net.url(tmp_path), "clone")
    reader = GitUser(tmp_path / "clone", net.reader)
    assert reader.objects() == author.objects()
    listing = ("cat-file", "--batch-all-objects", "--batch-check")
    assert reader(*listing) == author(*listing)
    safe = ("-c", "core.protectHFS=true", "-c", "core.protectNTFS=true")
    for name in NEVER:
        said = reader.run(*safe, "checkout", "-q", "-f", name)
        assert said.code != 0, name
        assert "invalid path" in said.err, (name, said.err)
    reader("checkout", "-q", "-f", "main")
    assert sorted(path.name for path in reader.path.iterdir()) == [".git", "file"]
    assert not list(reader.path.glob(".git/hooks/post-checkout"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clone", "work"]


def test_a_clone_of_a_hostile_tree_ends_with_gits_refusal(net: Net, tmp_path: Path, author: GitUser) -> None:
    branch_of(author, "hostile", NEVER["git"])
    author("push", "-q", "ipfs", "hostile")
    said = GitUser(tmp_path, net.reader).run("clone", "-q", net.url(tmp_path), "clone")
    assert said.code == 128
    assert "invalid path '.git/file'" in said.err, said.err
    assert "Clone succeeded, but checkout failed" in said.err


@pytest.mark.parametrize("way", ["packs", "objects"])
def test_who_has_git_check_what_it_fetches_gets_nothing_hostile(
    net: Net, tmp_path: Path, author: GitUser, way: str
) -> None:
    author("push", "-q", "ipfs", "main")
    user = GitUser(tmp_path, net.reader, IPVCS_FETCH=way)
    user("clone", "-q", net.url(tmp_path), "clone")
    reader = GitUser(tmp_path / "clone", net.reader, IPVCS_FETCH=way)
    before = reader.refs()
    branch_of(author, "hostile", NEVER["git"])
    author("push", "-q", "ipfs", "hostile")
    for key in ("transfer", "fetch"):
        said = reader.run("-c", f"{key}.fsckObjects=true", "fetch", "-q")
        assert said.code in (1, 128)
        assert "hasDotgit" in said.err, said.err
        assert reader.refs() == before
    assert reader("fsck", "--full", "--strict") == ""
    assert "hostile" in reader.run("fetch").err
