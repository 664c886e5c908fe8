"""Pushes of other nodes to this one's name: who may, whose turn it is, and who does the work.

    a stream ─► admit ─► known? ─► the request ─┬─ a query ─► answered from a thread
                  │        │ no                 └─ an offer ─► judged in a thread ─► its turn ─► a receiver ─► replies
                  ▼        ▼                                                          │            │
                refused   denied, cheaply                                          LIMIT "busy"   a process of its own

**Goals.** A pusher without rights costs next to nothing. One with rights costs a process, within bounds of bytes, time
and number, and never the daemon's memory or attention. **Non-goals.** The work itself: that is the receiver's.

Whatever happens to the pusher, the receiver or the daemon, nothing is left of it when the service's block has ended.

Spec: docs/protocols/push.md
"""

import logging
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import anyio
from anyio import AsyncContextManagerMixin, CancelScope, EndOfStream, to_thread

from ipvcs.api.push_relay import PushRelay
from ipvcs.api.push_turns import PushTurns
from ipvcs.api.receiver_process import Order, ReceiverStartError, RunReceiver
from ipvcs.errors import IpvcsError
from ipvcs.git_bridge.push_admission import denial, is_known, refusal, standing
from ipvcs.git_bridge.push_fields import PushMessageError
from ipvcs.git_bridge.push_replies import Failure, FailureCode, Progress, Standing
from ipvcs.git_bridge.push_requests import MAX_QUERY, MAX_REQUEST, Query, decode_request
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.network.delimited import DelimitedError, DelimitedReader, MessageTooLargeError
from ipvcs.node.network.interface import DEAD_STREAM, Host, Stream
from ipvcs.storage.home import Home

_log = logging.getLogger(__name__)

PUSH: Final = "/ipvcs/push/1.0.0"
MAX_STREAMS: Final = 4
"""Of one peer."""
MAX_STRANGERS: Final = 16
"""Streams of peers that the access list does not know, of all of them, that are read at once."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds for a request to arrive."""
TURN_TIMEOUT: Final = 30.0
"""Seconds that an offer waits for its turn; behind an earlier try of the same push, as long as that takes."""
TICK: Final = 10.0
"""Seconds from one word to the next to a pusher who waits."""
_THREADS: Final = 2
"""That look into the home for pushers, so that they do not use up those of the others."""

Offload = Callable[..., Awaitable[Any]]
"""Runs a blocking function somewhere else: `anyio.to_thread.run_sync`."""

_WAITING: Final = Progress("waiting")
_BUSY: Final = Failure(
    FailureCode.LIMIT,
    f"the owner is busy with other pushes, and was for {TURN_TIMEOUT:g} seconds",
    "push again in a while",
)
_TOO_LATE: Final = Failure(FailureCode.BAD_REQUEST, f"no request arrived within {REQUEST_TIMEOUT:g} seconds")
_TOO_MUCH: Final = Failure(FailureCode.BAD_REQUEST, "something follows the request")


class PushService(AsyncContextManagerMixin):
    """Takes pushes to the name of `host` within its `async with` block."""

    def __init__(
        self, host: Host, home: Home, run_receiver: RunReceiver, *, offload: Offload = to_thread.run_sync
    ) -> None:
        """Put the service together; it works from `async with` on.

        Args:
            host: the network; its peer id is the name that is pushed to.
            home: the owner's, with the access list and the settings `Push.*`.
            run_receiver: does the work of an offer.
            offload: runs what reads the home.
        """
        self._host = host
        self._home = home
        self._run_receiver = run_receiver
        self._offload = offload
        self._timeout = float(home.config.get("Push.Timeout"))
        self._turns = PushTurns(home.config.get("Push.Concurrent"), home.config.get("Push.PerPusher"))
        self._streams: Counter[PeerId] = Counter()
        self._strangers = 0
        self._serving: set[CancelScope] = set()
        self._served = anyio.Event()
        """Set, and made anew, whenever a stream has been served."""
        self._has_ended = False

    @asynccontextmanager
    async def __asynccontextmanager__(self) -> AsyncGenerator[Self]:
        self._threads = anyio.CapacityLimiter(_THREADS)
        self._host.handle(PUSH, self._serve, admit=self._admit)
        try:
            yield self
        finally:
            self._host.unhandle(PUSH)
            self._has_ended = True
            for scope in self._serving:
                scope.cancel()
            with CancelScope(shield=True):  # what runs belongs to the host's tasks, but has to end before the home does
                while self._serving:
                    await self._served.wait()

    @property
    def is_busy(self) -> bool:
        """Whether a push is under way: a reason for an idle daemon to stay."""
        return bool(self._serving)

    def _admit(self, peer_id: PeerId) -> bool:
        """Count one more stream of the peer's, which `_serve` gives back."""
        if self._streams[peer_id] >= MAX_STREAMS:
            return False
        self._streams[peer_id] += 1
        return True

    async def _serve(self, stream: Stream) -> None:
        pusher = stream.connection.remote_peer
        scope = CancelScope()
        if self._has_ended:  # admitted before
            scope.cancel()
        self._serving.add(scope)
        try:
            with scope:
                if await self._in_thread(is_known, self._home, pusher):
                    await self._serve_known(stream, pusher)
                else:
                    await self._turn_away(stream, pusher)
            if scope.cancelled_caught:
                stream.reset()
        except IpvcsError:
            _log.warning("cannot serve a pusher", exc_info=True, extra={"pusher": str(pusher)})
            stream.reset()
        finally:
            self._serving.discard(scope)
            self._served.set()
            self._served = anyio.Event()
            self._streams[pusher] -= 1
            if not self._streams[pusher]:
                del self._streams[pusher]

    async def _turn_away(self, stream: Stream, pusher: PeerId) -> None:
        """Deny a stranger, of whom no more is read than a query has."""
        if self._strangers >= MAX_STRANGERS:
            stream.reset()
            return
        self._strangers += 1
        try:
            message = await _read_request(stream, MAX_QUERY, too_large=denial(pusher, None))
        finally:
            self._strangers -= 1
        if isinstance(message, bytes):
            try:
                request = decode_request(message)
            except PushMessageError as exc:
                message = _bad_request(exc)
            else:
                message = denial(pusher, request.path if isinstance(request, Query) else None)
        await _reply(stream, message)

    async def _serve_known(self, stream: Stream, pusher: PeerId) -> None:
        message = await _read_request(stream, MAX_REQUEST)
        if not isinstance(message, bytes):
            await _reply(stream, message)
            return
        judged = await self._in_thread(_judge, self._home, self._host.peer_id, pusher, message)
        if isinstance(judged, bytes):
            await self._work(stream, Order(pusher, stream.connection.remote_addr, message), judged)
        else:
            await _reply(stream, judged)

    async def _work(self, stream: Stream, order: Order, key: bytes) -> None:
        """Have the offer worked on while its pusher is there, within the time that it has."""
        relay = PushRelay(stream)
        failure: Failure | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(relay.watch, tasks.cancel_scope)
            with anyio.move_on_after(self._timeout) as limit:
                failure = await self._wait_and_run(relay, order, key)
            if limit.cancelled_caught:
                failure = self._overtime()
            if failure is not None and relay.can_fail:
                await relay.send(failure)
            tasks.cancel_scope.cancel()
        if relay.has_said_too_much and relay.can_fail:
            await relay.send(_TOO_MUCH)
        if not relay.is_whole:
            stream.reset()

    async def _wait_and_run(self, relay: PushRelay, order: Order, key: bytes) -> Failure | None:
        """Return why nothing became of an offer, if neither the receiver has said so nor the pusher left."""
        ticket = self._turns.join(order.pusher, key)
        try:
            if not await _wait(ticket.is_alone, relay) or not await _wait(ticket.is_due, relay, TURN_TIMEOUT):
                return _BUSY
            relay.on_answer = lambda: self._turns.leave(ticket)  # post-receive is nobody's turn
            async with self._run_receiver(order) as receiver:
                problem = await relay.run(receiver.output)
                if problem:
                    problem = f"it said what it should not: {problem}"
                    receiver.abandon()
                elif relay.is_over:
                    await relay.finish()  # the pusher need not wait for the process to end
                elif relay.is_listening:
                    problem = await receiver.wait_ended()
                else:
                    receiver.abandon()
        except ReceiverStartError as exc:
            problem = str(exc)
        finally:
            self._turns.leave(ticket)
        if not problem:
            return None
        _log.error("a receiver broke off: %s", problem, extra={"pusher": str(order.pusher)})
        return Failure(
            FailureCode.FAILED,
            f"the owner's receiver broke off: {problem}",
            "push again; if that does not help, tell the owner: the log of the daemon there says more",
        )

    def _overtime(self) -> Failure:
        return Failure(
            FailureCode.LIMIT,
            f"the push took over {self._timeout:g} seconds",
            "push less at a time, one commit after the other; or ask the owner to set `Push.Timeout`",
        )

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._offload(function, *args, limiter=self._threads)


def _judge(home: Home, name: PeerId, pusher: PeerId, message: bytes) -> Standing | Failure | bytes:
    """Return what a request is answered with at once, or the key of an offer that is to be worked on."""
    try:
        request = decode_request(message)
    except PushMessageError as exc:
        return _bad_request(exc)
    if isinstance(request, Query):
        return standing(home, name, pusher, request)
    return refusal(home, pusher, request) or request.key


def _bad_request(error: PushMessageError) -> Failure:
    return Failure(FailureCode.BAD_REQUEST, str(error), error.hint or "")


async def _read_request(stream: Stream, most: int, *, too_large: Failure | None = None) -> bytes | Failure | None:
    """Return the one request of a stream, what to say about one that is none, or None if nobody is there any more."""
    reader = DelimitedReader(stream, most)
    try:
        with anyio.move_on_after(REQUEST_TIMEOUT):
            message = await reader.receive()
            return _TOO_MUCH if reader.rest else message
    except (EndOfStream, *DEAD_STREAM):
        return None
    except DelimitedError as exc:
        return Failure(FailureCode.BAD_REQUEST, str(exc))
    except MessageTooLargeError as exc:
        return too_large or Failure(FailureCode.BAD_REQUEST, str(exc))
    return _TOO_LATE


async def _reply(stream: Stream, reply: Standing | Failure | None) -> None:
    """Send the one reply to a request, unless there is none."""
    if reply is not None and not await (relay := PushRelay(stream)).send(reply) and not relay.is_whole:
        stream.reset()


async def _wait(event: anyio.Event, relay: PushRelay, seconds: float = float("inf")) -> bool:
    """Tell whether `event` is set in time; the pusher, if it is still there, is told that it waits."""
    deadline = anyio.current_time() + seconds
    while not event.is_set():
        if anyio.current_time() >= deadline or not await relay.send(_WAITING):
            return False
        with CancelScope(deadline=min(deadline, anyio.current_time() + TICK)):
            await event.wait()
    return True
