"""Leases: files whose lock the kernel drops however their holder ends."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipvcs.storage.lease import Lease, oldest_epoch

CHECKOUT = Path(__file__).parents[3]


def test_the_oldest_live_lease_counts(tmp_path: Path) -> None:
    assert oldest_epoch(tmp_path, default=9) == 9
    old, new = Lease.acquire(tmp_path, lambda: 4), Lease.acquire(tmp_path, lambda: 7)

    assert oldest_epoch(tmp_path, default=9) == 4
    old.release()
    assert oldest_epoch(tmp_path, default=9) == 7
    new.release()
    assert oldest_epoch(tmp_path, default=9) == 9
    assert list(tmp_path.iterdir()) == []


def test_a_lease_whose_epoch_is_not_written_yet_protects_everything(tmp_path: Path) -> None:
    seen: list[int] = []

    def look_meanwhile() -> int:
        seen.append(oldest_epoch(tmp_path, default=9))
        return 9

    Lease.acquire(tmp_path, look_meanwhile).release()

    assert seen == [0]


def test_a_collection_between_making_and_locking_makes_the_writer_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    calls: list[int] = []

    def lock_after_a_collection(fd: int, operation: int) -> None:
        if operation == fcntl.LOCK_EX and not calls:
            calls.append(oldest_epoch(tmp_path, default=9))
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", lock_after_a_collection)
    lease = Lease.acquire(tmp_path, lambda: 3)

    assert calls == [9], "the file was taken for a dead lease"
    assert oldest_epoch(tmp_path, default=9) == 3
    lease.release()


def test_a_lease_that_could_not_be_taken_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> int:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Lease.acquire(tmp_path, fail)

    assert list(tmp_path.iterdir()) == []
    assert oldest_epoch(tmp_path, default=9) == 9


def test_releasing_twice_is_harmless(tmp_path: Path) -> None:
    lease = Lease.acquire(tmp_path, lambda: 1)
    lease.release()
    lease.release()


def test_the_lease_of_a_killed_process_is_dead_and_removed(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from ipvcs.storage.lease import Lease;"
        "lease = Lease.acquire(pathlib.Path(sys.argv[1]), lambda: 2); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, os.fspath(tmp_path)], cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"held\n"
        assert oldest_epoch(tmp_path, default=9) == 2
        writer.kill()

    assert len(list(tmp_path.iterdir())) == 1
    assert oldest_epoch(tmp_path, default=9) == 9
    assert list(tmp_path.iterdir()) == []
