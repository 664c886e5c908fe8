"""Git mapping v1 beside real git: what git stores comes back bit for bit, and we read objects the way git does."""

from pathlib import Path

import pytest

from ipvcs.objects.git.check import Claim
from ipvcs.objects.git.closure import iter_verified
from ipvcs.objects.git.headers import HeaderError, parse_commit, parse_tag
from ipvcs.objects.git.modes import KIND_OF_TYPE, NodeKind, entry_kind, parse_mode
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType, split_payload
from ipvcs.objects.git.read import open_object
from ipvcs.objects.git.tree import ParsedTree
from tests.e2e.real_git import Git
from tests.streams import chacha20_stream
from tests.unit.objects.git.repository import PEOPLE, Repository

KIB, MIB = 1024, 1024 * 1024
EDGES = [0, *(size + d for size in (256 * KIB, MIB, 2 * MIB) for d in (-1, 0, 1))]


def natural_kind(repository: Repository, oid: ObjectId) -> NodeKind:
    return KIND_OF_TYPE[split_payload(repository.payloads[oid])[0]]


def assert_comes_back(git: Git, tmp_path: Path) -> Repository:
    """Map every object of `git`, read all back out of the blocks into a new repository, and let git compare."""
    repository = Repository(git.object_format)
    git.read_into(repository)
    for oid in repository.payloads:
        repository.map(oid, natural_kind(repository, oid))
    restored = Git(tmp_path / "restored.git", git.object_format)
    bodies: dict[GitType, dict[ObjectId, bytes]] = {git_type: {} for git_type in GitType}
    for (oid, _kind), mapped in repository.memo.items():
        opened = open_object(repository.store, mapped.cid, oid, git.object_format)
        bodies[opened.type][oid] = opened.body()
    for git_type, of_type in bodies.items():
        written = restored.write_all(git_type, of_type.values(), tmp_path / git_type)
        assert written == list(of_type)
    listing = ("cat-file", "--batch-all-objects", "--batch-check")
    assert restored(*listing) == git(*listing)
    roots = [repository.claim(oid, natural_kind(repository, oid)) for oid in repository.payloads]
    assert {claim.oid for claim in iter_verified(repository.checker, roots)} == set(repository.payloads)
    assert max(len(data) for data in repository.store.blocks.values()) <= MIB + 64 * KIB
    return repository


def test_a_history_with_everything_usual_comes_back_by_its_closure(git: Git, tmp_path: Path) -> None:
    files = b"".join(b"M 100644 inline dir/%d/f%d\ndata 3\nx%02d\n" % (i % 7, i, i) for i in range(60))
    commands = [
        b"commit refs/heads/main\nmark :1\nauthor A <a@x> 1 +0000\ncommitter C <c@x> 1 +0100\ndata 5\nfirst\n" + files,
        b"M 100755 inline run.sh\ndata 10\n#!/bin/sh\n\nM 120000 inline link\ndata 6\nrun.sh\n",
        b"M 160000 " + b"1" * (2 * git.object_format.size) + b" submodule\n",
    ]
    for n in range(2, 7):
        commands.append(b"commit refs/heads/b%d\nmark :%d\ncommitter C <c@x> %d +0000\ndata 1\n%d\n" % (n, n, n, n))
        commands.append(b"from :1\nM 100644 inline new%d\ndata 1\n%d\n" % (n, n))
    commands.append(
        b"commit refs/heads/main\nmark :9\ncommitter C <c@x> 9 +0000\nencoding latin-1\ndata 7\noct\xf6pus\n"
    )
    commands.append(b"from :1\n" + b"".join(b"merge :%d\n" % n for n in range(2, 7)) + b"\n")
    commands.append(b"tag v1\nfrom :9\ntagger T <t@x> 1 +0000\ndata 3\ntag\n")
    git("fast-import", "--quiet", stdin=b"".join(commands))
    tag = git("rev-parse", "refs/tags/v1").strip().decode()
    git("update-ref", "refs/tags/nested", str(git.write(GitType.TAG, tag_body(ObjectId.parse(tag), b"tag"))))
    repository = assert_comes_back(git, tmp_path)
    refs = [ObjectId.parse(oid) for oid in git("for-each-ref", "--format=%(objectname)").decode().split()]
    roots = [repository.claim(oid, natural_kind(repository, oid)) for oid in refs]
    reached = {claim.oid for claim in iter_verified(repository.checker, roots)}
    listed = git("rev-list", "--objects", "--all", "--no-object-names").decode().split()
    assert reached == set(map(ObjectId.parse, listed))
    assert git("fsck", "--no-dangling") == b""


def tag_body(target: ObjectId, word: bytes, rest: bytes = b"tagger T <t@x> 1 +0000\n\nmessage\n") -> bytes:
    return b"object %b\ntype %b\ntag name\n%b" % (target.hex.encode(), word, rest)


def tree_body(*entries: tuple[bytes, bytes, ObjectId]) -> bytes:
    return b"".join(b"%b %b\0%b" % (mode, name, oid.raw) for mode, name, oid in entries)


ODD_NAMES = [
    [b""],
    [b"."],
    [b".."],
    [b".GIT"],
    [b".git"],
    [b"a/b"],
    [b".ipvcs-tree"],
    [b"\xff\xfe"],
    [b"b", b"a"],
    [b"a", b"a"],
]
ODD_MODES = [
    b"100600",
    b"100664",
    b"120777",
    b"170000",
    b"0",
    b"040000",
    b"000100644",
    b"100755",
    b"40755",
    b"777777777",
]


def test_odd_objects_come_back(git: Git, tmp_path: Path) -> None:
    blob = git.write(GitType.BLOB, b"content")
    inner = git.write(GitType.TREE, tree_body((b"100644", b"file", blob)))
    for names in ODD_NAMES:
        git.write(GitType.TREE, tree_body(*((b"100644", name, blob) for name in names)))
    for mode in ODD_MODES:
        target = inner if entry_kind(parse_mode(mode)) is NodeKind.DIRECTORY else blob
        git.write(GitType.TREE, tree_body((mode, b"name", target)))
    git.write(GitType.TREE, tree_body((b"100644", b"not a blob", inner), (b"40000", b"not a tree", blob)))
    git.write(GitType.TREE, tree_body((b"100644", b"cut", blob))[:-1])
    git.write(GitType.TREE, b"garbage")
    tree_line = b"tree %b\n" % inner.hex.encode()
    commit = git.write(GitType.COMMIT, tree_line + PEOPLE + b"\nmessage\n")
    parent = b"parent %b\n" % commit.hex.encode()
    signature = b"gpgsig -----BEGIN PGP SIGNATURE-----\n \n iQ\n -----END PGP SIGNATURE-----\n"
    merged = b"mergetag " + tag_body(commit, b"commit").replace(b"\n", b"\n ").rstrip(b" ")
    for rest in (
        PEOPLE + signature + b"\nsigned\n",
        PEOPLE + merged + b"\nmerge of a tag\n",
        PEOPLE + b"encoding ISO-8859-1\n\nna\xefve\n",
        PEOPLE + b"\n" + b"long message\n" * (3 * MIB // 13),
        b"author nobody\ncommitter\n\n",
        b"\n",
        b"x",
    ):
        git.write(GitType.COMMIT, tree_line + parent * 3 + rest)
    for body in (
        b"",
        b"garbage",
        tree_line,
        b"tree x\n" + PEOPLE,
        tree_line + b"parent x\n" + PEOPLE,
        PEOPLE + tree_line,
    ):
        git.write(GitType.COMMIT, body)
    git.write(GitType.COMMIT, b"tree %b\n" % blob.hex.encode() + PEOPLE)
    tag = git.write(GitType.TAG, tag_body(commit, b"commit"))
    for target, word in ((blob, b"blob"), (inner, b"tree"), (tag, b"tag"), (blob, b"commit"), (tag, b"tree")):
        git.write(GitType.TAG, tag_body(target, word))
    for rest in (b"", b"\n", b"\nno tagger\n", b"tagger nobody\n", b"\n" + b"m" * 300 * KIB):
        git.write(GitType.TAG, tag_body(commit, b"commit", rest))
    for body in (b"", b"garbage", tag_body(commit, b"Commit"), b"object x\ntype tag\ntag x\n\n"):
        git.write(GitType.TAG, body)
    assert_comes_back(git, tmp_path)


def test_large_trees_and_symlinks_come_back(git: Git, tmp_path: Path) -> None:
    blob = git.write(GitType.BLOB, b"x")
    git("mktree", "--missing", stdin=b"".join(b"100644 blob %b\t%06d\n" % (blob.hex.encode(), i) for i in range(3000)))
    git.write(GitType.TREE, tree_body(*((b"100644", b"name of 50 bytes" + b"%034d" % i, blob) for i in range(3000))))
    target = git.write(GitType.BLOB, b"t" * 3 * MIB)
    git.write(GitType.TREE, tree_body((b"120000", b"link", target), (b"120777", b"short", blob)))
    assert_comes_back(git, tmp_path)


def test_blobs_of_every_size_come_back_with_gits_id(git: Git, tmp_path: Path) -> None:
    stream = chacha20_stream("blobs for git", 2 * MIB + 1)
    blobs = git.write_all(GitType.BLOB, [stream[:size] for size in EDGES], tmp_path / "blobs")
    for mode in (b"100644", b"100755", b"120000"):
        git.write(GitType.TREE, tree_body(*((mode, b"%d" % size, oid) for size, oid in zip(EDGES, blobs, strict=True))))
    assert_comes_back(git, tmp_path)


def test_a_blob_of_64_mib_has_gits_id_and_comes_back(git: Git) -> None:
    body = chacha20_stream("one MiB", MIB) * 64
    oid = git.write(GitType.BLOB, body)
    repository = Repository(git.object_format)
    assert repository.blob(body) == oid
    mapped = repository.map(oid, NodeKind.REGULAR)
    assert open_object(repository.store, mapped.cid, oid, git.object_format).body() == body
    assert repository.checker.check(Claim(oid, NodeKind.REGULAR, mapped.cid, mapped.size)) == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["%06d", "same"])
def test_a_tree_of_60000_entries_comes_back(git: Git, tmp_path: Path, name: str) -> None:
    blob = git.write(GitType.BLOB, b"x")
    names = [(name % i if "%" in name else name).encode() for i in range(60_000)]
    git.write(GitType.TREE, tree_body(*((b"100644", each, blob) for each in names)))
    assert_comes_back(git, tmp_path)


MODES = [
    *ODD_MODES,
    b"100644",
    b"40000",
    b"120000",
    b"160000",
    b"7",
    b"100100",
    b"100677",
    b"37777777777",
    b"40000100644",
]
SHOWN = {
    NodeKind.REGULAR: b"100644 blob",
    NodeKind.EXECUTABLE: b"100755 blob",
    NodeKind.SYMLINK: b"120000 blob",
    NodeKind.DIRECTORY: b"040000 tree",
    None: b"160000 commit",
}


def test_git_reads_modes_as_we_do(git: Git) -> None:
    blob = git.write(GitType.BLOB, b"")
    oid = git.write(GitType.TREE, tree_body(*((mode, b"%02d" % i, blob) for i, mode in enumerate(MODES))))
    lines = git("ls-tree", str(oid)).splitlines()
    assert [line[: line.rindex(b" ")] for line in lines] == [SHOWN[entry_kind(parse_mode(mode))] for mode in MODES]


@pytest.mark.parametrize("body", [b"8 a\0", b" a\0", b"100644\0", b"100644 a", b"100644 \0", b"+1 a\0", b"10064x a\0"])
def test_git_refuses_the_trees_that_we_call_opaque(git: Git, body: bytes) -> None:
    oid = git.write(GitType.TREE, body + bytes(git.object_format.size))
    assert git.run("ls-tree", str(oid)).returncode != 0
    assert ParsedTree.of(body + bytes(git.object_format.size), git.object_format).opaque is not None


def commit_bodies(tree: bytes, parent: bytes) -> list[bytes]:
    t, p = b"tree %b\n" % tree, b"parent %b\n" % parent
    upper = b"tree %b\n" % tree.upper()
    return [
        t + PEOPLE, t, t + b"\n", t + b"x", upper + PEOPLE, t[:-1], t[:-1] + b" \n" + PEOPLE, b" " + t + PEOPLE,
        t + p + PEOPLE, t + p * 3 + PEOPLE, t + p, t + p + b"\n", t + p[:-1], t + p[:-1] + b"\n\n", t + p + p[:-1],
        t + p + p, t + b"parent x\n", t + b"parent x\n" + PEOPLE, t + p + b"parent " + PEOPLE, t + PEOPLE + p,
        t + p[:20] + b"\n" + PEOPLE, t + p + b"\n" + p + PEOPLE, p + t + PEOPLE, PEOPLE + t, b"", t + t + PEOPLE,
        t + p.replace(b"parent ", b"parent  ") + PEOPLE, t + p[:-1] + b"0\n" + PEOPLE, t + p[:-2] + b"g\n" + PEOPLE,
    ]  # fmt: skip


def test_git_takes_the_commit_headers_that_we_take(git: Git) -> None:
    tree = git.write(GitType.TREE, b"")
    first = git.write(GitType.COMMIT, b"tree %b\n" % tree.hex.encode() + PEOPLE)
    taken = 0
    for body in commit_bodies(tree.hex.encode(), first.hex.encode()):
        oid = git.write(GitType.COMMIT, body)
        done = git.run("log", "-1", "--format=%T %P", str(oid))
        try:
            header = parse_commit(body, git.object_format)
        except HeaderError:
            assert done.returncode != 0, body
            continue
        taken += 1
        assert done.stdout.decode().split() == [str(header.tree), *map(str, header.parents)], body
    assert taken == 14


def test_git_takes_the_tag_headers_that_we_take(git: Git) -> None:
    tree = git.write(GitType.TREE, b"")
    o = b"object %b\n" % tree.hex.encode()
    rests = [
        b"type tree\ntag v1\n", b"type tree\ntag v\n", b"type tree\ntag \n", b"type tree\ntag \n\n",
        b"type tree\ntag v1",
        b"type tree\ntag v1\ntagger T <t> 1 +0000\n", b"type tree\ntag v1\ntagger T", b"type tree\n\ntag v1\n\n\n",
        b"type Tree\ntag v1\n", b"type tree \ntag v1\n", b"type tree\ntagv1\n\n\n", b"tag v1\ntype tree\n", b"",
        b"type tree\ntagger T <t> 1 +0000\n", b"type\ntag v1\n\n\n\n\n\n", b"type tree\ntag v1\n\nmessage",
    ]  # fmt: skip
    bodies = [o + rest for rest in rests]
    bodies += [o.upper() + rests[0], b"object " + o[7:].upper() + rests[0], o[:-2] + b"\n" + rests[0]]
    taken = 0
    for body in bodies:
        oid = git.write(GitType.TAG, body)
        done = git.run("rev-parse", f"{oid}^{{}}")
        try:
            parse_tag(body, git.object_format)
        except HeaderError:
            assert done.returncode != 0, body
            continue
        taken += 1
        assert done.stdout.decode().strip() == str(tree), body
    assert taken == 7
