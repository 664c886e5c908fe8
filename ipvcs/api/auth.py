"""Who may use the API over TCP: whoever has the token, and no web page that a browser on this machine shows.

A loopback port is open to every user and every program of the machine, browsers too. So each request must bear the
token (RFC 6750), which only the home's owner can read. A `Host` that is not loopback means a name that an attacker's
DNS has led to us, and an `Origin` that is not our own means a web page: both are refused whatever else they bring, and
so is every CORS preflight. The Unix socket needs none of this: the kernel lets nobody else in.
"""

import hmac
import re
import secrets
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ipvcs.api.error_report import ErrorCode, ErrorReport, encode_line
from ipvcs.errors import IpvcsError
from ipvcs.storage.disk import disk_errors, write_atomically

TOKEN_NAME: Final = "api.token"  # noqa: S105 - the file's name
_TOKEN_BYTES: Final = 32
_TOKEN_SHAPE: Final = re.compile(r"[!-~]{16,256}")
"""What a token may be if the user writes one: long enough not to be guessed, and fit for a header."""


class TokenError(IpvcsError):
    """The token file is not fit to protect anything."""

    def __init__(self, path: Path, reason: str, hint: str) -> None:
        super().__init__(f"cannot use the API token in '{path}': {reason}", hint=hint)
        self.path = path


def load_token(home: Path) -> str:
    """Return the API's token, making it when `home` has none yet.

    Raises:
        TokenError: others may read the file, or it holds no token.
        DiskError: it can't be read or written.
    """
    path = home / TOKEN_NAME
    with disk_errors(path):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
        except FileNotFoundError:
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            write_atomically(path, f"{token}\n".encode())
            return token
        if mode & 0o077:
            raise TokenError(
                path, f"others may read it (mode {mode:04o})", "`chmod 600` it, or remove it for a new one"
            )
        token = path.read_text(encoding="ascii", errors="replace").strip()
    if not _TOKEN_SHAPE.fullmatch(token):
        raise TokenError(path, "it is not 16 to 256 visible characters", "remove it for a new one")
    return token


class TokenGuard:
    """An ASGI application around another that lets through what bears the token and comes from no web page."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":  # there is nothing else here
            return
        if (error := self._refusal(Headers(scope=scope))) is None:
            await self._app(scope, receive, send)
            return
        # A body is not read: the connection ends with the answer.
        headers = {"connection": "close", **({"www-authenticate": "Bearer"} if error.status == 401 else {})}
        response = Response(encode_line(error.to_json()), error.status, headers, "application/json")
        await response(scope, receive, send)

    def _refusal(self, headers: Headers) -> ErrorReport | None:
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not is_loopback_host(hosts[0]):
            shown = ", ".join(hosts)[:80]
            return _forbidden(
                f"host '{shown}' is not this machine's loopback",
                "address the API as '127.0.0.1', '[::1]' or 'localhost'",
            )
        if any(origin.lower() != f"http://{hosts[0].lower()}" for origin in headers.getlist("origin")):
            return _forbidden(
                f"origin '{', '.join(headers.getlist('origin'))[:80]}' is a web page's, which may not use the API",
                "use a client outside the browser",
            )
        if "access-control-request-method" in headers:
            return _forbidden("web pages may not use the API", "use a client outside the browser")
        given = headers.getlist("authorization")
        if len(given) != 1 or not hmac.compare_digest(_normal(given[0]), self._expected):
            return ErrorReport(
                401,
                "the API needs a token" if not given else "the API token is wrong",
                ErrorCode.FORBIDDEN,
                f"send 'Authorization: Bearer …' with what is in the home's file '{TOKEN_NAME}'",
            )
        return None


def is_loopback_host(host: str) -> bool:
    """Tell whether the `Host` header `host` names this machine's loopback, by name or address; any port will do."""
    name = host.lower()
    if match := re.fullmatch(r"\[([0-9a-f:.]+)\](?::[0-9]{1,5})?", name):
        name = match[1]
    else:
        name = re.sub(r":[0-9]{1,5}$", "", name)
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _normal(authorization: str) -> bytes:
    """Return the header with its scheme, which may be in any case, written as ours."""
    scheme, _, token = authorization.partition(" ")
    return f"{'Bearer' if scheme.lower() == 'bearer' else scheme} {token.strip()}".encode("utf-8", "surrogateescape")


def _forbidden(message: str, hint: str) -> ErrorReport:
    return ErrorReport(403, message, ErrorCode.FORBIDDEN, hint)
