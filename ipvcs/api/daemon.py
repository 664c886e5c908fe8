"""The daemon: a home's node with the API in front of it, from the lock to the last line.

`open_daemon` is the composition, the same for a process of its own and for a node within a command (`in_process.py`);
`run_daemon` is the process: what it prints, which signals end it, when it may end by itself.

    lock the home ─▶ open the node, listen ─▶ serve the API, take pushes ─▶ "Daemon is ready" ─▶ … ─▶ and backwards

The end is bounded: what has not let go by `SHUTDOWN_TIMEOUT` is abandoned, since nothing that was reported as stored
depends on an orderly end.
"""

import asyncio
import logging
import os
import resource
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, Protocol

import anyio

from ipvcs.api.idle import ClientCount
from ipvcs.client.daemon_lock import DaemonLock
from ipvcs.client.socket_path import SocketPlace, plan_socket
from ipvcs.errors import UnavailableError
from ipvcs.multiformats.multiaddr import Multiaddr
from ipvcs.node.identity.keys import PrivateKey
from ipvcs.storage.home import Home

SHUTDOWN_TIMEOUT: Final = 3.0
"""Seconds for goodbyes to peers and clients; the promise is 5 s for all."""
_LAST_RESORT: Final = 4.0
"""Seconds after which a process that ends does end, whatever hangs."""
_FILES: Final = 8192
"""Open files that are enough: the most connections that are held, dialled or in their handshake, several times over."""
_HOME_PERIOD: Final = 2.0
"""Seconds between looks whether the home is still there."""
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_log = logging.getLogger(__name__)


class HomeGoneError(UnavailableError):
    """The home of a running daemon was deleted or moved away."""

    def __init__(self, home: Path) -> None:
        super().__init__(
            f"home '{home}' was deleted or moved away while its daemon ran",
            hint="move it back, or start a daemon for a new one",
        )
        self.home = home


class ListeningNode(Protocol):
    """What the daemon itself needs of a node."""

    def listen_addresses(self) -> Sequence[Multiaddr]:
        """Where it listens for peers, ports resolved, without `/p2p`."""

    def has_reason_to_stay(self) -> bool:
        """Whether it is of use without clients, as one that must keep a name alive."""


class OpenNode(Protocol):
    """Opens a home's node: `ipvcs.node.node.open_node`, or a test's."""

    def __call__(
        self, home: Home, private_key: PrivateKey, listen: Sequence[str], /
    ) -> AbstractAsyncContextManager[ListeningNode]:
        """Return a context manager within which the node is up, listening on `listen`."""


class ServeApi(Protocol):
    """Serves a node's API, or a test's stand-in for it."""

    def __call__(
        self, home: Home, node: Any, options: "DaemonOptions", stop: Callable[[], None], /
    ) -> AbstractAsyncContextManager["ServedApi"]:
        """Return a context manager within which the API is served; the RPC `shutdown` calls `stop`."""


class AcceptPushes(Protocol):
    """Takes other nodes' pushes to the home's name, or a test's stand-in for it."""

    def __call__(
        self, home: Home, node: Any, options: "DaemonOptions", /
    ) -> AbstractAsyncContextManager[Callable[[], bool]]:
        """Return a context manager within which pushes are taken; what it gives tells whether any may come."""


@dataclass(frozen=True, slots=True)
class ServedApi:
    """An API that is up: its addresses as multiaddrs, and who counts its clients."""

    addresses: Sequence[str]
    clients: ClientCount


@dataclass(frozen=True, slots=True)
class DaemonOptions:
    """What differs between a daemon that the user started, one that a command started, and a node within a command."""

    socket: Path | None = None
    """Where the API's socket is bound; None: where the home's clients look for it."""
    runtime: Path | None = None
    """The user's runtime directory, for the socket of a home whose path is too long."""
    tcp: bool = True
    """Whether the API is served on `Addresses.API` too."""
    loopback_only: bool = False
    """Whether peers are listened for on this machine's own addresses alone."""
    idle: float | None = None
    """Seconds without clients after which the daemon ends by itself; None: never."""
    within_command: bool = False
    """Whether the node is part of a command, and ends with it."""
    environ: Mapping[str, str] | None = None
    """For the processes that it starts to work on pushes; None: it starts none, and takes no pushes."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that is up. `stop` is set by whoever wants it to end."""

    swarm_addresses: Sequence[str]
    api: ServedApi
    stop: anyio.Event
    has_reason_to_stay: Callable[[], bool]
    """Tells whether it must not end although nobody asks for anything."""
    is_home_there: Callable[[], bool]
    """Tells whether the home is still where it was."""


@asynccontextmanager
async def open_daemon(
    home: Home,
    private_key: PrivateKey,
    options: DaemonOptions,
    *,
    open_node: OpenNode | None = None,
    serve_api: ServeApi | None = None,
    accept_pushes: AcceptPushes | None = None,
) -> AsyncGenerator[Daemon]:
    """Run the node of `home` and its API within the block; leaving it takes `SHUTDOWN_TIMEOUT` at most.

    Raises:
        DaemonRunningError: another process runs this home's node.
        ListenError: an address can't be bound.
    """
    stop = anyio.Event()
    with DaemonLock.acquire(home.path, command=options.within_command) as lock:
        listen = _listen_addresses(home, loopback_only=options.loopback_only)
        with anyio.CancelScope() as ending:
            async with (
                (open_node or _open_node)(home, private_key, listen) as node,
                (serve_api or _serve_api)(home, node, options, stop.set) as api,
                (accept_pushes or _accept_pushes)(home, node, options) as takes_pushes,
            ):
                lock.publish_api(api.addresses[0])
                try:
                    addresses = [str(addr) for addr in node.listen_addresses()]
                    stays = partial(_stays, node, takes_pushes)
                    yield Daemon(addresses, api, stop, stays, lambda: lock.is_in_place)
                finally:
                    ending.shield = True  # who cancels us wants an end, but may not deny peers their goodbye
                    ending.deadline = anyio.current_time() + SHUTDOWN_TIMEOUT
        if ending.cancelled_caught:
            _log.warning("the end took too long, what was left is abandoned")


async def run_daemon(
    home: Home,
    private_key: PrivateKey,
    options: DaemonOptions,
    *,
    say: Callable[[str], None],
    ready: Callable[[], None] = lambda: None,
    ending: Callable[[], None] = lambda: None,
    open_node: OpenNode | None = None,
    serve_api: ServeApi | None = None,
    accept_pushes: AcceptPushes | None = None,
) -> None:
    """Run the process's daemon until a signal, the RPC `shutdown` or idleness ends it.

    `say` gets the lines for standard output and must not raise; `ready` is called after the last one, and `ending`
    when the end begins. A second signal ends the process at once.

    Raises:
        DaemonRunningError, ListenError: as `open_daemon`.
        HomeGoneError: somebody deleted the home, or moved it away.
    """
    is_gone = False
    _raise_file_limit()
    with anyio.CancelScope() as running, _ending_by_signals(running, ending):
        async with open_daemon(
            home, private_key, options, open_node=open_node, serve_api=serve_api, accept_pushes=accept_pushes
        ) as daemon:
            for addr in daemon.swarm_addresses:
                say(f"Swarm listening on {addr}")
            for address in daemon.api.addresses:
                say(f"API server listening on {address}")
            say("Daemon is ready")
            ready()
            is_gone = await _wait_for_end(daemon, options)
            ending()
    if is_gone:
        raise HomeGoneError(home.path)


def end_at_last() -> None:
    """See to it that this process, which is about to end, does so in time: a thread may hang in the disk or in DNS."""
    watchdog = threading.Timer(_LAST_RESORT, _give_up)
    watchdog.daemon = True
    watchdog.start()


def _give_up() -> None:
    os.write(2, b"error: the daemon did not end in time, and is ended without goodbyes; nothing stored is lost\n")
    os._exit(1)


def _raise_file_limit() -> None:
    """Allow ourselves as many open files as the system lets us: a connection is one, and 1024 is a common default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _handled_signals() -> list[signal.Signals]:
    """Return the signals that end us; ignored ones, as under nohup(1), stay ignored."""
    return [number for number in _ENDING if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def _ending_by_signals(running: anyio.CancelScope, ending: Callable[[], None]) -> Iterator[None]:
    """Let signals cancel `running`, the second one end the process at once.

    The handlers are Python's, not the event loop's: they run, and `ending` with them, while the loop is busy with a
    single callback.
    """
    loop = asyncio.get_running_loop()
    received: list[int] = []

    def cancel() -> None:
        _log.info("ending", extra={"signal": signal.Signals(received[0]).name})
        running.cancel()

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            os._exit(128 + number)
        ending()
        loop.call_soon_threadsafe(cancel)

    before = {number: signal.signal(number, handle) for number in _handled_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _wait_for_end(daemon: Daemon, options: DaemonOptions) -> bool:
    """Return when the RPC asks for the end, nobody has asked for anything for long enough, or the home is gone.

    Tells whether it is that: what was stored since would be stored nowhere.
    """
    is_gone = False

    async def end_when_idle(idle: float) -> None:
        await daemon.api.clients.wait_idle(idle, daemon.has_reason_to_stay)
        _log.info("ending, nobody needs it", extra={"idle": idle})
        daemon.stop.set()

    async def end_without_home() -> None:
        nonlocal is_gone
        while daemon.is_home_there():
            await anyio.sleep(_HOME_PERIOD)
        _log.error("ending, the home is gone")
        is_gone = True
        daemon.stop.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_without_home)
        if options.idle is not None:
            tasks.start_soon(end_when_idle, options.idle)
        await daemon.stop.wait()
        tasks.cancel_scope.cancel()
    return is_gone


def _stays(node: ListeningNode, takes_pushes: Callable[[], bool]) -> bool:
    return node.has_reason_to_stay() or takes_pushes()


def _listen_addresses(home: Home, *, loopback_only: bool) -> list[str]:
    """Return the addresses to listen on for peers: what is configured, or its likes on loopback."""
    configured: list[str] = home.config.get("Addresses.Swarm")
    if not loopback_only:
        return configured
    return ["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"]


def _open_node(home: Home, private_key: PrivateKey, listen: Sequence[str]) -> AbstractAsyncContextManager[Any]:
    from ipvcs.node.node import open_node

    return open_node(home, private_key, listen)


@asynccontextmanager
async def _serve_api(
    home: Home, node: Any, options: DaemonOptions, stop: Callable[[], None]
) -> AsyncGenerator[ServedApi]:
    from ipvcs.api.app import build_app
    from ipvcs.api.server import open_api

    clients = ClientCount(build_app(node, shutdown=stop))
    place = _socket_place(home, options)
    tcp = home.config.get("Addresses.API") if options.tcp else []
    async with open_api(clients, home.path, place, tcp) as addresses:
        yield ServedApi(addresses, clients)


@asynccontextmanager
async def _accept_pushes(home: Home, node: Any, options: DaemonOptions) -> AsyncGenerator[Callable[[], bool]]:
    if options.environ is None or options.within_command or not home.config.get("Push.Accept"):
        yield lambda: False
        return
    from ipvcs.api.push_service import PushService
    from ipvcs.api.receiver_process import ReceiverProcesses
    from ipvcs.storage.access import AccessList

    access = AccessList(home.datastore)
    receivers = ReceiverProcesses(home.path, _socket_place(home, options).path, options.environ)
    async with PushService(node.swarm, home, receivers.run) as service:
        try:
            yield lambda: service.is_busy or not access.is_empty()
        finally:
            receivers.hurry()


def _socket_place(home: Home, options: DaemonOptions) -> SocketPlace:
    if options.socket is not None:
        return SocketPlace(options.socket, None)
    return plan_socket(home.path, options.runtime, os.getuid())
