"""Converting what is new in a real repository: the same blocks as object by object, read once, remembered."""

from itertools import pairwise

import pytest

from ipvcs.git_bridge import conversion
from ipvcs.git_bridge.conversion import converting
from ipvcs.git_bridge.git import GitError, GitRepository
from ipvcs.git_bridge.object_feed import GitObjectMissingError
from ipvcs.objects.git.check import Checker, Claim
from ipvcs.objects.git.closure import iter_verified
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType
from ipvcs.storage.gc import collect
from ipvcs.storage.home import Home
from tests.e2e.real_git import Git
from tests.e2e.test_git_mapping import natural_kind, tag_body, tree_body
from tests.streams import chacha20_stream
from tests.unit.objects.git.repository import Repository

MIB = 1024 * 1024
PROFILE = "unixfs-v1-2025"


@pytest.fixture(params=[1, 10**9], ids=["two processes", "one process"], autouse=True)
def _processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MANY_BLOBS", request.param)
    monkeypatch.setattr(conversion, "_cores", lambda: 2)


def convert(git: Git, home: Home, *tips: str, known: tuple[str, ...] = ()) -> tuple[list[Mapped], int]:
    """Convert what `tips` reach and `known` do not; return what the tips became and how many objects were new."""
    repository = GitRepository(git.path, git.environ)
    seen: list[tuple[int, int]] = [(0, 0)]
    with home.blocks.writing() as writer, converting(repository, home, writer, PROFILE) as converter:
        mapped = converter.convert(
            [oid_of(git, tip) for tip in tips],
            [oid_of(git, each) for each in known],
            lambda done, total: seen.append((done, total)),
        )
    assert seen[-1][0] == seen[-1][1]
    assert all(before < after for (before, _), (after, _) in pairwise(seen))
    assert len({total for _done, total in seen[1:]}) <= 1
    return mapped, seen[-1][1]


def oid_of(git: Git, name: str) -> ObjectId:
    return ObjectId.parse(git("rev-parse", name).decode().strip())


def one_by_one(git: Git, *tips: str) -> list[Mapped]:
    """Map what `tips` reach from objects held in memory."""
    repository = Repository(git.object_format)
    git.read_into(repository)
    oids = [oid_of(git, tip) for tip in tips]
    return [repository.map(oid, natural_kind(repository, oid)) for oid in oids]


def reached(git: Git, home: Home, tip: str, mapped: Mapped) -> set[ObjectId]:
    """Check all that the stored node reaches; return the ids."""
    checker = Checker(home.blocks, git.object_format, PROFILE)
    claim = Claim(oid_of(git, tip), mapped.kind, mapped.cid, mapped.size)
    return {each.oid for each in iter_verified(checker, [claim])}


def listed(git: Git, *revisions: str) -> set[ObjectId]:
    return set(map(ObjectId.parse, git("rev-list", "--objects", "--no-object-names", *revisions).decode().split()))


def history(git: Git) -> None:
    """Commits on three branches and their merges, with files that change their mode, move and come back."""
    commands: list[bytes] = []
    for n in range(1, 13):
        commands.append(b"commit refs/heads/%s\nmark :%d\n" % (b"main" if n % 3 else b"side%d" % n, n))
        commands.append(b"committer C <c@example.com> %d +0000\ndata 2\n%02d" % (n, n))
        if n > 1:
            commands.append(b"from :%d\n" % (n - 1 if n % 4 else max(1, n - 3)))
            if n % 5 == 0:
                commands.append(b"merge :%d\n" % (n - 2))
        commands.append(b"M 100644 inline dir%d/sub/file%d\ndata 2\n%02d\n" % (n % 4, n % 6, n // 2))
        commands.append(b"M %s inline tool\ndata 4\n#!/x\n" % (b"100755" if n % 2 else b"100644"))
        commands.append(b"M 120000 inline link%d\ndata 4\n#!/x\n" % (n % 3))
        commands.append(b"M 160000 %s submodule\n" % (b"1" * (2 * git.object_format.size)))
    commands.append(b"tag v1\nfrom :9\ntagger T <t@example.com> 1 +0000\ndata 3\ntag\n")
    git("fast-import", "--quiet", stdin=b"".join(commands))


def test_a_history_becomes_what_its_objects_become_one_by_one(git: Git, home: Home) -> None:
    history(git)
    refs = git("for-each-ref", "--format=%(refname)").decode().split()
    mapped, read = convert(git, home, *refs)
    assert mapped == one_by_one(git, *refs)
    assert read == len(listed(git, "--all"))
    assert set().union(*(reached(git, home, *each) for each in zip(refs, mapped, strict=True))) == listed(git, "--all")


def test_only_what_is_new_is_read(git: Git, home: Home) -> None:
    history(git)
    convert(git, home, "main~3")
    mapped, read = convert(git, home, "main", "v1", known=("main~3",))
    assert mapped == one_by_one(git, "main", "v1")
    assert read == len(listed(git, "main", "v1", "^main~3"))
    assert reached(git, home, "main", mapped[0]) == listed(git, "main")


def test_each_commit_by_itself_gives_the_same(git: Git, home: Home) -> None:
    history(git)
    known: tuple[str, ...] = ()
    for revision in git("rev-list", "--reverse", "--topo-order", "--branches").decode().split():
        assert convert(git, home, revision, known=known)[0] == one_by_one(git, revision)
        known = (*known, revision)


def test_what_was_converted_is_remembered_until_it_is_collected(git: Git, home: Home) -> None:
    history(git)
    (mapped,), _read = convert(git, home, "main")
    repository = GitRepository(git.path, git.environ)

    def found() -> Mapped | None:
        with home.blocks.writing() as writer, converting(repository, home, writer, PROFILE) as converter:
            return converter.find(oid_of(git, "main"), NodeKind.COMMIT)

    assert found() == mapped
    collect(home)
    assert found() is None
    assert convert(git, home, "main")[0] == [mapped]


def test_a_large_file_of_two_kinds_in_one_commit(git: Git, home: Home) -> None:
    blob = git.write(GitType.BLOB, chacha20_stream("large file", 2 * MIB + 7))
    tree = git.write(GitType.TREE, tree_body((b"100755", b"a", blob), (b"100644", b"b", blob), (b"120000", b"c", blob)))
    commit = git("commit-tree", str(tree), "-m", "x").decode().strip()
    assert convert(git, home, commit)[0] == one_by_one(git, commit)


def test_tags_of_anything_and_refs_to_anything(git: Git, home: Home) -> None:
    blob = git.write(GitType.BLOB, b"content")
    inner = git.write(GitType.TREE, tree_body((b"100755", b"run", blob)))
    tree = git.write(GitType.TREE, tree_body((b"40000", b"dir", inner), (b"100644", b"f", blob)))
    tags = [git.write(GitType.TAG, tag_body(blob, b"blob")), git.write(GitType.TAG, tag_body(tree, b"tree"))]
    tags.append(git.write(GitType.TAG, tag_body(tags[0], b"tag")))
    names = [str(each) for each in (blob, tree, *tags)]
    mapped, _read = convert(git, home, *names)
    assert mapped == one_by_one(git, *names)
    assert [each.kind for each in mapped] == [NodeKind.REGULAR, NodeKind.DIRECTORY, *3 * [NodeKind.TAG]]


def test_a_missing_object_is_named(git: Git, home: Home) -> None:
    blob = git.write(GitType.BLOB, b"content")
    tree = git.write(GitType.TREE, tree_body((b"100644", b"f", blob)))
    commit = git("commit-tree", str(tree), "-m", "x").decode().strip()
    path = git.path / "objects" / blob.hex[:2] / blob.hex[2:]
    path.unlink()
    with pytest.raises((GitObjectMissingError, GitError), match=blob.hex):
        convert(git, home, commit)
