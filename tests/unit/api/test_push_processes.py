"""Pushes whose receivers are processes in earnest, scripts in place of the real one: what each kind of end comes to."""

import sys
import tempfile
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from anyio import EndOfStream

from ipvcs.api import receiver_process
from ipvcs.api.push_service import PUSH, PushService
from ipvcs.api.receiver_process import ReceiverProcesses
from ipvcs.git_bridge.push_replies import (
    MAX_REPLY,
    Answer,
    Failure,
    FailureCode,
    Progress,
    Reply,
    Result,
    Text,
    decode_reply,
)
from ipvcs.git_bridge.push_requests import Offer, Query, Request, Update, encode_request
from ipvcs.multiformats.cid import Cid
from ipvcs.node.network.delimited import DelimitedReader, encode_delimited
from ipvcs.node.network.interface import Stream
from ipvcs.objects.git.object_id import ObjectFormat, ObjectId
from ipvcs.storage.access import AccessList, Right
from ipvcs.storage.home import Home, open_home
from tests.fakes.fake_host import FakeNetwork

pytestmark = pytest.mark.anyio

UPDATE = Update(b"refs/heads/main", None, ObjectId(bytes(20)), cid=Cid.of(bytes(32)))
OFFER = Offer((b"team",), b"k" * 16, ObjectFormat.SHA1, 1, "unixfs-v1-2025", (UPDATE,))
_ROOT = Path(__file__).parents[3]
_MEMORY = Path("/dev/shm")
HEAD = """\
import json, os, signal, sys, time
sys.path.append(sys.argv.pop(1))
from ipvcs.git_bridge.push_replies import *
from ipvcs.git_bridge.push_requests import *
from ipvcs.node.network.delimited import encode_delimited
def say(reply):
    sys.stdout.buffer.write(encode_delimited(encode_reply(reply)))
    sys.stdout.buffer.flush()
order = json.loads(sys.stdin.buffer.readline())
offer = decode_request(sys.stdin.buffer.read())
say(Progress(str(os.getpid())))
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def home() -> Iterator[Home]:
    with (
        tempfile.TemporaryDirectory(prefix="ipvcs-", dir=_MEMORY if _MEMORY.is_dir() else None) as path,
        open_home(Path(path) / "home") as home,
    ):
        yield home


class World:
    """A service, and a pusher who may push at `/team`."""

    def __init__(self, network: FakeNetwork, home: Home, script: str) -> None:
        self.owner, self.pusher = network.host(), network.host()
        command = [sys.executable, "-P", "-c", HEAD + script, str(_ROOT)]
        self.receivers = ReceiverProcesses(home.path, Path("/the/socket"), {}, command=command)
        self.service = PushService(self.owner, home, self.receivers.run)
        self.connection, _its_other_end = self.pusher.link(self.owner)
        AccessList(home.datastore).add(self.pusher.peer_id, (b"team",), [Right.UPDATE])

    async def ask(self, request: Request) -> tuple[Stream, DelimitedReader]:
        stream = await self.connection.open_stream([PUSH])
        await stream.send(encode_delimited(encode_request(request)))
        return stream, DelimitedReader(stream, MAX_REPLY)

    async def replies(self, request: Request) -> list[Reply]:
        _stream, reader = await self.ask(request)
        found: list[Reply] = []
        try:
            while True:
                found.append(decode_reply(await reader.receive()))
        except EndOfStream:
            return found

    async def wait_idle(self) -> None:
        while self.service.is_busy:
            await anyio.sleep(0.01)


@asynccontextmanager
async def serving(home: Home, script: str) -> AsyncGenerator[World]:
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            world = World(FakeNetwork(tasks), home, script)
            async with world.service:
                yield world


def is_running(progress: Reply) -> bool:
    """Whether the process that said who it is still runs."""
    assert isinstance(progress, Progress)
    return Path(f"/proc/{progress.stage}").exists()


async def test_a_push_goes_from_the_pusher_to_a_process_and_back(home: Home) -> None:
    script = (
        "say(Text(f'{order[\"pusher\"]} at {offer.path}\\n'.encode()))\n"
        "say(Answer((Result(offer.updates[0].name, 'fetch first'),), None))\n"
        "say(Text(b'post-receive\\n'))\n"
    )
    async with serving(home, script) as world:
        progress, *said = await world.replies(OFFER)
        assert said == [
            Text(f"{world.pusher.peer_id} at (b'team',)\n".encode()),
            Answer((Result(b"refs/heads/main", "fetch first"),), None),
            Text(b"post-receive\n"),
        ]
        await world.wait_idle()
        assert not is_running(progress)


async def test_a_query_starts_no_process(home: Home) -> None:
    async with serving(home, "") as world:
        (standing,) = await world.replies(Query((b"team",)))
        assert not world.service.is_busy
        assert standing


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("sys.exit(0)", "it ended with status 0"),
        ("raise ValueError", "it ended with status 1"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "it was ended by signal 9"),
        ("sys.stdout.write('nonsense' * 99); sys.stdout.flush(); time.sleep(100)", "it said what it should not"),
    ],
)
async def test_a_process_that_breaks_off_is_a_failure(home: Home, script: str, said: str) -> None:
    async with serving(home, script) as world:
        progress, failure = await world.replies(OFFER)
        assert isinstance(failure, Failure)
        assert failure.code is FailureCode.FAILED
        assert said in failure.message
        await world.wait_idle()
        assert not is_running(progress)


STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsay(Text(b'ignoring'))\nwhile True: time.sleep(100)"


@pytest.mark.parametrize("how", ["the pusher leaves", "time is over", "the service ends"])
async def test_a_process_that_does_not_want_to_end_is_killed(
    home: Home, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(receiver_process, "GRACE", 0.3)
    home.config.set("Push.Timeout", 1 if how == "time is over" else 3600)
    async with serving(home, STUBBORN) as world:
        stream, reader = await world.ask(OFFER)
        progress = decode_reply(await reader.receive())
        assert decode_reply(await reader.receive()) == Text(b"ignoring")
        assert is_running(progress)
        if how == "the pusher leaves":
            stream.reset()
        elif how == "time is over":
            failure = decode_reply(await reader.receive())
            assert isinstance(failure, Failure)
            assert failure.code is FailureCode.LIMIT
        if how != "the service ends":
            await world.wait_idle()
    assert not is_running(progress)


async def test_a_process_that_floods_waits_for_its_pusher_and_goes_with_him(home: Home) -> None:
    async with serving(home, "while True: say(Text(bytes(60_000)))") as world:
        stream, reader = await world.ask(OFFER)
        progress = decode_reply(await reader.receive())
        for _ in range(100):
            assert decode_reply(await reader.receive()) == Text(bytes(60_000))
        stream.reset()
        await world.wait_idle()
        assert not is_running(progress)
