"""What the exchange holds of one connected peer, and the streams on which it tells the peer something.

Wants and answers each have a stream of their own, so that a want does not wait behind four megabytes of blocks; the
peer's answers come on streams that it opens (LESSONS: answers on the requester's stream are never read).
"""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import islice
from typing import Final

import anyio

from ipvcs.errors import IntegrityError
from ipvcs.multiformats.cid import Cid
from ipvcs.multiformats.peer_id import PeerId
from ipvcs.node.exchange.messages import PROTOCOLS
from ipvcs.node.exchange.wantlist import PeerWantlist
from ipvcs.node.network.interface import Buffer, Host, Stream

SEND_TIMEOUT: Final = 30.0
"""Seconds in which a peer must take `_SLICE` bytes: some 9 kB a second."""
OPEN_TIMEOUT: Final = 15.0
REUSE: Final = 5.0
"""Seconds without use after which a stream is not used again: js-libp2p's Bitswap resets one ten seconds after its last
message, and what is sent into that is lost."""
_SLICE: Final = 256 * 1024
_REMEMBERED: Final = 16_384
"""Multihashes last asked of a peer that are remembered, to tell late answers from blocks that nobody asked for."""


class WrongBlockError(IntegrityError):
    """A peer sent a block that it was not asked for."""

    def __init__(self, peer_id: PeerId, cid: Cid | None) -> None:
        what = f"block '{cid}'" if cid is not None else "blocks"
        super().__init__(f"peer '{peer_id}' sent {what} without having been asked")
        self.peer_id = peer_id


class OutboundStream:
    """A stream to a peer, opened when there is something to send and again when it has broken or rested."""

    def __init__(self, host: Host, peer_id: PeerId) -> None:
        self._host = host
        self._peer_id = peer_id
        self._stream: Stream | None = None
        self._used = 0.0
        self._opening = anyio.Lock()
        self._sending = False
        self.moved = 0.0
        """When the peer last took something of what is being sent."""

    async def open(self) -> Stream:
        """Return the stream, a fresh one if need be; `protocol` says what the peer speaks.

        Raises:
            ProtocolNotSupportedError: the peer does not speak Bitswap.
            UnavailableError, LimitError: it can't be opened.
            TimeoutError: the peer does not answer.
        """
        async with self._opening:
            if self.is_resting:
                await self.aclose()
            if self._stream is None:
                with anyio.fail_after(OPEN_TIMEOUT):
                    self._stream = await self._host.open_stream(self._peer_id, PROTOCOLS)
            self._used = anyio.current_time()
            return self._stream

    async def send(self, stream: Stream, pieces: "list[Buffer]") -> None:
        """Send one message. A peer that does not take it in time loses the stream.

        Raises:
            BrokenResourceError, ClosedResourceError, TimeoutError: it did not arrive whole.
        """
        self._sending, self.moved = True, anyio.current_time()
        try:
            for piece in pieces:
                view = memoryview(piece)
                for start in range(0, len(view), _SLICE):
                    with anyio.fail_after(SEND_TIMEOUT):
                        await stream.send(view[start : start + _SLICE])
                    self.moved = anyio.current_time()
        except BaseException:
            self.drop()
            raise
        finally:
            self._sending = False
            self._used = anyio.current_time()

    @property
    def is_resting(self) -> bool:
        """Whether it is open and was not used for a while; not while a slow peer takes its time to read."""
        return self._stream is not None and not self._sending and anyio.current_time() - self._used > REUSE

    def drop(self) -> None:
        """Reset the stream, if there is one."""
        if self._stream is not None:
            self._stream.reset()
            self._stream = None

    async def aclose(self) -> None:
        """End the stream, if there is one."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await stream.aclose()


class ExchangePeer:
    """One connected peer."""

    def __init__(self, host: Host, peer_id: PeerId, max_inbound: int, asked: Iterable[bytes] = ()) -> None:
        """Hold `peer_id`, of whose streams `max_inbound` are served at once; `asked` is what an earlier connection has
        asked of it, which it may not have seen ending.
        """
        self.peer_id = peer_id
        self.wantlist = PeerWantlist()
        self.wants_out = OutboundStream(host, peer_id)
        self.answers_out = OutboundStream(host, peer_id)
        self.sending = anyio.Lock()
        """Held while an answer is sent."""
        self.is_telling = False
        """Whether a task is sending it wants."""
        self.speaks_bitswap = True
        """False: it said that it does not."""
        self.retry_at: float | None = None
        """When sessions may ask it again, after it could not be told anything."""
        self.turns = anyio.Semaphore(max_inbound)
        """One for each stream of its that is being served."""
        self._asked: OrderedDict[bytes, None] = OrderedDict.fromkeys(asked)

    def remember_asked(self, key: bytes) -> None:
        """It was asked for the block with multihash `key`."""
        self._asked[key] = None
        self._asked.move_to_end(key)
        if len(self._asked) > _REMEMBERED:
            self._asked.popitem(last=False)

    def last_asked(self, count: int) -> list[bytes]:
        """Return what it was asked last."""
        return list(islice(reversed(self._asked), count))[::-1]

    def was_asked(self, key: bytes) -> bool:
        """Whether it was asked for that block, lately."""
        return key in self._asked

    @property
    def was_asked_anything(self) -> bool:
        """Whether it may send blocks at all."""
        return bool(self._asked)
