"""Receivers as processes: what they get, what is heard of them, and that nothing of them is left."""

import json
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio import EndOfStream

from ipvcs.api import receiver_process
from ipvcs.api.receiver_process import MAX_WORDS, Order, Receiver, ReceiverProcesses, ReceiverStartError
from ipvcs.multiformats.multiaddr import Multiaddr
from tests.fakes.memory_network import key_of

pytestmark = pytest.mark.anyio

PUSHER = key_of("pusher").peer_id
ORDER = Order(PUSHER, Multiaddr.parse("/ip4/10.0.0.1/tcp/4001"), b"\x00request\n\xff")
ENVIRON = {
    "PATH": os.environ["PATH"],
    "GIT_DIR": "/elsewhere",
    "IPVCS_NO_DAEMON": "1",
    "IPVCS_PASSPHRASE": "secret",
    "IPVCS_PASSPHRASE_FILE": "/secret",
    "IPVCS_PATH": "/another/home",
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def processes(code: str, home: Path = Path("/the/home")) -> ReceiverProcesses:
    """Receivers that run `code`, which finds the usual modules imported."""
    head = "import json, os, signal, subprocess, sys, time\n"
    return ReceiverProcesses(home, Path("/the/socket"), ENVIRON, command=[sys.executable, "-c", head + code])


@asynccontextmanager
async def running(code: str, order: Order = ORDER) -> AsyncGenerator[Receiver]:
    with anyio.fail_after(30):
        async with processes(code).run(order) as receiver:
            yield receiver


async def read(receiver: Receiver) -> bytes:
    data = b""
    try:
        while True:
            data += await receiver.output.receive()
    except EndOfStream:
        return data


async def read_line(receiver: Receiver) -> bytes:
    data = b""
    while not data.endswith(b"\n"):
        data += await receiver.output.receive()
    return data


def is_alive(pid: int) -> bool:
    """Whether a process still runs: one that nobody has taken note of does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def wait_dead(pid: int) -> None:
    with anyio.fail_after(10):
        while is_alive(pid):
            await anyio.sleep(0.01)


async def test_a_receiver_gets_a_line_of_json_the_request_and_the_end() -> None:
    async with running("sys.stdout.buffer.write(sys.stdin.buffer.read())") as receiver:
        head, _, request = (await read(receiver)).partition(b"\n")
        assert json.loads(head) == {
            "home": "/the/home",
            "socket": "/the/socket",
            "pusher": str(PUSHER),
            "address": "/ip4/10.0.0.1/tcp/4001",
        }
        assert request == ORDER.request
        assert await receiver.wait_ended() == "it ended with status 0"


async def test_a_home_whose_path_is_no_text_is_told_as_it_is() -> None:
    home = Path(os.fsdecode(b"/the/h\xff\xf6me"))
    code = "print(os.fsencode(json.loads(sys.stdin.readline())['home']).hex(), os.environb[b'IPVCS_PATH'].hex())"
    with anyio.fail_after(30):
        async with processes(code, home).run(ORDER) as receiver:
            assert (await read(receiver)).split() == [b"/the/h\xff\xf6me".hex().encode()] * 2


async def test_a_receiver_has_its_own_session_directory_and_environment_without_secrets_or_git() -> None:
    code = "print(json.dumps([os.getpid() == os.getsid(0), os.getcwd(), dict(os.environ)]))"
    async with running(code) as receiver:
        leads, directory, environ = json.loads(await read(receiver))
    assert leads
    assert directory == "/"
    environ.pop("LC_CTYPE", None)  # Python's own doing
    assert environ == {"PATH": os.environ["PATH"], "IPVCS_PATH": "/the/home", "PWD": "/"}


async def test_a_receiver_has_none_of_the_descriptors_of_the_daemon() -> None:
    reading, writing = os.pipe()
    try:
        os.set_inheritable(writing, True)
        async with running("print(len(os.listdir('/proc/self/fd')) - 1)") as receiver:
            assert await read(receiver) == b"3\n"
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("sys.exit(3)", "it ended with status 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "it was ended by signal 9"),
        ("os._exit(0)", "it ended with status 0"),
    ],
)
async def test_how_a_receiver_ended_is_told(code: str, how: str) -> None:
    async with running(code, Order(PUSHER, ORDER.address, bytes(1024 * 1024))) as receiver:  # which it does not read
        assert await read(receiver) == b""
        assert await receiver.wait_ended() == how


async def test_a_command_that_is_not_there_is_an_error() -> None:
    receivers = ReceiverProcesses(Path("/the/home"), Path("/the/socket"), {}, command=["/nonexistent"])
    with pytest.raises(ReceiverStartError, match="cannot start a receiver: No such file or directory"):
        async with receivers.run(ORDER):
            raise AssertionError("nothing runs")


async def test_what_nobody_reads_waits_in_the_process() -> None:
    code = "signal.signal(signal.SIGALRM, lambda *_: os._exit(7)); signal.alarm(1)\nos.write(1, bytes(4 << 20))"
    async with running(code) as receiver:
        with anyio.fail_after(20):
            assert await receiver.wait_ended() == "it ended with status 7"
        assert 0 < len(await read(receiver)) < 1 << 20


async def test_lines_of_standard_error_go_to_the_log_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    code = "sys.stderr.write('first\\n\\n' + 'x' * 5000 + '\\n' + ('y' * 99 + '\\n') * 5000); sys.stderr.write('last')"
    async with running(code) as receiver:
        assert await read(receiver) == b""
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "receiver: first"
    assert messages[1].startswith("receiver: xxx")
    assert "receiver: " + "y" * 99 in messages
    assert messages[-1].endswith("... (the rest is left out)")
    assert sum(map(len, messages)) < 2 * MAX_WORDS
    assert {str(PUSHER)} == {record.__dict__["pusher"] for record in caplog.records}


STUBBORN = "signal.signal(signal.SIGTERM, lambda *_: os.write(1, b'no')); print(os.getpid(), flush=True)\n"
FOR_EVER = "while True: time.sleep(100)"
WITH_CHILD = "child = subprocess.Popen(['sleep', '1000']); print(child.pid, flush=True)\n"


class GoneError(Exception):
    """The pusher has left."""


async def test_a_block_that_is_left_by_an_error_ends_the_process_politely() -> None:
    code = f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(5)); print(os.getpid(), flush=True)\n{FOR_EVER}"
    try:
        async with running(code) as receiver:
            pid = int(await read_line(receiver))
            raise GoneError
    except* GoneError:
        pass
    assert not is_alive(pid)
    assert await receiver.wait_ended() == "it ended with status 5"


async def test_a_block_that_is_cancelled_ends_the_process_before_it_is_left() -> None:
    with anyio.CancelScope() as scope:
        async with running(f"print(os.getpid(), flush=True)\n{FOR_EVER}") as receiver:
            pid = int(await read_line(receiver))
            scope.cancel()
            await anyio.sleep_forever()
    assert not is_alive(pid)


@pytest.mark.parametrize("how", ["left", "abandoned", "cancelled"])
async def test_what_ignores_the_end_is_killed_in_time_with_all_that_it_has_started(
    monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(receiver_process, "GRACE", 0.5)
    began = anyio.current_time()
    with anyio.CancelScope() as scope:
        async with running(WITH_CHILD + STUBBORN + FOR_EVER) as receiver:
            lines = b""
            while lines.count(b"\n") < 2:
                lines += await receiver.output.receive()
            child, pid = map(int, lines.split())
            if how == "abandoned":
                receiver.abandon()
            elif how == "cancelled":
                scope.cancel()
                await anyio.sleep_forever()
    seconds = anyio.current_time() - began
    assert not is_alive(pid)
    await wait_dead(child)
    assert (1.0 if how == "left" else 0.5) <= seconds < 20
    assert await receiver.wait_ended() == "it was ended by signal 9"


async def test_what_a_receiver_leaves_behind_does_not_keep_anybody_waiting() -> None:
    """It has the outputs open, so they would not end."""
    async with running(WITH_CHILD) as receiver:
        child = int(await read(receiver))
        assert await receiver.wait_ended() == "it ended with status 0"
    await wait_dead(child)


async def test_one_that_has_left_the_group_keeps_nobody_waiting_but_for_its_output() -> None:
    code = "child = subprocess.Popen(['sleep', '1000'], stdout=2, start_new_session=True); print(child.pid, flush=True)"
    began = anyio.current_time()
    async with running(code) as receiver:
        child = int(await read(receiver))
    try:
        assert anyio.current_time() - began < 20
        assert is_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)
    await wait_dead(child)


async def test_a_daemon_that_ends_has_less_patience_also_with_those_that_are_about_to_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiver_process, "HURRY", 0.3)
    receivers = processes(STUBBORN + FOR_EVER)
    pids: list[int] = []
    ending = anyio.Event()

    async def run(scope: anyio.CancelScope) -> None:
        with scope:
            async with receivers.run(ORDER) as receiver:
                pids.append(int(await read_line(receiver)))
                ending.set()
                await anyio.sleep_forever()

    began = anyio.current_time()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            first, second = anyio.CancelScope(), anyio.CancelScope()
            tasks.start_soon(run, first)
            await ending.wait()
            first.cancel()  # which would take five seconds
            await anyio.sleep(0.1)
            ending = anyio.Event()
            tasks.start_soon(run, second)
            await ending.wait()
            receivers.hurry()
            second.cancel()
    assert anyio.current_time() - began < 4.9
    assert not any(map(is_alive, pids))


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_many_come_and_go_and_leave_no_descriptor() -> None:
    async def once(code: str) -> None:
        async with running(code) as receiver:
            await read(receiver)

    await once("print(1)")
    before = descriptors()
    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(once, "print(1)")
            tasks.start_soon(once, "os._exit(1)")
    assert descriptors() == before


def test_the_receiver_is_started_from_where_this_program_is() -> None:
    receivers = ReceiverProcesses(Path("/the/home"), Path("/the/socket"), {})
    python, *options, launcher, root = receivers._command
    assert python == sys.executable
    assert options == ["-P", "-c"]
    assert "from ipvcs.cli.script import push_receiver; push_receiver()" in launcher
    assert Path(root) == Path(__file__).parents[3]
