"""A fake node, and its API without a server; deadlines pass on a mock clock."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp
from trio.testing import MockClock

from ipvcs.api.app import build_app
from ipvcs.api.node_services import NodeServices
from tests.unit.api.asgi import Response, request
from tests.unit.api.fake_node import FakeNode


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return ("trio", {"clock": MockClock(autojump_threshold=0)})


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path)


@pytest.fixture
def app(node: FakeNode) -> ASGIApp:
    services: NodeServices = node
    return build_app(services, shutdown=node.request_shutdown)


@pytest.fixture
def call(app: ASGIApp) -> Callable[[str], Awaitable[Response]]:
    """Post to a command: `call("swarm/peers?verbose=true")`."""

    async def post(target: str) -> Response:
        return await request(app, f"/api/v0/{target}")

    return post
