"""Requests that say in two ways where they end are refused.

h11 lets Transfer-Encoding win over Content-Length. A proxy in front that takes the other one sees requests where we see
a body: request smuggling. No client of ours or Kubo's sends both.

Spec: RFC 9112, section 6.1: "A server MAY reject a request that contains both Content-Length and Transfer-Encoding […]
Regardless, the server MUST close the connection after responding to such a request."
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from ipvcs.api.arguments import BadRequestError
from ipvcs.api.error_report import encode_line, report

_BOTH = {b"content-length", b"transfer-encoding"}


class FramingGuard:
    """An ASGI application that hands on to another what has one end."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on a request, or answer it with 400 and end the connection."""
        if scope["type"] != "http" or not {name for name, _value in scope["headers"]} >= _BOTH:
            await self._app(scope, receive, send)
            return
        error = BadRequestError(
            "the request has both Content-Length and Transfer-Encoding", hint="leave out one, so that its end is clear"
        )
        body = encode_line(report(error, scope["path"]).to_json())
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        headers.append((b"content-length", str(len(body)).encode()))
        await send({"type": "http.response.start", "status": 400, "headers": headers})
        await send({"type": "http.response.body", "body": body})
