"""What the operating system says about a disk, in our words."""

import errno
import os
from pathlib import Path

import lmdb
import pytest

from ipvcs.storage import disk
from ipvcs.storage.disk import (
    DiskError,
    DiskFullError,
    PermissionDeniedError,
    ReadOnlyError,
    disk_errors,
    network_filesystem,
    write_atomically,
)


@pytest.mark.parametrize(
    ("raised", "expected", "text"),
    [
        (OSError(errno.ENOSPC, "x"), DiskFullError, "no space left on the disk of '/home/me'"),
        (OSError(errno.EDQUOT, "x"), DiskFullError, "no space left on the disk of '/home/me'"),
        (OSError(errno.EROFS, "x"), ReadOnlyError, "'/home/me' is on a read-only file system"),
        (OSError(errno.EACCES, "x", "/other"), PermissionDeniedError, "permission denied: '/other'"),
        (OSError(errno.EPERM, "x"), PermissionDeniedError, "permission denied: '/home/me'"),
        (OSError(errno.EIO, "Input/output error"), DiskError, "cannot use '/home/me': Input/output error"),
        (OSError("no number"), DiskError, "cannot use '/home/me': unknown error"),
        (
            lmdb.Error("mdb_txn_commit: No space left on device"),
            DiskFullError,
            "no space left on the disk of '/home/me'",
        ),
        (lmdb.ReadonlyError("x"), ReadOnlyError, "'/home/me' is on a read-only file system"),
        (lmdb.MapFullError("x"), DiskError, "the index of '/home/me' is full"),
        (lmdb.CorruptedError("bad page"), DiskError, "the index of '/home/me' is damaged: bad page"),
        (lmdb.Error("/x: Permission denied"), PermissionDeniedError, "permission denied: '/home/me'"),
    ],
)
def test_each_refusal_has_its_error(raised: Exception, expected: type[DiskError], text: str) -> None:
    with pytest.raises(DiskError) as caught, disk_errors(Path("/home/me")):
        raise raised
    assert type(caught.value) is expected
    assert str(caught.value) == text


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), disk_errors(Path("/x")):
        raise ZeroDivisionError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    write_atomically(path, b"new")

    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_failure_at_any_step_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path if step == "replace" else os, step, fail)
    with pytest.raises(DiskFullError):
        write_atomically(path, b"new")
    monkeypatch.undo()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def _mountinfo(tmp_path: Path, kind: str, device: str | None = None) -> Path:
    number = tmp_path.stat().st_dev
    device = device or f"{os.major(number)}:{os.minor(number)}"
    file = tmp_path / "mountinfo"
    file.write_text(
        "22 1 0:5 / /proc rw,nosuid shared:12 - proc proc rw\n"
        f"36 35 {device} /mnt1 /mnt\\0402 rw,noatime master:1 - {kind} server:/export rw,errors=continue\n"
    )
    return file


@pytest.mark.parametrize(
    "kind", ["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "fuse.sshfs", "fuse.glusterfs", "lustre"]
)
def test_network_file_systems_are_told_by_name(tmp_path: Path, kind: str) -> None:
    assert network_filesystem(tmp_path, _mountinfo(tmp_path, kind)) == kind


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "btrfs", "overlay", "xfs", "fuse.ntfs-3g", "fuseblk", "zfs"])
def test_local_file_systems_are_not(tmp_path: Path, kind: str) -> None:
    assert network_filesystem(tmp_path, _mountinfo(tmp_path, kind)) is None


def test_where_nothing_can_be_told_it_is_taken_for_local(tmp_path: Path) -> None:
    assert network_filesystem(tmp_path, _mountinfo(tmp_path, "nfs", device="9:99")) is None
    assert network_filesystem(tmp_path, tmp_path / "absent") is None
    assert network_filesystem(tmp_path / "absent", _mountinfo(tmp_path, "nfs")) is None


def test_the_disk_below_the_tests_is_local(tmp_path: Path) -> None:
    assert network_filesystem(tmp_path) is None


def test_write_all_takes_more_parts_than_one_call_does(tmp_path: Path) -> None:
    parts = [str(number).encode() for number in range(5000)]
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    try:
        assert disk.write_all(fd, parts) == sum(map(len, parts))
    finally:
        os.close(fd)
    assert (tmp_path / "file").read_bytes() == b"".join(parts)
