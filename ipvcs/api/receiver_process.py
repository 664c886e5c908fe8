"""The receiver: the process that does the work of one push, so that a daemon's memory and time are not a pusher's.

    daemon ── stdin: a line of JSON {"home", "socket", "pusher", "address"}, then the request ──► receiver
       ▲                                                                                             │
       ├──────────── stdout: replies, each behind its size ──────────────────────────────────────────┤
       └──────────── stderr: lines for the daemon's log ─────────────────────────────────────────────┘

It is started as other processes of ours are (`git_bridge/blob_worker.py`, `client/autostart.py`): by the interpreter
and from the directory that this program runs from, without a variable of git's; in a session of its own, so that it can
be ended with all that it has started. Nothing outlives it: when it has ended, what is left of its group is killed, a
hook's background jobs included, unless they have made a session of their own.
"""

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import anyio
from anyio import BrokenResourceError, CancelScope, ClosedResourceError, EndOfStream
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

from ipvcs.client.autostart import daemon_environment
from ipvcs.errors import UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.multiformats.peer_id import PeerId

_log = logging.getLogger(__name__)

GRACE: Final = 5.0
"""Seconds to end in: by itself when it has said all, and after SIGTERM; then it is killed."""
HURRY: Final = 1.0
"""The same when the daemon ends, which has 3 s for all its goodbyes."""
MAX_WORDS: Final = 64 * 1024
"""Bytes of one receiver's standard error that go to the log; the rest is read and dropped."""
_MAX_LINE: Final = 2_000
_LAST_WORDS: Final = 0.5
"""Seconds for what it wrote last, if somebody else has its standard error open."""
_LAUNCHER: Final = (
    "import sys; sys.path.append(sys.argv.pop(1)); from ipvcs.cli.script import push_receiver; push_receiver()"
)
_SECRETS: Final = frozenset({"IPVCS_PASSPHRASE", "IPVCS_PASSPHRASE_FILE"})
"""It needs no key, and runs the owner's hooks on a stranger's behalf."""


class ReceiverStartError(UnavailableError):
    """No receiver could be started."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"cannot start a receiver: {reason}", hint="the log says more")


@dataclass(frozen=True, slots=True)
class Order:
    """What a receiver is to work on: an offer's message, as it came from `pusher`, connected from `address`."""

    pusher: PeerId
    address: Multiaddr
    request: bytes


class Receiver(Protocol):
    """A receiver at work."""

    @property
    def output(self) -> ByteReceiveStream:
        """Its replies, each behind its size; the end of the stream when it has ended."""

    async def wait_ended(self) -> str:
        """Return how it ended, as in "it ended with status 1"; after `GRACE` at the latest, that it did not."""

    def abandon(self) -> None:
        """It is of no use any more, and to be ended when the block is."""


RunReceiver: TypeAlias = Callable[[Order], AbstractAsyncContextManager[Receiver]]
"""Runs a receiver within a block, which may raise ReceiverStartError at first. After the block there is no process: it
has `GRACE` to end by itself, and is ended then; at once if it was abandoned, or the block is left by an error.
"""


class ReceiverProcesses:
    """Starts receivers for the pushes to one home. `run` is a `RunReceiver`."""

    def __init__(
        self, home: Path, socket: Path, environ: Mapping[str, str], *, command: Sequence[str] | None = None
    ) -> None:
        """Start receivers that work on `home` and speak to its daemon by `socket`.

        Args:
            home: an absolute path.
            socket: where the daemon's API is served.
            environ: the daemon's own environment.
            command: what to run; None: the receiver.
        """
        self._order = {"home": str(home), "socket": str(socket)}
        kept = {name: value for name, value in environ.items() if name not in _SECRETS}
        self._environ = daemon_environment(kept, home)
        root = str(Path(__file__).resolve().parents[2])
        self._command = list(command or (sys.executable, "-P", "-c", _LAUNCHER, root))
        self._grace = GRACE
        self._waiting: set[CancelScope] = set()

    @asynccontextmanager
    async def run(self, order: Order) -> AsyncGenerator[Receiver]:
        """See `RunReceiver`."""
        head = {**self._order, "pusher": str(order.pusher), "address": str(order.address)}
        data = json.dumps(head).encode() + b"\n" + order.request
        process = await self._start()
        assert process.stdin is not None
        assert process.stderr is not None
        running = _Running(process)
        said = anyio.Event()
        async with anyio.create_task_group() as tasks:
            # Who cancels us still has to see it end, and to hear why.
            watching, listening = CancelScope(shield=True), CancelScope(shield=True)
            tasks.start_soon(_within, watching, running.watch)
            tasks.start_soon(_within, listening, _log_words, process.stderr, order.pusher, said)
            tasks.start_soon(_feed, process.stdin, data)
            try:
                yield running
                if not running.is_abandoned:
                    await self._wait(running)
            finally:
                with CancelScope(shield=True):
                    await self._end(running)
                    with anyio.move_on_after(_LAST_WORDS):
                        await said.wait()
                    await _close(process)
                for scope in (watching, listening, tasks.cancel_scope):
                    scope.cancel()

    def hurry(self) -> None:
        """The daemon ends: from now on, receivers have `HURRY` to end in, those included that are about to."""
        self._grace = HURRY
        for scope in self._waiting:
            scope.deadline = min(scope.deadline, anyio.current_time() + HURRY)

    async def _start(self) -> Process:
        # Cancelled meanwhile, there would be a process that nobody knows of.
        with CancelScope(shield=True):
            try:
                return await anyio.open_process(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    cwd="/",
                    env=self._environ,
                    start_new_session=True,
                )
            except OSError as exc:
                raise ReceiverStartError(exc.strerror or str(exc)) from exc
        raise AssertionError("a shield passes errors on")

    async def _end(self, running: "_Running") -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if not running.ended.is_set():
                running.send_signal(number)
                await self._wait(running)
        if not running.ended.is_set():
            _log.error("a receiver that was killed does not end", extra={"pid": running.pid})

    async def _wait(self, running: "_Running") -> None:
        """Return when it has ended, after the grace at the latest."""
        with anyio.move_on_after(self._grace) as scope:
            self._waiting.add(scope)
            try:
                await running.ended.wait()
            finally:
                self._waiting.discard(scope)


class _Running:
    """One process."""

    def __init__(self, process: Process) -> None:
        assert process.stdout is not None
        self.output: ByteReceiveStream = process.stdout
        self.pid = process.pid
        self.ended = anyio.Event()
        self.is_abandoned = False
        self._process = process

    async def wait_ended(self) -> str:
        """See `Receiver`."""
        with anyio.move_on_after(GRACE):
            await self.ended.wait()
            await self._process.wait()
        status = self._process.returncode
        if status is None:
            return "it said no more, and did not end"
        return f"it was ended by signal {-status}" if status < 0 else f"it ended with status {status}"

    def abandon(self) -> None:
        """See `Receiver`."""
        self.is_abandoned = True

    async def watch(self) -> None:
        """Take note of its end, and end what it has left behind, which may have its outputs open."""
        try:
            ended = os.pidfd_open(self.pid)
        except OSError:  # it was quick, or this kernel has no such thing
            await self._process.wait()
        else:
            # Not by the event loop, whose own waiting may be for whoever has the process's outputs open (gh-119710).
            try:
                await anyio.wait_readable(ended)
            finally:
                os.close(ended)
        self.send_signal(signal.SIGKILL)
        self.ended.set()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to it and to all that it has started; to nobody, if there is nobody left."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, number)


async def _within(scope: CancelScope, function: Callable[..., Awaitable[None]], *args: Any) -> None:
    with scope:
        await function(*args)


async def _feed(stdin: ByteSendStream, data: bytes) -> None:
    with suppress(OSError, BrokenResourceError, ClosedResourceError):  # it has ended before it read all
        await stdin.send(data)
    with suppress(OSError, BrokenResourceError, ClosedResourceError):
        await stdin.aclose()


async def _log_words(stderr: ByteReceiveStream, pusher: PeerId, said: anyio.Event) -> None:
    """Hand on to the log what a receiver says there, line by line."""
    room, rest = MAX_WORDS, b""
    try:
        with suppress(EndOfStream, BrokenResourceError, ClosedResourceError):
            while True:
                data = await stderr.receive()
                if room > 0:
                    *lines, rest = (rest + data[:room]).split(b"\n")
                    for line in lines:
                        _log_line(line, pusher)
                    if len(rest) > _MAX_LINE:
                        _log_line(rest, pusher)
                        rest = b""
                    if (room := room - len(data)) <= 0:
                        rest += b"... (the rest is left out)"
    finally:
        _log_line(rest, pusher)
        said.set()


def _log_line(line: bytes, pusher: PeerId) -> None:
    if line:
        _log.warning("receiver: %s", line[:_MAX_LINE].decode(errors="replace"), extra={"pusher": str(pusher)})


async def _close(process: Process) -> None:
    """Let go of what belongs to a process that has ended."""
    with anyio.move_on_after(GRACE):
        await process.aclose()
