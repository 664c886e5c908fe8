"""Runs one command for one request: reads the query, keeps the deadline, notices when the client goes, answers.

An answer is one JSON object, or a stream of them, a line each; errors as in `error_report.py`. A command that emits
nothing and returns nothing has an empty answer.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import anyio
from starlette.types import Message, Receive, Scope, Send

from ipvcs.api.arguments import Arguments, BadRequestError
from ipvcs.api.command import MAX_DEADLINE, Call, Command
from ipvcs.api.error_report import CommandTimeoutError, ErrorCode, ErrorReport, encode_line, report
from ipvcs.api.node_services import NodeServices
from ipvcs.errors import LimitError, UnavailableError

MAX_BODY: Final = 64 * 1024
"""Bytes, of commands that take no body; clients send empty ones, or forms without content."""
MAX_LINES: Final = 2 * 1024 * 1024
"""Bytes of a body whose lines are arguments: some 30,000 CIDs, or a request to push in base64, which has 1.4 MB."""
BODY_TIMEOUT: Final = 10.0
"""Seconds for it to arrive."""
SEND_TIMEOUT: Final = 60.0
"""Seconds in which a client must take what it is sent."""
_JSON: Final = (b"content-type", b"application/json")

ENDING: Final = "ipvcs.ending"
"""The ASGI extension by which our server hands on an `anyio.Event`: it is set when commands must come to an end."""


class BodyError(LimitError):
    """A request's body is longer, or longer in coming, than any command takes. `status` is HTTP's word for it."""

    def __init__(self, status: int, what: str) -> None:
        super().__init__(
            f"the request's body is {what}",
            hint="arguments go into the query; `fetch` and `push` take them in the body as well",
        )
        self.status = status


class DaemonEndingError(UnavailableError):
    """The daemon ends before the command does."""

    def __init__(self) -> None:
        super().__init__("the daemon is ending", hint="try again when it is up again")


class _ClientGoneError(Exception):
    """Nobody is there to answer."""


class Endpoint:
    """The ASGI application of one command."""

    def __init__(self, command: Command, node: NodeServices, shutdown: Callable[[], None]) -> None:
        self._command = command
        self._node = node
        self._shutdown = shutdown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Returns without an answer when the client is gone."""
        answer = _Answer(send)
        with suppress(_ClientGoneError):
            try:
                body = await _read_body(receive, MAX_LINES if self._command.takes_lines else MAX_BODY)
            except BodyError as exc:
                await answer.fail(ErrorReport(exc.status, str(exc), ErrorCode.CLIENT, exc.hint), closing=True)
                return
            ending: anyio.Event = scope.get("extensions", {}).get(ENDING) or anyio.Event()
            work = anyio.CancelScope()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_when_gone, receive, tasks.cancel_scope)
                tasks.start_soon(_cancel_at_end, ending, work)
                with suppress(_ClientGoneError):  # here too, since a task group would wrap it
                    await self._run(scope["query_string"], body, answer, work, ending)
                tasks.cancel_scope.cancel()

    async def _run(
        self, query: bytes, body: bytes, answer: "_Answer", work: anyio.CancelScope, ending: anyio.Event
    ) -> None:
        """Run the command within `work`, and answer; what it raises becomes a report: only _ClientGoneError leaves."""
        path = self._command.path
        try:
            arguments = Arguments.parse(query)
            if self._command.takes_lines:
                arguments = arguments.followed_by(body)
            seconds = self._prepare(arguments)
            call = Call(self._node, arguments, answer.emit, self._shutdown)
            work.deadline = anyio.current_time() + seconds
            with work:
                await answer.finish(await self._command.run(call))
            if work.cancelled_caught:
                raise DaemonEndingError if ending.is_set() else CommandTimeoutError(path, seconds)
        except _ClientGoneError:
            raise
        except Exception as exc:
            await answer.fail(report(exc, path))

    def _prepare(self, arguments: Arguments) -> float:
        """Check what every command is given and return its deadline in seconds."""
        command = self._command
        encoding = arguments.text("encoding", "enc", default="json")
        if encoding != "json":
            raise BadRequestError(f"encoding '{encoding[:40]}' is not known", hint="only 'json' is")
        arguments.check_count(command.required, len(command.required) if command.most is None else command.most)
        timeout = arguments.timeout
        return command.deadline if timeout is None else min(timeout, MAX_DEADLINE)


class _Answer:
    """The response, whose status is open until its first byte."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._streaming = False
        self._whole = False
        """Whether an answer of known length has begun: nothing can follow it."""

    async def emit(self, value: dict[str, Any]) -> None:
        """Send one object of a stream."""
        if not self._streaming:
            self._streaming = True
            await self._start(200, [_JSON, (b"x-chunked-output", b"1")])  # Kubo's word for a stream of objects
        await self._body(encode_line(value), more=True)

    async def finish(self, value: dict[str, Any] | None) -> None:
        """Send the command's answer, or end the stream that it emitted."""
        if self._streaming:
            assert value is None, "a command either emits or returns"
            await self._body(b"", more=False)
        else:
            body = b"" if value is None else encode_line(value)
            await self._send_whole(200, [_JSON if body else (b"content-type", b"text/plain")], body)

    async def fail(self, error: ErrorReport, *, closing: bool = False) -> None:
        """Send `error`: as the whole answer, or as the last line of a stream."""
        body = encode_line(error.to_json())
        if self._streaming:
            await self._body(body, more=False)
        elif not self._whole:
            await self._send_whole(error.status, [_JSON, *([(b"connection", b"close")] if closing else [])], body)

    async def _send_whole(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self._whole = True
        await self._start(status, [*headers, (b"content-length", str(len(body)).encode())])
        await self._body(body, more=False)

    async def _start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        await self._deliver({"type": "http.response.start", "status": status, "headers": headers})

    async def _body(self, data: bytes, *, more: bool) -> None:
        await self._deliver({"type": "http.response.body", "body": data, "more_body": more})

    async def _deliver(self, message: Message) -> None:
        try:
            with anyio.fail_after(SEND_TIMEOUT):
                await self._send(message)
        except (OSError, TimeoutError) as exc:  # the server closes a connection whose answer was not finished
            raise _ClientGoneError from exc


async def _read_body(receive: Receive, limit: int) -> bytes:
    """Return the body when it is there whole."""
    body = bytearray()
    with anyio.move_on_after(BODY_TIMEOUT):
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGoneError
            body += message.get("body", b"")
            if len(body) > limit:
                raise BodyError(413, f"over {limit} bytes")
            if not message.get("more_body", False):
                return bytes(body)
    raise BodyError(408, f"not there after {BODY_TIMEOUT:g} seconds")


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _cancel_at_end(ending: anyio.Event, scope: anyio.CancelScope) -> None:
    await ending.wait()
    scope.cancel()
