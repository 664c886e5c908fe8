"""Small and read-only disks, without touching the machine's: tmpfs in a private mount namespace.

Root ignores permission bits, so a read-only disk cannot be had by `chmod`, nor a full one at all. A process that has
called `enter` may mount what it likes where it likes; nobody else sees it, and it goes with the last process inside.

Spec: mount_namespaces(7), user_namespaces(7), mount(2), tmpfs(5).
"""

import ctypes
import os
from pathlib import Path

_CLONE_NEWNS = 0x00020000  # <linux/sched.h>
_CLONE_NEWUSER = 0x10000000
_MS_RDONLY = 1  # <linux/mount.h>
_MS_REMOUNT = 32
_MS_REC = 16384
_MS_PRIVATE = 1 << 18

ALLOW_HINT = """\
the tests of full and read-only disks need a private mount namespace; allow one of
  - root with CAP_SYS_ADMIN: for a container, `--cap-add SYS_ADMIN` or `--security-opt seccomp=unconfined`
  - unprivileged user namespaces: `sysctl user.max_user_namespaces=1000`, and where the kernel has them
    `kernel.unprivileged_userns_clone=1` and `kernel.apparmor_restrict_unprivileged_userns=0`"""


class NoMountsError(RuntimeError):
    """The kernel refuses a mount namespace. The text says what to allow."""


def enter() -> None:
    """Move this process, which has one thread, into a mount namespace of its own.

    Raises:
        NoMountsError: there is a way out; the message names it.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        try:
            _unshare(_CLONE_NEWNS)
        except PermissionError:
            _unshare(_CLONE_NEWUSER | _CLONE_NEWNS)
            Path("/proc/self/setgroups").write_text("deny")  # the kernel wants this before an unprivileged gid_map
            Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
            Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
        _mount("none", Path("/"), "", _MS_REC | _MS_PRIVATE, "")
    except OSError as exc:
        raise NoMountsError(f"cannot make a private mount namespace: {exc}\n{ALLOW_HINT}") from exc


class Disk:
    """A tmpfs of `size` bytes mounted at `path`, an empty directory."""

    def __init__(self, path: Path, size: int, *, inodes: int = 10_000) -> None:
        self.path = path
        self._options = f"size={size},nr_inodes={inodes},mode=700"
        _mount("tmpfs", path, "tmpfs", 0, self._options)

    @property
    def free(self) -> int:
        """Bytes that can still be written."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def resize(self, size: int, *, inodes: int = 10_000) -> None:
        """Give the disk another size, not below what is on it."""
        self._options = f"size={size},nr_inodes={inodes}"
        _mount("tmpfs", self.path, "tmpfs", _MS_REMOUNT, self._options)

    def set_read_only(self, read_only: bool) -> None:
        """Remount it; nobody may have a file on it open for writing."""
        _mount("tmpfs", self.path, "tmpfs", _MS_REMOUNT | (_MS_RDONLY if read_only else 0), self._options)

    def fill(self, leave: int = 0) -> None:
        """Take all free space but `leave` bytes, or give back what an earlier `fill` took too much."""
        filler = self.path / "filler"
        filler.unlink(missing_ok=True)
        if (size := self.free - leave) > 0:
            fd = os.open(filler, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(fd, 0, size)
            finally:
                os.close(fd)

    def empty(self) -> None:
        """Give back what `fill` took."""
        (self.path / "filler").unlink(missing_ok=True)


_libc = ctypes.CDLL(None, use_errno=True)


def _unshare(flags: int) -> None:
    if _libc.unshare(flags) != 0:
        _raise("unshare")


def _mount(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    arguments = (source.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode())
    if _libc.mount(*arguments) != 0:
        _raise(f"mount {kind or 'private'} at {target}")


def _raise(what: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{what}: {os.strerror(code)}")
