"""The second process of a large push: it makes the same blocks, and whatever ends it, or us, leaves nothing behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvcs.git_bridge import conversion
from ipvcs.git_bridge.blob_worker import BlobWorker, BlobWorkerError
from ipvcs.git_bridge.conversion import converting
from ipvcs.git_bridge.git import GitRepository
from ipvcs.git_bridge.object_feed import GitObjectMissingError
from ipvcs.objects.git.layout import Mapped
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId, ObjectIdMismatchError
from ipvcs.objects.git.payload import GitType
from ipvcs.storage.gc import collect
from ipvcs.storage.home import Home
from tests.e2e.crash import CHECKOUT
from tests.e2e.real_git import Git
from tests.e2e.test_git_conversion import PROFILE, listed, oid_of, one_by_one, reached
from tests.e2e.test_git_mapping import tree_body
from tests.streams import chacha20_stream

MIB = 1024 * 1024


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """A repository with more blobs than are under way at any time, of all kinds."""
    git = Git(tmp_path / "repo.git", ObjectFormat.SHA1)
    commands: list[bytes] = []
    for n in range(600):
        commands.append(b"commit refs/heads/main\ncommitter C <c@example.com> %d +0000\ndata 1\nx" % n)
        commands.append(b"M %s inline d%d/f%d\n" % ((b"100644", b"100755", b"120000")[n % 3], n % 7, n))
        commands.append(b"data 9\n%09d\n" % n)
    git("fast-import", "--quiet", stdin=b"".join(commands))
    return git


@pytest.fixture(autouse=True)
def _beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MANY_BLOBS", 1)
    monkeypatch.setattr(conversion, "_cores", lambda: 2)


def convert(git: Git, home: Home, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Mapped:
    repository = GitRepository(git.path, git.environ)
    with home.blocks.writing() as writer, converting(repository, home, writer, PROFILE) as converter:
        (mapped,) = converter.convert([oid_of(git, "main")], [], progress)
        return mapped


def workers() -> list[int]:
    """The second processes of this one."""
    tasks = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [
        int(pid)
        for children in tasks
        for pid in children
        if b"blob_worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def loose(git: Git, oid: ObjectId) -> Path:
    return git.path / "objects" / oid.hex[:2] / oid.hex[2:]


def assert_nothing_is_left(home: Home) -> None:
    assert workers() == []
    assert list(home.temporary.iterdir()) == []


def test_it_makes_the_same_blocks_and_ends_with_the_conversion(git: Git, home: Home) -> None:
    seen: list[list[int]] = []
    mapped = convert(git, home, lambda _done, _total: seen.append(workers()))
    assert [mapped] == one_by_one(git, "main")
    assert reached(git, home, "main", mapped) == listed(git, "main")
    assert {len(each) for each in seen} == {1}
    assert_nothing_is_left(home)
    assert list((home.path / "leases").iterdir()) == []


def test_what_it_wrote_is_protected_until_the_end(git: Git, home: Home) -> None:
    repository = GitRepository(git.path, git.environ)
    with home.blocks.writing() as writer, converting(repository, home, writer, PROFILE) as converter:
        (mapped,) = converter.convert([oid_of(git, "main")], [], lambda _done, _total: None)
        assert collect(home).removed == 0
        assert reached(git, home, "main", mapped) == listed(git, "main")
    assert collect(home).removed > 600


def test_what_was_converted_is_not_read_again(git: Git, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    mapped = convert(git, home)
    monkeypatch.setattr(BlobWorker, "submit", lambda _self, batch: pytest.fail(f"asked for {len(batch)}"))
    assert convert(git, home) == mapped


def test_what_was_collected_of_a_blob_is_converted_again(git: Git, home: Home) -> None:
    mapped = convert(git, home)
    raw = [cid for cid in home.blocks.iter_cids() if home.blocks.get(cid).isdigit()]
    assert len(raw) == 400, "symlinks are no raw blocks"
    assert home.blocks.delete(raw[::2]) == 200  # leaves of executables among them, whose roots stay
    assert convert(git, home) == mapped
    assert reached(git, home, "main", mapped) == listed(git, "main")


def test_killed_it_is_an_error_that_says_so_and_the_next_try_succeeds(git: Git, home: Home) -> None:
    def kill(_done: int, _total: int) -> None:
        for pid in workers():
            os.kill(pid, signal.SIGKILL)

    with pytest.raises(BlobWorkerError, match="ended by signal 9"):
        convert(git, home, kill)
    assert_nothing_is_left(home)
    assert [convert(git, home)] == one_by_one(git, "main")


def test_an_interrupt_ends_it_as_well(git: Git, home: Home) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done > 100:
            for pid in workers():
                os.kill(pid, signal.SIGINT)  # as a terminal would, and it leaves the answer to us
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(git, home, interrupt)
    assert_nothing_is_left(home)
    assert [convert(git, home)] == one_by_one(git, "main")


@pytest.mark.parametrize("limit", [1, 10**9], ids=["beside", "alone"])
def test_a_missing_blob_is_named(limit: int, git: Git, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MANY_BLOBS", limit)
    blob = git.write(GitType.BLOB, b"content")
    tree = git.write(GitType.TREE, tree_body((b"100644", b"f", blob)))
    git("update-ref", "refs/heads/main", git("commit-tree", str(tree), "-m", "x").decode().strip())
    loose(git, blob).unlink()
    with pytest.raises(GitObjectMissingError, match=blob.hex) as caught:
        convert(git, home)
    assert (caught.value.name, caught.value.hint is None) == (blob.hex, False)
    assert_nothing_is_left(home)


@pytest.mark.parametrize("limit", [1, 10**9], ids=["beside", "alone"])
def test_a_damaged_blob_is_named(limit: int, git: Git, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversion, "MANY_BLOBS", limit)
    blob, other = git.write(GitType.BLOB, b"content"), git.write(GitType.BLOB, b"another")
    tree = git.write(GitType.TREE, tree_body((b"100644", b"f", blob)))
    git("update-ref", "refs/heads/main", git("commit-tree", str(tree), "-m", "x").decode().strip())
    loose(git, blob).unlink()
    loose(git, other).rename(loose(git, blob))
    with pytest.raises(ObjectIdMismatchError) as caught:
        convert(git, home)
    assert (caught.value.expected, caught.value.actual) == (blob, other)
    assert_nothing_is_left(home)


def test_its_full_disk_is_the_error_that_ours_would_be(git: Git, tmp_path: Path) -> None:
    noise = chacha20_stream("full disk", 12 * MIB)
    blobs = [git.write(GitType.BLOB, noise[start : start + MIB]) for start in range(0, len(noise), MIB)]
    tree = git.write(GitType.TREE, tree_body(*((b"100644", b"f%02d" % n, blob) for n, blob in enumerate(blobs))))
    git("update-ref", "refs/heads/main", git("commit-tree", str(tree), "-m", "x").decode().strip())
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.conversion_full_disk_worker", disk, git.path],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_an_object_of_another_type_than_its_entry_says(git: Git, home: Home) -> None:
    commit = oid_of(git, "main")
    tree = git.write(
        GitType.TREE, tree_body((b"100644", b"a", commit), (b"100644", b"b", git.write(GitType.BLOB, b"")))
    )
    git("update-ref", "refs/heads/main", git("commit-tree", str(tree), "-m", "x").decode().strip())
    assert [convert(git, home)] == one_by_one(git, "main")


def test_it_ends_when_the_first_process_is_killed(git: Git, home: Home) -> None:
    code = (
        "import sys; from pathlib import Path; from ipvcs.git_bridge import conversion as c\n"
        "from ipvcs.git_bridge.git import GitRepository; from ipvcs.objects.git.object_id import ObjectId\n"
        "from ipvcs.storage.home import open_home; from tests.e2e.test_blob_worker import workers\n"
        "c.MANY_BLOBS, c._cores = 1, lambda: 2\n"
        "def stop(done, total): print(*workers(), flush=True); sys.stdin.read()\n"
        "with open_home(Path(sys.argv[1])) as home, home.blocks.writing() as writer:\n"
        "    with c.converting(GitRepository(Path(sys.argv[2]), {}), home, writer, sys.argv[4]) as converter:\n"
        "        converter.convert([ObjectId.parse(sys.argv[3])], [], stop)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, home.path, git.path, oid_of(git, "main").hex, PROFILE],
        cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    pid = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < deadline, "it is there still"
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # somebody else's to reap, if nobody does


def test_it_imports_nothing_from_the_working_directory(
    git: Git, home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "pickle.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path / "here")
    assert [convert(git, home)] == one_by_one(git, "main")


@pytest.mark.parametrize(("many", "cores"), [(601, 2), (1, 1)])
def test_a_small_push_and_a_single_core_need_none(
    many: int, cores: int, git: Git, home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversion, "MANY_BLOBS", many)
    monkeypatch.setattr(conversion, "_cores", lambda: cores)
    monkeypatch.setattr(BlobWorker, "running", lambda *_arguments: pytest.fail("it was started"))
    assert [convert(git, home)] == one_by_one(git, "main")
