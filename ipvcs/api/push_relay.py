"""What a receiver replies, handed on to the pusher as it comes, and no faster than it takes it.

    receiver ─► DelimitedReader ─► one whole message at a time ─► the stream, in slices
                                                                    └─ 60 s without taking one: the pusher is gone

No more than one message is held. Until the receiver says that it publishes, a pusher that goes ends it; after that
nothing does: what is published is logged, and what the owner's hooks have to do then is no affair of the pusher's.
"""

from collections.abc import Callable
from typing import Final

import anyio
from anyio import BrokenResourceError, CancelScope, ClosedResourceError, EndOfStream
from anyio.abc import ByteReceiveStream

from ipvcs.errors import LimitError, ProtocolError
from ipvcs.git_bridge.push_fields import PushMessageError
from ipvcs.git_bridge.push_replies import (
    MAX_REPLY,
    PUBLISHING,
    Answer,
    Failure,
    Progress,
    Reply,
    Standing,
    decode_reply,
    encode_reply,
    kind_of_reply,
)
from ipvcs.node.network.delimited import DelimitedReader, encode_delimited
from ipvcs.node.network.interface import DEAD_STREAM, Stream

TAKE_TIMEOUT: Final = 60.0
"""Seconds in which a pusher has to take the next slice of what it is sent."""
_SLICE: Final = 64 * 1024


class PushRelay:
    """The pusher's stream, after its request."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.on_answer: Callable[[], None] = lambda: None
        """Called when the receiver has said what became of the push."""
        self.is_answered = False
        """Whether the receiver has said what became of the push."""
        self.is_applying = False
        """Whether it is past giving up: the name is about to lead to what was pushed, or does."""
        self.is_over = False
        """Whether it has said the last word: a failure, or the end behind an answer."""
        self.is_listening = True
        """Whether the pusher takes what it is sent."""
        self.is_whole = True
        """Whether what was sent ends with a message: else no other one can follow."""
        self.has_said_too_much = False
        """Whether the pusher has sent something behind its request."""

    @property
    def can_fail(self) -> bool:
        """Whether a failure can still be sent, and makes sense."""
        return self.is_listening and self.is_whole and not self.is_answered and not self.is_over

    async def watch(self, work: CancelScope) -> None:
        """Cancel `work` when the pusher leaves, or says more than its request, before there is an answer."""
        try:
            await self._stream.receive(1)
            self.has_said_too_much = True
        except EndOfStream:
            pass
        except DEAD_STREAM:
            if not self.is_over:  # else it may be that we have closed it
                self.is_listening = False
        if not self.is_applying and not self.is_over:
            work.cancel()

    async def send(self, reply: Reply) -> bool:
        """Send a reply; False: nobody takes it. Cancelling may have sent a part, see `is_whole`."""
        return await self._send(encode_reply(reply))

    async def run(self, output: ByteReceiveStream) -> str:
        """Hand on what comes from a receiver, to the end, or until nobody listens before there is an answer.

        Returns:
            What is wrong with what came, "" if nothing is.
        """
        reader = DelimitedReader(output, MAX_REPLY)
        while self.is_listening or self.is_applying:
            try:
                message = await reader.receive()
                kind = self._check_order(kind_of_reply(message))
            except (EndOfStream, BrokenResourceError, ClosedResourceError):
                self.is_over = self.is_answered
                return ""
            except (ProtocolError, LimitError) as exc:
                return str(exc)
            self.is_answered |= kind is Answer
            self.is_applying |= self.is_answered or (kind is Progress and _is_applied(message))
            self.is_over |= kind is Failure
            if kind is Answer:
                self.on_answer()
            if self.is_listening:
                await self._send(message)
            if self.is_over:
                return ""
        return ""

    async def finish(self) -> None:
        """End our side, as nothing more follows."""
        self.is_over = True
        if self.is_whole:  # else the end would be taken for a message's
            await self._stream.aclose()
        else:
            self._stream.reset()

    def _check_order(self, kind: type[Reply]) -> type[Reply]:
        if kind is Standing or (self.is_answered and kind in (Answer, Failure)):
            raise PushMessageError(f"a receiver sent {kind.__name__} where there can be none")
        return kind

    async def _send(self, message: bytes) -> bool:
        data = memoryview(encode_delimited(message))
        self.is_whole = False
        try:
            for start in range(0, len(data), _SLICE):
                with anyio.fail_after(TAKE_TIMEOUT):
                    await self._stream.send(data[start : start + _SLICE])
        except (*DEAD_STREAM, TimeoutError):
            self.is_listening = False
            return False
        self.is_whole = True
        return True


def _is_applied(message: bytes) -> bool:
    """Tell whether a word on the progress is that the push is being published."""
    reply = decode_reply(message)
    return isinstance(reply, Progress) and reply.stage == PUBLISHING
