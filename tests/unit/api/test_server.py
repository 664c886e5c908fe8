"""The API on real sockets, by uvicorn, with our client at the other end where it can be."""

import http.client
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
import uvicorn
from starlette.types import ASGIApp

from ipvcs.api import server as server_module
from ipvcs.api.app import COMMANDS, build_app
from ipvcs.api.auth import load_token
from ipvcs.api.command import Call, Command
from ipvcs.api.listen import ApiAddressError
from ipvcs.api.server import GRACE, MAX_HEAD, open_api
from ipvcs.client import client as client_module
from ipvcs.client.client import Client, DaemonBusyError, RemoteCommandError
from ipvcs.client.socket_path import DaemonNotRunningError, find_socket, plan_socket
from tests.unit.api.fake_node import FakeNode

pytestmark = pytest.mark.anyio
SLACK = 2.0
"""Seconds that a machine under load may take for what takes none."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose path is short."""
    return tmp_path_factory.mktemp("h")


class Slow:
    """A command that stays until it is cancelled, and says so."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self, call: Call) -> None:
        if call.arguments.flag("stream"):
            await call.emit({"N": 1})
        self.began.set()
        try:
            await anyio.sleep_forever()
        finally:
            self.cancelled.set()


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def app(node: FakeNode, slow: Slow) -> ASGIApp:
    return build_app(node, shutdown=node.request_shutdown, commands=[*COMMANDS, Command("slow", slow)])


@asynccontextmanager
async def serving(app: ASGIApp, home: Path, tcp: list[str] | None = None) -> AsyncGenerator[list[str]]:
    async with open_api(app, home, plan_socket(home, None, os.getuid()), tcp or []) as addresses:
        yield addresses


async def in_thread(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return await anyio.to_thread.run_sync(partial(function, *args, **options), abandon_on_cancel=True)


async def wait(event: threading.Event) -> bool:
    return bool(await in_thread(event.wait, SLACK))


async def test_the_client_calls_and_is_answered(app: ASGIApp, home: Path, node: FakeNode) -> None:
    async with serving(app, home) as addresses:
        client = Client(find_socket(home))
        assert addresses == [f"/unix{home.resolve()}/api.sock"]
        assert await in_thread(client.is_running)
        assert (await in_thread(client.call, "id"))["ID"] == str(node.peer_id)
        with pytest.raises(RemoteCommandError, match="argument 'address' is required") as caught:
            await in_thread(client.call, "swarm/connect")
        assert caught.value.exit_code == 129
        with pytest.raises(RemoteCommandError, match="does not know the command 'nothing'"):
            await in_thread(client.call, "nothing")
    assert not client.is_running()
    assert list(home.iterdir()) == []


async def test_a_long_home_is_served_and_found(app: ASGIApp, home: Path, node: FakeNode) -> None:
    long_home = home / ("x" * 100) / ("y" * 100)
    long_home.mkdir(parents=True, mode=0o700)
    runtime = home / "run"
    runtime.mkdir(mode=0o700)
    async with open_api(app, long_home, plan_socket(long_home, runtime, os.getuid())):
        answer = await in_thread(Client(find_socket(long_home)).call, "id")
    assert answer["ID"] == str(node.peer_id)


async def test_a_streams_lines_come_as_they_are_emitted(app: ASGIApp, home: Path, slow: Slow) -> None:
    async with serving(app, home):
        stream = Client(find_socket(home)).stream("slow", stream=True)
        assert await in_thread(next, stream) == {"N": 1}
        assert not slow.cancelled.is_set()
        await in_thread(stream.close)
        assert await wait(slow.cancelled)


async def test_arguments_that_are_lines_come_behind_those_of_the_query_however_long(node: FakeNode, home: Path) -> None:
    async def echo(call: Call) -> None:
        for arg in call.arguments.args:
            await call.emit({"Arg": arg})

    command = Command("echo", echo, most=9, takes_lines=True)
    long = "x" * 1_400_000
    async with serving(build_app(node, shutdown=node.request_shutdown, commands=[command]), home):
        stream = Client(find_socket(home)).stream("echo", "a b", lines=[long, "c"])
        assert await in_thread(list, stream) == [{"Arg": "a b"}, {"Arg": long}, {"Arg": "c"}]


async def test_a_command_is_cancelled_when_the_connection_closes(app: ASGIApp, home: Path, slow: Slow) -> None:
    async with serving(app, home):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(find_socket(home)))
            sock.sendall(b"POST /api/v0/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            assert await wait(slow.began)
            assert not slow.cancelled.is_set()
        assert await wait(slow.cancelled)


async def test_an_interrupted_command_line_cancels_what_it_asked_for(app: ASGIApp, home: Path, slow: Slow) -> None:
    code = (
        "import sys; from pathlib import Path; from ipvcs.client.client import Client\n"
        "Client(Path(sys.argv[1])).call('slow')"
    )
    async with serving(app, home):
        with subprocess.Popen(
            [sys.executable, "-c", code, str(find_socket(home))], stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                assert await in_thread(slow.began.wait, 30)
                assert not slow.cancelled.is_set()
                process.send_signal(signal.SIGINT)
                assert await wait(slow.cancelled)
                _, errors = await in_thread(process.communicate, timeout=30)
            finally:
                process.kill()
        assert "KeyboardInterrupt" in errors


async def test_shutdown_is_answered_before_the_end(node: FakeNode, home: Path) -> None:
    stop = anyio.Event()
    app = build_app(node, shutdown=stop.set)
    async with anyio.create_task_group() as tasks:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await in_thread(Client(find_socket(home)).call, "shutdown"))

        async with serving(app, home):
            tasks.start_soon(ask)
            await stop.wait()
    assert answers == [{}]


@pytest.mark.parametrize("stream", [False, True])
async def test_commands_under_way_are_told_that_the_daemon_ends(
    app: ASGIApp, home: Path, slow: Slow, stream: bool
) -> None:
    def ask() -> list[Any]:
        client = Client(find_socket(home))
        return list(client.stream("slow", stream=stream))

    async with anyio.create_task_group() as tasks:
        errors: list[RemoteCommandError] = []

        async def run() -> None:
            with pytest.raises(RemoteCommandError) as caught:
                await in_thread(ask)
            errors.append(caught.value)

        async with serving(app, home):
            tasks.start_soon(run)
            assert await wait(slow.began)
            start = time.monotonic()
        assert time.monotonic() - start < GRACE + SLACK
    assert [str(error) for error in errors] == ["the daemon is ending"]


async def test_the_end_is_bounded_whatever_a_command_does(node: FakeNode, home: Path) -> None:
    began, release = threading.Event(), anyio.Event()

    async def stubborn(_call: Call) -> None:
        began.set()
        with anyio.CancelScope(shield=True):
            await release.wait()

    app = build_app(node, shutdown=node.request_shutdown, commands=[Command("stubborn", stubborn)])
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        async with serving(app, home):
            sock.connect(str(find_socket(home)))
            sock.sendall(b"POST /api/v0/stubborn HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            assert await wait(began)
            start = time.monotonic()
        assert GRACE <= time.monotonic() - start < GRACE + SLACK
        release.set()
        await anyio.sleep(0.05)


async def test_idle_connections_do_not_delay_the_end(app: ASGIApp, home: Path) -> None:
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def ask() -> int:
        connection.sock.connect(str(find_socket(home)))
        connection.request("POST", "/api/v0/version")
        response = connection.getresponse()
        response.read()
        return response.status

    async with serving(app, home):
        assert await in_thread(ask) == 200
        start = time.monotonic()
    assert time.monotonic() - start < GRACE
    connection.close()


async def test_signals_and_logging_stay_the_daemons(app: ASGIApp, home: Path) -> None:
    def state() -> list[Any]:
        logger = logging.getLogger("uvicorn.error")
        return [
            *(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)),
            *(list(each.handlers) for each in (logging.getLogger(), logger, logging.getLogger("uvicorn"))),
            *(each.level for each in (logging.getLogger(), logger)),
        ]

    before = state()
    async with serving(app, home):
        assert state() == before
    assert state() == before


async def test_nothing_wakes_up_while_nobody_asks(app: ASGIApp, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: list[int] = []
    original = uvicorn.Server.on_tick

    async def on_tick(self: uvicorn.Server, counter: int) -> bool:
        ticks.append(counter)
        return await original(self, counter)

    monkeypatch.setattr(uvicorn.Server, "on_tick", on_tick)
    async with serving(app, home):
        await anyio.sleep(0.35)
    assert ticks == [0]


async def read_to_end(sock: socket.socket) -> bytes:
    sock.settimeout(10)

    def read() -> bytes:
        found = b""
        while data := sock.recv(65536):
            found += data
        return found

    return bytes(await in_thread(read))


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /api/v0/version HTTP/1.1\r\nHost: x\r\n",
        b"POST /api/v0/version HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\nPOST",
    ],
)
async def test_a_request_that_does_not_come_is_not_waited_for(
    app: ASGIApp, home: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(server_module, "HEAD_TIMEOUT", 0.2)
    async with serving(app, home):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(find_socket(home)))
            sock.sendall(sent)
            start = time.monotonic()
            got = await read_to_end(sock)
            assert time.monotonic() - start < 0.2 + SLACK
            assert got.count(b"HTTP/1.1 200") == sent.count(b"\r\n\r\n")


async def test_a_command_may_take_longer_than_a_head(
    app: ASGIApp, home: Path, slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HEAD_TIMEOUT", 0.1)
    async with serving(app, home):
        with pytest.raises(RemoteCommandError, match="request timed out"):
            await in_thread(Client(find_socket(home)).call, "slow", timeout=0.4)


async def test_a_head_that_is_too_long_is_refused(app: ASGIApp, home: Path) -> None:
    async with serving(app, home):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(find_socket(home)))
            sock.sendall(b"POST /api/v0/version HTTP/1.1\r\nX-Long: " + b"x" * (MAX_HEAD + 10))
            assert (await read_to_end(sock)).startswith(b"HTTP/1.1 400")


async def test_more_connections_than_there_may_be_are_told_so(
    app: ASGIApp, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(client_module, "_BUSY_PATIENCE", 0.3)
    async with serving(app, home):
        idle = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
        for sock in idle:
            sock.connect(str(find_socket(home)))
        with pytest.raises(DaemonBusyError):
            await in_thread(Client(find_socket(home)).call, "version")
        for sock in idle:
            sock.close()
        await anyio.sleep(0.05)
        assert await in_thread(Client(find_socket(home)).call, "version")


async def test_a_client_waits_for_a_busy_daemon(app: ASGIApp, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    async with serving(app, home), anyio.create_task_group() as tasks:
        idle = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
        for sock in idle:
            sock.connect(str(find_socket(home)))

        async def leave() -> None:
            await anyio.sleep(0.5)
            for sock in idle:
                sock.close()

        tasks.start_soon(leave)
        assert await in_thread(Client(find_socket(home)).call, "version")


async def test_a_second_api_on_the_same_socket_is_refused(app: ASGIApp, home: Path) -> None:
    async with serving(app, home):
        with pytest.raises(Exception, match="somebody listens on"):
            async with serving(app, home):
                pytest.fail("it was served twice")
        assert await in_thread(Client(find_socket(home)).call, "version")


async def test_no_daemon_runs_before_and_after(app: ASGIApp, home: Path) -> None:
    client = Client(find_socket(home))
    with pytest.raises(DaemonNotRunningError):
        await in_thread(client.call, "version")
    async with serving(app, home):
        await in_thread(client.call, "version")
    with pytest.raises(DaemonNotRunningError):
        await in_thread(client.call, "version")


def ask_by_tcp(address: str, headers: dict[str, str], method: str = "POST") -> tuple[int, bytes]:
    _, _, host, _, port = address.split("/")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(method, "/api/v0/version", headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response.status, body


@pytest.mark.network
@pytest.mark.parametrize("address", ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"])
async def test_over_tcp_the_token_is_needed(app: ASGIApp, home: Path, address: str) -> None:
    async with serving(app, home, [address]) as (unix, tcp):
        bearer = {"Authorization": f"Bearer {load_token(home)}"}
        assert unix.startswith("/unix/")
        assert (await in_thread(ask_by_tcp, tcp, bearer))[0] == 200
        assert (await in_thread(ask_by_tcp, tcp, {}))[0] == 401
        assert (await in_thread(ask_by_tcp, tcp, {**bearer, "Host": "evil.example"}))[0] == 403
        assert (await in_thread(ask_by_tcp, tcp, {**bearer, "Origin": "https://evil.example"}))[0] == 403
        assert (await in_thread(ask_by_tcp, tcp, bearer, "GET"))[0] == 405
        assert await in_thread(Client(find_socket(home)).call, "version"), "the Unix socket needs none"
    assert [path.name for path in home.iterdir()] == ["api.token"]


@pytest.mark.network
async def test_connections_by_tcp_do_not_lock_the_owner_out(
    app: ASGIApp, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 3)
    async with serving(app, home, ["/ip4/127.0.0.1/tcp/0"]) as (_, tcp):
        port = int(tcp.rpartition("/")[2])
        knocking = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
        assert await in_thread(Client(find_socket(home)).call, "version")
        for sock in knocking:
            sock.close()


async def test_an_address_that_is_not_loopback_starts_nothing(app: ASGIApp, home: Path) -> None:
    with pytest.raises(ApiAddressError):
        async with serving(app, home, ["/ip4/0.0.0.0/tcp/0"]):
            pytest.fail("it was served to everybody")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("lengths", [b"Content-Length: 0\r\n", b"content-length: 5\r\n"])
async def test_a_request_with_two_ends_is_refused_and_nothing_behind_it_is_read(
    app: ASGIApp, home: Path, lengths: bytes
) -> None:
    smuggled = b"POST /api/v0/version HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    head = b"POST /api/v0/version HTTP/1.1\r\nHost: x\r\n" + lengths + b"Transfer-Encoding: chunked\r\n\r\n"
    async with serving(app, home):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(find_socket(home)))
            sock.sendall(head + b"0\r\n\r\n" + smuggled)
            answer = await read_to_end(sock)
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert answer.count(b"HTTP/1.1 ") == 1
        assert b"the request has both Content-Length and Transfer-Encoding" in answer
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:  # one of them is fine
            sock.connect(str(find_socket(home)))
            sock.sendall(head.replace(lengths, b"Connection: close\r\n") + b"0\r\n\r\n")
            assert (await read_to_end(sock)).startswith(b"HTTP/1.1 200 ")
