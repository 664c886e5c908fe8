"""The home: made once, whole or not at all, and refused when it is not ours."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvcs.storage import home as home_module
from ipvcs.storage.disk import DiskError, DiskFullError, NetworkFilesystemError, PermissionDeniedError
from ipvcs.storage.home import HomeVersionError, NotAHomeError, open_home
from tests.contracts.blockstore import HELLO
from tests.unit.storage.segment_check import check_segments
from tests.unit.storage.test_datastore import run_in_fork

CHECKOUT = Path(__file__).parents[3]


def test_a_home_is_made_where_there_is_nothing(tmp_path: Path) -> None:
    with open_home(tmp_path / "deep" / "home") as home:
        assert home.path == tmp_path / "deep" / "home"
        assert sorted(entry.name for entry in home.path.iterdir() if not entry.name.startswith(".")) == [
            "blocks", "config", "datastore", "leases", "reserve", "tmp", "version",
        ]  # fmt: skip
    assert (tmp_path / "deep" / "home" / "version").read_text() == "1\n"


def test_only_the_owner_may_look_into_it(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with open_home(tmp_path / "home") as home:
            home.blocks.put_many([HELLO])
            with home.blocks.writing():
                for entry in [home.path, *home.path.rglob("*")]:
                    mode = stat.S_IMODE(entry.stat().st_mode)
                    assert mode == (0o700 if entry.is_dir() else 0o600), entry
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["with space", "größe-日本語", "new\nline", "quote'\"", os.fsdecode(b"bytes-\xff")])
def test_its_path_may_be_any_path(tmp_path: Path, name: str) -> None:
    with open_home(tmp_path / name) as home:
        home.blocks.put_many([HELLO])
    with open_home(tmp_path / name) as home:
        assert home.blocks.get(HELLO.cid) == b"hello"
        check_segments(home)


def test_a_relative_path_stays_the_same_home_after_a_change_of_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_home(Path("home")) as home:
        monkeypatch.chdir("/")
        home.blocks.put_many([HELLO])
        assert home.blocks.get(HELLO.cid) == b"hello"


@pytest.mark.parametrize(
    ("content", "shown", "hint"),
    [
        (b"2\n", "2", "a later one"),
        (b"99999\n", "99999", "a later one"),
        (b"0\n", "0", "restore the file"),
        (b"", "", "restore the file"),
        (b"\xff\xfe", "\ufffd\ufffd", "restore the file"),
        ("²".encode(), "²", "restore the file"),
        (b"1" * 10_000_000, "1" * 40, "a later one"),
    ],
)
def test_another_version_is_refused_with_what_to_do(tmp_path: Path, content: bytes, shown: str, hint: str) -> None:
    with open_home(tmp_path / "home") as home:
        home.blocks.put_many([HELLO])
    (tmp_path / "home" / "version").write_bytes(content)

    with pytest.raises(HomeVersionError, match="this ipvcs reads version 1") as caught:
        open_home(tmp_path / "home")
    assert caught.value.found == shown
    assert hint in str(caught.value.hint)

    (tmp_path / "home" / "version").write_text("1\n")
    with open_home(tmp_path / "home") as home:
        assert home.blocks.get(HELLO.cid) == b"hello"


@pytest.mark.parametrize("name", ["thesis.tex", ".bashrc", ".git", "blocks2", ".config.x"])
def test_a_directory_with_other_things_in_it_does_not_become_a_home(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()

    with pytest.raises(NotAHomeError, match="is not an ipvcs home and not empty"):
        open_home(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(DiskError, match="cannot use"):
        open_home(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "text"


def test_an_empty_directory_becomes_one(tmp_path: Path) -> None:
    open_home(tmp_path).close()
    assert (tmp_path / "version").exists()


def test_a_home_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_home(tmp_path / "old").close()
    monkeypatch.setattr(home_module, "network_filesystem", lambda _path: "nfs4")
    for name in ("old", "new"):
        with pytest.raises(NetworkFilesystemError, match=r"on a network file system \(nfs4\)"):
            open_home(tmp_path / name)
    assert not any((tmp_path / "new").iterdir())


def test_a_home_that_may_not_be_made_or_read_is_an_error(tmp_path: Path) -> None:
    def refused() -> None:
        if os.geteuid() == 0:
            os.setuid(65534)
        for name in ("closed/home", "closed"):
            with pytest.raises(PermissionDeniedError, match="permission denied"):
                open_home(tmp_path / name)

    for parent in [tmp_path, *tmp_path.parents][:3]:
        parent.chmod(parent.stat().st_mode | 0o011)
    (tmp_path / "closed").mkdir(mode=0)
    try:
        assert run_in_fork(refused) == 0
    finally:
        (tmp_path / "closed").chmod(0o700)


_STEPS = ["mkdir", "_make_reserve", "write_atomically", "open_datastore", "sync_directory"]


@pytest.mark.parametrize("step", _STEPS)
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_making_one_can_be_interrupted_at_each_step_and_done_again(
    fast_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int, after: bool
) -> None:
    owner = Path if step == "mkdir" else home_module
    real: Callable[..., object] = getattr(owner, step)
    calls = 0

    def stop(*args: object, **options: object) -> object:
        nonlocal calls
        calls += 1
        if calls == nth and not after:
            raise KeyboardInterrupt
        result = real(*args, **options)
        if calls == nth:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, stop)
        try:
            home = open_home(fast_path / "home")
        except KeyboardInterrupt:
            pass
        else:
            home.close()
            assert calls < nth, "there are fewer such steps"

    with open_home(fast_path / "home") as home:
        home.blocks.put_many([HELLO])
        assert (home.path / "reserve").stat().st_size == home_module._RESERVE_SIZE
    with open_home(fast_path / "home") as home:
        assert home.blocks.get(HELLO.cid) == b"hello"


def test_temporary_files_of_an_interrupted_making_are_cleaned_up(tmp_path: Path) -> None:
    (tmp_path / ".config.01234567.part").write_text("{")
    (tmp_path / "reserve").write_bytes(b"cut short")

    with open_home(tmp_path) as home:
        assert not (tmp_path / ".config.01234567.part").exists()
        assert (tmp_path / "reserve").stat().st_size == home_module._RESERVE_SIZE
        assert home.config.get("Datastore.Sync") is True


def test_a_home_whose_version_file_was_lost_keeps_its_blocks(tmp_path: Path) -> None:
    with open_home(tmp_path / "home") as home:
        home.blocks.put_many([HELLO])
    (tmp_path / "home" / "version").unlink()

    with open_home(tmp_path / "home") as home:
        assert home.blocks.get(HELLO.cid) == b"hello"


_MAKE = """
import pathlib, sys
from ipvcs.objects.block import Block
from ipvcs.storage.home import open_home
print("ready", flush=True)
for name in sys.stdin:
    with open_home(pathlib.Path(sys.argv[1]) / name.strip()) as home:
        home.blocks.put_many([Block.of(sys.argv[2].encode())])
    print(name.strip(), flush=True)
"""


def test_processes_that_make_one_home_at_once_share_it(fast_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _MAKE, os.fspath(fast_path), str(number)],
            cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for number in range(4)
    ]  # fmt: skip
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for attempt in range(12):
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(f"home{attempt}\n")
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.flush()
            for worker in workers:
                assert worker.stdout is not None
                assert worker.stderr is not None
                assert worker.stdout.readline() == f"home{attempt}\n", worker.stderr.read()
            with open_home(fast_path / f"home{attempt}") as home:
                assert home.blocks.stat().blocks == len(workers)
                check_segments(home)
    finally:
        for worker in workers:
            worker.communicate()
            assert worker.returncode == 0


def test_a_reserve_is_given_up_only_while_the_disk_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_home(tmp_path / "home") as home:
        reserve = home.path / "reserve"
        with home.spare_space():
            assert reserve.exists()

        real = os.statvfs(home.path)
        full = os.statvfs_result((*real[:4], 1, *real[5:]))
        monkeypatch.setattr(os, "statvfs", lambda _path: full)
        with home.spare_space():
            assert not reserve.exists()
        assert reserve.stat().st_size == home_module._RESERVE_SIZE


def test_no_room_for_the_reserve_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", refuse)
        with pytest.raises(DiskFullError):
            open_home(tmp_path / "home")
    assert not (tmp_path / "home" / "version").exists()
    open_home(tmp_path / "home").close()


def test_a_home_can_be_moved(tmp_path: Path) -> None:
    with open_home(tmp_path / "old") as home:
        home.blocks.put_many([HELLO])
    (tmp_path / "old").rename(tmp_path / "new")
    with open_home(tmp_path / "new") as home:
        assert home.blocks.get(HELLO.cid) == b"hello"
