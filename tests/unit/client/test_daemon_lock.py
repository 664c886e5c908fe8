"""One daemon a home: the lock, whom it names, and what a killed daemon leaves."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ipvcs.client.daemon_lock import DaemonLock, DaemonRunningError, Holder, holder, wait_released
from ipvcs.storage.disk import DiskError

HOLD = """
import sys
from pathlib import Path
from ipvcs.client.daemon_lock import DaemonLock
lock = DaemonLock.acquire(Path(sys.argv[1]), command=len(sys.argv) > 2)
lock.publish_api("/unix/there")
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


def hold(home: Path, *words: str) -> "subprocess.Popen[str]":
    """Return a process that holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: "subprocess.Popen[str]") -> None:
    process.communicate(timeout=30)


def test_who_holds_it_is_told_to_the_next_one(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    process = hold(tmp_path)
    try:
        found = holder(tmp_path)
        assert found is not None
        assert (found.pid, found.api, found.command) == (process.pid, "/unix/there", False)
        assert found.started is not None
        with pytest.raises(DaemonRunningError, match=f"pid {process.pid}, since {found.started}, API /unix/there") as e:
            DaemonLock.acquire(tmp_path)
        assert e.value.exit_code == 128
        assert "ipvcs shutdown" in str(e.value.hint)
    finally:
        end(process)
    assert holder(tmp_path) is None
    DaemonLock.acquire(tmp_path).release()


def test_a_node_within_a_command_is_named_as_one(tmp_path: Path) -> None:
    process = hold(tmp_path, "command")
    try:
        with pytest.raises(DaemonRunningError, match="a command with a node of its own") as caught:
            DaemonLock.acquire(tmp_path)
        assert caught.value.hint == "wait until it ends"
    finally:
        end(process)


def test_what_a_killed_daemon_leaves_is_no_obstacle(tmp_path: Path) -> None:
    process = hold(tmp_path)
    process.kill()
    end(process)
    assert json.loads((tmp_path / "daemon.lock").read_text())["pid"] == process.pid  # stale, and
    assert holder(tmp_path) is None
    with DaemonLock.acquire(tmp_path):
        found = json.loads((tmp_path / "daemon.lock").read_text())
    assert found["pid"] == os.getpid()
    assert (tmp_path / "daemon.lock").read_bytes() == b""
    assert (tmp_path / "daemon.lock").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"pid": "1", "started": 2, "api": []}', b"[" * 9000, b"\xff"])
def test_a_file_that_says_nothing_is_still_a_lock(tmp_path: Path, content: bytes) -> None:
    process = hold(tmp_path)
    try:
        (tmp_path / "daemon.lock").write_bytes(content)
        assert holder(tmp_path) == Holder()
        with pytest.raises(DaemonRunningError, match="pid is not known"):
            DaemonLock.acquire(tmp_path)
    finally:
        end(process)


def test_looking_never_keeps_a_daemon_from_starting(tmp_path: Path) -> None:
    DaemonLock.acquire(tmp_path).release()
    over = threading.Event()
    seen: list[Holder | None] = []

    def look() -> None:
        while not over.is_set():
            seen.append(holder(tmp_path))

    watchers = [threading.Thread(target=look) for _ in range(2)]
    for watcher in watchers:
        watcher.start()
    try:
        for _ in range(20):
            looks = len(seen)
            with DaemonLock.acquire(tmp_path) as lock:  # the lookers hold it for moments, over which it waits
                assert lock.is_in_place
                assert json.loads((tmp_path / "daemon.lock").read_text())["pid"] == os.getpid()
                until = time.monotonic() + 5
                while len(seen) < looks + 4 and time.monotonic() < until:  # each has looked while it is held
                    time.sleep(0)
                with pytest.raises(DaemonRunningError):
                    DaemonLock.acquire(tmp_path)
    finally:
        over.set()
        for watcher in watchers:
            watcher.join()
    assert {each.pid for each in seen if each is not None} <= {os.getpid(), None}
    assert any(each is not None and each.pid == os.getpid() for each in seen)
    assert (tmp_path / "daemon.lock").read_bytes() == b""
    assert holder(tmp_path) is None


@pytest.mark.parametrize("how", ["deleted", "moved", "replaced"])
def test_a_lock_whose_file_is_not_in_the_home_any_more_is_out_of_place(tmp_path: Path, how: str) -> None:
    with DaemonLock.acquire(tmp_path) as lock:
        assert lock.is_in_place
        file = tmp_path / "daemon.lock"
        file.rename(tmp_path / "elsewhere") if how == "moved" else file.unlink()
        if how == "replaced":
            file.touch()
        assert not lock.is_in_place


def test_waiting_ends_when_the_holder_has_gone_or_another_has_come(tmp_path: Path) -> None:
    process = hold(tmp_path)
    before = holder(tmp_path)
    assert before is not None
    assert not wait_released(tmp_path, before, 0.1)
    timer = threading.Timer(0.2, process.kill)
    timer.start()
    began = time.monotonic()
    assert wait_released(tmp_path, before, 30)
    assert time.monotonic() - began < 10
    end(process)
    with DaemonLock.acquire(tmp_path):
        assert wait_released(tmp_path, before, 0)


def test_a_home_that_is_not_there_has_no_holder_and_no_lock(tmp_path: Path) -> None:
    assert holder(tmp_path / "none") is None
    with pytest.raises((DiskError, OSError)):
        DaemonLock.acquire(tmp_path / "none")
