import stat
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from ipvcs.api.auth import TokenError, TokenGuard, load_token
from tests.unit.api.asgi import ENDLESS, Response, request

TOKEN = "correct-horse-battery-staple"
BEARER = ("authorization", f"Bearer {TOKEN}")
HOST = ("host", "127.0.0.1:5001")


class Behind:
    """Counts what gets through."""

    def __init__(self) -> None:
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.requests += 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def post(headers: Sequence[tuple[str, str]], method: str = "POST") -> tuple[Response, int]:
    behind = Behind()
    guard = TokenGuard(behind, TOKEN)
    response = await request(guard, "/api/v0/id", headers=headers, method=method, body=[b"x", ENDLESS])
    return response, behind.requests


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        [HOST, BEARER],
        [("host", "localhost:5001"), BEARER],
        [("host", "[::1]:5001"), BEARER],
        [("host", "LocalHost"), ("authorization", f"bearer  {TOKEN} ")],
        [HOST, BEARER, ("origin", "http://127.0.0.1:5001")],
    ],
)
async def test_the_token_from_loopback_gets_through(headers: list[tuple[str, str]]) -> None:
    response, passed = await post(headers)
    assert (response.status, passed) == (200, 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", "Bearer wrong")],
        [("authorization", f"Bearer {TOKEN}x")],
        [("authorization", f"Bearer {TOKEN[:-1]}")],
        [("authorization", f"Basic {TOKEN}")],
        [("authorization", TOKEN)],
        [("authorization", "Bearer \u00e9")],
        [BEARER, BEARER],
        [("authorization", "Bearer wrong"), BEARER],
        [("cookie", f"token={TOKEN}")],
    ],
)
async def test_without_the_token_nothing_gets_through(headers: list[tuple[str, str]]) -> None:
    response, passed = await post([HOST, *headers])
    assert (response.status, passed) == (401, 0)
    assert (response.headers["www-authenticate"], response.headers["connection"]) == ("Bearer", "close")
    assert (response.json["Type"], response.json["Code"]) == ("error", 4)
    assert "api.token" in response.json["Hint"]
    assert TOKEN not in response.body.decode()


@pytest.mark.anyio
@pytest.mark.parametrize(
    "hosts",
    [
        [],
        ["evil.example"],
        ["evil.example:5001"],
        ["127.0.0.1.evil.example"],
        ["localhost.evil.example:5001"],
        ["192.168.1.2:5001"],
        ["0.0.0.0:5001"],
        ["[::]:5001"],
        ["127.0.0.1:5001", "evil.example"],
        ["127.0.0.1@evil.example"],
        [""],
    ],
)
async def test_a_foreign_host_is_refused_even_with_the_token(hosts: list[str]) -> None:
    response, passed = await post([*(("host", host) for host in hosts), BEARER])
    assert (response.status, passed) == (403, 0)
    assert "is not this machine's loopback" in response.json["Message"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "http://localhost:3000",
        "https://127.0.0.1:5001",
        "http://127.0.0.1",
        "http://127.0.0.1:5001.evil.example",
        "chrome-extension://nibjojkomfdiaoajekhjakgkdhaomnch",
    ],
)
async def test_a_foreign_origin_is_refused_even_with_the_token(origin: str) -> None:
    for origins in ([("origin", origin)], [("origin", "http://127.0.0.1:5001"), ("origin", origin)]):
        response, passed = await post([HOST, BEARER, *origins])
        assert (response.status, passed) == (403, 0)
        assert "web page" in response.json["Message"]


@pytest.mark.anyio
@pytest.mark.parametrize("origin", ["http://127.0.0.1:5001", "https://evil.example"])
async def test_a_cors_preflight_is_refused(origin: str) -> None:
    preflight = [("origin", origin), ("access-control-request-method", "POST")]
    response, passed = await post([HOST, *preflight, BEARER], method="OPTIONS")
    assert (response.status, passed) == (403, 0)
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_the_token_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    token = load_token(tmp_path)
    assert len(token) >= 40
    assert load_token(tmp_path) == token
    assert stat.S_IMODE((tmp_path / "api.token").stat().st_mode) == 0o600
    (tmp_path / "other").mkdir()
    assert load_token(tmp_path / "other") != token


def test_a_token_of_the_users_own_is_taken(tmp_path: Path) -> None:
    (tmp_path / "api.token").write_text(f"{TOKEN}\n")
    (tmp_path / "api.token").chmod(0o600)
    assert load_token(tmp_path) == TOKEN


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_token_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    load_token(tmp_path)
    (tmp_path / "api.token").chmod(mode)
    with pytest.raises(TokenError, match="others may read it") as caught:
        load_token(tmp_path)
    assert "chmod 600" in str(caught.value.hint)


@pytest.mark.parametrize("content", ["", "\n", "short", "x" * 300, "with a space in it, and long enough", "é" * 30])
def test_what_is_no_token_is_refused(tmp_path: Path, content: str) -> None:
    load_token(tmp_path)
    (tmp_path / "api.token").write_text(content)
    with pytest.raises(TokenError, match="16 to 256 visible characters"):
        load_token(tmp_path)
