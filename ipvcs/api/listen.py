"""Binds the sockets of the API: the home's Unix socket, and loopback TCP for what `Addresses.API` names.

Whoever binds holds the home's daemon lock, so what is left of an earlier socket belongs to nobody.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from ipvcs.client.socket_path import POINTER_NAME, SocketPlace, make_private
from ipvcs.errors import ConflictError, UsageError
from ipvcs.multiformats.multiaddr import Multiaddr, MultiaddrError
from ipvcs.node.network.errors import ListenError
from ipvcs.storage.disk import disk_errors, write_atomically

_MAX_TCP: Final = 8
"""Addresses. Each has a socket of its own; nobody needs more."""


class ApiAddressError(UsageError):
    """`Addresses.API` names what the API may not or can't be served on."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"cannot serve the API on '{address}': {reason}",
            hint="use '/ip4/127.0.0.1/tcp/5001' or '/ip6/::1/tcp/5001'; from elsewhere, reach it through ssh",
        )
        self.address = address


@dataclass(frozen=True, slots=True)
class ApiSocket:
    """A bound socket and its address as a multiaddr. `close` takes its files away."""

    socket: socket.socket
    address: str
    files: tuple[Path, ...] = field(default=())

    def close(self) -> None:
        """Close the socket, wherever it was handed to, and remove its files. May be called again."""
        self.socket.close()
        for path in self.files:
            with suppress(FileNotFoundError):
                path.unlink()


def bind_unix(place: SocketPlace) -> ApiSocket:
    """Bind the home's socket where `plan_socket` said, mode 0600; a pointer to it is written if it needs one.

    Raises:
        ConflictError: somebody answers there already.
        UnsafeDirectoryError, DiskError: its directory can't be used.
    """
    path, pointer = place.path, place.pointer
    with disk_errors(path), ExitStack() as undo:
        if pointer is not None:
            make_private(path.parent, os.getuid())
        _remove_stale(path)
        sock = undo.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        sock.bind(str(path))
        undo.callback(path.unlink, missing_ok=True)
        path.chmod(0o600)  # before anybody can connect: nobody listens yet
        if pointer is not None:
            write_atomically(pointer, os.fsencode(path) + b"\n")
        else:
            path.with_name(POINTER_NAME).unlink(missing_ok=True)  # of a time when the home had a longer path
        undo.pop_all()
        return ApiSocket(sock, f"/unix{path}", (path,) if pointer is None else (pointer, path))


def bind_tcp(addresses: Sequence[str]) -> list[ApiSocket]:
    """Bind each of `addresses`, loopback multiaddrs as `/ip4/127.0.0.1/tcp/5001`, where port 0 is any free one.

    Raises:
        ApiAddressError: not such an address; nothing is bound then.
        ListenError: in use or not permitted.
    """
    wanted = parse_api_addresses(addresses)
    with ExitStack() as undo:
        bound: list[ApiSocket] = []
        for addr, host, port in wanted:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            sock = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what is left of a daemon before is no obstacle
            try:
                sock.bind((host, port))
            except OSError as exc:
                raise ListenError(
                    addr, exc.strerror or str(exc), hint="choose another port by `ipvcs config Addresses.API`"
                ) from exc
            protocol = "ip6" if family == socket.AF_INET6 else "ip4"
            bound.append(ApiSocket(sock, f"/{protocol}/{host}/tcp/{sock.getsockname()[1]}"))
        undo.pop_all()
        return bound


def parse_api_addresses(addresses: Sequence[str]) -> list[tuple[Multiaddr, str, int]]:
    """Return each address with its host and port. Raises ApiAddressError."""
    if len(addresses) > _MAX_TCP:
        raise ApiAddressError(addresses[_MAX_TCP], f"it is one of more than {_MAX_TCP}")
    return [_parse_tcp(text) for text in addresses]


def _parse_tcp(text: str) -> tuple[Multiaddr, str, int]:
    try:
        addr = Multiaddr.parse(text)
    except MultiaddrError as exc:
        raise ApiAddressError(text, str(exc)) from exc
    if addr.protocols not in (("ip4", "tcp"), ("ip6", "tcp")):
        raise ApiAddressError(text, "it is not an IP address with a TCP port")
    host, port = (component.value for component in addr)
    if not ip_address(host).is_loopback:
        raise ApiAddressError(text, "it is not on loopback, and the API is not for others")
    return addr, host, int(port)


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed daemon has left, or a symlink that leads to none."""
    if path.is_symlink() and not path.exists():
        path.unlink(missing_ok=True)
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except FileNotFoundError:
            return
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except BlockingIOError:
            pass  # somebody listens who is busy
    raise ConflictError(f"somebody listens on '{path}' already", hint="end that process, or use another home")
