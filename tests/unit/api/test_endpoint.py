"""What holds for every command: deadlines, clients that go, bodies, errors, streams."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ipvcs.api.app import build_app
from ipvcs.api.command import Call, Command
from ipvcs.api.endpoint import BODY_TIMEOUT, ENDING, MAX_BODY, SEND_TIMEOUT
from ipvcs.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from tests.unit.api.asgi import ENDLESS, Response, request
from tests.unit.api.fake_node import FakeNode

pytestmark = pytest.mark.anyio


class NegativeError(NotFoundError):
    exit_code = 1


def app_of(node: FakeNode, run: Callable[[Call], Awaitable[dict[str, Any] | None]], **options: Any) -> ASGIApp:
    return build_app(node, shutdown=node.request_shutdown, commands=[Command("test", run, **options)])


async def post(node: FakeNode, run: Callable[[Call], Awaitable[dict[str, Any] | None]], query: str = "") -> Response:
    return await request(app_of(node, run, most=9), f"/api/v0/test?{query}")


async def forever(_call: Call) -> None:
    await anyio.sleep_forever()


def raising(error: BaseException) -> Callable[[Call], Awaitable[None]]:
    async def run(_call: Call) -> None:
        raise error

    return run


async def test_an_answer_is_one_object_and_a_line_feed(node: FakeNode) -> None:
    """As Go's json.Encoder writes it."""

    async def run(call: Call) -> dict[str, Any]:
        return {"Args": list(call.arguments.args)}

    response = await post(node, run, "arg=a&arg=b")
    assert (response.status, response.body) == (200, b'{"Args":["a","b"]}\n')
    assert response.headers == {"content-type": "application/json", "content-length": "19"}


async def test_a_command_without_an_answer_has_an_empty_one(node: FakeNode) -> None:
    async def run(_call: Call) -> None:
        return None

    response = await post(node, run)
    assert (response.status, response.body, response.headers["content-length"]) == (200, b"", "0")


async def test_a_stream_is_a_line_an_object(node: FakeNode) -> None:
    """go-ipfs-cmds' http/responseemitter.go marks it by X-Chunked-Output."""

    async def run(call: Call) -> None:
        for number in range(3):
            await call.emit({"Number": number})

    response = await post(node, run)
    assert response.body == b'{"Number":0}\n{"Number":1}\n{"Number":2}\n'
    assert (response.status, response.headers["x-chunked-output"]) == (200, "1")
    assert "content-length" not in response.headers


@pytest.mark.parametrize(
    ("error", "status", "code", "exit_code"),
    [
        (ConflictError("taken"), 500, 0, 128),
        (NegativeError("taken"), 500, 0, 1),
        (UsageError("taken"), 400, 1, 129),
    ],
)
async def test_an_error_is_kubos_object_with_our_hint_beside_it(
    node: FakeNode, error: Exception, status: int, code: int, exit_code: int
) -> None:
    """go-ipfs-cmds' error.go, MarshalJSON: Message, Code (1: the client's), Type; responseemitter.go: the status."""
    response = await post(node, raising(error))
    assert response.status == status
    assert response.json == {"Message": "taken", "Code": code, "Type": "error", "ExitCode": exit_code}
    error.hint = "try another"  # type: ignore[attr-defined]
    assert (await post(node, raising(error))).json["Hint"] == "try another"


async def test_several_errors_are_told_together(node: FakeNode) -> None:
    group = ExceptionGroup("both", [UsageError("first"), ExceptionGroup("", [UnavailableError("second", hint="wait")])])
    response = await post(node, raising(group))
    assert (response.status, response.json["Message"], response.json["Hint"]) == (500, "first; second", "wait")
    assert response.json["ExitCode"] == 129


async def test_a_bug_is_logged_and_not_told_about(node: FakeNode, caplog: pytest.LogCaptureFixture) -> None:
    response = await post(node, raising(KeyError("a secret")))
    assert (response.status, response.json["Code"]) == (500, 2)
    assert "secret" not in response.body.decode()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a secret" in caplog.text


async def test_an_error_in_a_stream_is_its_last_line(node: FakeNode) -> None:
    """go-ipfs-cmds' writer.go, MaybeError: an object whose Type is "error" is one wherever a value may stand."""

    async def run(call: Call) -> None:
        await call.emit({"Number": 1})
        raise ConflictError("lost", hint="again")

    response = await post(node, run)
    assert response.status == 200
    assert response.lines == [
        {"Number": 1},
        {"Message": "lost", "Code": 0, "Type": "error", "Hint": "again", "ExitCode": 128},
    ]


async def test_a_missing_argument_is_the_clients_fault(node: FakeNode) -> None:
    response = await request(app_of(node, forever, required=("peer ID",)), "/api/v0/test")
    assert (response.status, response.json["Message"]) == (400, "argument 'peer ID' is required")


async def test_a_command_that_takes_too_long_is_ended(node: FakeNode) -> None:
    start = anyio.current_time()
    response = await request(app_of(node, forever, deadline=30), "/api/v0/test")
    assert anyio.current_time() - start == pytest.approx(30)
    assert response.status == 500
    # kubo-rpc-client's src/lib/core.ts makes a TimeoutError of "request timed out".
    assert response.json["Message"] == "request timed out: 'test' took over 30 seconds"


@pytest.mark.parametrize(("timeout", "seconds"), [("1500ms", 1.5), ("2m", 120), ("1000000h", 24 * 3600)])
async def test_the_client_sets_the_deadline_within_a_bound(node: FakeNode, timeout: str, seconds: float) -> None:
    start = anyio.current_time()
    response = await post(node, forever, f"timeout={timeout}")
    assert anyio.current_time() - start == pytest.approx(seconds)
    assert "timed out" in response.json["Message"]


async def test_a_timeout_that_is_none_is_refused(node: FakeNode) -> None:
    response = await post(node, forever, "timeout=soon")
    assert (response.status, response.json["Message"]) == (400, "invalid duration 'soon'")


async def test_a_stream_that_takes_too_long_ends_with_an_error(node: FakeNode) -> None:
    async def run(call: Call) -> None:
        await call.emit({"Number": 1})
        await anyio.sleep_forever()

    response = await post(node, run, "timeout=1s")
    assert [line.get("Type") for line in response.lines] == [None, "error"]


async def test_a_command_is_cancelled_when_its_client_goes(node: FakeNode) -> None:
    ended: list[float] = []
    gone = anyio.Event()

    async def run(_call: Call) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append(anyio.current_time())

    async with anyio.create_task_group() as tasks:
        start = anyio.current_time()
        response = Response()

        async def go() -> None:
            await request(app_of(node, run), "/api/v0/test", gone=gone, response=response)

        tasks.start_soon(go)
        await anyio.sleep(5)
        assert not ended
        gone.set()
    assert ended == [pytest.approx(start + 5)]
    assert response.status == 0, "nobody is there to be answered"


async def test_a_command_is_told_that_the_daemon_ends(node: FakeNode) -> None:
    ending = anyio.Event()
    response = Response()
    app = app_of(node, forever)
    async with anyio.create_task_group() as tasks:
        start = anyio.current_time()

        async def go() -> None:
            await request(app, "/api/v0/test", extensions={ENDING: ending}, response=response)

        tasks.start_soon(go)
        await anyio.sleep(5)
        ending.set()
    assert anyio.current_time() - start == pytest.approx(5)
    assert (response.status, response.json["Message"]) == (500, "the daemon is ending")


async def test_a_body_is_read_and_forgotten(node: FakeNode) -> None:
    async def run(_call: Call) -> dict[str, Any]:
        return {}

    response = await request(app_of(node, run), "/api/v0/test", body=[b"x" * (MAX_BODY - 1), b"y"])
    assert response.status == 200


async def test_a_body_that_is_too_long_ends_the_connection(node: FakeNode) -> None:
    response = await request(app_of(node, forever), "/api/v0/test", body=[b"x" * MAX_BODY, b"y", ENDLESS])
    assert (response.status, response.headers["connection"]) == (413, "close")
    assert "over 65536 bytes" in response.json["Message"]


async def test_a_body_that_does_not_come_is_not_waited_for(node: FakeNode) -> None:
    start = anyio.current_time()
    response = await request(app_of(node, forever), "/api/v0/test", body=[b"x", ENDLESS])
    assert anyio.current_time() - start == pytest.approx(BODY_TIMEOUT)
    assert (response.status, response.headers["connection"]) == (408, "close")


@pytest.mark.parametrize("streaming", [True, False])
async def test_a_client_that_does_not_read_is_given_up(node: FakeNode, streaming: bool) -> None:
    sent: list[Message] = []

    async def run(call: Call) -> dict[str, Any] | None:
        if not streaming:
            return {"Number": 1}
        while True:
            await call.emit({"Number": 1})

    async def stuck(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.body":
            await anyio.sleep_forever()

    class Stuck:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await app_of(node, run, deadline=1e6)(scope, receive, stuck)

    start = anyio.current_time()
    await request(Stuck(), "/api/v0/test")
    assert anyio.current_time() - start == pytest.approx(SEND_TIMEOUT)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]


async def test_a_connection_that_breaks_while_it_is_written_to_ends_the_command(node: FakeNode) -> None:
    ended = False

    async def run(call: Call) -> None:
        nonlocal ended
        try:
            await call.emit({})
        finally:
            ended = True

    async def broken(_message: Message) -> None:
        raise BrokenPipeError

    class Broken:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            await app_of(node, run)(scope, receive, broken)

    await request(Broken(), "/api/v0/test")
    assert ended
