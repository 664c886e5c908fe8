"""Drives an ASGI application without a server: one request, as uvicorn would put it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
from starlette.types import ASGIApp, Message

ENDLESS = b"..."


@dataclass
class Response:
    """What an application sent. `complete` is set by its last byte."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    complete: anyio.Event = field(default_factory=anyio.Event)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


async def request(
    app: ASGIApp,
    target: str,
    *,
    method: str = "POST",
    body: Sequence[bytes] = (b"",),
    headers: Sequence[tuple[str, str]] = (("host", "localhost"),),
    gone: anyio.Event | None = None,
    extensions: dict[str, Any] | None = None,
    response: Response | None = None,
) -> Response:
    """Run one request. `gone` is set when the client goes away; a `body` that ends in `ENDLESS` never ends."""
    answer = Response() if response is None else response
    path, _, query = target.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers],
        "client": None,
        "server": None,
        "extensions": extensions or {},
    }
    parts = list(body)
    more = [True] * len(parts)
    if parts and parts[-1] != ENDLESS:
        more[-1] = False

    async def receive() -> Message:
        if parts and parts[0] != ENDLESS:
            return {"type": "http.request", "body": parts.pop(0), "more_body": more.pop(0)}
        if gone is None:
            await answer.complete.wait()
        else:
            await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            assert answer.status == 0, "a response begins once"
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            assert answer.status, "a body follows a status"
            assert not answer.complete.is_set(), "nothing follows the last byte"
            answer.body += message["body"]
            if not message.get("more_body", False):
                answer.complete.set()

    await app(scope, receive, send)
    return answer
