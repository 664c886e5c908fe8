"""DAGs of strangers, written to the disk."""

import errno
import os
import resource
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipvcs.errors import DecodeError, IpvcsError, LimitError
from ipvcs.multiformats import codecs
from ipvcs.multiformats.cid import Cid
from ipvcs.objects.blob import FileNodeError
from ipvcs.objects.block import Block, BlockNotFoundError
from ipvcs.objects.dag_pb import PBLink
from ipvcs.objects.directory import DirectoryError, build_sharded_directory
from ipvcs.objects.object import NotAnObjectError
from ipvcs.objects.profile import resolve_options
from ipvcs.objects.unixfs import Mtime
from ipvcs.storage.directory_position import MAX_DEPTH, DirectoryPosition
from ipvcs.storage.disk import DiskError
from ipvcs.storage.disk_export import TargetExistsError, _remove, export_to
from ipvcs.storage.export_walk import BadEntryError, NotExportableError
from tests.unit.storage.trees import Trees, listing, times

PLAIN_FILE = ("file", 0o644, b"evil")


@pytest.fixture
def trees() -> Trees:
    return Trees()


@pytest.fixture
def leaf(trees: Trees) -> Cid:
    return trees.add(b"evil")


@pytest.fixture
def target(fast_path: Path) -> Path:
    """Where to write; `fast_path` holds nothing else, so what is left behind is easy to see."""
    os.umask(0o022)
    return fast_path / "out"


def left_behind(target: Path) -> list[str]:
    return [path.name for path in target.parent.iterdir()]


@pytest.mark.parametrize("name", [b"..", b".", b"", b"a/b", b"/etc/passwd", b"../x", b"a\0b"])
@pytest.mark.parametrize("depth", [0, 3])
def test_a_name_that_leads_elsewhere_is_refused_and_nothing_is_left(
    trees: Trees, leaf: Cid, target: Path, name: bytes, depth: int
) -> None:
    root = trees.nested(depth, trees.directory([(b"fine", leaf), (name, leaf)]))
    with pytest.raises(DecodeError):
        export_to(trees, root, target)
    assert left_behind(target) == []


@pytest.mark.parametrize("kind", ["file twice", "symlink, then through it", "directory, then symlink"])
def test_a_name_that_is_twice_in_a_directory_writes_nothing_outside(
    trees: Trees, leaf: Cid, target: Path, tmp_path: Path, kind: str
) -> None:
    link = trees.symlink(os.fsencode(tmp_path))
    inside = trees.directory([(b"x", leaf)])
    first, second = {
        "file twice": (leaf, leaf),
        "symlink, then through it": (link, inside),
        "directory, then symlink": (inside, link),
    }[kind]
    with pytest.raises(DirectoryError, match="two entries 'a'"):
        export_to(trees, trees.directory([(b"a", first), (b"a", second)]), target)
    assert left_behind(target) == []
    assert list(tmp_path.iterdir()) == []


def test_names_that_are_one_to_the_file_system_are_refused(
    trees: Trees, leaf: Cid, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that does not tell upper from lower case: the second `open` finds the first one's file."""
    real = os.open

    def folding(path: bytes | Path, flags: int, *args: int, **options: int) -> int:
        return real(path.lower() if isinstance(path, bytes) else path, flags, *args, **options)

    monkeypatch.setattr(os, "open", folding)
    with pytest.raises(BadEntryError, match=r"cannot write the entry 'a' of 'bafy.*': the directory has it twice"):
        export_to(trees, trees.directory([(b"a", leaf), (b"A", leaf)]), target)
    assert left_behind(target) == []


def test_what_somebody_puts_in_our_way_meanwhile_is_not_followed(trees: Trees, target: Path, tmp_path: Path) -> None:
    """A directory of ours is replaced by a symlink before its entries are written."""
    inside = trees.directory([(b"x", trees.add(b"evil"))])
    root = trees.directory([(b"a", trees.add(b"1")), (b"b", inside)])

    def replace(_count: int) -> None:
        part = next(target.parent.iterdir())
        if not (part / "b").exists():
            (part / "b").symlink_to(tmp_path)

    with pytest.raises(BadEntryError, match="has it twice"):
        export_to(trees, root, target, on_bytes=replace)
    assert list(tmp_path.iterdir()) == []
    assert left_behind(target) == []


def test_a_directory_that_is_moved_away_is_noticed(trees: Trees, target: Path, fast_path: Path) -> None:
    root = trees.directory([(b"a", trees.directory([(b"x", trees.add(b"1"))])), (b"b", trees.add(b"2"))])
    elsewhere = fast_path / "elsewhere"
    elsewhere.mkdir()

    def move(_count: int) -> None:
        part = next(path for path in target.parent.iterdir() if path.suffix == ".part")
        if (part / "a").exists():
            (part / "a").rename(elsewhere / "a")

    with pytest.raises(DiskError, match="a directory was moved while it was in use"):
        export_to(trees, root, target, on_bytes=move)
    assert [path.name for path in elsewhere.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "name", [b"\xff\xfe", b"\x1b[31m\n", b"-rf", b"\\", b" ", b"...", b"x" * 255, "ä".encode() * 127]
)
def test_any_name_that_the_disk_can_hold_is_written(trees: Trees, leaf: Cid, target: Path, name: bytes) -> None:
    export_to(trees, trees.directory([(name, leaf)]), target)
    assert listing(target) == {b"": ("directory", 0o755), name: PLAIN_FILE}


def test_a_name_that_is_too_long_is_an_error_about_the_entry(trees: Trees, leaf: Cid, target: Path) -> None:
    root = trees.directory([(b"n" * 256, leaf)])
    with pytest.raises(BadEntryError) as caught:
        export_to(trees, root, target)
    assert str(caught.value) == f"cannot write the entry '{'n' * 79}…' of '{root}': {os.strerror(errno.ENAMETOOLONG)}"
    assert left_behind(target) == []


@pytest.mark.parametrize("length", [250, 255])
@pytest.mark.parametrize("letter", ["n", "ä", "𝄞"])
def test_the_target_may_have_the_longest_name(trees: Trees, leaf: Cid, target: Path, letter: str, length: int) -> None:
    count = length // len(letter.encode())
    export_to(trees, leaf, target.with_name(letter * count))
    assert left_behind(target) == [letter * count]


@pytest.mark.parametrize("bad", [b"", b"a\0b", b"x" * 4096])
def test_a_symlink_whose_target_is_no_path_is_refused(trees: Trees, target: Path, bad: bytes) -> None:
    for root in (trees.symlink(bad), trees.directory([(b"link", trees.symlink(bad))])):
        with pytest.raises(NotExportableError, match="a symlink whose target is no path"):
            export_to(trees, root, target)
    assert left_behind(target) == []


def test_symlinks_are_written_as_they_are_wherever_they_lead(trees: Trees, target: Path) -> None:
    entries = [(b"a", b"/etc/passwd"), (b"b", b"../../.."), (b"c", b"c"), (b"d", b"\xff"), (b"e", b"x" * 4095)]
    export_to(trees, trees.directory([(name, trees.symlink(to)) for name, to in entries]), target)
    assert listing(target) == {b"": ("directory", 0o755)} | {name: ("symlink", to) for name, to in entries}


def test_deep_directories_need_few_descriptors_and_no_recursion(trees: Trees, leaf: Cid, target: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    in_use = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (in_use + 8, hard))
    try:
        export_to(trees, trees.nested(MAX_DEPTH - 1, trees.directory([(b"x", leaf)])), target)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with DirectoryPosition(os.open(target, os.O_RDONLY)) as position:
        for _ in range(MAX_DEPTH - 1):
            position.enter(position.open(b"d"))
        assert os.stat("x", dir_fd=position.fd).st_size == 4
    with DirectoryPosition(os.open(target.parent, os.O_RDONLY)) as position:
        _remove(b"out", position)
    assert left_behind(target) == []


def test_directories_deeper_than_any_path_are_refused_and_removed(trees: Trees, target: Path) -> None:
    with pytest.raises(LimitError, match=f"nested more than {MAX_DEPTH} deep"):
        export_to(trees, trees.nested(MAX_DEPTH, trees.directory([])), target)
    assert left_behind(target) == []


def test_a_small_dag_may_be_a_large_tree_and_is_removed_when_it_is_interrupted(
    trees: Trees, leaf: Cid, target: Path
) -> None:
    """Ten directories of ten names each for one directory: 10^10 files. There is no bound, but there is an end."""
    root = leaf
    for _ in range(10):
        root = trees.directory([(b"%d" % number, root) for number in range(10)])
    written = 0

    def stop(count: int) -> None:
        nonlocal written
        written += count
        if written > 2000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_to(trees, root, target, on_bytes=stop)
    assert left_behind(target) == []


@pytest.mark.parametrize(
    ("mode", "file", "directory"),
    [
        (None, 0o644, 0o755),
        (0o600, 0o600, 0o600),
        (0o444, 0o444, 0o444),
        (0o111, 0o111, 0o111),
        (0o7777, 0o777, 0o777),
        (0o4755, 0o755, 0o755),
        (0o1777, 0o777, 0o777),
    ],
)
def test_modes_are_restored_without_set_id_bits(
    trees: Trees, target: Path, mode: int | None, file: int, directory: int
) -> None:
    root = trees.directory([(b"f", trees.file(b"x", mode=mode)), (b"d", trees.directory([], mode=mode))], mode=mode)
    export_to(trees, root, target)
    found = {path: status[1] for path, status in listing(target).items()}
    assert found == {b"": directory, b"f": file, b"d": directory}


def test_mode_zero_is_no_mode(trees: Trees, target: Path) -> None:
    """Kubo writes no mode as 0, and some write the field."""
    file = trees.add_node((), b"\x08\x02\x12\x01x\x18\x01\x38\x00")
    with_zero = trees.add_node((), b"\x08\x01\x38\x00")
    export_to(trees, trees.directory([(b"f", file), (b"d", with_zero)]), target)
    assert {path: found[1] for path, found in listing(target).items()} == {b"": 0o755, b"f": 0o644, b"d": 0o755}


@pytest.mark.parametrize("umask", [0o077, 0o002, 0o777])
def test_the_umask_decides_where_the_dag_does_not(trees: Trees, leaf: Cid, target: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        export_to(trees, trees.directory([(b"f", leaf), (b"d", trees.directory([]))]), target)
    finally:
        os.umask(before)
    found = {path: status[1] for path, status in listing(target).items()}
    assert found == {b"": 0o777 & ~umask, b"f": 0o666 & ~umask, b"d": 0o777 & ~umask}


@pytest.mark.parametrize("seconds", [0, -1, 1, 2**31, 2**40, 2**63 - 1, -(2**63)])
def test_no_time_is_too_far_away(trees: Trees, target: Path, seconds: int) -> None:
    """The kernel cuts times to what its file system holds; nothing may fail for it."""
    mtime = Mtime(seconds, 999_999_999)
    entries = [(b"f", trees.file(b"x", mtime=mtime)), (b"s", trees.symlink(b"t", mtime=mtime))]
    export_to(trees, trees.directory(entries, mtime=mtime), target)
    if abs(seconds) <= 2**31:
        assert set(times(target).values()) == {seconds * 10**9 + 999_999_999}


def test_a_failure_below_directories_that_may_not_be_written_leaves_nothing(trees: Trees, target: Path) -> None:
    locked = trees.directory([(b"x", trees.add(b"x"))], mode=0o111)
    closed = trees.directory([(b"y", trees.directory([(b"z", trees.add(b"z"))], mode=0o444))], mode=0o200)
    root = trees.directory([(b"a", locked), (b"b", closed), (b"c", Block.of(b"nowhere").cid)])
    with _as_somebody_else(target.parent), pytest.raises(BlockNotFoundError):
        export_to(trees, root, target)
    assert left_behind(target) == []


@contextmanager
def _as_somebody_else(directory: Path) -> Iterator[None]:
    """Take away root's right to ignore modes, if we are root."""
    if os.geteuid() != 0:
        yield
        return
    directory.chmod(0o777)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda trees: trees.add_file([(trees.add(b"evil"), 10)]), FileNodeError),
        (lambda trees: trees.add_file([(trees.add(b"evil"), 4), (Block.of(b"nowhere").cid, 7)]), BlockNotFoundError),
        (lambda trees: Block.of(b"nowhere").cid, BlockNotFoundError),
        (lambda trees: trees.add_node((), b"no unixfs"), NotExportableError),
        (lambda trees: trees.add_node((), b"\x08\x03"), NotExportableError),
        (lambda trees: trees.commit(trees.add_node((), b"no unixfs")), NotExportableError),
        (lambda trees: trees.add(b"\xa0", codecs.DAG_CBOR), NotAnObjectError),
        (lambda trees: trees.add(b"\xff\xff", codecs.DAG_PB), DecodeError),
    ],
    ids=["lying size", "missing leaf", "missing", "node", "metadata", "commit of a node", "dag-cbor", "garbage"],
)
@pytest.mark.parametrize("below", [False, True])
def test_what_can_not_be_read_leaves_nothing(
    trees: Trees, target: Path, make: Callable[[Trees], Cid], error: type[IpvcsError], below: bool
) -> None:
    bad = make(trees)
    root = trees.directory([(b"a", trees.add(b"fine")), (b"b", bad)]) if below else bad
    with pytest.raises(error):
        export_to(trees, root, target)
    assert left_behind(target) == []


def test_a_commit_is_written_as_its_snapshot(trees: Trees, leaf: Cid, target: Path) -> None:
    export_to(trees, trees.commit(trees.commit(trees.directory([(b"f", leaf)]))), target)
    assert listing(target) == {b"": ("directory", 0o755), b"f": PLAIN_FILE}


def test_commits_of_commits_come_to_an_end(trees: Trees, leaf: Cid, target: Path) -> None:
    root = leaf
    for _ in range(100):
        root = trees.commit(root)
    with pytest.raises(LimitError):
        export_to(trees, root, target)


def test_a_sharded_directory_is_written_like_any(trees: Trees, leaf: Cid, target: Path) -> None:
    names = [b"%d" % number for number in range(500)]
    links = [PBLink(leaf, name, 4) for name in names]
    root = build_sharded_directory(links, resolve_options(None), trees)
    export_to(trees, root.cid, target)
    assert set(listing(target)) == {b"", *names}


@pytest.mark.parametrize(
    ("content", "hidden"),
    [(b"tree 3\0abc", True), (b"tree of mine", False), (b"tree 4\0abc", False), (b"tree 3", False), (b"", False)],
)
def test_only_the_mappings_own_tree_payload_is_hidden(trees: Trees, target: Path, content: bytes, hidden: bool) -> None:
    export_to(trees, trees.directory([(b".ipvcs-tree", trees.add(content))]), target)
    assert (b".ipvcs-tree" not in listing(target)) == hidden


def test_directories_and_symlinks_may_have_the_payloads_name(trees: Trees, leaf: Cid, target: Path) -> None:
    inside = trees.directory([(b".ipvcs-tree", trees.symlink(b"x"))])
    export_to(trees, trees.directory([(b".ipvcs-tree", inside)]), target)
    assert set(listing(target)) == {b"", b".ipvcs-tree", b".ipvcs-tree/.ipvcs-tree"}


@pytest.mark.parametrize("there", ["file", "directory", "dangling symlink"])
def test_nothing_is_overwritten(trees: Trees, leaf: Cid, target: Path, there: str) -> None:
    if there == "file":
        target.write_bytes(b"mine")
    elif there == "directory":
        target.mkdir()
    else:
        target.symlink_to("nowhere")
    before = target.lstat()
    with pytest.raises(TargetExistsError, match="already exists"):
        export_to(trees, leaf, target)
    assert target.lstat() == before
    assert left_behind(target) == ["out"]


def test_what_appears_at_the_target_meanwhile_is_not_overwritten(trees: Trees, leaf: Cid, target: Path) -> None:
    def interfere(_count: int) -> None:
        target.write_bytes(b"mine")

    with pytest.raises(TargetExistsError):
        export_to(trees, leaf, target, on_bytes=interfere)
    assert target.read_bytes() == b"mine"
    assert left_behind(target) == ["out"]


@pytest.mark.parametrize("path", [".", "..", "/", "sub/..", "out/", "out/."])
def test_directories_that_are_there_are_no_targets(
    trees: Trees, leaf: Cid, target: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target / "sub").mkdir(parents=True)
    monkeypatch.chdir(target.parent)
    (target.parent / "sub").mkdir()
    with pytest.raises(TargetExistsError):
        export_to(trees, leaf, Path(path))


@pytest.mark.parametrize("parent", ["missing", "a-file"])
def test_a_parent_that_is_no_directory_is_named(trees: Trees, leaf: Cid, target: Path, parent: str) -> None:
    (target.parent / "a-file").write_bytes(b"")
    with pytest.raises(DiskError, match=rf"cannot use '.*/{parent}': (No such file|Not a directory)"):
        export_to(trees, leaf, target.parent / parent / "out")


def test_errors_of_the_disk_name_the_target_not_the_temporary_file(trees: Trees, leaf: Cid) -> None:
    with pytest.raises(DiskError, match="cannot use '/proc/out': "):
        export_to(trees, leaf, Path("/proc/out"))


def test_progress_counts_the_bytes_of_files(trees: Trees, leaf: Cid, target: Path) -> None:
    counts: list[int] = []
    root = trees.directory([(b"a", leaf), (b"b", leaf), (b"s", trees.symlink(b"t"))])
    export_to(trees, root, target, on_bytes=counts.append)
    assert sum(counts) == 8


def test_two_threads_may_export_at_once(trees: Trees, leaf: Cid, target: Path) -> None:
    root = trees.directory([(b"%d" % number, leaf) for number in range(50)])
    threads = [
        threading.Thread(target=export_to, args=(trees, root, target.with_name(str(number)))) for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(listing(target.with_name(str(number)))) == 51 for number in range(4))
    assert stat.S_IMODE(target.with_name("0").stat().st_mode) == 0o755
