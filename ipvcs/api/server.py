"""Serves the API on sockets that are bound already: uvicorn, within our event loop and under our cancellation.

uvicorn likes to own its process. Here it does not touch signals, logging or the loop, wakes up only for connections,
and ends when it is cancelled: it stops accepting, tells commands under way to end (they answer with an error), and cuts
off what is left after `GRACE` seconds.

Spec: https://www.uvicorn.org/deployment/ ("Running programmatically")
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import anyio
import uvicorn
from anyio.abc import TaskStatus
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from ipvcs.api.auth import TokenGuard, load_token
from ipvcs.api.endpoint import ENDING
from ipvcs.api.framing import FramingGuard
from ipvcs.api.listen import ApiSocket, bind_tcp, bind_unix
from ipvcs.client.socket_path import SocketPlace

GRACE: Final = 1
"""Whole seconds, as uvicorn wants them: a part of the 5 s in which a daemon has to end."""
MAX_HEAD: Final = 32 * 1024
"""Bytes of a request's line and headers."""
HEAD_TIMEOUT: Final = 10.0
"""Seconds for a request's head to arrive, and for the next request on a connection that was kept."""
MAX_CONNECTIONS: Final = 128
"""On the Unix socket, and as many on all of TCP, so that those who knock at TCP can't lock the owner out."""
_BACKLOG: Final = 128
"""Connections that the kernel holds until we accept them: as many again as may be served."""


async def serve(
    app: ASGIApp, sockets: Sequence[socket.socket], *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """Serve `app` on `sockets` until cancelled, and then for `GRACE` seconds at most. The sockets are closed by that.

    `task_status` is told when connections are accepted. Runs on asyncio only.
    """
    ending = anyio.Event()
    guarded = FramingGuard(app)

    async def handing_on(scope: Scope, receive: Receive, send: Send) -> None:
        await guarded({**scope, "extensions": {**scope.get("extensions", {}), ENDING: ending}}, receive, send)

    server = _Server(
        uvicorn.Config(
            handing_on,
            http=_Protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=_BACKLOG,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=int(HEAD_TIMEOUT),
            timeout_graceful_shutdown=GRACE,
            h11_max_incomplete_event_size=MAX_HEAD,
        )
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_run, server, list(sockets))
        try:
            await server.ready.wait()
            task_status.started()
            await anyio.sleep_forever()
        finally:
            ending.set()
            server.stopping.set()


@asynccontextmanager
async def open_api(app: ASGIApp, home: Path, place: SocketPlace, tcp: Sequence[str] = ()) -> AsyncGenerator[list[str]]:
    """Serve `app` within the block on the Unix socket at `place` and the TCP addresses `tcp`; yield the multiaddrs.

    Over TCP each request must bear the home's token, which is made if there is none.

    Raises:
        ApiAddressError: an address that is not on loopback.
        ConflictError: an address in use. TokenError: a token file that protects nothing.
    """
    with ExitStack() as files:
        listeners = [*_closing(files, bind_tcp(tcp)), *_closing(files, [bind_unix(place)])]
        on_tcp, on_unix = listeners[:-1], listeners[-1:]
        guarded = TokenGuard(app, load_token(home)) if on_tcp else None
        async with anyio.create_task_group() as tasks:
            await tasks.start(serve, app, [each.socket for each in on_unix])
            if guarded is not None:
                await tasks.start(serve, guarded, [each.socket for each in on_tcp])
            try:
                yield [each.address for each in (*on_unix, *on_tcp)]
            finally:
                tasks.cancel_scope.cancel()


def _closing(stack: ExitStack, sockets: list[ApiSocket]) -> list[ApiSocket]:
    for each in sockets:
        stack.callback(each.close)
    return sockets


async def _run(server: "_Server", sockets: list[socket.socket]) -> None:
    with anyio.CancelScope(shield=True):  # it ends by `stopping`: a cancelled uvicorn would drop its connections
        await server.serve(sockets)


class _Server(uvicorn.Server):
    """uvicorn that is a guest: no signal handlers, no ticking."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()
        self.stopping = anyio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the daemon."""
        yield

    async def main_loop(self) -> None:
        """Wait to be stopped. uvicorn's own looks ten times a second whether it should be."""
        await self.on_tick(0)  # prepares what every response begins with
        self.ready.set()
        await self.stopping.wait()


class _Protocol(H11Protocol):
    """A connection that must bring a request's head within `HEAD_TIMEOUT`; uvicorn itself would wait for ever."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start waiting for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that is complete ends the waiting."""
        super().data_received(data)
        if self._head_timer is not None and self.cycle is not None and not self.cycle.response_complete:
            self._stop_waiting()

    def on_response_complete(self) -> None:
        """Start waiting for the next request."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._stop_waiting()
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
