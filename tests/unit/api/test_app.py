from collections.abc import Awaitable, Callable

import pytest
from starlette.types import ASGIApp

from ipvcs.api.app import COMMANDS
from tests.unit.api.asgi import Response, request

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("path", ["/api/v0/id", "/api/v0/shutdown"])
async def test_only_post_is_served(app: ASGIApp, method: str, path: str) -> None:
    """go-ipfs-cmds' http/handler.go: "405 - Method Not Allowed", with Allow."""
    response = await request(app, path, method=method)
    assert (response.status, response.headers["allow"]) == (405, "POST")
    assert response.body in (b"405 - Method Not Allowed\n", b"")


@pytest.mark.parametrize("path", ["/", "/api/v0", "/api/v0/", "/api/v0/nothing", "/api/v0/id/", "/api/v1/id", "//id"])
async def test_an_unknown_command_is_404_in_text(app: ASGIApp, path: str) -> None:
    """go-ipfs-cmds' http/handler.go: ErrNotFound, "404 page not found"."""
    response = await request(app, path)
    assert (response.status, response.body) == (404, b"404 page not found\n")
    assert response.headers["content-type"].startswith("text/plain")


def test_every_command_has_a_path_of_its_own() -> None:
    paths = [command.path for command in COMMANDS]
    assert len(set(paths)) == len(paths)


async def test_options_that_no_command_knows_are_ignored(call: Callable[[str], Awaitable[Response]]) -> None:
    """Clients send some with every call, as kubo-rpc-client its `stream-channels`."""
    assert (await call("version?stream-channels=true&offline=false")).status == 200


async def test_an_encoding_that_we_lack_is_refused(call: Callable[[str], Awaitable[Response]]) -> None:
    assert (await call("version?encoding=json")).status == 200
    response = await call("version?encoding=xml")
    assert (response.status, response.json["Type"]) == (400, "error")
    assert "encoding 'xml' is not known" in response.json["Message"]
