"""Calls of a running daemon's control API over its Unix socket: plain HTTP, one connection a call.

    client = Client(find_socket(home))
    client.call("id")["ID"]
    for line in client.stream("ping", peer, count=3): ...

Leaving a call early, by an exception, Ctrl-C or by dropping the iterator, closes the connection, by which the daemon
knows that nobody waits for the answer and cancels what it does.

Spec: https://docs.ipfs.tech/reference/kubo/rpc/
"""

import http.client
import json
import socket
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias
from urllib.parse import urlencode

from ipvcs.client.socket_path import DaemonNotRunningError
from ipvcs.errors import IpvcsError, LimitError, RemoteProtocolError, UnavailableError

OptionValue: TypeAlias = str | int | float | bool | None

_PREFIX: Final = "/api/v0/"
_CONNECT_TIMEOUT: Final = 5.0
"""Seconds until a daemon on this machine accepts a connection."""
_SILENCE: Final = 120.0
"""Seconds without a byte. Longer than any command's own deadline, so the daemon's error comes first."""
_PUSH_SILENCE: Final = 150.0
"""The same for `push`, whose own patience with another node is 120 s."""
_PROMPT_SILENCE: Final = 15.0
"""The same for commands that wait for nobody: a daemon that takes longer is stopped or stuck."""
_WAITING: Final = frozenset(
    {"fetch", "id", "name/publish", "name/resolve", "ping", "routing/findpeer", "routing/findprovs", "routing/get",
     "routing/provide", "routing/put", "swarm/connect", "swarm/disconnect"}
)  # fmt: skip
"""Commands that may wait for other nodes."""
_BUSY_PATIENCE: Final = 12.0
"""Seconds to try again when there is no room: a little more than half a request may keep it."""
_BUSY_PAUSE: Final = 0.25
_SLACK: Final = 5.0
"""Seconds that the daemon's own error gets to arrive when the caller's time is up."""
_READ_SIZE: Final = 64 * 1024
_TAKING_LINES: Final = frozenset({"fetch"})
"""Commands whose arguments may be lines of the body."""
_MAX_QUERY_ARGS: Final = 100
"""Arguments of theirs that the query has room for."""
_MAX_ANSWER: Final = 64 * 1024 * 1024
_MAX_LINE: Final = 8 * 1024 * 1024
"""Bytes of an answer and of a stream's line: more than there is, and still no way to fill our memory. A reply to a push
may have 4 MiB, in base64 5.6 MB."""


class RemoteCommandError(IpvcsError):
    """The daemon could not do what was asked; message, hint and exit code are as in the daemon."""

    @staticmethod
    def make(message: str, hint: str | None, exit_code: int) -> "RemoteCommandError":
        """Return the error whose `exit_code` is the one given, or 128 for one that no error of ours has."""
        return _BY_EXIT_CODE.get(exit_code, RemoteCommandError)(message, hint=hint)


class RemoteNegativeError(RemoteCommandError):
    """The daemon's answer is no."""

    exit_code = 1


class RemoteUsageError(RemoteCommandError):
    """The daemon was asked for something that makes no sense."""

    exit_code = 129


_BY_EXIT_CODE: Final[dict[int, type[RemoteCommandError]]] = {1: RemoteNegativeError, 129: RemoteUsageError}


class DaemonLostError(UnavailableError):
    """The daemon ended or fell silent while it was at work for us: what was asked may be done or not."""

    def __init__(self, route: str, reason: str) -> None:
        super().__init__(f"lost the daemon during '{route}': {reason}", hint="see the daemon's log, and try again")
        self.route = route


class DaemonBusyError(UnavailableError):
    """The daemon serves as many clients as it may."""

    def __init__(self) -> None:
        super().__init__("the daemon is busy", hint="try again in a moment")


class Client:
    """A daemon, by the path of its socket. Holds nothing open between calls; threads may share one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def is_running(self) -> bool:
        """Tell whether somebody accepts connections there."""
        try:
            self._connect().close()
        except UnavailableError as exc:
            return not isinstance(exc, DaemonNotRunningError)
        return True

    def call(self, route: str, *args: str, timeout: float | None = None, **options: OptionValue) -> dict[str, Any]:
        """Run a command such as "swarm/connect" and return its answer; {} when it has none to give.

        Args:
            route: the command's path below `/api/v0/`.
            args: the command's arguments.
            timeout: seconds the daemon may take; None: what the command has by itself.
            options: the command's options, `_` standing for `-`; None: not given.

        Raises:
            DaemonNotRunningError: no daemon there. DaemonBusyError: no room for us.
            RemoteCommandError: the command failed.
            DaemonLostError: the daemon went away or fell silent.
        """
        with self._request(route, args, timeout, options) as response:
            body = _read_whole(route, response)
        return _decode(route, body) if body.strip() else {}

    def stream(
        self,
        route: str,
        *args: str,
        lines: Sequence[str] = (),
        timeout: float | None = None,
        **options: OptionValue,
    ) -> Generator[dict[str, Any]]:
        """Run a command that answers bit by bit; yield each object as it comes. Arguments and errors as in `call`.

        Nothing is sent before the first object is asked for. Closing the generator ends the command. `lines` are
        arguments behind the others for which the query has no room, of a command that takes them in the body.
        """
        with self._request(route, args, timeout, options, lines) as response:
            for line in _iter_lines(route, response):
                value = _decode(route, line)
                if value.get("Type") == "error":
                    raise _error_of(value)
                yield value

    @contextmanager
    def _request(
        self,
        route: str,
        args: tuple[str, ...],
        timeout: float | None,
        options: dict[str, OptionValue],
        lines: Sequence[str] = (),
    ) -> Iterator[http.client.HTTPResponse]:
        """Send the request and yield the response, whose status is good; the connection is closed after the block."""
        if route in _TAKING_LINES and len(args) > _MAX_QUERY_ARGS:
            lines, args = (*args, *lines), ()
        query = [("arg", arg) for arg in args]
        query += [(name.replace("_", "-"), _text(value)) for name, value in options.items() if value is not None]
        if timeout is not None:
            query.append(("timeout", f"{max(1, round(timeout * 1000))}ms"))
        # Names of files are bytes: what is not UTF-8 in them travels as it is.
        target = f"{_PREFIX}{route}?{urlencode(query, errors='surrogateescape')}"
        silence = _PUSH_SILENCE if route == "push" else _SILENCE if route in _WAITING else _PROMPT_SILENCE
        with ExitStack() as opened:
            body = "\n".join(lines).encode() if lines else None
            response = self._send(opened, route, target, body, silence if timeout is None else timeout + _SLACK)
            if response.status != http.client.OK:
                _fail(route, response)
            yield response

    def _send(
        self, opened: ExitStack, route: str, target: str, body: bytes | None, silence: float
    ) -> http.client.HTTPResponse:
        """Send a request and return the response, which `opened` closes; while the daemon is busy, try again."""
        deadline = time.monotonic() + _BUSY_PATIENCE
        while True:
            try:
                connection = opened.enter_context(closing(_UnixConnection(self._connect(), silence)))
                with _losing(route):
                    connection.request("POST", target, body, headers={"Connection": "close"})
                    response = opened.enter_context(closing(connection.getresponse()))
                if response.status != http.client.SERVICE_UNAVAILABLE or time.monotonic() >= deadline:
                    return response
            except DaemonBusyError:
                if time.monotonic() >= deadline:
                    raise
            opened.close()
            time.sleep(_BUSY_PAUSE)

    def _connect(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(_CONNECT_TIMEOUT)
            sock.connect(str(self.path))
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as exc:
            sock.close()
            raise DaemonNotRunningError(self.path) from exc
        except (BlockingIOError, TimeoutError) as exc:  # its backlog is full
            sock.close()
            raise DaemonBusyError from exc
        except OSError as exc:
            sock.close()
            raise UnavailableError(
                f"cannot connect to the daemon at '{self.path}': {exc.strerror or exc}",
                hint="check the owner and mode of the path",
            ) from exc
        except BaseException:
            sock.close()
            raise
        return sock


class _UnixConnection(http.client.HTTPConnection):
    """HTTP on a socket that is connected already."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        super().__init__("localhost")
        sock.settimeout(timeout)
        self.sock = sock
        self.auto_open = 0  # never to `localhost` by TCP


@contextmanager
def _losing(route: str) -> Iterator[None]:
    """Translate what a connection that breaks raises."""
    try:
        yield
    except TimeoutError as exc:
        raise DaemonLostError(route, "it does not answer") from exc
    except http.client.IncompleteRead as exc:
        raise DaemonLostError(route, "the answer was cut short") from exc
    except http.client.RemoteDisconnected as exc:
        raise DaemonLostError(route, "it closed the connection without an answer") from exc
    except http.client.HTTPException as exc:
        raise RemoteProtocolError(
            f"'{route}' was answered by something that is no daemon of ours: {exc!r}", hint="run `ipvcs daemon`"
        ) from exc
    except ConnectionError as exc:
        raise DaemonLostError(route, "it closed the connection") from exc


def _read_whole(route: str, response: http.client.HTTPResponse) -> bytes:
    with _losing(route):
        body = response.read(_MAX_ANSWER + 1)
    if len(body) > _MAX_ANSWER:
        raise LimitError(f"the daemon's answer to '{route}' is over {_MAX_ANSWER} bytes")
    if response.length:  # http.client raises IncompleteRead for chunks only when it is told how much to read
        raise DaemonLostError(route, "the answer was cut short")
    return body


def _iter_lines(route: str, response: http.client.HTTPResponse) -> Iterator[bytes]:
    """Yield each line as it comes."""
    rest = b""
    while True:
        with _losing(route):
            data = response.read1(_READ_SIZE)  # its `readline` takes a connection that breaks for the end
        if not data:
            break
        *lines, rest = (rest + data).split(b"\n")
        yield from lines
        if len(rest) > _MAX_LINE:
            raise LimitError(f"a line of the daemon's answer to '{route}' is over {_MAX_LINE} bytes")
    if rest or response.length:
        raise DaemonLostError(route, "the answer was cut short")


def _fail(route: str, response: http.client.HTTPResponse) -> NoReturn:
    """Raise what a response says whose status is not good."""
    body = _read_whole(route, response)
    if response.status == http.client.NOT_FOUND:
        raise RemoteCommandError(
            f"the daemon does not know the command '{route}'",
            hint="it may be of another version: end it with `ipvcs shutdown`, and start it again",
        )
    if response.status == http.client.SERVICE_UNAVAILABLE:
        raise DaemonBusyError
    with suppress(ValueError, RecursionError):
        value = json.loads(body)
        if isinstance(value, dict) and value.get("Type") == "error":
            raise _error_of(value)
    text = body.decode(errors="replace").strip() or response.reason
    raise RemoteCommandError(f"'{route}' failed with status {response.status}: {text[:1000]}")


def _error_of(value: dict[str, Any]) -> RemoteCommandError:
    message, hint, exit_code = value.get("Message"), value.get("Hint"), value.get("ExitCode")
    return RemoteCommandError.make(
        message if isinstance(message, str) and message else "the daemon failed without saying why",
        hint if isinstance(hint, str) and hint else None,
        exit_code if isinstance(exit_code, int) else IpvcsError.exit_code,
    )


def _decode(route: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as exc:
        raise RemoteProtocolError(f"the daemon's answer to '{route}' is not JSON: {exc}") from exc
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"the daemon's answer to '{route}' is not a JSON object")
    return value


def _text(value: OptionValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
