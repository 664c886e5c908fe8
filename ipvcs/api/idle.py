"""When a daemon that nobody asked to stay may end: once no client has wanted anything of it for a while."""

from collections.abc import Callable

import anyio
from starlette.types import ASGIApp, Receive, Scope, Send


class ClientCount:
    """Counts the API's requests: an ASGI application around another.

    A request is under way until its answer has been sent, so whoever follows a stream keeps the daemon.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._active = 0
        self._last: float | None = None
        self._all_answered = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        self._active += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._active -= 1
            self._last = anyio.current_time()
            if not self._active:
                self._all_answered.set()

    async def wait_idle(self, patience: float, stays: Callable[[], bool]) -> None:
        """Return once `patience` seconds have passed without a request; not while `stays()`, which is asked then."""
        since = anyio.current_time()
        while True:
            if self._active:
                self._all_answered = anyio.Event()
                await self._all_answered.wait()
            since = max(since, self._last or since)
            if (left := since + patience - anyio.current_time()) > 0:
                await anyio.sleep(left)
            elif stays():
                since = anyio.current_time()
            else:
                return
