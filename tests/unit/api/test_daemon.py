"""The daemon's life with stand-ins for its parts: the order of things, signals at any time, bounded ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import anyio
import pytest

from ipvcs.api.daemon import DaemonOptions, ListeningNode, ServedApi, open_daemon, run_daemon
from ipvcs.api.idle import ClientCount
from ipvcs.api.in_process import InProcessDaemon
from ipvcs.api.readiness import ReadyPipe
from ipvcs.client.client import Client
from ipvcs.client.daemon_lock import DaemonRunningError, holder
from ipvcs.errors import IpvcsError
from ipvcs.node.identity.keys import PrivateKey, generate_key
from ipvcs.storage.home import Home, open_home
from tests.fakes.fake_host import FakeHost, FakeNetwork
from tests.unit.api.daemon_worker import FakeNode

KEY = generate_key()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with open_home(tmp_path / "home") as opened:
        yield opened


class Parts:
    """A node and an API that write down what happens to them."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.stop: Callable[[], None] = lambda: None
        self.fails = ""
        self.pushing: Iterator[bool] = iter(())

    @asynccontextmanager
    async def open_node(self, home: Home, _key: PrivateKey, listen: Sequence[str]) -> AsyncGenerator[ListeningNode]:
        assert holder(home.path) is not None  # nothing is bound before the home is ours
        self.note("node up")
        self.listen = list(listen)
        try:
            yield FakeNode(["/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4001"])
        finally:
            self.note("node down")

    @asynccontextmanager
    async def serve_api(
        self, _home: Home, _node: Any, _options: DaemonOptions, stop: Callable[[], None]
    ) -> AsyncGenerator[ServedApi]:
        self.note("api up")
        self.stop = stop
        self.clients = ClientCount(self._app)
        try:
            yield ServedApi(["/unix/there", "/ip4/127.0.0.1/tcp/5001"], self.clients)
        finally:
            self.note("api down")

    @asynccontextmanager
    async def accept_pushes(
        self, _home: Home, _node: Any, _options: DaemonOptions
    ) -> AsyncGenerator[Callable[[], bool]]:
        self.note("pushes up")
        try:
            yield lambda: next(self.pushing)
        finally:
            self.note("pushes down")

    async def _app(self, *_args: Any) -> None:
        pass

    def note(self, event: str) -> None:
        self.events.append(event)
        if event == self.fails:
            raise IpvcsError(f"{event} failed")


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.mark.anyio
async def test_everything_happens_in_order_and_back(home: Home, parts: Parts) -> None:
    async def stop_when_ready() -> None:
        while "ready" not in parts.events:
            await anyio.sleep(0)
        found = holder(home.path)
        assert found is not None
        assert (found.pid, found.api, found.command) == (os.getpid(), "/unix/there", False)
        parts.stop()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stop_when_ready)
        await run_daemon(
            home,
            KEY,
            DaemonOptions(),
            say=parts.note,
            ready=lambda: parts.note("ready"),
            ending=lambda: parts.note("ending"),
            open_node=parts.open_node,
            serve_api=parts.serve_api,
            accept_pushes=parts.accept_pushes,
        )
    assert parts.events == [
        "node up",
        "api up",
        "pushes up",
        "Swarm listening on /ip4/127.0.0.1/tcp/4001",
        "Swarm listening on /ip6/::1/tcp/4001",
        "API server listening on /unix/there",
        "API server listening on /ip4/127.0.0.1/tcp/5001",
        "Daemon is ready",
        "ready",
        "ending",
        "pushes down",
        "api down",
        "node down",
    ]
    assert holder(home.path) is None
    assert parts.listen == ["/ip4/0.0.0.0/tcp/4001", "/ip6/::/tcp/4001"]


@pytest.mark.anyio
@pytest.mark.parametrize("event", ["node up", "api up", "api down", "node down"])
async def test_a_part_that_fails_leaves_the_home_free(home: Home, parts: Parts, event: str) -> None:
    parts.fails = event
    with pytest.raises(IpvcsError, match=f"{event} failed"):
        async with open_daemon(home, KEY, DaemonOptions(), open_node=parts.open_node, serve_api=parts.serve_api):
            pass
    assert parts.events.count("node down") == (event != "node up")
    assert holder(home.path) is None


@pytest.mark.anyio
async def test_a_home_that_is_taken_is_not_touched(home: Home, parts: Parts) -> None:
    async with open_daemon(home, KEY, DaemonOptions(), open_node=parts.open_node, serve_api=parts.serve_api):
        other = Parts()
        with pytest.raises(DaemonRunningError):
            async with open_daemon(home, KEY, DaemonOptions(), open_node=other.open_node, serve_api=other.serve_api):
                pass
        assert other.events == []
    assert parts.events[-1] == "node down"


@pytest.mark.anyio
async def test_loopback_only_replaces_the_configured_addresses(home: Home, parts: Parts) -> None:
    options = DaemonOptions(loopback_only=True)
    async with open_daemon(home, KEY, options, open_node=parts.open_node, serve_api=parts.serve_api):
        pass
    assert parts.listen == ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]


@pytest.mark.anyio
async def test_an_idle_daemon_ends_unless_it_has_a_reason_to_stay(
    home: Home, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    stays = iter([True, True, False])
    monkeypatch.setattr(FakeNode, "has_reason_to_stay", lambda _node: next(stays))
    options = DaemonOptions(idle=0.05)
    with anyio.fail_after(5):
        await run_daemon(home, KEY, options, say=parts.note, open_node=parts.open_node, serve_api=parts.serve_api)
    assert next(stays, None) is None


@pytest.mark.anyio
async def test_an_idle_daemon_stays_while_somebody_pushes(home: Home, parts: Parts) -> None:
    parts.pushing = iter([True, True, False])
    with anyio.fail_after(5):
        await run_daemon(
            home,
            KEY,
            DaemonOptions(idle=0.05),
            say=parts.note,
            open_node=parts.open_node,
            serve_api=parts.serve_api,
            accept_pushes=parts.accept_pushes,
        )
    assert next(parts.pushing, None) is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("options", "accept", "served"),
    [
        (DaemonOptions(environ={}), True, True),
        (DaemonOptions(environ={}), False, False),
        (DaemonOptions(), True, False),
        (DaemonOptions(environ={}, within_command=True), True, False),
    ],
)
async def test_pushes_are_taken_by_a_daemon_that_may_start_processes_unless_its_owner_says_no(
    home: Home, parts: Parts, options: DaemonOptions, *, accept: bool, served: bool
) -> None:
    class PushedNode(FakeNode):
        swarm: FakeHost

    async with anyio.create_task_group() as tasks:
        host = PushedNode.swarm = FakeNetwork(tasks).host()
        home.config.set("Push.Accept", accept)

        @asynccontextmanager
        async def open_node(*_args: Any) -> AsyncGenerator[ListeningNode]:
            yield PushedNode([])

        async with open_daemon(home, KEY, options, open_node=open_node, serve_api=parts.serve_api):
            assert host.protocols() == (("/ipvcs/push/1.0.0",) if served else ())
        assert host.protocols() == ()


def start(tmp_path: Path, how: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.api.daemon_worker", str(tmp_path / "home"), how],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdout is not None
    assert line in iter(process.stdout.readline, "")


@pytest.mark.parametrize(
    ("how", "until", "status", "last", "least", "most"),
    [
        ("nothing", "Daemon is ready\n", 0, "ended\n", 0, 2),
        ("open-slowly", "opening\n", 0, "ended\n", 0, 2),
        ("close-slowly", "Daemon is ready\n", 0, "ended\n", 2, 5),
        ("hang", "Daemon is ready\n", 1, "", 3, 5),
    ],
)
def test_the_end_comes_in_time_whatever_the_parts_do(
    tmp_path: Path, how: str, until: str, status: int, last: str, least: float, most: float
) -> None:
    process = start(tmp_path, how)
    read_until(process, until)
    began = time.monotonic()
    process.terminate()
    out, errors = process.communicate(timeout=30)
    duration = time.monotonic() - began
    assert (process.returncode, out) == (status, last), errors
    assert "Traceback" not in errors
    assert least <= duration < most
    assert holder(tmp_path / "home") is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, "close-slowly")
    read_until(process, "Daemon is ready\n")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    began = time.monotonic()
    process.send_signal(number)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out, errors) == (128 + number, "", "")
    assert time.monotonic() - began < 1


def test_a_node_within_a_command_serves_it_and_leaves_nothing(
    home: Home, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real API, by a socket that is not in the home."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    node = InProcessDaemon.start(home, KEY, open_node=parts.open_node)
    try:
        assert Client(node.socket).call("log/ls")["Strings"]
        assert node.socket.stat().st_mode & 0o077 == 0
        found = holder(home.path)
        assert found is not None
        assert found.command
        with pytest.raises(DaemonRunningError, match="command with a node of its own"):
            InProcessDaemon.start(home, KEY, open_node=Parts().open_node)
    finally:
        node.close()
    node.close()
    assert parts.events == ["node up", "node down"]
    assert holder(home.path) is None
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_node_within_a_command_that_can_not_start_leaves_nothing(
    home: Home, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    parts.fails = "node up"
    with pytest.raises(IpvcsError, match="node up failed"):
        InProcessDaemon.start(home, KEY, open_node=parts.open_node)
    assert holder(home.path) is None
    assert list((tmp_path / "tmp").iterdir()) == []


def told(error: BaseException | None, *, ready: bool = False) -> list[dict[str, object]]:
    """Return what is read from the pipe of a daemon that was ready or not when its block ended with `error`."""
    reading, writing = os.pipe()
    with nullcontext() if error is None else pytest.raises(type(error)), ReadyPipe(writing) as pipe:
        if ready:
            pipe.ready()
        if error is not None:
            raise error
    with open(reading, "rb") as file:  # noqa: PTH123 - a descriptor
        return [json.loads(line) for line in file]


def test_readiness_or_the_reason_is_told_once() -> None:
    assert told(None, ready=True) == [{"ready": True}]
    assert told(IpvcsError("too late"), ready=True) == [{"ready": True}]
    assert told(IpvcsError("why", hint="how")) == [{"error": "why", "hint": "how"}]
    assert told(ExceptionGroup("g", [ExceptionGroup("h", [IpvcsError("why")])])) == [{"error": "why", "hint": None}]
    assert told(KeyboardInterrupt()) == [{"error": "KeyboardInterrupt", "hint": None}]
    assert told(None) == [{"error": "it ended at once", "hint": None}]


def test_a_reader_that_is_gone_is_no_trouble() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with ReadyPipe(writing) as pipe:
        assert not os.get_inheritable(writing)
        pipe.ready()
        pipe.ready()


def test_a_low_limit_on_open_files_is_raised() -> None:
    script = (
        "import resource as r; from ipvcs.api.daemon import _raise_file_limit;"
        "r.setrlimit(r.RLIMIT_NOFILE, (256, 4096)); _raise_file_limit(); print(r.getrlimit(r.RLIMIT_NOFILE)[0])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "4096\n"
