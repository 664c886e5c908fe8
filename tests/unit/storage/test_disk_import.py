"""What people have on their disks, stored: and with `disk_export`, that it comes back as it was."""

import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvcs.errors import LimitError
from ipvcs.objects.node_writer import Built
from ipvcs.objects.profile import PROFILES, resolve_options
from ipvcs.objects.unixfs import Mtime
from ipvcs.storage.directory_position import MAX_DEPTH, DirectoryPosition
from ipvcs.storage.disk import DiskError, PermissionDeniedError
from ipvcs.storage.disk_export import _remove, export_to
from ipvcs.storage.disk_import import DiskImporter, Imported, ImportRules, NotRecursiveError, SpecialFileError, measure
from tests.unit.storage.trees import Trees, listing, times

RECURSIVE = ImportRules(recursive=True)


def store(
    path: Path, rules: ImportRules = RECURSIVE, trees: Trees | None = None, **options: Any
) -> tuple[Built, list[Imported]]:
    """Store `path`; return its root and what was reported."""
    reported: list[Imported] = []
    importer = DiskImporter(
        resolve_options(None, **options), rules, Trees() if trees is None else trees, on_stored=reported.append
    )
    return importer.import_path(os.fsencode(path), os.fsencode(path.name)), reported


@pytest.fixture
def tree(fast_path: Path) -> Path:
    tree = fast_path / "tree"
    tree.mkdir()
    return tree


def test_entries_are_reported_before_the_directory_that_holds_them_and_in_order(tree: Path) -> None:
    (tree / "b" / "c").mkdir(parents=True)
    (tree / "b" / "d").mkdir()
    for name in ("b/c/2", "b/c/10", "b-", "a"):
        (tree / name).write_bytes(name.encode())
    built, reported = store(tree)
    assert [entry.name for entry in reported] == [
        b"tree/a", b"tree/b/c/10", b"tree/b/c/2", b"tree/b/c", b"tree/b/d", b"tree/b", b"tree/b-", b"tree",
    ]  # fmt: skip
    assert reported[-1].built == built


def test_hidden_entries_are_left_out_with_all_below_but_not_what_was_named_itself(tree: Path) -> None:
    hidden = tree / ".hidden"
    (hidden / ".git").mkdir(parents=True)
    (hidden / ".git" / "plain").write_bytes(b"")
    (hidden / ".file").write_bytes(b"")
    (hidden / "seen").write_bytes(b"")
    assert [entry.name for entry in store(tree)[1]] == [b"tree"]
    assert [entry.name for entry in store(hidden)[1]] == [b".hidden/seen", b".hidden"]
    assert [entry.name for entry in store(hidden / ".file")[1]] == [b".file"]
    assert len(store(tree, ImportRules(recursive=True, hidden=True))[1]) == 6


def test_symlinks_are_stored_and_never_followed(tree: Path) -> None:
    (tree / "loop").symlink_to("loop")
    (tree / "self").symlink_to(".")
    (tree / "up").symlink_to("..")
    (tree / "outside").symlink_to("/etc")
    trees = Trees()
    built, reported = store(tree, trees=trees)
    assert len(reported) == 5
    export_to(trees, built.cid, tree.with_name("copy"))
    assert listing(tree.with_name("copy")) == listing(tree)
    store(tree / "loop", ImportRules())  # a link to a directory is no directory


def test_a_directory_that_becomes_a_symlink_meanwhile_is_not_followed(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (tree / "a").write_bytes(b"a")
    (tree / "b").mkdir()
    real = os.lstat

    def lstat(path: bytes, **options: Any) -> os.stat_result:
        status = real(path, **options)
        if path == b"b" and not (tree / "b").is_symlink():
            (tree / "b").rmdir()
            (tree / "b").symlink_to(tmp_path)
        return status

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(DiskError, match=r"cannot use '.*/tree/b': "):
        store(tree)


def test_a_file_that_becomes_a_symlink_or_pipe_meanwhile_is_not_read(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "f").write_bytes(b"a")
    real = os.lstat
    for make in (lambda: (tree / "f").symlink_to("/etc/passwd"), lambda: os.mkfifo(tree / "f")):

        def lstat(path: bytes, make: Callable[[], object] = make, **options: Any) -> os.stat_result:
            status = real(path, **options)
            if path == b"f":
                (tree / "f").unlink()
                make()
            return status

        with monkeypatch.context() as patch:
            patch.setattr(os, "lstat", lstat)
            with pytest.raises(DiskError, match="tree/f'"):
                store(tree)
        (tree / "f").unlink()
        (tree / "f").write_bytes(b"a")


def test_a_file_that_vanishes_meanwhile_is_named(tree: Path) -> None:
    for name in ("a", "sub/b", "sub/c"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(b"")

    def remove_the_next(entry: Imported) -> None:
        if entry.name == b"tree/sub/b":
            (tree / "sub" / "c").unlink()

    importer = DiskImporter(resolve_options(None), RECURSIVE, Trees(), on_stored=remove_the_next)
    with pytest.raises(DiskError, match=r"cannot use '.*/tree/sub/c': No such file or directory"):
        importer.import_path(os.fsencode(tree), b"tree")


def test_a_file_that_grows_or_shrinks_meanwhile_is_stored_as_it_was_read(tree: Path) -> None:
    (tree / "f").write_bytes(b"x" * 3_000_000)
    done: list[int] = []

    def change(count: int) -> None:
        done.append(count)
        os.truncate(tree / "f", 1_500_000)

    trees = Trees()
    importer = DiskImporter(resolve_options(None), RECURSIVE, trees, on_bytes=change)
    built = importer.import_path(os.fsencode(tree / "f"), b"f")
    export_to(trees, built.cid, tree / "copy")
    assert (tree / "copy").stat().st_size == sum(done) < 3_000_000


def test_errors_while_reading_name_the_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree / "f").write_bytes(b"x")

    def fail(_fd: int, _size: int) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", fail)
    with pytest.raises(DiskError, match=r"cannot use '.*/tree/f': Input/output error"):
        store(tree)


@pytest.mark.parametrize("mode", [0o000, 0o300, 0o400])
def test_what_may_not_be_read_is_named(tree: Path, mode: int) -> None:
    """0400: its entries are listed, but can't be looked at."""
    closed = tree / "closed"
    closed.mkdir()
    (closed / "f").write_bytes(b"")
    closed.chmod(mode)
    try:
        with pytest.raises(PermissionDeniedError, match=r"permission denied: '.*/tree/closed"), _not_as_root(tree):
            store(tree)
    finally:
        closed.chmod(0o700)


def test_an_empty_directory_need_not_be_searchable(tree: Path) -> None:
    (tree / "empty").mkdir(mode=0o444)
    with _not_as_root(tree):
        assert len(store(tree)[1]) == 2


@contextmanager
def _not_as_root(tree: Path) -> Iterator[None]:
    """Take away root's right to ignore modes, if we are root; what is in `tree` becomes the other user's."""
    if os.geteuid() != 0:
        yield
        return
    for path in [tree.parent, tree, *tree.rglob("*")]:
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_directories_need_recursive(tree: Path) -> None:
    with pytest.raises(NotRecursiveError, match="is a directory"):
        store(tree, ImportRules())


def test_special_files_are_refused_by_name(tree: Path) -> None:
    os.mkfifo(tree / "pipe")
    with pytest.raises(SpecialFileError, match=r"cannot store '.*/tree/pipe'"):
        store(tree)
    (tree / "pipe").unlink()
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tree / "socket"))
    server.close()
    with pytest.raises(SpecialFileError, match="socket"):
        store(tree)
    with pytest.raises(SpecialFileError, match="/dev/null"):
        store(Path("/dev/null"))


def test_a_file_without_a_size_is_read_to_its_end(tree: Path) -> None:
    """As those in /proc, which say 0."""
    trees = Trees()
    built, _ = store(Path("/proc/self/status"), trees=trees)
    export_to(trees, built.cid, tree / "copy")
    assert (tree / "copy").read_bytes().startswith(b"Name:")


def test_trees_deeper_than_a_path_is_long_go_in_and_out(fast_path: Path) -> None:
    """Directories of names of 100 letters: 40 of them and PATH_MAX is over."""
    _nest(fast_path, b"top", b"n" * 100, 60)
    trees = Trees()
    try:
        built, reported = store(fast_path / "top", trees=trees)
        export_to(trees, built.cid, fast_path / "copy")
        again, _ = store(fast_path / "copy")
    finally:
        with DirectoryPosition(os.open(fast_path, os.O_RDONLY)) as position:
            _remove(b"top", position)
            _remove(b"copy", position)
    assert len(reported) == 61
    assert again.cid == built.cid


def test_trees_deeper_than_they_could_be_written_are_refused(fast_path: Path) -> None:
    _nest(fast_path, b"top", b"d", MAX_DEPTH)
    try:
        with pytest.raises(LimitError, match=f"top' are nested more than {MAX_DEPTH} deep"):
            store(fast_path / "top")
    finally:
        with DirectoryPosition(os.open(fast_path, os.O_RDONLY)) as position:
            _remove(b"top", position)


def _nest(parent: Path, top: bytes, name: bytes, depth: int) -> None:
    with DirectoryPosition(os.open(parent, os.O_RDONLY)) as position:
        for entry in [top] + [name] * depth:
            os.mkdir(entry, dir_fd=position.fd)
            position.enter(position.open(entry))


def test_a_directory_of_many_entries_goes_in_and_out(tree: Path, full_counts: bool) -> None:
    count = 10_000 if full_counts else 1_000
    for number in range(count):
        os.close(os.open(tree / f"{number}", os.O_CREAT))
    trees = Trees()
    built, _ = store(tree, trees=trees)
    export_to(trees, built.cid, tree.with_name("copy"))
    assert len(list(tree.with_name("copy").iterdir())) == count


def test_modes_and_times_are_given_or_preserved(tree: Path) -> None:
    (tree / "f").write_bytes(b"x")
    (tree / "f").chmod(0o640)
    os.utime(tree / "f", ns=(0, -1))
    tree.chmod(0o711)
    os.utime(tree, ns=(0, 10**18))
    for rules, expected_modes, expected_times in (
        (ImportRules(True, preserve_mode=True, preserve_mtime=True), (0o711, 0o640), (10**18, -1)),
        (ImportRules(True, mode=0o700, mtime=Mtime(3, 4)), (0o700, 0o700), (3_000_000_004, 3_000_000_004)),
        (ImportRules(True, True, True, True, 0o700, Mtime(3)), (0o700, 0o700), (3_000_000_000, 3_000_000_000)),
    ):
        trees = Trees()
        built, _ = store(tree, rules, trees, metadata=True)
        copy = tree.with_name("copy")
        export_to(trees, built.cid, copy)
        assert (listing(copy)[b""][1], listing(copy)[b"f"][1]) == expected_modes
        assert (times(copy)[b""], times(copy)[b"f"]) == expected_times
        shutil.rmtree(copy)


def test_measuring_counts_what_would_be_read(tree: Path) -> None:
    (tree / ".hidden").mkdir()
    (tree / ".hidden" / "f").write_bytes(b"x" * 100)
    (tree / "f").write_bytes(b"x" * 10)
    (tree / "link").symlink_to("f")
    assert measure(os.fsencode(tree), RECURSIVE) == 10
    assert measure(os.fsencode(tree), ImportRules(recursive=True, hidden=True)) == 110
    assert measure(b"/nowhere", RECURSIVE) == 0


# -- Whatever is put comes back -----------------------------------------------------------------------------------

NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: name not in (b".", b"..") and not set(name) & {0, 0x2F})
MODES = st.integers(1, 0o777).map(lambda mode: mode | 0o400)
TIMES = st.one_of(st.integers(-(10**18), 4 * 10**18), st.integers(0, 3).map(lambda second: second * 10**9))
CONTENTS = st.one_of(
    st.binary(max_size=64),
    st.tuples(st.integers(0, 300_000), st.binary(min_size=1, max_size=4)).map(lambda x: x[1] * x[0]),
)
TARGETS = st.binary(min_size=1, max_size=300).filter(lambda target: 0 not in target)
ENTRIES = st.recursive(
    st.one_of(
        st.tuples(st.just("file"), CONTENTS, MODES, TIMES), st.tuples(st.just("symlink"), TARGETS, st.just(0), TIMES)
    ),
    lambda below: st.tuples(
        st.just("directory"),
        st.dictionaries(st.one_of(NAMES, st.just(b".ipvcs-tree")), below, max_size=6),
        MODES.map(lambda mode: mode | 0o700),
        TIMES,
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("profile", PROFILES)
@given(entry=ENTRIES)
def test_any_tree_comes_back_as_it_was(profile: str, entry: Any) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        original, copy = Path(directory, "original"), Path(directory, "copy")
        _make(os.fsencode(original), entry)
        trees = Trees()
        options = resolve_options(profile, metadata=True)
        importer = DiskImporter(options, ImportRules(True, True, preserve_mode=True, preserve_mtime=True), trees)
        built = importer.import_path(os.fsencode(original), b"original")
        export_to(trees, built.cid, copy)
        assert listing(copy) == listing(original)
        assert times(copy) == times(original)
        again = importer.import_path(os.fsencode(copy), b"copy")
        assert again == built


@given(entry=ENTRIES)
def test_without_metadata_names_and_content_come_back(entry: Any) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        original, copy = Path(directory, "original"), Path(directory, "copy")
        _make(os.fsencode(original), entry)
        trees = Trees()
        importer = DiskImporter(resolve_options(None), ImportRules(True, True), trees)
        export_to(trees, importer.import_path(os.fsencode(original), b"original").cid, copy)
        assert {path: (found[0], found[-1]) for path, found in listing(copy).items() if found[0] != "directory"} == {
            path: (found[0], found[-1]) for path, found in listing(original).items() if found[0] != "directory"
        }
        assert set(listing(copy)) == set(listing(original))


def _make(path: bytes, entry: Any) -> None:
    kind, content, mode, nanoseconds = entry
    if kind == "symlink":
        Path(os.fsdecode(path)).symlink_to(os.fsdecode(content))
    elif kind == "file":
        Path(os.fsdecode(path)).write_bytes(content)
    else:
        Path(os.fsdecode(path)).mkdir()
        for name, below in content.items():
            _make(path + b"/" + name, below)
    if kind != "symlink":
        Path(os.fsdecode(path)).chmod(mode)
    os.utime(path, ns=(0, nanoseconds), follow_symlinks=False)
