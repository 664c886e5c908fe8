"""A private network namespace with nothing in it but a loopback interface.

The real peers that tests start would join the public network if they could. Inside the namespace they cannot: it has
`lo` and no route, so nothing a test starts reaches further than this machine, and every port is free. No root and no
iproute2 is needed: two system calls and one ioctl do it.

    python -m tests.interop.netns -- COMMAND [ARGUMENT]...      run COMMAND inside

Spec: network_namespaces(7), user_namespaces(7), netdevice(7).
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

_CLONE_NEWUSER = 0x10000000  # <linux/sched.h>
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913  # <linux/sockios.h>
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1  # <linux/if.h>
_CAPABILITY_VERSION_3 = 0x20080522  # <linux/capability.h>
_IFREQ_FLAGS = struct.Struct("16sH14x")  # struct ifreq: name, flags, the rest of its union
_IPV6_ANYWHERE = "0" * 32
_UNSHARE_MEANS = {  # what unshare(2) says and strerror does not
    errno.EINVAL: " (this process has threads already)",
    errno.ENOSPC: " (user.max_user_namespaces or user.max_net_namespaces is reached)",
}

ALLOW_HINT = """\
the tests that talk to real peers need a private network namespace; allow one of
  - root with CAP_SYS_ADMIN: for a container, `--cap-add SYS_ADMIN` or `--security-opt seccomp=unconfined`
  - unprivileged user namespaces: `sysctl user.max_user_namespaces=1000 user.max_net_namespaces=1000`, and where
    the kernel has them `kernel.unprivileged_userns_clone=1` and
    `kernel.apparmor_restrict_unprivileged_userns=0`"""


class NotIsolatedError(RuntimeError):
    """This process can reach more than `lo`, or no namespace could be made for it. The text says what to do."""


def leaks(allow: Collection[str] = ()) -> list[str]:
    """Name each way out of this machine that the calling thread has; none inside a private namespace.

    Args:
        allow: interfaces that may be up beside `lo`, such as one end of a veth pair that a test made.
    """
    return [*_interfaces_up({"lo", *allow}), *_default_routes()]


def check_isolated(allow: Collection[str] = ()) -> None:
    """Return if `lo` is all there is.

    Raises:
        NotIsolatedError: there is a way out; the message names it.
    """
    if found := leaks(allow):
        raise NotIsolatedError(
            f"not in a private network namespace: {', '.join(found)}\n"
            "run the tests with `make test`, `pytest`, or `python -m tests.interop.netns -- COMMAND`"
        )


def enter() -> None:
    """Move this process into a fresh namespace with `lo` up, unless it is in one already.

    Call it before the first thread starts: a namespace belongs to a thread, and a user namespace cannot be entered by
    a process of several. Children inherit it. User and group ids stay what they are.

    Raises:
        NotIsolatedError: the kernel refuses; the message says what to allow.
    """
    if not leaks() and _is_up("lo"):
        return
    try:
        try:
            _unshare(_CLONE_NEWNET)
        except PermissionError:  # not root, or root without CAP_SYS_ADMIN
            _enter_own_user_namespace()
        else:
            _bring_up("lo")
    except OSError as exc:
        raise NotIsolatedError(f"cannot make a private network namespace: {exc}\n{ALLOW_HINT}") from exc
    check_isolated()


def _enter_own_user_namespace() -> None:
    """Make a user namespace that maps only this user to itself, with a network namespace in it."""
    uid, gid = os.geteuid(), os.getegid()
    _unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    Path("/proc/self/setgroups").write_text("deny")  # the kernel wants this before an unprivileged gid_map
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _bring_up("lo")
    _drop_capabilities()


def _unshare(flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}{_UNSHARE_MEANS.get(code, '')}")


def _drop_capabilities() -> None:
    """Give up the powers that come with a new user namespace, so that file permissions still bind this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    none = bytes(24)  # two sets of effective, permitted, inheritable
    if libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), none) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"capset: {os.strerror(code)}")


def _interfaces_up(known: Collection[str]) -> list[str]:
    return [f"interface {name} is up" for _, name in socket.if_nameindex() if name not in known and _is_up(name)]


def _default_routes() -> list[str]:
    found = []
    for line in Path("/proc/thread-self/net/route").read_text().splitlines()[1:]:
        interface, destination, *_ = line.split()
        if destination == "00000000":
            found.append(f"default route through {interface}")
    ipv6 = Path("/proc/thread-self/net/ipv6_route")
    for line in ipv6.read_text().splitlines() if ipv6.exists() else ():  # absent when IPv6 is off
        fields = line.split()
        if fields[0] == _IPV6_ANYWHERE and fields[1] == "00" and fields[9] != "lo":
            found.append(f"IPv6 default route through {fields[9]}")
    return found


def _flags(name: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ_FLAGS.pack(name.encode(), 0))
    flags: int = _IFREQ_FLAGS.unpack(answer)[1]
    return flags


def _is_up(name: str) -> bool:
    return bool(_flags(name) & _IFF_UP)


def _bring_up(name: str) -> None:
    request = _IFREQ_FLAGS.pack(name.encode(), _flags(name) | _IFF_UP)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


def main(arguments: Sequence[str]) -> int:
    """Enter a namespace and become the command after `--`."""
    command = list(arguments[1:]) if arguments[:1] == ["--"] else list(arguments)
    if not command:
        print("usage: python -m tests.interop.netns -- COMMAND [ARGUMENT]...", file=sys.stderr)
        return 129
    try:
        enter()
        os.execvp(command[0], command)
    except (NotIsolatedError, FileNotFoundError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 128


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
