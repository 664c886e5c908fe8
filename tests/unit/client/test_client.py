"""The client against daemons that misbehave: a script of bytes on a real Unix socket. A real server is in
tests/unit/api/test_server.py.
"""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipvcs.client import client as client_module
from ipvcs.client.client import Client, DaemonBusyError, DaemonLostError, RemoteCommandError
from ipvcs.client.socket_path import DaemonNotRunningError
from ipvcs.errors import IpvcsError, LimitError, RemoteProtocolError, UnavailableError

Script = Callable[[socket.socket], object]


class ScriptedDaemon:
    """Accepts connections one after the other, keeps each request's head, and leaves the rest to a script."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.script: Script = lambda _sock: None
        self.heads: list[str] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            sock, _ = self._listener.accept()
            with sock:
                head = b""
                while b"\r\n\r\n" not in head:
                    if not (data := sock.recv(65536)):
                        break
                    head += data
                if head == b"end":
                    return
                if head:
                    self.heads.append(head.decode())
                    self.script(sock)

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(str(self.path))
            last.sendall(b"end")
        self._thread.join(10)
        self._listener.close()


@pytest.fixture
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedDaemon]:
    daemon = ScriptedDaemon(tmp_path_factory.mktemp("d") / "api.sock")
    yield daemon
    daemon.close()


@pytest.fixture
def client(daemon: ScriptedDaemon) -> Client:
    return Client(daemon.path)


def answer(body: bytes, status: str = "200 OK", kind: str = "application/json") -> Script:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return lambda sock: sock.sendall(head.encode() + body)


def chunks(*parts: bytes, end: bool = True) -> Script:
    out = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    out += b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
    return lambda sock: sock.sendall(out + (b"0\r\n\r\n" if end else b""))


def error(message: str, **more: Any) -> bytes:
    return json.dumps({"Message": message, "Code": 0, "Type": "error", **more}).encode()


def test_a_call_is_a_post_with_arguments_and_options_in_the_query(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = answer(b'{"Strings":["ok"]}\n')
    assert client.call(
        "swarm/connect", "/ip4/1.2.3.4/tcp/1", "a&b=c é\udcff", timeout=1.5, verbose=True, peerid_base="k", none=None
    ) == {"Strings": ["ok"]}
    request = daemon.heads[0].splitlines()[0]
    assert request == (
        "POST /api/v0/swarm/connect?arg=%2Fip4%2F1.2.3.4%2Ftcp%2F1&arg=a%26b%3Dc+%C3%A9%FF"
        "&verbose=true&peerid-base=k&timeout=1500ms HTTP/1.1"
    )


def test_an_empty_answer_is_an_empty_object(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = answer(b"")
    assert client.call("shutdown") == {}


@pytest.mark.parametrize(("exit_code", "expected"), [(1, 1), (128, 128), (129, 129), (7, 128), ("x", 128)])
def test_an_error_of_the_daemon_is_ours(
    daemon: ScriptedDaemon, client: Client, exit_code: object, expected: int
) -> None:
    daemon.script = answer(error("not found", Hint="look again", ExitCode=exit_code), "500 Internal Server Error")
    with pytest.raises(RemoteCommandError) as caught:
        client.call("id")
    assert (str(caught.value), caught.value.hint) == ("not found", "look again")
    assert caught.value.exit_code == expected


def test_an_error_of_kubos_own_shape_is_taken_too(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = answer(error("merkledag: not found"), "500 Internal Server Error")
    with pytest.raises(RemoteCommandError, match="merkledag: not found") as caught:
        client.call("id")
    assert (caught.value.hint, caught.value.exit_code) == (None, 128)


def test_an_unknown_command_means_another_version(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = answer(b"404 page not found\n", "404 Not Found", "text/plain")
    with pytest.raises(RemoteCommandError, match="does not know the command 'new/one'") as caught:
        client.call("new/one")
    assert "another version" in str(caught.value.hint)


def test_a_full_daemon_is_busy(daemon: ScriptedDaemon, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_BUSY_PATIENCE", 0.5)
    daemon.script = answer(b"Service Unavailable", "503 Service Unavailable", "text/plain")
    with pytest.raises(DaemonBusyError):
        client.call("id")


def test_a_refusal_in_text_is_quoted(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = answer(b"Invalid HTTP request received.", "400 Bad Request", "text/plain")
    with pytest.raises(RemoteCommandError, match=r"'id' failed with status 400: Invalid HTTP request received\."):
        client.call("id")


@pytest.mark.parametrize("body", [b"[]", b"nonsense", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_object_is_refused(daemon: ScriptedDaemon, client: Client, body: bytes) -> None:
    daemon.script = answer(body)
    with pytest.raises(RemoteProtocolError, match="the daemon's answer to 'id' is not"):
        client.call("id")


def test_something_else_on_the_socket_is_told_apart(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = lambda sock: sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
    with pytest.raises(RemoteProtocolError, match="something that is no daemon of ours"):
        client.call("id")


def test_an_answer_without_end_is_cut_off(
    daemon: ScriptedDaemon, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_MAX_ANSWER", 1000)
    daemon.script = answer(b'{"a":"' + b"x" * 1000 + b'"}')
    with pytest.raises(LimitError, match="over 1000 bytes"):
        client.call("id")


def test_a_stream_yields_each_object(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = chunks(b'{"N":1}\n{"N"', b":2}\n", b'{"N":3}\n')  # chunks are no lines
    assert list(client.stream("ping", "peer")) == [{"N": 1}, {"N": 2}, {"N": 3}]


def test_an_error_in_a_stream_comes_after_what_was_before_it(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = chunks(b'{"N":1}\n', error("lost", Hint="again", ExitCode=1) + b"\n")
    stream = client.stream("ping")
    assert next(stream) == {"N": 1}
    with pytest.raises(RemoteCommandError, match="lost") as caught:
        next(stream)
    assert (caught.value.hint, caught.value.exit_code) == ("again", 1)


def test_an_error_before_a_stream_has_begun_is_raised_at_once(daemon: ScriptedDaemon, client: Client) -> None:
    daemon.script = answer(error("no such peer"), "500 Internal Server Error")
    with pytest.raises(RemoteCommandError, match="no such peer"):
        next(client.stream("ping"))


@pytest.mark.parametrize(
    "script",
    [
        chunks(b'{"N":1}\n', end=False),
        chunks(b'{"N":1}\n', b'{"N"', end=False),
        chunks(b'{"N":1}\n', b'{"N"'),
        lambda sock: sock.sendall(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"N":1}\n\r\n9\r\n{'),
    ],
)
def test_a_stream_that_is_cut_short_is_an_error(daemon: ScriptedDaemon, client: Client, script: Script) -> None:
    daemon.script = script
    stream = client.stream("ping")
    assert next(stream) == {"N": 1}
    with pytest.raises(DaemonLostError, match="lost the daemon during 'ping'"):
        next(stream)


def test_a_line_without_end_is_cut_off(daemon: ScriptedDaemon, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_MAX_LINE", 1000)
    daemon.script = chunks(b"x" * 2000)
    with pytest.raises(LimitError, match="over 1000 bytes"):
        next(client.stream("ping"))


@pytest.mark.parametrize(
    "script",
    [
        lambda _sock: None,
        lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"),
        lambda sock: sock.sendall(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 10\r\n\r\n{"),
        lambda sock: sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
    ],
)
def test_a_daemon_that_dies_at_work_is_an_error(daemon: ScriptedDaemon, client: Client, script: Script) -> None:
    daemon.script = script
    with pytest.raises(DaemonLostError, match="lost the daemon during 'id'") as caught:
        client.call("id")
    assert caught.value.hint


def test_a_silent_daemon_is_given_up(daemon: ScriptedDaemon, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_SLACK", 0.05)
    released = threading.Event()
    daemon.script = lambda _sock: released.wait(10)
    with pytest.raises(DaemonLostError, match="it does not answer"):
        client.call("id", timeout=0.05)
    released.set()


def test_dropping_a_stream_closes_the_connection(daemon: ScriptedDaemon, client: Client) -> None:
    closed = threading.Event()

    def script(sock: socket.socket) -> None:
        chunks(b'{"N":1}\n', end=False)(sock)
        if sock.recv(1) == b"":
            closed.set()

    daemon.script = script
    stream = client.stream("ping")
    next(stream)
    stream.close()
    assert closed.wait(10)


def test_no_socket_means_no_daemon(tmp_path: Path) -> None:
    client = Client(tmp_path / "api.sock")
    assert not client.is_running()
    with pytest.raises(DaemonNotRunningError, match="no daemon is running") as caught:
        client.call("id")
    assert isinstance(caught.value, UnavailableError)
    assert caught.value.hint == "run `ipvcs daemon`"


def test_a_socket_that_a_killed_daemon_left_means_no_daemon(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("d") / "api.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(str(path))
    assert not Client(path).is_running()
    with pytest.raises(DaemonNotRunningError):
        next(Client(path).stream("ping"))


def test_a_daemon_too_busy_to_accept_runs(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "_CONNECT_TIMEOUT", 0.05)
    monkeypatch.setattr(client_module, "_BUSY_PATIENCE", 0.5)
    path = tmp_path_factory.mktemp("d") / "api.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener, socket.socket(socket.AF_UNIX) as other:
        listener.bind(str(path))
        listener.listen(0)
        other.connect(str(path))
        assert Client(path).is_running()
        with pytest.raises(DaemonBusyError):
            Client(path).call("id")


def test_a_path_that_no_socket_has_room_for_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(IpvcsError, match="cannot connect to the daemon"):
        Client(tmp_path / ("x" * 200)).call("id")


def test_a_running_daemon_runs(daemon: ScriptedDaemon, client: Client) -> None:
    assert client.is_running()


def test_a_command_that_uses_the_client_loads_no_network_code() -> None:
    code = (
        "import sys, ipvcs.client.client, ipvcs.client.socket_path\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'anyio', 'asyncio', 'starlette', 'uvicorn', 'cryptography', 'lmdb'}))\n"
        "print(*[name for name in sys.modules if name.startswith('ipvcs.node')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
