"""The ASGI application of a daemon's API: `/api/v0/<command>`, as Kubo routes it.

Only POST is served, so that a link or an image in a web page can do nothing; other methods get 405 and unknown commands
404, both in Kubo's words. Trailing arguments in the path, which Kubo still takes, are not taken.

Spec: https://docs.ipfs.tech/reference/kubo/rpc/
"""

from collections.abc import Callable, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from ipvcs.api import (
    rpc_bitswap,
    rpc_bootstrap,
    rpc_daemon,
    rpc_fetch,
    rpc_id,
    rpc_log,
    rpc_name,
    rpc_ping,
    rpc_push,
    rpc_routing,
    rpc_stats,
    rpc_swarm,
)
from ipvcs.api.command import Command
from ipvcs.api.endpoint import Endpoint
from ipvcs.api.node_services import NodeServices

PREFIX: Final = "/api/v0"
COMMANDS: Final[tuple[Command, ...]] = (
    *rpc_id.COMMANDS,
    *rpc_daemon.COMMANDS,
    *rpc_swarm.COMMANDS,
    *rpc_ping.COMMANDS,
    *rpc_bootstrap.COMMANDS,
    *rpc_log.COMMANDS,
    *rpc_fetch.COMMANDS,
    *rpc_bitswap.COMMANDS,
    *rpc_routing.COMMANDS,
    *rpc_name.COMMANDS,
    *rpc_push.COMMANDS,
    *rpc_stats.COMMANDS,
)


def build_app(node: NodeServices, *, shutdown: Callable[[], None], commands: Sequence[Command] = COMMANDS) -> Starlette:
    """Return the application that serves `commands` for `node`.

    Args:
        node: whose API it is.
        shutdown: what the command `shutdown` calls; must not wait.
        commands: the route table.
    """
    app = Starlette(
        routes=[
            Route(f"{PREFIX}/{command.path}", Endpoint(command, node, shutdown), methods=["POST"])
            for command in commands
        ],
        exception_handlers={404: _not_found, 405: _not_allowed},
    )
    app.router.redirect_slashes = False
    return app


def _not_found(_request: Request, _error: Exception) -> Response:
    return PlainTextResponse("404 page not found\n", 404)


def _not_allowed(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return PlainTextResponse("405 - Method Not Allowed\n", 405, error.headers)
