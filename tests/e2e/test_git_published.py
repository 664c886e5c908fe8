"""A published root, as git and we read it: stock git clones from the directory, and takes its files for its own."""

from dataclasses import replace
from pathlib import Path
from stat import S_IFMT

import pytest

from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.conversion import converting
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.manifest import Manifest, PackEntry
from ipvcs.git_bridge.packing import packing
from ipvcs.git_bridge.published_tree import (
    NotARepositoryError,
    PublishedTree,
    is_published,
    read_published,
    write_published,
)
from ipvcs.git_bridge.refname import RefName, parse_refname
from ipvcs.git_bridge.refs_table import Ref
from ipvcs.git_bridge.snapshot import Snapshot, take_snapshot
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.directory import build_directory
from ipvcs.objects.git.layout import LAYOUT, put_file
from ipvcs.objects.git.modes import NodeKind
from ipvcs.objects.git.object_id import ObjectId
from ipvcs.objects.git.payload import GitType
from ipvcs.objects.path import parse_path, resolve
from ipvcs.storage.disk_export import export_to
from ipvcs.storage.home import Home
from tests.e2e.real_git import Git
from tests.e2e.test_git_conversion import PROFILE, history, listed, oid_of
from tests.e2e.test_git_mapping import tag_body
from tests.fakes.memory_network import key_of


def refs_of(git: Git) -> dict[RefName, ObjectId]:
    lines = git("for-each-ref", "--format=%(objectname) %(refname)").splitlines()
    return {parse_refname(line.split(b" ", 1)[1]): ObjectId.parse(line.split(b" ", 1)[0].decode()) for line in lines}


def publish(git: Git, home: Home, scratch: Path, before: PublishedTree | None = None) -> tuple[Cid, PublishedTree]:
    """Convert, pack and store all of `git`, on top of what was published before; return the root."""
    repository = GitRepository(git.path, git.environ)
    oids = refs_of(git)
    bases = sorted({ref.oid for name, ref in before.refs.items() if name.startswith(b"refs/heads/")} if before else ())
    tips = sorted(set(oids.values()))
    scratch.mkdir()
    with home.blocks.writing() as writer, converting(repository, home, writer, PROFILE) as converter:
        mapped = dict(zip(tips, converter.convert(tips, bases, lambda _done, _total: None), strict=True))
        refs = {name: Ref(oid, mapped[oid].cid) for name, oid in oids.items()}
        rows = []
        for line in git("rev-list", "--all", *(f"^{base}" for base in bases)).decode().split():
            found = converter.find(ObjectId.parse(line), NodeKind.COMMIT)
            assert found is not None
            rows.append((ObjectId.parse(line), found.cid, found.size))
        with packing(repository, tips, bases, scratch) as pack_to_be:
            assert pack_to_be is not None
            pack = pack_to_be.store(rows, writer)
        manifest = Manifest(
            git.object_format, PROFILE, RefName(b"refs/heads/main"),
            ((*before.manifest.packs, pack.entry) if before else (pack.entry,)),
            None, 1, 1_700_000_000, key_of("alice").peer_id,
        )  # fmt: skip
        tree = PublishedTree(manifest, refs, {**(before.packs if before else {}), **pack.files}, ())
        snapshots = {name: take_snapshot(writer, ref, git.object_format) for name, ref in refs.items()}
        root = write_published(tree, snapshots, writer)
    return root.cid, tree


def everything(git: Git) -> None:
    """A history, and refs of every sort."""
    history(git)
    commit = oid_of(git, "main")
    git("update-ref", "refs/notes/commits", "main~1")
    git("update-ref", "refs/heads/deep/er/branch", "main~2")
    git("update-ref", "refs/tags/light", "main~3")
    nested = git.write(GitType.TAG, tag_body(oid_of(git, "v1"), b"tag"))
    git("update-ref", "refs/tags/nested", str(nested))
    git("update-ref", "refs/tags/file", str(oid_of(git, "main:tool")))
    git("update-ref", "refs/tags/tree", str(oid_of(git, "main^{tree}")))
    git("update-ref", b"refs/heads/\xff\xfe".decode(errors="surrogateescape"), str(commit))


def test_git_clones_from_the_directory(git: Git, home: Home, tmp_path: Path) -> None:
    everything(git)
    root, _tree = publish(git, home, tmp_path / "scratch")
    export_to(home.blocks, root, tmp_path / "exported")
    clone = Git(tmp_path / "other", git.object_format)
    clone("clone", "-q", "--mirror", str(tmp_path / "exported"), str(tmp_path / "clone.git"))
    clone.path = tmp_path / "clone.git"
    assert refs_of(clone) == refs_of(git)
    assert listed(clone, "--all") == listed(git, "--all")
    assert clone("symbolic-ref", "HEAD") == b"refs/heads/main\n"
    assert clone("fsck", "--full") == b""


def test_the_files_are_what_git_writes_itself(git: Git, home: Home, tmp_path: Path) -> None:
    everything(git)
    root, _tree = publish(git, home, tmp_path / "scratch")
    exported = tmp_path / "exported"
    export_to(home.blocks, root, exported)
    ours = {path: (exported / path).read_bytes() for path in ("packed-refs", "info/refs", "objects/info/packs", "HEAD")}
    git("pack-refs", "--all")
    assert ours["packed-refs"] == (git.path / "packed-refs").read_bytes()
    theirs = Git(tmp_path / "other", git.object_format)
    theirs.path = exported
    theirs("update-server-info", "-f")
    assert {path: (exported / path).read_bytes() for path in ours} == ours
    assert theirs("config", "core.bare") == b"true\n"
    assert theirs("rev-parse", "--show-object-format").decode().strip() == git.object_format


@pytest.mark.parametrize(
    ("path", "revision"),
    [
        ("heads/main", "main"),
        ("heads/deep/er/branch", "main~2"),
        ("tags/v1", "v1"),
        ("tags/nested", "v1"),
        ("tags/light", "main~3"),
        ("tags/tree", "main"),
    ],
)
def test_people_browse_trees(git: Git, home: Home, tmp_path: Path, path: str, revision: str) -> None:
    everything(git)
    root, _tree = publish(git, home, tmp_path / "scratch")
    export_to(home.blocks, resolve(home.blocks, parse_path(f"/ipfs/{root}/{path}")).cid, tmp_path / "seen")
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    git("--work-tree", str(checkout), "checkout", revision, "--", ".")
    assert contents(tmp_path / "seen") == contents(checkout)


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Return what lies below `directory`: the type and permission of the owner to execute, and the bytes."""
    found = {}
    for path in directory.rglob("*"):
        data = (
            path.readlink().as_posix().encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        )
        mode = path.lstat().st_mode
        if not (path.is_dir() and not any(path.iterdir())):  # git leaves an empty one where a submodule is
            found[path.relative_to(directory).as_posix()] = (
                S_IFMT(mode) | (0 if path.is_symlink() else mode & 0o100),
                data,
            )
    return found


def test_a_file_that_is_tagged_is_a_file(git: Git, home: Home, tmp_path: Path) -> None:
    everything(git)
    root, _tree = publish(git, home, tmp_path / "scratch")
    export_to(home.blocks, resolve(home.blocks, parse_path(f"/ipfs/{root}/tags/file")).cid, tmp_path / "seen")
    assert (tmp_path / "seen").read_bytes() == git("cat-file", "blob", "main:tool")


def test_it_is_read_as_it_was_written(git: Git, home: Home, tmp_path: Path) -> None:
    everything(git)
    root, tree = publish(git, home, tmp_path / "scratch")
    assert is_published(home.blocks, root)
    peeled = {
        RefName(b"refs/tags/" + name.encode()): oid_of(git, f"{name}^{{}}") for name in ("v1", "nested")
    }  # all tags that are objects
    assert read_published(home.blocks, root) == replace(tree, peeled=peeled)


def test_a_second_push_adds_a_pack_and_keeps_the_first(git: Git, home: Home, tmp_path: Path) -> None:
    history(git)
    git("update-ref", "refs/heads/main", "main~2")
    git("tag", "-d", "v1")
    for branch in git("for-each-ref", "--format=%(refname)", "refs/heads/side*").decode().split():
        git("update-ref", "-d", branch)
    first, before = publish(git, home, tmp_path / "scratch 1")
    commands = b"commit refs/heads/main\ncommitter C <c@example.com> 99 +0000\ndata 1\nx"
    commands += b"from refs/heads/main^0\nM 100644 inline new\ndata 3\nnew\n"
    git("fast-import", "--quiet", stdin=commands)
    root, tree = publish(git, home, tmp_path / "scratch 2", before)
    assert len(tree.manifest.packs) == 2
    assert tree.manifest.packs[1].objects == 3  # a commit, a tree, a blob
    assert read_published(home.blocks, root) == tree
    export_to(home.blocks, root, tmp_path / "exported")
    clone = Git(tmp_path / "other", git.object_format)
    clone("clone", "-q", "--mirror", str(tmp_path / "exported"), str(tmp_path / "clone.git"))
    clone.path = tmp_path / "clone.git"
    assert listed(clone, "--all") == listed(git, "--all")
    assert first != root


def test_what_is_beside_the_repository_is_kept(git: Git, home: Home, tmp_path: Path) -> None:
    history(git)
    _root, tree = publish(git, home, tmp_path / "scratch")
    with home.blocks.writing() as writer:
        site = put_file(b"a page", writer).link(b"site")
        snapshots: dict[RefName, Snapshot] = {}
        root = write_published(replace(tree, kept=(site,)), snapshots, writer)
    assert read_published(home.blocks, root.cid).kept == (site,)


def test_what_is_no_repository_is_refused(git: Git, home: Home, tmp_path: Path) -> None:
    history(git)
    _root, tree = publish(git, home, tmp_path / "scratch")
    missing = PackEntry(f"pack-{'0' * 40}", 1, 1)
    with home.blocks.writing() as writer:
        file = put_file(b"x", writer)
        empty = build_directory((), LAYOUT, writer)
        other = build_directory([file.link(b"ipvcs.json")], LAYOUT, writer)
        lacks_refs = build_directory([put_file(tree.manifest.encode(), writer).link(b"ipvcs.json")], LAYOUT, writer)
        lacks_pack = write_published(
            replace(tree, manifest=replace(tree.manifest, packs=(*tree.manifest.packs, missing))), {}, writer
        )
    for built, problem in (
        (file, "no directory"),
        (empty, "no 'ipvcs.json'"),
        (lacks_refs, "no 'ipvcs.refs'"),
        (lacks_pack, "lacks 'objects/pack/pack-000"),
    ):
        with pytest.raises(NotARepositoryError, match=problem):
            read_published(home.blocks, built.cid)
    with pytest.raises(IpvcsError, match="manifest is not JSON"):
        read_published(home.blocks, other.cid)
    assert not is_published(home.blocks, empty.cid)
    assert not is_published(home.blocks, file.cid)
